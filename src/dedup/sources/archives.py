"""Open the file of a table as a stream of bytes, unpacked where it is a ``.gz`` or a ``.zip``."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dedup.errors import SourceError

MAX_UNPACKED = 16 * 2**30
"""An archive that unpacks to more bytes is refused."""
MAX_RATIO = 200
"""So is one that unpacks to more than this many times its size, and more than ``SMALL``."""
SMALL = 64 * 2**20
"""Bytes that any archive may unpack to, however small it is."""

GZIP, ZIP, ZIP_EMPTY = b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06"
"""First bytes of a gzip file, of a ZIP archive, and of one that holds nothing."""
TABLES = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".json",), (".txt",)
"""Endings of tables in an archive; a file counts where no other has an ending that stands before.
"""

_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_N_SHOWN = 5


def is_packed(path: Path) -> bool:
    """Tell whether a file is a gzip file or a ZIP archive, by its first bytes."""
    with path.open("rb") as file:
        return file.read(4).startswith((GZIP, ZIP, ZIP_EMPTY))


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Open a table's bytes; those of the one table in an archive are unpacked as they are read.

    Raises:
        SourceError: the archive is damaged, cut off, encrypted, no archive of exactly one table,
            or unpacks to too much.
        OSError: the file cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        start = file.read(4)
        file.seek(0)
        if start.startswith(GZIP):
            packed = stack.enter_context(gzip.GzipFile(fileobj=file))
            yield _limited(packed, path, path.stat().st_size)
        elif start.startswith((ZIP, ZIP_EMPTY)):
            packed, n_packed = _member(file, path, stack)
            yield _limited(packed, path, n_packed)
        else:
            yield file


def _member(file: BinaryIO, path: Path, stack: ExitStack) -> tuple[Any, int]:
    """Open the one table of a ZIP archive, and return its packed size too."""
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
        member = _table_in(archive, path)
        return stack.enter_context(archive.open(member)), member.compress_size
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise SourceError(
            f"{path} is a ZIP archive or an Excel file that is cut off or damaged ({error}): copy "
            "or download it again"
        ) from error


class _Limited(io.RawIOBase):
    """Unpacked bytes of an archive, up to a limit.

    Args:
        packed: file that unpacks.
        path: the archive, for messages.
        n_packed: its bytes.
    """

    def __init__(self, packed: Any, path: Path, n_packed: int) -> None:
        super().__init__()
        self.packed, self.path = packed, path
        self.most = min(MAX_UNPACKED, max(SMALL, MAX_RATIO * n_packed))
        self.n_read = 0

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read and unpack the next bytes.

        Raises:
            SourceError: these are more than the archive may unpack to, or it is damaged.
        """
        try:
            data = self.packed.read(len(buffer))
        except EOFError as error:
            raise SourceError(
                f"{self.path} is a gzip file that is cut off: copy or download it again"
            ) from error
        except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(
                f"{self.path} is damaged ({error}): copy or download it again"
            ) from error
        self.n_read += len(data)
        if self.n_read > self.most:
            raise SourceError(
                f"{self.path} unpacks to more than {self.most:,} bytes (the limit is "
                f"{MAX_RATIO} times its size, at least {SMALL:,} and at most {MAX_UNPACKED:,} "
                "bytes): if you trust it, unpack it and set source.path= to its table"
            )
        buffer[: len(data)] = data
        return len(data)


def _limited(packed: Any, path: Path, n_packed: int) -> io.BufferedReader:
    return io.BufferedReader(_Limited(packed, path, n_packed), 2**16)


def _table_in(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """Find the one table of a ZIP archive; nothing is written to disk."""
    files = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not _is_hidden(member.filename)
    ]
    names = {member.filename for member in files}
    if "[Content_Types].xml" in names:
        raise SourceError(f"{path} is an Excel file or another document of Office: save it as CSV")
    if {"mimetype", "content.xml"} <= names:
        raise SourceError(f"{path} is a document of LibreOffice or OpenOffice: save it as CSV")
    tables = next((some for kind in TABLES if (some := _ending(files, kind))), files)
    if not tables:
        raise SourceError(f"{path} holds no file: set source.path= to a table")
    if len(tables) > 1:
        shown = " and ".join(repr(member.filename) for member in tables[:_N_SHOWN])
        more = f" and {len(tables) - _N_SHOWN} more" if len(tables) > _N_SHOWN else ""
        raise SourceError(
            f"{path} holds several files, {shown}{more}: unpack it and set source.path= to one"
        )
    (member,) = tables
    if member.flag_bits & _ENCRYPTED:
        raise SourceError(f"{path} is encrypted: unpack it and set source.path= to its table")
    if member.compress_type not in _METHODS:
        raise SourceError(
            f"{path} is compressed by method {member.compress_type}, and only the usual one "
            "(deflate) is read: unpack it and set source.path= to its table"
        )
    return member


def _ending(files: Sequence[zipfile.ZipInfo], endings: tuple[str, ...]) -> list[zipfile.ZipInfo]:
    return [member for member in files if member.filename.lower().endswith(endings)]


def _is_hidden(name: str) -> bool:
    """Tell whether a file is one that operating systems add."""
    parts = name.split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith(".")
