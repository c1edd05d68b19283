"""Configs and files that give a part's old name go on working."""

from pathlib import Path

import torch

from dedup.config.instances import build
from dedup.config.parts import Record, load
from dedup.config.renames import RENAMED, old_names, renewed
from dedup.config.targets import PLACES
from dedup.encoders.checkpoint import describe, load_encoder, save_safetensors
from dedup.encoders.cnn import Cnn
from dedup.encoders.ensemble import Ensemble
from dedup.search.radius import RadiusSearch


def test_old_names_lead_to_parts_that_may_be_named() -> None:
    listed = {name for names in PLACES.values() for name in names}
    for old, name in RENAMED.items():
        assert name in listed
        assert load(name)
        assert old not in listed


def test_a_config_may_give_an_old_name() -> None:
    node = {"_target_": "dedup.matchers.radius.RadiusMatcher", "threshold": 0.5}
    matcher = build(node)
    assert isinstance(matcher, RadiusSearch)
    assert matcher.threshold == 0.5
    assert old_names({"matcher": [node]}) == {"dedup.matchers.radius.RadiusMatcher"}
    assert not old_names(renewed(node))


def test_a_file_may_give_an_old_name() -> None:
    record = Record(Path("manifest.json"), "make it again")
    said = {"_target_": "dedup.verifiers.local.LocalVerifier"}
    part = record.part(said, "verifier", "recipe.verifier")
    assert type(part).__name__ == "GeometricVerifier"


def test_a_checkpoint_of_an_ensemble_may_give_its_old_name(tmp_path: Path) -> None:
    net = Ensemble([Cnn(8, (8, 8)), Cnn(8, (8, 8))]).eval()
    described = describe(net)
    assert described["class"] == "dedup.encoders.ensemble.Ensemble"
    names = Ensemble.__module__, Ensemble.__qualname__
    Ensemble.__module__, Ensemble.__qualname__ = "dedup.encoders.joined", "Joined"
    try:
        save_safetensors(net, tmp_path / "net.safetensors")
    finally:
        Ensemble.__module__, Ensemble.__qualname__ = names
    assert b"dedup.encoders.joined.Joined" in (tmp_path / "net.safetensors").read_bytes()
    again = load_encoder(tmp_path / "net.safetensors")
    images = torch.zeros(1, 3, 200, 100, dtype=torch.uint8)
    torch.testing.assert_close(again(images), net(images))
