"""Run code, or a command, with fewer means: files, bytes, memory, rights."""

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT


@contextmanager
def limited(what: int, amount: int) -> Iterator[None]:
    """Allow this process so much of something, and no more."""
    limits = resource.getrlimit(what)
    resource.setrlimit(what, (amount, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, limits)


@contextmanager
def no_more_files() -> Iterator[None]:
    """No file can be opened besides those that are."""
    lowest = os.dup(0)
    os.close(lowest)
    with limited(resource.RLIMIT_NOFILE, lowest):
        yield


def ended(
    folder: Path, *command: str, first: Callable[[], None] | None = None, stdout: object = None
) -> tuple[int, list[str]]:
    """Run a command as a user does; its exit code and its messages."""
    script, *settings = command
    how = ["-m", "dedup", script] if script == "check" else [str(ROOT / f"{script}.py")]
    done = subprocess.run(
        [sys.executable, *how, *settings], cwd=folder, text=True, timeout=120, preexec_fn=first,
        stdout=stdout or subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    for noise in ("Traceback", "Logging error", "Exception ignored", "Error executing job"):
        assert noise not in done.stderr, done.stderr
    return done.returncode, [line for line in done.stderr.splitlines() if " INFO " not in line]


def without_root() -> None:
    """Have no more rights than the owner of a file, where this process is root's."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        for right in (1, 2):  # to override the rights to files, and to read folders
            libc.prctl(24, right, 0, 0, 0)
