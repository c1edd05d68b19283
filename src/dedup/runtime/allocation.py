"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``, from its malloc.h."""


def keep_freed_memory() -> bool:
    """Let the C library reuse large freed blocks instead of returning them to the system.

    By default glibc returns blocks above 32 MiB at once, and the system clears every page of the
    next one: half the time of a training step. In exchange the process holds somewhat more memory.

    Returns:
        Whether the setting was accepted; glibc alone has it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
