"""Fuse convolution with max pooling, and their mirror, without the work on zeros.

Max pooling keeps a sixteenth of the numbers. So the gradient through it, and the input of the
transposed convolution after max unpooling, are 15/16 zeros. The transposed convolution here adds
up the other numbers alone. These are the same sums in another order, so results agree with
PyTorch's operators to float32 rounding. It pays on a CPU only.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_weight

KERNEL = 5
POOL = 4


def pooled_convolution(
    x: Tensor, weight: Tensor, bias: Tensor, relu: bool
) -> tuple[Tensor, Tensor]:
    """Compute ``max_pool2d(conv2d(x, weight, bias), 4)``, optionally with a ReLU between.

    Args:
        x: (n, c, h + 4, w + 4) float32, h and w multiples of 4.
        weight: (d, c, 5, 5).
        bias: (d,).
        relu: whether a ReLU precedes the pooling.

    Returns:
        The maxima, (n, d, h / 4, w / 4), and their indices, as from ``max_pool2d``.
    """
    pooled, indices = cast(Any, _PooledConvolution).apply(x, weight, bias, relu)
    return pooled, indices


def unpooled_convolution(pooled: Tensor, indices: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute ``conv_transpose2d(max_unpool2d(pooled, indices, 4), weight, bias)``.

    Args:
        pooled: (n, d, h, w) float32.
        indices: indices of the maxima, as from ``max_pool2d``.
        weight: (d, c, 5, 5).
        bias: (c,).

    Returns:
        (n, c, 4h + 4, 4w + 4), channels last.
    """
    result: Tensor = cast(Any, _UnpooledConvolution).apply(pooled, indices, weight, bias)
    return result


class _PooledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor]:
        dense = functional.conv2d(x, weight, bias)
        if relu:
            dense.relu_()
        pooled, indices = functional.max_pool2d(dense, POOL, return_indices=True)
        ctx.save_for_backward(x, weight, indices, pooled if relu else None)
        ctx.mark_non_differentiable(indices)
        return pooled, indices

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, indices, pooled = ctx.saved_tensors
        gradient = gradients[0] if pooled is None else gradients[0] * (pooled > 0)
        back = scattered(gradient, indices, weight) if ctx.needs_input_grad[0] else None
        by_weight = _by_weight(x, weight, _unpooled(gradient, indices))
        return back, by_weight, gradient.sum((0, 2, 3)), None


class _UnpooledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pooled: Tensor, indices: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(pooled, indices, weight)
        return scattered(pooled, indices, weight).add_(bias[:, None, None])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pooled, indices, weight = ctx.saved_tensors
        gradient = gradients[0]
        back = gathered(functional.conv2d(gradient, weight), indices)
        by_weight = _by_weight(gradient, weight, _unpooled(pooled, indices))
        return back, None, by_weight, gradient.sum((0, 2, 3))


def scattered(pooled: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    """Apply a transposed convolution to max-unpooled numbers.

    A block of 4 x 4 results is a sum over the pooled numbers of the four cells over and beside it.
    Each number multiplies a row of a table of 4 * d * 16 rows: one for each quadrant, channel and
    place in the cell.

    Args:
        pooled: (n, d, h, w) float32.
        indices: (n, d, h, w), as from ``max_pool2d``.
        weight: (d, c, 5, 5).

    Returns:
        (n, c, 4h + 4, 4w + 4), channels last, without a bias.
    """
    n, depth, height, width = pooled.shape
    channels, places = weight.shape[1], POOL * POOL
    row = _places(height, width)[indices.permute(0, 2, 3, 1)]
    row = row + torch.arange(depth, dtype=torch.int32) * places
    rows = torch.zeros((n, height + 1, width + 1, 4, depth), dtype=torch.int32)
    numbers = pooled.new_zeros(rows.shape)
    for quadrant in range(4):
        below, right = divmod(quadrant, 2)
        block = slice(None), slice(below, below + height), slice(right, right + width), quadrant
        rows[block] = row + quadrant * depth * places
        numbers[block] = pooled.permute(0, 2, 3, 1)
    blocks = functional.embedding_bag(
        rows.view(-1, 4 * depth), _table(weight), mode="sum",
        per_sample_weights=numbers.view(-1, 4 * depth),
    )  # fmt: skip
    blocks = blocks.view(n, height + 1, width + 1, POOL, POOL, channels).permute(0, 1, 3, 2, 4, 5)
    shape = n, POOL * (height + 1), POOL * (width + 1), channels
    return blocks.reshape(shape).permute(0, 3, 1, 2)


def gathered(dense: Tensor, indices: Tensor) -> Tensor:
    """Select from each cell of 4 x 4 the number at the index of an earlier max pooling.

    Args:
        dense: (n, d, 4h, 4w), channels last.
        indices: (n, d, h, w), as from ``max_pool2d``.

    Returns:
        (n, d, h, w), channels last.
    """
    flat = dense.permute(0, 2, 3, 1).flatten(1, 2)
    chosen = flat.gather(1, indices.permute(0, 2, 3, 1).flatten(1, 2))
    n, depth, height, width = indices.shape
    return chosen.view(n, height, width, depth).permute(0, 3, 1, 2)


def _unpooled(pooled: Tensor, indices: Tensor) -> Tensor:
    """Put each number at its index, (n, d, 4h, 4w), channels last."""
    aligned = pooled.contiguous(memory_format=torch.channels_last)
    return functional.max_unpool2d(aligned, indices, [POOL, POOL])


def _by_weight(x: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Compute the gradient with respect to a convolution's weight."""
    by_weight: Tensor = cast(Any, conv2d_weight)(x, weight.shape, gradient)
    return by_weight


def _places(height: int, width: int) -> Tensor:
    """Map each index into a (4h, 4w) plane to its place in the cell, 0 to 15, int32."""
    down, right = torch.arange(POOL * height), torch.arange(POOL * width)
    return (down % POOL * POOL)[:, None].add(right % POOL).flatten().int()


def _table(weight: Tensor) -> Tensor:
    """Build the table of a number's contributions to four 4 x 4 blocks, (4 * d * 16, 16 * c)."""
    depth, channels = weight.shape[:2]
    around = weight.new_zeros(depth, POOL, POOL, 2 * POOL, 2 * POOL, channels)
    kernels = weight.permute(0, 2, 3, 1)
    for down in range(POOL):
        for right in range(POOL):
            around[:, down, right, down : down + KERNEL, right : right + KERNEL] = kernels
    split = around.view(depth, POOL * POOL, 2, POOL, 2, POOL, channels)
    return split.permute(2, 4, 0, 1, 3, 5, 6).reshape(-1, POOL * POOL * channels)
