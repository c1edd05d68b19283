"""A thin layer over SQLite and PostgreSQL: transactions, and statements with ``?``."""

from __future__ import annotations

import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dedup.errors import ArtifactError, CorruptError, LockedError

Row = tuple[Any, ...]

BUSY_SECONDS = 5.0
"""Seconds to wait for another process that writes into the same ledger."""


class Database(ABC):
    """One connection, used by one thread at a time.

    Attributes:
        skip_locked: end of a ``SELECT`` that passes over rows which others are changing.
    """

    skip_locked = ""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Run a transaction: all statements inside take effect, or none; may be nested.

        Raises:
            LockedError: another process writes for longer than ``BUSY_SECONDS``.
        """
        with self._lock:
            if self._depth:
                yield
                return
            self._begin()
            self._depth += 1
            try:
                yield
            except BaseException:
                self._end("ROLLBACK")
                raise
            else:
                self._end("COMMIT")
            finally:
                self._depth -= 1

    @abstractmethod
    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement with ``?`` for values, and return its rows."""

    @abstractmethod
    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each of several tuples of values."""

    @abstractmethod
    def prepare(self, name: str, schema: str) -> None:
        """Run the statements of a schema, unless a table of that name is there."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _end(self, word: str) -> None: ...


class SqliteDatabase(Database):
    """A file, or memory alone.

    Every commit is on the disk before it returns. The journal stays between commits, which saves
    two changes of the folder; a write-ahead log needs SQLite 3.51.3, which few systems have.

    Args:
        path: the file; ``:memory:`` keeps nothing.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = str(path)
        if self.path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode=PERSIST")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA cache_size=-65536")
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement, see ``Database.rows``."""
        with self._lock:
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._explained(error) from error

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each tuple, see ``Database.many``."""
        with self._lock:
            try:
                self._connection.executemany(sql, values)
            except sqlite3.DatabaseError as error:
                raise self._explained(error) from error

    def prepare(self, name: str, schema: str) -> None:
        """Make the tables that are missing, see ``Database.prepare``."""
        known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        if self.rows(known, [name]):
            return
        with self.writing():
            if self.rows(known, [name]):
                return
            for statement in _statements(schema):
                self.rows(statement)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _begin(self) -> None:
        self.rows("BEGIN IMMEDIATE")

    def _end(self, word: str) -> None:
        self.rows(word)

    def _explained(self, error: sqlite3.DatabaseError) -> Exception:
        """Name the file and the remedy where SQLite's error has a known cause."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return LockedError(
                f"{self.path} is in use by another process that writes: try again when it is done"
            )
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return CorruptError(
                f"{self.path} is no ledger, or damaged ({error}): restore it from a copy or from "
                "an export, or name another file with ledger.path=PATH"
            )
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            return ArtifactError(
                f"cannot write {self.path} ({error}): name another file with ledger.path=PATH"
            )
        return error


def _statements(schema: str) -> Iterator[str]:
    """Split a schema into statements; a trigger holds semicolons of its own."""
    statement = ""
    for line in schema.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
