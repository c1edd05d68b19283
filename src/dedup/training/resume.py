"""Find the checkpoint to resume from, and train until done or stopped."""

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
    """Find and verify the checkpoint to resume from; ``None`` for a new run.

    Args:
        resume: folder of a run, or a checkpoint; ``auto`` for the newest unfinished run; ``None``
            for a new run.
        runs: folder of all training runs.
        encoder: encoder to train.

    Raises:
        ArtifactError: the checkpoint is missing, or does not fit the encoder.
        CorruptError: both the checkpoint and the save before it are damaged.
    """
    if resume is None:
        return None
    if resume == AUTO:
        unfinished = newest_unfinished(runs)
        if unfinished is None:
            log.info("resume=auto: there is no unfinished run in %s, starting a new one", runs)
            return None
        log.info("resume=auto: going on from %s", unfinished)
        resume = str(unfinished)
    path = Path(resume)
    file = path / LAST if path.is_dir() else path
    if file.name == LAST:
        remove_partial_files(file.parent, ".ckpt")
        file = _choose_intact(file, file.with_name(PREVIOUS))
    check_resumable(file, encoder)
    return file


def newest_unfinished(runs: Path) -> Path | None:
    """Find the newest unfinished run with a checkpoint that no later run resumed.

    Returns:
        Its folder, or ``None`` if there is none.
    """
    folders = [f for f in sorted(runs.glob("*")) if f.is_dir() and not f.is_symlink()]
    saved = [f for f in folders if (f / LAST).is_file() or (f / PREVIOUS).is_file()]
    advice = f"name the run to resume with resume={runs}/<time>"
    resumed = {
        Path(str(read_json(f / RESUMED, "a resumed run", advice).get("checkpoint"))).parent
        for f in saved
        if (f / RESUMED).is_file()
    }
    waiting = [f for f in saved if not (f / "run.json").is_file() and f.resolve() not in resumed]
    return waiting[-1] if waiting else None


def fit(
    trainer: pl.Trainer,
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    checkpoint: Path | None,
) -> None:
    """Train; on Ctrl-C or SIGTERM, stop between two steps.

    Raises:
        StoppedError: a signal was received, and the state is saved.
        StalledError: the disk is full.
        ArtifactError: training cannot resume from the checkpoint with these settings.
    """
    callbacks = cast(Any, trainer).callbacks
    last = [callback for callback in callbacks if isinstance(callback, Last)]
    with Interrupts(bool(last)) as interrupts, _explain_full_disk(trainer.default_root_dir):
        for callback in last:
            callback.interrupts = interrupts
        launch.fit(trainer, task, data, checkpoint)


@contextmanager
def _explain_full_disk(folder: str) -> Iterator[None]:
    """Turn TensorBoard's errors on a full disk, from its thread and this one, into one message."""
    previous_hook = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if not (isinstance(failure.exc_value, OSError) and failure.exc_value.errno in NO_ROOM):
            previous_hook(failure)

    threading.excepthook = hook
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise StalledError(
            f"cannot write to {folder}: {NO_ROOM[error.errno]}. Free some space; earlier files are "
            f"intact, and if there is a {LAST}, resume={folder} goes on from it"
        ) from error
    finally:
        threading.excepthook = previous_hook


def _choose_intact(last: Path, previous: Path) -> Path:
    """Return the first of two checkpoints that is intact."""
    if not last.exists() and not previous.exists():
        raise ArtifactError(
            f"no checkpoint at {last}: name a run's folder or its {LAST} with resume=PATH, or "
            "leave out resume for a new run"
        )
    try:
        read(last)
    except ArtifactError as error:
        if last.exists() and not isinstance(error, CorruptError):
            raise
        reason = str(error)
    else:
        return last
    try:
        read(previous)
    except ArtifactError as error:
        raise CorruptError(
            f"{reason}\nThe save before it is damaged too: {error}\nLeave out resume for a new "
            f"run; {last.with_name(BEST)} is a separate file"
        ) from error
    log.warning("%s is damaged: going on from the save before it, %s (%s)", last, previous, reason)
    return previous
