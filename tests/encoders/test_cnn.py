"""The small network: what it is blind to, what it sees, and its pooling by hand."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dedup.encoders.cnn import Cnn
from tests.conftest import draw


def random_images(n: int) -> Tensor:
    """Drawn images, (n, 3, 200, 100) uint8."""
    drawn = [
        torch.frombuffer(bytearray(draw(i, (100, 200)).tobytes()), dtype=torch.uint8)
        for i in range(n)
    ]
    return torch.stack([image.reshape(200, 100, 3).permute(2, 0, 1) for image in drawn])


@pytest.fixture
def net() -> Cnn:
    """A small one, its running means moved from where they begin."""
    torch.manual_seed(2)
    net = Cnn(12, (8, 12))
    net(random_images(8))
    return net.eval()


def test_its_size_with_the_defaults() -> None:
    net = Cnn()
    stem = 3 * 49 * 32 + 64
    blocks = 2 * (9 * 32 * 32 + 64)
    for a, b in ((32, 64), (64, 128), (128, 256)):
        blocks += 9 * a * b + 9 * b * b + a * b + 3 * 2 * b
    linear = 4 * 256 * 256 + 256
    assert sum(weight.numel() for weight in net.parameters()) == stem + blocks + linear + 1
    assert stem + blocks + linear + 1 == 1_492_641


def test_each_stage_after_the_first_halves_the_image() -> None:
    net, seen = Cnn(4, (4, 5, 6)).eval(), []
    for stage in net.stages:
        stage.register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    net(random_images(1))
    assert seen == [(1, 4, 50, 25), (1, 5, 25, 13), (1, 6, 13, 7)]


def test_brightness_and_contrast_vanish(net: Cnn) -> None:
    images = random_images(3) // 4 * 2
    for copy in (images + 90, images // 2, images * 2):
        torch.testing.assert_close(net.prepare(copy), net.prepare(images), atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        torch.testing.assert_close(net(images // 2 + 100), net(images), atol=1e-4, rtol=1e-4)


def test_a_colour_cast_stays(net: Cnn) -> None:
    images = random_images(2)
    recoloured = images.flip(1)
    assert (net(recoloured) - net(images)).norm(dim=1).min() > 0.02


def test_prepared_images_have_mean_0_and_spread_1(net: Cnn) -> None:
    images = random_images(3)
    kept = images.clone()
    layouts = [images, images.contiguous(memory_format=torch.channels_last), images[:, :, ::2]]
    for given in layouts:
        expected = [(x.double() - x.double().mean()) / x.double().std() for x in given]
        found = net.prepare(given)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found.double(), torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert torch.equal(images, kept)
    assert net.prepare(images[:0]).shape == (0, 3, 200, 100)


def test_noise_of_a_flat_image_is_not_blown_up(net: Cnn) -> None:
    flat = torch.full((1, 3, 200, 100), 200, dtype=torch.uint8)
    assert net.prepare(flat).eq(0).all()
    flat[0, :, ::2] = 201
    assert net.prepare(flat).abs().max() < 0.1


def test_pooling_is_a_generalised_mean_of_the_whole_and_of_thirds(net: Cnn) -> None:
    features = torch.rand(2, 5, 6, 4)
    found = net.pool(features).detach()
    parts = [features, features[:, :, :2], features[:, :, 2:4], features[:, :, 4:]]
    by_hand = torch.stack([(part**3).mean(dim=(2, 3)) ** (1 / 3) for part in parts], dim=1)
    torch.testing.assert_close(found[:, :5], by_hand[:, 0])
    torch.testing.assert_close(found[:, 5:].reshape(2, 5, 3), by_hand[:, 1:].transpose(1, 2))


def test_a_greater_power_pools_nearer_to_the_maximum(net: Cnn) -> None:
    features = torch.rand(1, 5, 6, 4)
    means = []
    for power in (1.0, 3.0, 60.0):
        net.power.data.fill_(power)
        means.append(net.pool(features)[:, :5])
    torch.testing.assert_close(means[0], features.mean(dim=(2, 3)))
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()
    torch.testing.assert_close(means[2], features.amax(dim=(2, 3)), atol=0.08, rtol=0)


def test_embeddings_have_unit_length_unless_asked_otherwise(net: Cnn) -> None:
    images = random_images(3)
    unit = net(images)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(3))
    net.unit = False
    torch.testing.assert_close(functional.normalize(net(images)), unit)


def test_every_weight_learns_and_a_few_steps_bring_copies_together() -> None:
    torch.manual_seed(0)
    net = Cnn(8, (8, 8))
    images = random_images(8)
    copies = images.flip(3)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        similar = net(images) @ net(copies).T / 0.1
        loss = functional.cross_entropy(similar, torch.arange(8))
        optimizer.zero_grad()
        loss.backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
