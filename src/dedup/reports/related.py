"""Make the cards of related products: colour variants, other photos and shared images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports import phrases
from dedup.reports.thumbnails import Thumbnail
from dedup.schemas import RELATIONS, SHARED_IMAGE

_, SAME_PRODUCT, DETAIL, VARIANT = RELATIONS

MAX_CARDS, MAX_TILES = 200, 20
"""Families, and pairs of each kind, shown on a page at most; colours shown of a family at most."""

SIDES = ("a", "b")
ENDS = ["product_id_a", "product_id_b"]


@dataclass(frozen=True)
class Tile:
    """A colour of a family, or a photo of a pair."""

    product_id: str
    n_products: int  # products of this colour
    address: str  # address of the image
    evidence: str  # evidence of the link to another tile
    title: str = ""
    image: Thumbnail | None = None


@dataclass(frozen=True)
class Card:
    """A card of related products that join no group."""

    name: str
    n_products: int
    tiles: list[Tile]
    n_tiles: int


def family_cards(findings: DetectionResult) -> list[Card]:
    """Make a card of each family of colour variants, the most colours first."""
    table, groups = findings.families, findings.groups
    if not len(table):
        return []
    variants = findings.related[findings.related["relation"] == VARIANT]
    proofs = _proofs(variants, dict(zip(table["product_id"], table["variant_id"], strict=True)))
    kept = set(groups.loc[groups["kept"].astype(bool), "product_id"])
    cards = []
    for family_id, rows in table.groupby("family_id", sort=True):
        colours = rows.groupby("variant_id", sort=True)["product_id"].apply(list)
        tiles = [_colour(str(name), ids, kept, proofs) for name, ids in colours.items()]
        cards.append(Card(str(family_id), len(rows), tiles[:MAX_TILES], len(tiles)))
    return sorted(cards, key=lambda card: (-card.n_tiles, -card.n_products, card.name))


def photo_cards(findings: DetectionResult) -> list[Card]:
    """Make a card of each pair that may show one product in two photos, the surest pair first."""
    return _pair_cards(findings, SAME_PRODUCT)


def detail_cards(findings: DetectionResult) -> list[Card]:
    """Make a card of each pair of images that are equal but for a part, the surest pair first."""
    return _pair_cards(findings, DETAIL)


def shared_cards(findings: DetectionResult) -> list[Card]:
    """Make a card of each pair that shares a secondary image alone."""
    return _pair_cards(findings, SHARED_IMAGE)


def _pair_cards(findings: DetectionResult, relation: str) -> list[Card]:
    """Make a card of each pair of a relation.

    They are ranked by the score of their verification, in ``candidates``: another photo has none.
    """
    pairs = findings.related[findings.related["relation"] == relation]
    verified = findings.candidates.set_index(ENDS)["score"].astype(float)
    scores = verified.reindex(pd.MultiIndex.from_frame(pairs[ENDS])).to_numpy()
    pairs = pairs.assign(score=scores).sort_values(
        ["score", "distance", *ENDS], ascending=[False, True, True, True], kind="stable"
    )
    return [
        Card(
            row["product_id_a"],
            2,
            [
                Tile(row[f"product_id_{side}"], 1, row[f"image_{side}"], _evidence(row, side))
                for side in SIDES
            ],
            2,
        )
        for row in pairs.to_dict("records")
    ]


def fill(cards: Sequence[Card], titles: dict[str, str], album: dict[str, Thumbnail]) -> list[Card]:
    """Add titles, by product id, and images, by address, to cards."""

    def full(tile: Tile) -> Tile:
        title = (titles.get(tile.product_id) or "").strip()
        return replace(tile, title=title, image=album.get(tile.address))

    return [replace(card, tiles=[full(tile) for tile in card.tiles]) for card in cards]


def tiles_of(*parts: Iterable[Card]) -> list[Tile]:
    """Collect the tiles of cards."""
    return [tile for cards in parts for card in cards for tile in card.tiles]


def _proofs(variants: pd.DataFrame, colour_of: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Find the image and the evidence of each colour's surest pair."""
    ranked = variants.sort_values(["score", "distance"], ascending=[False, True], kind="stable")
    proofs: dict[str, tuple[str, str]] = {}
    for row in ranked.to_dict("records"):
        for side in SIDES:
            colour = colour_of.get(row[f"product_id_{side}"], "")
            proofs.setdefault(colour, (row[f"image_{side}"], _evidence(row, "b")))
    return proofs


def _colour(name: str, ids: list[str], kept: set[str], proofs: dict[str, tuple[str, str]]) -> Tile:
    """Make the tile of a colour, shown by the kept product of its duplicates."""
    address, evidence = proofs.get(name, ("", ""))
    return Tile(next((key for key in ids if key in kept), ids[0]), len(ids), address, evidence)


def _evidence(row: dict[Any, Any], side: str) -> str:
    """Write the score and the evidence of a pair below its second product; "" below the first."""
    if side == "a":
        return ""
    is_detail = row["relation"] == DETAIL  # its score is that of a copy, which it is not
    sure = "" if is_detail else phrases.sure(row["score"])
    return ": ".join(part for part in (sure, row["evidence"]) if part)
