"""Header of a table: its columns, each with a name of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Header:
    """Columns of a table.

    Attributes:
        names: name of each column, all different.
        written: names as the table has them, which may be repeated or empty.
    """

    names: list[str]
    written: list[str]

    @classmethod
    def of(cls, written: Sequence[str], *, is_stripped: bool = False) -> Header:
        """Name the columns: the second ``image`` is ``image_2``, and empty ones ``column 4``.

        Args:
            written: names as the table has them.
            is_stripped: whether blanks round a name are no part of it.
        """
        bare = [name.strip() if is_stripped else name for name in written]
        count, taken = Counter(bare), {*bare}
        names: list[str] = []
        n_before: Counter[str] = Counter()
        for place, name in enumerate(bare, 1):
            own = f"column {place}" if not name and count[name] > 1 else name
            while n_before[name] and own in taken:
                n_before[name] += 1
                own = f"{name or 'column'}_{n_before[name]}"
            n_before[name] += not n_before[name]
            taken.add(own)
            names.append(own)
        return cls(names, [*written])

    @property
    def hint(self) -> str:
        """What to set where all names seem to stand in one; "" otherwise."""
        if len(self.names) != 1 or not re.search(r"\w\W+\w", self.names[0]):
            return ""
        return (
            " (if this is several names, set source.dialect= to the sign between them, such as "
            "source.dialect=^)"
        )

    def places(self, name: str) -> list[int]:
        """Return the positions of the columns with a name; several where it is repeated."""
        bare = [one.strip() for one in self.written]
        for names, wanted in ((self.written, name), (bare, name.strip()), (self.names, name)):
            if places := [place for place, one in enumerate(names) if one == wanted]:
                return places
        return []
