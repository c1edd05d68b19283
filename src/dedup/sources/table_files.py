"""Open the file of a table of text, and find out its encoding from a bounded head."""

from __future__ import annotations

import codecs
import csv
import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from dedup.errors import ConfigError, SourceError
from dedup.runtime.files import sha256_file
from dedup.runtime.shortages import pass_on
from dedup.sources.archives import GZIP, ZIP, open_bytes
from dedup.sources.image_formats import IMAGE_SUFFIXES, image_format

AUTO = "auto"
"""Setting of an encoding that is found out."""
HEAD = 2**18
"""Bytes by which an encoding and a dialect are found out."""
N_WIDE = 4
"""Letters of the first name by which UTF-16 without a mark is found out."""
UTF_8, CP1252 = "utf-8-sig", "cp1252"
"""Codecs of nearly all tables: UTF-8 with or without a mark, and what Excel wrote before."""
OTHER_CODECS = "cp1250, cp1251 (Cyrillic), gbk, shift_jis or mac-roman"
"""Codecs of tables that are no UTF-8 and no cp1252, for messages."""
BLANK = b" \t\r\n\xef\xbb\xbf"
"""Bytes of blanks, and of a byte order mark."""

_MARKS = (
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = {
    codecs.BOM_UTF16_LE: "is UTF-16: set source.encoding=utf-16",
    codecs.BOM_UTF16_BE: "is UTF-16: set source.encoding=utf-16",
}
_SIGNATURES = {
    GZIP: "is compressed with gzip twice: unpack it first",
    ZIP: "is a ZIP archive in another archive: unpack it first",
    b"\xd0\xcf\x11\xe0": "is an Excel file: save it as CSV",
    b"PAR1": "is a Parquet file: read it with source=parquet",
    b"%PDF": "is a PDF: export the table as CSV",
    b"\xfd7zXZ\0": "is compressed with xz: unpack it first, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it first, or pack it with gzip",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it first",
    b"Rar!\x1a\x07": "is a RAR archive: unpack it first",
    b"SQLite format 3\0": "is a database of SQLite: export the table as CSV",
    **{
        b"BZh%d1AY&SY" % level: "is compressed with bzip2: unpack it first, or pack it with gzip"
        for level in range(1, 10)
    },
}
_ARRAY = re.compile(rb'\[\s*(?:\{\s*"|\[|\])')
_OPENED = re.compile(rb'\{\s*\n\s*"(?:[^"\\]|\\.)*"\s*:')
"""Start of an object that is written over several lines."""


class AsciiSoFarError(SourceError):
    """A file is not UTF-8, and all before its first such byte is ASCII, as in a cp1252 file."""


@contextmanager
def open_table(path: Path, encoding: str, codec: str, max_record: int) -> Iterator[TextIO]:
    """Open a table's file, and turn failures of the file as a whole into a ``SourceError``.

    Args:
        path: the file.
        encoding: the setting, for messages.
        codec: codec of the file, see ``choose_codec``.
        max_record: longest cell that ``csv`` accepts meanwhile, in characters.

    Raises:
        AsciiSoFarError: the encoding is ``auto``, and another one may read the file.
    """
    limit = csv.field_size_limit(max_record)
    try:
        with (
            watched(path),
            open_bytes(path) as data,
            TextIOWrapper(data, encoding=codec, newline="") as file,
        ):
            yield file
    except UnicodeError as error:
        if path.suffix.lower() in IMAGE_SUFFIXES:
            raise _is_image(path) from error
        offset, where, is_ascii = bad_byte(path, codec)
        if encoding == AUTO and codec == UTF_8 and is_ascii:
            raise AsciiSoFarError(f"{path}: byte {offset} is not UTF-8") from error
        name = codec.removesuffix("-sig") if encoding == AUTO else encoding
        others = OTHER_CODECS if codec == CP1252 else "cp1252 or latin-1"
        raise SourceError(
            f"{path}: byte {offset} is not {name}{where}: set source.encoding=, "
            f"such as {others}, or correct the file"
        ) from error
    finally:
        csv.field_size_limit(limit)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """Watch a file while it is read.

    Raises:
        SourceError: it cannot be read, or it changed meanwhile.
    """
    before = fingerprint(path)
    try:
        yield
    except OSError as error:
        pass_on(error, path)
        raise SourceError(
            f"{path} cannot be read ({error.strerror}): check source.path="
        ) from error
    if fingerprint(path) != before:
        raise SourceError(f"{path} changed while it was read: run again when it is complete")


def read_head(path: Path) -> bytes:
    """Read the first bytes of a file, unpacked where it is an archive.

    Raises:
        SourceError: the file cannot be read.
    """
    fingerprint(path)
    try:
        with open_bytes(path) as file:
            return file.read(HEAD)
    except OSError as error:
        pass_on(error, path)
        raise SourceError(
            f"{path} cannot be read ({error.strerror}): check source.path="
        ) from error


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file.

    Raises:
        SourceError: the file cannot be read.
    """
    fingerprint(path)
    try:
        return sha256_file(path)
    except OSError as error:
        pass_on(error, path)
        raise SourceError(
            f"{path} cannot be read ({error.strerror}): check source.path="
        ) from error


def decode_head(head: bytes, codec: str) -> str:
    """Decode the start of a file, whatever bytes are in it."""
    decoder = codecs.getincrementaldecoder(codec)(errors="replace")
    return decoder.decode(head, final=len(head) < HEAD)


def choose_codec(path: Path, encoding: str, head: bytes) -> str:
    """Return the codec of a file: of the encoding that is set, or found out from its head.

    A byte order mark decides, or the zeros of UTF-16 without one; then UTF-8 where the head is
    UTF-8, otherwise cp1252.

    Raises:
        SourceError: the file is no text.
        ConfigError: there is no such encoding.
    """
    if encoding != AUTO:
        return _given_codec(path, encoding, head)
    if is_json(head):
        raise SourceError(f"{path} is JSON and no CSV: read it with source=jsonl")
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return codec
    _refuse(path, head, _SIGNATURES)
    for codec, byte_of_ascii in (("utf-16-le", 0), ("utf-16-be", 1)):
        if _is_wide(head, byte_of_ascii) and _first_bad(head, codec) is None:
            return codec
    bad = _first_bad(head, UTF_8)
    if bad is None or not head[:bad].isascii():  # the one byte is wrong, which is said later
        return UTF_8
    if path.suffix.lower() in IMAGE_SUFFIXES or image_format(head):
        raise _is_image(path)
    if b"\0" in head:
        raise SourceError(f"{path} is no text: set source.path= to a table, such as a CSV file")
    return CP1252


def is_json(head: bytes) -> bool:
    """Tell whether a file begins with a line that is a JSON object, an object that is written over
    several lines, or an array.

    A CSV has its quotes doubled, and so is neither.
    """
    wide = next((codec for mark, codec in _MARKS[1:] if head.startswith(mark)), "")
    if wide:  # which is refused later
        head = decode_head(head, wide).encode(errors="replace")
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start.startswith(b"{"):
        return bool(_ARRAY.match(start))
    if _OPENED.match(start):
        return True
    try:
        found = json.loads(start.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and bool(found)


def _given_codec(path: Path, encoding: str, head: bytes) -> str:
    """Return the codec of a given encoding; for UTF-8, one that drops a byte order mark."""
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except (LookupError, ValueError) as error:
        raise ConfigError(f"source.encoding={encoding!r} is unknown: try auto") from error
    if not name.startswith(("utf-16", "utf-32")):
        _refuse(path, head, _WIDE | _SIGNATURES)
    return UTF_8 if name == "utf-8" else name


def _refuse(path: Path, head: bytes, signatures: dict[bytes, str]) -> None:
    for signature, advice in signatures.items():
        if head.startswith(signature):
            raise SourceError(f"{path} {advice}")


def _is_image(path: Path) -> SourceError:
    return SourceError(
        f"{path} is an image and no table: find the products that show it with query=, or "
        "read its folder with source=folder source.path=FOLDER"
    )


def _is_wide(head: bytes, at: int) -> bool:
    """Tell whether the first letters have a zero byte beside them, as ASCII has in UTF-16.

    Args:
        head: start of the file.
        at: place in a pair of the byte that holds ASCII: 0 in little-endian UTF-16.
    """
    start = head[: 2 * N_WIDE]
    letters, zeros = start[at::2], start[1 - at :: 2]
    is_ascii = letters.isascii() and b"\0" not in letters
    return len(start) == 2 * N_WIDE and is_ascii and zeros.count(0) == N_WIDE


def _first_bad(head: bytes, codec: str) -> int | None:
    """Find the first byte that cannot be decoded; a character that the end cuts can be."""
    try:
        codecs.getincrementaldecoder(codec)().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError as error:
        return error.start
    return None


def fingerprint(path: Path) -> tuple[int, int, int]:
    """Return inode, size in bytes and modification time in ns of a file, to detect changes.

    Raises:
        SourceError: the file is missing, or not a regular file.
    """
    try:
        info = path.stat()
    except OSError as error:
        pass_on(error, path)
        raise SourceError(
            f"{path} cannot be read ({error.strerror}): check source.path="
        ) from error
    if stat.S_ISDIR(info.st_mode):
        raise SourceError(
            f"{path} is a folder and no table: read its images with source=folder, or set "
            "source.path= to a CSV file"
        )
    if not stat.S_ISREG(info.st_mode):
        raise SourceError(f"{path} is a pipe or a device: set source.path= to a CSV file")
    return info.st_ino, info.st_size, info.st_mtime_ns


def bad_byte(path: Path, codec: str) -> tuple[int, str, bool]:
    """Find the first byte that a codec cannot decode.

    Returns:
        Its offset; `` (line N)`` where lines are known; and whether all before is ASCII.
    """
    decoder = codecs.getincrementaldecoder(codec)()
    n_read, n_lines, is_ascii = 0, 1, True
    has_lines = not codec.startswith(("utf-16", "utf-32"))
    with open_bytes(path) as file:
        while True:
            chunk = file.read(2**20)
            n_read += len(chunk)
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                offset = n_read - len(error.object) + error.start
                before = error.object[: error.start]
                line = n_lines + before.count(b"\n")
                is_ascii = is_ascii and before.isascii()
                return offset, f" (line {line})" if has_lines else "", is_ascii
            except UnicodeError:
                return 0, "", False
            n_lines += chunk.count(b"\n")
            is_ascii = is_ascii and chunk.isascii()
            if not chunk:
                return n_read, "", False
