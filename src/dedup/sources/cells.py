"""Addresses of images that lie in the cells of a table, as ``cell:/shop/t.parquet#image/12``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from dedup.errors import FetchError

SCHEME = "cell:"
"""Start of such an address. No cell of a table may name one: a source makes them."""
_QUOTED = re.compile(r"[^\w./@+=:~-]")
"""Signs that lists of addresses, or the parts of one, are separated by; and what cannot be printed.
"""
_CELL = re.compile(rf"{SCHEME}([^#]+)#([^#/]+)/(\d+)(?:/(\d+))?", re.ASCII)


@dataclass(frozen=True)
class Cell:
    """Place of an image in a table.

    Attributes:
        path: of the Parquet file; its address where it lies in object storage.
        column: name of the column.
        row: number of the row in the file, from 0.
        item: number of the image in a list, from 0; ``None`` where the cell is one image.
    """

    path: str
    column: str
    row: int
    item: int | None = None


def column_address(path: str, column: str) -> str:
    """Write the address of a column, which those of its cells begin with."""
    return f"{SCHEME}{_quoted(path)}#{_quoted(column).replace('/', '%2F')}"


def cell_address(column: str, row: int, item: int | None = None) -> str:
    """Write the address of an image.

    Args:
        column: address of the column, see ``column_address``.
        row: number of the row in the file.
        item: number of the image in a list.
    """
    return f"{column}/{row}" if item is None else f"{column}/{row}/{item}"


def is_cell(address: str) -> bool:
    """Tell whether an address is one of an image in a table."""
    return address.startswith(SCHEME)


def read_cell(address: str) -> Cell:
    """Read an address.

    Raises:
        FetchError: ``bad_url``: it is no address of an image in a table.
    """
    found = _CELL.fullmatch(address)
    if found is None:
        raise FetchError("bad_url", f"no address as {SCHEME}/shop/table.parquet#column/12")
    path, column, row, item = found.groups()
    return Cell(_plain(path), _plain(column), int(row), None if item is None else int(item))


def _quoted(text: str) -> str:
    return _QUOTED.sub(lambda sign: quote(os.fsencode(sign[0]), safe=""), text)


def _plain(text: str) -> str:
    return unquote(text, errors="surrogateescape")
