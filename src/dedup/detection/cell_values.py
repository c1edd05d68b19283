"""Read numbers and truths from the cells of a user's table, as shops of many countries write them.

One column is read in one notation: its cells together tell whether a comma or a point begins the
decimals, so that 1.299,00 is not less than 999,00.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import Final

import pandas as pd

log = logging.getLogger("dedup")

YES: Final = frozenset(
    {
        *("true", "t", "1", "yes", "y", "x", "on", "active", "available", "published"),
        *("in stock", "in_stock", "instock", "auf lager", "en stock"),
        *("ja", "j", "oui", "o", "si", "sí", "sim", "s", "tak", "ano", "evet"),
    }
)
"""Cells that count as true, in lower case; a number above 0 does, too."""

NO: Final = frozenset(
    {
        *("", "-", "false", "f", "0", "no", "n", "off", "inactive", "unavailable", "draft"),
        *("archived", "backorder", "onbackorder", "preorder", "sold out", "ausverkauft"),
        *("out of stock", "out_of_stock", "outofstock", "nicht auf lager"),
        *("nein", "non", "nee", "não", "nao", "nie", "ne"),
    }
)
"""Cells that count as false, in lower case; a number that is not above 0 does, too."""

_BETWEEN = re.compile(r"(?<=\d)[\s'\u2019](?=\d{3}(?!\d))")
"""A sign between thousands."""
_AROUND = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
"""Blanks between a number and its currency."""
_AMOUNT = re.compile(
    r"([^\d.,+-]*)([+-]?[\d.,]*\d[\d.,]*(?:e[+-]?\d+)?)([^\d.,+-]*)", re.IGNORECASE
)
_CURRENCY = re.compile(r"[a-z]{3}|[^\w]{1,2}|zł|kč|kr\.?|лв\.?|r\$|us\$|rs\.?", re.IGNORECASE)
POINT, COMMA = ".", ","


def numbers_of(
    cells: pd.Series[str], column: str, setting: str = "grouping.keep"
) -> pd.Series[float]:
    """Read the cells of one column as numbers; NaN where a cell is none.

    ``1,299.00``, ``1.299,00``, ``1 299,00``, ``€ 12``, ``12,99 EUR`` and ``1e3`` are numbers. A
    comma or a point begins the decimals if it comes after the other sign, stands once and is not
    followed by three digits; what most cells tell holds for the column. Where no cell tells, a
    point does and a comma does not. Cells in another currency than most are no numbers.

    Args:
        cells: (n,) texts without blanks around them.
        column: name of the column, for messages.
        setting: the setting that needs the numbers, for messages.

    Returns:
        (n,) int64 where all are whole, else float64.
    """
    plain = pd.to_numeric(cells, errors="coerce")
    if plain.notna().all():
        return plain
    amounts = [_AMOUNT.fullmatch(_AROUND.sub("", _BETWEEN.sub("", cell))) for cell in cells]
    units = [_unit(match) for match in amounts]
    counts = Counter(unit for unit in units if unit)
    usual = counts.most_common(1)[0][0] if counts else ""
    bodies = [
        match[2] if match and unit in ("", usual) else ""
        for match, unit in zip(amounts, units, strict=True)
    ]
    votes = Counter(filter(None, map(_decimal_sign, bodies)))
    sign = COMMA if votes[COMMA] > votes[POINT] else POINT
    if sign == COMMA:
        shown = next(
            cell for cell, body in zip(cells, bodies, strict=True) if _decimal_sign(body) == COMMA
        )
        log.info(
            "%s: numbers in the column %s have a decimal comma, such as %r",
            setting,
            column,
            shown,
        )
    return pd.to_numeric(
        pd.Series([_in_plain(body, sign) for body in bodies], cells.index), errors="coerce"
    )


def truths_of(cells: pd.Series[str], column: str) -> pd.Series[bool]:
    """Read the cells of one column as true or false; a warning names one that says neither.

    Args:
        cells: (n,) texts without blanks around them.
        column: name of the column, for messages.
    """
    folded = cells.str.casefold()
    numbers = pd.to_numeric(folded, errors="coerce")
    is_true = folded.isin(YES) | (numbers > 0)
    is_unknown = ~is_true & ~folded.isin(NO) & numbers.isna()
    if is_unknown.any():
        log.warning(
            "grouping.keep: %d of %d cells in the column %s say neither yes nor no, such as %r: "
            "they count as no", int(is_unknown.sum()), len(cells), column,
            cells[is_unknown].iloc[0][:40],
        )  # fmt: skip
    return is_true


def _unit(match: re.Match[str] | None) -> str | None:
    """Return the currency of an amount, "" without one; ``None`` where it is no amount."""
    if match is None or (match[1] and match[3]):
        return None
    unit = (match[1] or match[3]).casefold()
    return unit if not unit or _CURRENCY.fullmatch(unit) else None


def _decimal_sign(body: str) -> str:
    """Tell which sign begins the decimals of a number; "" where its text does not tell."""
    last = max(body.rfind(POINT), body.rfind(COMMA))
    if last < 0 or "e" in body.casefold():
        return ""
    sign, other = (POINT, COMMA) if body[last] == POINT else (COMMA, POINT)
    if body.count(sign) > 1:
        return "" if other in body else other
    return sign if other in body or len(body) - last != 4 else ""


def _in_plain(body: str, sign: str) -> str:
    """Rewrite a number with a decimal point; "" where its signs contradict the column's."""
    other = COMMA if sign == POINT else POINT
    whole, _, decimals = body.partition(sign)
    is_one = sign not in decimals and other not in decimals
    if not is_one or not _are_thousands(whole.lstrip("+-").split(other)):
        return ""
    return body.replace(other, "").replace(sign, POINT)


def _are_thousands(groups: list[str]) -> bool:
    """Tell whether digits are grouped by thousands, or in the Indian way as 1,00,000."""
    first, *others = map(len, groups)
    is_indian = first <= 2 and set(others[:-1]) == {2} and others[-1] == 3
    return not others or is_indian or (1 <= first <= 3 and set(others) == {3})
