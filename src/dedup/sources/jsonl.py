"""Read a catalogue from lines of JSON, or from an array of objects: one product an object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeVar

from dedup.errors import SourceError
from dedup.sources.archives import open_bytes
from dedup.sources.headers import Header
from dedup.sources.json_records import JsonTable
from dedup.sources.layouts import Layout
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import watched
from dedup.sources.tables import TableSource

N_HEAD = 1_000
"""Records whose keys are known before the others are read; the settings name keys of them."""

T = TypeVar("T")


@dataclass(frozen=True)
class JsonlSource(TableSource):
    """Source that reads JSON objects: one a line, one after the other, or in one array.

    The file may be packed in a ``.gz`` or ``.zip``.

    A key is a column. Numbers stay as they are written; null and NaN are empty cells; lists and
    objects become JSON, of which ``split_addresses`` reads the addresses. An id is a text or a
    number. Lines are UTF-8.

    Args:
        path: the file.
        others: see ``TableSource``.
    """

    def _open(self, act: Callable[[Layout], T]) -> T:
        self._categories()
        path = table_path(self.path)
        with watched(path), open_bytes(path) as file:
            table = JsonTable(path, self.id_column)
            records = table.records(file)
            head = list(islice(records, N_HEAD))
            if not head:
                raise SourceError(f"{path} is empty: check source.path=")
            if not table.names:
                raise SourceError(
                    f"{path} has no JSON object with a key in its first "
                    f"{len(head):,} records: write one object on a line, or an array of objects"
                )
            if len(head) == 1 and (self.id_column not in table.names or head[0].problem):
                shown = ", ".join(map(repr, table.names))[:200]
                raise SourceError(
                    f"{path} is one JSON object, with the keys {shown}, and no list of products: "
                    "write the products as one array, or one object on a line (with pandas: "
                    "to_json(path, orient='records', lines=True)), or set source.id_column= and "
                    "source.url_column= if this is a product"
                )
            n_known = len(table.names)
            known = (
                one._replace(cells=one.cells + [""] * (n_known - len(one.cells)))
                if one.cells
                else one
                for one in head
            )
            header = Header(table.names, table.names)
            return act(Layout(path, header, chain(known, records), may_shift=False))
