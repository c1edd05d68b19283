"""Messages for shortages: of disk space, memory, rights, open files, or of a folder.

A shortage is no damage. A reader raises it again with ``pass_on``, and ``cli.entrypoint`` turns it
into one message with ``explain_shortage``.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dedup.errors import ArtifactError, DedupError, StalledError
from dedup.runtime.parallel import n_threads

NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file exceeds the size limit",
    errno.EROFS: "the disk is read-only",
    errno.EIO: "the disk reports an error",
}
"""Reasons for which a disk refuses to write, by error number."""

NO_MEMORY = "there is not enough memory"
"""Reason for which a run cannot begin or finish."""
_OF_MEMORY = re.compile(
    r"allocate memory|not enough memory|insufficient memory|out of memory|bad.?alloc|map segment"
    r"|failed to allocate|memory allocation|memoryerror|can't start new thread|failed to launch"
    r"|could not create a primitive|os error 12\b",
    re.IGNORECASE,
)
"""Texts of errors that mean a lack of memory, from libraries without a type for it."""
_ABSURD_BYTES = 2**40
"""Bytes in one allocation that only a damaged file asks for: none of ours is so large."""
LIBRARIES, TORCH = (2**30, 48 * 2**20), (3 * 2**29, 128 * 2**20)
"""Bytes of address space that the libraries need, and each thread beside them, without torch and
with it. With less, some C libraries end the process or try again for ever."""

_SHOWN = 1000
"""Characters of a path that a message shows; a longer one is cut."""


class Lack(NamedTuple):
    """A kind of shortage.

    Attributes:
        event: the failure and its reason, with a place for the file's ``{path}``.
        advice: the remedy, as a sentence.
        kind: type of the error, which has the exit code.
    """

    event: str
    advice: str
    kind: type[DedupError] = StalledError


_INTACT = "files that were complete before are intact"
_ROOM = f"Free some space and run the same command again; {_INTACT}"
_ELSEWHERE = "Name folders of your own with runs=PATH and store.path=PATH, or change the rights"
_THERE = "Check the path: the file was moved, removed or misspelt"
_MEMORY = Lack(
    f"Cannot finish {{path}}: {NO_MEMORY}",
    "Close other programs, raise the limit (ulimit -v), or lower data.batch_size, store.workers or "
    f"trainer.num_processes; {_INTACT}",
)

LACKS = {
    **{number: Lack(f"Cannot write {{path}}: {why}", _ROOM) for number, why in NO_ROOM.items()},
    errno.EFBIG: Lack(
        f"Cannot write {{path}}: {NO_ROOM[errno.EFBIG]}",
        "Raise the limit (ulimit -f), or name a folder on another disk with runs=PATH",
    ),
    errno.EIO: Lack(
        f"Cannot read or write {{path}}: {NO_ROOM[errno.EIO]}",
        "Check the disk, or name a folder on another one with runs=PATH",
    ),
    errno.EROFS: Lack(f"Cannot write {{path}}: {NO_ROOM[errno.EROFS]}", _ELSEWHERE, ArtifactError),
    errno.EACCES: Lack("Cannot use {path}: permission denied", _ELSEWHERE, ArtifactError),
    errno.EPERM: Lack("Cannot use {path}: permission denied", _ELSEWHERE, ArtifactError),
    errno.EMFILE: Lack(
        "Cannot open {path}: this process has too many open files", "Raise the limit (ulimit -n)"
    ),
    errno.ENFILE: Lack(
        "Cannot open {path}: the system has too many open files", "Close other programs"
    ),
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: Lack(
        "Cannot start {path}: the system allows no more processes", "Raise the limit (ulimit -u)"
    ),
    errno.EPIPE: Lack(
        "Cannot write {path}: the program that reads it has ended", "Run the command again"
    ),
}
"""Shortages by error number; none says anything about a file's content."""

_GONE = {
    number: Lack(event, advice, ArtifactError)
    for numbers, event, advice in (
        ((errno.ENOENT, errno.ESTALE), "Cannot find {path}", _THERE),
        (
            (errno.ENOTDIR, errno.EEXIST),
            "Cannot make the folder {path}: a file has its name or a parent's",
            "Move that file, or name another folder",
        ),
        (
            (errno.EISDIR, errno.ENOTEMPTY),
            "Cannot write the file {path}: a folder has its name",
            "Move that folder",
        ),
        (
            (errno.ENAMETOOLONG, errno.ELOOP),
            "Cannot open {path}: its name is too long, or its links form a circle",
            "Name another path",
        ),
    )
    for number in numbers
}


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error in reading a file says nothing about the file's content."""
    if isinstance(error, OSError) and error.errno:  # its text is a path, with any digits
        return error.errno in LACKS
    requested = map(int, re.findall(r"\d{13,}", str(error)))
    if isinstance(error, MemoryError):
        return max(requested, default=0) < _ABSURD_BYTES
    return _lack(error) is not None


def pass_on(error: BaseException, path: Path | str) -> None:
    """Raise a shortage again, with the file's name; return if the error is none."""
    if is_shortage(error):
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise error


def explain_shortage(error: BaseException, where: Path | str) -> DedupError | None:
    """Turn a shortage into one message that names the file and the remedy.

    Args:
        error: any error; its causes are considered as well.
        where: name for the message if the error names no file.

    Returns:
        The error to raise; ``None`` if ``error`` is no shortage.
    """
    for cause in _causes(error):
        lack = _lack(cause)
        if lack is None and isinstance(cause, OSError) and cause.filename is not None:
            lack = _GONE.get(cause.errno or 0)
        if lack is _MEMORY:
            return lack.kind(f"{lack.event.format(path=where)}{_detail(cause)}. {lack.advice}")
        if lack is not None:
            named = cause.filename2 or cause.filename if isinstance(cause, OSError) else None
            path = where if named is None or isinstance(named, int) else _text(named)
            return lack.kind(f"{lack.event.format(path=path)}. {lack.advice}")
    return None


def check_memory(where: Path | str, torch: bool) -> None:
    """Check that the process may allocate the memory that the libraries need.

    To be called before the libraries are loaded: they size themselves by the memory they find.

    Args:
        where: name for the message.
        torch: whether torch will be loaded.

    Raises:
        StalledError: the process may not allocate as much.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # others reserve gigabytes
    libraries, of_a_thread = TORCH if torch else LIBRARIES
    min_bytes = libraries + n_threads() * of_a_thread
    try:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        mmap.mmap(-1, min_bytes, flags=flags).close()
    except (OSError, MemoryError) as error:
        raise StalledError(
            f"Cannot begin {where}: {NO_MEMORY}, as the process may not address "
            f"{min_bytes >> 20} MiB. Close other programs, or raise the limit (ulimit -v)"
        ) from error


def _lack(error: BaseException) -> Lack | None:
    if isinstance(error, DedupError):
        return None
    if isinstance(error, OSError) and error.errno in LACKS:
        return LACKS[error.errno]
    return _MEMORY if isinstance(error, MemoryError) or _line_on_memory(error) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that caused it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _line_on_memory(error: BaseException) -> str:
    """Find the line of an error's text that reports a lack of memory; "" if there is none."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines if _OF_MEMORY.search(line)), "")


def _detail(error: BaseException) -> str:
    line = _line_on_memory(error) or str(error).strip().partition("\n")[0]
    return f" ({line[:200]})" if line else ""


def _text(path: str | bytes) -> str:
    text = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
    return text if len(text) <= _SHOWN else f"{text[:100]}... ({len(text):,} characters)"
