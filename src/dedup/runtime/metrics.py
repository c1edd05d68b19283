"""Measures of ranked pairs, decided pairs and groups, and a confidence interval of shares.

An undefined share is ``nan``: precision without found pairs, recall without true pairs.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PairScores:
    """Precision, recall and F1 of pairs, with their counts.

    Attributes:
        precision: share of the pairs found that are true.
        recall: share of the true pairs that were found.
        f1: harmonic mean of precision and recall.
        n_found: pairs found, right or wrong.
        n_true: true pairs.
        n_wrong: pairs found that are not true.
    """

    precision: float
    recall: float
    f1: float
    n_found: int
    n_true: int
    n_wrong: int


@dataclass(frozen=True)
class BCubed:
    """B-cubed precision, recall and F1 of groups.

    Attributes:
        precision: share of an item's group that truly belongs with it, as a mean over items.
        recall: share of an item's true group that is in its group, as a mean over items.
        f1: harmonic mean of precision and recall.
    """

    precision: float
    recall: float
    f1: float


def average_precision(
    scores: npt.ArrayLike, is_match: npt.ArrayLike, n_positives: int | None = None
) -> float:
    """Compute the micro average precision (uAP) of scored pairs: mean precision at each true pair.

    The measure of Perronnin et al. (2009), "A family of contextual measures of similarity between
    distributions", in the form of the Image Similarity Challenge (Douze et al. 2021,
    arXiv:2106.09672): one ranking for the pairs of all queries, and no interpolation. Of equal
    scores the wrong pairs come first, so that a tie never helps.

    Args:
        scores: (n,) score of each pair, higher is surer; infinities are allowed.
        is_match: (n,) whether each pair is true.
        n_positives: number of true pairs, including pairs without a score; by default the number
            in ``is_match``.

    Returns:
        The uAP from 0 to 1; ``nan`` if there is no true pair.

    Raises:
        ValueError: lengths differ, a score is ``nan``, or more pairs are true than ``n_positives``.
    """
    _, is_true, total = _ranked(scores, is_match, n_positives)
    places = np.flatnonzero(is_true) + 1
    return _share(float(np.sum(np.arange(1, len(places) + 1) / places)), total)


def recall_at_precision(
    scores: npt.ArrayLike,
    is_match: npt.ArrayLike,
    precision: float,
    n_positives: int | None = None,
) -> tuple[float, float]:
    """Find the largest recall at which the precision reaches a given value.

    A measure of the Image Similarity Challenge (Douze et al. 2021, arXiv:2106.09672), except for
    ties: here a threshold takes all pairs of a score or none.

    Args:
        scores: (n,) score of each pair, higher is surer.
        is_match: (n,) whether each pair is true.
        precision: lowest precision, above 0, up to 1.
        n_positives: see ``average_precision``.

    Returns:
        The recall, and the lowest score of the pairs taken; (0.0, inf) if there is none.

    Raises:
        ValueError: as ``average_precision``, or ``precision`` is out of range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision={precision} is out of range: expected above 0, up to 1")
    ranked, is_true, total = _ranked(scores, is_match, n_positives)
    ends = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    taken = np.flatnonzero(ends) + 1
    hits = np.cumsum(is_true)[ends]
    enough = np.flatnonzero((hits > 0) & (hits / taken >= precision))
    if not len(enough):
        return 0.0, math.inf
    # the first of equal recalls: the later ones add wrong pairs only
    best = enough[np.argmax(hits[enough])]
    return float(hits[best] / total), float(ranked[taken[best] - 1])


def pair_scores(
    found: pd.DataFrame, truth: pd.DataFrame, ignored: pd.DataFrame | None = None
) -> PairScores:
    """Compute precision, recall and F1 of pairs.

    Args:
        found: columns ``product_id_a`` and ``product_id_b``, like ``truth`` and ``ignored``. The
            order of two products does not matter; a pair counts once.
        truth: the true pairs.
        ignored: pairs that count neither for nor against, even if they are true.

    Raises:
        ValueError: a pair is of a product with itself.
    """
    skipped = set() if ignored is None else _pairs(ignored)
    predicted, true = _pairs(found) - skipped, _pairs(truth) - skipped
    n_hits = len(predicted & true)
    return PairScores(
        precision=_share(n_hits, len(predicted)),
        recall=_share(n_hits, len(true)),
        f1=_share(2 * n_hits, len(predicted) + len(true)),
        n_found=len(predicted),
        n_true=len(true),
        n_wrong=len(predicted) - n_hits,
    )


def bcubed(groups: pd.DataFrame, truth: pd.DataFrame, items: Collection[str]) -> BCubed:
    """Compute B-cubed precision, recall and F1 of groups; every item has the same weight.

    Bagga and Baldwin (1998), "Algorithms for scoring coreference chains".

    Args:
        groups: columns ``product_id`` and ``group_id``, like ``truth``. The names of the groups do
            not matter.
        truth: the true groups.
        items: all products, each once; a product in no group is a group of its own.

    Raises:
        ValueError: a product is twice in ``groups``, ``truth`` or ``items``, or not in ``items``.
    """
    everything = pd.Index(list(items), dtype=object)
    predicted, true = _labels(groups, everything), _labels(truth, everything)
    both = np.stack([predicted, true], axis=1)
    _, inverse, counts = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    common = counts[inverse.reshape(-1)]
    precision = _share(float(np.sum(common / np.bincount(predicted)[predicted])), len(everything))
    recall = _share(float(np.sum(common / np.bincount(true)[true])), len(everything))
    return BCubed(precision, recall, _share(2 * precision * recall, precision + recall))


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval of a share, without continuity correction.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22, 209-212.

    Args:
        successes: number of successes, 0 to n.
        n: number of trials; without any the interval is (0.0, 1.0).
        confidence: two-sided confidence, between 0 and 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(
            f"{successes} of {n} with confidence {confidence} is no share: expected "
            "0 <= successes <= n and 0 < confidence < 1"
        )
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = successes + z * z / 2
    half = z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    # exact at the ends: rounding must not put a share outside of its own interval
    low = 0.0 if successes == 0 else (middle - half) / (n + z * z)
    high = 1.0 if successes == n else (middle + half) / (n + z * z)
    return low, high


def _ranked(
    scores: npt.ArrayLike, is_match: npt.ArrayLike, n_positives: int | None
) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """Sort pairs by falling score, wrong ones first in ties; return scores, truth, n_positives."""
    values, is_true = np.asarray(scores, np.float64), np.asarray(is_match, bool)
    if values.ndim != 1 or values.shape != is_true.shape:
        raise ValueError(
            f"scores of shape {values.shape} and is_match of shape {is_true.shape} differ: "
            "expected two arrays (n,)"
        )
    if np.isnan(values).any():
        raise ValueError("a score is nan: expected numbers")
    n_hits = int(is_true.sum())
    total = n_hits if n_positives is None else n_positives
    if total < n_hits:
        raise ValueError(f"n_positives={total} is less than the {n_hits} true pairs given")
    order = np.lexsort((is_true, -values))
    return values[order], is_true[order], total


def _share(part: float, whole: float) -> float:
    """Divide, with ``nan`` for a whole of 0."""
    return part / whole if whole else math.nan


def _pairs(table: pd.DataFrame) -> set[tuple[str, str]]:
    """Collect each pair once, the smaller id first."""
    ends = zip(table["product_id_a"], table["product_id_b"], strict=True)
    pairs = {(a, b) if a < b else (b, a) for a, b in ends}
    for a, b in pairs:
        if a == b:
            raise ValueError(f"{a!r} is paired with itself")
    return pairs


def _labels(groups: pd.DataFrame, items: pd.Index[str]) -> Ints:
    """Number the group of each item, (n,); an item in no group has a number of its own."""
    members = pd.Index(groups["product_id"], dtype=object)
    if not members.is_unique or not items.is_unique:
        raise ValueError("a product appears twice: expected each once")
    places = items.get_indexer(members)
    if (places < 0).any():
        raise ValueError(f"{members[places < 0][0]!r} is not among the items")
    codes, names = pd.factorize(groups["group_id"], use_na_sentinel=False)
    labels = len(names) + np.arange(len(items))
    labels[places] = codes
    return labels
