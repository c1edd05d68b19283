"""Calibrate a run by people's decisions: what was measured, and what it makes of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup.actions.measurement import (
    ENDS,
    MAX_MORE,
    Interval,
    Labels,
    Sample,
    frame_of,
    labels_needed,
    recall,
    share_right,
)
from dedup.detection.calibration import Calibrated, calibrated, of_scores
from dedup.detection.recalibration import CALIBRATION, Recalibration, categories_of, of_pairs
from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError
from dedup.review.audit import EXACT, Frame
from dedup.review.decisions import DUPLICATE, Pair
from dedup.review.ledger import Ledger
from dedup.review.standing import Catalogue
from dedup.runtime.checksums import file_facts, write_checked
from dedup.runtime.digits import SCORE, share
from dedup.runtime.nouns import counted
from dedup.runtime.tables import write_rows
from dedup.search.index import Index

Floats = npt.NDArray[np.float64]

LABEL_COLUMNS = ("product_id_a", "product_id_b", "verdict", "score", "reported", "draw", "blind")

NEAREST = 10.0**-SCORE
"""Distance of a score from 0 and 1, as far as its digits tell."""


@dataclass(frozen=True)
class CalibrationByLabels:
    """A run's precision and recall as measured, and its scores as decisions correct them.

    Attributes:
        recalibration: for later runs.
        chosen: the threshold that follows from it, and the precision expected there.
        wanted: precision asked for.
        expected: precision of the reported pairs by their scores.
        precision: the same as it was measured.
        recall: of the pairs that may be right, measured.
        more: labels that prove the wanted precision, if all are right; ``None``: too many.
        sample: the audit.
        kappa: agreement of two people; ``None`` without pairs that both decided on.
        n_twice: number of these pairs.
        rows: the labels, in ``LABEL_COLUMNS``.
    """

    recalibration: Recalibration
    chosen: Calibrated
    wanted: float
    expected: float
    precision: Interval
    recall: Interval
    more: int | None
    sample: Sample
    kappa: float | None
    n_twice: int
    rows: Sequence[tuple[Any, ...]]

    def sentences(self) -> list[str]:
        """Say what was measured and what follows, a sentence each."""
        n = int(self.sample.frame.reported.sum())
        low, high = (f"{value:.3f}" for value in (self.precision.low, self.precision.high))
        need = f"more than {MAX_MORE:,} more labels" if self.more is None else (
            f"{counted(self.more, 'more label')} without an error"
        )  # fmt: skip
        proof = (
            f"{self.wanted:g} is proved" if self.precision.low >= self.wanted
            else f"{self.wanted:g} is ruled out" if self.precision.high < self.wanted
            else f"{need} would prove {self.wanted:g}"
        )  # fmt: skip
        labels = counted(self.precision.n_labels, "label")
        said = [
            f"precision of {counted(n, 'reported pair')}: expected {self.expected:.3f}; measured "
            f"at least {low}, at most {high} ({labels}, {self.precision.n_wrong} not right); "
            f"{proof}",
            f"recall among the pairs that may be right: measured at least {self.recall.low:.3f}, "
            f"at most {self.recall.high:.3f}",
            f"{counted(self.recalibration.n_labels, 'decision')} on near pairs: log odds times "
            f"{self.recalibration.slope:.3f}, {self.recalibration.offset:+.3f}; the threshold for "
            f"{self.wanted:g} is {self.chosen.min_score:.4g}, expected precision "
            f"{self.chosen.precision[0]:.3f}",
        ]
        if self.sample.n_waiting:
            waiting = counted(self.sample.n_waiting, "label")
            said.append(f"{waiting} of the audit count once an earlier draw has a label, too")
        n_seen = len(self.sample.drawn) - self.sample.n_blind
        if n_seen:
            said.append(
                f"{counted(n_seen, 'label')} of the audit were given with the score in sight"
            )
        return said

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        audited = {
            name: {"low": share(one.low), "high": share(one.high), "labels": one.n_labels,
                   "wrong": one.n_wrong}
            for name, one in (("precision", self.precision), ("recall", self.recall))
        }  # fmt: skip
        return {
            "precision": self.wanted,
            "threshold": self.chosen.min_score,
            "expected_precision": share(self.chosen.precision[0]),
            "expected_of_reported": share(self.expected),
            "labels": self.recalibration.n_labels,
            "audited": audited,
            "more_labels": self.more,
            "kappa": None if self.kappa is None else share(self.kappa),
            "labelled_twice": self.n_twice,
            "with_score": len(self.sample.drawn) - self.sample.n_blind,
            "recalibration": self.recalibration.to_dict(),
        }


def calibrate(
    ledger: Ledger,
    result: DetectionResult,
    index: Index,
    run: str,
    wanted: float | None = None,
    column: str | None = None,
) -> CalibrationByLabels:
    """Measure a run by its audit, and recalibrate its scores by all decisions.

    Args:
        ledger: the decisions.
        result: the run's result.
        index: its index.
        run: its name.
        wanted: precision asked for; ``None`` for that of the run.
        column: column of categories that get an offset of their own; ``None`` for none.

    Raises:
        ConfigError: the run's threshold was given as a number, nothing is decided, or there is no
            such column.
    """
    before = result.calibration
    if before is None or not before.higher_is_surer or result.search is None:
        raise ConfigError(
            "the scores of this run are not calibrated, as its threshold was given: run detect.py "
            "with verifier=local and verifier.min_score=auto, as encoder=bundled does"
        )
    wanted = before.precision if wanted is None else wanted
    labels = Labels.of(ledger, Catalogue.of(index), result)
    if not labels.verdicts:
        raise ConfigError(
            "nobody has decided on a pair of this run yet: open it with review.py, or name the "
            "ledger by ledger.path=PATH"
        )
    key = index.manifest["id_column"]
    known = before.recalibration or Recalibration()
    named = column or known.column
    category = categories_of(index.products, key, named) if named else {}
    frame = frame_of(result, run)
    sample = Sample.of(frame, labels)
    nothing = not frame.reported.any()
    measured = Interval(0, 1, 0, 0) if nothing else share_right(sample, frame.reported)

    near = result.candidates
    pairs: list[Pair] = list(zip(*(near[end].tolist() for end in ENDS), strict=True))
    odds = log_odds(near["score"].to_numpy(np.float64))
    categories = of_pairs(category, *zip(*pairs, strict=True)) if pairs else np.empty(0, object)
    odds = known.undone(odds, categories.tolist())
    fitted = fit(labels, pairs, odds, categories, column, result.search.verdicts or "")
    is_reported = {pair for pair, is_one in zip(frame.pairs, frame.reported, strict=True) if is_one}
    shown = np.array([pair in is_reported for pair in pairs], bool)
    n_exact = int((result.pairs["tier"] != "near").sum())
    fitted = no_surer(fitted, odds[shown], categories[shown], n_exact, measured.high)
    expected = expected_share(fitted(odds[shown], categories[shown]), n_exact)
    return CalibrationByLabels(
        recalibration=fitted,
        chosen=calibrated(of_scores(fitted(odds, categories)), wanted),
        wanted=wanted,
        expected=expected,
        precision=measured,
        recall=recall(sample),
        more=None if nothing else labels_needed(sample, frame.reported, wanted),
        sample=sample,
        kappa=labels.kappa(),
        n_twice=len(labels.twice),
        rows=_rows(labels, frame),
    )


def log_odds(scores: Floats) -> Floats:
    """Convert scores, as far as their digits tell, to log odds."""
    clipped = np.clip(scores, NEAREST, 1 - NEAREST)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def fit(
    labels: Labels,
    pairs: Sequence[Pair],
    odds: Floats,
    categories: npt.NDArray[np.object_],
    column: str | None,
    verdicts: str,
) -> Recalibration:
    """Fit a recalibration on all labelled near pairs but those that people were not sure of.

    Args:
        labels: the labels.
        pairs: (n,) near pairs.
        odds: (n,) their log odds.
        categories: (n,) their categories.
        column: column of the categories; ``None`` for none.
        verdicts: digest of the classifier.
    """
    verdict = [labels.verdicts.get(pair, "") for pair in pairs]
    rows = np.array([said not in ("", "unsure") for said in verdict], bool)
    right = np.array([said == DUPLICATE for said in verdict], bool)
    own = categories[rows].tolist() if column else None
    fitted = Recalibration.fit(odds[rows], right[rows], labels.error(), column or "", own)
    return replace(fitted, verdicts=verdicts)


def expected_share(odds: Floats, n_exact: int) -> float:
    """Compute the expected share of right ones among near pairs and pairs of equal images."""
    n = len(odds) + n_exact
    total = float((1 / (1 + np.exp(-odds))).sum()) + EXACT * n_exact
    return total / n if n else 1.0


def no_surer(
    fitted: Recalibration,
    odds: Floats,
    categories: npt.NDArray[np.object_],
    n_exact: int,
    limit: float,
) -> Recalibration:
    """Lower the offset until the reported pairs are expected to be no surer than measured.

    Args:
        fitted: the recalibration.
        odds: (n,) log odds of the reported near pairs.
        categories: (n,) their categories.
        n_exact: number of reported pairs of equal images.
        limit: upper end of their measured precision.
    """

    def expected(offset: float) -> float:
        return expected_share(replace(fitted, offset=offset)(odds, categories), n_exact)

    if not len(odds) or expected(fitted.offset) <= limit:
        return fitted
    low, high = fitted.offset - 20, fitted.offset
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) <= limit else (low, middle)
    return replace(fitted, offset=round(low, 6))


def _rows(labels: Labels, frame: Frame) -> list[tuple[Any, ...]]:
    """List the labelled pairs of the frame, those of the audit by their draws."""
    draw = np.empty(len(frame.pairs), np.int64)
    draw[frame.order] = np.arange(len(frame.pairs))
    return sorted(
        (
            (*pair, labels.verdicts[pair], share(frame.scores[at]), bool(frame.reported[at]),
             int(draw[at]), pair in labels.blind)
            for at, pair in enumerate(frame.pairs) if pair in labels.verdicts
        ),
        key=lambda row: row[5],
    )  # fmt: skip


def write_calibration(
    made: CalibrationByLabels, facts: Mapping[str, Any], folder: Path, formulas: str = "keep"
) -> list[Path]:
    """Write ``calibration.json`` and ``labels.csv``; return them.

    Args:
        made: the calibration.
        facts: what it was made from.
        folder: an existing folder.
        formulas: treatment of formulas in the table, see ``tables.write_rows``.
    """
    table = folder / "labels.csv"
    write_rows(LABEL_COLUMNS, made.rows, table, formulas)
    content = {**made.to_dict(), **facts}
    write_checked(content, {table.name: file_facts(table)}, folder / CALIBRATION)
    return [folder / CALIBRATION, table]
