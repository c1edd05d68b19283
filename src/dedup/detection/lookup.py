"""Find rows of a column of texts by a hash table, in little memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

Ints = npt.NDArray[np.int64]


class Lookup:
    """Hash table from the texts of a column to their rows.

    Args:
        column: column of texts.

    Attributes:
        texts: the column as an Arrow array.
    """

    def __init__(self, column: pd.Series[str]) -> None:
        self.texts = arrow(column)
        hashes = pd.util.hash_array(column.to_numpy(object), categorize=False)
        self.order: Ints = np.argsort(hashes, kind="stable")
        self.hashes = hashes[self.order]

    def rows(self, text: str) -> Ints:
        """Return the rows of a text, ascending."""
        places = self._candidates(text)
        rows: Ints = places[np.array(taken(self.texts, places), object) == text]
        return rows

    def first(self, text: str) -> int | None:
        """Return the first row of a text, or ``None``."""
        places = self._candidates(text)
        return next((int(at) for at in places if self.texts[at].as_py() == text), None)

    def _candidates(self, text: str) -> Ints:
        if not _is_utf8(text):  # a file name may be any bytes, but an index holds UTF-8 alone
            return np.empty(0, np.int64)
        key = pd.util.hash_array(np.array([text], object), categorize=False)
        start = np.searchsorted(self.hashes, key, "left")[0]
        stop = np.searchsorted(self.hashes, key, "right")[0]
        return self.order[start:stop]


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def arrow(column: pd.Series[str]) -> pa.Array:
    """Convert a column of texts to Arrow, which takes a third of the memory of objects."""
    return pa.array(column.to_numpy(object), pa.large_string())


def taken(column: pa.Array, rows: Ints) -> list[str]:
    """Return the texts of some rows."""
    texts: list[str] = column.take(pa.array(rows)).to_pylist()
    return texts
