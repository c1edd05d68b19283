"""Word the health of the images: for the console, for ``health.csv`` and for the page."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from dedup.detection.health import unusable_products
from dedup.detection.results import DetectionResult
from dedup.reports.records import typed_addresses
from dedup.reports.related import Card, Tile
from dedup.runtime.nouns import counted
from dedup.schemas import PROBLEMS
from dedup.search.index import Index

COLUMNS = (
    *("product_id", "image", "address", "usable", "problems", "reasons"),
    *("width", "height", "bytes", "format"),
)
"""Columns of ``health.csv``, in this order."""

WORDS = {
    "unreadable": "not readable", "placeholder": "placeholder or blank", "too_small": "too small",
    "too_large": "too large", "blurred": "blurred", "dark": "dark", "bright": "overexposed",
    "aspect": "too long", "low_contrast": "low in contrast", "compressed": "strongly compressed",
}  # fmt: skip
"""Names of the problems, for people."""


def summary(findings: DetectionResult) -> str:
    """Write how many products have no usable image, and why; "" where all have one."""
    unfit = unusable_products(findings.health)
    n_unfit = unfit["product_id"].nunique()
    if not n_unfit:
        return ""
    n_products = findings.health["product_id"].nunique()
    worst = unfit.drop_duplicates("product_id")["problems"].str.split().str[0]
    counts = Counter(PROBLEMS[place] for place in sorted(map(PROBLEMS.index, worst)))
    reasons = ", ".join(f"{n:,} {WORDS[name]}" for name, n in counts.most_common())
    verb = "has" if n_unfit == 1 else "have"
    sizes = "; health.profile= sets the sizes" if {"too_small", "too_large"} & {*counts} else ""
    return (
        f"{n_unfit:,} of {counted(n_products, 'product')} {verb} no usable image: {reasons} "
        f"(health.csv names each image{sizes})"
    )


def table(findings: DetectionResult, index: Index) -> pd.DataFrame:
    """Make the rows of ``health.csv``: the images with a problem."""
    rows = findings.health[findings.health["problems"] != ""]
    address = typed_addresses(rows["product_id"], rows["image"], index)
    n_bytes = [str(n) if n >= 0 else "" for n in rows["bytes"]]
    words: pd.DataFrame = rows.assign(address=address, bytes=n_bytes)[list(COLUMNS)]
    return words


def section(findings: DetectionResult) -> dict[str, Any] | None:
    """Make the figures of the page's section; ``None`` where no image has a problem."""
    counts = _counts(findings.health)
    if not counts:
        return None
    texts = [
        f"{WORDS[name]}: {counted(n_images, 'image')} of {counted(n_products, 'product')}"
        for name, n_images, n_products in counts
    ]
    n_unfit = int(unusable_products(findings.health)["product_id"].nunique())
    return {"counts": texts, "n_unfit": n_unfit}


def cards(findings: DetectionResult) -> list[Card]:
    """Make a card of each product without a usable image, with its first image."""
    rows = unusable_products(findings.health).drop_duplicates("product_id")
    shown = zip(rows["product_id"], rows["image"], rows["reasons"], strict=True)
    return [Card(key, 1, [Tile(key, 1, image, why)], 1) for key, image, why in shown]


def _counts(health: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Count the images and the products with each problem that occurs."""
    counts, kinds = [], health["problems"].unique()
    for name in PROBLEMS:
        with_it = [some for some in kinds if name in some.split()]
        rows = health[health["problems"].isin(with_it)]
        if len(rows):
            counts.append((name, int(rows["image"].nunique()), int(rows["product_id"].nunique())))
    return counts
