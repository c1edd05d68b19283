"""Refuse a table whose later lines contradict what was found out from its head."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dedup.errors import SourceError
from dedup.sources.dialects import Dialect, is_quoted, listed
from dedup.sources.records import Record
from dedup.sources.table_files import CP1252


@dataclass
class Guesses:
    """What was found out about a table, and is checked on each of its lines.

    Args:
        path: the table, for messages.
        codec: codec that was found out; "" where it was set.
        dialect: its dialect.
    """

    path: Path
    codec: str
    dialect: Dialect
    _escaped: int = 0
    _literal: int = 0

    @property
    def are_checked(self) -> bool:
        """Whether a line can contradict anything."""
        return self.codec == CP1252 or self.dialect.is_guess

    def check(self, line: str, number: int) -> None:
        """Check a line of the table.

        Raises:
            SourceError: it contradicts what was found out.
        """
        if self.codec == CP1252 and not line.isascii() and _is_utf8(line):
            raise SourceError(
                f"{self.path}: line {number} is UTF-8 and other lines are not, so ids could be "
                "misread: correct the file, or set source.encoding=cp1252 to read it as it is"
            )
        if not self.dialect.is_guess:
            return
        if self.dialect.quoting == "backslash" and "\\" in line:
            self._check_backslashes(line, number)
        elif self.dialect.quoting == "unquoted" and '"' in line:
            self._check_quotes(line, number)

    def check_ids(self, records: Iterable[Record], place: int) -> Iterator[Record]:
        """Yield the records, and check their ids.

        Args:
            records: of the table, whose lines were checked.
            place: position of the id.

        Raises:
            SourceError: an id has a backslash that was written as two.
        """
        for record in records:
            if self._escaped and any("\\" in cell for cell in record.cells[place : place + 1]):
                raise SourceError(
                    f"{self.path}: the id on line {record.line} has a backslash that is written "
                    'as two, and only quotes that are written \\" tell that it is one: set '
                    f"source.dialect={listed(self.dialect.words)}, or source.dialect="
                    f"{listed([*self._others, 'doubled'])} if ids have two"
                )
            yield record

    @property
    def _others(self) -> list[str]:
        return [word for word in self.dialect.words if word != self.dialect.quoting]

    def _check_backslashes(self, line: str, number: int) -> None:
        escapes, is_literal = self.dialect.backslashes(line)
        self._escaped = self._escaped or number * escapes
        self._literal = self._literal or number * is_literal
        if self._escaped and self._literal:
            raise SourceError(
                f"{self.path}: line {self._escaped} has two backslashes that stand for one, and "
                f"line {self._literal} has one that stands for itself, so the table can be read "
                f"in two ways: set source.dialect={listed(self.dialect.words)} to read both so, or "
                "correct the file"
            )

    def _check_quotes(self, line: str, number: int) -> None:
        sign = re.escape(self.dialect.delimiter)
        cells = re.split(sign, line.rstrip("\r\n"))
        if at := next((at for at, cell in enumerate(cells, 1) if is_quoted(cell)), 0):
            raise SourceError(
                f"{self.path}: on line {number} field {at} stands in quotes, and before quotes "
                "were part of fields, so the table can be read in two ways: set source.dialect="
                f"{listed(self.dialect.words)} to keep all quotes, or source.dialect=[tab,doubled]"
            )


def _is_utf8(line: str) -> bool:
    """Tell whether a line that was read as cp1252 is UTF-8."""
    try:
        line.encode(CP1252).decode("utf-8")
    except UnicodeError:
        return False
    return True
