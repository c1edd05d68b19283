"""Checkpoints that somebody passed on: refused by name, and nothing is called."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dedup.encoders.checkpoint import describe, load_encoder
from dedup.encoders.cnn import Cnn
from dedup.encoders.ensemble import Ensemble
from dedup.errors import ArtifactError
from tests.support.passed_on import CANARY, contents

SECRET = "${oc.env:CANARY}"
ENCODER = {"class": "dedup.encoders.cnn.Cnn"}

CHECKPOINTS: dict[str, dict[str, Any]] = {
    "another package's": {"class": "torch.nn.Linear", "in_features": 1, "out_features": 1},
    "a command": {"class": "os.system", "command": "true"},
    "a file": {"class": "dedup.runtime.files.write_text", "text": "gone", "path": "precious.txt"},
    "a factory": {"class": "dedup.encoders.bundled.bundled", "weights": "x"},
    "a function": {"class": "dedup.encoders.checkpoint.describe"},
    "a part of one": {"class": "dedup.encoders.cnn._Block"},
    "another name": {"class": "dedup.encoders.ensemble.nn.Identity"},
    "a target": {"_target_": "os.system", "command": "true"},
    "inside another": {
        "class": "dedup.encoders.ensemble.Ensemble", "encoders": [{"class": "os.stat"}]
    },
    "no list": {"class": "dedup.encoders.ensemble.Ensemble", "encoders": {**ENCODER}},
    "no parts": {"class": "dedup.encoders.ensemble.Ensemble", "encoders": []},
    "a secret": {**ENCODER, "widths": [SECRET]},
    "an unknown setting": {**ENCODER, "depth": 3},
    "a text for a number": {**ENCODER, "embedding_dim": "4"},
    "a number without end": {**ENCODER, "embedding_dim": 2**64},
    "out of range": {**ENCODER, "embedding_dim": 0},
    "not a number": {"class": "dedup.encoders.ensemble.Ensemble", "encoders": [ENCODER],
                     "shares": [math.nan]},
    "weights for a number": {**ENCODER, "embedding_dim": torch.ones(1)},
    "positional arguments": {**ENCODER, "_args_": [3]},
}  # fmt: skip


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_forged_checkpoint_is_refused(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.txt").write_text("years of work")
    net = Cnn(4, (4, 8))
    weights = {f"encoder.{name}": value for name, value in net.state_dict().items()}
    file = tmp_path / "best.ckpt"
    torch.save({"encoder": CHECKPOINTS[case], "state_dict": weights}, file)
    before = contents(tmp_path, without=tmp_path / "out")
    with pytest.raises(ArtifactError) as caught:
        load_encoder(file)
    assert contents(tmp_path, without=tmp_path / "out") == before
    assert f"{file}: encoder" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_honest_checkpoint_is_not(tmp_path: Path) -> None:
    net = Ensemble([Cnn(4, (4, 8)), Cnn(2, (4,))], (2, 1))
    weights = {f"encoder.{name}": value for name, value in net.state_dict().items()}
    torch.save({"encoder": describe(net), "state_dict": weights}, tmp_path / "best.ckpt")
    assert describe(load_encoder(tmp_path / "best.ckpt")) == describe(net)
