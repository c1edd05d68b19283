"""Train an encoder by redrawing its images, as the original experiment did."""

from __future__ import annotations

from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dedup.encoders.checkpoint import describe
from dedup.training.distributed import mean_of, weighted
from dedup.training.losses import check_finite


class Autoencoder(Protocol):
    """What an encoder offers to be trained by reconstruction."""

    def prepare(self, images: Tensor) -> Tensor:
        """Stored uint8 images to the float images that ``encode`` takes."""

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared images to embeddings (n, d) and what ``decode`` needs besides."""

    def decode(self, embeddings: Tensor, indices: Tensor) -> Tensor:
        """The way back."""


class AutoencoderTask(pl.LightningModule):
    """Mean squared error between an image and its reconstruction, by Adam.

    Args:
        encoder: an ``nn.Module`` that also offers ``prepare``, ``encode`` and ``decode``.
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
        """Redraw stored images, (n, 3, 200, 100) uint8.

        Returns:
            The prepared originals and their reconstructions, both (n, 3, 200, 100) float32.
        """
        autoencoder = cast(Autoencoder, self.encoder)
        pixels = autoencoder.prepare(images)
        return pixels, autoencoder.decode(*autoencoder.encode(pixels))

    def loss(self, images: Tensor, stage: str) -> Tensor:
        """Mean squared error over all pixels and channels.

        Raises:
            NonFiniteLossError: it is NaN or infinite; checkpoints written before stay as they are.
        """
        pixels, redrawn = self.reconstruct(images)
        loss = nn.functional.mse_loss(redrawn, pixels)
        return check_finite(loss, stage, self, self.lr)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Log ``train/loss`` at every logged step."""
        loss, share = weighted(self, self.loss(batch, "training"), len(batch))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return share

    def on_validation_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.held_out.clear()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Keep the loss of a batch, which is empty where processes outnumber images."""
        if len(batch):
            self.held_out.append((self.loss(batch, "validation"), len(batch)))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss`` over the held-out products, once an epoch."""
        self.log("val/loss", mean_of(self, self.held_out), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, its fused form."""
        return torch.optim.Adam(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the encoder, in plain values."""
        checkpoint["encoder"] = describe(self.encoder)
