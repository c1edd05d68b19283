"""Deferred Ctrl-C and SIGTERM: noted at once, obeyed between two steps."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
"""Signals that are deferred, with their names in messages."""
SAME_SIGNAL = 0.2
"""Seconds in which signals count as one: some programs signal a process and then its group."""


class Interrupts:
    """Handlers that note the first signal, and end the process at the second.

    For a ``with`` block of the main thread; other threads leave the handlers unchanged.

    Args:
        is_active: whether to install the handlers.

    Attributes:
        received: the first signal, or ``None``.
    """

    def __init__(self, is_active: bool = True) -> None:
        self.is_active = is_active
        self.received: signal.Signals | None = None
        self._when = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_able():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def listen(self) -> None:
        """Install the handlers, also over those that a library installed in between."""
        if self._is_able():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._when = signal.Signals(number), now
        elif now - self._when > SAME_SIGNAL:
            os.write(2, b"\nstopped at once: all files on disk are complete\n")
            os._exit(128 + number)

    def _is_able(self) -> bool:
        return self.is_active and threading.current_thread() is threading.main_thread()
