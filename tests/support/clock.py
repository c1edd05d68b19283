"""An event loop whose time passes only while everything waits."""

import asyncio
import selectors
from typing import Any


class _Skipping(selectors.DefaultSelector):
    """A selector that does not wait: the time that it would have waited has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(60)  # for a thread, whose work takes real time
        self.now += timeout
        return ready


class VirtualClock(asyncio.SelectorEventLoop):
    """An event loop for code that only waits for itself: its clock jumps to what is next."""

    def __init__(self, *arguments: Any) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping, *arguments)

    def time(self) -> float:
        return self._skipping.now
