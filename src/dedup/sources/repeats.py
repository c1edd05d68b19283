"""Find the rows of a table that repeat earlier ones, without a second copy of their texts."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.runtime.nouns import counted

_LOG = logging.getLogger("dedup")

_Hashes = npt.NDArray[np.uint32]
_Mask = npt.NDArray[np.bool_]


@dataclass
class Repeats:
    """Short hashes of requests, in their order; of equal ones the texts are compared."""

    _ids: list[_Hashes] = field(default_factory=list)
    _pairs: list[_Hashes] = field(default_factory=list)
    _open: list[_Mask] = field(default_factory=list)

    def add(self, product_ids: Sequence[str], urls: Sequence[str], statuses: Sequence[str]) -> None:
        """Note the next requests by their ids, addresses and statuses."""
        self._ids.append(_hashes(product_ids))
        self._pairs.append(_hashes([*zip(product_ids, urls, strict=True)]))
        self._open.append(np.array([not status for status in statuses], bool))

    def skip(self, requests: pd.DataFrame) -> pd.DataFrame:
        """Skip requests that repeat an earlier row: the same product and the same address.

        Args:
            requests: the requests that were noted, schema ``REQUESTS``; changed in place.
        """
        is_open = np.concatenate([*self._open, np.empty(0, bool)])
        alike = _alike(self._pairs, is_open)
        pairs = _rows(requests, ["product_id", "url"], alike)
        repeats = np.flatnonzero(alike)[pairs.duplicated()]
        if len(repeats):
            requests.loc[repeats, ["status", "reason"]] = ["skipped", "duplicate_row"]
            is_open[repeats] = False
        rows = _rows(requests, ["record", "product_id"], _alike(self._ids, is_open))
        ids = rows.drop_duplicates()["product_id"]
        if n_ids := ids[ids.duplicated()].nunique():
            what = counted(n_ids, "product id")
            _LOG.warning("%s on several rows with different images: all rows are read", what)
        return requests


def skip_further_rows(rows: pd.DataFrame, with_image: pd.Series[bool]) -> None:
    """Skip the rows without an address whose products have an image on another row.

    Args:
        rows: requests or images, with ``product_id``, ``status`` and ``reason``; changed in place.
        with_image: (n,), the rows that name an image.
    """
    lacks_image = rows["reason"].eq("no_url")
    if lacks_image.any():
        products = rows.loc[with_image, "product_id"].unique()
        rows.loc[lacks_image & rows["product_id"].isin(products), "status"] = "skipped"


def _rows(requests: pd.DataFrame, names: Sequence[str], chosen: _Mask) -> pd.DataFrame:
    """Choose rows of some columns, chunk by chunk, where pandas would copy all of a column."""
    return pd.DataFrame({name: requests[name].array[chosen] for name in names})


def _hashes(values: Sequence[Hashable]) -> _Hashes:
    return np.fromiter(map(hash, values), np.int64, len(values)).astype(np.uint32)


def _alike(chunks: Sequence[_Hashes], is_open: _Mask) -> _Mask:
    """Tell of each row whether it is open, and another open row has the same hash."""
    ordered = np.concatenate([*chunks, np.empty(0, np.uint32)])[is_open]
    ordered.sort()
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    is_alike: _Mask = np.concatenate([*(np.isin(one, several) for one in chunks), is_open[:0]])
    return is_open & is_alike
