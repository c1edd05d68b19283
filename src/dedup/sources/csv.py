"""Read a catalogue from a CSV file: one product a record, with the addresses of its images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import pandas as pd

from dedup.errors import ConfigError
from dedup.runtime.nouns import counted
from dedup.sources.catalogue import Catalogue
from dedup.sources.continuation import Continuation
from dedup.sources.dialects import parse_words
from dedup.sources.layouts import Layout
from dedup.sources.records import MAX_RECORD, Record
from dedup.sources.requests import MAX_FIELD, MAX_ID, MAX_MISSING, RecordParser
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import (
    AUTO,
    CP1252,
    OTHER_CODECS,
    AsciiSoFarError,
    choose_codec,
    open_table,
    read_head,
)
from dedup.sources.tables import CHOICES, MAX_COLUMNS, TableSource

__all__ = ["CHOICES", "MAX_COLUMNS", "MAX_FIELD", "MAX_ID", "MAX_MISSING", "CsvSource"]

_LOG = logging.getLogger("dedup")

_NOT_ASCII = "[^\\x00-\\x7f]"
_SPREADSHEET = r"^\s*(?:[+-]?\d[.,]\d+E\+\d{2,3}|#(?:N/A|REF!|NAME\?|VALUE!|DIV/0!|NUM!|#+))\s*$"
"""A long number as Excel shortens it, an error, or what stands in a column that is too narrow."""

T = TypeVar("T")


@dataclass(frozen=True)
class CsvSource(TableSource):
    """Source that reads a CSV file, as it is or alone in a ``.gz`` or ``.zip``.

    Args:
        path: CSV file with a header.
        encoding: encoding of the file, as Python names it; ``auto`` for a byte order mark's,
            UTF-16, UTF-8, or else cp1252.
        dialect: ``auto``, or words such as ``semicolon`` and ``backslash``, see ``dialects.WORDS``:
            each sets one thing, and the others are found out.
        continue_rows: whether a row without an id is a further image of the product above it:
            ``True``, ``False``, or ``auto`` where it has nothing but an address.
        others: see ``TableSource``.
    """

    encoding: str = "auto"
    dialect: str | Sequence[str] = "auto"
    continue_rows: bool | str = "auto"

    def read(self) -> Catalogue:
        """Read the file, see ``TableSource.read``, and say how its text was read."""
        catalogue, layout = self._open(lambda layout: (self._read(layout), layout))
        if AUTO in (self.encoding, self.dialect) and (words := layout.words):
            _LOG.info("%s", words)
        if layout.doubts and layout.doubts.n:
            _LOG.warning(
                "%s: lines %d to %d are one record, as a quote encloses them, and each would be "
                "one without it (so are %s): if products are missing, close that quote",
                layout.path, *layout.doubts.first, counted(layout.doubts.n, "record"),
            )  # fmt: skip
        ids = catalogue.products[catalogue.id_column]
        if layout.codec == CP1252 and self.encoding == AUTO:
            _warn_of(
                ids, _NOT_ASCII, "read as cp1252, which is a guess: if that looks wrong, set "
                f"source.encoding=, such as {OTHER_CODECS}",
            )  # fmt: skip
        _warn_of(
            ids, _SPREADSHEET, "as spreadsheets write a number or a text that they have lost, so "
            "several products may count as one: give the column the format Text before the ids "
            "come into it, and export it again",
        )  # fmt: skip
        return catalogue

    def _open(self, act: Callable[[Layout], T]) -> T:
        """Open the file, and act on what is in it; again, if it turns out to be cp1252."""
        self._categories()
        path, asked = table_path(self.path), parse_words(self.dialect)
        head = read_head(path)
        codec = choose_codec(path, self.encoding, head)
        try:
            with open_table(path, self.encoding, codec, MAX_RECORD) as file:
                return act(Layout.of(file, path, (self.encoding, codec), head, self._needed, asked))
        except AsciiSoFarError:
            with open_table(path, self.encoding, CP1252, MAX_RECORD) as file:
                both = self.encoding, CP1252
                return act(Layout.of(file, path, both, head, self._needed, asked))

    def _records(self, layout: Layout, parser: RecordParser) -> Iterator[Record]:
        start, stop = self._row_range()
        records = layout.records
        if layout.guesses is not None:
            records = layout.guesses.check_ids(records, parser.id)
        n_fields = len(layout.header.names)
        continued = Continuation(n_fields, parser.id, parser.urls, self.continue_rows)
        yield from continued(islice(records, start, stop))
        if n := continued.n_continued:
            _LOG.info(
                "%s without an id: further images of the product above "
                "(source.continue_rows=false leaves them out)", counted(n, "row"),
            )  # fmt: skip

    def _categories(self) -> list[str]:
        if self.continue_rows not in (True, False, AUTO):
            raise ConfigError(
                f"source.continue_rows={self.continue_rows!r}: use true, false or auto"
            )
        return super()._categories()


def _warn_of(ids: pd.Series[str], pattern: str, what: str) -> None:
    """Warn of the products whose ids have a pattern; one id is shown."""
    found = ids[ids.str.contains(pattern, regex=True)].drop_duplicates()
    if len(found):
        shown = repr(found.iloc[0][:100])
        several = f"{len(found):,} ids such as {shown} are"
        _LOG.warning("%s %s", several if len(found) > 1 else f"the id {shown} is", what)
