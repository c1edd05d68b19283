"""Order vectors by cluster, and bound the cells that a near pair can span (ClusterJoin, VLDB 2014).

Let x be in cell c and y in cell c', each nearest to the centroid of its own cell. The plane
halfway between the centroids separates x and y. So their distance is at least that of x from the
plane, ``(|x - c'|^2 - |x - c|^2) / (2 |c - c'|)``. Only where this is at most the threshold must x
be compared with c'. A vector is a stray if it lies nearer to another centroid than to its own, by
more than rounding can explain. The bound does not hold for strays, so they are compared with all.
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

PRODUCT_NS, DISTANCE_NS = 0.02, 700.0
"""Cost of one column of one comparison, and of one distance, in nanoseconds, measured on one core.
They choose among ``AXES``; any choice finds the same pairs."""

BLOCK, CHUNK = 4096, 2048
"""Rows sketched at once, and rows compared with all centroids at once."""

MAX_CROSSINGS = 64
"""Mean number of border crossings a vector; above it, every cell is compared with every other."""


class Crossings(NamedTuple):
    """Rows to compare with the members of each cell."""

    rows: Ints | npt.NDArray[np.int32]  # grouped by the cell to compare them with
    starts: Ints  # (k + 1,): where each cell's rows start
    strays: Ints  # positions of members that everything must be compared with, ascending
    edges: Ints  # positions of members that rows of higher cells may be near to, ascending

    def of(self, cell: int) -> Ints | npt.NDArray[np.int32]:
        """Return the rows that must be compared with a cell."""
        return self.rows[self.starts[cell] : self.starts[cell + 1]]

    def edge(self, members: slice) -> Ints:
        """Return the edges among a cell's members."""
        first, last = np.searchsorted(self.edges, [members.start, members.stop])
        return self.edges[first:last]


@dataclass(frozen=True)
class Cells:
    """Vectors in the order of their clusters, with a sketch of each.

    Attributes:
        vectors: (n, d), in their own order; may be memory-mapped.
        rows: (p,) int64, rows of ``vectors`` in cell order, without those of cluster -1. A
            position is an index into ``rows``.
        starts: (k + 1,) int64, position where each cell starts.
        centroids: (k, d) float64, in the frame.
        frame: origin and unit of the coordinates.
        axes: (d, m) float64, axes of the sketches.
        terms: (p, m + 3) float32 in cell order, see ``bounds.terms``.
        reach: threshold in the frame's unit.
        max_crossings: mean number of border crossings a vector, up to which borders are used.
    """

    vectors: npt.NDArray[Any]
    rows: Ints
    starts: Ints
    centroids: Floats
    frame: Frame
    axes: Floats
    terms: Vectors
    reach: float
    max_crossings: float = MAX_CROSSINGS

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
        axes = axes[:, : _cheapest_n_axes(axes, _neighbours(vectors, rows, starts, frame), reach)]

        def terms_of(start: int) -> Vectors:
            placed = frame.place(vectors[rows[start : start + BLOCK]])
            return terms(sketch(placed, axes), reach)

        table = np.empty((len(rows), axes.shape[1] + 3), np.float32)
        blocks = range(0, len(rows), BLOCK)
        for start, block in zip(blocks, in_order(terms_of, blocks), strict=True):
            table[start : start + len(block)] = block
        centres = _clip_norms(frame.place(centroids))
        return cls(vectors, rows, starts, centres, frame, axes, table, reach)

    @property
    def sizes(self) -> Ints:
        """Number of members of each cell, (k,)."""
        return np.diff(self.starts)

    def members(self, cell: int) -> slice:
        """Return the positions of a cell's members."""
        return slice(int(self.starts[cell]), int(self.starts[cell + 1]))

    def sketch(self, placed: Floats) -> Vectors:
        """Compute the terms of placed vectors, (n, m + 3)."""
        return terms(sketch(placed, self.axes), self.reach)

    @cached_property
    def borders(self) -> Crossings | None:
        """Lower cells that each position must be compared with, besides its own cell.

        The bound is symmetric. So for two cells it is enough to compare rows of the higher cell
        with edges of the lower cell. ``None`` where borders exclude so little that comparing all
        rows with all is faster.
        """
        chunks = [
            (cell, slice(start, min(start + CHUNK, stop)))
            for cell, (start, stop) in enumerate(pairwise(self.starts.tolist()))
            for start in range(start, stop, CHUNK)
        ]
        rows, targets, strays, edges, n_crossings = [], [], [], [], 0
        for (cell, chunk), crossing in zip(chunks, in_order(self._crossing, chunks), strict=True):
            row, target, stray = crossing
            edges.append(np.unique(row[target > cell]) + chunk.start)
            row, target = row[target < cell], target[target < cell]
            rows.append((row + chunk.start).astype(np.int32))
            targets.append(target.astype(np.uint16 if len(self.sizes) < 2**16 else np.int32))
            strays.append(stray + chunk.start)
            n_crossings += len(row)
            if n_crossings > self.max_crossings * len(self.rows):
                return None
        crossings = _grouped(rows, targets, strays, len(self.sizes), edges)
        return None if 4 * len(crossings.strays) > len(self.rows) else crossings

    def reached(self, placed: Floats, lossless: bool = True) -> Crossings | None:
        """Find the cells that each query must be compared with.

        Args:
            placed: queries, (q, d) in the frame.
            lossless: all cells within reach; otherwise the nearest cell alone.

        Returns:
            Rows of ``placed`` by cell; ``None`` where all queries must be compared with all rows.
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
        """Find the cells that vectors must be compared with, besides ``cell``.

        Args:
            placed: vectors, (n, d) in the frame.
            cell: any cell; the nearest cell excludes the most.

        Returns:
            Rows of ``placed`` and a further cell for each, two arrays of one length; then the
            rows that lie nearer to another centroid than to that of ``cell``.
        """
        here, squares = self.centroids[cell], self._squares
        gaps = cdist(here[None], self.centroids)[0]
        radius = cdist(here[None], placed).max()
        error = (placed.shape[1] + 16) * UNIT * 1.25
        blurs = 8 * error * (squares + squares[cell]) + TINY  # rounding error of a label, at most
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


def _clip_norms(centroids: Floats) -> Floats:
    """Clip the norms of centroids to 2, for squares that do not overflow in float32.

    Centroids lie far outside the frame when their vectors were removed. The bound holds for any
    points, so moving a centroid loses no pair.
    """
    if not np.isfinite(centroids).all():
        raise CorruptError(
            f"a centroid is not finite: the index is damaged; run {command('cluster')} again"
        )
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
    """Sample differences of two members of one cell, at most (n_pairs, d) of them."""
    rng = np.random.default_rng(0)
    left = rng.integers(0, max(len(rows), 1), n_pairs if len(rows) > 1 else 0)
    cell = np.searchsorted(starts, left, side="right") - 1
    right = rng.integers(starts[cell], starts[cell + 1])
    left, right = left[left != right], right[left != right]
    return frame.place(vectors[rows[left]]) - frame.place(vectors[rows[right]])


def _cheapest_n_axes(axes: Floats, differences: Floats, reach: float) -> int:
    """Choose the number of axes by the estimated time of sketches and distances together."""
    squares = (differences @ axes) ** 2
    choices = sorted({min(n_axes, axes.shape[1]) for n_axes in AXES})

    def cost(n_axes: int) -> float:
        within = squares[:, :n_axes].sum(axis=1) <= reach**2
        return (n_axes + 3) * PRODUCT_NS + DISTANCE_NS * float(within.sum()) / max(len(within), 1)

    cheapest: int = min(choices, key=cost)
    return cheapest
