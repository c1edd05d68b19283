"""Embeddings of made-up catalogues, drawn block by block straight into a file of any size.

Every row is new or a copy: a new row of an earlier block (of its own, in the first one) and a small
displacement. Copies stand at random places, so that nothing need be shuffled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Draw = Callable[[np.random.Generator, int], Vectors]

BLOCK = 65_536
NEW, COPIES, QUERIES = range(3)
"""What a seed is for."""

PRECISIONS = (0.99, 0.9)
"""The real embeddings are searched at the thresholds of these."""


@dataclass(frozen=True)
class Catalogue:
    """How rows are drawn.

    Attributes:
        n: rows.
        dimension: d.
        copies: share of the rows that are copies.
        new: draws new rows, (count, d).
        displacement: draws what lies between a row and its copy, (count, d).
        seed: of all draws; the same rows for the same seed.
    """

    n: int
    dimension: int
    copies: float
    new: Draw
    displacement: Draw
    seed: int = 0

    def write(self, path: Path) -> Path:
        """Write the rows, (n, d) float32, as ``.npy``; holds one block of them at a time."""
        copied = np.random.default_rng((self.seed, COPIES)).random(self.n) < self.copies
        copied[0] = False
        originals = np.flatnonzero(~copied)
        rng = np.random.default_rng((self.seed, NEW))
        rows = np.lib.format.open_memmap(path, "w+", np.float32, (self.n, self.dimension))
        for start in range(0, self.n, BLOCK):
            copy = copied[start : start + BLOCK]
            block = np.empty((len(copy), self.dimension), np.float32)
            block[~copy] = self.new(rng, int((~copy).sum()))
            known = originals[: np.searchsorted(originals, start or len(copy))]
            source = rng.choice(known, int(copy.sum()))
            block[copy] = rows[source] if start else block[source]
            block[copy] += self.displacement(rng, len(source))
            rows[start : start + BLOCK] = block
        rows.flush()
        return path

    def queries(self, rows: npt.NDArray[Any], count: int) -> tuple[Vectors, Ints]:
        """New images to ask about: every second one is a near-copy, the others are new.

        Args:
            rows: what ``write`` wrote, (n, d).
            count: how many.

        Returns:
            The queries, (count, d), and the row that each is a copy of, (count,); -1 for none.
        """
        rng = np.random.default_rng((self.seed, QUERIES))
        vectors = self.new(rng, count)
        source = np.full(count, -1, np.int64)
        source[::2] = rng.integers(0, len(rows), len(source[::2]))
        vectors[::2] = rows[source[::2]] + self.displacement(rng, len(source[::2]))
        return vectors, source


def clustered(n: int, dimension: int = 256, threshold: float = 1.0, seed: int = 0) -> Catalogue:
    """A Gaussian mixture: copies lie within the threshold, all other rows far beyond it.

    There are n / 200 components of lognormal(0, 1) sizes with centres N(0, 1). Two rows of one
    component lie about ``0.15 sqrt(2 d)`` apart, 3.4 for 256 dimensions. 5 % of the rows are copies
    at a distance uniform in [0, threshold].
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(n // 200, 1), dimension), np.float32)
    sizes = rng.lognormal(0, 1, len(centres))
    shares = sizes / sizes.sum()

    def new(rng: np.random.Generator, count: int) -> Vectors:
        component = rng.choice(len(centres), count, p=shares)
        noise = rng.standard_normal((count, dimension), np.float32)
        return centres[component] + np.float32(0.15) * noise

    def displacement(rng: np.random.Generator, count: int) -> Vectors:
        way = rng.standard_normal((count, dimension), np.float32)
        length = np.float32(threshold) * rng.random((count, 1), np.float32)
        way *= length / np.linalg.norm(way, axis=1, keepdims=True)
        return way

    return Catalogue(n, dimension, 0.05, new, displacement, seed)


def real(n: int, vectors: Vectors, edits: Vectors, seed: int = 0) -> Catalogue:
    """Real embeddings jittered to size: a kernel density estimate with the data's own covariance.

    A new row is a random one of ``vectors``, (m, d), plus 0.3 N(0, covariance). 10 % of the rows
    are copies, displaced by one of ``edits``, (e, d), with a random sign.
    """
    dimension = vectors.shape[1]
    covariance = np.cov(vectors.T.astype(np.float64)) + 1e-6 * np.eye(dimension)
    spread = (0.3 * np.linalg.cholesky(covariance).T).astype(np.float32)

    def new(rng: np.random.Generator, count: int) -> Vectors:
        noise = rng.standard_normal((count, dimension), np.float32)
        rows: Vectors = vectors[rng.integers(0, len(vectors), count)] + noise @ spread
        return rows

    def displacement(rng: np.random.Generator, count: int) -> Vectors:
        sign = rng.choice(np.array([-1, 1], np.float32), (count, 1))
        difference: Vectors = edits[rng.integers(0, len(edits), count)] * sign
        return difference

    return Catalogue(n, dimension, 0.1, new, displacement, seed)


def kinds(
    saved: Path | None = None,
) -> Iterator[tuple[str, Callable[[int], Catalogue], dict[str, float]]]:
    """The catalogues: name, what makes one of a size, and thresholds by name.

    Args:
        saved: real embeddings, kept by ``borders.py --out``; without, there are clusters alone.
    """
    yield "(a) clusters", clustered, {"t 1": 1.0}
    if saved:
        with np.load(saved) as file:
            vectors, edits = file["autoencoder_vectors"], file["autoencoder_edits"]
            limits = dict(zip(file["precisions"], file["autoencoder_thresholds"], strict=True))
        names = {f"t {limits[p]:.3g} (precision {p:g})": float(limits[p]) for p in PRECISIONS}
        yield "(b) real", lambda n: real(n, vectors, edits), names


def forget(path: Path) -> None:
    """Drop a file's pages from memory, so that it is read from disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
