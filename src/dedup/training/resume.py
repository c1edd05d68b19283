"""Training that goes on where it was stopped: from which checkpoint, and how to stop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from torch import nn

from dedup.encoders.archive import remove_partial_files
from dedup.encoders.checkpoint import check_resumable, read
from dedup.errors import ArtifactError, CorruptError, StalledError
from dedup.runtime.files import read_json
from dedup.runtime.shortages import NO_ROOM
from dedup.runtime.signals import Interrupts
from dedup.training import launch
from dedup.training.checkpoints import BEST, LAST, PREVIOUS, RESUMED, Last

log = logging.getLogger("dedup")

AUTO = "auto"


def checkpoint_to_resume(resume: str | None, runs: Path, encoder: nn.Module) -> Path | None:
    """The checkpoint to go on from, verified, or ``None`` to start anew.

    Args:
        resume: a run's folder or a checkpoint; ``auto`` for the newest run that did not finish;
            ``None`` for none.
        runs: the folder of all training runs.
        encoder: what is to be trained.

    Raises:
        ArtifactError: there is none at that place, or it is not of this encoder.
        CorruptError: neither it nor the save before it is what was written.
    """
    if resume is None:
        return None
    if resume == AUTO:
        unfinished = newest_unfinished(runs)
        if unfinished is None:
            log.info("resume=auto: no run in %s waits to go on, starting anew", runs)
            return None
        log.info("resume=auto: going on from %s", unfinished)
        resume = str(unfinished)
    path = Path(resume)
    file = path / LAST if path.is_dir() else path
    if file.name == LAST:
        remove_partial_files(file.parent, ".ckpt")
        file = _whole(file, file.with_name(PREVIOUS))
    check_resumable(file, encoder)
    return file


def newest_unfinished(runs: Path) -> Path | None:
    """The folder of the newest run that left a checkpoint, did not finish, and that no other run
    went on from."""
    folders = [f for f in sorted(runs.glob("*")) if f.is_dir() and not f.is_symlink()]
    left = [f for f in folders if (f / LAST).is_file() or (f / PREVIOUS).is_file()]
    advice = f"name the run to go on from with resume={runs}/<time>"
    continued = {
        Path(str(read_json(f / RESUMED, "a run that goes on", advice).get("checkpoint"))).parent
        for f in left
        if (f / RESUMED).is_file()
    }
    waiting = [f for f in left if not (f / "run.json").is_file() and f.resolve() not in continued]
    return waiting[-1] if waiting else None


def fit(
    trainer: pl.Trainer,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    checkpoint: Path | None,
) -> None:
    """Train, and stop between two steps when asked to by Ctrl-C or SIGTERM.

    Raises:
        StoppedError: a signal was received, and what was learnt is saved.
        StalledError: the disk takes no more.
        ArtifactError: training cannot go on from the checkpoint with these settings.
    """
    callbacks = cast(Any, trainer).callbacks
    last = [callback for callback in callbacks if isinstance(callback, Last)]
    with Interrupts(bool(last)) as interrupts, _full_disk_is_said(trainer.default_root_dir):
        for callback in last:
            callback.interrupts = interrupts
        launch.fit(trainer, task, data, checkpoint)


@contextmanager
def _full_disk_is_said(folder: str) -> Iterator[None]:
    """Make TensorBoard's trouble with the disk, in a thread of its own and here, one message."""
    before = threading.excepthook

    def passed_over(failure: threading.ExceptHookArgs) -> None:
        if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in NO_ROOM):
            before(failure)

    threading.excepthook = passed_over
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StalledError(
            f"{folder} cannot be written to: {NO_ROOM[error.errno]}. Make room; what was saved "
            f"before is whole, and where there is a {LAST}, resume={folder} goes on from it"
        ) from error
    finally:
        threading.excepthook = before


def _whole(last: Path, previous: Path) -> Path:
    """The first of two checkpoints that is what was written."""
    if not last.exists() and not previous.exists():
        raise ArtifactError(
            f"no checkpoint at {last}: name a run's folder or its {LAST} with resume=PATH, or "
            "leave resume out to train anew"
        )
    try:
        read(last)
    except ArtifactError as error:
        if last.exists() and not isinstance(error, CorruptError):
            raise
        found = str(error)
    else:
        return last
    try:
        read(previous)
    except ArtifactError as error:
        raise CorruptError(
            f"{found}\nnor is the save before it: {error}\nLeave resume out to train anew; "
            f"{last.with_name(BEST)} is apart from both"
        ) from error
    log.warning("%s is not whole, going on from the save before it: %s (%s)", last, previous, found)
    return previous
