"""Read the records of a table's file one by one; a broken one costs no other."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from dedup.errors import SourceError

MAX_RECORD = 16 * 2**20
"""A file with a longer record, in characters, is refused."""

_MAX_REREAD = 1_000_000

Record = tuple[list[str], str]
"""The cells, and ``bad_quotes`` or ``""``."""


@dataclass
class _Lines:
    """Lines of a file for ``csv.reader``, and those of the current record."""

    file: TextIO
    path: Path
    first: int = 1
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
        self._record.append(line)
        self._size += len(line)
        if self._size > MAX_RECORD or self._n_reread > _MAX_REREAD:
            raise SourceError(
                f"{self.path}: the record on line {self.first} is longer than {MAX_RECORD} "
                f"characters, or one of too many with broken quotes: correct its quotes"
            )
        return line

    def start(self) -> None:
        """Begin a new record."""
        self.first += len(self._record)
        self._record.clear()
        self._size = 0

    def give_back(self) -> str:
        """End the record after its first line, return that line, and read the others again."""
        first, *others = self._record
        self._pending.extendleft(reversed(others))
        self._n_reread += len(others)
        self._record = [first]
        return first


def read_records(file: TextIO, path: Path) -> Iterator[Record]:
    """Parse the records strictly; a broken quote costs its own line, not the following ones."""
    lines = _Lines(file, path)
    reader = csv.reader(lines, strict=True)
    while True:
        lines.start()
        try:
            yield next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            if lines.is_at_end:
                raise SourceError(
                    f"{path}: the record that starts on line {lines.first} opens a quote that "
                    "is never closed: correct that line"
                ) from error
            yield next(csv.reader([lines.give_back().rstrip("\r\n")])), "bad_quotes"
