"""The questions of a run: groups of products, with a pair of each member and proposed verdicts."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from dedup.review.decisions import DUPLICATE, Pair, pair_of
from dedup.review.standing import Catalogue, Evidence, plain_column, plain_rows
from dedup.schemas import RELATIONS, SHARED_IMAGE, TIERS
from dedup.search.index import Index

PROPOSED = {
    RELATIONS[2]: "different", RELATIONS[3]: "variant", SHARED_IMAGE: "other_product",
}  # fmt: skip
"""Proposed verdict by relation; ``duplicate`` for the others."""

RANKS: dict[str, int] = {tier: rank for rank, tier in enumerate(TIERS)}

MAX_COLUMNS, MAX_CELL = 12, 300
"""Columns of the user's table that the page shows at most, and characters of a cell."""

KNOWN_COLUMNS = (
    "title", "name", "brand", "price", "size", "colour", "color", "gtin", "ean", "mpn", "seller",
    "category", "description",
)  # fmt: skip
"""Columns that are shown first, by their names."""


class Question(NamedTuple):
    """A pair of products to be decided on.

    Attributes:
        evidence: the pair, and the images that speak for it.
        proposed: verdict that the search proposes.
        tier: one of ``TIERS``.
        score: probability of a copy; NaN without a verifier.
        distance: of the embeddings.
        words: evidence in words.
    """

    evidence: Evidence
    proposed: str
    tier: str
    score: float
    distance: float
    words: str

    @property
    def pair(self) -> Pair:
        """The products, the smaller id first."""
        return self.evidence.pair


class Item(NamedTuple):
    """Products that are looked at together.

    Attributes:
        number: its place in the run.
        kept: the product that the run would keep.
        members: all products, the kept one first.
        questions: a pair of each other member, with the kept one wherever there is such a pair.
    """

    number: int
    kept: str
    members: tuple[str, ...]
    questions: tuple[Question, ...]

    @property
    def rank(self) -> int:
        """Rank of its least sure tier."""
        return max(RANKS[one.tier] for one in self.questions)

    @property
    def doubt(self) -> float:
        """How unsure its least sure pair is, 0 to 1."""
        scores = [one.score for one in self.questions if not math.isnan(one.score)]
        return 1 - min(scores, default=0.5)


def items_of(
    groups: pd.DataFrame, proofs: pd.DataFrame, others: pd.DataFrame, catalogue: Catalogue
) -> list[Item]:
    """Make the items of a run.

    Args:
        groups: schema ``GROUPS``.
        proofs: a row for each product of a group: ``product_id``, ``other``, ``image``,
            ``other_image``, ``tier``, ``score``, ``distance``, ``relation`` and ``words``.
        others: schema ``PAIRS`` and ``words``: pairs that are no proof of a group.
        catalogue: the products' images.
    """
    rows = proofs[["product_id", "other", "image", "other_image", "tier", "score", "distance",
                   "relation", "words"]]  # fmt: skip
    proof = {row[0]: row for row in plain_rows(rows)}
    members: dict[str, list[str]] = defaultdict(list)
    kept: dict[str, str] = {}
    for product, group, is_kept in plain_rows(groups[["product_id", "group_id", "kept"]]):
        members[group].append(product)
        if is_kept:
            kept[group] = product
    items: list[Item] = []
    asked: set[Pair] = set()
    for group, products in members.items():
        first = kept[group]
        ordered = [first, *(one for one in products if one != first)]
        questions = [
            _question(catalogue, *proof[one]) for one in ordered if one != first and one in proof
        ]
        if questions:
            asked |= {one.pair for one in questions}
            items.append(Item(len(items), first, tuple(ordered), tuple(questions)))
    pairs = others[["product_id_a", "product_id_b", "image_a", "image_b", "tier", "score",
                    "distance", "relation", "words"]]  # fmt: skip
    for row in plain_rows(pairs):
        question = _question(catalogue, *row)
        if question.pair not in asked:
            asked.add(question.pair)
            items.append(Item(len(items), row[0], (row[0], row[1]), (question,)))
    return items


def _question(
    catalogue: Catalogue,
    one: str,
    other: str,
    image: str,
    other_image: str,
    tier: str,
    score: float,
    distance: float,
    relation: str,
    words: str,
) -> Question:
    """Make a question of a pair in any order."""
    of = catalogue.of_address
    shown = of[image], of[other_image]
    evidence = Evidence(pair_of(one, other), shown if one < other else shown[::-1])
    return Question(evidence, PROPOSED.get(relation, DUPLICATE), tier, score, distance, words)


class Table:
    """The user's table: the cells of each product.

    Args:
        index: index with the table.
    """

    def __init__(self, index: Index) -> None:
        key, title = index.manifest["id_column"], index.manifest.get("title_column")
        hidden = {key, *index.url_columns}
        names = [str(name) for name in index.products.columns if name not in hidden]
        names.sort(key=lambda name: (name != title, _place(name)))
        self.columns = names[:MAX_COLUMNS]
        self.all_columns = names
        rows = index.products.drop_duplicates(key)
        self._row = {product: at for at, product in enumerate(plain_column(rows[key]))}
        self._cells = {name: plain_column(rows[name].astype(str)) for name in names}

    def cells(self, product: str) -> list[str]:
        """Return the cells of a product in ``columns``."""
        return [self.cell(product, name)[:MAX_CELL] for name in self.columns]

    def cell(self, product: str, column: str) -> str:
        """Return a cell without blanks around it; "" for an unknown product."""
        at = self._row.get(product)
        return "" if at is None else str(self._cells[column][at]).strip()

    def named(self, names: Sequence[str]) -> list[str]:
        """Find columns by name, see ``columns_named``."""
        return columns_named(self.all_columns, names)


def columns_named(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Find columns by name, whatever their case: brand is also productBrand."""
    found: dict[str, None] = {}
    for wanted in map(str.casefold, names):
        equal = [name for name in columns if name.casefold() == wanted]
        holding = [name for name in columns if wanted in name.casefold()]
        found.update(dict.fromkeys([*equal, *holding][:1]))
    return list(found)


def _place(name: str) -> int:
    """Rank a column by its name; the others stay in the table's order."""
    folded = name.casefold()
    return next((at for at, known in enumerate(KNOWN_COLUMNS) if known in folded), 99)


class Rule(NamedTuple):
    """Items of which one may be decided like the other.

    Attributes:
        tier: the least sure tier of their pairs.
        equal: columns whose cells are filled and equal in each item.
        proposed: the proposed verdict of all pairs.
        items: numbers of the items.
    """

    tier: str
    equal: tuple[str, ...]
    proposed: str
    items: list[int]


def rules_of(items: Sequence[Item], table: Table, columns: Sequence[str]) -> list[Rule]:
    """Sort items by tier, proposed verdict and the columns that agree; the largest rule first."""
    rules: dict[tuple[str, tuple[str, ...], str], list[int]] = defaultdict(list)
    for item in items:
        proposed = {one.proposed for one in item.questions}
        if len(proposed) == 1:
            equal = tuple(name for name in columns if _agree(item, table, name))
            rules[TIERS[item.rank], equal, proposed.pop()].append(item.number)
    found = [Rule(*key, numbers) for key, numbers in rules.items()]
    return sorted(found, key=lambda rule: (-len(rule.items), rule[:3]))


def _agree(item: Item, table: Table, column: str) -> bool:
    """Tell whether all products of an item have the same filled cell."""
    cells = {table.cell(product, column).casefold() for product in item.members}
    return len(cells) == 1 and "" not in cells


def orders(items: Sequence[Item]) -> Mapping[str, dict[int, int]]:
    """Rank the items: ``sure`` has the surest and largest first, ``doubt`` the most doubtful."""

    def sure(item: Item) -> tuple[int, float, int, float, int]:
        distance = max(one.distance for one in item.questions)
        return item.rank, round(item.doubt, 2), -len(item.members), distance, item.number

    def doubtful(item: Item) -> tuple[int, float, int]:
        return -item.rank, -item.doubt, item.number

    return {
        name: {item.number: place for place, item in enumerate(sorted(items, key=key))}
        for name, key in (("sure", sure), ("doubt", doubtful))
    }
