"""Choose the devices of a run: GPUs, or processes on the CPU."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from dedup.errors import ConfigError

log = logging.getLogger("dedup")

Gpus = int | list[int] | Literal["auto"]


def visible_gpus() -> int:
    """Count the GPUs that torch sees; Apple's counts as one."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def choose_devices(
    gpus: Gpus, accelerator: str, n_visible: int, num_processes: int = 1, doing: str = "training"
) -> tuple[str, int | list[int]]:
    """Choose Lightning's ``accelerator`` and ``devices`` by the settings and the visible GPUs.

    Args:
        gpus: largest number of GPUs; ``auto`` takes one if there is one, -1 takes all, a list
            names them.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        n_visible: number of visible GPUs.
        num_processes: number of processes on the CPU, if no GPU is used.
        doing: activity, for the message.

    Raises:
        ConfigError: ``accelerator=gpu`` with fewer visible GPUs than requested, or with none
            requested.
    """
    is_strict = accelerator == "gpu"
    n_available = max(n_visible, 1) if is_strict else n_visible
    if isinstance(gpus, list):
        requested = gpus
    elif gpus == "auto":
        requested = list(range(min(n_available, 1)))
    else:
        requested = list(range(n_available if gpus == -1 else gpus))
    if is_strict and not requested:
        raise ConfigError(
            "trainer.accelerator=gpu contradicts trainer.gpus=0: set trainer.gpus to 1 or more, or "
            "leave trainer.accelerator=auto"
        )
    usable = [gpu for gpu in requested if gpu < n_visible]
    if is_strict and len(usable) < len(requested):
        raise ConfigError(
            f"trainer.accelerator=gpu asks for {len(requested)} GPU(s) and {n_visible} can be "
            "seen: leave trainer.accelerator=auto to use the devices there are, or check the driver"
        )
    if accelerator == "cpu":
        return "cpu", num_processes
    if len(usable) < len(requested):
        device = f"{len(usable)} GPU(s)" if usable else "the CPU"
        log.warning(
            "trainer.gpus=%s, but %d GPU(s) can be seen: %s on %s", gpus, n_visible, doing, device
        )
    if not usable:
        return "cpu", num_processes
    return "gpu", usable if isinstance(gpus, list) else len(usable)


def embedding_devices(gpus: Gpus, accelerator: str, num_processes: int) -> list[str]:
    """Choose the devices for embedding, as torch names them, one for each process.

    Args:
        gpus: see ``choose_devices``.
        accelerator: see ``choose_devices``.
        num_processes: see ``choose_devices``.

    Raises:
        ConfigError: see ``choose_devices``.
    """
    n_visible = visible_gpus()
    kind, devices = choose_devices(gpus, accelerator, n_visible, num_processes, "embedding")
    if kind == "cpu" or not torch.cuda.is_available():  # Apple's GPU embeds nothing yet
        return ["cpu"] * num_processes
    return [f"cuda:{gpu}" for gpu in (devices if isinstance(devices, list) else range(devices))]
