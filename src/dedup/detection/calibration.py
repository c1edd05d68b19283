"""Choose the score threshold for an asked precision, without labels.

A score is the probability that a pair is a copy in this catalogue, see ``mixture``. The threshold
is the least one at which the mean of the probabilities from there on is the asked precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.mixture import Posterior, Strata, Z
from dedup.detection.recalibration import Recalibration
from dedup.runtime.digits import SCORE, score, share
from dedup.runtime.metrics import wilson

Floats = npt.NDArray[np.float64]

FLOOR = 0.5
"""Least score of a reported pair, whatever the asked precision: right and wrong equally likely."""

EXACT = 0.999
"""Probability that two products with equal pixels are duplicates: one photo may serve two."""

LENIENCY = 30.0
"""Factor by which a single pair may be more doubtful than all of them together."""

Estimate = tuple[float, float, float]
"""An expected share, 0 to 1, and the low and high ends of its interval."""


@dataclass(frozen=True)
class CurvePoint:
    """Precision and recall expected at one threshold, each 0 to 1."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Recall expected from edited copies of the catalogue's own images.

    Attributes:
        expected_recall: share of the copies that are found.
        recall_by_edit: by the name of an edit, the share found and the number of copies.
        n_copies: number of copies.
        curve: at most 200 points, by threshold.
    """

    expected_recall: Estimate
    recall_by_edit: Mapping[str, tuple[float, int]]
    n_copies: int = 0
    curve: Sequence[CurvePoint] = ()


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A threshold that was chosen, and the precision and recall expected of it.

    Attributes:
        setting: the setting that was chosen: ``verifier.min_score`` or ``matcher.threshold``.
        threshold: its value.
        higher_is_surer: a pair counts from this value up: a score; else down: a distance.
        precision: asked for, 0 to 1.
        expected_precision: of all reported pairs; ``None`` where no near pair is reported.
        interval: the confidence of expected figures, 0 to 1.
        n_pairs: number of candidates.
        recall: ``None`` where no edited copies were made.
        recalibration: what people's decisions made of the scores; ``None`` without.
        strata: mixtures of this catalogue, which scores follow from; not saved.
        crowds: digests of the images whose pairs are crowded, see ``mixture``; not saved.
    """

    setting: str
    threshold: float
    higher_is_surer: bool
    precision: float
    expected_precision: Estimate | None
    interval: float
    n_pairs: int
    recall: Recall | None = None
    recalibration: Recalibration | None = None
    strata: Strata | None = field(default=None, compare=False, repr=False)
    crowds: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as ``calibration.json`` and ``result.json`` hold them.

        ``measured`` keeps the place of figures from the user's own pairs.
        """
        plain = replace(self, recall=None, recalibration=None, strata=None, crowds=frozenset())
        values = asdict(plain)
        del values["recall"], values["recalibration"], values["strata"], values["crowds"]
        values["measured"] = None
        if self.recalibration is not None:
            values["recalibration"] = self.recalibration.to_dict()
        return {**values, **(asdict(self.recall) if self.recall else {})}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take what ``to_dict`` gave; ``dedup.search.manifest`` has checked it in files."""
        names = ("setting", "threshold", "higher_is_surer", "precision", "interval", "n_pairs")
        return cls(
            **{name: values[name] for name in names},
            expected_precision=_estimate(values["expected_precision"]),
            recall=_recall(values) if "n_copies" in values else None,
            recalibration=Recalibration.from_dict(values["recalibration"])
            if values.get("recalibration")
            else None,
        )


def _estimate(values: Sequence[float] | None) -> Estimate | None:
    return None if values is None else (values[0], values[1], values[2])


def _recall(values: Mapping[str, Any]) -> Recall:
    value, low, high = values["expected_recall"]
    by_edit = {name: (share, n) for name, (share, n) in values["recall_by_edit"].items()}
    return Recall(
        expected_recall=(value, low, high),
        recall_by_edit=by_edit,
        n_copies=values["n_copies"],
        curve=[CurvePoint(**point) for point in values["curve"]],
    )


class Calibrated(NamedTuple):
    """A least score and the precision expected of it.

    Attributes:
        min_score: least probability of a reported pair.
        precision: expected, and the ends of its interval.
    """

    min_score: float
    precision: Estimate


def calibrated(posterior: Posterior, precision: float) -> Calibrated:
    """Choose the least score at which the expected precision is the asked one.

    Args:
        posterior: of all candidates; -inf where two images could not be compared.
        precision: asked, more than 0 and less than 1.
    """
    order = np.argsort(-posterior.expected, kind="stable")
    scores = score(posterior.expected[order])
    lowest = floor(precision)
    means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    last = np.append(np.diff(scores) < 0, True)[: len(scores)]  # equal scores go together
    good = np.flatnonzero((means >= precision) & (scores >= lowest) & last)
    n_taken = int(good[-1]) + 1 if len(good) else 0
    least = _between(scores, n_taken, lowest)
    return Calibrated(least, precision_of(posterior.of(order[:n_taken])))


def of_scores(log_odds: Floats) -> Posterior:
    """Take log odds, (n,), as a posterior without an error of its own."""
    return Posterior(log_odds, log_odds, log_odds)


def precision_of(posterior: Posterior) -> Estimate:
    """Compute the expected precision of pairs and its interval.

    The interval holds the chance of these pairs and the error of the density of strangers, of whom
    few may have been seen.
    """
    mean, low, high = expected_precision(score(posterior.expected))
    if not len(posterior.expected):
        return mean, low, high
    slow, fast = (float(score(part).mean()) for part in (posterior.low, posterior.high))
    return mean, max(0.0, low - max(mean - slow, 0)), min(1.0, high + max(fast - mean, 0))


def _between(scores: Floats, n_taken: int, lowest: float) -> float:
    """Choose a threshold just below the first of the falling scores: halfway to the next."""
    left_out = max(lowest, float(scores[n_taken])) if n_taken < len(scores) else lowest
    if not n_taken and left_out == lowest and not (scores == lowest).any():
        return lowest
    taken = float(scores[n_taken - 1]) if n_taken else 1.0
    middle = round((left_out + taken) / 2, SCORE + 1)  # scores have SCORE decimals
    return middle if middle > left_out else taken


def floor(precision: float) -> float:
    """Compute the least score of any one pair, for the asked precision of all."""
    return max(FLOOR, 1 - LENIENCY * (1 - precision))


def expected_precision(scores: Floats) -> Estimate:
    """Compute the mean of probabilities, and a 95 % interval of the share of right pairs.

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


def of_report(calibration: Calibration | None, pairs: pd.DataFrame) -> Calibration | None:
    """State the expected precision of all reported pairs, equal ones included.

    Args:
        calibration: the chosen threshold; ``None`` gives ``None``.
        pairs: the reported pairs, columns of ``PAIRS``, with a score for each near one.
    """
    if calibration is None:
        return None
    is_near = pairs["tier"] == "near"
    if not is_near.any():
        return replace(calibration, expected_precision=None)
    near = calibration.expected_precision or (1.0, 0.0, 1.0)
    mean = float(pairs.loc[is_near, "score"].mean())
    exact = expected_precision(np.full(int((~is_near).sum()), EXACT))
    weight = float(is_near.mean())
    value, low, high = (
        share(weight * of_near + (1 - weight) * of_exact)
        for of_near, of_exact in zip((mean, *near[1:]), exact, strict=True)
    )
    return replace(calibration, expected_precision=(value, min(low, value), max(high, value)))


def curve(surety: Floats, right: Floats, copies: Floats, n_points: int = 120) -> list[CurvePoint]:
    """Compute expected precision and recall against the threshold.

    Args:
        surety: (n,) of the candidates: scores, or distances with a minus.
        right: (n,) their probabilities of being copies.
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
    points: list[CurvePoint] = []
    for least in np.unique(np.round([*np.quantile(known, parts), *even], SCORE)):
        n = int((ordered >= least).sum())
        recall = float((copies >= least).mean()) if len(copies) else 0.0
        precision = float(means[n - 1]) if n else 1.0
        points.append(CurvePoint(float(least), share(precision), share(recall)))
    return points


def expected_recall(
    calibration: Calibration,
    candidates: pd.DataFrame,
    copies: Floats,
    chains: Sequence[Sequence[str]],
) -> Recall:
    """Compute the recall of edited copies at the chosen threshold, and the curve.

    Args:
        calibration: the chosen threshold.
        candidates: the schema ``PAIRS``, with the scores of this catalogue.
        copies: (m,) the surety of edited copies against their originals.
        chains: the edits of each.
    """
    sign = 1 if calibration.higher_is_surer else -1
    column = "score" if calibration.higher_is_surer else "distance"
    surety = sign * candidates[column].to_numpy(np.float64)
    points = [
        replace(point, threshold=sign * point.threshold)
        for point in curve(surety, candidates["score"].to_numpy(np.float64), copies)
    ]
    recall = recall_of_copies(copies, chains, sign * calibration.threshold)
    return replace(recall, curve=sorted(points, key=_by_threshold))


def _by_threshold(point: CurvePoint) -> float:
    return point.threshold


def recall_of_copies(surety: Floats, chains: Sequence[Sequence[str]], min_surety: float) -> Recall:
    """Compute the recall of edited copies: over all, and by edit.

    Args:
        surety: (m,) of copies against their originals, see ``curve``.
        chains: the edits of each copy.
        min_surety: least surety of a reported pair.
    """
    is_found = surety >= min_surety
    low, high = wilson(int(is_found.sum()), len(is_found))
    edits = pd.DataFrame(
        [(name, hit) for chain, hit in zip(chains, is_found, strict=True) for name in chain],
        columns=["edit", "found"],
    )
    by_edit = edits.groupby("edit")["found"].agg(["mean", "size"])
    return Recall(
        expected_recall=(
            share(is_found.mean()) if len(is_found) else 0.0, share(low), share(high),
        ),
        recall_by_edit={
            str(name): (share(mean), int(size)) for name, mean, size in by_edit.itertuples()
        },
        n_copies=len(surety),
    )  # fmt: skip
