"""Stop training on a loss that is not finite, before it is saved in a checkpoint."""

from __future__ import annotations

import math

import pytorch_lightning as pl
from torch import Tensor

from dedup.errors import NonFiniteLossError


def check_finite(loss: Tensor, stage: str, task: pl.LightningModule, lr: float) -> Tensor:
    """Return the loss if it is finite.

    Args:
        loss: scalar loss.
        stage: ``training`` or ``validation``, for the message.
        task: task with the current step and epoch, for the message.
        lr: learning rate, for the message.

    Raises:
        NonFiniteLossError: the loss is NaN or infinite; earlier checkpoints are intact.
    """
    if not math.isfinite(loss.item()):
        raise NonFiniteLossError(
            f"the {stage} loss became {loss.item()} at step {task.global_step} of epoch "
            f"{task.current_epoch}: lower task.lr (it is {lr}) and resume from last.ckpt "
            "with resume=PATH"
        )
    return loss
