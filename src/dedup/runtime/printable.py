r"""Escapes for control characters in text that strangers wrote.

Ids, titles, addresses, file names and servers' answers come from others. In a terminal a control
character moves the cursor, overwrites earlier text or types the next command. U+202E and its like
reverse text, and a line end starts a line that looks like ours. Files for programs keep such text;
text for people goes through this module.
"""

from __future__ import annotations

import logging
import os
import re
from copy import copy

_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Control characters but tab and line feed, characters that reverse text, and lone surrogates."""
_CONTROLS = re.compile(f"[{_ACTING}]")
_IN_VALUES = re.compile(f"[\n{_ACTING}]")
_SYMBOLS = {**{code: 0x2400 + code for code in range(0x20)}, 0x7F: 0x2421}
"""Unicode's symbols for control characters, by code point."""


def visible(value: object) -> str:
    r"""Escape a value for one line of a terminal or log: ESC is ``\x1b``, a line feed ``\n``."""
    return _IN_VALUES.sub(_escape, str(value))


def visible_lines(text: str) -> str:
    """Escape a text of several lines, and keep its line feeds and tabs."""
    return _CONTROLS.sub(_escape, text)


def visible_json(text: str) -> str:
    r"""Escape control characters in JSON without changing its value: ESC is ``\u001b``.

    Args:
        text: output of ``json.dumps``, which has such characters only inside strings.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def visible_page(text: str) -> str:
    """Replace control characters in HTML with their symbols: ESC is U+241B, others U+FFFD."""
    return _CONTROLS.sub(lambda match: chr(_SYMBOLS.get(ord(match[0]), 0xFFFD)), text)


class Formatter(logging.Formatter):
    """Log formatter that escapes control characters and prevents forged lines.

    A message's arguments stay in its line. Further lines of a message are indented, so every line
    that begins with a time is a message of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one message without changing the record, which other handlers use too."""
        shown = copy(record)
        if isinstance(record.args, tuple):
            shown.args = tuple(map(_argument, record.args))
        first, *more = visible_lines(super().format(shown)).split("\n")
        return "\n".join([first, *(f"    {line}" if line else "" for line in more)])


def _argument(value: object) -> object:
    """Escape texts, paths and errors; keep numbers for ``%d``, and others for their ``repr``."""
    return visible(value) if isinstance(value, str | os.PathLike | BaseException) else value


def _escape(match: re.Match[str]) -> str:
    return {"\n": r"\n", "\r": r"\r"}.get(match[0]) or ascii(match[0])[1:-1]
