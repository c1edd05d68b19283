"""Progress bars on stderr, or lines in the log where stderr is no terminal.

Stdout carries results only. Under cron or CI a line every half minute reports the progress.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass
class Tally:
    """Progress of reading a catalogue's images.

    Attributes:
        done: rows that are finished, ok or not.
        failed: rows that are not ok.
        received: bytes that came over the network.
    """

    done: int = 0
    failed: int = 0
    received: int = 0


class Count(Protocol):
    """Receiver of the number of things that were done since its last call."""

    def __call__(self, n: int = 1) -> None:
        """Advance by ``n``."""
        ...


log = logging.getLogger("dedup")

Show = Callable[[int, str], None]
"""Receiver of the number done, and of further facts to show."""

REFRESH = 0.25
"""Seconds between two updates of a bar."""

LINE_EVERY = 30.0
"""Seconds between two lines in a log: few lines an hour, and no long silence."""


_IS_HIDDEN = ContextVar("is_hidden", default=False)


@contextmanager
def hidden(is_hidden: bool = True) -> Iterator[None]:
    """Hide bars inside a ``with`` block."""
    token = _IS_HIDDEN.set(is_hidden)
    try:
        yield
    finally:
        _IS_HIDDEN.reset(token)


@contextmanager
def reading(n_images: int) -> Iterator[Callable[[Tally], None]]:
    """Show a bar with images and megabytes a second, failures and the time left.

    Yields:
        A function that takes the current tally.
    """
    with _shown("reading images", n_images) as display:
        started = shown = time.monotonic()

        def show(tally: Tally) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < REFRESH and tally.done < n_images:
                return
            shown, seconds = now, max(now - started, 1e-9)
            facts = f"{tally.done / seconds:.0f} images/s"
            if tally.received:
                facts += f", {tally.received / seconds / 1e6:.1f} MB/s"
            if tally.failed:
                facts += f", {tally.failed} failed"
            display(tally.done, facts)

        yield show


@contextmanager
def counting(what: str, total: int, unit: str) -> Iterator[Count]:
    """Show a bar that advances by one, or by a number, at each call of the yielded function.

    Args:
        what: name of the work, such as "comparing candidates".
        total: number of things to come.
        unit: noun of what is counted, for the rate.
    """
    with _shown(what, total) as display:
        done, started = 0, time.monotonic()
        shown = started

        def count(n: int = 1) -> None:
            nonlocal done, shown
            done, now = done + n, time.monotonic()
            if now - shown < REFRESH and done < total:
                return
            shown = now
            display(done, f"{done / max(now - started, 1e-9):.0f} {unit}/s")

        yield count


@contextmanager
def _shown(what: str, total: int) -> Iterator[Show]:
    """Show a bar on a terminal or in a notebook, and lines in the log elsewhere."""
    if _IS_HIDDEN.get():
        yield lambda done, facts: None
        return
    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield _Lines(what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn("{task.fields[facts]}"), TimeRemainingColumn(), console=console
    ) as progress:
        task = progress.add_task(what, total=total, facts="")
        yield lambda done, facts: progress.update(task, completed=done, facts=facts)


class _Lines:
    """Progress lines in the log: one every ``LINE_EVERY`` seconds, and one at the end."""

    def __init__(self, what: str, total: int) -> None:
        self.what = what
        self.total = total
        self.started = self.written = time.monotonic()
        self.is_over = False

    def __call__(self, done: int, facts: str) -> None:
        now = time.monotonic()
        is_last = done >= self.total
        if self.is_over or (not is_last and now - self.written < LINE_EVERY):
            return
        self.written, self.is_over, seconds = now, is_last, now - self.started
        if is_last:
            rest = f"{done:,} in {_clock(seconds)}"
        else:
            left = _clock(seconds * (self.total - done) / max(done, 1))
            rest = f"{done / self.total:.0%}".replace("%", " %")
            rest += f" ({done:,} of {self.total:,}), {left} left"
        log.info("%s: %s", self.what, f"{rest}, {facts}" if facts else rest)


def _clock(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds: 0:00:07."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
