"""What is no duplicate and yet not nothing, as shown: families of colours, other photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports import phrases
from dedup.reports.thumbnails import Thumbnail
from dedup.schemas import RELATIONS

_, SAME_PRODUCT, VARIANT = RELATIONS

MAX_CARDS, MAX_TILES = 200, 20
"""Families, and pairs of photos, shown on a page; colours shown of a family."""

SIDES = ("a", "b")


@dataclass(frozen=True)
class Tile:
    """One colour of a family, or one photo of a pair."""

    product_id: str
    n_products: int  # that have this colour
    address: str  # of its image
    said: str  # what links it to another one
    title: str = ""
    image: Thumbnail | None = None


@dataclass(frozen=True)
class Kin:
    """A card: products that belong together without being duplicates."""

    name: str
    n_products: int
    tiles: list[Tile]
    n_tiles: int


def families(findings: DetectionResult) -> list[Kin]:
    """The families of products that differ in colour alone, the most colours first."""
    table, groups = findings.families, findings.groups
    if not len(table):
        return []
    variants = findings.related[findings.related["relation"] == VARIANT]
    proofs = _proofs(variants, dict(zip(table["product_id"], table["variant_id"], strict=True)))
    kept = set(groups.loc[groups["kept"].astype(bool), "product_id"])
    found = []
    for family_id, rows in table.groupby("family_id", sort=True):
        colours = rows.groupby("variant_id", sort=True)["product_id"].apply(list)
        tiles = [_colour(str(name), ids, kept, proofs) for name, ids in colours.items()]
        found.append(Kin(str(family_id), len(rows), tiles[:MAX_TILES], len(tiles)))
    return sorted(found, key=lambda it: (-it.n_tiles, -it.n_products, it.name))


def photos(findings: DetectionResult) -> list[Kin]:
    """Pairs of products that show one product in two photos, as it seems."""
    pairs = findings.related[findings.related["relation"] == SAME_PRODUCT]
    return [
        Kin(
            row["product_id_a"],
            2,
            [
                Tile(row[f"product_id_{side}"], 1, row[f"image_{side}"], _said(row, side))
                for side in SIDES
            ],
            2,
        )
        for row in pairs.to_dict("records")
    ]


def filled(cards: Sequence[Kin], titles: dict[str, str], album: dict[str, Thumbnail]) -> list[Kin]:
    """The same with titles, by product id, and images, by address."""

    def full(tile: Tile) -> Tile:
        title = (titles.get(tile.product_id) or "").strip()
        return replace(tile, title=title, image=album.get(tile.address))

    return [replace(card, tiles=[full(tile) for tile in card.tiles]) for card in cards]


def tiles_of(*parts: Iterable[Kin]) -> list[Tile]:
    """Every tile of some cards."""
    return [tile for cards in parts for card in cards for tile in card.tiles]


def _proofs(variants: pd.DataFrame, colour_of: dict[str, str]) -> dict[str, tuple[str, str]]:
    """For each colour the image of its surest pair, and what that pair says."""
    ranked = variants.sort_values(["score", "distance"], ascending=[False, True], kind="stable")
    found: dict[str, tuple[str, str]] = {}
    for row in ranked.to_dict("records"):
        for side in SIDES:
            colour = colour_of.get(row[f"product_id_{side}"], "")
            found.setdefault(colour, (row[f"image_{side}"], _said(row, "b")))
    return found


def _colour(name: str, ids: list[str], kept: set[str], proofs: dict[str, tuple[str, str]]) -> Tile:
    """The tile of one colour: the product that is kept of its duplicates stands for it."""
    address, said = proofs.get(name, ("", ""))
    return Tile(next((key for key in ids if key in kept), ids[0]), len(ids), address, said)


def _said(row: dict[Any, Any], side: str) -> str:
    """What a pair says of its second product, in words."""
    if side == "a":
        return ""
    return ": ".join(part for part in (phrases.sure(row["score"]), row["evidence"]) if part)
