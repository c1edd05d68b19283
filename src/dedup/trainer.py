"""The card's ``trainer.gpus`` on today's Lightning Trainer."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import TensorBoardLogger

from dedup.allocation import keep_freed_memory
from dedup.checkpointing import CheckpointFiles
from dedup.errors import ConfigError

log = logging.getLogger("dedup")

Gpus = int | list[int] | Literal["auto"]


def build_trainer(
    run_dir: str | Path,
    gpus: Gpus = "auto",
    accelerator: str = "auto",
    callbacks: list[pl.Callback] | None = None,
    **settings: Any,
) -> pl.Trainer:
    """A Lightning Trainer that writes TensorBoard events into ``run_dir``.

    Args:
        run_dir: where events and checkpoints go.
        gpus: how many GPUs at most; ``auto`` takes one if there is one, -1 takes all, a list
            names them. With fewer to be seen it trains on what there is, and says so.
        accelerator: ``gpu`` asks strictly; ``cpu`` takes none; ``auto`` as said above.
        callbacks: Lightning callbacks.
        **settings: any other argument of ``pytorch_lightning.Trainer``.

    Raises:
        ConfigError: ``accelerator=gpu`` and too few GPUs, or an argument that Lightning refuses.
    """
    kind, devices = choose_devices(gpus, accelerator, visible_gpus())
    _quieten_lightning()
    keep_freed_memory()
    try:
        return pl.Trainer(
            accelerator=kind,
            devices=devices,
            default_root_dir=run_dir,
            logger=TensorBoardLogger(run_dir, name="", version="", default_hp_metric=False),
            callbacks=callbacks,
            plugins=[CheckpointFiles(), *settings.pop("plugins", [])],
            **settings,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {error}") from error


def best_score(trainer: pl.Trainer) -> float:
    """What the first checkpoint callback monitors, at its best.

    Raises:
        ConfigError: training ended before a validation, so that there is no such checkpoint.
    """
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if score is None:
        raise ConfigError(
            f"training ended after {trainer.global_step} steps, before its first validation, and "
            "left no best.ckpt: let it run for an epoch, or set trainer.val_check_interval"
        )
    return float(score)


def visible_gpus() -> int:
    """How many GPUs torch sees; Apple's counts as one."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def choose_devices(gpus: Gpus, accelerator: str, n_visible: int) -> tuple[str, int | list[int]]:
    """Lightning's ``accelerator`` and ``devices`` for what was asked and what is there.

    Args:
        gpus: see ``build_trainer``.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        n_visible: how many GPUs there are.

    Raises:
        ConfigError: ``accelerator=gpu`` and fewer GPUs than asked for, or a contradiction.
    """
    strict = accelerator == "gpu"
    at_least = max(n_visible, 1) if strict else n_visible
    if isinstance(gpus, list):
        wanted = gpus
    elif gpus == "auto":
        wanted = list(range(min(at_least, 1)))
    else:
        wanted = list(range(at_least if gpus == -1 else gpus))
    if strict and not wanted:
        raise ConfigError("trainer.accelerator=gpu with trainer.gpus=0: ask for a GPU or for none")
    usable = [gpu for gpu in wanted if gpu < n_visible]
    if strict and len(usable) < len(wanted):
        raise ConfigError(
            f"trainer.accelerator=gpu asks for {len(wanted)} GPU(s) and {n_visible} can be seen: "
            "leave trainer.accelerator=auto to train on what there is, or check the driver"
        )
    if accelerator == "cpu":
        return "cpu", 1
    if len(usable) < len(wanted):
        what = f"{len(usable)} GPU(s)" if usable else "the CPU"
        log.warning(
            "trainer.gpus=%s, but %d GPU(s) can be seen: training on %s", gpus, n_visible, what
        )
    if not usable:
        return "cpu", 1
    return "gpu", usable if isinstance(gpus, list) else len(usable)


def _quieten_lightning() -> None:
    """Drop advertisements, advice that would slow this loader, and Lightning's debts to torch."""
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    if not any(isinstance(found, _NoTips) for found in rank_zero.filters):
        rank_zero.addFilter(_NoTips())
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # frozen parts
    warnings.filterwarnings("ignore", ".*number of training batches.*log_every_n_steps.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")


_IDLE = ("Tip:", "to estimate number of stepping batches")


class _NoTips(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(words in record.getMessage() for words in _IDLE)
