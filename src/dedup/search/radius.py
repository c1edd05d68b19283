"""Lossless radius search: all pairs of embeddings within an L2 distance, with few comparisons.

Clusters save comparisons and decide nothing. A row is compared inside its cell and with every cell
that the bound in ``dedup.search.cells`` cannot exclude. Sketches propose pairs
(``dedup.search.bounds``), and the direct difference in float64 decides. Besides the vectors, memory
holds one sketch a vector, the border crossings (bounded) and the current blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.errors import ConfigError
from dedup.runtime.parallel import in_order
from dedup.search.bounds import TINY, UNIT, Vectors, mirrored
from dedup.search.cells import BLOCK, Cells, Crossings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Found = tuple[Ints, Ints, Floats]
NOTHING: Found = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))

ROWS, COLUMNS = 256, 1024
"""Shape of a block of scores: 1 MiB, chosen to stay in a core's cache."""

CHUNK = 1024
"""Rows of one job."""

BATCH = 2048
"""Proposed pairs whose distances are computed at once."""


class Matches(NamedTuple):
    """Pairs of rows within the threshold, sorted by both.

    Attributes:
        left: (n,) int64.
        right: (n,) int64.
        distance: (n,) float64, L2, lower is closer.
        comparisons: number of pairs that were compared, each counted once however often a search
            meets it. After a lossless search, every other pair is farther apart than the threshold.
    """

    left: Ints
    right: Ints
    distance: Floats
    comparisons: int


class RadiusSearch:
    """Find all pairs of vectors within an L2 threshold.

    Args:
        threshold: L2 distance, lower is closer. 0 matches nothing here, since ``exact_pairs``
            finds equal images by their digests. ``auto`` must be replaced by a number, with
            ``at``, before vectors are compared.
        lossless: compare across the borders of clusters wherever a pair can lie; otherwise only
            inside each cluster, as the original experiment did.
        max_pairs: number of pairs above which the search ends with an error.
        precision: wanted share of true duplicates among the reported pairs, for ``auto``.
        variants: treatment of pairs that differ in colour alone, with a verifier: ``separate``
            reports them apart, ``merge`` as duplicates, ``ignore`` not at all.
    """

    def __init__(
        self,
        threshold: float | str = 0.0,
        lossless: bool = True,
        max_pairs: int = 50_000_000,
        precision: float = 0.99,
        variants: str = "separate",
    ) -> None:
        self.threshold = threshold
        self.lossless = lossless
        self.max_pairs = max_pairs
        self.precision = precision
        self.variants = variants

    def at(self, threshold: float) -> RadiusSearch:
        """Return a copy of this search with a numeric threshold."""
        return RadiusSearch(threshold, self.lossless, self.max_pairs, self.precision, self.variants)

    def prepare(self, vectors: npt.NDArray[Any], clusters: Ints, centroids: Vectors) -> Prepared:
        """Order and sketch vectors for a search.

        Args:
            vectors: (n, d), finite; may be memory-mapped.
            clusters: (n,), cluster of each; -1 is compared with no vector. Nearest centroids make
                the search fastest; a lossless result does not depend on them.
            centroids: (k, d).

        Raises:
            CorruptError: a vector is not finite.
        """
        threshold = float(self.threshold)
        cells = Cells.of(vectors, clusters, centroids, threshold)
        return Prepared(cells, threshold, self.lossless, self.max_pairs)


class Side(NamedTuple):
    """Vectors with their sketches: the left or right side of a comparison."""

    terms: Vectors  # (p, m + 3), see ``bounds.terms``
    vectors: npt.NDArray[Any]  # (n, d)
    rows: Ints  # (p,): the row of ``vectors`` that each sketch belongs to


class Job(NamedTuple):
    """Positions on the left side, and those on the right to compare them with."""

    left: npt.NDArray[Any]
    right: slice | Ints
    below: bool = False  # only pairs with right < left: a side is compared with itself


@dataclass(frozen=True)
class Prepared:
    """Vectors ready to be searched; made by ``RadiusSearch.prepare``."""

    cells: Cells
    threshold: float
    lossless: bool
    max_pairs: int

    def pairs(self) -> Matches:
        """Find every pair of vectors within the threshold, ``left < right``.

        Raises:
            ConfigError: there are more than ``max_pairs``.
        """
        cells, sizes, n = self.cells, self.cells.sizes, len(self.cells.rows)
        if not self.threshold > 0 or n < 2:
            return self._run(self._side, [], 0, ordered)
        inside = [_inside(cells.members(cell)) for cell in np.flatnonzero(sizes > 1).tolist()]
        within = int((sizes * (sizes - 1) // 2).sum())
        if not self.lossless:
            return self._run(self._side, chain(*inside), within, ordered)
        borders = cells.borders
        if borders is None:
            return self._run(self._side, _inside(slice(0, n)), n * (n - 1) // 2, ordered)
        edges = [borders.edge(cells.members(cell)) for cell in range(len(sizes))]
        crossing = [_across(borders.of(cell), edge) for cell, edge in enumerate(edges)]
        strays = _across(np.arange(n), borders.strays)
        compared = _n_distinct(borders, edges, self._strays_of(borders), sizes)
        return self._run(self._side, chain(*inside, *crossing, strays), compared, ordered)

    def search(self, queries: npt.NDArray[Any]) -> Matches:
        """Find every pair of a query and a vector within the threshold.

        Args:
            queries: (q, d).

        Returns:
            Rows of ``queries`` as ``left``, rows of the vectors as ``right``.

        Raises:
            ConfigError: there are more pairs than ``max_pairs``.
        """
        placed = self.cells.frame.place(queries)
        is_inside = np.sqrt((placed**2).sum(axis=1)) <= 2
        inside, outside = np.flatnonzero(is_inside), np.flatnonzero(~is_inside)
        side = Side(self.cells.sketch(placed[inside]), queries, inside)
        n, sizes = len(self.cells.rows), self.cells.sizes
        if not self.threshold > 0 or not n:
            return self._run(side, [], 0, _unique)
        compared = n * len(outside)
        far = chain.from_iterable(self._far(queries, row) for row in outside.tolist())
        reached = self.cells.reached(placed[inside], self.lossless)
        if reached is None:
            jobs = _across(np.arange(len(inside)), slice(0, n))
            return self._run(side, jobs, compared + n * len(inside), _unique, far)
        pieces = ((reached.of(cell), self.cells.members(cell)) for cell in range(len(sizes)))
        settled = sizes - self._strays_of(reached)  # strays are counted once, with all queries
        compared += int((np.diff(reached.starts) * settled).sum())
        compared += len(inside) * len(reached.strays)
        jobs = chain(*_merged(pieces), _across(np.arange(len(inside)), reached.strays))
        return self._run(side, jobs, compared, _unique, far)

    def missed(self, matches: Matches, n_sample: int = 5000) -> float:
        """Estimate the number of pairs that a search within clusters missed.

        An evenly spaced sample of the vectors is compared with all others, losslessly; its
        missing pairs are scaled up to all vectors.
        """
        if not self.threshold > 0:
            return 0.0
        cells = self.cells
        sample = np.arange(0, len(cells.rows), max(1, len(cells.rows) // n_sample))
        every = Prepared(cells, self.threshold, True, self.max_pairs)
        rows = cells.rows[sample]
        n_true = len(every.search(cells.vectors[rows]).left) - len(rows)  # each finds itself
        n_found = np.isin(matches.left, rows).sum() + np.isin(matches.right, rows).sum()
        return float((n_true - n_found) * len(cells.rows) / max(len(rows), 1) / 2)

    def _strays_of(self, crossings: Crossings) -> Ints:
        """Count the strays in each cell, (k,)."""
        strays: Ints = np.diff(np.searchsorted(crossings.strays, self.cells.starts))
        return strays

    @property
    def _side(self) -> Side:
        return Side(self.cells.terms, self.cells.vectors, self.cells.rows)

    def _far(self, queries: npt.NDArray[Any], row: int) -> Iterator[Found]:
        """Compare a query outside the frame with all vectors, since sketches do not bound it."""
        for start in range(0, len(self.cells.rows), BLOCK):
            rows = self.cells.rows[start : start + BLOCK]
            distance = l2_distance(self.cells.vectors[rows], queries[row])
            near = distance <= self.threshold
            yield np.full(near.sum(), row), rows[near], distance[near]

    def _run(
        self,
        left: Side,
        jobs: Iterable[Job],
        comparisons: int,
        tidy: Callable[[Matches], Matches],
        more: Iterable[Found] = (),
    ) -> Matches:
        """Run the jobs, add ``more``, and keep each pair once."""
        parts, n_pairs = [NOTHING], 0
        for part in chain(in_order(lambda job: self._compare(left, job), jobs), more):
            parts.append(part)
            n_pairs += len(part[0])
            if n_pairs > self.max_pairs:  # count again without repeated pairs
                parts = [tidy(_joined(parts, comparisons))[:3]]
                n_pairs = len(parts[0][0])
            if n_pairs > self.max_pairs:
                raise ConfigError(
                    f"more than {self.max_pairs:,} pairs lie within matcher.threshold="
                    f"{self.threshold:g}, the limit of matcher.max_pairs: lower the threshold, or "
                    "raise the limit"
                )
        return tidy(_joined(parts, comparisons))

    def _compare(self, left: Side, job: Job) -> Found:
        """Find the near pairs of a job, as rows of the vectors."""
        here = self._side
        parts = [NOTHING]
        for i, j in _batches(_proposed(left.terms, here.terms, job)):
            row, other = left.rows[i], here.rows[j]
            distance = l2_within(left.vectors[row], here.vectors[other], self.threshold)
            near = distance <= self.threshold
            parts.append((row[near], other[near], distance[near]))
        return _joined(parts, 0)[:3]


def _n_distinct(borders: Crossings, edges: Sequence[Ints], strays: Ints, sizes: Ints) -> int:
    """Count the pairs that a search within cells, across borders and with strays compares.

    A stray meets the members of its own cell and of its neighbours twice.

    Args:
        borders: of the cells.
        edges: of each cell, see ``Crossings.edge``.
        strays: number in each cell, (k,).
        sizes: of the cells, (k,).
    """
    n_strays, settled = len(borders.strays), sizes - strays
    within = int((settled * (settled - 1) // 2).sum())
    across = 0
    for cell, edge in enumerate(edges):
        sides = (np.isin(side, borders.strays, invert=True) for side in (borders.of(cell), edge))
        rows, members = (int(side.sum()) for side in sides)
        across += rows * members
    return within + across + n_strays * int(settled.sum()) + n_strays * (n_strays - 1) // 2


def _joined(parts: Iterable[Found], comparisons: int) -> Matches:
    i, j, distance = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Matches(i, j, distance, comparisons)


def l2_distance(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Floats:
    """Compute L2 distances of rows, (n, d) and (n, d) or (d,), by differences in float64."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    distance: Floats = np.sqrt((difference**2).sum(axis=-1))
    return distance


def l2_within(a: Vectors, b: Vectors, threshold: float) -> Floats:
    """Compute ``l2_distance`` of rows, (n, d) and (n, d), or infinity beyond the threshold.

    Float32 vectors are first compared in float32. The relative error of that difference is some
    ``d u`` at most, so pairs clearly beyond the threshold need no float64.
    """
    distance = np.full(len(a), np.inf)
    with np.errstate(over="ignore"):  # an infinite limit lets all through
        difference = np.subtract(a, b, dtype=np.result_type(a, b, np.float32))
        rough = np.einsum("ij,ij->i", difference, difference)
        square = np.square(np.float64(threshold))
        limit = np.float32(square * (1 + 4 * (a.shape[1] + 8) * UNIT) + TINY)
    close = np.flatnonzero(~(rough > limit))
    distance[close] = l2_distance(a[close], b[close])
    return distance


def _inside(members: slice) -> Iterator[Job]:
    """Make jobs that compare every two members once."""
    for start in range(members.start, members.stop, CHUNK):
        stop = min(start + CHUNK, members.stop)
        yield Job(np.arange(start, stop), slice(members.start, stop), below=True)


def _across(rows: npt.NDArray[Any], members: slice | Ints) -> Iterator[Job]:
    """Make jobs that compare every row with every member."""
    if isinstance(members, slice) or len(members):
        for start in range(0, len(rows), CHUNK):
            yield Job(rows[start : start + CHUNK], members)


def _merged(pieces: Iterable[tuple[npt.NDArray[Any], slice]]) -> Iterator[Iterator[Job]]:
    """Apply ``_across`` to each piece, after joining adjacent cells that have the same rows."""
    held: tuple[npt.NDArray[Any], slice] | None = None
    for rows, members in pieces:
        if held and held[1].stop == members.start and np.array_equal(held[0], rows):
            held = rows, slice(held[1].start, members.stop)
            continue
        if held:
            yield _across(*held)
        held = rows, members
    if held:
        yield _across(*held)


def _proposed(left: Vectors, right: Vectors, job: Job) -> Iterator[tuple[Ints, Ints]]:
    """Propose pairs that can lie within the threshold, block by block, as positions."""
    for start in range(0, len(job.left), ROWS):
        rows = job.left[start : start + ROWS]
        block = left[rows]
        members = job.right
        if isinstance(members, slice):
            stop = min(members.stop, int(rows[-1])) if job.below else members.stop
            members = slice(members.start, stop)
        for place, first in _columns(members):
            score = block @ mirrored(right[place]).T
            i, j = np.divmod(np.flatnonzero(score >= 0), score.shape[1])
            i, j = rows[i].astype(np.int64), place[j] if first is None else j + first
            yield (i[j < i], j[j < i]) if job.below else (i, j)


def _columns(members: slice | Ints) -> Iterator[tuple[Any, int | None]]:
    """Split members into blocks; with its first position where a block is a range."""
    if isinstance(members, slice):
        for start in range(members.start, members.stop, COLUMNS):
            yield slice(start, min(start + COLUMNS, members.stop)), start
    else:
        for start in range(0, len(members), COLUMNS):
            yield members[start : start + COLUMNS], None


def _batches(proposed: Iterable[tuple[Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
    """Regroup pairs into batches of at most ``BATCH``."""
    held: list[tuple[Ints, Ints]] = []
    n_held = 0
    for pair in proposed:
        held.append(pair)
        n_held += len(pair[0])
        if n_held >= BATCH:
            yield from _split(held)
            held, n_held = [], 0
    yield from _split(held)


def _split(held: list[tuple[Ints, Ints]]) -> Iterator[tuple[Ints, Ints]]:
    if held:
        i, j = (np.concatenate(column) for column in zip(*held, strict=True))
        for start in range(0, len(i), BATCH):
            yield i[start : start + BATCH], j[start : start + BATCH]


def ordered(matches: Matches) -> Matches:
    """Put the smaller row first, drop rows matched with themselves, and keep each pair once."""
    apart = matches.left != matches.right
    low, high = np.minimum(matches.left, matches.right), np.maximum(matches.left, matches.right)
    return _unique(Matches(low[apart], high[apart], matches.distance[apart], matches.comparisons))


def _unique(matches: Matches) -> Matches:
    """Sort pairs by both rows and keep each once."""
    order = np.lexsort([matches.right, matches.left])
    left, right = matches.left[order], matches.right[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(left) != 0) | (np.diff(right) != 0)
    return Matches(left[first], right[first], matches.distance[order][first], matches.comparisons)
