"""``val/uap``: how well an encoder tells edited copies of held-out pictures from all else."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dedup.checkpoint import describe
from dedup.metrics import average_precision
from dedup.views import ViewBatch


class RankingTask(pl.LightningModule):
    """A task whose validation ranks held-out pictures; its checkpoints describe the encoder.

    Args:
        encoder: an ``nn.Module`` from pictures (n, 3, 200, 100) uint8 to embeddings (n, d).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.seen: list[tuple[Tensor, ...]] = []

    def embed(self, batch: ViewBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings of the weak views, the strong ones and the variants, in one pass."""
        parts = (batch.weak, batch.strong, batch.variants)
        weak, strong, variants = self.encoder(torch.cat(parts)).split([len(part) for part in parts])
        return weak, strong, variants

    def on_validation_epoch_start(self) -> None:
        """Forget the epoch before."""
        self.seen.clear()

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        """Keep the embeddings of a batch."""
        self.keep(*self.embed(batch), batch.labels)

    def keep(self, originals: Tensor, copies: Tensor, variants: Tensor, labels: Tensor) -> None:
        """Keep embeddings for ``val/uap``."""
        copies = copies.view(-1, *originals.shape)
        self.seen.append(tuple(part.cpu() for part in (originals, copies, variants, labels)))

    def on_validation_epoch_end(self) -> None:
        """Log ``val/uap`` over the held-out pictures, once an epoch."""
        originals, copies, variants, labels = zip(*self.seen, strict=True)
        score = uap(
            torch.cat(originals), torch.cat(copies, dim=1), torch.cat(variants), torch.cat(labels)
        )
        self.log("val/uap", score, prog_bar=True, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what rebuilds the encoder, in plain values."""
        checkpoint["encoder"] = describe(self.encoder)


def uap(originals: Tensor, copies: Tensor, variants: Tensor, labels: Tensor) -> float:
    """Micro average precision of the pairs (edited copy or colour variant, original) by distance.

    A copy matches its original; pairs of a copy and another original with its label do not count;
    all others are wrong, those of a variant and the picture that it was made of among them.

    Args:
        originals: embeddings (n, d).
        copies: embeddings (k, n, d).
        variants: embeddings (m, d).
        labels: (n,), equal for products that share a picture.

    Returns:
        From 0 to 1; see ``dedup.metrics.average_precision``.
    """
    same = labels[:, None] == labels
    own = torch.eye(len(labels), dtype=torch.bool)
    n_copies = len(copies)
    queries = torch.cat([copies.flatten(0, 1), variants]).double()
    # Not by a matrix product: the smallest distances, which decide, would be the least exact.
    distances = torch.cdist(
        queries, originals.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    none = torch.zeros((len(variants), len(labels)), dtype=torch.bool)
    match = torch.cat([own.repeat(n_copies, 1), none])
    counted = ~torch.cat([(same & ~own).repeat(n_copies, 1), none])
    return average_precision(-distances[counted].numpy(), match[counted].numpy())
