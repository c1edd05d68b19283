"""Pooled and unpooled convolutions beside PyTorch's own operators, and beside differences."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dedup.encoders.pooled_convolution import (
    KERNEL,
    POOL,
    gathered,
    pooled_convolution,
    scattered,
    unpooled_convolution,
)

SIZES = [(1, 3, 5, 1, 1), (2, 6, 16, 5, 3), (3, 1, 1, 2, 4), (0, 2, 3, 2, 2)]


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_pooled(x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    dense = functional.conv2d(x, weight, bias)
    return functional.max_pool2d_with_indices(dense.relu() if relu else dense, [POOL, POOL])


def plain_unpooled(pooled: Tensor, indices: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.conv_transpose2d(
        functional.max_unpool2d(pooled, indices, [POOL, POOL]), weight, bias
    )


@pytest.fixture(params=SIZES, ids=str)
def given(request: pytest.FixtureRequest) -> tuple[Tensor, ...]:
    """An image, a kernel and biases for both directions, float64."""
    n, channels, depth, height, width = request.param
    x = numbers(n, channels, POOL * height + KERNEL - 1, POOL * width + KERNEL - 1, seed=1)
    return x, numbers(depth, channels, KERNEL, KERNEL), numbers(depth), numbers(channels)


def compared(
    own: tuple[Tensor, ...], plain: tuple[Tensor, ...], inputs: tuple[Tensor, ...]
) -> None:
    """Equal results, and equal gradients of one weighted sum of them."""
    torch.testing.assert_close(own, plain)
    ones = numbers(*own[0].shape, seed=9)
    found, expected = (
        torch.autograd.grad((result[0] * ones).sum(), inputs) for result in (own, plain)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_results_and_gradients_are_those_of_the_layers(
    given: tuple[Tensor, ...], relu: bool, memory_format: torch.memory_format
) -> None:
    x, weight, bias, back = (part.requires_grad_() for part in given)
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    own, plain = pooled_convolution(x, weight, bias, relu), plain_pooled(x, weight, bias, relu)
    compared(own, plain, (x, weight, bias))
    pooled = own[0].detach().contiguous(memory_format=memory_format).requires_grad_()
    own_back = unpooled_convolution(pooled, own[1], weight, back)
    plain_back = plain_unpooled(pooled, own[1], weight, back)
    compared((own_back,), (plain_back,), (pooled, weight, back))


def test_gradients_are_those_of_differences() -> None:
    x, weight, bias = numbers(2, 2, 8, 12, seed=1), numbers(3, 2, 5, 5), numbers(3)
    inputs = [part.requires_grad_() for part in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *a: pooled_convolution(*a, False)[0], inputs)
    pooled, indices = pooled_convolution(*inputs, False)
    inputs = [pooled.detach().requires_grad_(), weight, numbers(2).requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda pooled, *rest: unpooled_convolution(pooled, indices, *rest), inputs
    )


def test_a_image_alone_needs_no_gradient_for_it() -> None:
    x, weight, bias = numbers(1, 2, 8, 8), numbers(3, 2, 5, 5).requires_grad_(), numbers(3)
    pooled, _ = pooled_convolution(x, weight, bias, False)
    pooled.sum().backward()
    assert x.grad is None
    assert weight.grad is not None


def test_scattering_is_the_adjoint_of_gathering() -> None:
    x, weight = numbers(2, 6, 24, 16, seed=1), numbers(4, 6, 5, 5)
    dense = functional.conv2d(x, weight)
    indices = functional.max_pool2d_with_indices(dense, [POOL, POOL])[1]
    pooled = numbers(*indices.shape, seed=2)
    there, back = gathered(dense, indices), scattered(pooled, indices, weight)
    torch.testing.assert_close((there * pooled).sum(), (x * back).sum())
