"""Write the sentences of the page and the console: facts, precision, and advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dedup.detection.calibration import Calibration, Recall
from dedup.detection.results import DetectionResult
from dedup.reports import decided
from dedup.reports.proofs import NEAR, prefix_of
from dedup.reports.records import n_left_out
from dedup.runtime.nouns import counted
from dedup.schemas import RELATIONS, Tier
from dedup.search.index import Index
from dedup.search.state import SearchFacts

TIERS: dict[Tier, tuple[str, str]] = {
    "same_url": ("same address", "Both products name the same image address."),
    "same_bytes": ("same bytes", "Two addresses, one file: byte for byte the same."),
    "same_pixels": ("same pixels", "Two files that show exactly the same image."),
    "near": ("near", "Images that look alike but are not equal. Check them before you remove one."),
}
"""Name and meaning of each tier, surest first."""

LEFT_OUT = {
    "flat": "It is blank, or almost of one colour.",
    "shared": "So many products show it, or so many show it beside other images of their own, that "
    "it says nothing of one product.",
}
"""Reasons to leave an image out, by the column ``reason`` of the schema ``SHARED``."""

EDITS = {
    "ground": "another background", "zoom_out": "zoomed out", "crop": "cropped",
    "mirror": "mirrored", "rotate": "turned", "shear": "slanted", "perspective": "seen at an angle",
    "squeeze": "stretched", "erase": "parts covered", "tint_band": "coloured band over it",
    "curve": "other tone curve", "gamma": "lighter or darker midtones", "haze": "washed out",
    "fade": "faded", "gray": "black and white", "posterize": "few brightness levels",
    "palette": "few colours", "sharpen": "sharpened", "blur": "blurred",
    "motion_blur": "motion blur", "noise": "camera noise", "speckle": "noise in bright parts",
    "specks": "black and white dots", "rescale": "resized", "recompress": "saved again",
    "vignette": "darker edges", "collage": "part of a collage", "screenshot": "in a screenshot",
    "border": "framed", "banner": "text banner",
}  # fmt: skip
"""Names of edits, for people; other names are plain words already."""

BELOW = "below the threshold: to be looked at"
"""What is said of pairs that were verified and are not reported, wherever they are named."""

_ENDS = ("failed", "ok")

Failures = tuple[str, int, list[tuple[str, int]]]


def facts(
    findings: DetectionResult, index: Index, n_more_groups: int, n_whole: int = 0
) -> list[str]:
    """Write the page's facts in a few words each.

    Args:
        findings: the result.
        index: the index that was searched.
        n_more_groups: number of groups that the page does not show.
        n_whole: number of images in which the index's foreground found no product.
    """
    images, texts = index.images, []
    if len(findings.groups):
        texts.append(f"{counted(n_compared(images), 'product')} compared")
        if given := given_threshold(findings):
            texts.append(f"images at a distance of up to {given} count as duplicates")
    if people := decided.summary(findings):
        texts.append(people)
    if n_more_groups:
        texts.append(f"{counted(n_more_groups, 'more group')} in groups.csv")
    if findings.changes:
        texts.append(findings.changes)
    texts += left_out(findings, index)
    if n_whole:
        texts.append(f"no product found in {counted(n_whole, 'image')}, used whole")
    if n_colours := len(findings.families):
        n_families = findings.families["family_id"].nunique()
        texts.append(
            f"{counted(n_colours, 'product')} in {counted(n_families, 'family', 'families')} of "
            "colour variants"
        )
    return texts


def left_out(findings: DetectionResult | None, index: Index) -> list[str]:
    """Write a phrase for each kind of images that were not compared, with the reason.

    Args:
        findings: the result; ``None`` before a search.
        index: index with the images.
    """
    images, texts = index.images, []
    for status, n, reasons in _failures(images):
        listed = (f"{count:,}\N{NO-BREAK SPACE}{reason or 'unknown'}" for reason, count in reasons)
        texts.append(f"{counted(n, 'image')} {status}: {', '.join(listed)}")
    failed, fine = (set(images.loc[images["status"] == status, "product_id"]) for status in _ENDS)
    if n_without := len(failed - fine - {""}):
        texts.append(f"{counted(n_without, 'product')} without a readable image")
    if n := n_left_out(index):
        names = ", ".join(f"`{name}`" for name in index.url_columns)
        texts.append(
            f"{counted(n, 'further address', 'further addresses')} in "
            f"{names} {'was' if n == 1 else 'were'} left out: "
            "source.choice=all reads them"
        )
    shared = None if findings is None else findings.shared
    if shared is not None and (n := shared["sha256_pixels"].nunique()):
        shown = counted(int(shared["product_id"].nunique()), "product")
        texts.append(f"{counted(n, 'placeholder or blank image')} of {shown} not compared")
    return texts


def advice(findings: DetectionResult, index: Index) -> list[str]:
    """Write what to try where no group was found."""
    images, texts = index.images, []
    if n_compared(images) < 2:
        texts.append("It takes two products with a readable image to find a duplicate.")
    threshold = None if findings.search is None else findings.search.threshold
    if findings.calibration is not None:
        precision = percent(findings.calibration.precision)
        texts.append(f"Lower matcher.precision, now {precision}, to find pairs that are less sure.")
    elif threshold == 0:
        texts.append(
            "Raise matcher.threshold. At 0 only equal images count; resized or recompressed copies "
            "lie a little above."
        )
    elif threshold is not None:
        far = number(threshold)
        texts.append(f"Raise matcher.threshold. Images farther apart than {far} do not count.")
    if images["status"].isin(("failed", "skipped")).any():
        texts.append("Check the images listed above: images that were not read were not compared.")
    if n_left_out(index):
        texts.append("Set source.choice=all: only one image of each product was read.")
    if len(findings.shared):
        texts.append(
            "Check the placeholder or blank images below: these products may have better ones."
        )
    if prefix_of(index.manifest) is None:
        texts.append(
            "Only products of this index were compared. To compare it with another catalogue, name "
            "the index of that catalogue: against=FOLDER."
        )
    return texts


def evidence(text: str, tier: str, distance: float) -> str:
    """Write the evidence of a pair; without any, the distance of a near pair."""
    return text or (f"near: distance {number(distance)}" if tier == NEAR else "")


def relation(name: str, tier: str) -> str:
    """Write the relation of a reported pair: ``same image`` for equal images, else ``copy``."""
    return "copy" if name == RELATIONS[0] and tier == NEAR else name


def describe_search(search: SearchFacts | None) -> str:
    """Describe the search for near pairs, and the pairs that it may have missed.

    Args:
        search: facts as in ``DetectionResult``; "" is returned for none.
    """
    if search is None:
        return ""
    threshold, n_images, n_pairs = search.threshold, search.n_images, search.n_pairs
    if threshold == 0:
        return "Nothing was compared by distance: at threshold 0 only equal images count."
    if n_pairs is None:
        n_pairs = n_images * (n_images - 1) // 2
    n_done, is_given = search.n_comparisons, not search.looked
    text = f"{counted(n_images, 'image')}: "
    if n_done >= n_pairs:
        return f"{text}{'all ' * (n_pairs != 1)}{counted(n_pairs, 'pair')} compared."
    text += f"{percent(n_done / n_pairs)} of {n_pairs:,} pairs compared; "
    within = f"within {number(threshold)}" if is_given else "near enough to be a candidate"
    if search.lossless:
        return f"{text}no other pair can be {within}."
    return (
        f"{text}about {counted(round(search.missed), 'pair')} {within} "
        f"({percent(search.missed_share)}) lie across cluster borders and were not compared."
    )


def describe_calibration(
    calibration: Calibration | None, measured: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """Describe the chosen threshold, and its precision and recall.

    Args:
        calibration: as in ``DetectionResult``.
        measured: likewise.

    Returns:
        Headings and sentences.
    """
    from_truth = _measured(measured) if measured else []
    if calibration is None:  # the user gave the threshold
        return from_truth
    side = "a score of at least" if calibration.higher_is_surer else "a distance of at most"
    limit = f"{side} {number(calibration.threshold)} ({calibration.setting})"
    confidence = percent(calibration.interval)
    texts = [
        ("Wanted precision", f"{percent(calibration.precision)} (matcher.precision)."),
        ("Threshold", f"Images that are not equal count as duplicates with {limit}."),
    ]
    candidates = counted(calibration.n_pairs, "candidate pair")
    if calibration.expected_precision:
        right = _range(calibration.expected_precision, confidence)
        texts.append(
            (
                "Expected precision",
                f"{right} of the pairs found are duplicates; {candidates}.",
            )
        )
    else:
        texts.append(("Found", f"No near pair reaches the threshold; {candidates}."))
    if calibration.recall and calibration.recall.n_copies:
        copies = counted(calibration.recall.n_copies, "edited copy", "edited copies")
        share = _range(calibration.recall.expected_recall, confidence)
        texts.append(
            ("Expected recall", f"{share} of {copies} of this catalogue's own images are found.")
        )
    return texts + from_truth


def axis_label(calibration: Calibration) -> str:
    """Name the axis of the threshold, for a plot."""
    if calibration.higher_is_surer:
        return "minimum score of a duplicate (surer to the right)"
    return "maximum distance of a duplicate (surer to the left)"


def by_edit(recall: Recall | None) -> list[tuple[str, str, int]]:
    """List the name, the recall and the number of copies of each edit, lowest recall first."""
    edits = recall.recall_by_edit if recall else {}
    tried = [(share, name, n) for name, (share, n) in edits.items() if n]
    return [
        (EDITS.get(name, name.replace("_", " ")), percent(share), n)
        for share, name, n in sorted(tried)
    ]


def n_compared(images: pd.DataFrame) -> int:
    """Count the products with a readable image."""
    return int(images.loc[images["status"] == "ok", "product_id"].nunique())


def sure(score: float) -> str:
    """Write the score of a pair in percent, never rounded to 0 or 100; "" for NaN."""
    if math.isnan(score):
        return ""
    if 0.995 <= score < 1:
        return "over 99 % sure"
    return "under 1 % sure" if 0 < score < 0.01 else f"{100 * score:.0f} % sure"


def number(value: object) -> str:
    """Write a number with 4 significant digits, and any other value unchanged."""
    return f"{value + 0.0:.4g}" if isinstance(value, int | float) else str(value)


def percent(share: float | None) -> str:
    """Write a share, 0 to 1, in percent: 2 digits below 10, tenths above 90, "none" for None."""
    if share is None:
        return "none"
    if 0 < share < 0.0001:
        return "under 0.01 %"
    if 0.9 < share < 1:
        return f"{100 * share:.3g} %" if share < 0.9995 else "over 99.9 %"
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _range(estimate: Sequence[float], confidence: str) -> str:
    """Write a share with its confidence interval."""
    value, low, high = map(percent, estimate)
    return f"{value} ({low} to {high} with {confidence} confidence)"


def _measured(measured: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Describe the comparison with the user's own pairs, as ``describe_calibration``."""
    n_found, n_true, truth = measured["n_found"], measured["n_true"], measured["truth"]
    return [
        (
            "Measured precision",
            f"{percent(measured['precision'])} of the {counted(n_found, 'pair')} found are in "
            f"{truth}{_wrong(measured['n_wrong'])}.",
        ),
        (
            "Measured recall",
            f"{percent(measured['recall'])} of the {counted(n_true, 'pair')} in {truth} were "
            "found.",
        ),
        (
            "Measured F1",
            f"{number(measured['f1'] or 0)}; B-cubed F1 of the groups "
            f"{number(measured['bcubed_f1'] or 0)}.",
        ),
    ]


def _wrong(n: int) -> str:
    return f"; {n:,} {'is' if n == 1 else 'are'} not" if n else ""


def given_threshold(findings: DetectionResult) -> str:
    """Return the distance that the user gave as the only criterion; "" where there is none."""
    search = findings.search
    if search is None or search.looked or findings.calibration is not None:
        return ""
    return number(search.threshold)


def _failures(images: pd.DataFrame) -> list[Failures]:
    """Count failed and skipped images: status, number, and numbers by reason."""
    failures = []
    for status in ("failed", "skipped"):
        reasons = images.loc[images["status"] == status, "reason"].value_counts().items()
        counts = sorted(
            ((str(reason), n) for reason, n in reasons), key=lambda count: (-count[1], count[0])
        )
        if counts:
            failures.append((status, sum(n for _, n in counts), counts))
    return failures
