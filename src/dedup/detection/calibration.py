"""Which score a pair must have, so that the pairs reported are right as often as asked.

Nobody has to label anything. The judge's probabilities hold for as many copies among the candidates
as it was fitted with; in a catalogue they are rarer or more common. How common follows from the
probabilities themselves (Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier
to new a priori probabilities, 2002): the share is moved until it equals the mean of the
probabilities that it implies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.metrics import wilson
from dedup.runtime.digits import SCORE, score, share

Floats = npt.NDArray[np.float64]

FLOOR = 0.5
"""No pair is reported that is more likely wrong than right, whatever the asked precision."""

LENIENCY = 30.0
"""One pair may be so many times as doubtful as all of them may be together."""

MAX_SHIFT = 7.0
"""Largest change of the log odds; more would say that the judge knows nothing of such images."""

STEPS = 100

Z = 1.96
"""Standard deviations on either side that 95 % lie within."""

DOUBTFUL = -2.2
"""Log odds, a probability of a tenth, from which on a pair tells how common copies are."""

PSEUDO_PAIRS = 10.0
"""Pairs, with as many copies as where the judge was fitted, that are counted besides."""


class Calibrated(NamedTuple):
    """A threshold and what to expect of it.

    Attributes:
        shift: is added to the judge's log odds in this catalogue.
        min_score: least probability of a pair that is reported.
        precision: expected, and the ends of its interval.
    """

    shift: float
    min_score: float
    precision: tuple[float, float, float]


def probabilities(log_odds: npt.ArrayLike, shift: float = 0.0) -> Floats:
    """Log odds, shifted, as probabilities; -inf gives 0."""
    return np.asarray(1 / (1 + np.exp(-(np.asarray(log_odds, np.float64) + shift))))


def prior_shift(log_odds: Floats, fitted_share: float) -> float:
    """What to add to the log odds so that they hold in this catalogue.

    Only pairs that the judge finds doubtful or better are counted: how many clear strangers are
    among the candidates depends on how many candidates were taken, and says nothing of the rest.

    Args:
        log_odds: (n,) of all candidates.
        fitted_share: share of copies among such pairs, where the judge was fitted.

    Returns:
        The change of the log odds of the share, by expectation maximisation, within 7 of 0.
    """
    doubtful = log_odds[log_odds > DOUBTFUL]
    start, share = _logit(fitted_share), fitted_share
    for _ in range(STEPS):
        expected_copies = probabilities(doubtful, _logit(share) - start).sum()
        share = float(
            (expected_copies + PSEUDO_PAIRS * fitted_share) / (len(doubtful) + PSEUDO_PAIRS)
        )
        share = min(max(share, 1e-6), 1 - 1e-6)
    return float(np.clip(_logit(share) - start, -MAX_SHIFT, MAX_SHIFT))


def caution(log_odds: Floats, fitted_share: float) -> float:
    """``prior_shift``, where it makes the judge less sure, else 0.

    Where copies are common the doubtful pairs are mostly copies, and the share runs to 1: measured,
    that took in three times as many wrong pairs as were expected.
    """
    return min(0.0, prior_shift(log_odds, fitted_share))


def calibrated(log_odds: Floats, precision: float, fitted_share: float) -> Calibrated:
    """The least score whose pairs are expected to be right as often as asked.

    Args:
        log_odds: (n,) of all candidates; -inf where two images could not be compared.
        precision: asked, more than 0 and less than 1.
        fitted_share: see ``prior_shift``.
    """
    shift = caution(log_odds, fitted_share)
    scores = np.sort(score(log_odds, shift))[::-1]
    lowest = floor(precision)
    means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    last = np.append(np.diff(scores) < 0, True)[: len(scores)]  # equal scores go together
    good = np.flatnonzero((means >= precision) & (scores >= lowest) & last)
    n_taken = int(good[-1]) + 1 if len(good) else 0
    least = _between(scores, n_taken, lowest)
    return Calibrated(shift, least, expected_precision(scores[:n_taken]))


def _between(scores: Floats, n_taken: int, lowest: float) -> float:
    """A threshold above which just the first of the falling scores lie; halfway to the next."""
    left_out = max(lowest, float(scores[n_taken])) if n_taken < len(scores) else lowest
    if not n_taken and left_out == lowest and not (scores == lowest).any():
        return lowest
    taken = float(scores[n_taken - 1]) if n_taken else 1.0
    middle = round((left_out + taken) / 2, SCORE + 1)  # scores have SCORE decimals
    return middle if middle > left_out else taken


def floor(precision: float) -> float:
    """The least score that any one pair must have, for the asked precision of all."""
    return max(FLOOR, 1 - LENIENCY * (1 - precision))


def expected_precision(scores: Floats) -> tuple[float, float, float]:
    """The mean of probabilities and where the share of right pairs lies, 95 %.

    The number of right pairs is a sum of independent draws; its normal approximation, with half a
    pair for continuity, widened by Wilson's interval of a share seen in so many pairs.
    """
    n = len(scores)
    if not n:
        return (1.0, 0.0, 1.0)
    mean = float(scores.mean())
    low, high = wilson(round(mean * n), n)
    spread = (Z * float(np.sqrt((scores * (1 - scores)).sum())) + 0.5) / n
    return (mean, max(0.0, min(low, mean - spread)), min(1.0, max(high, mean + spread)))


def curve(
    surety: Floats, right: Floats, copies: Floats, n_points: int = 120
) -> list[dict[str, float]]:
    """Expected precision and recall against the threshold.

    Args:
        surety: (n,) of the candidates: scores, or distances with a minus.
        right: (n,) the probability that each is a copy.
        copies: (m,) the surety of edited copies against their originals; -inf where not found.
        n_points: at most so many, from the surest to the least sure.
    """
    order = np.argsort(-surety, kind="stable")
    ordered, means = surety[order], np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    known = np.concatenate([ordered, copies[np.isfinite(copies)]])
    if not len(known):
        return []
    parts = np.linspace(0, 1, n_points // 2)
    # Most are either very sure or not at all; the range between wants points, too.
    even = known.min() + parts * (known.max() - known.min())
    points = []
    for least in np.unique(np.round([*np.quantile(known, parts), *even], SCORE)):
        n = int((ordered >= least).sum())
        recall = float((copies >= least).mean()) if len(copies) else 0.0
        precision = float(means[n - 1]) if n else 1.0
        points.append(
            {"threshold": float(least), "precision": share(precision), "recall": share(recall)}
        )
    return points


def expected(
    calibration: dict[str, Any],
    candidates: pd.DataFrame,
    copies: Floats,
    chains: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """What ``DetectionResult.calibration`` says about recall, and the curve.

    Args:
        calibration: has ``threshold`` and ``higher_is_surer``.
        candidates: the schema ``PAIRS``, with the scores of this catalogue.
        copies: (m,) the surety of edited copies against their originals.
        chains: the edits of each.
    """
    sign = 1 if calibration["higher_is_surer"] else -1
    key = "score" if calibration["higher_is_surer"] else "distance"
    surety = sign * candidates[key].to_numpy(np.float64)
    points = curve(surety, candidates["score"].to_numpy(np.float64), copies)
    for point in points:
        point["threshold"] *= sign
    found = recall_of_copies(copies, chains, sign * calibration["threshold"])
    return {**found, "n_copies": len(copies), "curve": sorted(points, key=_by_threshold)}


def _by_threshold(point: dict[str, float]) -> float:
    return point["threshold"]


def recall_of_copies(
    surety: Floats, chains: Sequence[Sequence[str]], least: float
) -> dict[str, Any]:
    """How many edited copies are found: over all, and by edit.

    Args:
        surety: (m,) of copies against their originals, see ``curve``.
        chains: the edits of each copy.
        least: from where on a pair is reported.
    """
    found = surety >= least
    low, high = wilson(int(found.sum()), len(found))
    edits = pd.DataFrame(
        [(name, hit) for chain, hit in zip(chains, found, strict=True) for name in chain],
        columns=["edit", "found"],
    )
    by_edit = edits.groupby("edit")["found"].agg(["mean", "size"])
    return {
        "expected_recall": [share(found.mean()) if len(found) else 0.0, share(low), share(high)],
        "recall_by_edit": {
            str(name): [share(mean), int(size)] for name, mean, size in by_edit.itertuples()
        },
    }


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))
