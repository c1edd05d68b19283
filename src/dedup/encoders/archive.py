"""Write zip archives with a SHA-256 checksum, and replace files atomically.

The checksum is the archive's comment, the last bytes of the file, and covers every byte before it.
Readers of zip archives, ``torch.load`` included, ignore the comment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import uuid
import zipfile
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from dedup.errors import StalledError
from dedup.runtime.files import move

MARK = b"sha256="
COMMENT = len(MARK) + 64
END, END_MARK = 22, b"PK\x05\x06"
"""Record at an archive's end; its last two bytes are the length of the comment after it."""
CHUNK = 2**20
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""Names that ``_part`` gives to files; other ``.part`` files belong to other programs."""


class ChecksumWriter:
    """File-like object that writes an archive and appends its checksum.

    Args:
        file: file to write, from its beginning.

    Attributes:
        size: number of bytes so far.
        error: first error of the file, raised by ``finish``. PyTorch writes archives from C++,
            which would ignore the error, or replace it by another.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.error: OSError | None = None
        self._digest = hashlib.sha256()
        self._end = b""

    def write(self, data: bytes | memoryview) -> int:
        """Write some bytes, and return their number."""
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                self.file.write(view)
            except OSError as error:
                self.error = error
        self.size += len(view)
        if len(view) > END:
            self._digest.update(self._end)
            self._digest.update(view[:-END])
            self._end = b""
        end = self._end + bytes(view[-END:])
        self._digest.update(end[:-END])
        self._end = end[-END:]
        return len(view)

    def flush(self) -> None:
        """Do nothing: ``finish`` flushes."""

    def finish(self) -> None:
        """Write the checksum, and flush the file to the disk.

        Raises:
            OSError: writing failed, now or earlier.
            ValueError: the bytes are no zip archive, or it has a comment already.
        """
        if self.error is not None:
            raise self.error
        if self._end[:4] != END_MARK or self._end[-2:] != bytes(2):
            raise ValueError("only a zip archive without a comment can have a checksum")
        length = COMMENT.to_bytes(2, "little")
        self._digest.update(self._end[:-2] + length + MARK)
        self.file.seek(-2, os.SEEK_END)
        self.file.write(length + MARK + self._digest.hexdigest().encode())
        self.file.flush()
        os.fsync(self.file.fileno())


def has_checksum(path: Path) -> bool:
    """Verify an archive against its checksum; return False if it has none.

    Raises:
        BadZipFile: the checksum does not match, or the file is no archive.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END - COMMENT))
        end = file.read()
        if end[:4] == END_MARK and end[END : END + len(MARK)] == MARK:
            if _digest(file, size - 64) != end[-64:]:
                raise zipfile.BadZipFile("its SHA-256 does not match")
            return True
    if end[-END:][:4] == END_MARK and end[-2:] == bytes(2):
        return False
    raise zipfile.BadZipFile("its end is missing or damaged")


def write_with_checksum(
    path: Path, write: Callable[[ChecksumWriter], object], previous: Path | None = None
) -> None:
    """Write an archive with its checksum atomically: the path has the old file or the new one.

    Args:
        path: file to write; its folder is created if it is missing.
        write: function that writes the archive into a ``ChecksumWriter``.
        previous: new name of the old file, in the same folder.

    Raises:
        StalledError: the disk is full; the old files are intact.
    """
    part, writer = _part(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            writer = ChecksumWriter(file)
            write(writer)
            writer.finish()
            if previous is not None and path.exists():
                link_or_copy(path, previous)
            move(part, path)
    except OSError as error:
        size = "" if writer is None else f" (it takes some {writer.size // 10**6 + 1} MB)"
        intact = "; the previous file is intact" if path.exists() else ""
        raise StalledError(
            f"cannot write {path}{size}: {error.strerror or error}. Free some space{intact}"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def link_or_copy(path: Path, name: Path) -> None:
    """Hard-link a file to a second name atomically; copy it on a disk without hard links.

    Raises:
        OSError: the file can neither be linked nor copied.
    """
    part = _part(name)
    try:
        try:
            part.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, part)
            with part.open("rb") as file:
                os.fsync(file.fileno())
        move(part, name)
    finally:
        with suppress(OSError):  # a rename between two names of the same file leaves both
            part.unlink()


def remove_partial_files(folder: Path, suffix: str) -> None:
    """Remove the partial files of killed writers; a running writer holds a lock on its own."""
    for part in folder.glob(f".*{suffix}.*.part"):
        if not _PART.fullmatch(part.name):
            continue
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def _digest(file: BufferedReader, size: int) -> bytes:
    """Compute the SHA-256 of a file's first bytes, as 64 hex digits."""
    digest, buffer = hashlib.sha256(), bytearray(CHUNK)
    file.seek(0)
    while size and (n := file.readinto(memoryview(buffer)[: min(size, CHUNK)])):
        digest.update(memoryview(buffer)[:n])
        size -= n
    return digest.hexdigest().encode()
