"""Callbacks for TensorBoard: speed, reconstructions, views and the embedding projector."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard.writer import SummaryWriter

from dedup.errors import ConfigError
from dedup.training.datamodule import CatalogueDataModule
from dedup.training.tasks.autoencoder import AutoencoderTask
from dedup.training.views import ViewBatch

SPRITE = 48
"""Side of a projector thumbnail in pixels; TensorBoard asks for squares."""


class Throughput(pl.Callback):
    """Log ``train/images_per_second``, over loading, both passes and the optimiser's step.

    In a batch of views, anchors are counted.
    """

    def __init__(self) -> None:
        self.last_time = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, since a run may resume in the middle of an epoch."""
        self.last_time = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restart the clock, so that validation is not counted."""
        self.last_time = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Tensor | ViewBatch,
        batch_idx: int,
    ) -> None:
        """Log the speed since the previous batch."""
        now = time.perf_counter()
        rate = len(batch) * trainer.world_size / (now - self.last_time)
        pl_module.log("train/images_per_second", rate, prog_bar=True, batch_size=len(batch))
        self.last_time = now


class Reconstructions(pl.Callback):
    """Show held-out originals above their reconstructions, and log ``val/ssim``, after each epoch.

    It works with a task that has the method ``reconstruct``, and ignores others.

    Args:
        n_images: number of images, at least 1.

    Raises:
        ConfigError: the number is less than 1.
    """

    def __init__(self, n_images: int = 8) -> None:
        if n_images < 1:
            raise ConfigError(
                f"callbacks.reconstructions.n_images={n_images} is too few: set it to 1 or more"
            )
        self.n_images = n_images

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reconstruct, measure and show.

        ``val/ssim`` is the mean structural similarity over the images, -1 to 1, higher is
        closer (Wang et al. 2004, as scikit-image computes it).
        """
        if trainer.sanity_checking or not hasattr(pl_module, "reconstruct"):
            return
        task, data = cast(AutoencoderTask, pl_module), cast(CatalogueDataModule, _data(trainer))
        # Spread over the products, since ids often begin with the kind of garment.
        places = np.linspace(0, len(data.val_images) - 1, self.n_images).round().astype(int)
        stored = data.stored_images(data.val_images.iloc[np.unique(places)])
        images = stored.__getitems__(range(len(stored))).to(task.device)
        rows = [pixels.clamp(0, 1).float().cpu() for pixels in task.reconstruct(images)]
        scores = [
            structural_similarity(original, reconstruction, channel_axis=0, data_range=1.0)
            for original, reconstruction in zip(*(row.numpy() for row in rows), strict=True)
        ]
        task.log("val/ssim", float(np.mean(scores)), batch_size=len(images), sync_dist=True)
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        _writer(trainer).add_image("val/reconstructions", grid, trainer.global_step)


class DrawnViews(pl.Callback):
    """Show weak views above strong views above colour variants, at the start of each epoch.

    It ignores batches without views. An anchor without a variant shows white in its place.

    Args:
        n_images: number of anchors, at least 1.

    Raises:
        ConfigError: the number is less than 1.
    """

    def __init__(self, n_images: int = 8) -> None:
        if n_images < 1:
            raise ConfigError(
                f"callbacks.views.n_images={n_images} is too few: set it to 1 or more"
            )
        self.n_images = n_images

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Tensor | ViewBatch,
        batch_idx: int,
    ) -> None:
        """Show the first batch, anchors with a variant first."""
        if batch_idx or not isinstance(batch, ViewBatch) or not trainer.is_global_zero:
            return
        variants = torch.full_like(batch.weak, 255)
        variants[batch.variant_of] = batch.variants
        rest = torch.ones(len(batch), dtype=torch.bool, device=batch.weak.device)
        rest[batch.variant_of] = False
        shown = torch.cat([batch.variant_of, rest.nonzero().flatten()])[: self.n_images]
        rows = [part[shown] for part in (batch.weak, batch.strong, variants)]
        grid = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        _writer(trainer).add_image("train/views", grid.cpu(), trainer.global_step)


class EmbeddingProjector(pl.Callback):
    """Show held-out products in TensorBoard's projector, with thumbnails, after training.

    Args:
        n_images: largest number of points, 1 to 5000.

    Raises:
        ConfigError: the number is out of range.
    """

    def __init__(self, n_images: int = 1000) -> None:
        if not 1 <= n_images <= 5000:
            raise ConfigError(
                f"callbacks.projector.n_images={n_images}: set it to a number from 1 to 5000"
            )
        self.n_images = n_images

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Embed the images, and write points and thumbnails, in the first process alone."""
        if not trainer.is_global_zero:
            return
        data = cast(CatalogueDataModule, _data(trainer))
        shown = data.val_images[: self.n_images]
        images = data.stored_images(shown)
        batches = [
            images.__getitems__(range(start, min(start + data.batch_size, len(images))))
            for start in range(0, len(images), data.batch_size)
        ]
        encoder = cast(Any, pl_module).encoder.eval()
        embeddings = torch.cat([encoder(batch.to(pl_module.device)).cpu() for batch in batches])
        _writer(trainer).add_embedding(
            embeddings,
            metadata=[[_cell(x) for x in row] for row in shown[["product_id", "url"]].to_numpy()],
            metadata_header=["product_id", "url"],
            label_img=torch.cat([thumbnails(batch) for batch in batches]),
            global_step=trainer.global_step,
            tag="products",
        )


def thumbnails(images: Tensor) -> Tensor:
    """Make square thumbnails, (n, 3, 200, 100) uint8 to (n, 3, 48, 48) between 0 and 1."""
    small = functional.interpolate(
        images.float() / 255, size=(SPRITE, SPRITE * 3 // 4), mode="area"
    )
    margin = SPRITE - small.shape[-1]
    return functional.pad(small, (margin // 2, margin - margin // 2), value=1.0)


def _cell(value: str) -> str:
    """Replace white space, so that a value stays one cell of a table of tabs and lines."""
    return " ".join(value.split())


def _data(trainer: pl.Trainer) -> Any:
    return cast(Any, trainer).datamodule


def _writer(trainer: pl.Trainer) -> SummaryWriter:
    return cast(SummaryWriter, cast(Any, trainer.logger).experiment)
