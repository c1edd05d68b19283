"""Encoders side by side: distances are the weighted mean of the parts'."""

import pytest
import torch
from torch import nn

from dedup.config.instances import build
from dedup.encoders.cnn import Cnn
from dedup.encoders.conv import ConvAutoencoder
from dedup.encoders.ensemble import Ensemble
from dedup.errors import ConfigError
from tests.encoders.test_cnn import random_images


@pytest.fixture
def parts() -> list[nn.Module]:
    """A unit one and one that is not."""
    torch.manual_seed(0)
    parts = [Cnn(6, (4, 8)), ConvAutoencoder(4, 2, (2, 2))]
    return [part.eval() for part in parts]


@torch.no_grad()
@pytest.mark.parametrize("shares", [(), (1, 1), (3, 1), (0.02, 5)])
def test_squared_distances_are_the_weighted_mean(
    parts: list[nn.Module], shares: tuple[float, ...]
) -> None:
    images = random_images(4)
    net = Ensemble(parts, shares).eval()
    embeddings = net(images)
    assert net.embedding_dim == 10
    assert embeddings.shape == (4, 10)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    squared = []
    for part in parts:
        unit = part(images) / part(images).norm(dim=1, keepdim=True)
        squared.append(torch.pdist(unit) ** 2)
    first, second = shares or (1, 1)
    expected = (first * squared[0] + second * squared[1]) / (first + second)
    torch.testing.assert_close(torch.pdist(embeddings) ** 2, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shares", [(1,), (1, 1, 1), (1, 0), (1, -1)])
def test_shares_that_cannot_work(parts: list[nn.Module], shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"encoder\.shares=.*one number above 0 for each"):
        Ensemble(parts, shares)
    with pytest.raises(ConfigError):
        Ensemble([])


def test_a_config_nests_its_parts() -> None:
    node = {
        "_target_": "dedup.encoders.ensemble.Ensemble",
        "encoders": [
            {"_target_": "dedup.encoders.cnn.Cnn", "embedding_dim": 3, "widths": [4]},
            {"_target_": "dedup.encoders.cnn.Cnn", "embedding_dim": 5, "widths": [4]},
        ],
        "shares": [1, 2],
    }
    net = build(node)
    assert isinstance(net, Ensemble)
    assert [part.embedding_dim for part in net.encoders] == [3, 5]
    assert net.shares == (1, 2)
    node["encoders"] = [{"_target_": "os.system", "command": "true"}]
    with pytest.raises(ConfigError, match="may name"):
        build(node)


def test_training_reaches_every_part(parts: list[nn.Module]) -> None:
    net = Ensemble(parts).train()
    torch.pdist(net(random_images(3))).sum().backward()
    assert all(weight.grad is not None for weight in parts[0].parameters())
    assert parts[1].get_parameter("conv1.weight").grad is not None
