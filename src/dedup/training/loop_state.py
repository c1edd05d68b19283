"""Where training is between two steps, in the counters of Lightning's loops, and chance.

Lightning's own restart knows the end of an epoch and the end of a step, and skips the validation
that is due after it. ``settle`` writes its counters so that training goes on at exactly the place
that it was at.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch


class LoopPosition(NamedTuple):
    """A place between two steps.

    Attributes:
        epoch: the epoch whose images are dealt next, from 0.
        steps: how many of its steps are done.
        validating: whether its next step is a validation.
    """

    epoch: int
    steps: int
    validating: bool = False


def loop_position(trainer: pl.Trainer) -> LoopPosition:
    """Where a trainer is; asked between a step and the next one, or in a validation."""
    loop: Any = trainer.fit_loop
    epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    steps = batches.current.processed
    if epochs.processed < epochs.started:
        return LoopPosition(epochs.processed, steps, bool(trainer.validating))
    if batches.is_last_batch:
        return LoopPosition(epochs.processed, 0)
    return LoopPosition(epochs.processed - 1, steps)  # ended early: by max_steps, max_time


def settle(loops: dict[str, Any], at: LoopPosition) -> None:
    """Rewrite the counters of a checkpoint's ``loops`` to go on at a place."""
    fit = loops["fit_loop"]
    begun = at.epoch + (at.steps > 0 or at.validating)
    batches, n_steps = fit["epoch_loop.batch_progress"], at.steps
    n_total = batches["total"]["processed"]
    batches["is_last_batch"] = batches["is_last_batch"] and at.validating
    for part, n_batches in (("total", n_total), ("current", n_steps)):
        fit["epoch_progress"][part] |= {
            "ready": begun, "started": begun, "processed": at.epoch, "completed": at.epoch,
        }  # fmt: skip
        batches[part] = dict.fromkeys(batches[part], n_batches)
        # A validation that was begun and has done nothing: Lightning runs it from its start.
        fit["epoch_loop.val_loop.batch_progress"][part] |= {
            "ready": int(at.validating), "started": int(at.validating),
            "processed": 0, "completed": 0,
        }  # fmt: skip


def random_states() -> dict[str, Any]:
    """The states of all generators of random numbers, as tensors and plain values."""
    _, key, gauss = random.getstate()
    drawn: Any = np.random.get_state(legacy=False)
    state = drawn["state"]
    return {
        "python": [torch.tensor(key, dtype=torch.int64), gauss],
        "numpy": [torch.from_numpy(state["key"].astype(np.int64)), int(state["pos"]),
                  int(drawn["has_gauss"]), float(drawn["gauss"])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }  # fmt: skip


def restore_random(states: dict[str, Any]) -> None:
    """Put back what ``random_states`` gave; of GPUs, those that are there."""
    key, gauss = states["python"]
    random.setstate((3, tuple(key.tolist()), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
