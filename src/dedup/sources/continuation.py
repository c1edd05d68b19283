"""Assign rows without an id to the product above them: one row of a product for each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dedup.sources.records import Record


@dataclass
class Continuation:
    """Give rows without an id that of the product above.

    Args:
        n_fields: cells of a whole record.
        id: position of the id.
        urls: positions of the addresses.
        setting: ``True`` for each such row below a product. ``"auto"`` for rows with nothing but
            an address, right below a product that has more than that: such a row is no product
            of its own. ``False`` for none.
    """

    n_fields: int
    id: int
    urls: Sequence[int]
    setting: bool | str
    n_continued: int = 0
    _first: list[str] | None = None  # cells of the first row of the product above

    def __call__(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records, with an id where they continue a product."""
        return map(self._continued, records) if self.setting is not False else iter(records)

    def _continued(self, record: Record) -> Record:
        cells, first = record.cells, self._first
        is_whole = len(cells) == self.n_fields and not record.problem
        if is_whole and (key := cells[self.id]).strip():
            self._first = first if first and first[self.id] == key else cells
            return record
        is_continued = is_whole and first is not None and self._continues(cells, first)
        if first is None or not is_continued:
            is_blank = not record.problem and not any(map(str.strip, cells))
            self._first = first if is_blank and self.setting is True else None
            return record
        self.n_continued += 1
        return record._replace(cells=[*cells[: self.id], first[self.id], *cells[self.id + 1 :]])

    def _continues(self, cells: list[str], first: list[str]) -> bool:
        """Tell whether a row without an id continues the product above."""
        if self.setting is True:
            return any(map(str.strip, cells))
        has_address = any(cells[place].strip() for place in self.urls)
        return has_address and not self._has_facts(cells) and self._has_facts(first)

    def _has_facts(self, cells: list[str]) -> bool:
        """Tell whether a row has more than an id and addresses."""
        known = {self.id, *self.urls}
        return any(cell.strip() for place, cell in enumerate(cells) if place not in known)
