"""Who may review: links that are used once, and sessions; only digests of tokens are kept."""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime
from typing import NamedTuple

from dedup.errors import ConfigError
from dedup.review.database import Database

ROLES = ("reviewer", "lead")
"""A lead may also undo what others decided."""
MAX_NAME = 60
REMEMBERED = 60.0
"""Seconds for which a session is not looked up again."""


class Reviewer(NamedTuple):
    """A person who decides.

    Attributes:
        name: written into each decision.
        role: one of ``ROLES``.
    """

    name: str
    role: str


class Accounts:
    """Reviewers, their invitations and their sessions.

    Args:
        database: the ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[float, Reviewer]] = {}

    def invite(self, name: str, role: str = "reviewer") -> str:
        """Make a link's token for a person; it opens one session.

        Raises:
            ConfigError: the name or the role cannot be used.
        """
        if not name.isprintable() or not 0 < len(name) <= MAX_NAME or name != name.strip():
            raise ConfigError(f"reviewer {name!r}: a name has 1 to {MAX_NAME} visible characters")
        if role not in ROLES:
            raise ConfigError(f"role={role}: choose one of {', '.join(ROLES)}")
        with self._database.writing():
            self._database.rows(
                "INSERT INTO reviewer (name, role) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET role = excluded.role",
                [name, role],
            )
            return self._made(name, "invitation")

    def begin(self, token: str) -> str | None:
        """Exchange a link's token for a session's; ``None`` for a wrong or used one."""
        with self._database.writing():
            rows = self._database.rows(
                "DELETE FROM token WHERE sha256 = ? AND kind = 'invitation' RETURNING reviewer",
                [_digest(token)],
            )
            return self._made(rows[0][0], "session") if rows else None

    def reviewer(self, session: str) -> Reviewer | None:
        """Return whose session it is; ``None`` for a wrong one. It is remembered for a minute."""
        digest, now = _digest(session), time.monotonic()
        since, known = self._known.get(digest, (0.0, None))
        if known is not None and now - since < REMEMBERED:
            return known
        rows = self._database.rows(
            "SELECT reviewer.name, reviewer.role FROM token JOIN reviewer "
            "ON reviewer.name = token.reviewer WHERE sha256 = ? AND kind = 'session'",
            [digest],
        )
        if not rows:
            return None
        self._known[digest] = now, Reviewer(*rows[0])
        return self._known[digest][1]

    def named(self, name: str) -> Reviewer:
        """Return a person whom a proxy has recognised."""
        rows = self._database.rows("SELECT name, role FROM reviewer WHERE name = ?", [name])
        return Reviewer(*rows[0]) if rows else Reviewer(name[:MAX_NAME], "reviewer")

    def _made(self, name: str, kind: str) -> str:
        token = secrets.token_urlsafe(32)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._database.rows(
            "INSERT INTO token (sha256, reviewer, kind, made_at) VALUES (?, ?, ?, ?)",
            [_digest(token), name, kind, now],
        )
        return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
