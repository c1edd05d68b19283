"""Differences of two runs: every pair counted once, each with the cause that was planted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dedup.actions.decisions import Decision
from dedup.actions.diff import CAUSES, Difference, alarming, difference
from dedup.actions.runs import DetectRun
from tests.actions.runs import Pair, digest, make_run, pair

SHOP = {name: [name.lower()] for name in "ABCD"}
MIRROR = {"new": "gone", "gone": "new", "changed": "changed", "reopened": "reopened"}


def run(*pairs: Pair, products: Mapping[str, Sequence[str]] = SHOP, **more: Any) -> DetectRun:
    return make_run(pairs, products, **more)


AB, CD = pair("A", "B"), pair("C", "D")
OTHER = {**SHOP, "B": ["b2"]}
LATER = {"made": "2026-11-08T00:00:00Z"}
APART = {("A", "B"): Decision(("A", "B"), "different", reviewer="kim")}

PLANTED = {
    "new product": (
        run(CD, products={k: v for k, v in SHOP.items() if k != "B"}), run(AB, CD), {},
        ("new", "new_product", "not in the old run: B"),
    ),
    "new image": (
        run(CD, products=OTHER), run(AB, CD), {},
        ("new", "new_image", "not shown in the old run: B/b.jpg"),
    ),
    "product removed": (
        run(AB, CD), run(CD, products={k: v for k, v in SHOP.items() if k != "A"}), {},
        ("gone", "product_removed", "not in the new run: A"),
    ),
    "image changed": (
        run(AB, CD), run(CD, products=OTHER), {},
        ("gone", "image_changed", "not shown in the new run: B/b.jpg"),
    ),
    "below the threshold": (
        run(AB, CD), run(CD, candidates=[pair("A", "B", score=0.93)], threshold=0.95), {},
        ("gone", "below_threshold",
         "score 0.93 in the new run, score 0.99 in the old run; the threshold is 0.95, and 0.9 in "
         "the old run"),
    ),
    "above the threshold": (
        run(CD, candidates=[pair("A", "B", score=0.8)]), run(AB, CD), {},
        ("new", "above_threshold", "score 0.8 in the old run, score 0.99 in the new run"),
    ),
    "became a placeholder": (
        run(AB, CD), run(CD, shared=["a"]), {},
        ("gone", "became_placeholder", "no evidence in the new run: A/a.jpg"),
    ),
    "no placeholder any more": (
        run(CD, shared=["b"]), run(AB, CD), {},
        ("new", "no_placeholder", "no evidence in the old run: B/b.jpg"),
    ),
    "another encoder": (
        run(CD), run(AB, CD, settings={"encoder": "e2"}), {},
        ("new", "settings_changed", "encoder: e1 -> e2"),
    ),
    "another budget": (
        run(AB, CD, settings={"verifier.near_candidates": "2"}),
        run(CD, settings={"verifier.near_candidates": "1"}), {},
        ("gone", "settings_changed", "verifier.near_candidates: 2 -> 1"),
    ),
    "decided": (
        run(AB, CD), run(CD, candidates=[AB]), APART,
        ("gone", "decided", "decided: different, by kim"),
    ),
    "another tier": (
        run(AB, CD), run(pair("A", "B", "same_pixels"), CD), {},
        ("changed", "tier_changed", "tier: near -> same_pixels"),
    ),
    "another relation": (
        run(AB, CD), run(pair("A", "B", relation="colour variant"), CD), {},
        ("changed", "relation_changed", "relation: same image -> colour variant"),
    ),
    "another kept product": (
        run(AB, CD), run(AB, CD, kept=["B"]), {},
        ("changed", "kept_changed", "kept: A -> B"),
    ),
    "decided on another image": (
        run(AB, CD, products=OTHER), run(AB, CD), APART,
        ("reopened", "new_image", "decided as different before this was shown: B/b.jpg"),
    ),
    "no candidate": (
        run(AB, CD), run(CD), {},
        ("gone", "not_compared", "no candidate of the new run, with equal settings"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED, ids=str)
def test_a_planted_change_has_its_cause(case: str) -> None:
    old, new, decisions, expected = PLANTED[case]
    found = difference(old, new, decisions)
    rows = found.pairs
    assert rows[["state", "cause", "detail"]].to_numpy().tolist() == [list(expected)]
    assert rows[["product_id_a", "product_id_b"]].to_numpy().tolist() == [["A", "B"]]
    assert found.n_same == 1


def test_a_decision_on_the_images_that_are_shown_is_not_reopened() -> None:
    old, new, _, _ = PLANTED["decided on another image"]
    shown = {("A", "B"): replace(APART["A", "B"], pixels=(digest("a"), digest("b")))}
    assert difference(old, new, shown).counts()["reopened"] == 0


def random_run(seed: int) -> DetectRun:
    """Products, images, pairs and settings drawn from a few."""
    rng = np.random.default_rng(seed)
    names = [f"P{n}" for n in range(12) if rng.random() < 0.85]
    products = {name: [f"i{rng.integers(6)}" for _ in range(rng.integers(1, 3))] for name in names}
    tiers = ["near", "same_pixels"]
    drawn = {
        (a, b): pair(a, b, tiers[rng.integers(2)], float(rng.integers(90, 100)) / 100)
        for a in names for b in names if a < b and rng.random() < 0.2
    }  # fmt: skip
    reported = [each for each in drawn.values() if rng.random() < 0.7]
    return make_run(
        reported, products, candidates=[each for each in drawn.values() if each[2] == "near"],
        kept=[name for name in names if rng.random() < 0.3],
        shared=[f"i{rng.integers(6)}"], threshold=float(rng.integers(90, 95)) / 100,
        settings={"encoder": f"e{rng.integers(2)}"}, made=f"2026-11-{1 + seed % 28:02}T00:00:00Z",
    )  # fmt: skip


def mirrored(found: Difference) -> pd.DataFrame:
    """The pairs as the difference in the other direction must have them."""
    swap = {name: f"{'new' if name.startswith('old') else 'old'}{name[3:]}"
            for name in found.pairs.columns if name[:4] in ("old_", "new_")}  # fmt: skip
    rows = found.pairs.rename(columns={**swap, "in_old": "in_new", "in_new": "in_old"})
    words = {a: b for pair in CAUSES.values() for a, b in (pair, pair[::-1])}
    return rows.assign(
        state=rows["state"].map(MIRROR), cause=rows["cause"].map(lambda each: words.get(each, each))
    )


@pytest.mark.parametrize("seed", range(12))
def test_laws_of_the_difference_of_two_runs(seed: int) -> None:
    a, b = random_run(2 * seed), random_run(2 * seed + 1)
    found, back = difference(a, b), difference(b, a)
    counts = found.counts()
    assert counts["new"] + counts["changed"] + counts["same"] == len(b.result.pairs)
    assert counts["gone"] + counts["changed"] + counts["same"] == len(a.result.pairs)
    assert not (found.pairs["cause"] == "").any()
    names = ["product_id_a", "product_id_b", "state", "cause", "first_seen", "old_kept", "new_tier"]
    expected = mirrored(found)[names].sort_values(names).reset_index(drop=True)
    pd.testing.assert_frame_equal(
        back.pairs[names].sort_values(names).reset_index(drop=True), expected
    )
    kinds = {"grown": "shrunk", "split": "merged", "new": "gone"}
    kinds |= {value: key for key, value in kinds.items()}
    here = [(row.old_group, row.new_group, {kinds.get(kind, kind) for kind in row.changes.split()})
            for row in found.groups.itertuples()]  # fmt: skip
    there = [(row.new_group, row.old_group, {*row.changes.split()})
             for row in back.groups.itertuples()]  # fmt: skip
    assert sorted(here, key=str) == sorted(there, key=str)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_does_not_differ_from_itself(seed: int) -> None:
    one = random_run(seed)
    found = difference(one, one)
    assert not len(found.pairs)
    assert not len(found.groups)
    assert found.n_same == len(one.result.pairs)
    assert found.sentence().startswith(f"since {one.made}: no pair changed, ")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("AB", "ABC", {("A", "A", "grown")}),
        ("ABC", "AB", {("A", "A", "shrunk")}),
        ("ABCD", "AB CD", {("A", "A", "shrunk split"), ("A", "C", "split")}),
        ("AB CD", "ABCD", {("A", "A", "grown merged"), ("C", "A", "merged")}),
        ("AB", "CD", {("A", "", "gone"), ("", "C", "new")}),
        ("AB", "BC", {("A", "B", "grown shrunk kept_changed")}),
        ("ABC", "ABC", set()),
    ],
)
def test_groups_are_matched_by_what_they_share(
    old: str, new: str, expected: set[tuple[str, str, str]]
) -> None:
    runs = [run(*(pair(group[0], other) for group in side.split() for other in group[1:]))
            for side in (old, new)]  # fmt: skip
    found = difference(*runs).groups
    assert {tuple(row) for row in found[["old_group", "new_group", "changes"]].to_numpy()} == (
        expected
    )


def test_the_first_date_is_carried_forward() -> None:
    first = difference(run(CD), run(AB, CD, **LATER))
    third = run(AB, CD, made="2026-11-15T00:00:00Z")
    later = difference(run(AB, CD, **LATER), third, seen=first.seen)
    assert later.seen.set_index("product_id_a")["first_seen"].to_dict() == {
        "A": "2026-11-08T00:00:00Z",
        "C": "2026-11-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("states", "expected"),
    [(["new"], ["1 new"]), (["gone"], []), ([], []), (["gone", "new"], ["1 new"])],
)
def test_states_that_a_scheduler_fails_on(states: list[str], expected: list[str]) -> None:
    assert alarming(difference(run(CD), run(AB, CD)), states) == expected
    assert alarming(difference(run(CD), run(AB, CD), APART), states) == []
