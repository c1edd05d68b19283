"""Find the dialect of a table from its head: by the columns that the settings name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from dedup.errors import SourceError
from dedup.sources.dialects import DELIMITERS, Asked, Dialect, is_quoted, listed
from dedup.sources.headers import Header
from dedup.sources.records import PLAIN, Record, TwoWaysError, read_records

N_ABOVE = 50
"""Lines among which the header is looked for, at most."""
N_OF_HEADER = 100
"""Lines that a header may have, at most: names may hold line breaks."""

_SEP = re.compile(r'"?sep=([^\w"\'\\ ])"?[,;|\s]*\Z', re.IGNORECASE)
_ESCAPES = re.compile(r'\\["\\,;|\t\r\n]')

Sound = Callable[[Record], bool]


class Reading(NamedTuple):
    """Records of a head as a dialect reads them.

    Attributes:
        records: by number of their first line.
        is_broken: whether the last opens a quote that is never closed.
    """

    records: dict[int, Record]
    is_broken: bool

    @property
    def cells(self) -> Iterable[str]:
        """All cells."""
        return (cell for record in self.records.values() for cell in record.cells)

    def good(self, is_sound: Sound) -> dict[int, Record]:
        """Return the records that nothing is wrong with."""
        return {line: record for line, record in self.records.items() if is_sound(record)}

    def bad(self, is_sound: Sound) -> set[int]:
        """Return the lines of the other records; 0 stands for a quote that is never closed."""
        return {*self.records} - {*self.good(is_sound)} | ({0} if self.is_broken else set())


@dataclass(frozen=True)
class Head:
    """Start of a table's text.

    Attributes:
        lines: its lines; the last is whole, unless it is the only one.
        is_all: whether these are all lines of the file.
        path: the file, for messages.
    """

    lines: list[str]
    is_all: bool
    path: Path

    @classmethod
    def of(cls, text: str, is_all: bool, path: Path) -> Head:
        """Cut a text into lines, and drop the last if it may go on."""
        lines = list(io.StringIO(text, newline=""))
        return cls(lines if is_all or len(lines) == 1 else lines[:-1], is_all, path)

    def names(self, dialect: Dialect, at: int) -> list[str] | None:
        """Parse the record on a line, counted from 0; ``None`` where its quotes are broken."""
        lines = map(dialect.unescaped, self.lines[at : at + N_OF_HEADER])
        try:
            return next(csv.reader(lines, strict=True, **dialect.format), [])
        except csv.Error:
            return None

    def read(self, dialect: Dialect, at: int) -> Reading:
        """Parse the records below the header, which is on a line, counted from 0.

        The last is left out where it may go on after the head.

        Raises:
            TwoWaysError: lines are one record or several.
        """
        file = io.StringIO("".join(self.lines), newline="")
        parsed: dict[int, Record] = {}
        is_broken = False
        try:
            for record in read_records(file, self.path, replace(dialect, header=at + 1)):
                parsed[record.line] = record
        except TwoWaysError:
            raise
        except SourceError:
            is_broken = self.is_all
        if not self.is_all and parsed:
            parsed.popitem()
        parsed.pop(at + 1, None)
        return Reading(parsed, is_broken)


def find_dialect(head: Head, needed: Iterable[str], asked: Asked) -> Dialect:
    """Find out how a table is read, as far as the user does not set it.

    A plain CSV whose first line has the needed columns is read as one. Otherwise the delimiter and
    the header are those by which a line has them. A backslash escapes quotes where that mends
    records and changes no other.

    Args:
        head: start of the file.
        needed: names of columns that must be there.
        asked: what the user sets.

    Raises:
        SourceError: the header can be read in two ways.
    """
    dialect, at = _find_header(head, {*needed}, asked)
    may_lack_quotes = dialect.delimiter == "\t" and asked.quoting is None
    dialect = replace(dialect, may_lack_quotes=may_lack_quotes)
    names = head.names(dialect, at)
    if not names:
        return dialect
    inner = [name for name in names[:-1] if name.strip()]
    is_padded = dialect.has_blanks and any(inner) and all(name[-1] == " " for name in inner)
    dialect = replace(dialect, is_padded=is_padded)
    reading = head.read(dialect, at)
    if asked.quoting is None and dialect.quoting == "doubled":
        dialect, reading = _find_quoting(head, dialect, at, len(names), reading)
    return replace(dialect, n_surplus=_count_surplus(names, reading))


def may_have(head: Head, needed: Iterable[str], asked: Asked) -> bool:
    """Tell fast whether a header may have columns: not where ``find_dialect`` finds none.

    Raises:
        SourceError: the header can be read in two ways.
    """
    wanted = {*needed}
    dialect, at = _find_header(head, wanted, asked)
    names = head.names(dialect, at)
    return names is None or {name.strip() for name in wanted} <= _known(names)


def _find_header(head: Head, needed: set[str], asked: Asked) -> tuple[Dialect, int]:
    """Find the delimiter and the line of the header, counted from 0."""
    sep = _SEP.match(head.lines[0].rstrip("\r\n")) if head.lines and not asked.header else None
    first = asked.header - 1 if asked.header else int(bool(sep))
    base = asked.applied(PLAIN)
    signs = [asked.delimiter or sep[1]] if sep else [*DELIMITERS.values()]
    signs = [asked.delimiter] if asked.delimiter else signs
    last = first + 1 if asked.header else first + N_ABOVE
    lines = [at for at in range(first, min(last, len(head.lines))) if head.lines[at].strip("\r\n")]
    usual: tuple[Dialect, int] | None = None
    for at in lines:
        is_first = at == lines[0] and not sep and not asked.header
        line = replace(base, header=0 if is_first else at + 1)
        readings = [replace(line, delimiter=sign) for sign in signs]
        if asked.quoting is None and head.lines[at].startswith("'"):
            readings += [replace(one, quoting="single") for one in readings]
        fits = [one for reading in readings if (one := _fitting(head, reading, at, needed))]
        if fits:
            return _only(head, fits, at, is_first), at
        names = [head.names(one, at) for one in readings]
        widest = max(range(len(names)), key=lambda place: len(names[place] or ()))
        if not usual and len(names[widest] or ()) > 1:
            usual = readings[widest], at
        elif is_first and names[0] is None:  # its quotes are broken, which is said
            usual = readings[0], at
    return usual or (replace(base, delimiter=signs[0]), lines[0] if lines else 0)


def _fitting(head: Head, dialect: Dialect, at: int, needed: set[str]) -> Dialect | None:
    """Return the dialect if it finds the needed columns on a line, with blanks where it must."""
    names = head.names(dialect, at) or []
    if needed <= {*names}:
        return dialect
    needed = {name.strip() for name in needed}
    others = [name for name in names[1:] if name]
    if others and all(name.startswith(" ") for name in others):
        spaced = replace(dialect, has_blanks=True)
        if needed <= _known(head.names(spaced, at) or []):
            return spaced
    return dialect if needed <= _known(names) else None


def _known(names: Sequence[str]) -> set[str]:
    """Names by which columns are found: without blanks round them, or as they are named anew."""
    return {*(name.strip() for name in names), *Header.of(names, is_stripped=True).names}


def _only(head: Head, fits: Sequence[Dialect], at: int, is_first: bool) -> Dialect:
    """Return the dialect that fits a header's line.

    Raises:
        SourceError: two fit that name other columns.
    """
    is_plain = is_first and fits[0].delimiter == "," and not fits[0].has_blanks
    if is_plain or all(head.names(one, at) == head.names(fits[0], at) for one in fits):
        return fits[0]
    ways = " or ".join(f"source.dialect={listed(one.words)}" for one in fits[:2])
    raise SourceError(
        f"{head.path}: line {at + 1} names the columns in two ways, by what is taken to stand "
        f"between its fields: set {ways}"
    )


def _find_quoting(
    head: Head, dialect: Dialect, at: int, n_fields: int, reading: Reading
) -> tuple[Dialect, Reading]:
    """Find out how quotes inside of fields are written, where doubled ones break records."""

    def is_sound(record: Record) -> bool:
        cells = record.cells
        fits = len(cells) >= n_fields and not any(cells[n_fields:])
        return not record.problem and (fits or not any(cells))

    bad, good = reading.bad(is_sound), reading.good(is_sound)
    others = []
    if bad and any(_ESCAPES.search(line) for line in head.lines):
        others.append(replace(dialect, quoting="backslash", is_guess=True))
    is_escaped = any('\\"' in line for line in head.lines)  # such a quote is no part of a field
    if bad and dialect.delimiter == "\t" and not is_escaped:
        others.append(replace(dialect, quoting="unquoted", is_guess=True))
    for other in others:
        again = head.read(other, at)
        records, last = again.records, max(again.records, default=0)
        is_better = again.bad(is_sound) < bad
        if (
            is_better
            and not _contradicts(head.lines[at:], other, again)
            and all(
                line > last
                or (line in records and records[line].cells == other.cells(record.cells))
                for line, record in good.items()
            )
        ):
            return other, again
    return dialect, reading


def _contradicts(lines: Sequence[str], dialect: Dialect, reading: Reading) -> bool:
    """Tell whether the head itself contradicts a dialect, as ``Guesses`` would later."""
    if dialect.quoting == "unquoted":
        return any(map(is_quoted, reading.cells))
    kinds = [dialect.backslashes(line) for line in lines if "\\" in line]
    return any(escaped for escaped, _ in kinds) and any(literal for _, literal in kinds)


def _count_surplus(names: Sequence[str], reading: Reading) -> int:
    """Count the empty fields by which all records are longer than the header.

    It is negative where the header ends in as many empty names that no record has a field for.
    """
    rows = [record.cells for record in reading.records.values()
            if not record.problem and any(map(str.strip, record.cells))]  # fmt: skip
    lengths = {len(cells) for cells in rows}
    if len(lengths) != 1 or (len(rows) < 2 and names[-1].strip()):
        return 0
    n_fields, n_names = lengths.pop(), len(names)
    if n_fields > n_names:
        is_empty = not any(cell.strip() for cells in rows for cell in cells[n_names:])
    else:
        is_empty = not any(name.strip() for name in names[n_fields:])
    return n_fields - n_names if is_empty else 0
