"""Restrict comparisons to blocks: products with equal cells in a column of the user's table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Blocks:
    """Blocks of vectors; a vector of several products may be in several blocks.

    Products with a blank cell are compared with all, since their block is unknown.

    Attributes:
        members: (n, n_blocks) sparse bool, whether each vector is in each block.
        is_blank: (n,), whether a product with a blank cell has the vector.
    """

    members: sparse.csr_array
    is_blank: Bools

    @classmethod
    def of(cls, images: pd.DataFrame, cells: pd.Series[str], n_vectors: int) -> Blocks:
        """Assign the vectors of images to blocks.

        Args:
            images: rows of ``Index.images`` that take part.
            cells: cell of each product, by id, see ``block_cells``.
            n_vectors: rows of ``Index.vectors``.
        """
        vector = images["vector"].to_numpy()
        cell = images["product_id"].map(cells).fillna("").to_numpy(object)
        blank = cell == ""
        is_blank = np.zeros(n_vectors, bool)
        is_blank[vector[blank]] = True
        names, block = np.unique(cell[~blank].astype(str), return_inverse=True)
        ones = np.ones(len(block), np.int32)
        shape = (n_vectors, len(names))
        members = sparse.coo_array((ones, (vector[~blank], block)), shape=shape).tocsr()
        members.data[:] = 1
        return cls(members, is_blank)

    def at(self, rows: Ints) -> Blocks:
        """Select the blocks of some vectors, numbered by their places in ``rows``."""
        return Blocks(self.members[rows], self.is_blank[rows])

    def with_all(self, left: Ints) -> Bools:
        """Return whether vectors, (m,), may be compared with each of all vectors; (m, n)."""
        common = (self.members[left] @ self.members.T).toarray()
        return np.asarray((common > 0) | self.is_blank[left][:, None] | self.is_blank)

    def tasks(self, rows: Ints, queries: Ints | None) -> Iterator[tuple[Ints | None, Ints]]:
        """Split a comparison into tasks inside the blocks.

        Args:
            rows: vectors that take part, sorted.
            queries: vectors to compare with ``rows``; ``None`` for every two of ``rows``.

        Yields:
            Vectors and the vectors to compare them with; ``None`` for every two of the latter.
        """
        columns = self.members.tocsc()
        takes_part, is_query = np.zeros((2, len(self.is_blank)), bool)
        takes_part[rows] = True
        is_query[rows[:0] if queries is None else queries] = True
        for start, stop in zip(columns.indptr[:-1], columns.indptr[1:], strict=True):
            block = np.sort(columns.indices[start:stop]).astype(np.int64)
            yield None if queries is None else block[is_query[block]], block[takes_part[block]]
        blank = rows[self.is_blank[rows]]
        if queries is None:
            yield blank, rows
        else:
            yield queries[self.is_blank[queries]], rows
            yield queries, blank


def block_cells(products: pd.DataFrame, id_column: str, column: str) -> pd.Series[str]:
    """Return a column's cell of each product: the smallest where its rows differ, "" if blank."""
    rows = products[[id_column, column]].set_axis(["id", "cell"], axis=1).astype(str)
    blank = rows["cell"].str.strip() == ""
    cells = rows[~blank].groupby("id")["cell"].min()
    return cells.reindex(rows["id"].unique(), fill_value="")


def are_together(a: pd.Series[str], b: pd.Series[str]) -> pd.Series[bool]:
    """Return whether products with these cells, row by row, may be compared."""
    return (a == b) | (a == "") | (b == "")
