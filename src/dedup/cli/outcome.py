"""How a command ends: one message and an exit code, results on stdout, and ``latest``."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from dedup.errors import DedupError
from dedup.runtime import processes
from dedup.runtime.printable import visible_lines
from dedup.runtime.shortages import explain_shortage

log = logging.getLogger("dedup")

LINK_SECONDS = 60
"""After so long a link that is not in its place yet is of a process that was killed."""


def point_latest(run_dir: Path, latest: Path) -> None:
    """Make ``latest`` a link to ``run_dir``, in one step, also where others do so at that moment.

    Raises:
        OSError: it cannot be made, and is what it was.
    """
    for left in latest.parent.glob(f".{latest.name}[-.]*"):  # by a process that was killed
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
    """End the command with one message and an exit code where something is wrong or lacking.

    Args:
        where: what is named where an error names no file.
    """
    try:
        yield
    except DedupError as error:
        stop(str(error), error.exit_code)
    except Exception as error:
        found = explain_shortage(error, where)
        if found is None:
            raise
        log.debug("where it was:", exc_info=error)
        traceback.clear_frames(error.__traceback__)  # and with them what takes the memory
        stop(str(found), found.exit_code)


def say(text: str) -> None:
    """Write a result to stdout, where it has arrived once this returns.

    Raises:
        OSError: it has not.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        error.filename = "stdout"
        raise


def stop(message: str, code: int) -> NoReturn:
    """End the process with a message on stderr, and in the run's log, and an exit code."""
    processes.hold_back()
    if logging.getLogger().handlers:
        log.error(message)  # as the text, not as an argument: it may have lines of its own
    else:
        sys.stderr.write(f"{visible_lines(message)}\n")
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at its end, and have an exit code of its own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
