"""Lower bounds of L2 distances from short sketches, by principal component analysis.

A sketch of a vector holds its first m principal coordinates and the norm of the rest. By the
triangle inequality, the distance of two sketches is at most that of the vectors. So one matrix
product proposes every pair that can lie within a threshold. The product is computed in float32, and
each comparison allows for the largest possible rounding error (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd edition, section 3.1): a product of K terms, summed in any order, is off
by at most ``K u / (1 - K u)`` times the sum of the terms' sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup.errors import CorruptError
from dedup.runtime.invocation import command
from dedup.runtime.parallel import in_order

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

UNIT = 2.0**-24
"""Largest relative error of one rounding to float32, u."""

BLOCK = 16_384
"""Rows read at once."""

SAMPLE = 4096
"""Rows that the principal components are computed from."""

WIDEN = 1.001
"""Factor on squared thresholds, for the rounding of the sketches themselves."""

TINY = 1e-30
"""Added to squared thresholds, since products of very small numbers vanish in float32."""


@dataclass(frozen=True)
class Frame:
    """Centre and scale of the coordinates: the data's mean, and its largest extent.

    Vectors of norm at most 1 have squares that cannot overflow in float32.

    Attributes:
        origin: (d,) float64, mean of the data.
        scale: factor on coordinates; a power of two, so that scaling rounds nothing.
    """

    origin: Floats
    scale: float

    @classmethod
    def of(cls, vectors: npt.NDArray[Any], sample: Floats) -> Frame:
        """Compute the frame of vectors, (n, d), with the mean of ``sample`` as its origin.

        Raises:
            CorruptError: a vector is not finite.
        """
        blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
        extent = float(np.max([0.0, *in_order(_extent, blocks)]))  # Python's max can lose a NaN
        if not math.isfinite(extent):
            raise CorruptError(
                f"an embedding is not finite: the index is damaged; run {command('cluster')} again"
            )
        origin = sample.mean(axis=0) if len(sample) else np.zeros(vectors.shape[1])
        bound = (extent + float(np.abs(origin).max(initial=0.0))) * math.sqrt(vectors.shape[1])
        return cls(origin, 2.0 ** -math.ceil(math.log2(bound)) if bound > 0 else 1.0)

    def place(self, vectors: npt.NDArray[Any]) -> Floats:
        """Centre and scale vectors, to (n, d) float64 of norm at most 1."""
        placed: Floats = vectors - self.origin
        placed *= self.scale
        return placed


def sample_of(vectors: npt.NDArray[Any], size: int = SAMPLE) -> Floats:
    """Take evenly spaced rows, at most ``size`` of them, as float64."""
    step = max(1, -(-len(vectors) // size))
    return np.asarray(vectors[::step], dtype=np.float64)


def principal_axes(placed: Floats, n_axes: int) -> Floats:
    """Compute the first principal axes by subspace iteration, (d, n_axes), orthonormal.

    Halko, Martinsson and Tropp 2011, algorithm 4.4; on the covariance where it is smaller than
    the data. Any orthonormal axes give a valid bound; principal axes give a tight one.
    """
    n, d = placed.shape
    covariance = placed.T @ placed if d < n else None

    def spread(axes: Floats) -> Floats:
        return placed.T @ (placed @ axes) if covariance is None else covariance @ axes

    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((d, n_axes)))[0]
    for _ in range(4):
        axes = np.linalg.qr(spread(axes))[0]
    by_variance: Floats = axes[:, np.argsort(-(axes * spread(axes)).sum(axis=0), kind="stable")]
    return by_variance


def sketch(placed: Floats, axes: Floats) -> Vectors:
    """Sketch placed vectors as (n, m + 1): m coordinates and the norm of the rest."""
    kept = placed @ axes
    rest = (placed**2).sum(axis=1) - (kept**2).sum(axis=1)
    return np.column_stack([kept, np.sqrt(np.maximum(rest, 0))]).astype(np.float32)


def terms(sketches: Vectors, threshold: float) -> Vectors:
    """Extend sketches to rows, (n, m + 3), whose products propose near pairs.

    ``terms(a) @ mirrored(terms(b)).T`` is at least 0 wherever a and b can lie within the
    threshold. The product is a.b - |a|^2/2 - |b|^2/2 + threshold^2/2, plus its largest possible
    rounding error.

    Args:
        sketches: (n, m + 1).
        threshold: distance in the frame's unit.
    """
    k = sketches.shape[1] + 2
    error = (k + 16) * UNIT * 1.25
    norms = (sketches.astype(np.float64) ** 2).sum(axis=1)
    half = -norms / 2 + error * norms + (WIDEN * threshold**2 + TINY) * (1 + error) / 4
    return np.column_stack([sketches, half, np.ones(len(half))]).astype(np.float32)


def mirrored(rows: Vectors) -> Vectors:
    """Exchange the last two columns, for the right-hand side of the product."""
    right = rows.copy()
    right[:, -2], right[:, -1] = rows[:, -1], rows[:, -2]
    return right


def _extent(block: npt.NDArray[Any]) -> float:
    return max(float(block.max()), -float(block.min())) if block.size else 0.0
