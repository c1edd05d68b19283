"""Read durations such as ``7d`` and ``12h``."""

from __future__ import annotations

import math
import re

DAY, HOUR = 86_400.0, 3_600.0
"""Lengths in seconds."""

_TEXT = re.compile(r"(\d+(?:\.\d+)?)([dh])", re.ASCII)


def seconds_in(duration: object) -> float:
    """Convert a duration to seconds.

    Args:
        duration: a number of days, or a text such as ``7d`` (days) or ``12h`` (hours).

    Raises:
        ValueError: it is neither, negative or infinite.
    """
    if isinstance(duration, str) and (parts := _TEXT.fullmatch(duration)):
        seconds = float(parts[1]) * (DAY if parts[2] == "d" else HOUR)
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = duration * DAY
    else:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{duration!r} is no duration")
    return seconds


def is_duration(value: object) -> bool:
    """Tell whether ``seconds_in`` can convert a value."""
    try:
        seconds_in(value)
    except ValueError:
        return False
    return True
