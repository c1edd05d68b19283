"""What the console says at the end of a command, and what the page says first."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from dedup.detection.calibration import Calibration, Recall, floor
from dedup.detection.results import DetectionResult
from dedup.reports.phrases import given_threshold, left_out, n_compared, percent
from dedup.reports.proofs import NEAR, n_matched, outcome, prefix_of, surest_pairs
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted
from dedup.search.index import Index

log = logging.getLogger("dedup")

MANY = 0.2
"""Share of the catalogue from which on groups of near images are more than is believed."""

HUGE = 50
"""Products in one group of near images, likewise."""

LOW_RECALL = 0.5
"""Expected recall from which on a lower precision is not advised."""

GAIN = 0.1
"""Least recall that a lower precision must add to be worth advice."""

LOWER = (0.95, 0.9)
"""Precisions that are advised."""


def report_findings(findings: DetectionResult, index: Index, folder: Path, seconds: float) -> None:
    """Log what was found, how surely, what was left out and why, how long it took, what is next.

    Args:
        findings: what was found.
        index: the index that was searched.
        folder: the run's folder, its reports written.
        seconds: that it took.
    """
    log.info("%s%s", " ".join(headline(findings, index)), _how_surely(findings))
    _log_left_out(findings, index)
    for text in warnings(findings, index):
        log.warning(text)
    folder = _short(folder)
    log.info("it took %s; the reports are in %s", lasted(seconds), folder)
    if steps := _next_steps(findings, index, folder):
        log.info("next: %s", "; ".join(steps))


def _next_steps(findings: DetectionResult, index: Index, folder: Path) -> list[str]:
    """Write what each of the reports that were written is for."""
    meanings = {"report.html": "look at %s"}
    if not len(findings.groups):
        meanings = {"report.html": "%s says what to try"}
    elif prefix_of(index.manifest) is None:
        meanings["groups.csv"] = "%s says which product each one duplicates"
    else:
        meanings["matches.json"] = "%s says which of their products is which of yours"
    made = {name: folder / name for name in meanings if (folder / name).is_file()}
    return [meanings[name] % path for name, path in made.items()]


def report_index(index: Index, folder: Path, seconds: float) -> None:
    """Log what an index holds, what was left out and why, how long it took and what is next."""
    folder = _short(folder)
    n_images = int((index.images["status"] == "ok").sum())
    n_products = n_compared(index.images)
    log.info(
        "%s of %s in %s", counted(n_images, "image"), counted(n_products, "product"),
        counted(len(index.centroids), "cluster"),
    )  # fmt: skip
    _log_left_out(None, index)
    log.info(
        "it took %s; the index is in %s, your table with a column cluster in %s", lasted(seconds),
        folder, folder / "catalogue.csv",
    )  # fmt: skip
    log.info("next: %s index=%s", command("detect"), folder)


def _short(path: Path) -> Path:
    """Make a path relative to the working folder, where it lies in it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _log_left_out(findings: DetectionResult | None, index: Index) -> None:
    for text in left_out(findings, index):
        log.warning("%s", text)


def _how_surely(findings: DetectionResult) -> str:
    """Write how many of the products that could go are equal, and what is expected of the rest."""
    found, calibration = outcome(findings), findings.calibration
    recall = calibration and calibration.recall
    estimates = {
        "precision": calibration and calibration.expected_precision,
        "recall": recall and recall.expected_recall,
    }
    said = f" ({found.n_equal:,} equal, {found.n_near:,} near)" if found.n_spare else ""
    expected = [
        f"expected {name} {percent(estimate[0])}"
        for name, estimate in estimates.items()
        if estimate
    ]
    return said + (f"; {', '.join(expected)}" if expected else "")


def headline(findings: DetectionResult, index: Index) -> list[str]:
    """Write what was found as a few phrases, each of which stays on one line."""
    found, prefix = outcome(findings), prefix_of(index.manifest)
    if prefix is None and not found.n_groups:
        return [f"No duplicates found among {counted(n_compared(index.images), 'product')}"]
    if prefix is None:
        return [
            f"{counted(found.n_groups, 'group')},",
            f"{counted(found.n_products, 'product')},",
            f"{found.n_spare:,} could go",
        ]
    theirs = index.images.loc[index.images["product_id"].str.startswith(prefix), "product_id"]
    matched = n_matched(findings, prefix)
    verb = "is" if matched == 1 else "are"
    return [
        f"{matched:,} of their {counted(int(theirs.nunique()), 'product')} {verb} yours"
        if matched
        else f"None of their {counted(int(theirs.nunique()), 'product')} is yours"
    ]


def lasted(seconds: float) -> str:
    """Write how long something took: 42 s, 4 min 30 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    for large, small, names in ((3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if whole >= large:
            return f"{whole // large} {names[0]} {whole % large // small} {names[1]}"
    return f"{whole} s"


def warnings(findings: DetectionResult, index: Index) -> list[str]:
    """Write what should make the user doubt the result: too much found, or too little."""
    return [text for text in (_too_much(findings, index), _too_little(findings)) if text]


def _too_much(findings: DetectionResult, index: Index) -> str:
    """Doubt a threshold that somebody gave, and that joins much of the catalogue."""
    given = given_threshold(findings)
    if not given or given == "0":
        return ""
    groups, proofs = findings.groups, surest_pairs(findings.groups, findings.pairs)
    near = proofs.loc[proofs["tier"] == NEAR, "product_id"]
    holds_near = groups["product_id"].isin(near).groupby(groups["group_id"]).transform("any")
    sizes = groups.loc[holds_near, "group_id"].value_counts()
    n, largest = int(sizes.sum()), int(sizes.max()) if len(sizes) else 0
    share = n / max(n_compared(index.images), 1)
    if share < MANY and largest <= HUGE:
        return ""
    return (
        f"Groups of near images hold {counted(n, 'product')}, {percent(share)} of those compared, "
        f"the largest {largest:,}: matcher.threshold={given} is probably too high. Try a lower "
        "one, or verifier=local, which looks at each pair again"
    )


def _too_little(findings: DetectionResult) -> str:
    """Advise a lower precision where most copies are expected to be missed."""
    calibration = findings.calibration
    if calibration is None or calibration.recall is None or not calibration.recall.n_copies:
        return ""
    recall = calibration.recall.expected_recall[0]
    if recall >= LOW_RECALL:
        return ""
    said = f"About {percent(recall)} of edited copies are expected to be found"
    for precision in LOWER:
        more = _recall_at(calibration, calibration.recall, precision)
        if precision < calibration.precision and more >= recall + GAIN:
            return f"{said}: matcher.precision={precision:g} would find about {percent(more)}"
    return f"{said}: the others look too unlike their originals"


def _recall_at(calibration: Calibration, recall: Recall, precision: float) -> float:
    """The most that the curve promises where so many pairs are right."""
    lowest = floor(precision) if calibration.higher_is_surer else -math.inf
    points = [
        point.recall
        for point in recall.curve
        if point.precision >= precision and point.threshold >= lowest
    ]
    return max(points, default=0.0)
