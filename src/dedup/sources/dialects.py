"""Dialect of a table's text: what stands between its fields, around them and above its header."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from dedup.errors import ConfigError

AUTO = "auto"
"""Setting of a dialect that is found out."""
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""Words for what stands between fields."""
QUOTES = ("doubled", "backslash", "single", "unquoted")
"""Words for how a quote inside a field is written; ``single``: fields stand in ``'``."""
WORDS = f"{', '.join([*DELIMITERS, *QUOTES])}, blanks, header:LINE"
"""All words of the setting, for messages."""

_PAIR = re.compile(r"\\(.?)", re.DOTALL)
_MISSING = r"\N"
"""Cell that MySQL and PostgreSQL write for a missing value."""


@dataclass(frozen=True)
class Dialect:
    r"""How the text of a table is read.

    Attributes:
        delimiter: sign between fields.
        quoting: one of ``QUOTES``. With ``backslash`` a backslash makes a quote, a delimiter, a
            line break and a backslash part of a field; before other signs it is one itself.
        has_blanks: whether blanks after a delimiter are no part of a field.
        header: line of the header, counted from 1; 0 for the first that is not empty.
        n_surplus: empty fields at the end of each record that the header does not name.
        is_padded: whether blanks before a delimiter are no part of a field either.
        is_guess: whether the quoting was found out, so that the file may contradict it.
        may_lack_quotes: whether quotes may be part of fields: tables with tabs are written so, too.
    """

    delimiter: str = ","
    quoting: str = "doubled"
    has_blanks: bool = False
    header: int = 0
    n_surplus: int = 0
    is_padded: bool = False
    is_guess: bool = False
    may_lack_quotes: bool = False

    @cached_property
    def format(self) -> dict[str, Any]:
        """Arguments of ``csv.reader``."""
        return {
            "delimiter": self.delimiter,
            "quotechar": None if self.quoting == "unquoted" else self._quote,
            "quoting": csv.QUOTE_NONE if self.quoting == "unquoted" else csv.QUOTE_MINIMAL,
            "escapechar": "\\" if self.quoting == "backslash" else None,
            "doublequote": True,  # MySQL's reader takes both
            "skipinitialspace": self.has_blanks,
        }

    @property
    def _quote(self) -> str:
        return "'" if self.quoting == "single" else '"'

    @property
    def words(self) -> list[str]:
        """Words of the setting that ask for this dialect, as far as it is no plain CSV."""
        names = {sign: name for name, sign in DELIMITERS.items()}
        words = [] if self.delimiter == "," else [names.get(self.delimiter, self.delimiter)]
        words += [] if self.quoting == "doubled" else [self.quoting]
        words += ["blanks"] if self.has_blanks else []
        return words + ([f"header:{self.header}"] if self.header else [])

    def unescaped(self, line: str) -> str:
        """Double the backslashes of a line that escape nothing, so that ``csv`` keeps them."""
        if self.quoting != "backslash" or "\\" not in line:
            return line
        return _PAIR.sub(self._pair, line)

    def _pair(self, pair: re.Match[str]) -> str:
        return pair[0] if self._escapes(pair[1]) else f"\\\\{pair[1]}"

    def _escapes(self, sign: str) -> bool:
        return sign != "" and sign in f'"\\\r\n{self.delimiter}'

    def backslashes(self, line: str) -> tuple[bool, bool]:
        """Tell whether a line escapes a backslash, and whether a backslash escapes nothing."""
        signs = [sign for sign in _PAIR.findall(line) if sign != "N"]
        return "\\" in signs, any(not self._escapes(sign) for sign in signs)

    def cells(self, cells: list[str]) -> list[str]:
        """Empty the cells that stand for missing values, and strip those that were padded."""
        cells = [cell.strip(" ") for cell in cells] if self.is_padded else cells
        is_as_before = self.is_guess and self.delimiter == ","
        if self.quoting != "backslash" or _MISSING not in cells or is_as_before:
            return cells
        return ["" if cell == _MISSING else cell for cell in cells]


@dataclass(frozen=True)
class Asked:
    """Dialect as far as a user sets it; ``None`` for what is found out."""

    delimiter: str | None = None
    quoting: str | None = None
    has_blanks: bool | None = None
    header: int | None = None

    def applied(self, dialect: Dialect) -> Dialect:
        """Return a dialect with what is set."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(dialect, **given)


def is_quoted(cell: str) -> bool:
    """Tell whether a cell of a table without quotes stands in quotes."""
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def listed(words: Sequence[str]) -> str:
    """Write words as the value of ``source.dialect``."""
    return words[0] if len(words) == 1 else f"[{','.join(words or ['comma'])}]"


def parse_words(setting: str | Sequence[str]) -> Asked:
    """Parse ``source.dialect``: ``auto``, or words of which each sets one thing.

    Raises:
        ConfigError: a word is unknown, or two contradict each other.
    """
    words = [setting] if isinstance(setting, str) else [*setting]
    found: dict[str, Any] = {}
    for word in words:
        for name, value in _meaning(word).items():
            if found.setdefault(name, value) != value:
                raise ConfigError(f"source.dialect={setting}: {word!r} contradicts another word")
    return Asked(**found)


def _meaning(word: str) -> dict[str, Any]:
    if word == AUTO:
        return {}
    if word in DELIMITERS:
        return {"delimiter": DELIMITERS[word]}
    if word in QUOTES:
        return {"quoting": word}
    if word == "blanks":
        return {"has_blanks": True}
    if len(word) == 1 and word.isascii() and word.isprintable() and word not in "\"'\\ ":
        if not word.isalnum():
            return {"delimiter": word}
    elif line := re.fullmatch(r"header:([1-9]\d{0,8})", word):
        return {"header": int(line[1])}
    raise ConfigError(
        f"source.dialect={word}: there is no such word. Use auto, or words such as "
        f"[semicolon,backslash]: {WORDS}"
    )
