"""What training keeps on disk: how a checkpoint is written, and when."""

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
    settle,
)

log = logging.getLogger("dedup")

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
RESUMED = "resumed.json"
"""Says, in the folder of a run that goes on from another one's checkpoint, from which."""


class CheckpointFiles(TorchCheckpointIO):
    """Writes checkpoints in their own folder, in one step and sealed; reads what is whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: dict[str, Any] | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: its content.
            path: the file.
            storage_options: ``previous``, what the file that was there is called from then on;
                ``entries``, further content.

        Raises:
            StalledError: the disk takes no more; what was there is as it was.
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
        """A checkpoint's content, on the CPU; see ``dedup.encoders.checkpoint.read``.

        Raises:
            ArtifactError: there is none, or it was not written by this package.
            CorruptError: it is not what was written.
        """
        return read(path, mapped=False)


class Best(Checkpoint):
    """Keeps the weights with the best score in ``best.ckpt``, and the score with them.

    A run that goes on from another one's checkpoint begins with its best, if that is still there.

    Args:
        dirpath: where to.
        monitor: the score, as it is logged in validation.
        mode: ``min`` or ``max``, which is best.

    Attributes:
        best_model_score: the best so far.

    Raises:
        ConfigError: there is no such mode.
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
        """Take over the best of the run that the checkpoint is of."""
        old = Path(str(trainer.ckpt_path)).with_name(BEST)
        if not old.is_file():
            return
        try:
            found = read(old).get("best", {})
        except CorruptError as error:
            log.warning("the next validation makes a new %s: %s", BEST, error)
            return
        if (found.get("monitor"), found.get("mode")) == (self.monitor, self.mode):
            self.best_model_score = torch.tensor(found["score"])
            _take_over(trainer, old, Path(self.dirpath) / BEST)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if it is better than all before.

        Raises:
            ConfigError: the score was not logged.
        """
        if not _is_training(trainer):
            return
        score = trainer.callback_metrics.get(self.monitor)
        if score is None:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(f"objective.monitor={self.monitor} is not logged: known are {known}")
        score, best = score.detach().cpu(), self.best_model_score
        if best is None or (score < best if self.mode == "min" else score > best):
            self.best_model_score = score
            said = {"monitor": self.monitor, "mode": self.mode, "score": float(score)}
            trainer.save_checkpoint(
                Path(self.dirpath) / BEST, True, storage_options={"entries": {"best": said}}
            )


class Last(Checkpoint):
    """Keeps where training is in ``last.ckpt``, and the save before it in ``previous.ckpt``.

    At the end of each epoch, and in it every so often; between two steps, so that a run that goes
    on from there ends as if it had never stopped. When a signal was received it saves and stops.

    Args:
        dirpath: where to.
        every_minutes: save so often; ``None`` for only at the end of each epoch.
        every_n_steps: save after so many steps too.

    Attributes:
        interrupts: tells of signals.
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
        """Begin with the checkpoint as this run's own, and say whose it is."""
        self._restored = {
            "random": checkpoint.get("random"),
            "stepped": checkpoint["loops"]["fit_loop"]["epoch_loop.state_dict"],
        }
        file = Path(str(trainer.ckpt_path))
        if _take_over(trainer, file, Path(self.dirpath) / LAST):
            write_json({"checkpoint": str(file.resolve())}, Path(self.dirpath) / RESUMED)

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals from Lightning."""
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals from Lightning, and start the clock."""
        self._listen()
        self._when = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to, and stop if asked to.

        Raises:
            StoppedError: a signal was received.
            StalledError: the disk takes no more.
        """
        self._pause(trainer, loop_position(trainer))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if it is time to, and stop if asked to."""
        if _is_training(trainer):
            self._pause(trainer, loop_position(trainer))
            self._random = random_states()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any
    ) -> None:
        """Stop if asked to; in a validation nothing has changed since it began."""
        # Processes validate different numbers of batches, and could not agree.
        if trainer.world_size == 1 and self._is_asked_to_stop():
            if _is_training(trainer) and _can_go_on(trainer, loop_position(trainer)):
                self._save(trainer, loop_position(trainer))
            self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what was kept for a stop in the validation."""
        self._random = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and stop if asked to."""
        if _is_trial(trainer):
            return
        self._save(trainer, loop_position(trainer))
        if trainer.strategy.reduce_boolean_decision(self._is_asked_to_stop(), all=False):
            self._stop(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Make the checkpoint one of this place; those of other callbacks stay as they are."""
        if self._saving is not None:
            settle(checkpoint["loops"], self._saving)
            checkpoint["random"] = self._random or random_states()

    def _pause(self, trainer: pl.Trainer, here: LoopPosition) -> None:
        """What is to be done between two steps."""
        if self._restored is not None:
            self._arrive(trainer, here)
        if not _can_go_on(trainer, here) or _is_trial(trainer):
            return
        stop = self._is_asked_to_stop()
        if not trainer.strategy.reduce_boolean_decision(stop or self._is_due(trainer), all=False):
            return
        stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        self._save(trainer, here)
        if stop:
            self._stop(trainer)

    def _arrive(self, trainer: pl.Trainer, here: LoopPosition) -> None:
        """Put back what Lightning does not, or not at the right moment."""
        assert self._restored is not None
        stepped = self._restored["stepped"]["_batches_that_stepped"]
        trainer.fit_loop.epoch_loop._batches_that_stepped = stepped
        if self._restored["random"] is not None:
            restore_random(self._restored["random"])
        self._restored, self._saved, self._n_steps = None, here, _n_steps(trainer)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether this process finds that it is time to save."""
        minutes, steps = self.every_minutes, self.every_n_steps
        late = minutes is not None and time.monotonic() - self._when >= 60 * minutes
        return late or (steps is not None and _n_steps(trainer) - self._n_steps >= steps)

    def _save(self, trainer: pl.Trainer, here: LoopPosition) -> None:
        self._when, self._n_steps = time.monotonic(), _n_steps(trainer)
        if here == self._saved:
            return
        for logger in trainer.loggers:
            logger.save()  # what was logged up to here is not logged again
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
            how = f"go on from what is saved with resume={self.dirpath}"
        else:
            how = "nothing was learnt yet, the same command starts anew"
        raise StoppedError(f"stopped by {SIGNALS[number]}: {how}", number)


def _is_training(trainer: pl.Trainer) -> bool:
    """Whether a validation is one of training, and not a check before it."""
    fitting = trainer.state.fn == TrainerFn.FITTING
    return fitting and not trainer.sanity_checking and not _is_trial(trainer)


def _is_trial(trainer: pl.Trainer) -> bool:
    """Whether it is one of ``trainer.fast_dev_run``, which leaves nothing."""
    return bool(cast(Any, trainer).fast_dev_run)


def _n_steps(trainer: pl.Trainer) -> int:
    """Steps done in all epochs."""
    return trainer.fit_loop.epoch_loop.batch_progress.total.completed


def _can_go_on(trainer: pl.Trainer, here: LoopPosition) -> bool:
    """Whether a checkpoint can hold all of this place."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    whole = here.steps % trainer.accumulate_grad_batches == 0
    whole |= here.validating and batches.is_last_batch  # the last step always ends an accumulation
    # After its last step Lightning goes on with nothing, not even the validation.
    over = here.validating and 0 <= trainer.max_steps <= trainer.global_step
    return whole and not over


def _take_over(trainer: pl.Trainer, file: Path, name: Path) -> bool:
    """Let another run's file be this run's too; whether this process is the one that does."""
    if not trainer.is_global_zero:
        return False
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(file, name)
    except OSError as error:
        raise StalledError(
            f"{name} cannot be written ({error.strerror or error}): make room, and start again"
        ) from error
    return True
