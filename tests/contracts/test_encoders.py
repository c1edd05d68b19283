"""What every encoder promises. A new one is found by itself, by its module's place."""

import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

import dedup.encoders
from dedup.checkpoint import build, describe

CONF = Path(__file__).parents[2] / "conf" / "encoder"
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

every_encoder = pytest.mark.parametrize("encoder", ENCODERS, ids=lambda kind: kind.__name__)


def target(encoder: type[nn.Module]) -> str:
    return f"{encoder.__module__}.{encoder.__qualname__}"


def settings(file: Path) -> dict[str, Any]:
    """A file of ``conf/encoder``, as plain values."""
    found = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def test_there_are_encoders() -> None:
    assert "dedup.encoders.conv.ConvAutoencoder" in [target(encoder) for encoder in ENCODERS]


def test_every_config_names_an_encoder_and_every_encoder_has_a_config() -> None:
    named = {settings(file)["_target_"] for file in CONF.glob("*.yaml")}
    assert named == {target(encoder) for encoder in ENCODERS}


@every_encoder
def test_its_config_has_its_settings_and_their_defaults(encoder: type[nn.Module]) -> None:
    found = settings(CONF / f"{encoder.__module__.rpartition('.')[2]}.yaml")
    assert found.pop("_target_") == target(encoder)
    defaults = {
        name: list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        for name, parameter in inspect.signature(encoder).parameters.items()
    }
    assert found == defaults


@every_encoder
def test_pictures_become_embeddings(encoder: type[nn.Module]) -> None:
    net = encoder().eval()
    images = torch.randint(0, 256, (2, 3, 200, 100), dtype=torch.uint8)
    with torch.inference_mode():
        embeddings = net(images)
    assert isinstance(net.embedding_dim, int)
    assert embeddings.shape == (2, net.embedding_dim)
    assert embeddings.dtype == torch.float32
    assert embeddings.isfinite().all()
    assert not torch.allclose(embeddings[0], embeddings[1])


@every_encoder
def test_black_and_white_pictures_are_no_exception(encoder: type[nn.Module]) -> None:
    images = torch.stack([torch.zeros(3, 200, 100), torch.full((3, 200, 100), 255)])
    with torch.inference_mode():
        assert encoder().eval()(images.to(torch.uint8)).isfinite().all()


@every_encoder
def test_every_argument_is_an_attribute_and_a_plain_value(encoder: type[nn.Module]) -> None:
    net = encoder()
    for name, parameter in inspect.signature(encoder).parameters.items():
        assert parameter.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD, name
        assert parameter.default is not inspect.Parameter.empty, name
        value = getattr(net, name)
        given = tuple(parameter.default) if isinstance(value, tuple) else parameter.default
        assert value == given, name
    description = describe(net)
    assert json.loads(json.dumps(description)) == description


@every_encoder
def test_it_is_rebuilt_from_its_description(encoder: type[nn.Module]) -> None:
    net = encoder().eval()
    description = describe(net)
    again = build(description).eval()
    assert type(again) is encoder
    assert describe(again) == description
    again.load_state_dict(net.state_dict())
    images = torch.randint(0, 256, (2, 3, 200, 100), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), net(images))
