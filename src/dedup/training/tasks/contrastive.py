"""Train an encoder to recognise edited copies of an image, by InfoNCE and KoLeo."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor, nn
from torch.nn import functional

from dedup.errors import ConfigError
from dedup.schemas import IMAGE_SHAPE
from dedup.training.distributed import gather_rows
from dedup.training.losses import check_finite
from dedup.training.tasks.retrieval import HeldOut, RankingTask
from dedup.training.views import ViewBatch

NEAREST = 1e-4
"""Smallest distance in the KoLeo term, which limits its gradient."""


class ContrastiveTask(RankingTask):
    """Contrastive learning of edited copies, with InfoNCE, KoLeo and AdamW.

    The objective is that of SSCD (Pizzi et al. 2022, arXiv:2202.10261), at the scale of a CPU. The
    learning rate rises for ``warmup`` steps. It then falls to 0 by half a cosine until the run
    ends by epochs, steps or time.

    Args:
        encoder: ``nn.Module`` with an attribute ``unit``, which is set for unit embeddings.
        lr: highest learning rate.
        weight_decay: decoupled weight decay (Loshchilov & Hutter 2019).
        temperature: temperature of the softmax over similarities.
        koleo: weight of the entropy term.
        warmup: number of warm-up steps, at most a tenth of the run.

    Raises:
        ConfigError: the encoder cannot give embeddings of unit length.
    """

    def __init__(
        self,
        encoder: nn.Module,
        lr: float = 1e-3,
        weight_decay: float = 1e-4,
        temperature: float = 0.07,
        koleo: float = 1.0,
        warmup: int = 50,
    ) -> None:
        if not hasattr(encoder, "unit"):
            raise ConfigError(
                f"task=contrastive needs embeddings of unit length, and {type(encoder).__name__} "
                "has no setting unit: choose another encoder, or give it the attribute unit"
            )
        super().__init__(encoder)
        cast(Any, encoder).unit = True
        self.save_hyperparameters(ignore=["encoder"])
        self.lr = lr
        self.weight_decay = weight_decay
        self.temperature = temperature
        self.koleo = koleo
        self.warmup = warmup

    def setup(self, stage: str) -> None:
        """Freeze unused parameters, whose gradients several processes would wait for."""
        if self.trainer.world_size > 1:
            freeze_unused(self.encoder)

    def loss(self, weak: Tensor, strong: Tensor, variants: Tensor, labels: Tensor) -> Tensor:
        """Both terms for the embeddings of a batch, (n, d), (n, d), (m, d) and labels (n,)."""
        views = torch.cat([weak, strong])
        return info_nce(views, variants, labels, self.temperature) + self.koleo * koleo(
            views, variants, labels
        )

    def training_step(self, batch: ViewBatch, batch_idx: int) -> Tensor:
        """Compute and log ``train/loss`` over the images of all processes.

        Each process has the same loss, and the gradient for its own images. DDP averages over the
        processes, although the sum is needed, so the loss is multiplied by their number.
        """
        loss = self.loss(*gather_rows(self, *self.embed(batch), batch.labels))
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return check_finite(loss, "training", self, self.lr) * self.trainer.world_size

    def measures(self, held_out: HeldOut) -> dict[str, float]:
        """Measure ``val/uap``, and ``val/loss`` of each held-out image and its first copy."""
        firsts, losses = held_out.by_round()[0], []
        for step in range(int(held_out.steps.max()) + 1):
            rows = held_out.steps == step
            variants = held_out.variants[torch.isin(held_out.variant_places, held_out.places[rows])]
            parts = held_out.originals[rows], firsts[rows], variants, held_out.labels[rows]
            losses.append(self.loss(*parts) * rows.sum())
        loss = check_finite(torch.stack(losses).sum() / len(firsts), "validation", self, self.lr)
        return {**super().measures(held_out), "val/loss": loss.item()}

    def configure_optimizers(self) -> Any:
        """Create AdamW in its fused form, with a schedule by step."""
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.lr, weight_decay=self.weight_decay, fused=True
        )
        total = float(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step, total))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def rate(self, step: int, total: float) -> float:
        """Compute the learning rate, as a share of ``lr``, at a step of ``total`` steps.

        If ``trainer.max_time`` ends the run earlier, time counts instead of steps.
        """
        warmup = min(self.warmup, total / 10)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = max(step / total, self._time_spent())
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def _time_spent(self) -> float:
        """Compute the share of ``trainer.max_time`` that has passed, by the first process."""
        trainer = cast(Any, self.trainer)
        timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]
        spent = max(map(_spent, timers), default=0.0)
        is_shared = bool(timers) and trainer.world_size > 1
        return float(trainer.strategy.broadcast(spent)) if is_shared else spent


def freeze_unused(encoder: nn.Module) -> None:
    """Freeze the parameters that do not affect embeddings, such as an autoencoder's decoder."""
    mode = encoder.training
    parameters = [each for each in encoder.parameters() if each.requires_grad]
    if not parameters:
        return
    image = torch.zeros((1, *IMAGE_SHAPE), dtype=torch.uint8, device=parameters[0].device)
    embedding = encoder.eval()(image).sum()
    gradients = torch.autograd.grad(embedding, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    encoder.train(mode)


def info_nce(views: Tensor, variants: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Compute NT-Xent: cross entropy of a view's partner against all negatives.

    van den Oord et al. 2018, arXiv:1807.03748, equation 4; between weak and strong views in both
    directions as in SimCLR (Chen et al. 2020, equation 1). Negatives are the views of other labels
    and all colour variants. Other views with the anchor's label are left out.

    Args:
        views: (2n, d) of unit length, n weak views and then their n strong partners.
        variants: (m, d) of unit length.
        labels: (n,).
        temperature: divisor of the similarities.

    Returns:
        The mean over the 2n anchors.
    """
    similar = views @ torch.cat([views, variants]).T / temperature
    n = len(labels)
    partner = torch.arange(2 * n, device=views.device).roll(n)
    allowed = negatives(labels, len(variants))
    allowed[torch.arange(2 * n, device=views.device), partner] = True
    return functional.cross_entropy(similar.masked_fill(~allowed, -math.inf), partner)


def koleo(views: Tensor, variants: Tensor, labels: Tensor) -> Tensor:
    """Compute the Kozachenko-Leonenko term: minus the mean log distance to the nearest negative.

    Sablayrolles et al. 2019, arXiv:1806.03198, equation 4, with positives left out as in SSCD.

    Args:
        views: (2n, d) of unit length.
        variants: (m, d) of unit length.
        labels: (n,).

    Returns:
        The mean over the views with a negative, or 0.
    """
    allowed = negatives(labels, len(variants))
    anchors = allowed.any(dim=1)
    others = torch.cat([views, variants])
    similar = (views @ others.T).masked_fill(~allowed, -math.inf)
    nearest = others[similar.argmax(dim=1)]
    distances = torch.linalg.vector_norm(views - nearest, dim=1)[anchors]
    logs: Tensor = distances.clamp(min=NEAREST).log()
    return -logs.sum() / max(len(logs), 1)


def negatives(labels: Tensor, n_variants: int) -> Tensor:
    """Mark the negatives of each view among 2n views and m variants, (2n, 2n + m) bool."""
    twice = labels.repeat(2)
    variants = torch.ones((len(twice), n_variants), dtype=torch.bool, device=labels.device)
    return torch.cat([twice[:, None] != twice, variants], dim=1)


def _spent(timer: Timer) -> float:
    """Compute the share of its time that a timer has measured."""
    if (remaining := timer.time_remaining()) is None:
        return 0.0
    elapsed = timer.time_elapsed()
    return elapsed / max(elapsed + remaining, 1e-9)
