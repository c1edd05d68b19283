"""What several processes know together of a step: the loss, its gradient, the embeddings.

Each process has a share of a step's images. DDP takes the mean of the processes' gradients, so
what each of them descends is chosen such that this mean is the gradient of one process with all
images of the step. In one process everything is as it was.
"""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed


def weighted(task: pl.LightningModule, loss: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """A loss that is a mean over images, over the images of all processes.

    Args:
        task: says how many processes there are.
        loss: one number, the mean over this process's images.
        n: how many these are.

    Returns:
        The mean over all images, equal in all processes and without a gradient; and what this
        process is to descend, so that shares of unlike size have the weight that they should.
    """
    if task.trainer.world_size == 1:
        return loss.detach(), loss
    total, count = _summed(task, loss.detach() * n, n)
    return total / count, loss * (task.trainer.world_size * n / count)


def mean_of(task: pl.LightningModule, means: list[tuple[Tensor, int]]) -> Tensor:
    """The mean over all images of all processes, from means and their numbers of images.

    Lightning's own mean over processes rounds the number of images to whole multiples of the
    number of processes.
    """
    zero = torch.zeros((), device=task.device)
    total = torch.stack([zero, *(mean * n for mean, n in means if n)]).sum()
    total, count = _summed(task, total, sum(n for _, n in means))
    return total / count


def gathered(task: pl.LightningModule, *parts: Tensor) -> list[Tensor]:
    """The rows of all processes, in the order of the processes, however many each has.

    A gradient goes to this process's own rows alone. Where each process has the same loss of all
    rows, the sum of the gradients over the processes is the whole.

    Args:
        task: says how many processes there are.
        *parts: (n, ...) tensors, the same columns in every process.
    """
    if task.trainer.world_size == 1:
        return list(parts)
    sizes = _each(task, torch.tensor([len(part) for part in parts])).cpu()
    columns = []
    for part, lengths in zip(parts, sizes.T.tolist(), strict=True):
        missing = part.new_zeros((max(lengths) - len(part), *part.shape[1:]))
        rows = _each(task, torch.cat([part.detach(), missing])).to(part.device)
        shares = [share[:length] for share, length in zip(rows, lengths, strict=True)]
        shares[task.global_rank] = part
        columns.append(torch.cat(shares))
    return columns


def _summed(task: pl.LightningModule, total: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The sums over all processes."""
    pair = torch.stack([total, torch.tensor(float(count), device=total.device)])
    if task.trainer.world_size > 1:
        pair = _each(task, pair).sum(dim=0)
    return pair[0], pair[1]


def _each(task: pl.LightningModule, mine: Tensor) -> Tensor:
    """The tensor of each process, (processes, ...), all of one shape."""
    mine = mine.to(task.device).contiguous()
    each = [torch.empty_like(mine) for _ in range(task.trainer.world_size)]
    distributed.all_gather(each, mine)
    return torch.stack(each)
