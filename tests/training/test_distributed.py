"""Two processes beside one: the same losses, gradients and vectors; and how two end."""

import json
import multiprocessing as mp
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn.cluster import KMeans
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader

from dedup.encoders.checkpoint import load_encoder, save_safetensors
from dedup.encoders.conv import ConvAutoencoder
from dedup.search.build import build_index
from dedup.search.clustering import Clusterer
from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.callbacks import Reconstructions
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.tasks.autoencoder import AutoencoderTask
from dedup.training.tasks.contrastive import ContrastiveTask
from dedup.training.trainer import build_trainer
from dedup.training.views import ViewBatch
from tests.conftest import ROOT, SMALL, draw, encoded, run, write_shop
from tests.support.training import forkserver

N = 103
SETTINGS = [
    *("source=csv", "source.path=products.csv", "trainer.accelerator=cpu", "store.path=store"),
    *(*SMALL, "epochs=1", "data.batch_size=10", "data.train_on=93", "data.val_fraction=0.001"),
]
"""One image is held out, so that the second of two processes has none."""
TWO = "trainer.num_processes=2"
LIMIT = 120
"""Seconds after which a run of two processes hangs."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CSV of 103 products, of one small image each."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(N):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number, (30, 40))))
    write_shop(folder, [(f"P{number:03}", f"{number}.jpg") for number in range(N)])
    return folder


@pytest.fixture(scope="module")
def catalogue(shop: Path) -> Catalogue:
    return CsvSource(str(shop / "products.csv")).read()


@pytest.fixture(scope="module")
def store(shop: Path, catalogue: Catalogue) -> ImageStore:
    store = ImageStore(shop / "store")
    store.ingest(catalogue, shop)
    return store


@pytest.fixture(scope="module")
def alone(shop: Path, catalogue: Catalogue, store: ImageStore) -> Path:
    """What this process leaves when it trains as ``SETTINGS`` say."""
    pl.seed_everything(0, workers=True, verbose=False)
    data = CatalogueDataModule(
        store, store.ingest(catalogue, shop), batch_size=10, train_on=93, val_fraction=0.001
    )
    last = ModelCheckpoint(shop / "alone", "last", enable_version_counter=False)
    trainer = build_trainer(
        shop / "alone", accelerator="cpu", max_epochs=1, callbacks=[last, Reconstructions()],
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(AutoencoderTask(ConvAutoencoder(embedding_dim=8, hidden_dim=16)), data)
    return shop / "alone"


def started(folder: Path, *command: str) -> "subprocess.Popen[str]":
    """A command whose output goes to one pipe, as the head of its own group of processes."""
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def ended(process: "subprocess.Popen[str]", code: int) -> str:
    """What a command said, that ended in time with this code and left no process behind."""
    try:
        said, _ = process.communicate(timeout=LIMIT)
    finally:
        left = not _gone(process.pid)
        if left:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, said
    assert not left, "a process was left behind"
    return said


def _gone(group: int) -> bool:
    """Whether a group of processes is empty, at once or within five seconds."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def scalars(folder: Path) -> dict[str, list[float]]:
    """What a run logged, step by step."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        name: [event.value for event in events.Scalars(name)]
        for name in ("train/loss", "val/loss", "val/ssim")
    }


def check_same_training(folder: Path, alone: Path) -> None:
    """Losses within 1e-4 of one process's at every step; weights within two steps of Adam's."""
    expected = scalars(alone)
    assert len(expected["train/loss"]) == 10  # of 93 images: the last step has three
    assert len(expected["val/loss"]) == 1
    for name, values in scalars(folder).items():
        assert values == pytest.approx(expected[name], abs=1e-4), name
    theirs = load_encoder(alone / "last.ckpt").state_dict()
    ours = load_encoder(folder / "last.ckpt").state_dict()
    for name, weights in ours.items():
        # Adam divides a gradient by its own size, and so the rounding of a tiny one by that too.
        torch.testing.assert_close(weights, theirs[name], atol=6e-4, rtol=0)


class TestTraining:
    def test_two_processes_train_as_one(self, shop: Path, alone: Path) -> None:
        train = str(ROOT / "train.py")
        said = ended(started(shop, train, *SETTINGS, TWO, "runs=two"), 0)
        latest = shop / "two" / "train" / "latest"
        check_same_training(latest, alone)
        assert "Warning" not in said
        assert [file.name for file in (shop / "two").iterdir()] == ["train"]
        runs = [file for file in (shop / "two" / "train").iterdir() if not file.is_symlink()]
        assert len(runs) == 1
        found = {file.name.partition(".out.")[0] for file in runs[0].iterdir()}
        assert found == {".hydra", "00010", "best.ckpt", "events", "hparams.yaml", "last.ckpt",
                         "projector_config.pbtxt", "run.json", "train.log"}  # fmt: skip
        assert json.loads((latest / "run.json").read_text())["trainer"]["num_processes"] == 2
        assert said.count(" images of ") == 1

    def test_torchrun_starts_them(self, shop: Path, alone: Path) -> None:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        train = [str(ROOT / "train.py"), *SETTINGS, TWO, "runs=torchrun"]
        ended(started(shop, *command, *train), 0)
        check_same_training(shop / "torchrun" / "train" / "latest", alone)
        assert len(list((shop / "torchrun" / "train").iterdir())) == 2  # one run, and latest

    def test_an_error_ends_all_with_one_message_and_its_code(self, shop: Path) -> None:
        train = [str(ROOT / "train.py"), *SETTINGS, TWO, "runs=nan"]
        said = ended(started(shop, *train, "task.lr=1e30"), 7)
        assert said.count("ERROR") == 1
        assert "lower task.lr" in said
        assert "Traceback" not in said

    def test_a_process_that_is_killed_ends_the_run(self, shop: Path) -> None:
        train = [str(ROOT / "train.py"), *SETTINGS, TWO, "runs=killed"]
        process = started(shop, *train, "epochs=500")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        events = (shop / "killed").glob
        for _ in range(10 * LIMIT):
            if any(events("train/*/last.ckpt")):
                break
            time.sleep(0.1)
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        said = ended(process, 8)
        assert "signal 9" in said
        assert "Traceback" not in said
        assert not (shop / "killed" / "train" / "latest").exists()


@pytest.mark.parametrize(
    ("command", "words", "rank"),
    [
        (["cluster"], ["cluster.py starts its own", "trainer.num_processes=2"], "0"),
        (["cluster"], ["cluster.py starts its own", "trainer.num_processes=2"], "1"),
        (["detect"], ["detect.py starts its own"], "0"),
        (["train", "-m", "task.lr=1e-3,1e-4"], ["under torchrun", "Leave out -m"], "0"),
    ],
)
def test_what_torchrun_may_not_start(
    tmp_path: Path, command: list[str], words: list[str], rank: str
) -> None:
    launched = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank}
    done = run(*command, cwd=tmp_path, code=2, **launched)
    for word in words:
        assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1
    if rank == "1":
        assert not list(tmp_path.glob("runs/*"))


def test_a_sweep_of_several_processes_is_refused(tmp_path: Path) -> None:
    done = run("train", "-m", TWO, "task.lr=1e-3,1e-4", cwd=tmp_path, code=2)
    assert "trainer.num_processes=2" in done.stderr
    assert len(done.stderr.splitlines()) == 1


ORPHAN = """
import subprocess, sys, time
if len(sys.argv) > 1:
    from dedup.runtime.processes import end_with_parent
    end_with_parent()
    print("ready", flush=True)
    time.sleep(60)
else:
    child = subprocess.Popen([sys.executable, __file__, "child"], stdout=subprocess.PIPE)
    child.stdout.readline()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(ORPHAN)
    process = started(tmp_path, str(script))
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    process.kill()
    ended(process, -signal.SIGKILL)


LABELS = torch.tensor([0, 1, 1, 3, 4, 5, 0])
OF = [1, 3, 5]
"""Anchors with a variant; of two processes the second has them all."""


def images(n: int, seed: int) -> Tensor:
    """Smooth patterns, (n, 3, 200, 100) uint8."""
    return torch.stack(
        [
            torch.from_numpy(np.array(draw(100 * seed + number, (100, 200)))).permute(2, 0, 1)
            for number in range(n)
        ]
    )


def batch(places: list[int]) -> tuple[Tensor, ViewBatch]:
    """Some of seven images, and their views."""
    weak, strong, variants = images(7, 0), images(7, 1), images(3, 2)
    shown = [number for number, of in enumerate(OF) if of in places]
    of = torch.tensor([places.index(OF[number]) for number in shown], dtype=torch.int64)
    views = ViewBatch(weak[places], strong[places], variants[shown], of, LABELS[places])
    return weak[places], views


def shares(n: int, size: int, rank: int, world_size: int) -> list[list[int]]:
    """Which of n images a process has in each batch, of so many in all processes."""
    mine, step = list(range(rank, n, world_size)), size // world_size
    return [mine[start : start + step] for start in range(0, max(1, len(mine)), step)]


class Notes(pl.Callback):
    """The gradients of each step, and what was logged."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.metrics: dict[str, float] = {}

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        parameters = pl_module.named_parameters()
        self.gradients.append({n: p.grad.clone() for n, p in parameters if p.grad is not None})

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}


def steps(folder: Path, rank: int, world_size: int) -> list[Any]:
    """Train each task for a step on seven images; held out are as many in two steps, or one."""
    notes = []
    for task_class in (AutoencoderTask, ContrastiveTask):
        for n in (7, 1):
            torch.manual_seed(0)
            task = task_class(ConvAutoencoder(embedding_dim=8, hidden_dim=16))
            views = task_class is ContrastiveTask
            trainer = build_trainer(
                folder, accelerator="cpu", num_processes=world_size, max_epochs=1,
                callbacks=[noted := Notes()], num_sanity_val_steps=0, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
            )  # fmt: skip
            train, val = (
                DataLoader([batch(some)[views] for some in dealt], batch_size=None)
                for dealt in (shares(7, 8, rank, world_size), shares(n, 4, rank, world_size))
            )
            trainer.fit(task, train, val)
            notes.append((noted.gradients, noted.metrics))
    return notes


def one_of_two(folder: Path, rank: int, port: int) -> None:
    """What each of two processes does; the first one saves it."""
    os.environ.update(
        LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    notes = steps(folder, rank, 2)
    if rank == 0:
        torch.save(notes, folder / "notes.pt")


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def together(jobs: Sequence["mp.process.BaseProcess"]) -> None:
    """Start, wait, and fail where one hangs or fails."""
    for job in jobs:
        job.start()
    until = time.monotonic() + LIMIT
    for job in jobs:
        job.join(max(0.0, until - time.monotonic()))
    for job in jobs:
        job.kill()
        job.join()
    assert [job.exitcode for job in jobs] == [0] * len(jobs)


def test_gradients_and_measures_are_those_of_one_process(tmp_path: Path, free_port: int) -> None:
    context = forkserver()
    together(
        [context.Process(target=one_of_two, args=(tmp_path, rank, free_port)) for rank in (0, 1)]
    )
    two = torch.load(tmp_path / "notes.pt", weights_only=True)
    for (gradients, metrics), (expected, measured) in zip(two, steps(tmp_path, 0, 1), strict=True):
        assert metrics == pytest.approx(measured, abs=1e-4)
        assert len(gradients) == len(expected) == 1
        assert gradients[0].keys() == expected[0].keys()
        for name, gradient in gradients[0].items():
            size = expected[0][name].abs().max()
            torch.testing.assert_close(gradient, expected[0][name], atol=1e-4 * size, rtol=0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_safetensors(ConvAutoencoder(embedding_dim=8, hidden_dim=16), path)
    return path


def test_every_product_once_and_the_bits_of_one_process(
    shop: Path, catalogue: Catalogue, checkpoint: Path, store: ImageStore
) -> None:
    settings = [f"checkpoint={checkpoint}", "trainer.accelerator=cpu", "store.path=store",
                "source=csv", "source.path=products.csv"]  # fmt: skip
    images = store.ingest(catalogue, shop)
    process = started(shop, str(ROOT / "cluster.py"), *settings, TWO, "runs=embedded")
    means = partial(KMeans, init="random", n_init=1, max_iter=10, random_state=0)
    clusterer = Clusterer(means)
    index = build_index(catalogue, images, store, checkpoint, clusterer, devices=["cpu"])
    index.save(one := shop / "one")
    assert "Warning" not in ended(process, 0)
    two = shop / "embedded" / "cluster" / "latest"
    for name in ("images.parquet", "vectors.npy", "centroids.npy", "products.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert sorted(Index.load(two).images["product_id"]) == [f"P{n:03}" for n in range(N)]
    assert np.load(two / "vectors.npy").shape == (N, 8)
