"""Vectors ordered by cluster, and the rule that tells which clusters a near pair can lie in.

Let x be in cell c and y in cell c', each nearer to its own centroid than to the other's. The plane
halfway between the two centroids separates them, so their distance is at least that of x from the
plane, ``(|x - c'|^2 - |x - c|^2) / (2 |c - c'|)``. Only where this is at most the threshold must x
be compared with c'. Whatever lies nearer to another centroid than to its own, by more than rounding
can explain, is a stray: the rule does not hold for it, and it is compared with everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from dedup.errors import CorruptError
from dedup.runtime.invocation import command
from dedup.runtime.parallel import in_order
from dedup.search.bounds import (
    TINY,
    UNIT,
    Floats,
    Frame,
    Vectors,
    principal_axes,
    sample_of,
    sketch,
    terms,
)

Ints = npt.NDArray[np.int64]

AXES = (13, 29, 61, 125)
"""Numbers of coordinates that a sketch may keep; with its three further columns, 16 to 128."""

PRODUCT_NS, VERIFY_NS = 0.02, 700.0
"""Measured costs of one column of one comparison, and of computing one distance, in nanoseconds.
They choose among ``AXES``; any choice finds the same pairs."""

BLOCK, CHUNK = 4096, 2048
"""Rows sketched, and rows held against all centroids, at once."""

CROSSINGS = 64
"""Beyond so many border crossings a vector, on average, every cell is compared with every other."""


class Crossings(NamedTuple):
    """Which rows must be compared with the members of which cells."""

    rows: Ints | npt.NDArray[np.int32]  # grouped by the cell to compare them with
    starts: Ints  # (k + 1,): where each cell's rows start
    strays: Ints  # positions of members that everything must be compared with, ascending
    edges: Ints  # positions of members that rows of higher cells may be near to, ascending

    def of(self, cell: int) -> Ints | npt.NDArray[np.int32]:
        """The rows that must be compared with a cell."""
        return self.rows[self.starts[cell] : self.starts[cell + 1]]

    def edge(self, members: slice) -> Ints:
        """The edges among a cell's members."""
        first, last = np.searchsorted(self.edges, [members.start, members.stop])
        return self.edges[first:last]


@dataclass(frozen=True)
class Cells:
    """Vectors in the order of their clusters, with a sketch of each.

    Attributes:
        vectors: (n, d), in their own order; may be memory-mapped.
        rows: (p,) int64, rows of ``vectors`` in cell order; those of cluster -1 are left out. A
            position is a place in this order.
        starts: (k + 1,) int64: where each cell starts among ``rows``.
        centroids: (k, d) float64, in the frame.
        frame: where coordinates start, and their unit.
        axes: (d, m) float64, of the sketches.
        terms: (p, m + 3) float32, see ``sketch.terms``; in cell order.
        reach: the threshold in the frame's unit.
        most: border crossings a vector, on average, up to which borders are looked at.
    """

    vectors: npt.NDArray[Any]
    rows: Ints
    starts: Ints
    centroids: Floats
    frame: Frame
    axes: Floats
    terms: Vectors
    reach: float
    most: float = CROSSINGS

    @classmethod
    def of(
        cls, vectors: npt.NDArray[Any], clusters: Ints, centroids: Vectors, threshold: float
    ) -> Cells:
        """Order vectors, (n, d), by their clusters, (n,), and sketch them for a threshold.

        Raises:
            CorruptError: a vector or a centroid is not finite.
        """
        order = np.argsort(clusters, kind="stable")
        rows = order[np.searchsorted(clusters[order], 0) :]
        starts = np.searchsorted(clusters[rows], np.arange(len(centroids) + 1))
        sample = sample_of(vectors)
        frame = Frame.of(vectors, sample)
        reach = min(threshold * frame.scale, 4.0)  # no two lie more than 2 apart in the frame
        axes = principal_axes(frame.place(sample), min(AXES[-1], vectors.shape[1]))
        axes = axes[:, : _fewest(axes, _neighbours(vectors, rows, starts, frame), reach)]

        def sketched(start: int) -> Vectors:
            placed = frame.place(vectors[rows[start : start + BLOCK]])
            return terms(sketch(placed, axes), reach)

        table = np.empty((len(rows), axes.shape[1] + 3), np.float32)
        blocks = range(0, len(rows), BLOCK)
        for start, block in zip(blocks, in_order(sketched, blocks), strict=True):
            table[start : start + len(block)] = block
        centres = _drawn_in(frame.place(centroids))
        return cls(vectors, rows, starts, centres, frame, axes, table, reach)

    @property
    def sizes(self) -> Ints:
        """Members of each cell, (k,)."""
        return np.diff(self.starts)

    def members(self, cell: int) -> slice:
        """The positions of a cell's members."""
        return slice(int(self.starts[cell]), int(self.starts[cell + 1]))

    def sketch(self, placed: Floats) -> Vectors:
        """The terms of placed vectors, (n, m + 3)."""
        return terms(sketch(placed, self.axes), self.reach)

    @cached_property
    def borders(self) -> Crossings | None:
        """For each position the lower cells that it must be compared with besides its own.

        The rule is symmetric: of two cells, the rows of the higher one suffice, and of the members
        of the lower one those that can lie near to a higher cell. ``None`` where borders hold so
        little back that all rows are better compared with all.
        """
        chunks = [
            (cell, slice(start, min(start + CHUNK, stop)))
            for cell, (start, stop) in enumerate(pairwise(self.starts.tolist()))
            for start in range(start, stop, CHUNK)
        ]
        rows, targets, strays, edges, n_found = [], [], [], [], 0
        for (cell, chunk), crossing in zip(chunks, in_order(self._crossing, chunks), strict=True):
            row, target, stray = crossing
            edges.append(np.unique(row[target > cell]) + chunk.start)
            row, target = row[target < cell], target[target < cell]
            rows.append((row + chunk.start).astype(np.int32))
            targets.append(target.astype(np.uint16 if len(self.sizes) < 2**16 else np.int32))
            strays.append(stray + chunk.start)
            n_found += len(row)
            if n_found > self.most * len(self.rows):
                return None
        crossings = _grouped(rows, targets, strays, len(self.sizes), edges)
        return None if 4 * len(crossings.strays) > len(self.rows) else crossings

    def reached(self, placed: Floats, lossless: bool = True) -> Crossings | None:
        """For queries, (q, d) in the frame, the cells that each must be compared with.

        Args:
            placed: the queries.
            lossless: if not, each is compared with its nearest cell alone.

        Returns:
            Rows of ``placed`` by cell; ``None`` where everything must be compared with everything.
        """
        if lossless and self.borders is None:
            return None
        filled = np.flatnonzero(self.sizes)
        centres = self.centroids[filled]
        own = filled[np.argmin((centres**2).sum(axis=1) / 2 - placed @ centres.T, axis=1)]
        rows, targets = [np.arange(len(placed))], [own]
        for cell in np.unique(own) if lossless else []:
            here = np.flatnonzero(own == cell)
            row, target, _ = self.crossing(placed[here], cell)
            rows.append(here[row])
            targets.append(target)
        strays = [self.borders.strays] if lossless and self.borders else []
        return _grouped(rows, targets, strays, len(self.sizes))

    def crossing(self, placed: Floats, cell: int) -> tuple[Ints, Ints, Ints]:
        """Which cells must placed vectors, (n, d), be compared with besides one of them?

        Args:
            placed: vectors in the frame.
            cell: any; the cell that they are nearest to excludes the most.

        Returns:
            Rows of ``placed`` and the other cell for each, two arrays of one length; and the rows
            that lie nearer to another cell's centroid than to this one's.
        """
        here, squares = self.centroids[cell], self._squares
        gaps = cdist(here[None], self.centroids)[0]
        radius = cdist(here[None], placed).max()
        error = (placed.shape[1] + 16) * UNIT * 1.25
        blurs = 8 * error * (squares + squares[cell]) + TINY  # how far a label may be off
        # A cell is out of reach where the plane halfway lies beyond the whole ball.
        inside = gaps * (gaps / 2 - 1.001 * (radius + self.reach)) <= 2 * blurs
        inside[cell] = False
        near = np.flatnonzero(inside & (self.sizes > 0))
        gap, square, blur = gaps[near], squares[near], blurs[near]
        bias = (self.reach * gap + blur) * (1 + error) + error * (square + squares[cell])
        # At least 0 where (|x - c'|^2 - |x - c|^2) / 2 <= reach |c - c'|, with all rounding.
        left = np.ones((len(placed), placed.shape[1] + 2), np.float32)
        left[:, 2:] = placed
        left[:, 0] = error * (placed**2).sum(axis=1) - (placed @ here - squares[cell] / 2)
        right = np.ones((len(near), left.shape[1]), np.float32)
        right[:, 2:] = self.centroids[near]
        right[:, 1] = bias - square / 2
        score = left @ right.T
        row, column = np.nonzero(score >= 0)
        beyond = score[row, column] > (self.reach * gap + 2 * blur)[column]
        return row, near[column], np.unique(row[beyond])

    @cached_property
    def _squares(self) -> Floats:
        squares: Floats = (self.centroids**2).sum(axis=1)
        return squares

    def _crossing(self, chunk: tuple[int, slice]) -> tuple[Ints, Ints, Ints]:
        cell, positions = chunk
        return self.crossing(self.frame.place(self.vectors[self.rows[positions]]), cell)


def _drawn_in(centroids: Floats) -> Floats:
    """Centroids far outside the frame, left behind by removed vectors, drawn to near its rim.

    The rule holds for any points; the squares of these would overflow in float32.
    """
    if not np.isfinite(centroids).all():
        raise CorruptError(f"a centroid is not finite: run {command('cluster')} again")
    norms = np.sqrt((centroids**2).sum(axis=1, keepdims=True))
    inside: Floats = centroids / np.maximum(norms / 2, 1)
    return inside


def _grouped(
    rows: list[npt.NDArray[Any]],
    cells: list[npt.NDArray[Any]],
    strays: list[Ints],
    n_cells: int,
    edges: Sequence[Ints] = (),
) -> Crossings:
    cell = np.concatenate([np.empty(0, np.uint16), *cells])
    order = np.argsort(cell, kind="stable")  # a radix sort for 16 bits
    starts = np.concatenate([[0], np.bincount(cell, minlength=n_cells).cumsum()])
    row = np.concatenate([np.empty(0, np.int32), *rows])[order]
    none = np.empty(0, np.int64)
    return Crossings(row, starts, np.concatenate([none, *strays]), np.concatenate([none, *edges]))


def _neighbours(
    vectors: npt.NDArray[Any], rows: Ints, starts: Ints, frame: Frame, n_pairs: int = 8192
) -> Floats:
    """Differences of members of one cell, at most (n_pairs, d): what a sketch must tell apart."""
    rng = np.random.default_rng(0)
    left = rng.integers(0, max(len(rows), 1), n_pairs if len(rows) > 1 else 0)
    cell = np.searchsorted(starts, left, side="right") - 1
    right = rng.integers(starts[cell], starts[cell + 1])
    left, right = left[left != right], right[left != right]
    return frame.place(vectors[rows[left]]) - frame.place(vectors[rows[right]])


def _fewest(axes: Floats, differences: Floats, reach: float) -> int:
    """The number of axes at which comparing and verifying together cost least."""
    squares = (differences @ axes) ** 2
    choices = sorted({min(n_axes, axes.shape[1]) for n_axes in AXES})

    def cost(n_axes: int) -> float:
        within = squares[:, :n_axes].sum(axis=1) <= reach**2
        return (n_axes + 3) * PRODUCT_NS + VERIFY_NS * float(within.sum()) / max(len(within), 1)

    cheapest: int = min(choices, key=cost)
    return cheapest
