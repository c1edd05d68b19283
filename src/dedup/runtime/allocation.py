"""Memory that was freed and is wanted again at once."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Have the C library keep large blocks that were freed, for the process's next ones.

    It hands blocks above 32 MiB back to the system at once, and the system clears every page of
    the next one before its first use: in training half the time of a step. The process holds on to
    some more memory for it.

    Returns:
        Whether the C library can be told so: glibc alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
