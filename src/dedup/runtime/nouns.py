"""Numbers with their nouns, for messages, logs and reports."""

from __future__ import annotations


def counted(n: int, noun: str, nouns: str = "") -> str:
    """Write a number and its noun: 1 pair, 2,000 pairs.

    Args:
        n: the number.
        noun: the singular.
        nouns: the plural; ``noun`` and an s by default.
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {nouns or noun + 's'}"
