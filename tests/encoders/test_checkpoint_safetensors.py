"""An encoder alone, to be passed on: what is saved comes back, and damage is found."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dedup.encoders.checkpoint import (
    check_resumable,
    describe,
    load_encoder,
    read,
    save_safetensors,
)
from dedup.encoders.cnn import Cnn
from dedup.encoders.conv import ConvAutoencoder
from dedup.encoders.ensemble import Ensemble
from dedup.encoders.paths import BUNDLED, checkpoint_file
from dedup.errors import ArtifactError, CorruptError
from tests.encoders.test_checkpoint import random_images, same_weights


@pytest.fixture
def net() -> Ensemble:
    """An encoder of encoders, with every kind of state."""
    torch.manual_seed(5)
    net = Ensemble([Cnn(6, (4, 8)), ConvAutoencoder(4, 2, (2, 2))], (3, 1))
    net(random_images())  # moves the running means
    return net.eval()


@pytest.fixture
def path(net: Ensemble, tmp_path: Path) -> Path:
    save_safetensors(net, tmp_path / "net.safetensors", licence="Apache-2.0", data="drawn")
    return tmp_path / "net.safetensors"


def test_what_is_saved_comes_back(net: Ensemble, path: Path) -> None:
    loaded = load_encoder(str(path))
    assert not loaded.training
    assert describe(loaded) == describe(net)
    assert same_weights(loaded, net)
    assert torch.equal(loaded(random_images()), net(random_images()))


def test_any_reader_of_the_format_can_read_it(net: Ensemble, path: Path) -> None:
    weights = load_file(path)
    assert weights.keys() == net.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
    assert json.loads(said["encoder"]) == describe(net)
    assert (said["licence"], said["data"]) == ("Apache-2.0", "drawn")
    assert read(path)["metadata"]["data"] == "drawn"


def test_the_same_encoder_gives_the_same_bytes(net: Ensemble, path: Path) -> None:
    first = path.read_bytes()
    for _ in range(5):
        save_safetensors(net, path, data="drawn", licence="Apache-2.0")
        assert path.read_bytes() == first


def test_half_precision_is_smaller_and_hardly_different(path: Path, tmp_path: Path) -> None:
    net = load_encoder(path)
    half = tmp_path / "half.safetensors"
    save_safetensors(net, half, half=True)
    assert half.stat().st_size < 0.65 * path.stat().st_size
    loaded = load_encoder(half)
    kinds = {name: value.dtype for name, value in net.state_dict().items()}
    assert {name: value.dtype for name, value in loaded.state_dict().items()} == kinds
    difference = (loaded(random_images()) - net(random_images())).norm(dim=1).max()
    assert 0 < difference < 0.02


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_cut_short(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CorruptError, match=r"is not a checkpoint that can be read"):
        load_encoder(path)


def test_longer_than_written(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 8)
    with pytest.raises(CorruptError):
        load_encoder(path)


@pytest.mark.parametrize("n", [1, 8, 100, 100_000])
def test_random_bytes(path: Path, n: int) -> None:
    path.write_bytes(np.random.default_rng(n).bytes(n))
    with pytest.raises(CorruptError):
        load_encoder(path)


def test_one_flipped_bit_is_found_or_changes_nothing(net: Ensemble, path: Path) -> None:
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    drawn = np.random.default_rng(0)
    places = [*drawn.integers(0, header, 250), *drawn.integers(header, len(whole), 50)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(drawn.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = load_encoder(path)
        except ArtifactError:
            continue
        assert same_weights(loaded, net), f"byte {place}"
        assert describe(loaded) == describe(net), f"byte {place}"


def test_a_flipped_bit_of_a_weight_is_found(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1000] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CorruptError, match="its SHA-256 does not match"):
        load_encoder(path)


@pytest.mark.parametrize("said", [None, {"encoder": "{}"}, {"sha256": "0"}, {"format": "pt"}])
def test_another_programs_file(path: Path, said: dict[str, str] | None) -> None:
    save_file({"weight": torch.ones(2)}, path, said)
    with pytest.raises(ArtifactError, match="describes no encoder") as caught:
        load_encoder(path)
    assert not isinstance(caught.value, CorruptError)


def test_weights_that_are_not_finite(net: Ensemble, path: Path) -> None:
    with torch.no_grad():
        net.encoders[0].get_parameter("embedding.bias")[1] = float("inf")
    save_safetensors(net, path)
    with pytest.raises(CorruptError, match="not finite"):
        load_encoder(path)


def test_weights_of_another_type(net: Ensemble, path: Path) -> None:
    save_safetensors(net.to(torch.float64), path)
    with pytest.raises(ArtifactError, match="does not fit the encoder that it describes"):
        load_encoder(path)


def test_training_cannot_go_on_from_weights_alone(net: Ensemble, path: Path) -> None:
    with pytest.raises(ArtifactError, match="weights alone"):
        check_resumable(path, net)


def test_the_bundled_weights_have_a_name() -> None:
    if BUNDLED.exists():
        assert checkpoint_file("bundled") == BUNDLED
        assert describe(load_encoder("bundled"))["class"].startswith("dedup.encoders.")
    else:
        with pytest.raises(ArtifactError, match="without the bundled weights"):
            load_encoder("bundled")
