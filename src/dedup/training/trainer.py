"""Build a Lightning Trainer, with ``trainer.gpus`` as in Lightning 1."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.loggers import TensorBoardLogger

from dedup.errors import ConfigError
from dedup.runtime.allocation import keep_freed_memory
from dedup.runtime.processes import launcher, n_launched
from dedup.training.checkpoints import CheckpointFiles
from dedup.training.devices import Gpus, choose_devices, visible_gpus


def build_trainer(
    run_dir: str | Path,
    gpus: Gpus = "auto",
    accelerator: str = "auto",
    num_processes: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    callbacks: list[pl.Callback] | None = None,
    **settings: Any,
) -> pl.Trainer:
    """Build a Lightning Trainer that writes TensorBoard events into ``run_dir``.

    Args:
        run_dir: folder of events and checkpoints.
        gpus: largest number of GPUs; ``auto`` takes one if there is one, -1 takes all, a list
            names them. With fewer visible GPUs it trains on those, and logs a warning.
        accelerator: ``gpu`` requires the GPUs; ``cpu`` uses none; ``auto`` uses those there are.
        num_processes: number of processes, if the CPU trains.
        num_nodes: number of machines, each with as many devices.
        strategy: Lightning's strategy for several devices; ``auto`` is ``ddp``.
        callbacks: Lightning callbacks.
        **settings: any other argument of ``pytorch_lightning.Trainer``.

    Raises:
        ConfigError: ``accelerator=gpu`` with too few GPUs, an argument that Lightning refuses, or
            another number of processes started by torchrun or SLURM.
    """
    kind, devices = choose_devices(gpus, accelerator, visible_gpus(), num_processes)
    n_devices = len(devices) if isinstance(devices, list) else devices
    launched = n_launched()
    check_launched(kind, n_devices, num_nodes, launched)
    plugins: list[Any] = [CheckpointFiles(), *settings.pop("plugins", [])]
    if not launched and "SLURM_NTASKS" in os.environ:  # without srun, which Lightning expects
        plugins.append(LightningEnvironment())
    _quieten_lightning()
    keep_freed_memory()
    try:
        return pl.Trainer(
            accelerator=kind,
            devices=devices,
            num_nodes=num_nodes,
            strategy=choose_strategy(strategy, n_devices * num_nodes),
            use_distributed_sampler=False,  # CatalogueDataModule shares the images out itself
            default_root_dir=run_dir,
            logger=TensorBoardLogger(run_dir, name="", version="", default_hp_metric=False),
            callbacks=callbacks,
            plugins=plugins,
            **settings,
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise ConfigError(f"trainer: {error}") from error


def choose_strategy(strategy: str, n_processes: int) -> str:
    """Choose Lightning's ``strategy``: DDP for several processes, unless another is set."""
    return "ddp" if strategy == "auto" and n_processes > 1 else strategy


def check_launched(kind: str, n_devices: int, num_nodes: int, launched: int) -> None:
    """Check that torchrun or SLURM started as many processes as the settings ask for.

    Args:
        kind: ``gpu`` or ``cpu``.
        n_devices: number of devices on each machine.
        num_nodes: number of machines.
        launched: number of started processes; 0 without torchrun and SLURM.

    Raises:
        ConfigError: the numbers differ.
    """
    if launched in (0, n_devices * num_nodes):
        return
    setting = "trainer.gpus" if kind == "gpu" else "trainer.num_processes"
    raise ConfigError(
        f"{launcher()} started {launched} processes, and {setting}={n_devices} "
        f"trainer.num_nodes={num_nodes} ask for {n_devices * num_nodes}: set {setting} to the "
        "number on each machine, and trainer.num_nodes to the number of machines"
    )


def best_score(trainer: pl.Trainer) -> float:
    """Return the best score of the first checkpoint callback.

    Raises:
        ConfigError: training ended before its first validation, so there is no score.
    """
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if score is None:
        raise ConfigError(
            f"training ended after {trainer.global_step} steps, before its first validation, and "
            "left no best.ckpt: let it run for an epoch, or set trainer.val_check_interval"
        )
    return float(score)


def _quieten_lightning() -> None:
    """Silence advertisements, advice that would slow this loader, and torch's deprecations."""
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    if not any(isinstance(each, _NoTips) for each in rank_zero.filters):
        rank_zero.addFilter(_NoTips())
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # frozen parts
    warnings.filterwarnings("ignore", ".*number of training batches.*log_every_n_steps.*")
    warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view")  # channels last


_IDLE = ("Tip:", "to estimate number of stepping batches")


class _NoTips(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not any(words in record.getMessage() for words in _IDLE)
