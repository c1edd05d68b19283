"""Measure ``val/uap``, the average precision at retrieving the originals of edited copies."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from dedup.encoders.checkpoint import describe
from dedup.runtime.metrics import average_precision
from dedup.training.distributed import gather_rows
from dedup.training.views import ViewBatch


class HeldOut(NamedTuple):
    """Embeddings of held-out images, on the CPU.

    Attributes:
        originals: (n, d).
        labels: (n,), equal for products that share an image.
        places: (n,), positions among the held-out images, from 0.
        steps: (n,), numbers of the batches.
        copies: (n * k, d), k edited copies of each image, grouped by image.
        copy_places: (n * k,), positions of the copies' originals.
        variants: (m, d), colour variants.
        variant_places: (m,), positions of the variants' originals.
    """

    originals: Tensor
    labels: Tensor
    places: Tensor
    steps: Tensor
    copies: Tensor
    copy_places: Tensor
    variants: Tensor
    variant_places: Tensor

    def in_order(self) -> HeldOut:
        """Sort by places, which gives the order of a single process."""
        rows, copies, variants = (
            places.argsort(stable=True)
            for places in (self.places, self.copy_places, self.variant_places)
        )
        return HeldOut(
            *(part[rows] for part in self[:4]),
            *(part[copies] for part in self[4:6]),
            *(part[variants] for part in self[6:]),
        )

    def by_round(self) -> Tensor:
        """Arrange the copies as (k, n, d)."""
        n = len(self.originals)
        return self.copies.view(n, len(self.copies) // n, -1).transpose(0, 1)


class RankingTask(pl.LightningModule):
    """Base of tasks whose validation ranks held-out images.

    Args:
        encoder: ``nn.Module`` from images (n, 3, 200, 100) uint8 to embeddings (n, d).
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.seen: list[HeldOut] = []

    def embed(self, batch: ViewBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the weak views, the strong views and the variants, in one pass."""
        parts = (batch.weak, batch.strong, batch.variants)
        weak, strong, variants = self.encoder(torch.cat(parts)).split([len(part) for part in parts])
        return weak, strong, variants

    def on_validation_epoch_start(self) -> None:
        """Forget the previous epoch."""
        self.seen.clear()

    def validation_step(self, batch: ViewBatch, batch_idx: int) -> None:
        """Keep the embeddings of a batch, which is empty if processes outnumber images."""
        originals, copies, variants = (part.cpu() for part in self.embed(batch))
        n, n_before = len(batch), sum(len(seen.places) for seen in self.seen)
        # The positions that ``RankSliceSampler`` gives to this process.
        places = torch.arange(n_before, n_before + n) * self.trainer.world_size + self.global_rank
        n_copies = len(copies) // max(n, 1)
        self.seen.append(
            HeldOut(
                originals=originals,
                labels=batch.labels.cpu(),
                places=places,
                steps=torch.full_like(places, len(self.seen)),
                copies=copies.view(n_copies, *originals.shape).transpose(0, 1).flatten(0, 1),
                copy_places=places.repeat_interleave(n_copies),
                variants=variants,
                variant_places=places[batch.variant_of.cpu()],
            )
        )

    def on_validation_epoch_end(self) -> None:
        """Measure and log over the held-out images of all processes."""
        own = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        held_out = HeldOut(*gather_rows(self, *own)).in_order()
        for name, value in self.measures(held_out).items():
            self.log(name, value, prog_bar=name == "val/uap", sync_dist=True)

    def measures(self, held_out: HeldOut) -> dict[str, float]:
        """Measure ``val/uap`` on the held-out images."""
        parts = held_out.originals, held_out.by_round(), held_out.variants, held_out.labels
        return {"val/uap": uap(*parts)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of the encoder, in plain values."""
        checkpoint["encoder"] = describe(self.encoder)


def uap(originals: Tensor, copies: Tensor, variants: Tensor, labels: Tensor) -> float:
    """Compute micro average precision of (copy or variant, original) pairs, ranked by distance.

    A copy matches its original. Pairs of a copy and another original with its label do not count.
    All other pairs are wrong, those of a colour variant and its own original included.

    Args:
        originals: embeddings (n, d).
        copies: embeddings (k, n, d).
        variants: embeddings (m, d).
        labels: (n,), equal for products that share an image.

    Returns:
        From 0 to 1; see ``dedup.runtime.metrics.average_precision``.
    """
    same = labels[:, None] == labels
    own = torch.eye(len(labels), dtype=torch.bool)
    n_copies = len(copies)
    queries = torch.cat([copies.flatten(0, 1), variants]).double()
    # Not by a matrix product, which is least exact for the smallest distances: they matter most.
    distances = torch.cdist(
        queries, originals.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    none = torch.zeros((len(variants), len(labels)), dtype=torch.bool)
    match = torch.cat([own.repeat(n_copies, 1), none])
    counted = ~torch.cat([(same & ~own).repeat(n_copies, 1), none])
    return average_precision(-distances[counted].numpy(), match[counted].numpy())
