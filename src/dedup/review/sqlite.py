"""A ledger in one file of SQLite: for one server, and any number of reviewers in front of it."""

from __future__ import annotations

from pathlib import Path

from dedup.review.database import Database, SqliteDatabase
from dedup.review.ledger import Ledger


class SqliteLedger(Ledger):
    """A ledger in a file.

    Args:
        path: the file; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        super().__init__(SqliteDatabase(path))

    def queue_database(self) -> Database:
        """Return a database in memory: one server alone gives out the work."""
        return SqliteDatabase(":memory:")
