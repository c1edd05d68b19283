"""The audit of a run: pairs drawn with known probability, and shown without their score.

Labels of the usual work are no sample: the surest come first, or the most doubtful. So 1 item in
``EVERY`` is drawn by chance. Pairs are drawn one after another without replacement, each in
proportion to its weight among those that are left: the order of exponential clocks (Efraimidis and
Spirakis, Weighted random sampling with a reservoir, 2006). Any part of the pairs, such as those
above a threshold, is then drawn in the same way by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.review.decisions import Decision, Pair
from dedup.review.history import History

Floats = npt.NDArray[np.float64]

EVERY = 20
"""Of so many items that are shown, one belongs to the audit."""

SECOND = 10
"""Of so many audited pairs, one is shown to a second reviewer too, where there is one."""

MIN_SCORE = 0.05
"""Score from which a pair that is not reported is audited; surer ones are the rest of recall."""

EXACT = 0.999
"""Probability that two products with equal images are duplicates."""

EDGES = (MIN_SCORE, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
"""Lower ends of the strata of scores but the first, which is below."""

REPORTED = 0.5
"""Share of the draws from the reported pairs; the rest tell of recall."""

EVEN = 0.8
"""Share of the draws of each part that is spread evenly over its pairs. The others go by
``sqrt(p (1 - p))`` of a stratum (Neyman, On the two different aspects of the representative method,
1934). Chosen on ``benchmarks/calibrated.py``: with less, one wrong sure pair weighs too much."""


class Draw(NamedTuple):
    """A pair that is audited.

    Attributes:
        place: its place in the order of the draws, from 0.
        inclusion: probability with which it was drawn among those that were left.
        stratum: number of its stratum of scores.
        has_second: whether a second reviewer is asked too.
    """

    place: int
    inclusion: float
    stratum: int
    has_second: bool


@dataclass(frozen=True)
class Frame:
    """The pairs of a run that may be audited.

    Attributes:
        pairs: (n,) the pairs.
        scores: (n,) probabilities of copies, 0 to 1.
        reported: (n,) bool, whether the run reports them.
        weights: (n,) in proportion to their chance in a draw; the sum is 1.
        order: (n,) places of the pairs in the order of the draws.
    """

    pairs: Sequence[Pair]
    scores: Floats
    reported: npt.NDArray[np.bool_]
    weights: Floats
    order: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls, pairs: Sequence[Pair], scores: Floats, reported: npt.NDArray[np.bool_], seed: str
    ) -> Frame:
        """Weigh pairs and draw their order.

        Args:
            pairs: each once.
            scores: see the attribute; NaN where nothing is known.
            reported: see the attribute.
            seed: the run's name; another one gives another order.
        """
        known = np.where(np.isnan(scores), 0.5, scores)
        weights = weights_of(known, reported)
        clocks = -np.log([_uniform(seed, pair) for pair in pairs]) / weights
        return cls(pairs, known, reported, weights, np.argsort(clocks, kind="stable"))

    def draws(self, n: int) -> list[tuple[Pair, Draw]]:
        """List the first draws, n at most."""
        order = self.order[:n]
        weights = self.weights[order]
        left = 1 - np.concatenate([[0.0], np.cumsum(weights)[:-1]]) if len(order) else weights
        chance = np.minimum(weights / np.maximum(left, weights), 1)
        strata = strata_of(self.scores[order])
        return [
            (self.pairs[at], Draw(place, float(chance[place]), int(strata[place]),
                                  place % SECOND == SECOND - 1))
            for place, at in enumerate(order.tolist())
        ]  # fmt: skip


def strata_of(scores: Floats) -> npt.NDArray[np.int64]:
    """Return the stratum of each score, 0 to ``len(EDGES)``."""
    return np.searchsorted(EDGES, scores, side="right").astype(np.int64)


def weights_of(scores: Floats, reported: npt.NDArray[np.bool_]) -> Floats:
    """Compute the weights of pairs, equal within a stratum of reported or other ones.

    Args:
        scores: (n,) probabilities, 0 to 1.
        reported: (n,) whether the run reports them.
    """
    weights = np.zeros(len(scores))
    parts = [(part, share) for part, share in ((reported, REPORTED), (~reported, 1 - REPORTED))
             if part.any()]  # fmt: skip
    for part, share in parts:
        stratum = strata_of(scores[part])
        n = np.bincount(stratum, minlength=len(EDGES) + 1)
        mean = np.bincount(stratum, scores[part], len(EDGES) + 1) / np.maximum(n, 1)
        spread = np.sqrt(np.clip(mean * (1 - mean), 1e-6, None))[stratum]
        weights[part] = share * (EVEN / part.sum() + (1 - EVEN) * spread / spread.sum())
    total = weights.sum()
    return weights / total if total else weights


def _uniform(seed: str, pair: Pair) -> float:
    """Draw a number above 0 and below 1 for a pair, the same on every machine."""
    text = "\0".join((seed, *pair)).encode("utf-8", "surrogatepass")
    return (int.from_bytes(hashlib.sha256(text).digest()[:6]) + 0.5) / 2**48


def label(history: History, pair: Pair) -> str:
    """Return the verdict that people gave on a pair; "" where there is none.

    What a rule decided for many pairs at once is no label.
    """
    rows = history.follows(pair)
    return history.verdict(pair) if rows and all(row.source != "rule" for row in rows) else ""


def second_opinions(history: History, pair: Pair) -> tuple[Decision, Decision] | None:
    """Return the last two decisions on a pair by different people who saw no score."""
    rows = [
        row
        for row in history.of_product(pair[0])
        if row.pair == pair and row.context.get("blind") and not history.is_undone(row.batch)
    ]
    for row in rows[1:]:
        if row.reviewer != rows[0].reviewer:
            return row, rows[0]
    return None


def interleaved(
    usual: Sequence[int], audited: Sequence[int], first: int = 0, every: int = EVERY
) -> list[int]:
    """Put an audited item at every so manieth place, and some at the beginning.

    Args:
        usual: numbers of the other items in their order.
        audited: numbers of the audited items in the order of their draws.
        first: how many audited ones come before all others.
        every: of so many items one is audited.
    """
    order, rest = list(audited[:first]), iter(audited[first:])
    for at, item in enumerate(usual, 1):
        order.append(item)
        if at % (every - 1) == 0:
            order += [one for one in [next(rest, None)] if one is not None]
    return order


def for_calibration(
    usual: Sequence[int],
    audited: Sequence[int],
    doubt: Mapping[int, float],
    seen: Mapping[int, int],
    started: Collection[int] = (),
) -> list[int]:
    """Order items by what a calibration gains: half audit, a quarter each of the two others.

    Args:
        usual: numbers of the other items.
        audited: numbers of the audited items in the order of their draws.
        doubt: distance from the threshold in log odds, by item.
        seen: how often something of its category and edits was decided on, by item.
        started: items that are left out.
    """
    others = [item for item in usual if item not in started]
    near = iter(sorted(others, key=lambda item: (doubt[item], item)))
    new = iter(sorted(others, key=lambda item: (seen[item], item)))
    audit, order = iter(audited), dict[int, None]()
    while len(order) < len(others) + len(audited):
        before = len(order)
        for stream in (audit, near, audit, new):
            fresh = (item for item in stream if item not in order)
            if (item := next(fresh, None)) is not None:
                order[item] = None
        if len(order) == before:
            break
    return list(order)


def distance_in_odds(score: float, threshold: float) -> float:
    """Compute how far two probabilities are from each other, in log odds."""
    one, other = (min(max(value, 1e-6), 1 - 1e-6) for value in (score, threshold))
    return abs(math.log(one / (1 - one)) - math.log(other / (1 - other)))
