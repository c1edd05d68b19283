"""The decisions in memory: which of them count, what follows from them, what contradicts them."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from dedup.review.decisions import APART, DUPLICATE, Decision, Pair, Place, pair_of


class History:
    """All rows of a ledger.

    A decision counts unless its batch was undone, or a later one that counts replaces it. Of
    several on one pair the latest counts.
    """

    def __init__(self, rows: Iterable[Decision] = ()) -> None:
        self.batches: dict[str, list[Decision]] = {}
        self._of_pair: dict[Pair, list[Decision]] = defaultdict(list)
        self._partners: dict[str, set[str]] = defaultdict(set)
        self._undone_by: dict[str, list[str]] = defaultdict(list)
        self._replaced_by: dict[Place, list[Decision]] = defaultdict(list)
        self.latest = ""
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return sum(map(len, self.batches.values()))

    def add(self, row: Decision) -> None:
        """Append a row."""
        self.batches.setdefault(row.batch, []).append(row)
        self.latest = max(self.latest, row.made_at)
        if row.undoes:
            self._undone_by[row.undoes].append(row.batch)
            return
        self._of_pair[row.pair].append(row)
        self._partners[row.left].add(row.right)
        self._partners[row.right].add(row.left)
        for place in row.replaces:
            self._replaced_by[place].append(row)

    def forget(self, batch: str) -> None:
        """Remove a batch that was not written after all."""
        for row in self.batches.pop(batch, []):
            if row.undoes:
                self._undone_by[row.undoes].remove(batch)
                continue
            self._of_pair[row.pair].remove(row)
            for place in row.replaces:
                self._replaced_by[place].remove(row)

    def is_undone(self, batch: str) -> bool:
        """Tell whether a batch was undone; undoing can be undone, too."""
        rows = self.batches.get(batch)
        start = rows[0].order if rows else ("", "", 0)
        return any(
            self.batches[other][0].order > start and not self.is_undone(other)
            for other in self._undone_by.get(batch, ())
        )

    def counts(self, row: Decision) -> bool:
        """Tell whether a decision was neither undone nor replaced."""
        return not self.is_undone(row.batch) and not any(
            other.order > row.order and not self.is_undone(other.batch)
            for other in self._replaced_by.get(row.place, ())
        )

    def current(self, pair: Pair) -> Decision | None:
        """Return the decision on a pair that counts."""
        rows = [row for row in self._of_pair.get(pair, ()) if self.counts(row)]
        return max(rows, key=lambda row: row.order, default=None)

    def decisions(self) -> Iterator[Decision]:
        """Yield the decision of every pair that has one that counts."""
        for pair in self._of_pair:
            if (row := self.current(pair)) is not None:
                yield row

    def of_product(self, product: str) -> list[Decision]:
        """List all decisions on a product, the latest first; also those that do not count."""
        rows = [
            row
            for other in self._partners.get(product, ())
            for row in self._of_pair[pair_of(product, other)]
        ]
        return sorted(rows, key=lambda row: row.order, reverse=True)

    def ever(self, pair: Pair) -> bool:
        """Tell whether a pair was ever decided on."""
        return bool(self._of_pair.get(pair))

    def knows(self, product: str) -> bool:
        """Tell whether a product was ever decided on."""
        return product in self._partners

    def same(self, product: str) -> dict[str, Decision | None]:
        """Find the products that are the same by decisions that count.

        Returns:
            Each product, itself included, with the decision by which it was reached first.
        """
        reached: dict[str, Decision | None] = {product: None}
        queue = deque([product])
        while queue:
            here = queue.popleft()
            for other in sorted(self._partners.get(here, ())):
                row = self.current(pair_of(here, other))
                if other not in reached and row is not None and row.verdict == DUPLICATE:
                    reached[other] = row
                    queue.append(other)
        return reached

    def follows(self, pair: Pair) -> list[Decision]:
        """List the decisions that settle a pair: its own, or those that it follows from.

        Duplicates join products to one; another verdict keeps two such products apart.
        """
        if not (self.knows(pair[0]) and self.knows(pair[1])):
            return []
        own = self.current(pair)
        if own is not None:
            return [own]
        left = self.same(pair[0])
        if pair[1] in left:
            return self._path(left, pair[1])
        return next(iter(self._apart(left, self.same(pair[1]))), [])

    def verdict(self, pair: Pair) -> str:
        """Return the verdict that a pair has or that follows; "" where there is none."""
        rows = self.follows(pair)
        apart = [row.verdict for row in rows if row.verdict != DUPLICATE]
        return apart[0] if apart else DUPLICATE if rows else ""

    def contradicted(self, pair: Pair, verdict: str) -> list[Decision]:
        """List the decisions that a new verdict on a pair would contradict, besides its own."""
        own = self.current(pair)
        left, right = self.same(pair[0]), self.same(pair[1])
        found: list[Decision] = []
        if verdict == DUPLICATE and pair[1] not in left:
            apart = self._apart(left, right)
            found = [row for rows in apart for row in rows if row.verdict in APART]
        elif verdict in APART:
            if own is not None and own.verdict == DUPLICATE:
                left = self._without(own)
            if pair[1] in left:
                found = self._path(left, pair[1])
        return sorted(
            {row.place: row for row in found if row.pair != pair}.values(),
            key=lambda row: row.order,
        )

    def _without(self, left_out: Decision) -> dict[str, Decision | None]:
        """Find the products that are the same as a decision's left one, were it not made."""
        reached: dict[str, Decision | None] = {left_out.left: None}
        queue = deque([left_out.left])
        while queue:
            here = queue.popleft()
            for other in sorted(self._partners.get(here, ())):
                row = self.current(pair_of(here, other))
                is_link = row is not None and row.verdict == DUPLICATE and row.pair != left_out.pair
                if other not in reached and is_link:
                    reached[other] = row
                    queue.append(other)
        return reached

    def _path(self, reached: dict[str, Decision | None], product: str) -> list[Decision]:
        """List the decisions from the first product of a search to another."""
        path = []
        while (row := reached[product]) is not None:
            path.append(row)
            product = row.left if row.right == product else row.right
        return path

    def _apart(
        self, left: dict[str, Decision | None], right: dict[str, Decision | None]
    ) -> list[list[Decision]]:
        """List the decisions that keep two sets of products apart, each with its paths."""
        found = []
        for here in left:
            for other in sorted(self._partners.get(here, set()) & right.keys()):
                row = self.current(pair_of(here, other))
                if row is not None and row.verdict in APART:
                    found.append([row, *self._path(left, here), *self._path(right, other)])
        return sorted(found, key=lambda rows: rows[0].order, reverse=True)
