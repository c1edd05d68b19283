"""Bars for work that takes a while, on stderr: stdout carries results alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dedup.ingest import Tally

REFRESH = 0.25
"""Seconds between two changes of the figures."""


_IS_HIDDEN = ContextVar("is_hidden", default=False)


@contextmanager
def hidden(is_hidden: bool = True) -> Iterator[None]:
    """Show no bars in this context."""
    token = _IS_HIDDEN.set(is_hidden)
    try:
        yield
    finally:
        _IS_HIDDEN.reset(token)


def console() -> Console:
    """Where bars are shown: stderr, or the notebook; nowhere in ``hidden``."""
    return Console(stderr=True, quiet=_IS_HIDDEN.get())


@contextmanager
def reading(n_pictures: int) -> Iterator[Callable[[Tally], None]]:
    """A bar with pictures and megabytes a second, failures and the time left.

    Yields:
        What is to be told how far it is.
    """
    with _bar() as progress:
        task = progress.add_task("reading pictures", total=n_pictures, facts="")
        started = shown = time.monotonic()

        def show(tally: Tally) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < REFRESH and tally.done < n_pictures:
                return
            shown, seconds = now, max(now - started, 1e-9)
            facts = f"{tally.done / seconds:.0f} pictures/s"
            if tally.received:
                facts += f", {tally.received / seconds / 1e6:.1f} MB/s"
            if tally.failed:
                facts += f", {tally.failed} failed"
            progress.update(task, completed=tally.done, facts=facts)

        yield show


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar that goes on by one each time that what it yields is called."""
    with _bar() as progress:
        task = progress.add_task(what, total=total, facts="")
        yield lambda: progress.advance(task)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
        console=console(),
    )
