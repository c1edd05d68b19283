"""Durations as people write them."""

import math
from datetime import timedelta

import pytest

from dedup.runtime.durations import is_duration, seconds_in

GOOD = {
    7: timedelta(days=7), 0.5: timedelta(hours=12), 0: timedelta(), "7d": timedelta(days=7),
    "12h": timedelta(hours=12), "1.5d": timedelta(hours=36), "0h": timedelta(),
}  # fmt: skip
BAD = [
    "7",
    "",
    "d",
    "7 d",
    "7D",
    "-1d",
    "7m",
    "1e3d",
    "\u0667d",
    "infd",
    -1,
    math.nan,
    math.inf,
    True,
]
BAD_TYPES = [None, [], {"d": 7}, b"7d"]


@pytest.mark.parametrize(("duration", "expected"), GOOD.items(), ids=map(str, GOOD))
def test_a_duration_is_seconds(duration: object, expected: timedelta) -> None:
    assert seconds_in(duration) == expected.total_seconds()
    assert is_duration(duration)


@pytest.mark.parametrize("duration", [*BAD, *BAD_TYPES], ids=repr)
def test_anything_else_is_none(duration: object) -> None:
    assert not is_duration(duration)
    with pytest.raises(ValueError, match="is no duration"):
        seconds_in(duration)
