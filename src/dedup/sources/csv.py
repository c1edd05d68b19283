"""Read a catalogue from a CSV file: one product a record, with the addresses of its images."""

from __future__ import annotations

import csv
import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TextIO

import pandas as pd
import pyarrow as pa

from dedup.errors import ConfigError, SourceError
from dedup.runtime.nouns import counted
from dedup.schemas import REQUESTS
from dedup.sources.catalogue import Catalogue
from dedup.sources.paths import ImageFolder, open_csv, split_addresses

CHOICES = ("first", "second", "all")
"""Ways to choose among the addresses in a cell."""
MAX_FIELD = 131_072
"""A record with a longer cell, in characters, fails with ``field_too_long``."""
MAX_ID = 1000
"""A record with a longer id, in characters, fails with ``bad_id``: each pair repeats two ids."""
MAX_RECORD = 16 * 2**20
"""A file with a longer record, in characters, is refused."""
MAX_COLUMNS = 10_000
"""A file with more columns is refused."""
MAX_MISSING = 40_000_000
"""A file whose records lack more fields is refused: a field that is missing takes memory too."""

_SKIPPED = {"blank_row", "category"}
_CHUNK = 5_000
_MAX_REREAD = 1_000_000
_LOG = logging.getLogger("dedup")

_Record = tuple[list[str], str]  # the cells, and "bad_quotes" or ""
_Request = tuple[str, str, list[str], str, str]  # product_id, url, alternates, status, reason


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
        url_column: column with the addresses, separated by ``;`` or as a JSON list.
        title_column: column with a title to show, or ``None``.
        category_column: column with the category path, its parts separated by ``>``.
        encoding: encoding of the file, as Python names it.
        images_dir: folder that paths start from and may not leave; by default the CSV's.
    """

    path: str
    categories: Sequence[str] | None = None
    rows: Sequence[int | None] | None = None
    choice: str = "first"
    id_column: str = "productId"
    url_column: str = "imageUrlStr"
    title_column: str | None = "title"
    category_column: str = "categories"
    encoding: str = "utf-8"
    images_dir: str | None = None

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
            return self._read(_records(file, Path(self.path)))

    def read_records(self, records: Iterable[list[str]]) -> Catalogue:
        """Read records from memory, the header first, as ``read`` does from a file."""
        return self._read((cells, "") for cells in records)

    def _read(self, records: Iterator[_Record]) -> Catalogue:
        categories = self._categories()
        start, stop = _row_range(self.rows)
        path, columns = Path(self.path), self._header(records)
        parser = self._parser(columns, categories)
        products, requests = _collect(islice(records, start, stop), columns, parser, path)
        if self.title_column not in (None, *columns):
            _LOG.warning(
                "%s has no column %r: products are shown without a title. Set "
                "source.title_column= to one of its columns", path, self.title_column,
            )  # fmt: skip
        if requests["reason"].eq("blank_row").all():
            raise SourceError(f"{path} has 0 products: check source.path= and source.rows=")
        return Catalogue(
            products=products,
            requests=_skip_repeats(requests),
            id_column=self.id_column,
            title_column=self.title_column if self.title_column in columns else None,
            url_column=self.url_column,
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
            return self.check_header(_records(file, Path(self.path)))

    def check_header(self, records: Iterator[_Record]) -> list[str]:
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
        return _category_paths(self.categories)

    def _header(self, records: Iterator[_Record]) -> list[str]:
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

    def _parser(self, columns: list[str], categories: Sequence[str]) -> _RecordParser:
        settings = ["id_column", "url_column", *(["category_column"] if categories else [])]
        self._check_columns(settings, columns)
        positions = {setting: columns.index(getattr(self, setting)) for setting in settings}
        return _RecordParser(
            n_fields=len(columns),
            id=positions["id_column"],
            url=positions["url_column"],
            category=positions.get("category_column", -1),
            categories=categories,
            choice=self.choice,
            folder=ImageFolder(self.images_dir or str(Path(self.path).parent)),
        )

    def _check_columns(self, settings: Sequence[str], columns: list[str]) -> None:
        """Check that the file has the columns that the settings name."""
        absent = {setting: name for setting in settings
                  if (name := getattr(self, setting)) not in columns}  # fmt: skip
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


@dataclass
class _RecordParser:
    """Parser that turns a record into the requests for its images.

    ``id``, ``url`` and ``category`` are positions in a record of ``n_fields`` cells.
    """

    n_fields: int
    id: int
    url: int
    category: int
    categories: Sequence[str]
    choice: str
    folder: ImageFolder

    def requests(self, cells: list[str], problem: str) -> list[_Request]:
        """Return the requests of a record; a bad record has one request, with its reason."""
        product_id = self._id(cells, problem)
        addresses: list[str] = []
        reason = self._reason(cells, problem)
        if not reason:
            addresses, reason = split_addresses(cells[self.url])
        if reason:
            status = "skipped" if reason in _SKIPPED else "failed"
            return [(product_id, "", [], status, reason)]
        if self.choice == "all":
            return [self._request(product_id, [address]) for address in addresses]
        if self.choice == "second":
            addresses = addresses[1:] + addresses[:1]
        return [self._request(product_id, addresses)]

    def _id(self, cells: list[str], problem: str) -> str:
        """Return the id; of a record with shifted cells only if it is the first cell."""
        is_whole = len(cells) == self.n_fields and not problem
        return cells[self.id] if is_whole or (cells and self.id == 0) else ""

    def _reason(self, cells: list[str], problem: str) -> str:
        """Return the reason why the record cannot be used, or ``""``."""
        if not any(map(str.strip, cells)):
            return "blank_row"
        if max(map(len, cells)) > MAX_FIELD:
            return "field_too_long"
        if problem:
            return problem
        if len(cells) != self.n_fields:
            return "bad_field_count"
        if self.categories and not self._has_category(cells[self.category]):
            return "category"
        if not cells[self.id].strip():
            return "no_id"
        return "bad_id" if "\0" in cells[self.id] or len(cells[self.id]) > MAX_ID else ""

    def _has_category(self, category: str) -> bool:
        return any(path in _category_path(category) for path in self.categories)

    def _request(self, product_id: str, addresses: list[str]) -> _Request:
        """Request the first usable address, with the other usable ones as alternates."""
        located = [self.folder.locate(address) for address in addresses]
        usable = list(dict.fromkeys(place for place, reason in located if not reason))
        if not usable:
            shown = addresses[0][:200].encode(errors="backslashreplace").decode()
            return product_id, shown, [], "failed", located[0][1]
        return product_id, usable[0], usable[1:], "", ""


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


def _records(file: TextIO, path: Path) -> Iterator[_Record]:
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


def _collect(
    records: Iterator[_Record], columns: list[str], parser: _RecordParser, path: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the products and the requests, in chunks to save memory."""
    width, pad = len(columns), [""] * len(columns)
    schema = pa.schema([(name, pa.string()) for name in columns])
    products = [schema.empty_table()]
    requests = [pd.DataFrame(columns=REQUESTS.names)]
    n_missing = 0
    while chunk := list(islice(records, _CHUNK)):
        n_missing += sum(max(0, width - len(cells)) for cells, _ in chunk)
        if n_missing > MAX_MISSING:
            raise SourceError(
                f"{path}: its records lack {n_missing:,} fields or more, of {width:,} in the "
                "header: remove its blank lines, or correct its header"
            )
        first = (len(products) - 1) * _CHUNK
        rows = [
            (number, *request)
            for number, record in enumerate(chunk, first)
            for request in parser.requests(*record)
        ]
        requests.append(pd.DataFrame(rows, columns=REQUESTS.names))
        fitted = [cells if len(cells) == width else (cells + pad)[:width] for cells, _ in chunk]
        arrays = [pa.array(column, pa.string()) for column in zip(*fitted, strict=True)]
        products.append(pa.Table.from_arrays(arrays, schema=schema))
    requests = requests[1:] or requests
    return pa.concat_tables(products).to_pandas(), pd.concat(requests, ignore_index=True)


def _skip_repeats(requests: pd.DataFrame) -> pd.DataFrame:
    """Skip requests that repeat an earlier row: the same product and the same address."""
    pending = requests[requests["status"] == ""]
    repeats = pending.duplicated(["product_id", "url"])
    requests.loc[repeats.index[repeats], ["status", "reason"]] = ["skipped", "duplicate_row"]
    rows = pending[~repeats].drop_duplicates(["record", "product_id"])["product_id"]
    n_ids = rows[rows.duplicated()].nunique()
    if n_ids:
        ids = counted(n_ids, "product id")
        _LOG.warning("%s on several rows with different images: all rows are read", ids)
    return requests


@lru_cache(maxsize=65536)
def _category_path(category: str) -> str:
    """Strip the parts, and end each with ``>``, so that a path ends where a part ends."""
    return "".join(f"{part}>" for part in map(str.strip, category.split(">")) if part)


def _category_paths(categories: Sequence[str] | None) -> list[str]:
    names = [categories] if isinstance(categories, str) else list(categories or [])
    paths = [_category_path(str(name)) for name in names]
    if not all(paths):
        raise ConfigError(f"source.categories={names}: a blank category matches nothing. Remove it")
    return paths


def _row_range(rows: Sequence[int | None] | None) -> tuple[int, int | None]:
    match rows:
        case None:
            return 0, None
        case [int(start), (int() | None) as stop] if start >= 0 and (stop is None or start < stop):
            return start, stop
    raise ConfigError(
        f"source.rows={rows}: use [start, stop] with 0 <= start < stop, or [start, null]"
    )
