"""Recalibration by decisions, against a general optimiser and on labels with errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from dedup.detection.recalibration import (
    CALIBRATION,
    CATEGORY_SPREAD,
    MIN_LABELS,
    OFFSET_SPREAD,
    SLOPE_SPREAD,
    Recalibration,
    of_pairs,
)
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import write_checked


def drawn(n: int, offset: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    odds = rng.normal(1, 3, n)
    return odds, rng.random(n) < 1 / (1 + np.exp(-(odds + offset)))


def test_the_fit_is_the_most_plausible_one() -> None:
    odds, right = drawn(80, -1.5)
    kind = np.array(["hat", "coat", "", "rare"], object)[np.arange(80) % 4]
    kind[3:60:4] = "hat"
    error = 0.02
    fitted = Recalibration.fit(odds, right, error, "category", kind.tolist())
    names = sorted(name for name in {*kind} if name and (kind == name).sum() >= MIN_LABELS)
    assert [*fitted.offsets] == names

    def penalty(values: np.ndarray) -> float:
        added = sum((kind == name) * value for name, value in zip(names, values[2:], strict=True))
        chance = error + (1 - 2 * error) / (1 + np.exp(-(values[0] * odds + values[1] + added)))
        likelihood = np.where(right, np.log(chance), np.log(1 - chance)).sum()
        spread = [SLOPE_SPREAD, OFFSET_SPREAD, *[CATEGORY_SPREAD] * len(names)]
        usual = np.array([1.0, *[0.0] * (len(values) - 1)])
        return float(0.5 * (((values - usual) / spread) ** 2).sum() - likelihood)

    best = minimize(penalty, [1.0, *[0.0] * (1 + len(names))], method="Nelder-Mead",
                    options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 20_000}).x  # fmt: skip
    mine = [fitted.slope, fitted.offset, *fitted.offsets.values()]
    np.testing.assert_allclose(mine, best, atol=1e-3)


def test_without_labels_scores_stay_as_they_are() -> None:
    fitted = Recalibration.fit(np.empty(0), np.empty(0, bool))
    odds = np.array([-3.0, 0.0, 13.8])
    np.testing.assert_array_equal(fitted(odds), odds)


def test_one_wrong_label_of_a_sure_pair_moves_little_where_people_err() -> None:
    odds, right = drawn(300, 0)
    sure = int(np.argmax(odds))
    flipped = right.copy()
    flipped[sure] = False
    naive = [Recalibration.fit(odds, one).slope for one in (right, flipped)]
    robust = [Recalibration.fit(odds, one, 0.02).slope for one in (right, flipped)]
    assert abs(robust[1] - robust[0]) < 0.3 * abs(naive[1] - naive[0])


def test_a_recalibration_can_be_undone() -> None:
    fitted = Recalibration(0.7, -1.2, "kind", {"hat": 0.5})
    odds = np.array([-3.0, 1.0, 9.0])
    kinds = ["hat", "", "coat"]
    np.testing.assert_allclose(fitted.undone(fitted(odds, kinds), kinds), odds)
    assert of_pairs({"a": "x", "b": "x", "c": "y"}, "aab", "bcz").tolist() == ["x", "", ""]


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = Recalibration(0.7, -1.2, "kind", {"hat": 0.5}, 40, 0.01, "f" * 64)
    write_checked({"recalibration": made.to_dict()}, {}, tmp_path / CALIBRATION)
    assert Recalibration.read(tmp_path) == Recalibration.read(tmp_path / CALIBRATION) == made
    with pytest.raises(ArtifactError, match="another classifier"):
        made.check("0" * 64)
    with pytest.raises(ArtifactError, match="calibrate"):
        Recalibration.read(tmp_path / "gone.json")


@pytest.mark.parametrize(
    "change",
    [{"slope": -1.0}, {"slope": "1"}, {"offset": float("inf")}, {"offsets": {"x": "y"}},
     {"error": 0.7}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_impossible_values_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    values = Recalibration(0.7, -1.2).to_dict() | change
    with pytest.raises(ValueError, match=r"recalibration|finite|impossible"):
        Recalibration.from_dict(values)
    path = tmp_path / CALIBRATION
    if not np.isinf(values["offset"]):
        write_checked({"recalibration": values}, {}, path)
        with pytest.raises(CorruptError, match="is damaged"):
            Recalibration.read(path)
    path.write_text(json.dumps({"threshold": 0.9}))
    with pytest.raises(ArtifactError, match="no calibration by decisions"):
        Recalibration.read(path)
