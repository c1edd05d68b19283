"""Turn the records of any table into a catalogue: one product a record, with its addresses."""

# Not with "from __future__ import annotations": the types of the fields are read in the modules
# of the subclasses, see ``config.parts``.
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from dedup.download.buckets import is_bucket
from dedup.errors import ConfigError, SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.headers import Header
from dedup.sources.layouts import Layout
from dedup.sources.paths import ImageFolder
from dedup.sources.records import Record
from dedup.sources.repeats import skip_further_rows
from dedup.sources.requests import RecordParser, category_paths, collect
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import file_digest

CHOICES = ("first", "second", "all")
"""Ways to choose among the addresses in a cell."""
MAX_COLUMNS = 10_000
"""A file with more columns is refused."""
_LOG = logging.getLogger("dedup")

T = TypeVar("T")


@dataclass(frozen=True)
class TableSource:
    """Source that reads a table whose images are named by web addresses or paths.

    A subclass opens its format in ``_open``; all else is shared.

    Args:
        path: the table.
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
        images_dir: folder that paths start from and may not leave; by default the table's.
        base_url: http(s) address that relative addresses start from instead, or ``None``.
    """

    path: str
    categories: Sequence[str] | None = None
    rows: Sequence[int | None] | None = None
    choice: str = "first"
    id_column: str = "productId"
    url_column: str | Sequence[str] = "imageUrlStr"
    title_column: str | None = "title"
    category_column: str = "categories"
    images_dir: str | None = None
    base_url: str | None = None

    def read(self) -> Catalogue:
        """Read the table. A bad record becomes a row with a status, and never stops the run.

        Skipped: ``blank_row``, ``category``, ``duplicate_row``, and ``no_url`` where another record
        of the product has an image: the rows of variants and of store views have none. Failed:
        ``bad_quotes``, ``bad_json``, ``bad_field_count``, ``field_too_long``, ``no_id``,
        ``bad_id``, ``no_url``, ``bad_url``, ``scheme``, ``outside_folder``.

        Raises:
            SourceError: the table as a whole cannot be read, can be read in two ways, or holds no
                product.
            ConfigError: a setting has a value that cannot work.
        """
        return self._open(self._read)

    def check(self) -> list[str]:
        """Check the settings and the header, without reading further.

        Returns:
            All columns of the table.

        Raises:
            SourceError: the header cannot be read, or lacks columns; the message names each.
            ConfigError: a setting has a value that cannot work.
        """
        return self._open(self._check)

    def digest(self) -> str:
        """Compute the SHA-256 of the table's file, by which a changed table is told.

        Raises:
            SourceError: the file cannot be read.
        """
        return file_digest(table_path(self.path))

    def read_records(self, records: Iterable[list[str]]) -> Catalogue:
        """Read records from memory, the header first, as ``read`` does from a file."""
        return self._read(self._in_memory(records))

    def check_header(self, names: list[str]) -> list[str]:
        """Check the settings and the header of records in memory, as ``check`` does a file's."""
        return self._check(self._in_memory([names]))

    def _in_memory(self, records: Iterable[list[str]]) -> Layout:
        """Take records from memory, whose names are as they are meant."""
        several = iter(records)
        header = Header.of(next((cells for cells in several if cells), []))
        return Layout(table_path(self.path), header, map(Record, several))

    def _open(self, act: Callable[[Layout], T]) -> T:
        """Open the table, and act on its header and its records."""
        raise NotImplementedError

    def _records(self, layout: Layout, parser: RecordParser) -> Iterator[Record]:
        """Yield the records of ``rows``."""
        start, stop = self._row_range()
        return islice(layout.records, start, stop)

    @property
    def _folder(self) -> Path | str:
        """Folder of the table, from which relative paths start; an address in object storage."""
        if is_bucket(self.path):
            return self.path.rpartition("/")[0]
        return Path(self.path).parent

    def _read(self, layout: Layout) -> Catalogue:
        path, header = layout.path, layout.header
        parser = self._parser(layout, self._categories())
        products, requests = collect(self._records(layout, parser), header.names, parser, path)
        title = None if self.title_column is None else header.places(self.title_column)
        if title == []:
            _LOG.warning(
                "%s has no column %r: products are shown without a title. Set "
                "source.title_column= to one of its columns", path, self.title_column,
            )  # fmt: skip
        if requests["reason"].eq("blank_row").all():
            raise SourceError(f"{path} has 0 products: check source.path= and source.rows=")
        skip_further_rows(requests, requests["status"] == "")
        urls = [header.names[place] for place in parser.urls]
        return Catalogue(
            products=products,
            requests=requests,
            id_column=header.names[parser.id],
            title_column=header.names[title[0]] if title else None,
            url_column=urls[0] if len(urls) == 1 else urls,
        )

    def _check(self, layout: Layout) -> list[str]:
        self._parser(layout, self._categories())
        return layout.header.names

    def _categories(self) -> list[str]:
        """Check the settings, and return the categories to read.

        Raises:
            ConfigError: a setting has a value that cannot work.
        """
        self._row_range()
        if self.choice not in CHOICES:
            raise ConfigError(f"source.choice={self.choice!r}: use one of {', '.join(CHOICES)}")
        if self.images_dir and not Path(self.images_dir).is_dir():
            raise ConfigError(
                f"source.images_dir={self.images_dir!r} is not a folder: name the folder of images"
            )
        if not self._url_columns:
            raise ConfigError("source.url_column=[] names no column: name one with addresses")
        return category_paths(self.categories)

    def _row_range(self) -> tuple[int, int | None]:
        match self.rows:
            case None:
                return 0, None
            case [int(start), (int() | None) as stop] if start >= 0 and (
                stop is None or start < stop
            ):
                return start, stop
        raise ConfigError(
            f"source.rows={self.rows}: use [start, stop] with 0 <= start < stop, or [start, null]"
        )

    @property
    def _url_columns(self) -> list[str]:
        return [self.url_column] if isinstance(self.url_column, str) else [*self.url_column]

    @property
    def _needed(self) -> list[str]:
        """Names of the columns that must be there."""
        category = [self.category_column] if self.categories else []
        return [self.id_column, *self._url_columns, *category]

    def _parser(self, layout: Layout, categories: Sequence[str]) -> RecordParser:
        header = layout.header
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
            n_fields=len(header.names) if layout.may_shift else None,
            id=places["id_column"][self.id_column][0],
            urls=[*dict.fromkeys(urls)],
            category=places["category_column"][self.category_column][0] if categories else -1,
            categories=categories,
            choice=self.choice,
            folder=self._image_folder(),
        )

    def _image_folder(self) -> ImageFolder:
        """Return where addresses start from; a source with other addresses has another."""
        return ImageFolder(self.images_dir or str(self._folder), self.base_url or "")

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
        absent = [
            (setting, name)
            for setting, named in places.items()
            for name, several in named.items()
            if not several
        ]
        if absent:
            which = " and ".join(f"source.{setting}=" for setting in dict(absent))
            names = " and no column ".join(repr(name) for _, name in absent)
            raise SourceError(
                f"{self.path} has no column {names}: "
                f"set {which} to one of its columns, "
                f"{', '.join(map(repr, header.names))[:1000]}{header.hint}"
            )
        for setting, named in places.items():
            for name, several in named.items():
                if len(several) > 1 and setting != "url_column":
                    raise SourceError(
                        f"{self.path}: the header names {name!r} more than once: give each column "
                        f"a name of its own, or set source.{setting}= to another"
                    )
