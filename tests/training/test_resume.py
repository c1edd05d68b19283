"""A run that was stopped, anywhere and however, ends as one that never was."""

import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer

from dedup.encoders.checkpoint import read
from dedup.errors import ArtifactError, StoppedError
from dedup.foregrounds.lab_otsu import LabOtsu
from dedup.foregrounds.masked_store import Framed, Framing, Product
from dedup.training.checkpoints import BEST, LAST, RESUMED
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.resume import checkpoint_to_resume
from dedup.training.tasks.contrastive import ContrastiveTask
from dedup.training.trainer import best_score
from dedup.training.views import Views
from tests.conftest import make_shop
from tests.support.training import (
    Copies,
    Noisy,
    differences,
    encoder,
    forkserver,
    images,
    in_a_process,
    scalars,
    train,
)

N_STEPS, N_EPOCHS = 5, 3


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums depend on the number of threads, and so small a network is slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty distinct images, in a store."""
    table = make_shop(tmp_path_factory.mktemp("shop"))
    images(table)
    return table


@pytest.fixture(scope="module")
def data(shop: Path) -> CatalogueDataModule:
    return images(shop)


@pytest.fixture(scope="module")
def whole(data: CatalogueDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder, data)
    return folder


def check_same(whole: Path, *runs: Path) -> None:
    """Runs that went on from each other ended as one did, and logged what it logged."""
    assert not differences(runs[-1], whole, LAST)
    assert not differences(runs[-1], whole, BEST)
    found, expected = scalars(*runs), scalars(whole)
    for name in ("train/loss", "val/loss"):
        assert found[name] == expected[name]
    assert len({step for step, _ in found["val/loss"]}) == len(found["val/loss"])


class StepLr(Noisy):
    """Learns at a rate that falls with the epochs."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class Contrastive(ContrastiveTask):
    """Learns by views, at a rate that follows the steps."""

    def __init__(self, encoder: Any, lr: float) -> None:
        super().__init__(encoder, lr, warmup=2)


HALVES: dict[str, Any] = {"val_check_interval": 0.5, "max_epochs": 2}
VIEWED: dict[str, Any] = {"views": Views(strength=0.4, hue_variants=0.5, n_held_out=5)}
EVERYWHERE: dict[str, tuple[type[pl.LightningModule], dict[str, Any], dict[str, Any], int]] = {
    # what learns, what from, how, and at how many places it is saved
    "two validations an epoch": (Noisy, {}, HALVES, 15),
    "a validation every other epoch": (Noisy, {}, {"check_val_every_n_epoch": 2}, 17),
    "a rate that falls with the epochs": (StepLr, {}, {"max_epochs": 2}, 13),
    "two steps for one of the optimiser": (
        Noisy, {}, {"accumulate_grad_batches": 2, "max_epochs": 2}, 9
    ),
    "so many steps": (Noisy, {}, {"max_steps": 7, "val_check_interval": 2}, 10),
    "by views": (Contrastive, {**VIEWED, "batch_size": 5}, {"max_epochs": 2}, 9),
    "with loader processes": (Noisy, {"num_workers": 1}, {"max_epochs": 2}, 13),
}  # fmt: skip


@pytest.mark.parametrize("case", EVERYWHERE)
def test_it_goes_on_from_wherever_it_was_saved(shop: Path, tmp_path: Path, case: str) -> None:
    task, dealt, settings, n_places = EVERYWHERE[case]
    data = images(shop, **dealt)
    run, copies = tmp_path / "whole", tmp_path / "copies"
    train(run, data, Copies(run, copies), task=task(encoder(), lr=2e-3), **settings)
    assert len(list(copies.iterdir())) == n_places
    expected = scalars(run)
    for number in range(0, n_places, 2 if settings is HALVES else 4):
        again = tmp_path / f"again {number}"
        resume = copies / str(number) / LAST
        train(again, data, resume=resume, task=task(encoder(), lr=2e-3), **settings)
        assert not differences(again, run, LAST)
        assert not differences(again, run, BEST)
        for name, events in scalars(again).items():
            if name in ("train/loss", "val/loss"):
                assert events == expected[name][-len(events) :]
                assert len(events) == len(expected[name]) - n_logged(resume, name, expected)


def n_logged(checkpoint: Path, name: str, expected: Any) -> int:
    """How much was logged before a checkpoint was saved."""
    loop = read(checkpoint)["loops"]["fit_loop"]
    stepped = loop["epoch_loop.state_dict"]["_batches_that_stepped"]
    due = loop["epoch_loop.val_loop.batch_progress"]["current"]["started"]
    return sum(step < stepped + (due if name == "train/loss" else 0) for step, _ in expected[name])


def test_a_run_that_ended_by_number_of_steps_goes_on_in_the_epoch(
    data: CatalogueDataModule, whole: Path, tmp_path: Path
) -> None:
    train(tmp_path / "1", data, max_steps=7)
    train(tmp_path / "2", data, resume=tmp_path / "1" / LAST)
    check_same(whole, tmp_path / "1", tmp_path / "2")


class TestKilled:
    @pytest.fixture
    def start(self, shop: Path) -> Iterator[Any]:
        started: list[ForkServerProcess] = []
        processes = forkserver()

        def start(folder: Path, **arguments: Any) -> ForkServerProcess:
            process = processes.Process(target=in_a_process, args=(folder, shop), kwargs=arguments)
            process.start()
            started.append(process)
            return started[-1]

        yield start
        for process in started:
            process.kill()
            process.join()

    def test_four_times_at_any_moment(self, start: Any, whole: Path, tmp_path: Path) -> None:
        runs = [tmp_path / f"{number}" for number in range(5)]
        wait = np.random.default_rng(5).uniform(0, 0.15, 4)
        resume = None
        for run, seconds in zip(runs, wait, strict=False):
            process = start(run, resume=resume)
            wait_for(run / LAST)
            time.sleep(seconds)
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            resume = checkpoint_to_resume("auto", tmp_path, encoder())
            assert resume is not None
            assert not list(resume.parent.glob(".*"))
        process = start(runs[-1], resume=resume)
        process.join()
        assert process.exitcode == 0
        check_same(whole, *runs)

    @pytest.mark.parametrize(
        ("number", "slow"),
        [(signal.SIGTERM, "training"), (signal.SIGINT, "validation"), (signal.SIGTERM, "checking")],
    )
    def test_a_signal_ends_it_and_it_goes_on(
        self,
        start: Any,
        data: CatalogueDataModule,
        whole: Path,
        tmp_path: Path,
        number: signal.Signals,
        slow: str,
    ) -> None:
        first, second = tmp_path / "1", tmp_path / "2"
        process = start(first, slow=slow, seconds=0.3, num_workers=int(slow == "training"))
        wait_for(first / "here")
        os.killpg(process.pid, number)
        process.join(60)
        assert process.exitcode == 128 + number
        said = (first / "said").read_text()
        assert said.startswith({2: "stopped by Ctrl-C: ", 15: "stopped by SIGTERM: "}[number])
        if slow == "checking":
            assert "Run the same command again" in said
            assert not (first / LAST).exists()
            return
        assert said.endswith(f"resume={first}")
        progress = read(first / LAST)
        assert (progress["global_step"], progress["epoch"]) == (1 if slow == "training" else 5, 0)
        train(second, data, resume=first / LAST)
        check_same(whole, first, second)


def wait_for(file: Path) -> None:
    """Until a file is there."""
    for _ in range(3000):
        if file.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(file)


class TestBest:
    @pytest.fixture
    def ended(self, whole: Path, tmp_path: Path) -> Path:
        """A copy of a run that is over."""
        folder = tmp_path / "ended"
        folder.mkdir()
        for name in (LAST, BEST):
            (folder / name).write_bytes((whole / name).read_bytes())
        return folder

    def test_it_is_taken_over(self, ended: Path, data: CatalogueDataModule, tmp_path: Path) -> None:
        trainer = train(tmp_path / "on", data, resume=ended / LAST)
        assert (tmp_path / "on" / BEST).read_bytes() == (ended / BEST).read_bytes()
        assert best_score(trainer) == read(ended / BEST)["best"]["score"]
        assert json.loads((tmp_path / "on" / RESUMED).read_text()) == {
            "checkpoint": str(ended / LAST)
        }

    def test_a_worse_one_does_not_replace_it(
        self, ended: Path, data: CatalogueDataModule, tmp_path: Path
    ) -> None:
        class Spoil(pl.Callback):
            def on_train_batch_start(self, trainer: Any, module: Any, *batch: Any) -> None:
                module.encoder.unconv1.bias.data.fill_(9)

        trainer = train(tmp_path / "on", data, Spoil(), resume=ended / LAST, max_epochs=4)
        assert trainer.callback_metrics["val/loss"] > 9
        assert not differences(tmp_path / "on", ended, BEST)

    @pytest.mark.parametrize("damage", ["gone", "cut"])
    def test_without_it_the_next_validation_makes_one(
        self,
        ended: Path,
        data: CatalogueDataModule,
        tmp_path: Path,
        damage: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        (ended / BEST).unlink() if damage == "gone" else os.truncate(ended / BEST, 999)
        with caplog.at_level(logging.WARNING, "dedup"):
            trainer = train(tmp_path / "on", data, resume=ended / LAST, max_epochs=4)
        assert len(caplog.records) == (damage == "cut")
        ((_, score),) = scalars(tmp_path / "on")["val/loss"]
        assert best_score(trainer) == pytest.approx(score, rel=1e-6)
        assert read(tmp_path / "on")["global_step"] == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [({"batch_size": 5}, r"data\.batch_size 3 -> 5"), ({"seed": 1}, "seed 0 -> 1"),
     ({"shuffle_window": 2}, r"data\.shuffle_window 32 -> 2"),
     ({"train_on": 12}, "training pictures 15 -> 12"), ({"images": 1}, "their digest"),
     ({"framed": 1}, "foreground None -> ")],
    ids=str,
)  # fmt: skip
def test_it_does_not_go_on_with_other_images(
    shop: Path, whole: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    change = dict(change)
    data = images(shop, **({} if {"images", "framed"} & set(change) else change))
    if change.pop("framed", None):
        data.store = Framed(data.store, Product(LabOtsu(), Framing()))
    if change.pop("images", None):
        other = data.images["sha256_pixels"].where(data.images["product_id"] != "P05", "other")
        data.images = data.images.assign(sha256_pixels=other)
    with pytest.raises(ArtifactError, match=said) as caught:
        train(tmp_path / "on", data, resume=whole / LAST)
    assert "resume with the catalogue and the settings" in str(caught.value)
    assert not (tmp_path / "on" / LAST).exists()


def test_the_time_that_was_spent_counts(
    data: CatalogueDataModule, whole: Path, tmp_path: Path
) -> None:
    first, second = Timer(duration={"hours": 1}), Timer(duration={"hours": 1})
    train(tmp_path / "1", data, first, max_epochs=1)
    saved = read(tmp_path / "1" / LAST)["callbacks"]["Timer"]["time_elapsed"]["train"]
    assert 0 < saved <= first.time_elapsed()
    train(tmp_path / "2", data, second, resume=tmp_path / "1" / LAST)
    assert second.time_elapsed() > saved
    check_same(whole, tmp_path / "1", tmp_path / "2")


class TestWhenItIsSaved:
    @pytest.mark.parametrize(
        ("last", "n_saves"),
        [({"every_minutes": None}, 3), ({"every_minutes": 60}, 3), ({"every_minutes": 0}, 19),
         ({"every_minutes": None, "every_n_steps": 2}, 9), ({"every_n_steps": 5}, 6)],
        ids=str,
    )  # fmt: skip
    def test_so_often(
        self, data: CatalogueDataModule, tmp_path: Path, last: dict[str, Any], n_saves: int
    ) -> None:
        run, copies = tmp_path / "run", tmp_path / "copies"
        train(run, data, Copies(run, copies), last=last)
        assert len(list(copies.iterdir())) == n_saves

    def test_a_trial_leaves_nothing(self, data: CatalogueDataModule, tmp_path: Path) -> None:
        train(tmp_path / "run", data, fast_dev_run=True)
        assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_listened_for_signals_does_again(
    data: CatalogueDataModule, tmp_path: Path, number: signal.Signals
) -> None:
    class Send(pl.Callback):
        def on_train_batch_end(self, *hook: Any) -> None:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match=rf"resume={tmp_path}/run$") as caught:
        train(tmp_path / "run", data, Send())
    assert caught.value.exit_code == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert read(tmp_path / "run" / LAST)["global_step"] == 1
