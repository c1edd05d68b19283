"""What the page says in sentences: what was compared, how sure it is, what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dedup.artifacts import Tier
from dedup.results import DetectionResult

TIERS: dict[Tier, tuple[str, str]] = {
    "same_url": ("same address", "Both products name the same picture address."),
    "same_bytes": ("same bytes", "Two addresses, one file: byte for byte the same."),
    "same_pixels": ("same pixels", "Two files that show exactly the same picture."),
    "near": ("near", "Pictures that look alike but are not equal. Look before you let one go."),
}
"""The name of each tier and what it means, surest first."""

SILENT = {
    "flat": "There is next to nothing to be seen in it.",
    "shared": "Too many products show it for it to tell them apart.",
}
"""Why a picture proves nothing, by the reason in the schema ``SHARED``."""

Trouble = tuple[str, int, list[tuple[str, int]]]


def facts(
    findings: DetectionResult, images: pd.DataFrame, n_left_out: int, n_whole: int = 0
) -> list[str]:
    """The page's facts in a few words each.

    Args:
        findings: what was found.
        images: the index's, schema ``INDEX_IMAGES``.
        n_left_out: groups that the page has no room for.
        n_whole: pictures in which the index's foreground found no product.
    """
    said = []
    if len(findings.groups):
        said.append(f"{counted(n_compared(images), 'product')} compared")
        if (threshold := findings.search.get("threshold")) is not None:
            said.append(f"threshold {number(threshold)}")
    if n_left_out:
        said.append(f"{counted(n_left_out, 'more group')} in duplicates.csv")
    for status, n, reasons in _troubles(images):
        listed = (f"{count:,}\N{NO-BREAK SPACE}{reason or 'unknown'}" for reason, count in reasons)
        said.append(f"{counted(n, 'picture')} {status}: {', '.join(listed)}")
    if n_whole:
        said.append(f"no product found in {counted(n_whole, 'picture')}, taken whole")
    if n_colours := len(findings.families):
        n_families = findings.families["family_id"].nunique()
        said.append(
            f"{counted(n_colours, 'product')} in {counted(n_families, 'family', 'families')} of "
            "colour variants"
        )
    if n_silent := findings.shared["sha256_pixels"].nunique():
        verb = "proves" if n_silent == 1 else "prove"
        said.append(f"{counted(n_silent, 'picture')} that {verb} nothing")
    return said


def advice(findings: DetectionResult, images: pd.DataFrame) -> list[str]:
    """What to try where no group was found."""
    said = []
    if n_compared(images) < 2:
        said.append("It takes two products with a readable picture to find a duplicate.")
    threshold = findings.search.get("threshold")
    if "precision" in findings.calibration:
        asked = percent(findings.calibration["precision"])
        said.append(f"Ask for less than a precision of {asked}: matcher.precision sets it.")
    elif threshold == 0:
        said.append(
            "Raise the threshold. At 0 only equal pictures count; resized or recompressed copies "
            "lie a little above."
        )
    elif threshold is not None:
        far = number(threshold)
        said.append(f"Raise the threshold. Pictures farther apart than {far} do not count.")
    if images["status"].isin(("failed", "skipped")).any():
        said.append(
            "Look into the pictures listed above: what could not be read could not be compared."
        )
    if len(findings.shared):
        said.append("Look at the pictures below that prove nothing: the shop may have better ones.")
    said.append(
        "Only products of this index were compared. To compare two catalogues, put both into one."
    )
    return said


def searched(search: Mapping[str, Any]) -> str:
    """How the near pairs were searched for, and what the search may have missed.

    Args:
        search: as in ``DetectionResult``; may be empty, and then nothing is said.
    """
    threshold = search.get("threshold")
    if threshold == 0:
        return "Nothing was compared by distance: at threshold 0 only equal pictures count."
    if threshold is None or "comparisons" not in search:
        return ""
    n, done, within = search["pictures"], search["comparisons"], number(threshold)
    n_pairs = n * (n - 1) // 2
    said = f"{counted(n, 'picture')}: "
    if done >= n_pairs:
        return f"{said}all {counted(n_pairs, 'pair')} compared."
    said += f"{percent(search['share'])} of {n_pairs:,} pairs compared; "
    if search["lossless"]:
        return f"{said}none of the others can lie within {within}."
    return (
        f"{said}about {counted(round(search['missed']), 'pair')} within {within} "
        f"({percent(search['missed_share'])}) lie across cluster borders and were not looked at."
    )


def how_sure(calibration: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the threshold was chosen and what to expect of it: what each sentence is on, and it.

    Args:
        calibration: as in ``DetectionResult``, not empty.
    """
    measured = _measured(calibration["measured"]) if calibration.get("measured") else []
    if "precision" not in calibration:  # the threshold was given, the truth too
        return measured
    side = "a score of at least" if calibration["higher_is_surer"] else "a distance of at most"
    chosen = f"{side} {number(calibration['threshold'])} ({calibration['setting']})"
    confidence = percent(calibration["interval"])
    right = _range(calibration["expected_precision"], confidence)
    said = [
        ("Asked for", f"A precision of {percent(calibration['precision'])}."),
        ("Chosen", f"Two pictures that are not equal count as one with {chosen}."),
        (
            "Expected precision",
            f"{right} of the near pairs found are right; "
            f"{counted(calibration['n_pairs'], 'pair')} looked at.",
        ),
    ]
    if calibration.get("n_copies"):
        copies = counted(calibration["n_copies"], "copy", "copies")
        share = _range(calibration["expected_recall"], confidence)
        said.append(
            (
                "Expected recall",
                f"{share} of {copies} of this catalogue's own pictures, edited as sellers do, "
                "are found.",
            )
        )
    return said + measured


def chosen_on(calibration: Mapping[str, Any]) -> str:
    """What the threshold is, to stand below a plot."""
    if calibration["higher_is_surer"]:
        return "least score that counts (surer to the right)"
    return "largest distance that counts (surer to the left)"


def by_edit(calibration: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """The name, the recall and the number of copies of each edit, worst first."""
    edits = calibration.get("recall_by_edit", {})
    tried = [(recall, name, n) for name, (recall, n) in edits.items() if n]
    return [(name.replace("_", " "), percent(recall), n) for recall, name, n in sorted(tried)]


def n_compared(images: pd.DataFrame) -> int:
    """How many products have a picture that could be read."""
    return int(images.loc[images["status"] == "ok", "product_id"].nunique())


def counted(n: int, noun: str, nouns: str = "") -> str:
    """A number and its noun: 1 pair, 2,000 pairs."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {nouns or noun + 's'}"


def sure(score: float) -> str:
    """How sure a pair is, as in ``PAIRS``: never rounded to certainty, nothing where NaN."""
    if math.isnan(score):
        return ""
    if 0.995 <= score < 1:
        return "over 99 % sure"
    return "under 1 % sure" if 0 < score < 0.01 else f"{100 * score:.0f} % sure"


def number(value: object) -> str:
    """A number to 4 significant digits; anything else as it is."""
    return f"{value + 0.0:.4g}" if isinstance(value, int | float) else str(value)


def percent(share: float | None) -> str:
    """A share, 0 to 1, in percent: to 2 digits below 10, to a tenth above 90; of nothing, none."""
    if share is None:
        return "none"
    if 0 < share < 0.0001:
        return "under 0.01 %"
    if 0.9 < share < 1:
        return f"{100 * share:.3g} %" if share < 0.9995 else "over 99.9 %"
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _range(estimate: Sequence[float], confidence: str) -> str:
    """A share with its interval, to go on from."""
    value, low, high = map(percent, estimate)
    return f"{value} ({low} to {high} with {confidence} confidence)"


def _measured(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the user's own pairs say, in the form of ``how_sure``."""
    found, true, truth = measured["n_found"], measured["n_true"], measured["truth"]
    return [
        (
            "Measured precision",
            f"{percent(measured['precision'])} of the {counted(found, 'pair')} found stand in "
            f"{truth}; {measured['n_wrong']:,} do not.",
        ),
        (
            "Measured recall",
            f"{percent(measured['recall'])} of the {counted(true, 'pair')} in {truth} were found.",
        ),
        (
            "Measured on the whole",
            f"F1 {number(measured['f1'] or 0)}; B-cubed F1 of the groups "
            f"{number(measured['bcubed_f1'] or 0)}.",
        ),
    ]


def _troubles(images: pd.DataFrame) -> list[Trouble]:
    """Status, number of pictures and numbers by reason, for what could not be compared."""
    troubles = []
    for status in ("failed", "skipped"):
        reasons = images.loc[images["status"] == status, "reason"].value_counts().items()
        counts = sorted(((str(reason), n) for reason, n in reasons), key=lambda it: (-it[1], it[0]))
        if counts:
            troubles.append((status, sum(n for _, n in counts), counts))
    return troubles
