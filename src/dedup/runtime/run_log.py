"""A log file that stops at the first message it cannot write, while the run goes on."""

from __future__ import annotations

import logging
import sys

from dedup.runtime.shortages import explain_shortage


class RunLog(logging.FileHandler):
    """Handler of a log file that stops at the first message it cannot write.

    Attributes:
        error: reason for which it stopped; ``None`` while it writes.
    """

    error: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, unless an earlier one was lost."""
        if self.error is None:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Note that a message was lost; ``logging`` would print a traceback."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.error = error
        else:
            super().handleError(record)


def incomplete() -> str:
    """Describe the logs that lost messages, a line each; "" if none did."""
    logs = [handler for handler in logging.getLogger().handlers if isinstance(handler, RunLog)]
    reasons = (
        explain_shortage(handler.error, handler.baseFilename) or handler.error
        for handler in logs
        if handler.error
    )
    return "\n".join(f"the log is incomplete: {reason}" for reason in reasons)
