"""Ways in which reading an image can go wrong; in child processes, so light to import.

What an image does to its child is written in its bytes.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dedup.store.decode_pool import Reading, read


def _exhaust() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(2**20))


def _hang_in_c() -> None:
    ctypes.PyDLL(None).sleep(60)  # holds Python's lock, so that no thread of Python goes on either


def _segfault() -> None:
    ctypes.string_at(1)


def _unforeseen() -> None:
    print("a line from within", file=sys.stderr)
    raise IndexError("list index out of range")


def _late() -> None:
    threading.Timer(0.15, os.abort).start()


FATES: dict[bytes, Callable[[], object]] = {
    b"abort": os.abort,
    b"segfault": _segfault,
    b"exit": lambda: os._exit(3),
    b"unforeseen": _unforeseen,
    b"exhaust": _exhaust,
    b"hang": lambda: time.sleep(60),
    b"hang in C": _hang_in_c,
    b"killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"late": _late,
    b"slow": lambda: time.sleep(0.3),
}


def hostile(source: bytes | str, reader: str, max_bytes: int) -> Reading:
    """``read``, but for bytes that name a fate or a folder for whom to die the first time."""
    if isinstance(source, bytes) and source.startswith(b"once:"):
        met = Path(source.removeprefix(b"once:").decode())
        if not met.exists():
            met.touch()
            os.abort()
        source = met.with_suffix(".jpg").read_bytes()
    fate, _, rest = source.partition(b":") if isinstance(source, bytes) else (b"", b"", b"")
    if fate in FATES:
        FATES[fate]()
        source = rest
    return read(source, reader, max_bytes)


def tell(source: bytes | str, reader: str, max_bytes: int) -> Reading:
    """Facts about the process that reads, as the digest of an image of no account."""
    facts = {
        "environment": sorted(os.environ),
        "heavy": sorted({"torch", "pandas", "hydra", "pytorch_lightning"} & set(sys.modules)),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "interrupt": signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
        "own_session": os.getsid(0) == os.getpid(),
        "open_files": len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0,
        "pid": os.getpid(),
    }
    return Reading(repr(facts), "", 0.0, read(source, reader, max_bytes).image)
