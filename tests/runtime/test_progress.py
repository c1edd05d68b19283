"""How far work is, where there is no terminal."""

import logging

import pytest

from dedup.runtime import progress
from dedup.runtime.progress import Tally


def test_lines_in_the_log_say_how_far_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10_000, 10))  # ten seconds from one look to the next
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    with caplog.at_level(logging.INFO), progress.counting("comparing", 40, "pairs") as count:
        for _ in range(40):
            count()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("comparing: ")
    assert " % (" in lines[0]
    assert " left, " in lines[0]
    assert lines[0].endswith("pairs/s")
    assert lines[-1].startswith("comparing: 40 in 0:1")
    assert 3 < len(lines) < 40


def test_fast_work_takes_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress.reading(2) as show:
        for done in (1, 2, 2):
            show(Tally(done=done))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("reading images: 2 in 0:00:00, ")
