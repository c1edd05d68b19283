"""Ctrl-C and SIGTERM as a wish that is granted between two steps."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
ONE_WISH = 0.2
"""Seconds in which signals count as one: some programs send theirs to a process and its group."""


class Interrupts:
    """Notes the first signal; the second ends the process at once.

    In a ``with`` block of the main thread; elsewhere signals stay as they are.

    Args:
        heard: whether somebody asks for ``received``; if not, signals stay as they are.

    Attributes:
        received: the first signal, or ``None``.
    """

    def __init__(self, heard: bool = True) -> None:
        self.heard = heard
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
        """Take the signals, also from whoever took them in between."""
        if self._is_able():
            for number in SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is None:
            self.received, self._when = signal.Signals(number), now
        elif now - self._when > ONE_WISH:
            os.write(2, b"\nstopped at once: what is on disk is whole\n")
            os._exit(128 + number)

    def _is_able(self) -> bool:
        return self.heard and threading.current_thread() is threading.main_thread()
