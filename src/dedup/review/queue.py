"""The work queue of a run: items are leased, and come back by themselves."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dedup.review.database import Database
from dedup.review.schema import QUEUE

LEASE_SECONDS = 120.0
"""Seconds after which an item that nobody works on is given to others."""

ORDERS = ("sure", "doubt")
MAX_HELD = 200
"""Items that one reviewer may hold."""


class WorkQueue:
    """Open items of one run. It may be lost at any time: the ledger alone keeps decisions.

    Args:
        database: where it is; several servers may share one.
        run: name of the run.
    """

    def __init__(self, database: Database, run: str) -> None:
        self.database = database
        self.run = run
        database.prepare("work", QUEUE.format(number="DOUBLE PRECISION"))

    def fill(
        self,
        ranks: Mapping[str, Mapping[int, int]],
        closed: Collection[int],
        facets: Iterable[tuple[str, str, int]],
    ) -> None:
        """Put the items of the run into the queue.

        Args:
            ranks: place of each item in each of ``ORDERS``.
            closed: items without an open question.
            facets: names, values and items, to choose items by.
        """
        rows = (
            (self.run, item, place, ranks["doubt"][item], int(item not in closed))
            for item, place in ranks["sure"].items()
        )
        with self.database.writing():
            self.database.many(
                "INSERT INTO work (run, item, sure, doubt, is_open, leased_to, leased_until) "
                "VALUES (?, ?, ?, ?, ?, '', 0) ON CONFLICT (run, item) DO UPDATE SET "
                "sure = excluded.sure, doubt = excluded.doubt, is_open = excluded.is_open",
                rows,
            )
            self.database.many(
                "INSERT INTO facet (run, name, value, item) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                ((self.run, *facet) for facet in sorted(facets)),  # in the order of the key
            )

    def lease(
        self,
        n: int,
        reviewer: str,
        now: float,
        order: str = "sure",
        facet: tuple[str, str] | None = None,
        held: Sequence[int] = (),
    ) -> list[int]:
        """Lease open items to a reviewer; nobody else gets them meanwhile.

        Args:
            n: how many, at most.
            reviewer: to whom.
            now: the time in seconds.
            order: one of ``ORDERS``.
            facet: name and value that the items must have.
            held: items that the reviewer has already; others of his own are given again.
        """
        values: list[Any] = [self.run, now, reviewer]
        sql = (
            "SELECT item FROM work WHERE run = ? AND is_open = 1 "
            "AND (leased_until <= ? OR leased_to = ?) "
        )
        if held:
            sql += f"AND item NOT IN ({', '.join('?' * len(held))}) "
            values += held
        if facet is not None:
            sql += "AND item IN (SELECT item FROM facet WHERE run = ? AND name = ? AND value = ?) "
            values += [self.run, *facet]
        sql += (
            "AND NOT EXISTS (SELECT 1 FROM skipped WHERE skipped.run = work.run "
            "AND skipped.item = work.item AND skipped.reviewer = ? AND skipped.until > ?) "
            f"ORDER BY {'doubt' if order == 'doubt' else 'sure'} LIMIT ?"
        )
        values += [reviewer, now, n]
        with self.database.writing():
            rows = self.database.rows(sql + self.database.skip_locked, values)
            items = [item for (item,) in rows]
            self._lease(items, reviewer, now)
        return items

    def renew(self, items: Sequence[int], reviewer: str, now: float) -> None:
        """Lengthen the leases that a reviewer still has."""
        self._update("leased_until = ?", [now + LEASE_SECONDS], items, "AND leased_to = ?",
                     [reviewer])  # fmt: skip

    def release(self, items: Sequence[int], reviewer: str) -> None:
        """Give items back."""
        self._update("leased_until = 0, leased_to = ''", [], items, "AND leased_to = ?", [reviewer])

    def skip(self, items: Sequence[int], reviewer: str, until: float) -> None:
        """Give items back, and do not show them to this reviewer for a while."""
        with self.database.writing():
            self.database.many(
                "INSERT INTO skipped (run, item, reviewer, until) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (run, item, reviewer) DO UPDATE SET until = excluded.until",
                [(self.run, item, reviewer, until) for item in items],
            )
            self.release(items, reviewer)

    def set_open(self, items: Sequence[int], is_open: bool) -> None:
        """Open or close items, and end their leases."""
        self._update("is_open = ?, leased_until = 0, leased_to = ''", [int(is_open)], items)

    def reopen(self, items: Sequence[int]) -> None:
        """Open items; those that are leased stay so."""
        self._update("is_open = 1", [], items)

    def take(self, items: Sequence[int], reviewer: str, now: float) -> None:
        """Lease items to a reviewer, whoever had them."""
        self._lease(items, reviewer, now)

    def n_open(self, facet: tuple[str, str] | None = None) -> int:
        """Count the open items."""
        sql, values = "SELECT COUNT(*) FROM work WHERE run = ? AND is_open = 1", [self.run]
        if facet is not None:
            sql += " AND item IN (SELECT item FROM facet WHERE run = ? AND name = ? AND value = ?)"
            values += [self.run, *facet]
        return int(self.database.rows(sql, values)[0][0])

    def holders(self, now: float) -> dict[str, int]:
        """Count the items that each reviewer holds."""
        rows = self.database.rows(
            "SELECT leased_to, COUNT(*) FROM work WHERE run = ? AND is_open = 1 "
            "AND leased_until > ? GROUP BY leased_to ORDER BY leased_to",
            [self.run, now],
        )
        return {str(name): int(n) for name, n in rows}

    def facets(self, most: int = 200) -> dict[str, list[tuple[str, int]]]:
        """List the values of each facet with their numbers of items, the most frequent first."""
        rows = self.database.rows(
            "SELECT name, value, COUNT(*) FROM facet WHERE run = ? GROUP BY name, value "
            "ORDER BY name, COUNT(*) DESC, value",
            [self.run],
        )
        found: dict[str, list[tuple[str, int]]] = {}
        for name, value, n in rows:
            if len(found.setdefault(name, [])) < most:
                found[name].append((value, int(n)))
        return found

    def _lease(self, items: Sequence[int], reviewer: str, now: float) -> None:
        self._update("leased_to = ?, leased_until = ?", [reviewer, now + LEASE_SECONDS], items)

    def _update(
        self,
        what: str,
        values: Sequence[Any],
        items: Sequence[int],
        where: str = "",
        more: Sequence[Any] = (),
    ) -> None:
        for start in range(0, len(items), 500):
            some = items[start : start + 500]
            marks = ", ".join("?" * len(some))
            self.database.rows(
                f"UPDATE work SET {what} WHERE run = ? AND item IN ({marks}) {where}",
                [*values, self.run, *some, *more],
            )
