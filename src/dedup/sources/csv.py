"""Read a catalogue from a CSV file: one product a record, with the addresses of its images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from dedup.errors import ConfigError, SourceError
from dedup.runtime.nouns import counted
from dedup.sources.catalogue import Catalogue
from dedup.sources.continuation import Continuation
from dedup.sources.dialects import parse_words
from dedup.sources.headers import Header
from dedup.sources.layouts import Layout
from dedup.sources.paths import ImageFolder
from dedup.sources.records import MAX_RECORD, Record
from dedup.sources.requests import (
    MAX_FIELD,
    MAX_ID,
    MAX_MISSING,
    RecordParser,
    category_paths,
    collect,
    skip_repeats,
)
from dedup.sources.table_files import (
    AUTO,
    CP1252,
    AsciiSoFarError,
    choose_codec,
    open_table,
    read_head,
)

__all__ = ["CHOICES", "MAX_COLUMNS", "MAX_FIELD", "MAX_ID", "MAX_MISSING", "CsvSource"]

CHOICES = ("first", "second", "all")
"""Ways to choose among the addresses in a cell."""
MAX_COLUMNS = 10_000
"""A file with more columns is refused."""
_LOG = logging.getLogger("dedup")

T = TypeVar("T")


@dataclass(frozen=True)
class CsvSource:
    """Source that reads a CSV file whose images are named by web addresses or paths.

    Args:
        path: CSV file with a header.
        categories: category paths to read, each ending where a part ends: ``Tops & Tunics>Tops``
            matches ``... >Shirts, Tops & Tunics>Tops``; ``None`` or empty for all.
        rows: records to read as ``[start, stop)``, counted from 0; a stop of ``None`` reads to
            the end.
        choice: address to read of several in a cell. ``first`` or ``second`` reads that address
            and falls back on the others (one image at several sizes); ``all`` reads each
            (different images).
        id_column: column with the product's id.
        url_column: column with the addresses, see ``split_addresses``; or several columns, whose
            addresses count as those of one cell.
        title_column: column with a title to show, or ``None``.
        category_column: column with the category path, its parts separated by ``>``.
        encoding: encoding of the file, as Python names it; ``auto`` for a byte order mark's,
            UTF-16, UTF-8, or else cp1252.
        images_dir: folder that paths start from and may not leave; by default the CSV's.
        base_url: http(s) address that relative addresses start from instead, or ``None``.
        dialect: ``auto``, or words such as ``semicolon`` and ``backslash``, see ``dialects.WORDS``:
            each sets one thing, and the others are found out.
        continue_rows: whether a row without an id is a further image of the product above it:
            ``True``, ``False``, or ``auto`` where it has nothing but an address.
    """

    path: str
    categories: Sequence[str] | None = None
    rows: Sequence[int | None] | None = None
    choice: str = "first"
    id_column: str = "productId"
    url_column: str | Sequence[str] = "imageUrlStr"
    title_column: str | None = "title"
    category_column: str = "categories"
    encoding: str = "auto"
    images_dir: str | None = None
    base_url: str | None = None
    dialect: str | Sequence[str] = "auto"
    continue_rows: bool | str = "auto"

    def read(self) -> Catalogue:
        """Read the file. A bad record becomes a row with a status, and never stops the run.

        Skipped: ``blank_row``, ``category``, ``duplicate_row``. Failed: ``bad_quotes``,
        ``bad_field_count``, ``field_too_long``, ``no_id``, ``bad_id``, ``no_url``, ``bad_url``,
        ``scheme``, ``outside_folder``.

        Raises:
            SourceError: the file as a whole cannot be read, can be read in two ways, or holds no
                product.
            ConfigError: a setting has a value that cannot work.
        """
        catalogue, layout = self._open(lambda layout: (self._read(layout), layout))
        if AUTO in (self.encoding, self.dialect) and (words := layout.words):
            _LOG.info("%s", words)
        return catalogue

    def read_records(self, records: Iterable[list[str]]) -> Catalogue:
        """Read records from memory, the header first, as ``read`` does from a file."""
        return self._read(self._in_memory(records))

    def _in_memory(self, records: Iterable[list[str]]) -> Layout:
        """Take records from memory, whose names are as they are meant."""
        several = iter(records)
        header = Header.of(next((cells for cells in several if cells), []))
        return Layout(Path(self.path), header, map(Record, several))

    def _open(self, act: Callable[[Layout], T]) -> T:
        """Open the file, and act on what is in it; again, if it turns out to be cp1252."""
        self._categories()
        path, asked = Path(self.path), parse_words(self.dialect)
        needed = [self.id_column, *self._url_columns]
        needed += [self.category_column] if self.categories else []
        head = read_head(path)
        codec = choose_codec(path, self.encoding, head)
        try:
            with open_table(path, self.encoding, codec, MAX_RECORD) as file:
                return act(Layout.of(file, path, (self.encoding, codec), head, needed, asked))
        except AsciiSoFarError:
            with open_table(path, self.encoding, CP1252, MAX_RECORD) as file:
                return act(Layout.of(file, path, (self.encoding, CP1252), head, needed, asked))

    def _read(self, layout: Layout) -> Catalogue:
        categories = self._categories()
        start, stop = _row_range(self.rows)
        path, header = Path(self.path), layout.header
        parser = self._parser(header, categories)
        records = layout.records
        if layout.guesses is not None:
            records = layout.guesses.check_ids(records, parser.id)
        continued = Continuation(parser.n_fields, parser.id, parser.urls, self.continue_rows)
        records = continued(islice(records, start, stop))
        products, requests = collect(records, header.names, parser, path)
        if n := continued.n_continued:
            _LOG.info(
                "%s without an id: further images of the product above "
                "(source.continue_rows=false leaves them out)", counted(n, "row"),
            )  # fmt: skip
        title = None if self.title_column is None else header.places(self.title_column)
        if title == []:
            _LOG.warning(
                "%s has no column %r: products are shown without a title. Set "
                "source.title_column= to one of its columns", path, self.title_column,
            )  # fmt: skip
        if requests["reason"].eq("blank_row").all():
            raise SourceError(f"{path} has 0 products: check source.path= and source.rows=")
        urls = [header.names[place] for place in parser.urls]
        return Catalogue(
            products=products,
            requests=skip_repeats(requests),
            id_column=header.names[parser.id],
            title_column=header.names[title[0]] if title else None,
            url_column=urls[0] if len(urls) == 1 else urls,
        )

    def check(self) -> list[str]:
        """Check the settings and the header, without reading further.

        Returns:
            All columns of the file.

        Raises:
            SourceError: the header cannot be read, or lacks columns; the message names each.
            ConfigError: a setting has a value that cannot work.
        """
        return self._open(self._check)

    def check_header(self, names: list[str]) -> list[str]:
        """Check the settings and the header of records in memory, as ``check`` does a file's."""
        return self._check(self._in_memory([names]))

    def _check(self, layout: Layout) -> list[str]:
        self._parser(layout.header, self._categories())
        return layout.header.names

    def _categories(self) -> list[str]:
        """Check the settings, and return the categories to read.

        Raises:
            ConfigError: a setting has a value that cannot work.
        """
        _row_range(self.rows)
        if self.choice not in CHOICES:
            raise ConfigError(f"source.choice={self.choice!r}: use one of {', '.join(CHOICES)}")
        if self.images_dir and not Path(self.images_dir).is_dir():
            raise ConfigError(
                f"source.images_dir={self.images_dir!r} is not a folder: name the folder of images"
            )
        if not self._url_columns:
            raise ConfigError("source.url_column=[] names no column: name one with addresses")
        if self.continue_rows not in (True, False, AUTO):
            raise ConfigError(
                f"source.continue_rows={self.continue_rows!r}: use true, false or auto"
            )
        return category_paths(self.categories)

    @property
    def _url_columns(self) -> list[str]:
        return [self.url_column] if isinstance(self.url_column, str) else [*self.url_column]

    def _parser(self, header: Header, categories: Sequence[str]) -> RecordParser:
        self._check_names(header.names)
        named = {"id_column": [self.id_column], "url_column": self._url_columns}
        if categories:
            named["category_column"] = [self.category_column]
        places = {
            setting: {name: header.places(name) for name in names}
            for setting, names in named.items()
        }
        self._check_places(places, header)
        urls = [place for several in places["url_column"].values() for place in several]
        return RecordParser(
            n_fields=len(header.names),
            id=places["id_column"][self.id_column][0],
            urls=[*dict.fromkeys(urls)],
            category=places["category_column"][self.category_column][0] if categories else -1,
            categories=categories,
            choice=self.choice,
            folder=self._folder(),
        )

    def _folder(self) -> ImageFolder:
        """Return where addresses start from; a source with other addresses has another."""
        return ImageFolder(self.images_dir or str(Path(self.path).parent), self.base_url or "")

    def _check_names(self, names: Sequence[str]) -> None:
        if not names:
            raise SourceError(f"{self.path} is empty (no header): check source.path=")
        if len(names) > MAX_COLUMNS:
            raise SourceError(
                f"{self.path}: the header names {len(names):,} columns, more than "
                f"{MAX_COLUMNS:,}: remove those that you do not need"
            )

    def _check_places(
        self, places: Mapping[str, Mapping[str, Sequence[int]]], header: Header
    ) -> None:
        """Check that the file has the columns that the settings name, and but one with an id."""
        absent = {
            setting: name
            for setting, named in places.items()
            for name, several in named.items()
            if not several
        }
        if absent:
            which = " and ".join(f"source.{setting}=" for setting in absent)
            raise SourceError(
                f"{self.path} has no column {' and no column '.join(map(repr, absent.values()))}: "
                f"set {which} to one of its columns, "
                f"{', '.join(map(repr, header.names))[:1000]}"
            )
        for setting, named in places.items():
            for name, several in named.items():
                if len(several) > 1 and setting != "url_column":
                    raise SourceError(
                        f"{self.path}: the header names {name!r} more than once: give each column "
                        f"a name of its own, or set source.{setting}= to another"
                    )


def _row_range(rows: Sequence[int | None] | None) -> tuple[int, int | None]:
    match rows:
        case None:
            return 0, None
        case [int(start), (int() | None) as stop] if start >= 0 and (stop is None or start < stop):
            return start, stop
    raise ConfigError(
        f"source.rows={rows}: use [start, stop] with 0 <= start < stop, or [start, null]"
    )
