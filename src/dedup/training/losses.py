"""A loss that is no number ends a run before it spoils a checkpoint."""

from __future__ import annotations

import math

import pytorch_lightning as pl
from torch import Tensor

from dedup.errors import NonFiniteLossError


def check_finite(loss: Tensor, stage: str, task: pl.LightningModule, lr: float) -> Tensor:
    """The loss, if it is finite.

    Args:
        loss: one number.
        stage: ``training`` or ``validation``, for the message.
        task: says where the run is.
        lr: its learning rate.

    Raises:
        NonFiniteLossError: it is NaN or infinite; checkpoints written before stay as they are.
    """
    if not math.isfinite(loss.item()):
        raise NonFiniteLossError(
            f"the {stage} loss became {loss.item()} at step {task.global_step} of epoch "
            f"{task.current_epoch}: lower task.lr (it is {lr}) and go on from last.ckpt "
            "with resume=PATH"
        )
    return loss
