"""Read image files, and tell their paths from addresses of the web and of object storage."""

from __future__ import annotations

import os
import re
import stat

from dedup.download.buckets import is_bucket
from dedup.errors import FetchError, SourceError
from dedup.sources.cells import is_cell, read_cell
from dedup.sources.table_copies import table_version


def is_remote(address: str) -> bool:
    """Whether an address is one of the web or of object storage; all others are files."""
    return re.match(r"https?://", address, re.IGNORECASE) is not None or is_bucket(address)


def version(address: str) -> str:
    """Return size and modification time of a file, to detect changes; "" for other addresses.

    Of an image in a table it is that of the table, see ``table_version``.
    """
    if is_remote(address):
        return ""
    try:
        return table_version(read_cell(address).path if is_cell(address) else address)
    except (OSError, ValueError, FetchError, SourceError):
        return "missing"


def read_file(address: str, max_bytes: int) -> bytes:
    """Read a regular file.

    Args:
        address: path of the file.
        max_bytes: largest file in bytes.

    Raises:
        FetchError: ``not_found``, ``not_a_file``, ``too_large``, ``empty`` or ``unreadable``.
    """
    try:
        # O_NONBLOCK, not to wait for a pipe; fstat, so that the file checked is the file read.
        opened = os.open(address, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise FetchError("not_a_file", "a folder or a device")
            with os.fdopen(opened, "rb", closefd=False) as file:
                data = file.read(max_bytes + 1)
        finally:
            os.close(opened)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FetchError("not_found", "no such file") from error
    except (OSError, ValueError) as error:
        reason = "not_found" if "\0" in address else "unreadable"
        raise FetchError(reason, str(error)) from error
    if len(data) > max_bytes:
        raise FetchError("too_large", f"more than {max_bytes} bytes")
    if not data:
        raise FetchError("empty", "the file is empty")
    return data
