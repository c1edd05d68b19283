"""Which decisions hold in a run: what is settled, what is asked again, and what was renamed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from dedup.review.decisions import (
    APART,
    DUPLICATE,
    UNKNOWN,
    Decision,
    Digests,
    Pair,
    fingerprint,
    pair_of,
)
from dedup.review.history import History
from dedup.review.ledger import NO_IMAGES, Choice, Images, Ledger
from dedup.search.index import Index

ENDS = ["product_id_a", "product_id_b"]


class Evidence(NamedTuple):
    """A pair of products that a run proposes, and the images that speak for it.

    Attributes:
        pair: the products, the smaller id first.
        shown: digests of the left and of the right image.
    """

    pair: Pair
    shown: tuple[Digests, Digests]


@dataclass(frozen=True)
class Catalogue:
    """The images of a run's products.

    Attributes:
        images: digests of each product's images.
        of_address: digests of the image at each address.
    """

    images: Mapping[str, Images]
    of_address: Mapping[str, Digests]

    @classmethod
    def of(cls, index: Index) -> Catalogue:
        """Read the images of an index."""
        ok = index.images[index.images["status"] == "ok"]
        ok = ok[["product_id", "url", "sha256_pixels", "sha256_bytes"]]
        ids = plain_column(index.images["product_id"])
        images: dict[str, set[Digests]] = {key: set() for key in ids if key}
        of_address: dict[str, Digests] = {}
        for product, url, pixels, content in plain_rows(ok):
            of_address[url] = digests = Digests(pixels, content)
            images[product].add(digests)
        return cls({key: frozenset(some) for key, some in images.items()}, of_address)

    def evidence(self, pairs: pd.DataFrame) -> list[Evidence]:
        """Return the evidence of pairs, schema ``PAIRS``."""
        rows = plain_rows(pairs[[*ENDS, "image_a", "image_b"]])
        return [
            Evidence(
                (left, right),
                (self.of_address.get(one, UNKNOWN), self.of_address.get(other, UNKNOWN)),
            )
            for left, right, one, other in rows
        ]

    def prints(self) -> dict[str, str]:
        """Compute the fingerprint of each product that has images."""
        return {
            product: fingerprint([digests.pixels for digests in some])
            for product, some in self.images.items()
            if some
        }


def plain_rows(table: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table as plain values, texts more quickly than ``itertuples``."""
    return zip(*(plain_column(table[name]) for name in table.columns), strict=True)


def plain_column(column: pd.Series[Any]) -> list[Any]:
    """Return the values of a column as a list; pandas makes one text at a time, Arrow all."""
    if isinstance(column.dtype, pd.StringDtype):
        values = pa.array(column)
        if not values.null_count:
            return list(values.to_numpy(zero_copy_only=False))
    return list(column.to_numpy(object).tolist())


class Renamed(NamedTuple):
    """A decision whose product has another id now.

    Attributes:
        before: the decision.
        left: id that its left product has now; it may sort after ``right``.
        right: id that its right product has now.
        kept: the product to keep.
    """

    before: Decision
    left: str
    right: str
    kept: str

    @property
    def pair(self) -> Pair:
        """The products by their ids of today, the smaller first."""
        return pair_of(self.left, self.right)

    @property
    def shown(self) -> tuple[Digests, Digests]:
        """Digests of the images that were looked at, in the order of ``pair``."""
        return self._ordered(self.before.shown_left, self.before.shown_right)

    def decision(self, batch: str, seq: int) -> Decision:
        """Make the decision on the new ids."""
        prints = self._ordered(self.before.left_print, self.before.right_print)
        return replace(
            self.before, batch=batch, seq=seq, left=self.pair[0], right=self.pair[1],
            kept=self.kept, left_print=prints[0], right_print=prints[1],
            shown_left=self.shown[0], shown_right=self.shown[1], source="carried", replaces=(),
        )  # fmt: skip

    def choice(self) -> Choice:
        """Make the choice by which it is written into the ledger."""
        context = {"carried_from": list(self.before.pair), "reviewer": self.before.reviewer}
        return Choice(
            self.pair, self.before.verdict, self.kept, self.shown, None, context, self.before.note
        )

    def _ordered(self, left: Any, right: Any) -> tuple[Any, Any]:
        return (left, right) if self.left < self.right else (right, left)


@dataclass(frozen=True)
class Links:
    """Decisions as constraints of the groups; they do not contradict each other.

    Attributes:
        same: pairs of one product, also of products that are not there now.
        apart: pairs of two products, with their verdicts.
        kept: products that reviewers chose to keep, the latest choice first.
    """

    same: Sequence[Pair] = ()
    apart: Mapping[Pair, str] = field(default_factory=dict)
    kept: Sequence[str] = ()


@dataclass(frozen=True)
class Standing:
    """The decisions of a ledger in a run.

    Attributes:
        settled: for each proposed pair that needs no question, the decisions that settle it.
        reopened: for each proposed pair with an image that was not there, the old decision.
        renamed: decisions that were carried over to new ids.
        gone: decisions on duplicates of which no image of the evidence is left.
        links: all decisions that hold, as constraints.
    """

    settled: Mapping[Pair, Sequence[Decision]]
    reopened: Mapping[Pair, Decision]
    renamed: Sequence[Renamed]
    gone: Sequence[Decision]
    links: Links

    def verdict(self, pair: Pair) -> str:
        """Return the verdict that settles a proposed pair; "" for an open one."""
        return verdict_of(self.settled.get(pair, ()))


def verdict_of(rows: Sequence[Decision]) -> str:
    """Return the verdict that follows from decisions: one apart is stronger than duplicates."""
    apart = [row.verdict for row in rows if row.verdict != DUPLICATE]
    return apart[0] if apart else DUPLICATE if rows else ""


def standing(ledger: Ledger, catalogue: Catalogue, proposed: Sequence[Evidence]) -> Standing:
    """Find which decisions hold in a run.

    A decision holds while the images that speak for the pair were among those that it was made on,
    by pixels or by bytes. Scores, thresholds and checkpoints have no say.

    Args:
        ledger: the decisions.
        catalogue: the run's products.
        proposed: the pairs that the run proposes.
    """
    carried = renamed(ledger, catalogue)
    history = _with_renamed(ledger.history, carried)
    known = [one for one in proposed if history.knows(one.pair[0]) and history.knows(one.pair[1])]
    reopened: dict[Pair, Decision] = {}
    for one in known:
        row = history.current(one.pair)
        if row is not None and not was_there(one, [row], ledger.images):
            reopened[one.pair] = row
    kept = [row for row in history.decisions() if row.pair not in reopened]
    holding = consistent(kept)
    settled: dict[Pair, Sequence[Decision]] = {}
    for one in known:
        rows = holding.follows(one.pair)
        if rows and (rows[0].pair == one.pair or was_there(one, rows, ledger.images)):
            settled[one.pair] = rows
    rows = sorted(holding.decisions(), key=lambda row: row.order, reverse=True)
    gone = [row for row in rows if row.verdict == DUPLICATE and _is_gone(row, catalogue)]
    return Standing(settled, reopened, carried, gone, _links(rows, catalogue.images))


def consistent(rows: Collection[Decision]) -> History:
    """Keep the decisions that do not contradict later ones."""
    kept = History()
    for row in sorted(rows, key=lambda row: row.order, reverse=True):
        if not kept.contradicted(row.pair, row.verdict):
            kept.add(replace(row, replaces=()))
    return kept


def renamed(ledger: Ledger, catalogue: Catalogue) -> list[Renamed]:
    """Find decisions on products that are gone, and of which one new product has all images.

    The images must have been those of one product alone, and must be so now. A new product is one
    that no earlier run had. What was carried over once is not carried again, even if undone.
    """
    history, there = ledger.history, catalogue.images
    vanished = {
        product for row in history.decisions() for product in row.pair if product not in there
    }
    if not vanished:
        return []
    before: dict[str, set[str]] = defaultdict(set)
    old: set[str] = set()
    for product, print_ in ledger.seen():
        before[print_].add(product)
        old.add(product)
    for row in history.decisions():
        before[row.left_print].add(row.left)
        before[row.right_print].add(row.right)
        old |= {row.left, row.right}
    now: dict[str, set[str]] = defaultdict(set)
    for product, print_ in catalogue.prints().items():
        now[print_].add(product)
    new_id: dict[str, str] = {}
    for row in sorted(history.decisions(), key=lambda row: row.order):
        for product, print_ in zip(row.pair, (row.left_print, row.right_print), strict=True):
            if product in vanished and before[print_] == {product} and len(now[print_]) == 1:
                (candidate,) = now[print_]
                if candidate not in old:
                    new_id[product] = candidate
    carried = []
    for row in sorted(history.decisions(), key=lambda row: row.order):
        left, right = (new_id.get(product, product) for product in row.pair)
        is_new = (left, right) != row.pair and left != right
        if is_new and {left, right} <= there.keys() and not history.ever(pair_of(left, right)):
            carried.append(Renamed(row, left, right, new_id.get(row.kept, row.kept)))
    return carried


def _with_renamed(history: History, carried: Sequence[Renamed]) -> History:
    """Add the decisions that are carried over to a copy of the history."""
    if not carried:
        return history
    rows = [row for batch in history.batches.values() for row in batch]
    new = [one.decision("carried", number) for number, one in enumerate(carried)]
    return History([*rows, *new])


def was_there(
    evidence: Evidence, rows: Sequence[Decision], images: Mapping[str, Collection[Digests]]
) -> bool:
    """Tell whether the images of a pair were there when it, or what settles it, was decided."""
    return all(
        _is_among(
            digests,
            [
                one
                for row in rows
                for end, print_ in ((row.left, row.left_print), (row.right, row.right_print))
                if end == product
                for one in images.get(print_, NO_IMAGES)
            ],
        )
        for product, digests in zip(evidence.pair, evidence.shown, strict=True)
    )


def _is_among(digests: Digests, images: Sequence[Digests]) -> bool:
    """Tell whether an image is among others, by its pixels or by its bytes."""
    return any(
        (digests.pixels and digests.pixels == other.pixels)
        or (digests.bytes and digests.bytes == other.bytes)
        for other in images
    )


def _is_gone(row: Decision, catalogue: Catalogue) -> bool:
    """Tell whether a product of a decision has none of the images that were looked at."""
    ends = zip(row.pair, (row.shown_left, row.shown_right), strict=True)
    return any(
        product in catalogue.images
        and shown != UNKNOWN
        and not _is_among(shown, list(catalogue.images[product]))
        for product, shown in ends
    )


def _links(rows: Sequence[Decision], there: Mapping[str, Images]) -> Links:
    """Turn decisions, the latest first, into constraints of the products that are there."""
    same = [row.pair for row in rows if row.verdict == DUPLICATE]
    apart = {row.pair: row.verdict for row in rows if row.verdict in APART}
    kept = [row.kept for row in rows if row.kept in there]
    return Links(same, apart, kept)
