"""Measures against slow loops, counts by hand, laws and other implementations."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from dedup.runtime.metrics import (
    BCubed,
    PairScores,
    average_precision,
    bcubed,
    pair_scores,
    recall_at_precision,
    wilson,
)
from tests.support.effort import examples

RANKINGS = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), max_size=25)
"""Scores with many ties, and what is true."""

PARTITIONS = st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=15)
"""The group and the true group of each item; -1 is none."""


def split(ranking: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in ranking], [match for _, match in ranking]


def pairs(*names: str) -> pd.DataFrame:
    """``pairs("AB")`` is the pair of A and B."""
    return pd.DataFrame([list(name) for name in names], columns=["product_id_a", "product_id_b"])


def groups(**members: str) -> pd.DataFrame:
    """``groups(one="AB")`` is A and B in a group."""
    rows = [(item, name) for name, items in members.items() for item in items]
    return pd.DataFrame(rows, columns=["product_id", "group_id"])


def slow_average_precision(ranking: Sequence[tuple[float, bool]], n_positives: int) -> float:
    """Each recall step times the precision after it, pair by pair."""
    total, hits, recall = 0.0, 0, 0.0
    for place, (_, match) in enumerate(sorted(ranking, key=lambda row: (-row[0], row[1])), 1):
        hits += match
        total += (hits / n_positives - recall) * hits / place
        recall = hits / n_positives
    return total


@settings(max_examples=examples(60), deadline=None)
@given(RANKINGS, st.integers(0, 3))
def test_average_precision_is_that_of_a_loop(
    ranking: list[tuple[float, bool]], missed: int
) -> None:
    n_positives = sum(match for _, match in ranking) + missed
    found = average_precision(*split(ranking), n_positives)
    if n_positives:
        assert found == pytest.approx(slow_average_precision(ranking, n_positives), abs=1e-12)
        assert 0 <= found <= 1
    else:
        assert math.isnan(found)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_without_ties_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, is_match = rng.permutation(500) / 500 - 0.5, rng.random(500) < 0.1
    expected = average_precision_score(is_match, scores)
    assert average_precision(scores, is_match) == pytest.approx(expected)
    n_positives = 2 * int(is_match.sum())
    assert average_precision(scores, is_match, n_positives) == pytest.approx(expected / 2)


def test_average_precision_by_hand() -> None:
    scores, is_match = [0.9, 0.8, 0.7, 0.6], [True, False, True, False]
    assert average_precision(scores, is_match) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(scores, is_match, 4) == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert average_precision([np.inf, 0, -np.inf], [True, False, True]) == pytest.approx(5 / 6)
    assert average_precision([], [], 3) == 0


def test_one_score_for_all_is_worth_what_the_worst_order_is() -> None:
    assert average_precision([1, 1, 1, 1], [True, True, False, False]) == (1 / 3 + 2 / 4) / 2


@settings(max_examples=examples(40), deadline=None)
@given(RANKINGS)
def test_only_the_order_of_scores_matters(ranking: list[tuple[float, bool]]) -> None:
    scores, is_match = split(ranking)
    swapped = ranking[::-1]
    other = [math.exp(score) for score, _ in swapped], [match for _, match in swapped]
    assert average_precision(scores, is_match, 30) == average_precision(*other, 30)
    assert (
        recall_at_precision(scores, is_match, 0.5, 30)[0]
        == (recall_at_precision(*other, 0.5, 30)[0])
    )


@settings(max_examples=examples(60), deadline=None)
@given(RANKINGS, st.sampled_from([0.1, 1 / 3, 0.5, 0.9, 1.0]), st.integers(0, 3))
def test_recall_at_precision_is_the_best_of_all_thresholds(
    ranking: list[tuple[float, bool]], precision: float, missed: int
) -> None:
    n_positives = sum(match for _, match in ranking) + missed
    best = (0.0, math.inf)
    for threshold in sorted({score for score, _ in ranking}, reverse=True):
        taken = [match for score, match in ranking if score >= threshold]
        if sum(taken) / len(taken) >= precision and sum(taken) / n_positives > best[0]:
            best = (sum(taken) / n_positives, threshold)
    assert recall_at_precision(*split(ranking), precision, n_positives) == best


def test_recall_at_precision_by_hand() -> None:
    scores = [0.9, 0.8, 0.8, 0.7, 0.6]
    is_match = [True, True, False, True, False]
    assert recall_at_precision(scores, is_match, 1) == (1 / 3, 0.9)
    assert recall_at_precision(scores, is_match, 0.75) == (1, 0.7)
    assert recall_at_precision(scores, is_match, 0.75, 6) == (0.5, 0.7)
    nine_of_ten = [True] * 9 + [False]
    assert recall_at_precision([1] * 10, nine_of_ten, 0.9) == (1, 1)
    assert recall_at_precision([1] * 10, nine_of_ten, 0.91) == (0, math.inf)
    assert recall_at_precision([], [], 0.9) == (0, math.inf)
    assert recall_at_precision([1], [False], 0.1) == (0, math.inf)


@pytest.mark.parametrize("precision", [0, -0.1, 1.01, math.nan])
def test_a_precision_out_of_range_is_refused(precision: float) -> None:
    with pytest.raises(ValueError, match="precision="):
        recall_at_precision([1], [True], precision)


@pytest.mark.parametrize(
    ("scores", "is_match", "n_positives", "message"),
    [
        ([1, 2], [True], None, "expected two arrays"),
        ([[1, 2]], [[True, False]], None, "expected two arrays"),
        ([1, math.nan], [True, False], None, "nan"),
        ([1, 2], [True, True], 1, "n_positives=1 is less than the 2 true pairs"),
    ],
)
def test_what_is_no_ranking_is_refused(
    scores: list[float], is_match: list[bool], n_positives: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision(scores, is_match, n_positives)
    with pytest.raises(ValueError, match=message):
        recall_at_precision(scores, is_match, 0.9, n_positives)


def test_pairs_by_hand() -> None:
    found = pairs("AB", "BA", "CA", "DE", "FG", "XY")
    truth = pairs("BA", "AC", "BC", "GH", "XY")
    assert pair_scores(found, truth, pairs("YX", "GF", "HG")) == PairScores(
        precision=2 / 3, recall=2 / 3, f1=2 / 3, n_found=3, n_true=3, n_wrong=1
    )
    assert pair_scores(found, truth) == PairScores(3 / 5, 3 / 5, 3 / 5, 5, 5, 2)
    assert pair_scores(pairs("AB"), pairs("AB", "CD", "EF")) == PairScores(1, 1 / 3, 2 / 4, 1, 3, 0)


def test_a_share_of_no_pairs_is_nan() -> None:
    nothing = pair_scores(pairs(), pairs("AB"))
    assert math.isnan(nothing.precision)
    assert (nothing.recall, nothing.f1) == (0, 0)
    needless = pair_scores(pairs("AB"), pairs())
    assert math.isnan(needless.recall)
    assert (needless.precision, needless.f1, needless.n_wrong) == (0, 0, 1)
    assert math.isnan(pair_scores(pairs(), pairs()).f1)


def test_a_product_is_no_pair_with_itself() -> None:
    with pytest.raises(ValueError, match="'A' is paired with itself"):
        pair_scores(pairs("AB", "AA"), pairs("AB"))


def test_groups_by_hand() -> None:
    truth = groups(x="12345", y="67", z="89ABC")
    one = bcubed(groups(a="12345", b="6789ABC"), truth, "123456789ABC")
    # Bagga and Baldwin's first example: 16/21 (76 %) precise, nothing is missed
    assert one.precision == pytest.approx((5 * 1 + 2 * 2 / 7 + 5 * 5 / 7) / 12)
    assert (one.precision, one.recall) == pytest.approx((16 / 21, 1))
    assert one.f1 == pytest.approx(32 / 37)
    # their second: a count of wrong links, one here as there, sees no difference
    two = bcubed(groups(a="1234589ABC", b="67"), truth, "123456789ABC")
    assert (two.precision, two.recall) == pytest.approx((7 / 12, 1))
    assert bcubed(groups(), groups(x="AB"), "AB") == BCubed(1, 1 / 2, 2 / 3)
    assert bcubed(groups(x="AB"), groups(), "ABCD").precision == pytest.approx(3 / 4)


def slow_bcubed(mine: Mapping[str, str], true: Mapping[str, str]) -> tuple[float, float]:
    """Item by item, from the sets of items that share its group."""
    precision, recall = [], []
    for item in mine:
        here = {other for other in mine if mine[other] == mine[item]}
        there = {other for other in true if true[other] == true[item]}
        precision.append(len(here & there) / len(here))
        recall.append(len(here & there) / len(there))
    return sum(precision) / len(mine), sum(recall) / len(mine)


@settings(max_examples=examples(60), deadline=None)
@given(PARTITIONS)
def test_bcubed_is_that_of_a_loop(partition: list[tuple[int, int]]) -> None:
    items = [f"P{number}" for number in range(len(partition))]
    tables, wholes = [], []
    for column in (0, 1):
        named = {item: f"P{row[column]}" for item, row in zip(items, partition, strict=True)}
        inside = {item: name for item, name in named.items() if name != "P-1"}
        tables.append(pd.DataFrame(list(inside.items()), columns=["product_id", "group_id"]))
        wholes.append({item: inside.get(item, f"alone {item}") for item in items})
    found = bcubed(tables[0], tables[1], items)
    precision, recall = slow_bcubed(*wholes)
    assert (found.precision, found.recall) == pytest.approx((precision, recall))
    assert found.f1 == pytest.approx(2 / (1 / precision + 1 / recall))
    turned = bcubed(tables[1].sample(frac=1, random_state=1), tables[0], items[::-1])
    assert (turned.recall, turned.precision) == pytest.approx((precision, recall))
    assert bcubed(tables[0], tables[0], items) == BCubed(1, 1, 1)


def test_what_are_no_groups_is_refused() -> None:
    for mine, truth in ((groups(x="A", y="A"), groups()), (groups(), groups(x="A", y="A"))):
        with pytest.raises(ValueError, match="twice"):
            bcubed(mine, truth, "AB")
    with pytest.raises(ValueError, match="twice"):
        bcubed(groups(), groups(), "AA")
    with pytest.raises(ValueError, match="'C' is not among the items"):
        bcubed(groups(x="AC"), groups(), "AB")
    assert math.isnan(bcubed(groups(), groups(), []).f1)


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_that_of_scipy(n: int, share: float, confidence: float) -> None:
    successes = round(share * n)
    low, high = wilson(successes, n, confidence)
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_wilson_by_hand() -> None:
    assert wilson(0, 0) == (0, 1)
    low, high = wilson(10, 10)  # n / (n + z²)
    assert (low, high) == pytest.approx((10 / (10 + 1.959964**2), 1))
    for successes, n, confidence in ((-1, 5, 0.95), (6, 5, 0.95), (1, 5, 0), (1, 5, 1)):
        with pytest.raises(ValueError, match="is no share"):
            wilson(successes, n, confidence)
