"""What a run may lack: room on a disk, memory, rights, open files, a folder that was there before.

None of it is damage. A reader that meets such a lack passes it on, see ``pass_on``, and
``entrypoint`` says it in one message, see ``explain_shortage``.
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
    errno.EFBIG: "a file may not be so large here",
    errno.EROFS: "the disk can only be read",
    errno.EIO: "the disk has an error",
}
"""Why a disk takes no more, by the number of the error."""

NO_MEMORY = "there is not enough memory"
_OF_MEMORY = re.compile(
    r"allocate memory|not enough memory|insufficient memory|out of memory|bad.?alloc|map segment"
    r"|failed to allocate|memory allocation|memoryerror|can't start new thread|failed to launch"
    r"|could not create a primitive|os error 12\b",
    re.IGNORECASE,
)
"""How libraries that have no error of their own for it speak of a lack of memory."""
_NOBODY_ASKS = 2**40
"""Bytes at once that only a damaged file asks for."""
LIBRARIES, TORCH = (2**30, 48 * 2**20), (3 * 2**29, 128 * 2**20)
"""Bytes of address space that the libraries take, at least, without torch and with it, and what
each thread takes beside them. Some that are written in C end the process when there is less, or
try again for ever."""


class Lack(NamedTuple):
    """One thing that may be lacking.

    Attributes:
        said: what happened to the file, as the end of a sentence that begins with its path.
        advice: what to do.
        kind: of error; its exit code.
    """

    said: str
    advice: str
    kind: type[DedupError] = StalledError


_ROOM = "make room, and run the same command again; what was whole before is untouched"
_ELSEWHERE = "name folders of your own with runs=PATH and store.path=PATH, or change the rights"
_THERE = "it was moved or removed meanwhile, or named wrongly"
_MEMORY = Lack(
    NO_MEMORY,
    "close other programs, allow the process more (ulimit -v), or ask for less, such as by "
    "data.batch_size, store.workers or trainer.num_processes; what was whole before is untouched",
)

LACKS = {
    **{number: Lack(f"cannot be written, {said}", _ROOM) for number, said in NO_ROOM.items()},
    errno.EFBIG: Lack(
        f"cannot be written, {NO_ROOM[errno.EFBIG]}",
        "raise the limit (ulimit -f), or name a folder on another disk with runs=PATH",
    ),
    errno.EIO: Lack(
        f"cannot be read or written, {NO_ROOM[errno.EIO]}",
        "see to the disk, or name a folder on another one with runs=PATH",
    ),
    errno.EROFS: Lack(f"cannot be written, {NO_ROOM[errno.EROFS]}", _ELSEWHERE, ArtifactError),
    errno.EACCES: Lack("may not be used by this user", _ELSEWHERE, ArtifactError),
    errno.EPERM: Lack("may not be used by this user", _ELSEWHERE, ArtifactError),
    errno.EMFILE: Lack(
        "cannot be opened, this process may open no more files", "raise the limit (ulimit -n)"
    ),
    errno.ENFILE: Lack(
        "cannot be opened, the system may open no more files", "close other programs"
    ),
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: Lack(
        "cannot be started, the system allows no more processes", "raise the limit (ulimit -u)"
    ),
    errno.EPIPE: Lack("goes nowhere, what read it has ended", "run the command again"),
}
"""What is lacking, by the number of the error. It says nothing on what a file holds."""

_GONE = {
    number: Lack(said, advice, ArtifactError)
    for numbers, said, advice in (
        ((errno.ENOENT, errno.ESTALE), "is not there", _THERE),
        ((errno.ENOTDIR, errno.EEXIST), "cannot be a folder", "a file has its name or a parent's"),
        ((errno.EISDIR, errno.ENOTEMPTY), "cannot be a file", "a folder has its name: move it"),
        ((errno.ENAMETOOLONG, errno.ELOOP), "cannot be opened", "its name leads nowhere"),
    )
    for number in numbers
}


def is_shortage(error: BaseException) -> bool:
    """Whether an error that came up while a file was read says nothing on what the file holds."""
    if isinstance(error, OSError) and error.errno:  # its text is a path, with any digits
        return error.errno in LACKS
    asked = map(int, re.findall(r"\d{13,}", str(error)))
    if isinstance(error, MemoryError):
        return max(asked, default=0) < _NOBODY_ASKS
    return _lack(error) is not None


def pass_on(error: BaseException, path: Path | str) -> None:
    """Raise an error again, as one of this file, where it says nothing on what the file holds."""
    if is_shortage(error):
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise error


def explain_shortage(error: BaseException, where: Path | str) -> DedupError | None:
    """A lack as one message that names the file and says what to do.

    Args:
        error: anything; what it was raised from is looked at as well.
        where: what to name where the error names no file.

    Returns:
        ``None`` where the error is something else.
    """
    for one in _causes(error):
        lack = _lack(one)
        if lack is None and isinstance(one, OSError) and one.filename is not None:
            lack = _GONE.get(one.errno or 0)
        if lack is _MEMORY:
            return lack.kind(f"{where} is not finished, {NO_MEMORY}{_detail(one)}: {lack.advice}")
        if lack is not None:
            named = one.filename2 or one.filename if isinstance(one, OSError) else None
            path = where if named is None or isinstance(named, int) else _text(named)
            return lack.kind(f"{path} {lack.said}: {lack.advice}")
    return None


def check_memory(where: Path | str, torch: bool) -> None:
    """Make sure that the process may have the memory without which nothing can begin.

    To be called before the libraries are loaded, which then make do with what there is.

    Args:
        where: what to name.
        torch: whether torch will be among them.

    Raises:
        StalledError: it may not.
    """
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # others reserve gigabytes
    libraries, of_a_thread = TORCH if torch else LIBRARIES
    least = libraries + n_threads() * of_a_thread
    try:
        asked = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        mmap.mmap(-1, least, flags=asked).close()
    except (OSError, MemoryError) as error:
        raise StalledError(
            f"{where} is not begun, {NO_MEMORY}: the process may not have {least >> 20} MiB of "
            "addresses. Close other programs, or allow it more (ulimit -v)"
        ) from error


def _lack(error: BaseException) -> Lack | None:
    if isinstance(error, DedupError):
        return None
    if isinstance(error, OSError) and error.errno in LACKS:
        return LACKS[error.errno]
    return _MEMORY if isinstance(error, MemoryError) or _line_on_memory(error) else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it was raised from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _line_on_memory(error: BaseException) -> str:
    """The line of an error's text that speaks of a lack of memory, "" where none does."""
    lines = str(error).splitlines()
    return next((line.strip() for line in lines if _OF_MEMORY.search(line)), "")


def _detail(error: BaseException) -> str:
    line = _line_on_memory(error) or str(error).strip().partition("\n")[0]
    return f" ({line[:200]})" if line else ""


def _text(path: str | bytes) -> str:
    return path.decode(errors="replace") if isinstance(path, bytes) else str(path)
