"""Bars for work that takes a while, on stderr: stdout carries results alone.

Where stderr is no terminal, such as in a log file of cron or CI, a line says now and then how far
the work is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@dataclass
class Tally:
    """How far it is.

    Attributes:
        done: rows, however they ended.
        failed: those that are not ok.
        received: bytes that came over the network.
    """

    done: int = 0
    failed: int = 0
    received: int = 0


log = logging.getLogger("dedup")

Show = Callable[[int, str], None]
"""Is told how much is done, and what else to say of it."""

REFRESH = 0.25
"""Seconds between two changes of the figures."""

LINE_EVERY = 30.0
"""Seconds between two lines where there is no terminal: few in an hour, and no long silence."""


_IS_HIDDEN = ContextVar("is_hidden", default=False)


@contextmanager
def hidden(is_hidden: bool = True) -> Iterator[None]:
    """Show no bars in this context."""
    token = _IS_HIDDEN.set(is_hidden)
    try:
        yield
    finally:
        _IS_HIDDEN.reset(token)


@contextmanager
def reading(n_images: int) -> Iterator[Callable[[Tally], None]]:
    """A bar with images and megabytes a second, failures and the time left.

    Yields:
        What is to be told how far it is.
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
def counting(what: str, total: int, unit: str = "") -> Iterator[Callable[[], None]]:
    """A bar that goes on by one each time that what it yields is called.

    Args:
        what: the work, such as "comparing candidates".
        total: how often it will be called.
        unit: what is counted, for the rate; "" shows none.
    """
    with _shown(what, total) as display:
        done, started = 0, time.monotonic()
        shown = started

        def count() -> None:
            nonlocal done, shown
            done, now = done + 1, time.monotonic()
            if now - shown < REFRESH and done < total:
                return
            shown = now
            display(done, f"{done / max(now - started, 1e-9):.0f} {unit}/s" if unit else "")

        yield count


@contextmanager
def _shown(what: str, total: int) -> Iterator[Show]:
    """A bar on a terminal or in a notebook, lines in the log elsewhere."""
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
    """A line in the log every ``LINE_EVERY`` seconds, and one at the end."""

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
    """Hours, minutes and seconds: 0:00:07."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
