"""Fit an encoder's whitening to a catalogue, in one pass without gradients."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from dedup.errors import ConfigError
from dedup.training.tasks.retrieval import RankingTask


class Whitened(Protocol):
    """Interface of an encoder with a whitening."""

    def features(self, images: Tensor) -> Tensor:
        """Map stored uint8 images to the features before whitening, (n, f)."""

    def fit_whitening(self, features: Tensor) -> None:
        """Fit the whitening to the features of many images, (n, f)."""


class WhiteningTask(RankingTask):
    """Whitening of the training images' features, in one epoch whatever the setting.

    Args:
        encoder: ``nn.Module`` with the methods ``features`` and ``fit_whitening``.

    Raises:
        ConfigError: the encoder lacks these methods.
    """

    def __init__(self, encoder: nn.Module) -> None:
        if not (hasattr(encoder, "features") and hasattr(encoder, "fit_whitening")):
            raise ConfigError(
                f"task=whitening: {type(encoder).__name__} has nothing to whiten. Choose "
                "encoder=efficientnet_lite0, or another task"
            )
        super().__init__(encoder)
        self.automatic_optimization = False
        self.collected: list[Tensor] = []
        # Lightning counts optimiser steps, and saves no checkpoint before the first step.
        self.passes = nn.Parameter(torch.zeros(()), requires_grad=False)

    def setup(self, stage: str) -> None:
        """Refuse several processes.

        Raises:
            ConfigError: the trainer uses several processes.
        """
        if self.trainer.world_size > 1:
            raise ConfigError(
                "task=whitening has no gradients that several processes could share: "
                "train it in one process, trainer.gpus=1 trainer.num_processes=1"
            )

    def on_train_epoch_start(self) -> None:
        """Forget the previous epoch."""
        self.collected.clear()

    @torch.no_grad()
    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Collect features; after the last batch, fit the whitening and stop."""
        encoder = cast(Whitened, self.encoder.eval())
        self.collected.append(encoder.features(batch).cpu())
        if self.trainer.is_last_batch:
            encoder.fit_whitening(torch.cat(self.collected))
            self.collected.clear()
            cast(torch.optim.Optimizer, self.optimizers()).step()
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the features collected so far, so that a run can resume within the epoch."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["collected"] = list(self.collected)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the features collected so far."""
        self.collected = list(checkpoint.get("collected", []))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create an optimiser that changes nothing."""
        return torch.optim.SGD([self.passes], lr=0.0)
