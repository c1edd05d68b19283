"""Turn the records of a table into requests for images: one outcome for every record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.errors import ConfigError, SourceError
from dedup.schemas import REQUESTS
from dedup.sources.paths import ImageFolder
from dedup.sources.records import Record
from dedup.sources.repeats import Repeats

MAX_FIELD = 131_072
"""A record with a longer cell, in characters, fails with ``field_too_long``."""
MAX_ID = 1000
"""A record with a longer id, in characters, fails with ``bad_id``: each pair repeats two ids."""
MAX_MISSING = 40_000_000
"""A file whose records lack more fields is refused: a field that is missing takes memory too."""

CLOSED = (
    "bad_field_count", "bad_id", "bad_json", "bad_quotes", "bad_url", "blank_row", "category",
    "duplicate_row", "field_too_long", "no_id", "no_url", "outside_folder", "scheme",
)  # fmt: skip
"""Reasons of requests that a source closes, so that no image is read."""

_SKIPPED = {"blank_row", "category"}
_CHUNK = 2_000
_MAX_JOINED = 2**31 - 1

_TEXT, _LIST = pa.large_string(), pa.list_(pa.string())
_LISTS = {_LIST: pd.ArrowDtype(_LIST)}
"""Type of pandas for lists, which stay Arrow's; texts of any size are pandas' own ``str``."""
_REQUESTS = pa.schema(
    [(one.name, _TEXT if one.type == pa.string() else one.type) for one in REQUESTS]
)

_Request = tuple[str, str, list[str], str, str]  # product_id, url, alternates, status, reason


@dataclass
class RecordParser:
    """Parser that turns a record into the requests for its images.

    ``id``, ``urls`` and ``category`` are positions in a record of ``n_fields`` cells. Where
    ``n_fields`` is ``None``, cells are never shifted, and the last ones may be left out.
    """

    n_fields: int | None
    id: int
    urls: Sequence[int]
    category: int
    categories: Sequence[str]
    choice: str
    folder: ImageFolder
    _above: tuple[str, str] = ("", "")  # id and category of the record before

    def requests(self, record: Record) -> list[_Request]:
        """Return the requests of a record; a bad record has one request, with its reason."""
        cells, problem = record.cells, record.problem
        product_id = self._id(cells, problem)
        addresses: list[str] = []
        reason = self._reason(cells, problem)
        if not reason:
            addresses, reason = self.folder.split([cells[at] for at in self.urls])
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
        is_whole = self.n_fields is None or (len(cells) == self.n_fields and not problem)
        return cells[self.id] if cells and (is_whole or self.id == 0) else ""

    def _reason(self, cells: list[str], problem: str) -> str:
        """Return the reason why the record cannot be used, or ``""``."""
        if problem and not cells:  # nothing of it could be read
            return problem
        if not any(map(str.strip, cells)):
            return "blank_row"
        if max(map(len, cells)) > MAX_FIELD:
            return "field_too_long"
        if problem:
            return problem
        if self.n_fields not in (None, len(cells)):
            return "bad_field_count"
        if self.categories and not self._has_category(self._category(cells)):
            return "category"
        if not cells[self.id].strip():
            return "no_id"
        return "bad_id" if "\0" in cells[self.id] or len(cells[self.id]) > MAX_ID else ""

    def _category(self, cells: list[str]) -> str:
        """Return a record's category; of a product's further rows that of the first, if blank."""
        key, category = cells[self.id], cells[self.category]
        if not category.strip() and key == self._above[0]:
            return self._above[1]
        self._above = key, category
        return category

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


def collect(
    records: Iterator[Record], columns: list[str], parser: RecordParser, path: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the products and the requests, as Arrow's arrays in chunks to save memory.

    Requests that repeat an earlier row are skipped.

    Args:
        records: records of the table.
        columns: names of its columns; further ones may be appended while the records are read.
        parser: parser of a record.
        path: the table, for messages.
    """
    products, requests = [_text_schema(columns).empty_table()], [_REQUESTS.empty_table()]
    repeats = Repeats()
    n_missing = n_records = 0
    while chunk := list(islice(records, _CHUNK)):
        n_missing += sum(max(0, len(columns) - len(record.cells)) for record in chunk)
        if n_missing > MAX_MISSING:
            raise SourceError(
                f"{path}: its records lack {n_missing:,} fields or more, of {len(columns):,} in "
                "the header: remove its blank lines, or correct its header"
            )
        rows, asked = _tables(chunk, n_records, columns, parser, repeats)
        products.append(rows)
        requests.append(asked)
        n_records += len(chunk)
    table = _frame([_widened(rows, columns) for rows in products])
    products.clear()
    return table, repeats.skip(_frame(requests))


def _frame(tables: list[pa.Table]) -> pd.DataFrame:
    """Join tables to one of pandas without a copy, and drop what is copied all the same."""
    joined = pa.concat_tables(tables)
    tables.clear()
    frame: pd.DataFrame = joined.to_pandas(types_mapper=_LISTS.get)
    return frame


def _tables(
    chunk: Sequence[Record], first: int, columns: Sequence[str], parser: RecordParser,
    repeats: Repeats,
) -> tuple[pa.Table, pa.Table]:  # fmt: skip
    """Make the tables of products and of requests of some records; the first has a number."""
    width, pad = len(columns), [""] * len(columns)
    fitted = [
        cells if len(cells) == width else (cells + pad)[:width]
        for cells in (record.cells for record in chunk)
    ]
    cells = [*zip(*fitted, strict=True)]
    arrays = [_array(column, _TEXT) for column in cells]
    rows = [
        (number, *request)
        for number, record in enumerate(chunk, first)
        for request in parser.requests(record)
    ]
    fields = [*zip(*rows, strict=True)]
    repeats.add(fields[1], fields[2], fields[4])
    same = [(cells[place], arrays[place]) for place in (parser.id, *parser.urls)]
    products = pa.Table.from_arrays(arrays, schema=_text_schema(columns))
    return products, _request_table(fields, same)


def _request_table(
    fields: Sequence[Sequence[Any]], same: Sequence[tuple[Sequence[str], pa.Array]]
) -> pa.Table:
    """Make a table of requests.

    Args:
        fields: the fields of all requests, in the order of ``REQUESTS``.
        same: columns of the products, as texts and as arrays, which requests may repeat: an array
            that they share takes no memory.
    """
    numbers, ids, urls, alternates, statuses, reasons = fields
    arrays = [pa.array(numbers, pa.int64()), *(_shared(column, same) for column in (ids, urls))]
    has_lists = any(alternates)
    arrays += [_array(alternates, _LIST) if has_lists else _blank(_LIST, len(numbers))]
    arrays += [
        _array(column, _TEXT) if any(column) else _blank(_TEXT, len(numbers))
        for column in (statuses, reasons)
    ]
    return pa.Table.from_arrays(arrays, schema=_REQUESTS)


def _shared(texts: Sequence[str], same: Sequence[tuple[Sequence[str], pa.Array]]) -> pa.Array:
    """Return the array of texts: one that is there, or a new one."""
    found = next((array for known, array in same if known == texts), None)
    return _array(texts, _TEXT) if found is None else found


@lru_cache(maxsize=4)
def _blank(kind: pa.DataType, n: int) -> pa.Array:
    """Make an array of empty texts or lists, which many chunks share."""
    return _array([()] * n if kind == _LIST else [""] * n, kind)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Make an array of texts, or of lists of texts.

    Its buffers are as large as their content. Those that Arrow makes grow by doubling, which costs
    a tenth more memory where they are many.
    """
    if kind == _LIST:
        texts = _array([*chain.from_iterable(values)], pa.string())
        return pa.ListArray.from_arrays(pa.array(_ends(values, np.int32)), texts)
    joined = "".join(values)
    if not joined.isascii() or len(joined) > _MAX_JOINED:
        return pa.array(values, kind, memory_pool=pa.system_memory_pool())
    ends = _ends(values, np.int64 if kind == _TEXT else np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(joined.encode())]
    return pa.Array.from_buffers(kind, len(values), buffers)


def _ends(values: Sequence[Any], kind: type[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
    """Compute where each of some texts or lists ends, if one follows the other, after a 0."""
    ends = np.zeros(len(values) + 1, kind)
    np.cumsum([*map(len, values)], out=ends[1:])
    return ends


def _text_schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([(name, _TEXT) for name in columns])


def _widened(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Append empty cells for the columns that were found after a chunk."""
    n_more = len(columns) - table.num_columns
    if not n_more:
        return table
    blank = pa.chunked_array([_blank(_TEXT, len(table))], _TEXT)
    arrays = [*table.columns, *[blank] * n_more]
    return pa.Table.from_arrays(arrays, schema=_text_schema(columns))


@lru_cache(maxsize=65536)
def _category_path(category: str) -> str:
    """Strip the parts, and end each with ``>``, so that a path ends where a part ends."""
    return "".join(f"{part}>" for part in map(str.strip, category.split(">")) if part)


def category_paths(categories: Sequence[str] | None) -> list[str]:
    """Return the categories to read, each ending where a part ends.

    Raises:
        ConfigError: one is blank.
    """
    names = [categories] if isinstance(categories, str) else list(categories or [])
    paths = [_category_path(str(name)) for name in names]
    if not all(paths):
        raise ConfigError(f"source.categories={names}: a blank category matches nothing. Remove it")
    return paths
