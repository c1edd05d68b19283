"""The encoder of a checkpoint, to be trained further."""

from pathlib import Path

import pytest
import torch

from dedup.config.instances import build
from dedup.encoders.bundled import bundled
from dedup.encoders.checkpoint import describe, save_safetensors
from dedup.encoders.cnn import Cnn
from dedup.encoders.paths import BUNDLED
from dedup.errors import ArtifactError, CorruptError
from tests.encoders.test_cnn import random_images


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Cnn, Path]:
    """A small encoder, and its file."""
    net = Cnn(4, (4, 8))
    save_safetensors(net, tmp_path / "net.safetensors")
    return net, tmp_path / "net.safetensors"


def test_it_is_the_encoder_of_the_file_ready_to_be_trained(saved: tuple[Cnn, Path]) -> None:
    net, path = saved
    for found in (bundled(path), build({"_target_": "dedup.encoders.bundled.bundled",
                                        "weights": str(path)})):  # fmt: skip
        assert found.training
        assert all(weight.requires_grad for weight in found.parameters())
        assert torch.equal(found.eval()(random_images(2)), net.eval()(random_images(2)))


def test_what_is_saved_of_it_needs_the_file_no_more(saved: tuple[Cnn, Path]) -> None:
    net, path = saved
    assert describe(bundled(path)) == describe(net)


def test_a_missing_or_broken_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no checkpoint at"):
        bundled(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(CorruptError):
        bundled(tmp_path / "broken.safetensors")


def test_the_bundled_weights_are_small_and_sound() -> None:
    assert BUNDLED.stat().st_size <= 8_000_000
    with torch.no_grad():
        embeddings = bundled().eval()(random_images(3))
    assert embeddings.isfinite().all()
    assert torch.pdist(embeddings).min() > 0.1
