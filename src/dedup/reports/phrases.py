"""What the page and the console say in sentences: what was found, how surely, what to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dedup.detection.calibration import Calibration, Recall
from dedup.detection.results import DetectionResult
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
    "near": ("near", "Images that look alike but are not equal. Look before you let one go."),
}
"""The name of each tier and what it means, surest first."""

SILENT = {
    "flat": "There is next to nothing to be seen in it.",
    "shared": "Too many products show it for it to tell them apart.",
}
"""Why an image proves nothing, by the reason in the schema ``SHARED``."""

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
"""The names of edits, for people; those that are not here are words already."""

_ENDS = ("failed", "ok")

Trouble = tuple[str, int, list[tuple[str, int]]]


def facts(
    findings: DetectionResult, index: Index, n_more_groups: int, n_whole: int = 0
) -> list[str]:
    """Write the page's facts in a few words each.

    Args:
        findings: what was found.
        index: the index that was searched.
        n_more_groups: groups that the page has no room for.
        n_whole: images in which the index's foreground found no product.
    """
    images, said = index.images, []
    if len(findings.groups):
        said.append(f"{counted(n_compared(images), 'product')} compared")
        if given := given_threshold(findings):
            said.append(f"images at a distance of up to {given} count as one")
    if n_more_groups:
        said.append(f"{counted(n_more_groups, 'more group')} in groups.csv")
    said += left_out(findings, index)
    if n_whole:
        said.append(f"no product found in {counted(n_whole, 'image')}, taken whole")
    if n_colours := len(findings.families):
        n_families = findings.families["family_id"].nunique()
        said.append(
            f"{counted(n_colours, 'product')} in {counted(n_families, 'family', 'families')} of "
            "colour variants"
        )
    return said


def left_out(findings: DetectionResult | None, index: Index) -> list[str]:
    """Write what was not compared, and why; a phrase for each kind.

    Args:
        findings: what was found; ``None`` where nothing has been searched yet.
        index: gives the images.
    """
    images, said = index.images, []
    for status, n, reasons in _troubles(images):
        listed = (f"{count:,}\N{NO-BREAK SPACE}{reason or 'unknown'}" for reason, count in reasons)
        said.append(f"{counted(n, 'image')} {status}: {', '.join(listed)}")
    failed, fine = (set(images.loc[images["status"] == it, "product_id"]) for it in _ENDS)
    if n_without := len(failed - fine - {""}):
        said.append(f"{counted(n_without, 'product')} without a readable image")
    if n := n_left_out(index):
        said.append(
            f"{counted(n, 'further address', 'further addresses')} in "
            f"`{index.manifest['url_column']}` {'was' if n == 1 else 'were'} left out: "
            "source.choice=all reads them"
        )
    shared = None if findings is None else findings.shared
    if shared is not None and (n := shared["sha256_pixels"].nunique()):
        shown = counted(int(shared["product_id"].nunique()), "product")
        said.append(
            f"{counted(n, 'image')} shown by {shown} {'proves' if n == 1 else 'prove'} nothing"
        )
    return said


def advice(findings: DetectionResult, index: Index) -> list[str]:
    """Write what to try where no group was found."""
    images, said = index.images, []
    if n_compared(images) < 2:
        said.append("It takes two products with a readable image to find a duplicate.")
    threshold = None if findings.search is None else findings.search.threshold
    if findings.calibration is not None:
        asked = percent(findings.calibration.precision)
        said.append(f"Ask for less than a precision of {asked}: matcher.precision sets it.")
    elif threshold == 0:
        said.append(
            "Raise matcher.threshold. At 0 only equal images count; resized or recompressed copies "
            "lie a little above."
        )
    elif threshold is not None:
        far = number(threshold)
        said.append(f"Raise matcher.threshold. Images farther apart than {far} do not count.")
    if images["status"].isin(("failed", "skipped")).any():
        said.append(
            "Look into the images listed above: what could not be read could not be compared."
        )
    if n_left_out(index):
        said.append("Set source.choice=all: only one image of each product was read.")
    if len(findings.shared):
        said.append("Look at the images below that prove nothing: the shop may have better ones.")
    if prefix_of(index.manifest) is None:
        said.append(
            "Only products of this index were compared. To compare it with another catalogue, name "
            "that one's index: against=FOLDER."
        )
    return said


def evidence(said: str, tier: str, distance: float) -> str:
    """Write what proves a pair; a near one of which nobody saw more has its distance."""
    return said or (f"near: distance {number(distance)}" if tier == NEAR else "")


def relation(name: str, tier: str) -> str:
    """Write what a reported pair is: the same image is said of equal ones alone."""
    return "copy" if name == RELATIONS[0] and tier == NEAR else name


def searched(search: SearchFacts | None) -> str:
    """How the near pairs were searched for, and what the search may have missed.

    Args:
        search: as in ``DetectionResult``; ``None`` gives an empty text.
    """
    if search is None:
        return ""
    threshold, n_images, n_pairs = search.threshold, search.n_images, search.n_pairs
    if threshold == 0:
        return "Nothing was compared by distance: at threshold 0 only equal images count."
    if n_pairs is None:
        n_pairs = n_images * (n_images - 1) // 2
    done, given = search.n_comparisons, not search.looked
    said = f"{counted(n_images, 'image')}: "
    if done >= n_pairs:
        return f"{said}{'all ' * (n_pairs != 1)}{counted(n_pairs, 'pair')} compared."
    said += f"{percent(done / n_pairs)} of {n_pairs:,} pairs compared; "
    within = f"within {number(threshold)}" if given else "near enough to be looked at"
    if search.lossless:
        return f"{said}none of the others can lie {within}."
    return (
        f"{said}about {counted(round(search.missed), 'pair')} {within} "
        f"({percent(search.missed_share)}) lie across cluster borders and were not looked at."
    )


def how_sure(
    calibration: Calibration | None, measured: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    """How the threshold was chosen and what to expect of it: what each sentence is on, and it.

    Args:
        calibration: as in ``DetectionResult``.
        measured: likewise.
    """
    from_truth = _measured(measured) if measured else []
    if calibration is None:
        return from_truth
    side = "a score of at least" if calibration.higher_is_surer else "a distance of at most"
    chosen = f"{side} {number(calibration.threshold)} ({calibration.setting})"
    confidence = percent(calibration.interval)
    said = [
        ("Asked for", f"A precision of {percent(calibration.precision)}."),
        ("Chosen", f"Two images that are not equal count as one with {chosen}."),
    ]
    looked = f"{counted(calibration.n_pairs, 'pair')} looked at"
    if calibration.expected_precision:
        right = _range(calibration.expected_precision, confidence)
        said.append(("Expected precision", f"{right} of the near pairs found are right; {looked}."))
    else:
        said.append(("Found", f"No near pair is sure enough; {looked}."))
    if calibration.recall and calibration.recall.n_copies:
        copies = counted(calibration.recall.n_copies, "copy", "copies")
        share = _range(calibration.recall.expected_recall, confidence)
        said.append(
            (
                "Expected recall",
                f"{share} of {copies} of this catalogue's own images, edited as sellers do, "
                "are found.",
            )
        )
    return said + from_truth


def chosen_on(calibration: Calibration) -> str:
    """What the threshold is, to stand below a plot."""
    if calibration.higher_is_surer:
        return "least score that counts (surer to the right)"
    return "largest distance that counts (surer to the left)"


def by_edit(recall: Recall | None) -> list[tuple[str, str, int]]:
    """The name, the recall and the number of copies of each edit, worst first."""
    edits = recall.recall_by_edit if recall else {}
    tried = [(share, name, n) for name, (share, n) in edits.items() if n]
    return [
        (EDITS.get(name, name.replace("_", " ")), percent(share), n)
        for share, name, n in sorted(tried)
    ]


def n_compared(images: pd.DataFrame) -> int:
    """Count the products that have an image that could be read."""
    return int(images.loc[images["status"] == "ok", "product_id"].nunique())


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
            f"{truth}; {_wrong(measured['n_wrong'])}.",
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


def _wrong(n: int) -> str:
    verb = "does" if n == 1 else "do"
    return f"{n:,} {verb} not" if n else "none is missing there"


def given_threshold(findings: DetectionResult) -> str:
    """The distance that somebody gave to decide alone; "" where a score or the data decides."""
    search = findings.search
    if search is None or search.looked or findings.calibration is not None:
        return ""
    return number(search.threshold)


def _troubles(images: pd.DataFrame) -> list[Trouble]:
    """Status, number of images and numbers by reason, for what could not be compared."""
    troubles = []
    for status in ("failed", "skipped"):
        reasons = images.loc[images["status"] == status, "reason"].value_counts().items()
        counts = sorted(((str(reason), n) for reason, n in reasons), key=lambda it: (-it[1], it[0]))
        if counts:
            troubles.append((status, sum(n for _, n in counts), counts))
    return troubles
