"""``--help`` shows the command's own settings, each with its default and its meaning."""

import re
from pathlib import Path

import pytest

from dedup import __version__
from dedup.cli.arguments import explain, part_names
from dedup.cli.manual import SETTINGS, answer, manual, overview, unused

PARTS = [
    [],
    ["task=contrastive", "encoder=cnn", "foreground=onnx", "source=csv"],
    ["task=whitening", "encoder=joined", "foreground=skin_aware", "source=folder"],
    ["encoder=bundled", "foreground=grabcut"],
    ["encoder=efficientnet_lite0", "source=trained"],
]
ROW = re.compile(r"  ([\w.]+)=(.*)")


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("parts", PARTS, ids=" ".join)
def test_each_setting_has_a_meaning_and_fits(name: str, parts: list[str]) -> None:
    if name in ("verify", "review", "calibrate", "diff", "plan") and parts:
        pytest.skip("it has no parts")
    lines = manual(name, parts).splitlines()
    assert max(map(len, lines)) <= 100
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if row := ROW.match(line):
            assert "  " in row[2] or below.startswith(" " * 30) or row[1] == "source", line


def test_a_command_shows_its_own_settings() -> None:
    text = manual("detect", ["encoder=bundled"])
    assert "matcher.threshold=auto" in text
    assert "task.lr" not in text
    assert "store.path=runs/store/pillow" in text
    assert "python detect.py encoder=bundled source.path=products.csv" in text
    assert "task.lr" in manual("train")
    assert all(
        f"dedup {name}" in overview()
        for name in ("train", "cluster", "detect", "calibrate", "diff", "plan", "check")
    )


def test_settings_of_another_command_are_named() -> None:
    typed = ["epochs=7", "matcher.threshold=0", "task.lr=1", "trainer.gpus=1", "+hydra.x=1"]
    assert unused("detect", typed) == ["epochs=7", "task.lr=1"]


def test_version_and_help_are_answered() -> None:
    assert answer("train", ["--version"]) == f"dedup {__version__}"
    assert answer("train", ["-h"]) == answer("train", ["--help"]) == manual("train")
    assert answer("train", ["epochs=3"]) is None


def test_experiments_of_ones_own_are_known(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nseed: 7   # of my shop\n"
    (tmp_path / "experiment" / "shop.yaml").write_text(text)
    own = ["--config-dir", str(tmp_path), "experiment=shop"]
    shown = manual("detect", own)
    assert re.search(r"seed=7 +of my shop", shown)
    assert "shop" in part_names("experiment", own)
    error = ValueError("Could not override 'sed'.")
    assert "did you mean seed?" in explain(error, "detect", own)
