"""Suggestions of the name that was meant, for messages about unknown names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wrong: str, names: Iterable[str]) -> str | None:
    """Find the name that is most like a wrong one, in any case; ``None`` if none is like it."""
    folded = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(wrong.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def meant(wrong: str, names: Iterable[str]) -> str:
    """Ask whether the nearest name was meant, as ``; did you mean NAME?``; "" if none is near."""
    near = nearest(wrong, names)
    return f"; did you mean {near}?" if near else ""
