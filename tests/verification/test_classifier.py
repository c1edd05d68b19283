"""Trees against a walk through them, node by node; their file; what the judge must never do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from dedup.errors import ArtifactError, CorruptError
from dedup.verification.alignment import Alignment
from dedup.verification.appearance import Agreement
from dedup.verification.classifier import (
    BUNDLED,
    FALLING,
    FEATURES,
    OF_VARIANTS,
    RISING,
    CopyClassifier,
    Trees,
    features,
)
from dedup.verification.colour import NOT_COMPARED, Colours
from dedup.verification.difference import Difference
from tests.conftest import DAMAGES

Rows = npt.NDArray[np.float64]
NODES = 15

SEEN = Agreement(
    cover_one=0.8, cover_other=0.5, structure=0.9, same=0.95, textured=0.6, whole=0.8, hue=3.0,
    coloured=0.5, chroma=2.0, worst_chroma=4.0, tone=1.0, gain=0.5, shift=2.0, gray=0.0,
    worst_tone=2.0, tint=1.0, worst_tint=2.0, difference=5.0,
)  # fmt: skip
DIFFERS = Difference(parts=2.0, area=0.1, rest=0.9, repeated=0.4, spread=0.5, hull=0.6, strong=0.3)
COLOURS = Colours(apart=1.0, within=0.9, moved=2.0, lighter=1.5, dark=60.0, folds=0.1, ground=1.2,
                  paper=80.0, lit=1.4, hued=0.8)  # fmt: skip
PLACED = Alignment(np.array([[2.0, 0, 5], [0, 1.0, 5]]), True, 40, 30)


def grown(seed: int, n_trees: int = 6) -> Trees:
    """Random trees of random depths, in arrays that are longer than they need."""
    rng = np.random.default_rng(seed)
    feature = np.full((n_trees, NODES), -1)
    left, right = np.zeros((2, n_trees, NODES), np.int64)
    for tree in range(n_trees):
        free = 1
        for node in range(NODES):
            if node < free and free + 2 <= NODES and rng.random() < 0.7:
                feature[tree, node] = rng.integers(len(FEATURES))
                left[tree, node], right[tree, node] = free, free + 1
                free += 2
    threshold, value = rng.normal(size=(2, n_trees, NODES)).round(1)
    return Trees(feature, threshold, left, right, value, -0.7, FEATURES)


def walk(judge: Trees, row: Rows) -> float:
    """The base and the leaf of every tree that a row comes to."""

    def leaf(tree: int, node: int) -> float:
        feature = judge.feature[tree, node]
        if feature < 0:
            return float(judge.value[tree, node])
        side = judge.left if row[feature] <= judge.threshold[tree, node] else judge.right
        return leaf(tree, int(side[tree, node]))

    return judge.base + sum(leaf(tree, 0) for tree in range(len(judge.feature)))


@pytest.mark.parametrize("seed", range(8))
def test_log_odds_are_those_of_a_walk(seed: int) -> None:
    judge = grown(seed)
    rows = np.random.default_rng(seed).normal(size=(60, len(FEATURES))).round(1)  # with ties
    assert judge.log_odds(rows.tolist()) == pytest.approx([walk(judge, row) for row in rows])
    assert judge.log_odds(rows[:1].tolist()) == judge.log_odds(rows.tolist())[:1]
    assert judge.log_odds([]).shape == (0,)


def test_the_bundled_trees_are_those_of_a_walk() -> None:
    judge, rows = CopyClassifier.load(), plausible(20)
    found = judge.log_odds(rows.tolist())
    assert found == pytest.approx([walk(judge.copy, row) for row in rows])
    found = judge.variant_log_odds(rows.tolist())
    assert found == pytest.approx([walk(judge.variant, row) for row in rows])
    assert CopyClassifier.load() is judge
    assert (judge.strangers > 0).all()
    assert (judge.look_alikes > judge.strangers).all()
    assert (np.diff(judge.copies) >= 0).all()


def test_features_are_in_their_order() -> None:
    said = dict(zip(FEATURES, features(PLACED, SEEN, DIFFERS, COLOURS), strict=True))
    for name in set(FEATURES) & set(Agreement._fields) - {"gain"}:
        assert said[name] == getattr(SEEN, name)
    expected = {"inliers": np.log(31), "ratio": 0.75, "most": 0.8, "least": 0.5,
                "gain": np.log(2), "stretch": np.log(2), "turn": 0}  # fmt: skip
    assert {name: said[name] for name in expected} == pytest.approx(expected)
    assert tuple(said[name] for name in Colours._fields) == COLOURS
    assert features(PLACED, SEEN, DIFFERS)[-len(Colours._fields) :] == [*NOT_COMPARED]
    whole = features(PLACED._replace(n_matches=0, n_inliers=0), SEEN._replace(gain=-1.0), DIFFERS)
    assert np.isfinite(whole).all()


def test_the_order_of_the_two_hardly_matters() -> None:
    large, _ = PLACED.stretches
    back = np.linalg.inv(np.vstack([PLACED.matrix, [0, 0, 1]]))[:2]
    swapped = SEEN._replace(
        cover_one=SEEN.cover_other, cover_other=SEEN.cover_one, gain=1 / SEEN.gain
    )
    again = features(PLACED._replace(matrix=back), swapped, DIFFERS)
    assert again == pytest.approx(features(PLACED, SEEN, DIFFERS))
    assert large == 2


def plausible(count: int) -> Rows:
    """Rows of features, from hopeless to certain."""
    rng = np.random.default_rng(0)
    rows = rng.random((count, len(FEATURES)))
    scale = {"inliers": 5.5, "hue": 90, "chroma": 40, "worst_chroma": 60, "tone": 15, "shift": 30,
             "turn": 30, "worst_tone": 30, "tint": 25, "worst_tint": 50, "apart": 20, "moved": 40,
             "lighter": 40, "dark": 80, "ground": 30, "paper": 100, "lit": 40,
             "hued": 30}  # fmt: skip
    return rows ** rng.uniform(0.3, 3, (count, 1)) * [scale.get(name, 1.0) for name in FEATURES]


@pytest.mark.parametrize(("names", "sign"), [(RISING, 1), (FALLING, -1)])
def test_more_of_a_feature_moves_the_judge_one_way(names: tuple[str, ...], sign: int) -> None:
    judge, rows = CopyClassifier.load(), plausible(150)
    before = judge.log_odds(rows.tolist())
    for name in names:
        more = rows.copy()
        more[:, FEATURES.index(name)] *= 1.5
        assert (sign * (judge.log_odds(more.tolist()) - before) > -1e-9).all(), name


def test_the_judge_tells_a_copy_from_chance() -> None:
    sure = SEEN._replace(cover_other=0.9, gain=1.0, structure=0.99, same=1.0, whole=0.99)
    wrong = SEEN._replace(structure=0.1, same=0.1, whole=0.0, hue=80.0, tint=20.0, tone=15.0)
    straight = PLACED._replace(matrix=np.array([[1.0, 0, 0], [0, 1.0, 0]]), n_inliers=200)
    same = Difference(rest=1.0, repeated=0.8, spread=0.9, hull=0.9, strong=0.4)
    high, low = CopyClassifier.load().log_odds(
        [
            features(straight, sure, same, COLOURS),
            features(
                PLACED._replace(n_inliers=6), wrong, DIFFERS._replace(rest=0.1, repeated=0.02)
            ),
        ]
    )
    assert high > 0 > low


def saved(path: Path, **changed: npt.NDArray[np.float64]) -> Path:
    """The bundled file with other arrays."""
    save_file({**load_file(BUNDLED), **changed}, path)
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    copy = CopyClassifier.load(saved(tmp_path / "judge.safetensors"))
    rows = plausible(10).tolist()
    assert np.array_equal(copy.log_odds(rows), CopyClassifier.load().log_odds(rows))
    shifted = replace(copy, copy=replace(copy.copy, base=copy.copy.base + 1))
    assert shifted.log_odds(rows) == pytest.approx(copy.log_odds(rows) + 1)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        CopyClassifier.load(tmp_path / "judge.safetensors")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    file = saved(tmp_path / "judge.safetensors")
    damage(file)
    with pytest.raises(CorruptError, match="is damaged"):
        CopyClassifier.load(file)


def test_a_file_that_lacks_something_is_refused(tmp_path: Path) -> None:
    arrays = load_file(BUNDLED)
    own = (OF_VARIANTS + "left", OF_VARIANTS + "base")
    for name in ("feature", "value", "base", "copies", "strangers", "look_alikes", *own):
        file = tmp_path / f"{name}.safetensors"
        save_file({key: array for key, array in arrays.items() if key != name}, file)
        with pytest.raises(CorruptError, match=name.removeprefix(OF_VARIANTS)):
            CopyClassifier.load(file)
    with pytest.raises(CorruptError):
        CopyClassifier.load(saved(tmp_path / "empty.safetensors", base=np.empty(0)))
