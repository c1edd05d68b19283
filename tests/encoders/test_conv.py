"""The convolutional autoencoder beside the original's figures and a plain re-implementation."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.encoders.conv import ConvAutoencoder
from tests.conftest import draw

PARAMETERS = {
    "conv1": 6 * 3 * 5 * 5 + 6,
    "conv2": 16 * 6 * 5 * 5 + 16,
    "hidden": 17_664 * 1024 + 1024,
    "embedding": 1024 * 256 + 256,
    "unembedding": 256 * 1024 + 1024,
    "unhidden": 1024 * 17_664 + 17_664,
    "unconv2": 16 * 6 * 5 * 5 + 6,
    "unconv1": 6 * 3 * 5 * 5 + 3,
}
SHAPES = {
    "conv1": (6, 196, 96),
    "conv2": (16, 192, 92),
    "pool": (16, 48, 23),
    "hidden": (1024,),
    "embedding": (256,),
    "unembedding": (1024,),
    "unhidden": (17_664,),
    "unpool": (16, 192, 92),
    "unconv2": (6, 196, 96),
    "unconv1": (3, 200, 100),
}
"""After each layer, for one image."""


def random_images(n: int) -> Tensor:
    """Drawn images, (n, 3, 200, 100) uint8."""
    drawn = [
        torch.frombuffer(bytearray(draw(i, (100, 200)).tobytes()), dtype=torch.uint8)
        for i in range(n)
    ]
    return torch.stack([image.reshape(200, 100, 3).permute(2, 0, 1) for image in drawn])


def small(extra_relu: bool = False) -> ConvAutoencoder:
    torch.manual_seed(1)
    return ConvAutoencoder(embedding_dim=8, hidden_dim=16, extra_relu=extra_relu)


def notebook(weights: dict[str, Tensor], x: Tensor, extra_relu: bool) -> tuple[Tensor, Tensor]:
    """The network written out as the notebook of 2019 would: embedding and reconstruction."""

    def layer(name: str) -> tuple[Tensor, Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    x = functional.relu(functional.conv2d(x, *layer("conv1")))
    x = functional.conv2d(x, *layer("conv2"))
    if extra_relu:
        x = functional.relu(x)
    x, indices = functional.max_pool2d_with_indices(x, [4, 4])
    x = functional.linear(x.reshape(-1, 16 * 48 * 23), *layer("hidden"))
    embedding = functional.linear(x, *layer("embedding"))
    x = functional.linear(embedding, *layer("unembedding"))
    x = functional.linear(x, *layer("unhidden")).reshape(-1, 16, 48, 23)
    x = functional.max_unpool2d(x, indices, [4, 4])
    x = functional.relu(functional.conv_transpose2d(x, *layer("unconv2")))
    x = functional.conv_transpose2d(x, *layer("unconv1"))
    return embedding, functional.relu(x) if extra_relu else x


@pytest.fixture(scope="module")
def original() -> ConvAutoencoder:
    """The network with its defaults: the original's size."""
    torch.manual_seed(0)
    return ConvAutoencoder()


def test_it_has_the_parameters_of_the_original(original: ConvAutoencoder) -> None:
    found = {
        name: sum(weight.numel() for weight in layer.parameters())
        for name, layer in original.named_children()
        if list(layer.parameters())
    }
    assert found == PARAMETERS
    assert sum(weight.numel() for weight in original.parameters()) == 36_725_859


def test_every_layer_has_the_shape_of_the_original(original: ConvAutoencoder) -> None:
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> None:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            result = output[0] if isinstance(output, tuple) else output
            found[name] = tuple(result.shape)

        hooks.append(original.get_submodule(name).register_forward_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    original = copy.deepcopy(original).to("meta")  # every layer on its own, as on a GPU
    for name in SHAPES:
        note(name)
    original.decode(*original.encode(original.prepare(random_images(2).to("meta"))))
    for hook in hooks:
        hook.remove()

    assert found == {name: (2, *shape) for name, shape in SHAPES.items()}


def test_other_widths_change_only_the_layers_they_name() -> None:
    net = ConvAutoencoder(embedding_dim=5, hidden_dim=7, channels=[2, 3])
    pixels = net.prepare(random_images(2))
    embeddings, indices = net.encode(pixels)
    assert embeddings.shape == (2, 5)
    assert indices.shape == (2, 3, 48, 23)
    assert net.decode(embeddings, indices).shape == (2, 3, 200, 100)
    assert net.hidden.out_features == 7


@pytest.mark.parametrize("extra_relu", [False, True])
def test_it_computes_what_the_notebook_computed(extra_relu: bool) -> None:
    net = small(extra_relu)
    weights = {
        name: weight.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        for name, weight in net.named_parameters()
    }
    images = random_images(3)
    expected_pixels = images.contiguous().float() / 255
    expected = notebook(weights, expected_pixels, extra_relu)
    expected_loss = functional.mse_loss(expected[1], expected_pixels)
    expected_gradients = torch.autograd.grad(expected_loss, list(weights.values()))

    pixels = net.prepare(images)
    embeddings, indices = net.encode(pixels)
    redrawn = net.decode(embeddings, indices)
    loss = functional.mse_loss(redrawn, pixels)
    gradients = torch.autograd.grad(loss, list(net.parameters()))

    torch.testing.assert_close(embeddings, expected[0])
    torch.testing.assert_close(redrawn, expected[1])
    torch.testing.assert_close(gradients, expected_gradients)


def test_the_notebooks_second_relu_leaves_nothing_negative() -> None:
    images = random_images(2)
    with_relu, without = small(extra_relu=True), small()
    plain = without.decode(*without.encode(without.prepare(images)))
    redrawn = with_relu.decode(*with_relu.encode(with_relu.prepare(images)))
    assert plain.min() < 0
    assert redrawn.min() >= 0


def test_flat_images_pool_the_first_of_equal_pixels() -> None:
    # All pixels of a window tie; the memory format must not decide which of them is taken.
    net = small()
    images = torch.full((1, 3, 200, 100), 255, dtype=torch.uint8)
    hidden = net.conv2(torch.relu(net.conv1(net.prepare(images))))
    flat = hidden.detach().mean(dim=(2, 3), keepdim=True).expand(-1, -1, 192, 92)
    formats = [
        net.pool(flat.contiguous(memory_format=memory_format))[1]
        for memory_format in (torch.contiguous_format, torch.channels_last)
    ]
    corners = torch.arange(0, 192, 4)[:, None] * 92 + torch.arange(0, 92, 4)
    for indices in formats:
        assert (indices == corners).all()


def test_pooling_indices_point_at_the_greatest_of_each_window() -> None:
    net = small()
    hidden = net.conv2(torch.relu(net.conv1(net.prepare(random_images(1)))))
    indices = net.encode(net.prepare(random_images(1)))[1]
    channel = hidden[0, 3]
    for row in range(48):
        for column in range(23):
            window = channel[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert channel.flatten()[indices[0, 3, row, column]] == window.max()


def test_the_indices_carry_the_layout_past_the_embedding() -> None:
    net = small()
    embeddings, indices = net.encode(net.prepare(random_images(2)))
    own, others = net.decode(embeddings, indices), net.decode(embeddings, indices.flip(0))
    assert not torch.allclose(own, others)


def test_an_embedding_hardly_depends_on_the_batch_around_it(original: ConvAutoencoder) -> None:
    # Not bit by bit: sums are taken in another order, so equality is never to be built upon.
    images = random_images(5)
    with torch.inference_mode():
        together = original(images)
        alone = torch.cat([original(image[None]) for image in images])
        backwards = original(images.flip(0)).flip(0)
    assert (together - alone).norm(dim=1).max() < 1e-4
    assert (together - backwards).norm(dim=1).max() < 1e-4
    assert torch.pdist(together).min() > 1e-3


def test_stored_images_become_numbers_from_0_to_1() -> None:
    images = torch.zeros(1, 3, 200, 100, dtype=torch.uint8)
    images[0, 1, 7] = 255
    images[0, 2, 9] = 51
    kept = images.clone()
    pixels = small().prepare(images)
    assert pixels.dtype == torch.float32
    assert pixels.shape == images.shape
    assert pixels[0, 0].eq(0).all()
    assert pixels[0, 1, 7].eq(1).all()
    assert pixels[0, 2, 9].eq(0.2).all()
    assert torch.equal(images, kept)


def test_calling_it_gives_the_embeddings_alone() -> None:
    net, images = small(), random_images(2)
    assert torch.equal(net(images), net.encode(net.prepare(images))[0])
    assert net(images).dtype == torch.float32


def test_a_copy_computes_the_same() -> None:
    net, images = small(), random_images(2)
    assert torch.equal(copy.deepcopy(net)(images), net(images))


def test_unit_embeddings_are_the_same_ones_scaled() -> None:
    net, images = small(), random_images(3)
    raw, encoded = net(images), net.encode(net.prepare(images))[0]
    net.unit = True
    lengths = raw.norm(dim=1, keepdim=True)
    torch.testing.assert_close(net(images) * lengths, raw)
    assert torch.equal(net.encode(net.prepare(images))[0], encoded)
