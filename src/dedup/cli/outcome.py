"""End of a command: one message and an exit code, results on stdout, and ``latest``."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from dedup.errors import DedupError
from dedup.runtime import processes
from dedup.runtime.printable import visible_lines
from dedup.runtime.shortages import explain_shortage

log = logging.getLogger("dedup")

LINK_SECONDS = 60
"""Age of a temporary link after which its process must have been killed: making one takes ms."""


def point_latest(run_dir: Path, latest: Path) -> None:
    """Point the link ``latest`` at ``run_dir`` atomically, also beside other processes.

    Raises:
        OSError: the link cannot be made; the earlier one is unchanged.
    """
    latest.parent.mkdir(parents=True, exist_ok=True)  # the run may lie elsewhere
    for left in latest.parent.glob(f".{latest.name}[-.]*"):  # from killed processes
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > LINK_SECONDS:
                left.unlink()
    link = latest.with_name(f".{latest.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        link.symlink_to(os.path.relpath(run_dir, latest.parent), target_is_directory=True)
        link.replace(latest)
    except OSError as error:
        error.filename2 = str(latest)  # not the link beside it
        raise
    finally:
        with suppress(OSError):
            link.unlink()


@contextmanager
def one_message(where: Path | str) -> Iterator[None]:
    """End the command with one message and an exit code on a known error or a shortage.

    Args:
        where: name for the message if the error names no file.
    """
    try:
        yield
    except DedupError as error:
        stop(str(error), error.exit_code)
    except Exception as error:
        shortage = explain_shortage(error, where)
        if shortage is None:
            raise
        log.debug("traceback of the error:", exc_info=error)
        traceback.clear_frames(error.__traceback__)  # frees the memory that the frames hold
        stop(str(shortage), shortage.exit_code)


def say(text: str) -> None:
    """Write a result to stdout, and flush it.

    Raises:
        OSError: the text cannot be written.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def written(write: Callable[[Path], Path], folder: Path) -> list[Path]:
    """Call a report, and list the files that it wrote.

    Args:
        write: writes files into a folder, and returns the most important one.
        folder: the folder, which exists.

    Returns:
        The file that was returned, then the others by name.
    """
    before = set(_files(folder))
    first = write(folder)
    names = sorted(name for name, _ in set(_files(folder)) - before)
    return list(dict.fromkeys([first, *(folder / name for name in names)]))


def _files(folder: Path) -> list[tuple[str, int]]:
    """List the files of a folder, and their numbers on the disk: a file anew has another."""
    with os.scandir(folder) as entries:
        return [(entry.name, entry.inode()) for entry in entries if entry.is_file()]


def stop(message: str, code: int) -> NoReturn:
    """End the process with an exit code, and a message on stderr and in the run's log."""
    processes.hold_back()
    if logging.getLogger().handlers:
        log.error(message)  # no argument: the text may have several lines
    else:
        sys.stderr.write(f"{visible_lines(message)}\n")
    try:
        sys.stdout.flush()
    except OSError:  # at exit Python would try again, and change the exit code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
