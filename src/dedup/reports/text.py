"""Write the summary at the end of a command, and the headline of the page."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from dedup.detection.calibration import Calibration, Recall, floor
from dedup.detection.results import DetectionResult
from dedup.reports import decided, health
from dedup.reports.phrases import BELOW, given_threshold, left_out, n_compared, percent
from dedup.reports.proofs import NEAR, n_matched, outcome, prefix_of, surest_pairs
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted
from dedup.search.index import Index
from dedup.verification.relations import DETAIL, variant_families

log = logging.getLogger("dedup")

MANY = 0.2
"""Share of the catalogue in groups of near images from which the threshold is doubted."""

HUGE = 50
"""Products in a group of near images from which the threshold is doubted."""

LOW_RECALL = 0.8
"""Expected recall below which a lower precision is advised."""

GAIN = 0.1
"""Minimum gain of recall for which a lower precision is advised."""

LOWER = (0.95, 0.9)
"""Precisions that are advised."""

FAMILY = 3
"""Products whose images differ in a detail, from which they are named as a family."""


def report_findings(findings: DetectionResult, index: Index, folder: Path, seconds: float) -> None:
    """Log the result of a detection, its precision, left-out images, duration and next steps.

    Args:
        findings: the result.
        index: the index that was searched.
        folder: folder of the run, with its reports.
        seconds: duration.
    """
    log.info("%s%s", " ".join(headline(findings, index)), _how_surely(findings))
    if findings.changes:
        log.info("%s", findings.changes)
    _log_left_out(findings, index)
    if people := decided.summary(findings):
        log.info("%s", people)
    for text in warnings(findings, index):
        log.warning(text)
    if unfit := health.summary(findings):
        log.info("%s", unfit)
    folder = _short(folder)
    log.info("it took %s; the reports are in %s", format_duration(seconds), folder)
    if steps := _next_steps(findings, index, folder):
        log.info("next: %s", "; ".join(steps))


def _next_steps(findings: DetectionResult, index: Index, folder: Path) -> list[str]:
    """Describe the use of each report that was written."""
    meanings = {"report.html": "open %s"}
    if not len(findings.groups):
        meanings = {"report.html": "open %s for suggestions"}
    elif prefix_of(index.manifest) is None:
        meanings["groups.csv"] = "%s lists the product that each one duplicates"
    else:
        meanings["matches.json"] = "%s lists their products beside yours"
    made = {name: folder / name for name in meanings if (folder / name).is_file()}
    steps = [meanings[name] % path for name, path in made.items()]
    if len(findings.groups) and prefix_of(index.manifest) is None:
        steps.append(f"{command('review')} findings={shlex.quote(str(folder))} opens a page to "
                     "decide on each group")  # fmt: skip
    return steps


def report_index(index: Index, folder: Path, seconds: float, settings: Sequence[str] = ()) -> None:
    """Log the size of an index, left-out images, duration and next steps.

    Args:
        index: the index.
        folder: folder of the run.
        seconds: duration.
        settings: further words of the next command, such as ``since=runs/detect/latest``.
    """
    folder = _short(folder)
    n_images = int((index.images["status"] == "ok").sum())
    n_products = n_compared(index.images)
    log.info(
        "%s of %s in %s", counted(n_images, "image"), counted(n_products, "product"),
        counted(len(index.centroids), "cluster"),
    )  # fmt: skip
    _log_left_out(None, index)
    log.info(
        "it took %s; the index is in %s, your table with the column cluster in %s",
        format_duration(seconds), folder, folder / "catalogue.csv",
    )  # fmt: skip
    words = [f"index={folder}", *map(shlex.quote, settings)]
    log.info("next: %s %s", command("detect"), " ".join(words))


def _short(path: Path) -> Path:
    """Make a path relative to the working folder, if it lies inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _log_left_out(findings: DetectionResult | None, index: Index) -> None:
    for text in left_out(findings, index):
        log.warning("%s", text)


def _how_surely(findings: DetectionResult) -> str:
    """Write the counts of equal and near duplicates, and the expected precision and recall."""
    counts, calibration = outcome(findings), findings.calibration
    recall = calibration and calibration.recall
    estimates = {
        "precision": calibration and calibration.expected_precision,
        "recall": recall and recall.expected_recall,
    }
    text = f" ({counts.n_equal:,} equal, {counts.n_near:,} near)" if counts.n_spare else ""
    expected = [
        f"expected {name} {percent(estimate[0])}"
        for name, estimate in estimates.items()
        if estimate
    ]
    return text + (f"; {', '.join(expected)}" if expected else "")


def headline(findings: DetectionResult, index: Index) -> list[str]:
    """Write the result as a few phrases, each of which stays on one line."""
    counts, prefix = outcome(findings), prefix_of(index.manifest)
    if prefix is None and not counts.n_groups:
        return [f"No duplicates found among {counted(n_compared(index.images), 'product')}"]
    if prefix is None:
        return [
            f"{counted(counts.n_groups, 'group')},",
            f"{counted(counts.n_products, 'product')},",
            f"{counts.n_spare:,} can be removed",
        ]
    is_other = index.images["product_id"].str.startswith(prefix)
    other = counted(int(index.images.loc[is_other, "product_id"].nunique()), "product")
    matched = n_matched(findings, prefix)
    verb = "is" if matched == 1 else "are"
    return [
        f"{matched:,} of their {other} {verb} yours"
        if matched
        else f"None of their {other} is yours"
    ]


def format_duration(seconds: float) -> str:
    """Write a duration: 42 s, 4 min 30 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    for large, small, names in ((3600, 60, ("h", "min")), (60, 1, ("min", "s"))):
        if whole >= large:
            return f"{whole // large} {names[0]} {whole % large // small} {names[1]}"
    return f"{whole} s"


def warnings(findings: DetectionResult, index: Index) -> list[str]:
    """Write warnings of too many or too few duplicates, and of families of look-alikes."""
    texts = (_too_much(findings, index), _too_little(findings), _look_alikes(findings))
    return [text for text in texts if text]


def _too_much(findings: DetectionResult, index: Index) -> str:
    """Warn of a given threshold that joins a large share of the catalogue."""
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
        f"the largest {largest:,}: matcher.threshold={given} is probably too high. Lower it, or "
        "add verifier=local, which compares each pair in detail"
    )


def _too_little(findings: DetectionResult) -> str:
    """Warn of a low expected recall, and advise a lower precision if that helps."""
    calibration = findings.calibration
    if calibration is None or calibration.recall is None or not calibration.recall.n_copies:
        return ""
    recall = calibration.recall.expected_recall[0]
    if recall >= LOW_RECALL:
        return ""
    text = f"About {percent(recall)} of edited copies are expected to be found"
    below = f"Pairs {BELOW}, by their score in candidates.parquet"
    for precision in LOWER:
        more = _recall_at(calibration, calibration.recall, precision)
        if precision < calibration.precision and more >= recall + GAIN:
            more_found = f"matcher.precision={precision:g} would find about {percent(more)}"
            return f"{text}: {more_found}. {below}"
    return f"{text}: the others differ too much from their originals. {below}"


def _look_alikes(findings: DetectionResult) -> str:
    """Warn of families whose images differ in a detail: a copy among them is the least sure."""
    details = findings.related[findings.related["relation"] == DETAIL]
    if not len(details):
        return ""
    families = variant_families(details, findings.groups).groupby("family_id")["variant_id"]
    sizes = families.nunique()  # the products of a group count as one
    largest = sizes[sizes >= FAMILY].sort_values(ascending=False, kind="stable")
    if not len(largest):
        return ""
    members = sorted(set(families.get_group(largest.index[0])))[:FAMILY]
    n = counted(len(largest), "family", "families")
    return (
        f"{n} of look-alikes, {counted(int(largest.sum()), 'product')}: their images differ in a "
        f"detail, such as those of {', '.join(members[:-1])} and {members[-1]}. Check pairs of "
        "them before you remove one: related.csv names the place that differs"
    )


def _recall_at(calibration: Calibration, recall: Recall, precision: float) -> float:
    """Return the highest recall on the curve at a precision."""
    lowest = floor(precision) if calibration.higher_is_surer else -math.inf
    points = [
        point.recall
        for point in recall.curve
        if point.precision >= precision and point.threshold >= lowest
    ]
    return max(points, default=0.0)
