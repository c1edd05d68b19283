"""What the page says in sentences: what was compared, what was not, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dedup.artifacts import Findings, Tier

TIERS: dict[Tier, tuple[str, str]] = {
    "same_url": ("same address", "Both products name the same picture address."),
    "same_bytes": ("same file", "Two addresses, one file: byte for byte the same."),
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


def facts(findings: Findings, images: pd.DataFrame, n_left_out: int) -> list[str]:
    """The page's facts in a few words each.

    Args:
        findings: what was found.
        images: the index's, schema ``INDEX_IMAGES``.
        n_left_out: groups that the page has no room for.
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
    if n_silent := findings.shared["sha256_pixels"].nunique():
        verb = "proves" if n_silent == 1 else "prove"
        said.append(f"{counted(n_silent, 'picture')} that {verb} nothing")
    return said


def advice(findings: Findings, images: pd.DataFrame) -> list[str]:
    """What to try where no group was found."""
    said = []
    if n_compared(images) < 2:
        said.append("It takes two products with a readable picture to find a duplicate.")
    threshold = findings.search.get("threshold")
    if threshold == 0:
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
        search: as in ``Findings``; may be empty, and then nothing is said.
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
    said += f"{done:,} of {n_pairs:,} pairs compared ({percent(search['share'])}); "
    if search["lossless"]:
        return f"{said}none of the others can lie within {within}."
    return (
        f"{said}about {counted(round(search['missed']), 'pair')} within {within} "
        f"({percent(search['missed_share'])}) lie across cluster borders and were not looked at."
    )


def n_compared(images: pd.DataFrame) -> int:
    """How many products have a picture that could be read."""
    return int(images.loc[images["status"] == "ok", "product_id"].nunique())


def counted(n: int, noun: str) -> str:
    """A number and its noun: 1 pair, 2,000 pairs."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def number(value: object) -> str:
    """A number to 4 significant digits; anything else as it is."""
    return f"{value + 0.0:.4g}" if isinstance(value, int | float) else str(value)


def percent(share: float) -> str:
    """A share, 0 to 1, in percent to 2 digits where it is below 10."""
    if 0 < share < 0.0001:
        return "under 0.01 %"
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _troubles(images: pd.DataFrame) -> list[Trouble]:
    """Status, number of pictures and numbers by reason, for what could not be compared."""
    troubles = []
    for status in ("failed", "skipped"):
        reasons = images.loc[images["status"] == status, "reason"].value_counts().items()
        counts = sorted(((str(reason), n) for reason, n in reasons), key=lambda it: (-it[1], it[0]))
        if counts:
            troubles.append((status, sum(n for _, n in counts), counts))
    return troubles
