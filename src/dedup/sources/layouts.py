"""Layout of a table: its header, its records, and in words how its file was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from dedup.errors import SourceError
from dedup.sources.dialect_search import Head, find_dialect
from dedup.sources.dialects import DELIMITERS, Asked, Dialect, listed
from dedup.sources.guesses import Guesses
from dedup.sources.headers import Header
from dedup.sources.records import PLAIN, Doubts, Record, read_records
from dedup.sources.table_files import AUTO, HEAD, UTF_8, decode_head

_BETWEEN = {sign: f"{name}s" for name, sign in DELIMITERS.items()}
_QUOTED = {
    "backslash": 'quotes inside of fields written as \\"',
    "single": "fields in single quotes",
    "unquoted": "quotes as part of fields",
}


@dataclass(frozen=True)
class Layout:
    """Header and records of a table.

    Attributes:
        path: the table, for messages.
        header: its columns.
        records: the records below.
        dialect: how its text is read.
        codec: its codec.
        guesses: what was found out and its lines may contradict, if anything.
        may_shift: whether a record may have other cells than the header has columns, so that its
            cells cannot be assigned to them.
        doubts: counts the records that may be several, while they are read.
    """

    path: Path
    header: Header
    records: Iterator[Record]
    dialect: Dialect = PLAIN
    codec: str = UTF_8
    guesses: Guesses | None = None
    may_shift: bool = True
    doubts: Doubts | None = None

    @classmethod
    def of(
        cls, file: TextIO, path: Path, encoding: tuple[str, str], head: bytes,
        needed: Sequence[str], asked: Asked,
    ) -> Layout:  # fmt: skip
        """Find out how an open table is read, and read its header.

        Args:
            file: the table, at its start.
            path: its path.
            encoding: the setting, and the codec.
            head: its first bytes.
            needed: names of the columns that must be there.
            asked: the dialect as far as it is set.

        Raises:
            SourceError: the header is broken, or can be read in two ways.
        """
        setting, codec = encoding
        start = Head.of(decode_head(head, codec), len(head) < HEAD, path)
        dialect = find_dialect(start, needed, asked)
        guesses = Guesses(path, codec if setting == AUTO else "", dialect)
        checked = guesses if guesses.are_checked else None
        check, doubts = checked.check if checked else None, Doubts()
        records = read_records(file, path, dialect, check, doubts)
        first = next((record for record in records if record.cells), Record([]))
        if first.problem:
            hint = ', or set source.dialect=backslash where quotes are written \\" in names'
            raise SourceError(f"{path}: the header's quotes are broken: correct its line{hint}")
        names = first.cells[: dialect.n_surplus] if dialect.n_surplus < 0 else first.cells
        header = Header.of(names, is_stripped=not {*needed} <= {*names})
        fitted = _without_surplus(records, len(names), abs(dialect.n_surplus))
        return cls(path, header, fitted, dialect, codec, checked, doubts=doubts)

    @property
    def words(self) -> str:
        """How the file was read, and the settings that say so; "" for a plain CSV in UTF-8."""
        dialect = self.dialect
        sign = _BETWEEN.get(dialect.delimiter, f"{dialect.delimiter!r}")
        parts = [f"{sign} between its fields"] if dialect.delimiter != "," else []
        parts += [f"blanks after its {sign}"] if dialect.has_blanks else []
        parts += [_QUOTED[dialect.quoting]] if dialect.quoting in _QUOTED else []
        parts += [f"its header on line {dialect.header}"] if dialect.header else []
        parts += [f"columns named {self._renamed}"] if self._renamed else []
        texts = [f"as {self.codec}"] if self.codec != UTF_8 else []
        texts += ["with " + ", ".join(parts)] if parts else []
        texts += ["without the empty fields at the ends of its lines"] if dialect.n_surplus else []
        settings = [f"source.dialect={listed(dialect.words)}"] if dialect.words else []
        settings += [f"source.encoding={self.codec}"] if self.codec != UTF_8 else []
        said = f" ({' '.join(settings)} says so)" if settings else ""
        return f"{self.path} is read {', '.join(texts)}{said}" if texts else ""

    @property
    def _renamed(self) -> str:
        """Names that columns got, where theirs were empty or repeated."""
        pairs = zip(self.header.names, self.header.written, strict=True)
        names = [name for name, written in pairs if name not in (written, written.strip())]
        return ", ".join(names[:5]) + (" and so on" if len(names) > 5 else "")


def _without_surplus(records: Iterator[Record], n_fields: int, n_surplus: int) -> Iterator[Record]:
    """Drop the empty fields at the end of records; a record with others there stays as it is."""
    if not n_surplus:
        return records
    return (_shortened(record, n_fields, n_fields + n_surplus) for record in records)


def _shortened(record: Record, n_fields: int, n_all: int) -> Record:
    cells = record.cells
    if len(cells) != n_all or any(map(str.strip, cells[n_fields:])):
        return record
    return record._replace(cells=cells[:n_fields])
