"""Check and compare Global Trade Item Numbers: EAN-8, UPC-A, EAN-13 and GTIN-14."""

from __future__ import annotations

import re

LENGTHS = (8, 12, 13, 14)
"""Digits that a GTIN may have."""

_COLUMN = re.compile(r"(?<![a-z])(?:gtin|ean|upc|barcode|isbn)(?:[\W_]*\d+)?(?![a-z])")
_BETWEEN = re.compile(r"[\s\-\u2010-\u2015]")


def read_gtin(cell: str) -> str:
    """Return a GTIN as 14 digits, zeros before it; "" for anything else.

    The last digit must be the check digit of GS1: from the right, digits weigh 3 and 1 in turn
    (GS1 General Specifications, section 7.9). Blanks and hyphens between digits do not count.
    """
    digits = _BETWEEN.sub("", cell)
    if len(digits) not in LENGTHS or not (digits.isascii() and digits.isdecimal()):
        return ""
    if not digits.strip("0"):
        return ""
    weighed = sum(
        int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(digits[-2::-1])
    )
    return digits.zfill(14) if (weighed + int(digits[-1])) % 10 == 0 else ""


def is_gtin_column(name: str) -> bool:
    """Tell by its name whether a column holds GTINs, such as ``gtin`` or ``Variant Barcode``."""
    return _COLUMN.search(name.casefold()) is not None
