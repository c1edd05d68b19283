"""Look texts up in columns of texts; pandas takes seconds for a million of Arrow's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc


def texts_of(column: pd.Series[str]) -> pa.Array:
    """Convert a column of texts to one Arrow array."""
    array = pa.array(column, type=pa.large_string(), from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def mergeable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that pandas can merge: it fails on texts of an empty table from a file."""
    return table if len(table) else pd.DataFrame(columns=table.columns, dtype=object)


def joined(first: pd.Series[str], second: pd.Series[str]) -> pa.Array:
    """Join two columns to keys, one for each row; no text of ours holds the sign between."""
    between = pa.scalar("\0", pa.large_string())
    return pc.binary_join_element_wise(texts_of(first), texts_of(second), between)


def is_in(values: pd.Series[str], known: pd.Series[str]) -> npt.NDArray[np.bool_]:
    """Tell which texts are in another column."""
    found = pc.is_in(texts_of(values), value_set=texts_of(known))
    flags: npt.NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
    return flags
