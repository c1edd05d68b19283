"""How well duplicates are found: of ranked pairs, of decided pairs and of groups.

A share of nothing is ``nan``: precision where nothing was found, recall where nothing is to be
found.
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
    """Decided pairs against the true ones.

    Attributes:
        precision: share of the pairs found that are true.
        recall: share of the true pairs that were found.
        f1: harmonic mean of the two.
        n_found: pairs found, right or wrong.
        n_true: pairs to be found.
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
    """Groups against the true ones.

    Attributes:
        precision: of an item's group, the share that truly belongs with it; mean over the items.
        recall: of an item's true group, the share that is in its group; mean over the items.
        f1: harmonic mean of the two.
    """

    precision: float
    recall: float
    f1: float


def average_precision(
    scores: npt.ArrayLike, is_match: npt.ArrayLike, n_positives: int | None = None
) -> float:
    """Micro average precision (uAP) of all scored pairs: the mean precision at each true pair.

    The measure of Perronnin et al. (2009), "A family of contextual measures of similarity between
    distributions", in the form of the Image Similarity Challenge (Douze et al. 2021,
    arXiv:2106.09672): pairs of all queries in one ranking, no interpolation, and of equal scores
    the wrong pairs first, so that a tie never helps.

    Args:
        scores: (n,) of each pair, the higher the surer; infinities are numbers here.
        is_match: (n,) whether each pair is true.
        n_positives: true pairs in all, those never proposed among them; default: those given.

    Returns:
        From 0 to 1; ``nan`` where there is no true pair.

    Raises:
        ValueError: lengths differ, a score is ``nan``, or more pairs are true than ``n_positives``.
    """
    _, right, total = _ranked(scores, is_match, n_positives)
    places = np.flatnonzero(right) + 1
    return _share(float(np.sum(np.arange(1, len(places) + 1) / places)), total)


def recall_at_precision(
    scores: npt.ArrayLike,
    is_match: npt.ArrayLike,
    precision: float,
    n_positives: int | None = None,
) -> tuple[float, float]:
    """The largest recall at which the precision is at least the one asked for.

    One of the measures of the Image Similarity Challenge (Douze et al. 2021, arXiv:2106.09672), but
    for ties: here a threshold takes all pairs of a score or none.

    Args:
        scores: (n,) of each pair, the higher the surer.
        is_match: (n,) whether each pair is true.
        precision: above 0, up to 1.
        n_positives: true pairs in all, those never proposed among them; default: those given.

    Returns:
        The recall, and the score from which on pairs are taken; (0.0, inf) if there is none.

    Raises:
        ValueError: as ``average_precision``, or ``precision`` is out of range.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision={precision} is not above 0 and up to 1")
    ranked, right, total = _ranked(scores, is_match, n_positives)
    ends = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    taken = np.flatnonzero(ends) + 1
    hits = np.cumsum(right)[ends]
    enough = np.flatnonzero((hits > 0) & (hits / taken >= precision))
    if not len(enough):
        return 0.0, math.inf
    # of equal recalls the first: further wrong pairs alone gain nothing
    best = enough[np.argmax(hits[enough])]
    return float(hits[best] / total), float(ranked[taken[best] - 1])


def pair_scores(
    found: pd.DataFrame, truth: pd.DataFrame, ignored: pd.DataFrame | None = None
) -> PairScores:
    """Precision, recall and F1 of pairs.

    Args:
        found: columns ``product_id_a`` and ``product_id_b``, as those of ``truth`` and ``ignored``.
            The order of two products does not matter; a pair counts once.
        truth: the pairs to be found.
        ignored: pairs that count neither for nor against, even where they are true.

    Raises:
        ValueError: a pair is of a product with itself.
    """
    skipped = set() if ignored is None else _pairs(ignored)
    mine, true = _pairs(found) - skipped, _pairs(truth) - skipped
    n_right = len(mine & true)
    return PairScores(
        precision=_share(n_right, len(mine)),
        recall=_share(n_right, len(true)),
        f1=_share(2 * n_right, len(mine) + len(true)),
        n_found=len(mine),
        n_true=len(true),
        n_wrong=len(mine) - n_right,
    )


def bcubed(groups: pd.DataFrame, truth: pd.DataFrame, items: Collection[str]) -> BCubed:
    """B-cubed precision, recall and F1 of groups, every item with the same weight.

    Bagga and Baldwin (1998), "Algorithms for scoring coreference chains".

    Args:
        groups: columns ``product_id`` and ``group_id``, as those of ``truth``. The names of the
            groups do not matter.
        truth: the true groups.
        items: all products, each once; one that is in no group is a group of its own.

    Raises:
        ValueError: a product is twice in ``groups``, ``truth`` or ``items``, or not in ``items``.
    """
    everything = pd.Index(list(items), dtype=object)
    mine, true = _labels(groups, everything), _labels(truth, everything)
    both = np.stack([mine, true], axis=1)
    _, inverse, counts = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    common = counts[inverse.reshape(-1)]
    precision = _share(float(np.sum(common / np.bincount(mine)[mine])), len(everything))
    recall = _share(float(np.sum(common / np.bincount(true)[true])), len(everything))
    return BCubed(precision, recall, _share(2 * precision * recall, precision + recall))


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a share, without continuity correction.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22, 209-212.

    Args:
        successes: from 0 to n.
        n: trials; (0.0, 1.0) is the interval of none.
        confidence: between 0 and 1, two-sided.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= successes <= n or not 0 < confidence < 1:
        raise ValueError(f"{successes} of {n} with confidence {confidence} is no share")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = successes + z * z / 2
    half = z * math.sqrt(successes * (n - successes) / n + z * z / 4)
    # the ends are exact: rounding must not leave a share outside of its own interval
    low = 0.0 if successes == 0 else (middle - half) / (n + z * z)
    high = 1.0 if successes == n else (middle + half) / (n + z * z)
    return low, high


def _ranked(
    scores: npt.ArrayLike, is_match: npt.ArrayLike, n_positives: int | None
) -> tuple[Floats, npt.NDArray[np.bool_], int]:
    """Scores from the highest, whether each pair is true (after wrong ones), all true pairs."""
    values, right = np.asarray(scores, np.float64), np.asarray(is_match, bool)
    if values.ndim != 1 or values.shape != right.shape:
        raise ValueError(f"scores {values.shape} and is_match {right.shape} are no two equal rows")
    if np.isnan(values).any():
        raise ValueError("a score is nan")
    n_right = int(right.sum())
    total = n_right if n_positives is None else n_positives
    if total < n_right:
        raise ValueError(f"{n_right} pairs are true, n_positives={total}")
    order = np.lexsort((right, -values))
    return values[order], right[order], total


def _share(part: float, whole: float) -> float:
    """A ratio, ``nan`` of nothing."""
    return part / whole if whole else math.nan


def _pairs(table: pd.DataFrame) -> set[tuple[str, str]]:
    """Each pair once, the smaller id first."""
    ends = zip(table["product_id_a"], table["product_id_b"], strict=True)
    pairs = {(a, b) if a < b else (b, a) for a, b in ends}
    for a, b in pairs:
        if a == b:
            raise ValueError(f"{a!r} is paired with itself")
    return pairs


def _labels(groups: pd.DataFrame, items: pd.Index[str]) -> Ints:
    """(n,) the number of each item's group; an item without one has a number of its own."""
    members = pd.Index(groups["product_id"], dtype=object)
    if not members.is_unique or not items.is_unique:
        raise ValueError("a product stands twice")
    places = items.get_indexer(members)
    if (places < 0).any():
        raise ValueError(f"{members[places < 0][0]!r} is not among the items")
    codes, names = pd.factorize(groups["group_id"], use_na_sentinel=False)
    labels = len(names) + np.arange(len(items))
    labels[places] = codes
    return labels
