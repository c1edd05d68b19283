"""A ledger in PostgreSQL, for a team with several servers (extra ``postgres``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dedup.errors import ArtifactError, ConfigError, LockedError
from dedup.review import schema
from dedup.review.database import BUSY_SECONDS, Database, Row
from dedup.review.ledger import Ledger
from dedup.runtime.invocation import install

WRITERS = 7_302_551_817
"""Number of the advisory lock that one writer holds at a time."""


class PostgresDatabase(Database):
    """A database of a server.

    Writers take turns, as in SQLite: whether a decision contradicts others depends on all.

    Args:
        address: as in ``postgresql://user@host/name``; passwords come from the environment
            (``PGPASSWORD``) or from ``~/.pgpass``.
    """

    skip_locked = " FOR UPDATE SKIP LOCKED"

    def __init__(self, address: str) -> None:
        super().__init__()
        try:
            import psycopg
        except ImportError as error:
            raise ConfigError(f"ledger=postgres needs psycopg: {install('postgres')}") from error
        self._psycopg = psycopg
        try:
            self._connection = psycopg.connect(address, autocommit=True, connect_timeout=10)
            self._connection.execute(f"SET lock_timeout = '{BUSY_SECONDS:g}s'")
        except psycopg.Error as error:
            raise ArtifactError(
                f"cannot open ledger.address: {_line(error)}. Check that the server runs, and the "
                "user and the name of the database"
            ) from error

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run a statement, see ``Database.rows``."""
        with self._lock:
            try:
                cursor = self._connection.execute(_translated(sql), values or None)
                return cursor.fetchall() if cursor.description else []
            except self._psycopg.Error as error:
                raise self._explained(error) from error

    def many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each tuple, see ``Database.many``."""
        with self._lock:
            try:
                with self._connection.cursor() as cursor:
                    cursor.executemany(_translated(sql), list(values))
            except self._psycopg.Error as error:
                raise self._explained(error) from error

    def prepare(self, name: str, schema: str) -> None:
        """Make the tables that are missing, see ``Database.prepare``."""
        known = "SELECT to_regclass(?)::text"
        if self.rows(known, [name]) != [(None,)]:
            return
        with self.writing():
            if self.rows(known, [name]) == [(None,)]:
                self.rows(schema)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _begin(self) -> None:
        self.rows("BEGIN")
        try:
            self.rows("SELECT pg_advisory_xact_lock(?)", [WRITERS])
        except BaseException:
            self.rows("ROLLBACK")
            raise

    def _end(self, word: str) -> None:
        self.rows(word)

    def _explained(self, error: Exception) -> Exception:
        """Turn a lock that was waited for in vain, and a lost server, into our errors."""
        psycopg = self._psycopg
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return LockedError("the ledger is in use by another process: try again when it is done")
        if isinstance(error, psycopg.OperationalError):
            return ArtifactError(f"the server of the ledger does not answer: {_line(error)}")
        return error


def _translated(sql: str) -> Any:
    """Write placeholders as psycopg does."""
    return sql.replace("%", "%%").replace("?", "%s") if "?" in sql else sql


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class PostgresLedger(Ledger):
    """A ledger in a database of PostgreSQL.

    Args:
        address: of the database, see ``PostgresDatabase``.
    """

    schema = schema.POSTGRES
    name = "the ledger in PostgreSQL"

    def __init__(self, address: str) -> None:
        super().__init__(PostgresDatabase(address))
