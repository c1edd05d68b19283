"""Which devices there are, and which of them a run takes."""

from __future__ import annotations

import logging
from typing import Literal

import torch

from dedup.errors import ConfigError

log = logging.getLogger("dedup")

Gpus = int | list[int] | Literal["auto"]


def visible_gpus() -> int:
    """How many GPUs torch sees; Apple's counts as one."""
    return torch.cuda.device_count() or int(torch.backends.mps.is_available())


def choose_devices(
    gpus: Gpus, accelerator: str, n_visible: int, num_processes: int = 1, doing: str = "training"
) -> tuple[str, int | list[int]]:
    """Lightning's ``accelerator`` and ``devices`` for what was asked and what is there.

    Args:
        gpus: how many GPUs at most; ``auto`` takes one if there is one, -1 takes all, a list
            names them.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        n_visible: how many GPUs there are.
        num_processes: how many processes share the CPU, where it is the CPU.
        doing: what for, for the message.

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
        return "cpu", num_processes
    if len(usable) < len(wanted):
        what = f"{len(usable)} GPU(s)" if usable else "the CPU"
        log.warning(
            "trainer.gpus=%s, but %d GPU(s) can be seen: %s on %s", gpus, n_visible, doing, what
        )
    if not usable:
        return "cpu", num_processes
    return "gpu", usable if isinstance(gpus, list) else len(usable)


def embedding_devices(gpus: Gpus, accelerator: str, num_processes: int) -> list[str]:
    """The devices that images are embedded on, as torch names them, one for each process.

    Args:
        gpus: see ``choose_devices``.
        accelerator: see there.
        num_processes: see there.

    Raises:
        ConfigError: ``accelerator=gpu`` and fewer GPUs than asked for, or a contradiction.
    """
    n_visible = visible_gpus()
    kind, devices = choose_devices(gpus, accelerator, n_visible, num_processes, "embedding")
    if kind == "cpu" or not torch.cuda.is_available():  # Apple's GPU embeds nothing yet
        return ["cpu"] * num_processes
    return [f"cuda:{gpu}" for gpu in (devices if isinstance(devices, list) else range(devices))]
