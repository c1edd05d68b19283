"""Fit an encoder's whitening to a catalogue, in one pass and without a gradient."""

from __future__ import annotations

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from dedup.errors import ConfigError
from dedup.training.tasks.retrieval import RankingTask


class Whitened(Protocol):
    """What an encoder offers to be whitened."""

    def features(self, images: Tensor) -> Tensor:
        """Stored uint8 images to what the whitening maps, (n, f)."""

    def fit_whitening(self, features: Tensor) -> None:
        """Choose the whitening by the features of many images, (n, f)."""


class WhiteningTask(RankingTask):
    """Whitening by the training pictures' features; one epoch is all there is, however many asked.

    Args:
        encoder: an ``nn.Module`` that also offers ``features`` and ``fit_whitening``.

    Raises:
        ConfigError: it does not.
    """

    def __init__(self, encoder: nn.Module) -> None:
        if not (hasattr(encoder, "features") and hasattr(encoder, "fit_whitening")):
            raise ConfigError(f"task=whitening: {type(encoder).__name__} has nothing to whiten")
        super().__init__(encoder)
        self.automatic_optimization = False
        self.collected: list[Tensor] = []
        # Lightning counts optimiser steps, and saves no checkpoint before the first.
        self.passes = nn.Parameter(torch.zeros(()), requires_grad=False)

    def setup(self, stage: str) -> None:
        """Refuse several processes.

        Raises:
            ConfigError: there are.
        """
        if self.trainer.world_size > 1:
            raise ConfigError(
                "task=whitening is one pass over the features of all images, without a gradient "
                "to share: train it in one process, trainer.gpus=1 trainer.num_processes=1"
            )

    def on_train_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.collected.clear()

    @torch.no_grad()
    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Collect features; after the last batch fit, before validation, and stop."""
        encoder = cast(Whitened, self.encoder.eval())
        self.collected.append(encoder.features(batch).cpu())
        if self.trainer.is_last_batch:
            encoder.fit_whitening(torch.cat(self.collected))
            self.collected.clear()
            cast(torch.optim.Optimizer, self.optimizers()).step()
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the features collected so far: a run may go on in the middle of the epoch."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["collected"] = list(self.collected)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on collecting."""
        self.collected = list(checkpoint.get("collected", []))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One that changes nothing."""
        return torch.optim.SGD([self.passes], lr=0.0)
