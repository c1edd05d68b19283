"""The log in a run's folder; where it cannot be written the run goes on, and says so at its end."""

from __future__ import annotations

import logging
import sys

from dedup.runtime.shortages import explain_shortage


class RunLog(logging.FileHandler):
    """A file of messages, up to the first that cannot be written.

    Attributes:
        error: why it could not.
    """

    error: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message, unless one was lost already."""
        if self.error is None:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Note that a message was lost; ``logging`` would print where, line by line."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.error = error
        else:
            super().handleError(record)


def incomplete() -> str:
    """What is to be said of logs that are not whole; "" where all are."""
    lost = [it for it in logging.getLogger().handlers if isinstance(it, RunLog) and it.error]
    reasons = (
        str(explain_shortage(it.error, it.baseFilename) or it.error) for it in lost if it.error
    )
    return "\n".join(f"the log is not whole: {reason}" for reason in reasons)
