"""Train an encoder by reconstruction of its images, as in the original experiment."""

from __future__ import annotations

from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dedup.encoders.checkpoint import describe
from dedup.training.distributed import average_means, weight_loss
from dedup.training.losses import check_finite


class Autoencoder(Protocol):
    """Interface of an encoder that can be trained by reconstruction."""

    def prepare(self, images: Tensor) -> Tensor:
        """Convert stored uint8 images to the float images for ``encode``."""

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map prepared images to embeddings (n, d) and the indices for ``decode``."""

    def decode(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """Map embeddings and indices back to images."""


class AutoencoderTask(pl.LightningModule):
    """Minimise the mean squared error between an image and its reconstruction, with Adam.

    Args:
        encoder: ``nn.Module`` with the methods ``prepare``, ``encode`` and ``decode``.
        lr: learning rate.
        weight_decay: L2 penalty, added to the gradient (Adam, not AdamW).
    """

    def __init__(self, encoder: nn.Module, lr: float = 3e-4, weight_decay: float = 1e-5) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder"])
        self.encoder = encoder
        self.lr = lr
        self.weight_decay = weight_decay
        self.held_out: list[tuple[Tensor, int]] = []

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct stored images, (n, 3, 200, 100) uint8.

        Returns:
            The prepared originals and their reconstructions, both (n, 3, 200, 100) float32.
        """
        autoencoder = cast(Autoencoder, self.encoder)
        pixels = autoencoder.prepare(images)
        return pixels, autoencoder.decode(*autoencoder.encode(pixels))

    def loss(self, images: Tensor, stage: str) -> Tensor:
        """Compute the mean squared error over all pixels and channels.

        Raises:
            NonFiniteLossError: the loss is NaN or infinite; earlier checkpoints are intact.
        """
        pixels, reconstructions = self.reconstruct(images)
        loss = nn.functional.mse_loss(reconstructions, pixels)
        return check_finite(loss, stage, self, self.lr)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Compute and log ``train/loss``."""
        loss, share = weight_loss(self, self.loss(batch, "training"), len(batch))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return share

    def on_validation_epoch_start(self) -> None:
        """Forget the previous epoch."""
        self.held_out.clear()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Keep the loss of a batch, which is empty if processes outnumber images."""
        if len(batch):
            self.held_out.append((self.loss(batch, "validation"), len(batch)))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss`` over the held-out products."""
        self.log("val/loss", average_means(self, self.held_out), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Create Adam in its fused form."""
        return torch.optim.Adam(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of the encoder, in plain values."""
        checkpoint["encoder"] = describe(self.encoder)
