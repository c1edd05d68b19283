"""Read the records of a table's file one by one; a broken one costs no other."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

from dedup.errors import SourceError
from dedup.sources.dialects import Dialect, listed

MAX_RECORD = 16 * 2**20
"""A file with a longer record, in characters, is refused."""

_MAX_REREAD = 100_000_000
"""Characters that may be read again after broken quotes, with ``LINE`` more for each line."""
LINE = 100

PLAIN = Dialect()
"""Commas, quotes that are doubled, and a header on the first line."""


class TwoWaysError(SourceError):
    """Lines that make one record or several, and nothing tells which."""


class Record(NamedTuple):
    """Record of a table.

    Attributes:
        cells: its cells; none of a record of which nothing could be read.
        problem: the reason why it cannot be used, such as ``bad_quotes``, or "".
        line: line of the file on which it starts; 0 where there is no file.
    """

    cells: list[str]
    problem: str = ""
    line: int = 0


Check = Callable[[str, int], None]


@dataclass
class Doubts:
    """Records of several lines of which each line would be a whole record.

    So read tables in which a quote is opened and not closed: its line swallows others.

    Attributes:
        n: how many there are.
        first: the first and the last line of the first of them.
    """

    n: int = 0
    first: tuple[int, int] = (0, 0)

    def add(self, first: int, last: int) -> None:
        """Count a record from its first to its last line."""
        self.first = self.first if self.n else (first, last)
        self.n += 1


@dataclass
class _Lines:
    """Lines of a file for ``csv.reader``, and those of the current record."""

    file: TextIO
    path: Path
    first: int = 1
    check: Check | None = None
    is_at_end: bool = False
    _record: list[str] = field(default_factory=list)
    _size: int = 0
    _pending: deque[str] = field(default_factory=deque)
    _n_reread: int = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._pending.popleft() if self._pending else self.file.readline(MAX_RECORD + 1)
        if not line:
            self.is_at_end = True
            raise StopIteration
        if self.check:
            self.check(line, self.first + len(self._record))
        self._record.append(line)
        self._size += len(line)
        if self._size > MAX_RECORD or self._n_reread > _MAX_REREAD:
            raise SourceError(
                f"{self.path}: the record on line {self.first} is longer than {MAX_RECORD} "
                f"characters, or one of too many with broken quotes: correct its quotes"
            )
        return line

    def skip(self, n_lines: int) -> None:
        """Leave out the first lines."""
        for _ in range(n_lines):
            if self.file.readline(MAX_RECORD + 1):
                self.first += 1

    def has(self, text: str) -> bool:
        """Whether the first line of the record has a text."""
        return bool(self._record) and text in self._record[0]

    def have(self, text: str) -> bool:
        """Whether a line of the record has a text."""
        return any(text in line for line in self._record)

    def start(self) -> None:
        """Begin a new record."""
        self.first += len(self._record)
        self._record.clear()
        self._size = 0

    def are_records(self, n_fields: int, delimiter: str) -> bool:
        """Whether the record has several lines, and each of them is one without quotes."""
        lines = self._record
        return len(lines) > 1 and all(line.count(delimiter) + 1 == n_fields for line in lines)

    @property
    def last(self) -> int:
        """Number of the last line of the record."""
        return self.first + len(self._record) - 1

    def give_back(self) -> str:
        """End the record after its first line, return that line, and read the others again."""
        first, *others = self._record
        self._pending.extendleft(reversed(others))
        self._n_reread += self._size + LINE * len(others)
        self._record = [first]
        return first


def read_records(
    file: TextIO,
    path: Path,
    dialect: Dialect = PLAIN,
    check: Check | None = None,
    doubts: Doubts | None = None,
) -> Iterator[Record]:
    """Parse the records strictly; a broken quote costs its own line, not the following ones.

    Args:
        file: the table, at its start.
        path: its path, for messages.
        dialect: how its text is read; lines above the header are left out.
        check: is given each line with its number, and may refuse the file.
        doubts: counts the records that may be several.
    """
    lines = _Lines(file, path, check=check)
    lines.skip(dialect.header - 1)
    reader = csv.reader(map(dialect.unescaped, lines), strict=True, **dialect.format)
    while True:
        lines.start()
        try:
            cells = next(reader)
            if lines.are_records(len(cells), dialect.delimiter):
                if dialect.may_lack_quotes:
                    raise _two_ways(path, lines, dialect)
                if doubts is not None:
                    doubts.add(lines.first, lines.last)
            yield Record(dialect.cells(cells), "", lines.first)
        except StopIteration:
            return
        except csv.Error as error:
            if lines.is_at_end:
                escapes = ', or set source.dialect=backslash, as quotes are written \\" there'
                hint = escapes if lines.has('\\"') and dialect.quoting == "doubled" else ""
                raise SourceError(
                    f"{path}: the record that starts on line {lines.first} opens a quote that "
                    f"is never closed: correct that line{hint}"
                ) from error
            first = dialect.unescaped(lines.give_back().rstrip("\r\n"))
            yield Record(next(csv.reader([first], **dialect.format)), "bad_quotes", lines.first)


def _two_ways(path: Path, lines: _Lines, dialect: Dialect) -> TwoWaysError:
    words = [word for word in dialect.words if word != "header:1"]
    escaped = ["backslash"] if lines.have('\\"') else []
    quotings = ["doubled", "unquoted", *escaped]
    ways = " or ".join(f"source.dialect={listed([*words, way])}" for way in quotings)
    hint = ', the last if \\" stands for a quote' if escaped else ""
    return TwoWaysError(
        f"{path}: lines {lines.first} to {lines.last} are one record if quotes enclose fields, and "
        f"each line is one if quotes are part of them: set {ways}{hint}"
    )
