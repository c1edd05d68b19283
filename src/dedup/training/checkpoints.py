"""Write checkpoints: when, under which names, and atomically with a checksum."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from dedup.encoders.archive import link_or_copy, write_with_checksum
from dedup.encoders.checkpoint import read
from dedup.errors import ConfigError, CorruptError, StalledError, StoppedError
from dedup.runtime.files import write_json
from dedup.runtime.signals import SIGNALS, Interrupts
from dedup.training.loop_state import (
    LoopPosition,
    loop_position,
    random_states,
    restore_random,
    set_loop_position,
)

log = logging.getLogger("dedup")

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
RESUMED = "resumed.json"
"""File in a resumed run's folder that names the checkpoint of the earlier run."""


class CheckpointFiles(TorchCheckpointIO):
    """Checkpoint I/O for Lightning: atomic writes with a checksum, reads that verify it."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: content of the checkpoint.
            path: file to write.
            storage_options: ``previous``, new name of the file that it replaces; ``entries``,
                further content.

        Raises:
            StalledError: the disk is full; the previous file is intact.
        """
        options, file = storage_options or {}, Path(path)
        content = checkpoint | options.get("entries", {})
        previous = options.get("previous")
        write_with_checksum(
            file,
            lambda writer: torch.save(content, cast(Any, writer)),
            None if previous is None else file.with_name(previous),
        )

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU, see ``dedup.encoders.checkpoint.read``.

        Raises:
            ArtifactError: the checkpoint is missing, or was not written by this package.
            CorruptError: the checkpoint is damaged.
        """
        return read(path, mapped=False)


class Best(Checkpoint):
    """Keep the weights with the best score in ``best.ckpt``, together with the score.

    A resumed run begins with the best weights of the earlier run, if the file still exists.

    Args:
        dirpath: folder of the checkpoints.
        monitor: name of the score in the validation log.
        mode: ``min`` or ``max``, for the best score.

    Attributes:
        best_model_score: best score so far.

    Raises:
        ConfigError: unknown mode.
    """

    def __init__(self, dirpath: str | Path, monitor: str, mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise ConfigError(f"objective.mode={mode}: expected min or max")
        self.dirpath = dirpath
        self.monitor = monitor
        self.mode = mode
        self.best_model_score: Tensor | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over the best weights of the earlier run."""
        old = Path(str(trainer.ckpt_path)).with_name(BEST)
        if not old.is_file():
            return
        try:
            best = read(old).get("best", {})
        except CorruptError as error:
            log.warning(
                "cannot take over %s, the next validation writes a new one: %s", BEST, error
            )
            return
        if (best.get("monitor"), best.get("mode")) == (self.monitor, self.mode):
            self.best_model_score = torch.tensor(best["score"])
            _take_over(trainer, old, Path(self.dirpath) / BEST)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if the score is the best so far.

        Raises:
            ConfigError: the score was not logged.
        """
        if not _is_training(trainer):
            return
        score = trainer.callback_metrics.get(self.monitor)
        if score is None:
            names = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"objective.monitor={self.monitor} is not logged: use one of {names}")
        score, best = score.detach().cpu(), self.best_model_score
        if best is None or (score < best if self.mode == "min" else score > best):
            self.best_model_score = score
            entry = {"monitor": self.monitor, "mode": self.mode, "score": float(score)}
            trainer.save_checkpoint(
                Path(self.dirpath) / BEST, True, storage_options={"entries": {"best": entry}}
            )


class Last(Checkpoint):
    """Keep the state of training in ``last.ckpt``, and the save before it in ``previous.ckpt``.

    It saves at the end of each epoch, and within it at intervals. It always saves between two
    steps, so that a resumed run ends as if it had never stopped. After a signal it saves and
    stops training.

    Args:
        dirpath: folder of the checkpoints.
        every_minutes: minutes between saves; ``None`` for the end of each epoch alone.
        every_n_steps: number of steps between further saves; ``None`` for none.

    Attributes:
        interrupts: record of received signals.
    """

    def __init__(
        self,
        dirpath: str | Path,
        every_minutes: float | None = 5.0,
        every_n_steps: int | None = None,
    ) -> None:
        self.dirpath = dirpath
        self.every_minutes = every_minutes
        self.every_n_steps = every_n_steps
        self.interrupts: Interrupts | None = None
        self._saved: LoopPosition | None = None
        self._when = 0.0
        self._n_steps = 0
        self._saving: LoopPosition | None = None
        self._random: dict[str, Any] | None = None
        self._restored: dict[str, Any] | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over the checkpoint as this run's own, and record its origin."""
        self._restored = {
            "random": checkpoint.get("random"),
            "stepped": checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"],
        }
        file = Path(str(trainer.ckpt_path))
        if _take_over(trainer, file, Path(self.dirpath) / LAST):
            write_json({"checkpoint": str(file.resolve())}, Path(self.dirpath) / RESUMED)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over signal handling from Lightning."""
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over signal handling from Lightning, and start the clock."""
        self._listen()
        self._when = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if a save is due, and stop after a signal.

        Raises:
            StoppedError: a signal was received.
            StalledError: the disk is full.
        """
        self._pause(trainer, loop_position(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if a save is due, and stop after a signal."""
        if _is_training(trainer):
            self._pause(trainer, loop_position(trainer))
            self._random = random_states()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Stop after a signal; the state is that from before the validation."""
        # Several processes validate different numbers of batches, and could not agree here.
        if trainer.world_size == 1 and self._is_asked_to_stop():
            if _is_training(trainer) and _can_go_on(trainer, loop_position(trainer)):
                self._save(trainer, loop_position(trainer))
            self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the state kept for a stop during validation."""
        self._random = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and stop after a signal."""
        if _is_trial(trainer):
            return
        self._save(trainer, loop_position(trainer))
        if trainer.strategy.reduce_boolean_decision(self._is_asked_to_stop(), all=False):
            self._stop(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Set the loops' position in this callback's checkpoints, not in those of others."""
        if self._saving is not None:
            set_loop_position(checkpoint["loops"], self._saving)
            checkpoint["random"] = self._random or random_states()

    def _pause(self, trainer: pl.Trainer, here: LoopPosition) -> None:
        """Save or stop between two steps, as agreed by all processes."""
        if self._restored is not None:
            self._restore(trainer, here)
        if not _can_go_on(trainer, here) or _is_trial(trainer):
            return
        stop = self._is_asked_to_stop()
        if not trainer.strategy.reduce_boolean_decision(stop or self._is_due(trainer), all=False):
            return
        stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        self._save(trainer, here)
        if stop:
            self._stop(trainer)

    def _restore(self, trainer: pl.Trainer, here: LoopPosition) -> None:
        """Restore the state that Lightning does not restore, or not at the right moment."""
        assert self._restored is not None
        stepped = self._restored["stepped"]["_batches_that_stepped"]
        trainer.fit_loop.epoch_loop._batches_that_stepped = stepped
        if self._restored["random"] is not None:
            restore_random(self._restored["random"])
        self._restored, self._saved, self._n_steps = None, here, _n_steps(trainer)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether a save is due by the clock or steps of this process."""
        minutes, steps = self.every_minutes, self.every_n_steps
        is_late = minutes is not None and time.monotonic() - self._when >= 60 * minutes
        return is_late or (steps is not None and _n_steps(trainer) - self._n_steps >= steps)

    def _save(self, trainer: pl.Trainer, here: LoopPosition) -> None:
        self._when, self._n_steps = time.monotonic(), _n_steps(trainer)
        if here == self._saved:
            return
        for logger in trainer.loggers:
            logger.save()  # a resumed run does not log the steps up to here again
        self._saving = here
        try:
            trainer.save_checkpoint(
                Path(self.dirpath) / LAST, False, storage_options={"previous": PREVIOUS}
            )
        finally:
            self._saving = None
        self._saved = here

    def _listen(self) -> None:
        if self.interrupts is not None:
            self.interrupts.listen()

    def _is_asked_to_stop(self) -> bool:
        return self.interrupts is not None and self.interrupts.received is not None

    def _stop(self, trainer: pl.Trainer) -> None:
        received = None if self.interrupts is None else self.interrupts.received
        number = received or next(reversed(SIGNALS))  # another process received it
        if (Path(self.dirpath) / LAST).exists():
            advice = f"training is saved. Go on with resume={self.dirpath}"
        else:
            advice = "nothing is saved yet. Run the same command again"
        raise StoppedError(f"stopped by {SIGNALS[number]}: {advice}", number)


def _is_training(trainer: pl.Trainer) -> bool:
    """Whether a validation is part of training, and not a sanity check before it."""
    fitting = trainer.state.fn == TrainerFn.FITTING
    return fitting and not trainer.sanity_checking and not _is_trial(trainer)


def _is_trial(trainer: pl.Trainer) -> bool:
    """Whether the run is a trial by ``trainer.fast_dev_run``, which saves nothing."""
    return bool(cast(Any, trainer).fast_dev_run)


def _n_steps(trainer: pl.Trainer) -> int:
    """Count the completed steps of all epochs."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.completed


def _can_go_on(trainer: pl.Trainer, here: LoopPosition) -> bool:
    """Whether training can resume from a checkpoint of this position."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    is_whole = here.steps % trainer.accumulate_grad_batches == 0
    is_whole |= here.validating and batches.is_last_batch  # the last step ends an accumulation
    # After its last step Lightning resumes nothing, not even the validation.
    is_over = here.validating and 0 <= trainer.max_steps <= trainer.global_step
    return is_whole and not is_over


def _take_over(trainer: pl.Trainer, file: Path, name: Path) -> bool:
    """Link another run's file into this run, in the first process; return whether this is it."""
    if not trainer.is_global_zero:
        return False
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file, name)
    except OSError as error:
        raise StalledError(
            f"cannot write {name}: {error.strerror or error}. Free some space, and start again"
        ) from error
    return True
