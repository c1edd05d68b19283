"""Read a catalogue from a CSV file: one product a record, with the addresses of its images."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dedup.errors import ConfigError, SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.paths import ImageFolder, open_csv
from dedup.sources.records import MAX_RECORD, Record, read_records
from dedup.sources.requests import (
    MAX_FIELD,
    MAX_ID,
    MAX_MISSING,
    RecordParser,
    category_paths,
    collect,
    skip_repeats,
)

__all__ = ["CHOICES", "MAX_COLUMNS", "MAX_FIELD", "MAX_ID", "MAX_MISSING", "CsvSource"]

CHOICES = ("first", "second", "all")
"""Ways to choose among the addresses in a cell."""
MAX_COLUMNS = 10_000
"""A file with more columns is refused."""
_LOG = logging.getLogger("dedup")


@dataclass(frozen=True)
class CsvSource:
    """Source that reads a CSV file whose images are named by web addresses or paths.

    Args:
        path: CSV file with commas, double quotes and a header.
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
        encoding: encoding of the file, as Python names it.
        images_dir: folder that paths start from and may not leave; by default the CSV's.
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
    encoding: str = "utf-8"
    images_dir: str | None = None
    base_url: str | None = None

    def read(self) -> Catalogue:
        """Read the file. A bad record becomes a row with a status, and never stops the run.

        Skipped: ``blank_row``, ``category``, ``duplicate_row``. Failed: ``bad_quotes``,
        ``bad_field_count``, ``field_too_long``, ``no_id``, ``bad_id``, ``no_url``, ``bad_url``,
        ``scheme``, ``outside_folder``.

        Raises:
            SourceError: the file as a whole cannot be read, or holds no product.
            ConfigError: a setting has a value that cannot work.
        """
        with open_csv(Path(self.path), self.encoding, MAX_RECORD) as file:
            return self._read(read_records(file, Path(self.path)))

    def read_records(self, records: Iterable[list[str]]) -> Catalogue:
        """Read records from memory, the header first, as ``read`` does from a file."""
        return self._read((cells, "") for cells in records)

    def _read(self, records: Iterator[Record]) -> Catalogue:
        categories = self._categories()
        start, stop = _row_range(self.rows)
        path, columns = Path(self.path), self._header(records)
        parser = self._parser(columns, categories)
        products, requests = collect(islice(records, start, stop), columns, parser, path)
        if self.title_column not in (None, *columns):
            _LOG.warning(
                "%s has no column %r: products are shown without a title. Set "
                "source.title_column= to one of its columns", path, self.title_column,
            )  # fmt: skip
        if requests["reason"].eq("blank_row").all():
            raise SourceError(f"{path} has 0 products: check source.path= and source.rows=")
        return Catalogue(
            products=products,
            requests=skip_repeats(requests),
            id_column=self.id_column,
            title_column=self.title_column if self.title_column in columns else None,
            url_column=names[0] if len(names := self._url_columns) == 1 else names,
        )

    def check(self) -> list[str]:
        """Check the settings and the header, without reading further.

        Returns:
            All columns of the file.

        Raises:
            SourceError: the header cannot be read, or lacks columns; the message names each.
            ConfigError: a setting has a value that cannot work.
        """
        self._categories()
        with open_csv(Path(self.path), self.encoding, MAX_RECORD) as file:
            return self.check_header(read_records(file, Path(self.path)))

    def check_header(self, records: Iterator[Record]) -> list[str]:
        """Check the settings and the header of records in memory, as ``check`` does a file's."""
        columns = self._header(records)
        self._parser(columns, self._categories())
        return columns

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
        return category_paths(self.categories)

    def _header(self, records: Iterator[Record]) -> list[str]:
        columns, problem = next((record for record in records if record[0]), ([], ""))
        if problem:
            raise SourceError(f"{self.path}: the header's quotes are broken: correct its line")
        if not columns:
            raise SourceError(f"{self.path} is empty (no header): check source.path=")
        if len(columns) > MAX_COLUMNS:
            raise SourceError(
                f"{self.path}: the header names {len(columns):,} columns, more than "
                f"{MAX_COLUMNS:,}: remove those that you do not need"
            )
        repeated = sorted(name for name, n in Counter(columns).items() if n > 1)
        if repeated:
            raise SourceError(
                f"{self.path}: the header names {', '.join(map(repr, repeated))} more than once: "
                "give each column a name of its own"
            )
        return columns

    @property
    def _url_columns(self) -> list[str]:
        return [self.url_column] if isinstance(self.url_column, str) else [*self.url_column]

    def _parser(self, columns: list[str], categories: Sequence[str]) -> RecordParser:
        named = {"id_column": [self.id_column], "url_column": self._url_columns}
        if categories:
            named["category_column"] = [self.category_column]
        self._check_columns(named, columns)
        places = {setting: [*map(columns.index, names)] for setting, names in named.items()}
        return RecordParser(
            n_fields=len(columns),
            id=places["id_column"][0],
            urls=places["url_column"],
            category=places["category_column"][0] if categories else -1,
            categories=categories,
            choice=self.choice,
            folder=ImageFolder(self.images_dir or str(Path(self.path).parent), self.base_url or ""),
        )

    def _check_columns(self, named: Mapping[str, Sequence[str]], columns: list[str]) -> None:
        """Check that the file has the columns that the settings name."""
        absent = {setting: name for setting, names in named.items()
                  for name in names if name not in columns}  # fmt: skip
        if not absent:
            return
        names = " and no column ".join(map(repr, absent.values()))
        for delimiter in ";\t|":
            if ",".join(columns).count(delimiter) >= len(columns):
                raise SourceError(
                    f"{self.path} has no column {names}: its fields seem to be separated by "
                    f"{delimiter!r} (a guess). Save it with commas"
                )
        which = " and ".join(f"source.{setting}=" for setting in absent)
        raise SourceError(
            f"{self.path} has no column {names}: set {which} to one of its columns, "
            f"{', '.join(map(repr, columns))[:1000]}"
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
