"""Combine losses, gradients and embeddings of several processes.

Each process has a share of a step's images, and DDP averages their gradients. The losses here are
scaled so that this mean equals the gradient of a single process with all images of the step. In a
single process nothing changes.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed


def weight_loss(task: pl.LightningModule, loss: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Weight a mean loss by this process's share of the images.

    Args:
        task: task with the trainer, for the number of processes.
        loss: scalar, the mean over this process's images.
        n: number of this process's images.

    Returns:
        The mean over all images, equal in all processes and without a gradient; and the loss for
        this process to minimise, weighted by its number of images.
    """
    if task.trainer.world_size == 1:
        return loss.detach(), loss
    total, count = _summed(task, loss.detach() * n, n)
    return total / count, loss * (task.trainer.world_size * n / count)


def average_means(task: pl.LightningModule, means: list[tuple[Tensor, int]]) -> Tensor:
    """Average over the images of all processes, from means and their numbers of images.

    Lightning's own mean over processes rounds the number of images to multiples of the number of
    processes.
    """
    zero = torch.zeros((), device=task.device)
    total = torch.stack([zero, *(mean * n for mean, n in means if n)]).sum()
    total, count = _summed(task, total, sum(n for _, n in means))
    return total / count


def gather_rows(task: pl.LightningModule, *parts: Tensor) -> list[Tensor]:
    """Concatenate the rows of all processes, whose numbers may differ, by rank.

    Gradients go to this process's own rows alone. If each process has the same loss of all rows,
    the gradients of the processes add up to the whole gradient.

    Args:
        task: task with the trainer, for the number of processes.
        *parts: (n, ...) tensors, the same columns in every process.
    """
    if task.trainer.world_size == 1:
        return list(parts)
    sizes = _all_gather(task, torch.tensor([len(part) for part in parts])).cpu()
    columns = []
    for part, lengths in zip(parts, sizes.T.tolist(), strict=True):
        missing = part.new_zeros((max(lengths) - len(part), *part.shape[1:]))
        rows = _all_gather(task, torch.cat([part.detach(), missing])).to(part.device)
        shares = [share[:length] for share, length in zip(rows, lengths, strict=True)]
        shares[task.global_rank] = part
        columns.append(torch.cat(shares))
    return columns


def _summed(task: pl.LightningModule, total: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Sum a total and a count over all processes."""
    pair = torch.stack([total, torch.tensor(float(count), device=total.device)])
    if task.trainer.world_size > 1:
        pair = _all_gather(task, pair).sum(dim=0)
    return pair[0], pair[1]


def _all_gather(task: pl.LightningModule, own: Tensor) -> Tensor:
    """Stack the tensors of all processes, (processes, ...), which have equal shapes."""
    own = own.to(task.device).contiguous()
    tensors = [torch.empty_like(own) for _ in range(task.trainer.world_size)]
    distributed.all_gather(tensors, own)
    return torch.stack(tensors)
