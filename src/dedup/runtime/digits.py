"""Rounding of distances and scores to the digits that every processor agrees on.

The last bits of an embedding differ between kinds of processor, by some 1e-6 of its length. The
threshold is compared with the unrounded distance, so a pair within some 1e-6 of it may fall on
either side on another processor. Everything that pairs are sorted by, and every number in results
and reports, is rounded first.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import numpy as np
import numpy.typing as npt

from dedup.runtime.parallel import in_order

Floats = npt.NDArray[np.float64]

DIGITS = 4
"""Decimal places of a distance, relative to the vectors' length; 2 above the 1e-6 that differ."""

SCORE = 6
"""Decimal places of a score."""

SUREST = 1 - 10.0**-SCORE
"""Largest rounded score: only equal pixels are certain."""

BLOCK = 8192
"""Vectors that are measured at a time."""


def units(vectors: npt.NDArray[np.floating]) -> Floats:
    """Compute the unit that each vector's distances are rounded to: 1e-4 for unit length.

    The unit is a power of ten, some 1/10,000 of the length. A pair takes the larger of its two.

    Args:
        vectors: (n, d).

    Returns:
        (n,) units.
    """

    def of_block(start: int) -> Floats:
        block = np.asarray(vectors[start : start + BLOCK], np.float64)
        length = np.sqrt(np.einsum("ij,ij->i", block, block))
        # To the nearest power of ten: lengths of 1 and 10 lie in the middle, not at an edge.
        power = np.rint(np.log10(np.maximum(length, 1e-300)))
        return np.asarray(10.0 ** (power - DIGITS), np.float64)

    starts = range(0, len(vectors), BLOCK)
    return np.concatenate([np.empty(0), *in_order(of_block, starts)])


def rounded(distance: Floats, unit: Floats) -> Floats:
    """Round distances, (n,), to whole units of their pairs, (n,), as short decimal numbers."""
    steps = np.rint(distance / unit)
    # A unit below 1 is not a binary fraction: a division by whole numbers gives the nearest one.
    inverse = np.rint(1 / np.minimum(unit, 1))
    nearest: Floats = np.where(unit < 1, steps / inverse, steps * unit)
    return nearest


def score(log_odds: npt.ArrayLike) -> Floats:
    """Convert log odds to probabilities of six decimals; -inf gives 0, NaN stays."""
    exact = 1 / (1 + np.exp(-np.asarray(log_odds, np.float64)))
    return np.minimum(np.round(exact, SCORE), SUREST)


def rounded_up(value: float, figures: int) -> float:
    """Round a number up to some significant figures: 1.14551 to 4 gives 1.146; 0 stays."""
    exact = Decimal(repr(float(value)))
    unit = Decimal(1).scaleb(exact.adjusted() + 1 - figures)
    return float(exact.quantize(unit, ROUND_CEILING)) if value > 0 else value


def share(value: float) -> float:
    """Round a share or a probability to six decimals."""
    return round(float(value), SCORE)
