"""Counts with their nouns, for messages, logs and reports."""

from __future__ import annotations


def counted(n: int, noun: str, nouns: str = "") -> str:
    """Format a count with its noun: 1 pair, 2,000 pairs.

    Args:
        n: the count.
        noun: the singular.
        nouns: the plural; ``noun`` and an s by default.
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {nouns or noun + 's'}"
