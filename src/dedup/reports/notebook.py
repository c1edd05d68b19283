"""Show a result in a notebook: its figures, and its largest groups with their images."""

from __future__ import annotations

from html import escape

import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports.thumbnails import encode
from dedup.search.index import Index

MAX_PRODUCTS = 6
"""Products shown of a group."""
HEIGHT = 96
"""Height of an image, in CSS pixels."""


def html_fragment(result: DetectionResult, index: Index | None, max_groups: int) -> str:
    """Write a fragment of HTML, in which all text is escaped.

    Args:
        result: the result.
        index: index with titles and thumbnails; ``None`` for none.
        max_groups: number of groups shown, the largest first.
    """
    groups = result.groups
    sizes = groups.groupby("group_id").size().sort_values(ascending=False, kind="stable")
    shown = groups[groups["group_id"].isin(sizes.index[:max_groups])]
    rows = shown.sort_values(["group_id", "kept"], ascending=[True, False], kind="stable")
    products = [
        (group, rows[rows["group_id"] == group][:MAX_PRODUCTS])
        for group in sizes.index[:max_groups]
    ]
    ids = [key for _, part in products for key in part["product_id"]]
    titles, images = ({}, {}) if index is None else (index.titles(ids), _images(index, ids))
    cards = [_card(f"{sizes[group]} products", part, titles, images) for group, part in products]
    return f"<div><p>{_figures(result, len(sizes))}</p>{''.join(cards)}</div>"


def _figures(result: DetectionResult, n_groups: int) -> str:
    groups = result.groups
    if not n_groups:
        return "No duplicates found."
    n_spare = int((~groups["kept"].astype(bool)).sum())
    text = f"{n_groups:,} groups, {len(groups):,} products, {n_spare:,} can be removed"
    expected = result.calibration and result.calibration.expected_precision
    return f"{text}; expected precision {expected[0]:.1%}" if expected else text


def _images(index: Index, ids: list[str]) -> dict[str, str]:
    """Encode each product's first image in the store as a data URI."""
    fine = index.images[(index.images["status"] == "ok") & index.images["product_id"].isin(ids)]
    first = fine.drop_duplicates("product_id")
    thumbnails = index.thumbnails(first["url"].tolist())
    pairs = zip(first["product_id"], first["url"], strict=True)
    return {key: encode(thumbnails[url])[0] for key, url in pairs if url in thumbnails}


def _card(heading: str, part: pd.DataFrame, titles: dict[str, str], images: dict[str, str]) -> str:
    cells = [
        _cell(key, kept, titles.get(key, ""), images.get(key))
        for key, kept in zip(part["product_id"], part["kept"], strict=True)
    ]
    return (
        f"<p><b>{escape(heading)}</b></p><div style='display:flex;gap:8px'>{''.join(cells)}</div>"
    )


def _cell(key: str, kept: bool, title: str, image: str | None) -> str:
    shown = "" if image is None else f"<img src='{image}' alt='' style='height:{HEIGHT}px'><br>"
    mark = " (kept)" if kept else ""
    text = f"<small>{escape(key)}{mark}<br>{escape(title[:60])}</small>"
    return f"<div style='max-width:160px'>{shown}{text}</div>"
