r"""Text of strangers that terminals and pages would obey: made to be seen instead.

Ids, titles, addresses, names of files and answers of servers come from others. In a terminal a
control character moves the cursor, rewrites what stands there, or sets what is typed next; U+202E
and its like turn text round; a line's end starts a line that looks like ours. Files that programs
read back keep such text as it is; what a person looks at goes through this module.
"""

from __future__ import annotations

import logging
import os
import re
from copy import copy

_ACTING = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""All control characters but tab and line feed, and what turns text round; half surrogates."""
_CONTROLS = re.compile(f"[{_ACTING}]")
_IN_VALUES = re.compile(f"[\n{_ACTING}]")
_IMAGES = {**{code: 0x2400 + code for code in range(0x20)}, 0x7F: 0x2421}
"""Unicode's images of control characters, of those that have one."""


def visible(value: object) -> str:
    r"""A value as part of a line on a terminal or in a log: ESC is ``\x1b``, a line feed ``\n``."""
    return _IN_VALUES.sub(_escape, str(value))


def visible_lines(text: str) -> str:
    """The same of a text that may have several lines."""
    return _CONTROLS.sub(_escape, text)


def visible_json(text: str) -> str:
    r"""JSON of the same value without control characters: ESC is ``\u001b``.

    Args:
        text: from ``json.dumps``, which leaves them in strings alone.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def visible_page(text: str) -> str:
    """HTML whose control characters are images: ESC is U+241B; of others U+FFFD."""
    return _CONTROLS.sub(lambda found: chr(_IMAGES.get(ord(found[0]), 0xFFFD)), text)


class Formatter(logging.Formatter):
    """Writes log lines in which nothing acts, and that nothing put into them can forge.

    What a message is given as arguments stays in its line. The further lines of a message are
    indented, so that each line that begins with a time is a message of its own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One message; the record stays as it is, for other handlers."""
        shown = copy(record)
        if isinstance(record.args, tuple):
            shown.args = tuple(map(_argument, record.args))
        first, *more = visible_lines(super().format(shown)).split("\n")
        return "\n".join([first, *(f"    {line}" if line else "" for line in more)])


def _argument(value: object) -> object:
    """Numbers as they are, for ``%d``; other values show their strings in quotes, escaped."""
    return visible(value) if isinstance(value, str | os.PathLike | BaseException) else value


def _escape(found: re.Match[str]) -> str:
    return {"\n": r"\n", "\r": r"\r"}.get(found[0]) or ascii(found[0])[1:-1]
