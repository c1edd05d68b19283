"""A thin layer over SQLite and PostgreSQL: transactions, and statements with ``?``."""

from __future__ import annotations

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dedup.errors import ArtifactError, CorruptError, LockedError, StalledError

Row = tuple[Any, ...]

BUSY_SECONDS = 5.0
"""Seconds to wait for another process that writes into the same ledger."""

PATIENCE = 0.005
"""Seconds for which a commit waits for other threads that are about to write."""


class Database(ABC):
    """One connection, used by one thread at a time.

    Attributes:
        skip_locked: end of a ``SELECT`` that passes over rows which others are changing.
    """

    skip_locked = ""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._commit_lock, self._count_lock = threading.Lock(), threading.Lock()
        self._depth = 0
        self._waiting = 0
        self._is_open = False
        self._transaction, self._ended = 1, 0
        self._failed: dict[int, Exception] = {}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write: all statements inside take effect, or none; may be nested.

        Several threads share a transaction: one of them commits for those that wrote before it.
        The statements are on the disk when the block has ended.

        Raises:
            LockedError: another process writes for longer than ``BUSY_SECONDS``.
        """
        transaction = 0
        self._wait(1)
        try:
            with self._lock:
                self._wait(-1)
                if self._depth:
                    yield
                    return
                if not self._is_open:
                    self._begin()
                    self._is_open = True
                transaction = self._transaction
                with self._part():
                    yield
        finally:
            if transaction:
                self._commit(transaction)

    @contextmanager
    def _part(self) -> Iterator[None]:
        """Run one thread's part of a transaction, which alone is rolled back if it fails."""
        self.rows("SAVEPOINT one")
        self._depth += 1
        is_done = False
        try:
            yield
            is_done = True
        finally:
            if not is_done:
                self.rows("ROLLBACK TO SAVEPOINT one")
            self.rows("RELEASE SAVEPOINT one")
            self._depth -= 1

    def _wait(self, n: int) -> None:
        """Count the threads that are about to write."""
        with self._count_lock:
            self._waiting += n

    def _commit(self, transaction: int) -> None:
        """End a transaction, or wait until another thread has ended it.

        Raises:
            Exception: it could not be written.
        """
        with self._commit_lock:
            end = time.monotonic() + PATIENCE
            while self._ended < transaction and self._waiting and time.monotonic() < end:
                time.sleep(0.0005)  # so that those who wait come along
            with self._lock:
                if transaction in self._failed:
                    raise self._failed[transaction]
                if self._ended >= transaction:
                    return
                try:
                    self._end("COMMIT")
                except Exception as error:
                    self._failed[transaction] = error
                    self._end("ROLLBACK")
                    raise
                finally:
                    self._is_open = False
                    self._ended, self._transaction = transaction, transaction + 1

    def is_busy(self) -> bool:
        """Tell whether another thread uses the connection."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return False
        return True

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
        if code == sqlite3.SQLITE_FULL:
            return StalledError(
                f"cannot write {self.path}: the disk is full. Make room; what was saved is there"
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
