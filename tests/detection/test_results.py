"""Results that are saved and loaded: what was chosen and measured comes back as it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup.detection.calibration import Calibration, CurvePoint, Recall
from dedup.detection.mixture import Mixture, Strata
from dedup.detection.results import DetectionResult
from dedup.errors import CorruptError
from dedup.runtime.checksums import read_checked, write_checked
from tests.reports.test_health import ROWS, table
from tests.support.pages import groups_of, pair, pairs_of, shared_of
from tests.support.searches import search_facts

CHOSEN = Calibration(
    setting="matcher.threshold", threshold=1.2, higher_is_surer=False, precision=0.99,
    expected_precision=None, interval=0.95, n_pairs=7,
    strata=Strata(*[Mixture(np.arange(3.0), 0.5, (1.0, 0.0), 20.0)] * 2),
    crowds=frozenset("ab"),
)  # fmt: skip
RECALL = Recall(
    expected_recall=(0.5, 0.4, 0.6),
    recall_by_edit={"crop": (0.5, 2)},
    n_copies=2,
    curve=[CurvePoint(0.5, 1.0, 0.25), CurvePoint(1.5, 0.9, 0.75)],
)
MEASURED = {
    "precision": None, "recall": 0.0, "f1": None, "bcubed_f1": 0.5, "n_true": 2, "n_found": 0,
    "n_wrong": 0, "truth": "pairs.csv",
}  # fmt: skip


def result(**change: Any) -> DetectionResult:
    pairs = pairs_of(pair("A", "B"))
    whole = DetectionResult(pairs, groups_of("AB"), shared_of(), search_facts(block_by="brand"))
    return replace(whole, **change)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"search": None},
        {"calibration": CHOSEN},
        {"calibration": replace(CHOSEN, expected_precision=(0.9, 0.8, 1.0), recall=RECALL)},
        {"measured": MEASURED},
        {"calibration": CHOSEN, "measured": MEASURED},
    ],
)
def test_a_result_comes_back_equal(tmp_path: Path, change: dict[str, Any]) -> None:
    before = result(**change)
    before.save(tmp_path)
    after = DetectionResult.load(tmp_path)
    for name in ("search", "calibration", "measured"):
        assert getattr(after, name) == getattr(before, name)
    files = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    after.save(tmp_path)
    assert files == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert not {"strata", "crowds"} & set(json.loads(files["calibration.json"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("setting", "rm"), ("measured", 3),
        ("measured", {"precision": "x"}), ("n_copies", -1), ("expected_recall", [0.5, 0.4]),
        ("recall_by_edit", {"crop": 0.5}), ("recall_by_edit", [[0.5, 2]]),
        ("curve", [{"threshold": 0.5}]), ("curve", {}),
    ],
)  # fmt: skip
def test_a_calibration_that_cannot_be_is_refused(tmp_path: Path, key: str, value: object) -> None:
    result(calibration=replace(CHOSEN, recall=RECALL)).save(tmp_path)
    content = read_checked(tmp_path / "result.json", "a result", "")
    calibration = content["calibration"] | {key: value}
    write_checked(
        content | {"calibration": calibration}, content["files"], tmp_path / "result.json"
    )
    with pytest.raises(CorruptError, match=rf"calibration\.{key} is"):
        DetectionResult.load(tmp_path)


HEALTHY = table(sorted(ROWS))


def test_the_health_of_images_comes_back(tmp_path: Path) -> None:
    result(health=HEALTHY).save(tmp_path)
    loaded = DetectionResult.load(tmp_path).health
    assert loaded[["image", "reasons"]].equals(HEALTHY[["image", "reasons"]])
    assert loaded["sharpness"].isna().all()


def test_a_result_by_an_earlier_version_has_no_health(tmp_path: Path) -> None:
    result().save(tmp_path)
    content = read_checked(tmp_path / "result.json", "a result", "")
    files = {name: facts for name, facts in content["files"].items() if "health" not in name}
    write_checked({**content, "files": None}, files, tmp_path / "result.json")
    (tmp_path / "health.parquet").unlink()
    assert len(DetectionResult.load(tmp_path).health) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"problems": "ugly"}, "a problem is not one of unreadable"),
        ({"image": "one.jpg", "product_id": "A"}, "its images are unsorted or repeated"),
        ({"sha256_pixels": "x"}, "is not a SHA-256"),
        ({"bytes": -2}, "a bytes is out of range"),
        ({"width": -1}, "a width is out of range"),
    ],
)
def test_health_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    result(health=HEALTHY.assign(**change)).save(tmp_path)
    with pytest.raises(CorruptError, match=message):
        DetectionResult.load(tmp_path)
