"""Look at the start of a file: whether it is XML, in which encoding, and a table's columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dedup.errors import SourceError
from dedup.sources.dialect_search import Head, may_have
from dedup.sources.dialects import Asked, parse_words
from dedup.sources.layouts import Layout
from dedup.sources.records import MAX_RECORD
from dedup.sources.table_files import AUTO, HEAD, UTF_8, choose_codec, decode_head, read_head

_BEFORE_XML = b"\xef\xbb\xbf\xff\xfe \t\r\n"
"""Bytes of a byte order mark or of blanks, which may stand before the first ``<``."""

_DECLARED = re.compile(rb"""<\?xml[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']""")


def is_xml(head: bytes) -> bool:
    """Tell by its first bytes whether a file is XML, in any encoding with ASCII or UTF-16."""
    return head[:512].replace(b"\0", b"").lstrip(_BEFORE_XML).startswith(b"<")


def feed_codec(path: Path, encoding: str, head: bytes) -> tuple[str, str]:
    """Return the encoding of a feed as it is called, and its codec.

    Raises:
        SourceError: the feed declares an encoding that is unknown, or that it is not written in.
        ConfigError: the encoding that is set is unknown.
    """
    found = choose_codec(path, encoding, head)
    if encoding != AUTO:
        return encoding, found
    if found.startswith(("utf-16", "utf-32")) or head.startswith(codecs.BOM_UTF8):
        return found.removesuffix("-sig"), found
    declared = _DECLARED.match(head.lstrip())
    name = declared[1].decode() if declared else "utf-8"
    advice = "set source.encoding=, such as utf-8 or cp1252, or correct its first line"
    try:
        codec = codecs.lookup(name).name
        "".encode(codec)
    except (LookupError, ValueError) as error:
        raise SourceError(
            f"{path} declares the encoding {name!r}, which is unknown: {advice}"
        ) from error
    if codec.startswith(("utf-16", "utf-32")):
        raise SourceError(
            f"{path} declares the encoding {name!r} and is not written in it: {advice}"
        )
    return name, UTF_8 if codec == "utf-8" else codec


@dataclass(frozen=True)
class TableHead:
    """Start of a table, in which its header is looked for.

    Attributes:
        path: the table.
        head: its first bytes.
        encoding: the setting, and the codec.
        asked: its dialect as far as it is set.
    """

    path: Path
    head: bytes
    encoding: tuple[str, str]
    asked: Asked

    @classmethod
    def of(cls, path: Path, encoding: str, dialect: str | Sequence[str]) -> TableHead:
        """Read the start of a table; the settings are those of ``CsvSource``.

        Raises:
            SourceError: the file cannot be read, or is no text.
            ConfigError: a setting has a value that cannot work.
        """
        asked, head = parse_words(dialect), read_head(path)
        return cls(path, head, (encoding, choose_codec(path, encoding, head)), asked)

    def layout(self, needed: Sequence[str] = ()) -> Layout:
        """Find the header, as ``CsvSource`` does for the columns that are needed.

        Raises:
            SourceError: the header is broken, or can be read in two ways.
        """
        text = io.StringIO(self._text, newline="")
        with _long_cells():
            return Layout.of(text, self.path, self.encoding, self.head, needed, self.asked)

    def layout_with(self, *alternatives: Iterable[str]) -> Layout | None:
        """Find the header with the first of several sets of columns; ``None`` if it has none."""
        start = Head.of(self._text, len(self.head) < HEAD, self.path)
        for needed in map(list, alternatives):
            with _long_cells():
                if not may_have(start, needed, self.asked):
                    continue
            layout = self.layout(needed)
            if all(layout.header.places(name) for name in needed):
                return layout
        return None

    @cached_property
    def _text(self) -> str:
        return decode_head(self.head, self.encoding[1])


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let ``csv`` accept the longest cell that a table may have."""
    limit = csv.field_size_limit(MAX_RECORD)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
