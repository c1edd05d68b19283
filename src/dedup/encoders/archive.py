"""Zip archives that carry the SHA-256 of themselves, and files that take a name in one step.

The digest is the archive's comment, the last bytes of the file, and covers every byte before it.
What reads zip archives passes over a comment, so ``torch.load`` does.
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
"""The record at an archive's end; its last two bytes are the length of the comment behind it."""
CHUNK = 2**20
_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")
"""What ``_part`` names files; others of that kind are somebody else's."""


class Sealing:
    """Passes an archive's bytes on to a file, and adds their digest at the end.

    Args:
        file: is written to from its beginning.

    Attributes:
        size: bytes so far.
        error: the first error of the file. It is not raised at once: what writes an archive from
            C++ would pass it over, or replace it by a complaint of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = 0
        self.error: OSError | None = None
        self._digest = hashlib.sha256()
        self._end = b""

    def write(self, data: bytes | memoryview) -> int:
        """Write some bytes; how many that were."""
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
        """Nothing: ``finish`` does."""

    def finish(self) -> None:
        """Write the digest, and see the file onto the disk.

        Raises:
            OSError: of the file, now or earlier.
            ValueError: it is no archive, or has a comment already.
        """
        if self.error is not None:
            raise self.error
        if self._end[:4] != END_MARK or self._end[-2:] != bytes(2):
            raise ValueError("only a zip archive without a comment can be sealed")
        length = COMMENT.to_bytes(2, "little")
        self._digest.update(self._end[:-2] + length + MARK)
        self.file.seek(-2, os.SEEK_END)
        self.file.write(length + MARK + self._digest.hexdigest().encode())
        self.file.flush()
        os.fsync(self.file.fileno())


def is_sealed(path: Path) -> bool:
    """Whether an archive carries its digest; where it does, it is what was written.

    Raises:
        BadZipFile: it is not what was written, or not an archive.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - END - COMMENT))
        end = file.read()
        if end[:4] == END_MARK and end[END : END + len(MARK)] == MARK:
            if _digest(file, size - 64) != end[-64:]:
                raise zipfile.BadZipFile("its SHA-256 is not what was written")
            return True
    if end[-END:][:4] == END_MARK and end[-2:] == bytes(2):
        return False
    raise zipfile.BadZipFile("it does not end as it was written")


def write_sealed(
    path: Path, write: Callable[[Sealing], object], previous: Path | None = None
) -> None:
    """Write an archive with its digest, in one step: there is the old file, or the new one.

    Args:
        path: the file; its folder is made where there is none.
        write: is given what to write into.
        previous: what the old file is called from then on, in the same folder.

    Raises:
        StalledError: the disk takes no more; the old files are as they were.
    """
    part, sealing = _part(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            sealing = Sealing(file)
            write(sealing)
            sealing.finish()
            if previous is not None and path.exists():
                also_as(path, previous)
            move(part, path)
    except OSError as error:
        size = "" if sealing is None else f", it takes some {sealing.size // 10**6 + 1} MB"
        kept = "; what it was before is whole" if path.exists() else ""
        raise StalledError(
            f"{path} cannot be written ({error.strerror or error}{size}): make room{kept}"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def also_as(path: Path, name: Path) -> None:
    """Give a file a second name, in one step; a copy where the disk knows no second names.

    Raises:
        OSError: neither can be done.
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
        with suppress(OSError):  # a rename between two names of one file leaves both
            part.unlink()


def sweep(folder: Path, suffix: str) -> None:
    """Remove what writers that were killed left; one that is at work holds its file locked."""
    for part in folder.glob(f".*{suffix}.*.part"):
        if not _PART.fullmatch(part.name):
            continue
        with suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")


def _digest(file: BufferedReader, size: int) -> bytes:
    """SHA-256 of a file's first bytes, as 64 hex digits."""
    digest, buffer = hashlib.sha256(), bytearray(CHUNK)
    file.seek(0)
    while size and (n := file.readinto(memoryview(buffer)[: min(size, CHUNK)])):
        digest.update(memoryview(buffer)[:n])
        size -= n
    return digest.hexdigest().encode()
