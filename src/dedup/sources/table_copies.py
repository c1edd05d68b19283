"""Tables in object storage: each is copied to a file, which is read as any other."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path, PosixPath
from typing import NamedTuple

from dedup.download.buckets import CREDENTIALS, FORBIDDEN, copy, is_bucket, read_place
from dedup.download.hosts import UnreachableError
from dedup.errors import FetchError, SourceError
from dedup.runtime.files import sha256_file


class TableCopy(PosixPath):
    """Path of a copy. Messages show the table's address, and files are opened by the path.

    Attributes:
        address: of the table; "" for other paths that are made from this one.
    """

    address = ""

    def __str__(self) -> str:
        return self.address or super().__str__()

    def __fspath__(self) -> str:
        return super().__str__()


class _Copy(NamedTuple):
    """Copy of a table, and the ETag of what was copied; "" for none."""

    path: TableCopy
    etag: str


_COPIES: dict[str, _Copy] = {}
"""Latest copy of each table, by its address."""


def table_path(path: str | Path) -> Path:
    """Return the path of a table's file; one in object storage is copied, unless it is unchanged.

    Copies are removed when the process ends.

    Raises:
        SourceError: the table cannot be copied.
    """
    address = str(path)
    if not is_bucket(address):
        return Path(path)
    before = _COPIES.get(address)
    folder = Path(tempfile.mkdtemp(dir=_folder().name))
    try:
        name = read_place(address).path.rpartition("/")[2] or "table"
        etag = copy(address, folder / name[-200:], before.etag if before else "")
    except FetchError as error:
        raise SourceError(_message(address, error)) from error
    if before and etag and etag == before.etag:
        return before.path
    found = TableCopy(folder / name[-200:])
    found.address = address
    _COPIES[address] = _Copy(found, etag)
    if before:
        shutil.rmtree(os.path.dirname(before.path), ignore_errors=True)  # noqa: PTH120
    return found


def table_version(path: str) -> str:
    """Return what tells that a table's file has changed: its size and time; of a copy its ETag.

    A table in object storage is copied once, and not asked for again by this function.

    Raises:
        SourceError: the table cannot be copied.
        OSError: the file is not there, or cannot be looked at.
        ValueError: the path is none.
    """
    if not is_bucket(path):
        info = Path(path).stat()
        return f"{info.st_size}-{info.st_mtime_ns}"
    if path not in _COPIES:
        table_path(path)
    known = _COPIES[path]
    return known.etag or sha256_file(known.path)


def is_there(path: str | Path) -> bool:
    """Tell whether a table, or a folder, exists.

    Raises:
        SourceError: the object storage does not say.
    """
    if not is_bucket(str(path)):
        return Path(path).exists()
    try:
        table_path(path)
    except SourceError as error:
        if isinstance(error.__cause__, FetchError) and error.__cause__.reason == "not_found":
            return False
        raise
    return True


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder of all copies, which is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="dedup-")


def _message(address: str, error: FetchError) -> str:
    """Say why a table cannot be copied, and what to do; without a password in its address."""
    shown = re.sub("//[^/@]*@", "//...@", address)
    scheme = address.partition("://")[0].lower()
    why = error.detail
    if error.reason == "bad_url":
        return f"{shown} is no address of a table ({why}): check source.path="
    if error.reason == "not_found":
        return (
            f"{shown} is not there ({why}): set source.path= to a table, as in "
            f"source.path={scheme}://bucket/products.csv"
        )
    if error.reason in FORBIDDEN:
        return (
            f"{shown} may not be read ({why}), and credentials come from the environment alone: "
            f"set {CREDENTIALS[scheme]}"
        )
    if error.reason == "no_package":
        return f"{shown} cannot be read: {why}"
    if error.reason == "changed":
        return f"{shown} changed while it was read: run again when it is complete"
    if isinstance(error, UnreachableError):
        return (
            f"{shown} cannot be reached ({why}): check the network and the endpoint that the "
            "environment names, and run the same command again"
        )
    return f"{shown} cannot be read ({why}): check source.path=, or copy the table to a file"
