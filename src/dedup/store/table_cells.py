"""Read images from the cells of Parquet files by their addresses, in constant memory.

Cells are read some at a time, and kept until a later one is asked for. So images that are asked for
in the order of their rows are read once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import accumulate
from typing import NoReturn

import pyarrow as pa

from dedup.errors import FetchError, SourceError
from dedup.runtime.shortages import pass_on
from dedup.sources.cells import Cell, read_cell
from dedup.sources.image_columns import ImageColumn
from dedup.sources.parquet import opened
from dedup.sources.table_copies import table_path

MAX_COLUMNS = 4
"""Number of columns that are read side by side, as where a product has images in several."""


class TableCells:
    """Reader of images in tables, for several threads; use it as a context manager.

    Args:
        max_bytes: largest image in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._columns: dict[tuple[str, str], _Column] = {}

    def __enter__(self) -> TableCells:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            for column in self._columns.values():
                column.close()
            self._columns.clear()

    def read(self, address: str) -> bytes:
        """Read the bytes of an image.

        Args:
            address: see ``sources.cells``.

        Raises:
            FetchError: ``bad_url``; ``not_found``: there is no such table, column, row or image;
                ``empty``; ``too_large``; or ``unreadable``: the table is damaged there.
        """
        cell = read_cell(address)
        with self._lock:
            data = self._column(cell).read(cell)
            if data is None:
                raise FetchError("not_found", "the cell has no image any more")
            if data.size > self.max_bytes:
                raise FetchError("too_large", f"more than {self.max_bytes} bytes")
            if not data.size:
                raise FetchError("empty", "the image has no bytes")
            return bytes(data)

    def _column(self, cell: Cell) -> _Column:
        """Return the open column of a cell, and close the one that was used least of late."""
        key = cell.path, cell.column
        column = self._columns.pop(key, None)
        if column is None:
            if len(self._columns) >= MAX_COLUMNS:
                self._columns.pop(next(iter(self._columns))).close()
            column = _Column(*key)
        self._columns[key] = column
        return column


class _Column:
    """A column of an open file, and the cells of it that were read last.

    Raises:
        FetchError: there is no such file or column, or the file is damaged.
    """

    def __init__(self, path: str, name: str) -> None:
        self._damage: dict[int, str] = {}
        with ExitStack() as stack:
            try:
                found = table_path(path)
                file = stack.enter_context(opened(found))
                column = ImageColumn.of(file, name)
            except FileNotFoundError as error:
                raise FetchError("not_found", "the table is not there any more") from error
            except (SourceError, OSError) as error:
                raise FetchError("unreadable", str(error)) from error
            if column is None:
                raise FetchError("not_found", f"the table has no images in column {name!r}")
            self._stack = stack.pop_all()
        self._path, self._column = found, column
        groups = range(file.num_row_groups)
        ends = accumulate((file.metadata.row_group(at).num_rows for at in groups), initial=0)
        self._starts = [*ends]
        self._batches: Iterator[pa.Array] = iter(())
        self._cells: pa.Array = pa.nulls(0)
        self._first = 0  # row of the first of these cells
        self._group = -1

    def close(self) -> None:
        self._stack.close()

    def read(self, cell: Cell) -> pa.Buffer | None:
        group = next((at for at, end in enumerate(self._starts[1:]) if cell.row < end), -1)
        if group < 0:
            raise FetchError("not_found", f"the table has {self._starts[-1]} rows")
        if group in self._damage:
            raise FetchError("unreadable", self._damage[group])
        try:
            if group != self._group or cell.row < self._first:
                self._begin(group)
            while cell.row >= self._first + len(self._cells):
                self._first += len(self._cells)
                self._cells = next(self._batches)
        except StopIteration:
            raise FetchError("not_found", "the row group ends before this row") from None
        except (pa.ArrowException, OSError) as error:
            self._fail(group, error)
        return self._column.image(self._cells, cell.row - self._first, cell.item)

    def _begin(self, group: int) -> None:
        self._group, self._first = group, self._starts[group]
        self._cells = pa.nulls(0)
        self._batches = self._column.batches(group)

    def _fail(self, group: int, error: Exception) -> NoReturn:
        pass_on(error, self._path)
        why = str(error).partition("\n")[0][:200]
        rows = f"rows {self._starts[group]} to {self._starts[group + 1] - 1}"
        self._damage[group] = f"the table is damaged in {rows} ({why}): copy or download it again"
        self._group = -1
        raise FetchError("unreadable", self._damage[group]) from error
