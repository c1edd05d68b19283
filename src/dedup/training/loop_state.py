"""Save and restore the position of training between two steps, and the random states.

Lightning's own restart skips a validation that is due after the last step. ``set_loop_position``
writes the counters of its loops so that training resumes at exactly the same position.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch


class LoopPosition(NamedTuple):
    """A position between two steps.

    Attributes:
        epoch: epoch of the next images, from 0.
        steps: number of completed steps of the epoch.
        validating: whether a validation comes next.
    """

    epoch: int
    steps: int
    validating: bool = False


def loop_position(trainer: pl.Trainer) -> LoopPosition:
    """Return the position of a trainer, between two steps or during a validation."""
    loop: Any = trainer.fit_loop
    epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress
    steps = batches.current.processed
    if epochs.processed < epochs.started:
        return LoopPosition(epochs.processed, steps, bool(trainer.validating))
    if batches.is_last_batch:
        return LoopPosition(epochs.processed, 0)
    return LoopPosition(epochs.processed - 1, steps)  # ended early: by max_steps, max_time


def set_loop_position(loops: dict[str, Any], at: LoopPosition) -> None:
    """Rewrite the counters of a checkpoint's ``loops`` to resume at a position."""
    fit = loops["fit_loop"]
    n_begun = at.epoch + (at.steps > 0 or at.validating)
    batches, n_steps = fit["epoch_loop.batch_progress"], at.steps
    n_total = batches["total"]["processed"]
    batches["is_last_batch"] = batches["is_last_batch"] and at.validating
    for part, n_batches in (("total", n_total), ("current", n_steps)):
        fit["epoch_progress"][part] |= {
            "ready": n_begun, "started": n_begun, "processed": at.epoch, "completed": at.epoch,
        }  # fmt: skip
        batches[part] = dict.fromkeys(batches[part], n_batches)
        # A validation that has begun with no batch done: Lightning runs it from its start.
        fit["epoch_loop.val_loop.batch_progress"][part] |= {
            "ready": int(at.validating), "started": int(at.validating),
            "processed": 0, "completed": 0,
        }  # fmt: skip


def random_states() -> dict[str, Any]:
    """Collect the states of all random generators, as tensors and plain values."""
    _, key, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    state = numpy_state["state"]
    return {
        "python": [torch.tensor(key, dtype=torch.int64), gauss],
        "numpy": [torch.from_numpy(state["key"].astype(np.int64)), int(state["pos"]),
                  int(numpy_state["has_gauss"]), float(numpy_state["gauss"])],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }  # fmt: skip


def restore_random(states: dict[str, Any]) -> None:
    """Restore the states from ``random_states``; of GPUs, those that exist."""
    key, gauss = states["python"]
    random.setstate((3, tuple(key.tolist()), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available():
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)
