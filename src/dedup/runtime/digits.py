"""What a distance and a score mean: digits beyond are a processor's way to add, and are dropped.

The last bits of an embedding differ between kinds of processor, by some 1e-6 of its length. A
distance is compared with the threshold as it was computed, so a pair that lies within some 1e-6 of
it may fall on either side on another processor; all that pairs are sorted by, and all that is
written of them in results and reports, is rounded before.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import numpy as np
import numpy.typing as npt

from dedup.runtime.parallel import in_order

Floats = npt.NDArray[np.float64]

DIGITS = 4
"""A distance's unit is so many decimal places below the vectors' length."""

SCORE = 6
"""Decimal places of a score."""

SUREST = 1 - 10.0**-SCORE
"""No score is rounded to certainty, which equal pixels alone have."""

BLOCK = 8192


def units(vectors: npt.NDArray[np.floating]) -> Floats:
    """What distances from each vector, (n, d), are rounded to, (n,): 1e-4 for unit length.

    It is a power of ten, some 1/10,000 of the length. A pair's unit is the larger of the two.
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
    """Distances, (n,), to whole units of their pairs, (n,), as short decimal numbers."""
    steps = np.rint(distance / unit)
    # A unit below 1 is not a binary fraction: a division by whole numbers gives the nearest one.
    inverse = np.rint(1 / np.minimum(unit, 1))
    nearest: Floats = np.where(unit < 1, steps / inverse, steps * unit)
    return nearest


def score(log_odds: npt.ArrayLike, shift: float = 0.0) -> Floats:
    """Log odds, shifted, as probabilities to six decimals; -inf gives 0, NaN stays."""
    exact = 1 / (1 + np.exp(-(np.asarray(log_odds, np.float64) + shift)))
    return np.minimum(np.round(exact, SCORE), SUREST)


def rounded_up(value: float, figures: int) -> float:
    """A number of so many figures, the next larger one: 1.14551 gives 1.146; 0 stays."""
    exact = Decimal(repr(float(value)))
    unit = Decimal(1).scaleb(exact.adjusted() + 1 - figures)
    return float(exact.quantize(unit, ROUND_CEILING)) if value > 0 else value


def share(value: float) -> float:
    """A share or a probability to six decimals."""
    return round(float(value), SCORE)
