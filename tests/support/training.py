"""A small training run that draws random numbers in each step, to be stopped and to go on."""

import multiprocessing
import os
import random
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from dedup.encoders.checkpoint import read
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import DedupError
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.checkpoints import BEST, LAST, Best, Last
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.resume import fit
from dedup.training.tasks.autoencoder import AutoencoderTask
from dedup.training.trainer import build_trainer

Scalars = dict[str, list[tuple[int, float]]]


class Noisy(AutoencoderTask):
    """Goes on exactly only where each kind of chance does."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss, more or less."""
        loss = super().training_step(batch, batch_idx)
        return loss * (1 + torch.rand(()) + random.random() + np.random.rand())


class Slow(Noisy):
    """Takes its time for each batch of a stage, and leaves a file ``here`` when it comes to it."""

    def __init__(self, stage: str, seconds: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.stage = stage
        self.seconds = seconds

    def wait(self, stage: str) -> None:
        """Say that it is the slow stage, if it is, and sleep."""
        if stage == self.stage:
            (Path(self.trainer.default_root_dir) / "here").touch()
            time.sleep(self.seconds)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Wait, then train."""
        self.wait("training")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Wait, then validate."""
        self.wait("checking" if self.trainer.sanity_checking else "validation")
        super().validation_step(batch, batch_idx)


def encoder() -> ConvAutoencoder:
    """The same weights each time."""
    torch.manual_seed(4)
    return ConvAutoencoder(embedding_dim=4, hidden_dim=8, channels=(2, 4))


def images(shop: Path, **settings: Any) -> CatalogueDataModule:
    """Fifteen to train on in five steps, and five that are held out."""
    store = ImageStore(shop.with_name("store"))
    images = store.ingest(CsvSource(str(shop)).read(), shop.parent)
    return CatalogueDataModule(store, images, **{"batch_size": 3, "val_fraction": 0.25, **settings})


def train(
    folder: Path,
    data: CatalogueDataModule,
    *callbacks: pl.Callback,
    resume: Path | None = None,
    task: pl.LightningModule | None = None,
    last: dict[str, Any] | None = None,
    objective: tuple[str, str] = ("val/loss", "min"),
    **settings: Any,
) -> pl.Trainer:
    """Train on the CPU with the checkpoints that ``conf`` asks for, saving after each step."""
    task = task or Noisy(encoder(), lr=2e-3)
    pl.seed_everything(7, verbose=False)
    kept = [Best(folder, *objective), Last(folder, **(last or {"every_minutes": 0}))]
    trainer = build_trainer(
        folder,
        accelerator="cpu",
        callbacks=[*kept, *callbacks],
        **{"max_epochs": 3, "log_every_n_steps": 1, "enable_progress_bar": False,
           "enable_model_summary": False, **settings},
    )  # fmt: skip
    fit(trainer, task, data, resume)
    return trainer


class Copies(Checkpoint):
    """Keeps every checkpoint that is saved, with the best one at that time, in folders 0, 1 ..."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.seen: set[int] = set()

    def look(self) -> None:
        """Keep the last one, if it is new."""
        last, best = self.run / LAST, self.run / BEST
        if last.exists() and last.stat().st_ino not in self.seen:
            here = self.folder / str(len(self.seen))
            here.mkdir(parents=True)
            (here / LAST).hardlink_to(last)
            if best.exists():
                (here / BEST).hardlink_to(best)
            self.seen.add(last.stat().st_ino)

    def on_train_batch_start(self, *hook: Any) -> None:
        """After ``Last``, which stands before it."""
        self.look()

    def on_validation_start(self, *hook: Any) -> None:
        """Likewise."""
        self.look()

    def on_train_epoch_end(self, *hook: Any) -> None:
        """Likewise."""
        self.look()


def scalars(*runs: Path) -> Scalars:
    """What runs logged that went on from each other: of each, what came before the next one."""
    logged: Scalars = {}
    for run in reversed(runs):
        events = EventAccumulator(str(run)).Reload()
        for name in events.Tags()["scalars"]:
            later = logged.get(name, [])
            begin = later[0][0] if later else sys.maxsize
            mine = [(event.step, event.value) for event in events.Scalars(name)]
            logged[name] = [one for one in mine if one[0] < begin] + later
    return logged


def differences(one: Path, other: Path, name: str) -> list[str]:
    """Which weights differ between two runs' checkpoints of a name, and whether the score does."""
    a, b = read(one / name), read(other / name)
    mine, theirs = a["state_dict"], b["state_dict"]
    assert mine.keys() == theirs.keys()
    differing = [weight for weight in mine if not torch.equal(mine[weight], theirs[weight])]
    return differing + [key for key in ("best", "global_step") if a.get(key) != b.get(key)]


def forkserver() -> ForkServerContext:
    """What starts processes fast: they fork from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.training"])
    return context


def in_a_process(
    folder: Path,
    shop: Path,
    resume: Path | None = None,
    slow: str = "",
    seconds: float = 0.0,
    **settings: Any,
) -> None:
    """Train in a group of processes of its own; an error ends it as it ends a command, said in a
    file."""
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of loader processes, as in a command
    torch.set_num_threads(1)
    data = images(shop, **settings)
    task = Slow(slow, seconds, encoder=encoder(), lr=2e-3)
    try:
        train(folder, data, resume=resume, task=task)
    except DedupError as error:
        (folder / "said").write_text(str(error))
        sys.exit(error.exit_code)
