"""See in two aligned images what an edit leaves in pixels: differences, JPEG blocks, a border."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.alignment import BORDER, Matrix
from dedup.verification.keypoints import RgbImage

BLOCK = 8
"""Side of a JPEG's block in pixels."""

BLOCKY = 0.15
"""Excess of the block grid in one of two images from which it was recompressed. Photos that were
saved at quality 90 and again at 35 differ by 0.27 or more; resized and other ones by up to 0.13."""

UNMOVED = 1.0
"""Pixels by which corners may miss their own places in images that are compared pixel by pixel."""

FLAT_SHARE = 0.97
"""Share of a flat band's pixels that have its colour, at least."""

GROUND_SHARE = 0.5
"""Share of the rim inside a band that has the band's colour, from which it may be the ground."""

MIN_BAND = 60
"""Number of pixels of a band, at least."""

SAMPLED = 8
"""One pixel in so many tells the colour of a band."""

NO_BAND, GROUND, FRAME = 0.0, 1.0, 2.0
"""Kinds of what one image has around the other: no flat band; a band whose colour goes on inside,
so that it may have been added to one image or cut off the other; a band of a colour of its own."""

Map = npt.NDArray[Any]


class Trace(NamedTuple):
    """Differences of two aligned images in their pixels.

    Attributes:
        difference: mean absolute difference over pixels and channels, 0 to 255.
        blocky: excess of JPEG's block grid in one image over the other; 0 where the images do
            not lie pixel on pixel.
    """

    difference: float
    blocky: float = 0.0


def trace(left: RgbImage, right: RgbImage, matrix: Matrix) -> Trace | None:
    """Compare two images pixel by pixel, (h, w, 3) uint8 RGB.

    Returns:
        The trace, or ``None`` where ``matrix`` does not leave each pixel of ``left`` in its place.
    """
    if left.shape != right.shape:
        return None
    height, width = left.shape[:2]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    if np.abs(corners @ matrix.T - corners[:, :2]).max() > UNMOVED:
        return None
    blocky = abs(block_grid(left) - block_grid(right))
    return Trace(float(cv2.absdiff(left, right).mean()), blocky)


def block_grid(image: RgbImage) -> float:
    """Measure the grid that JPEG's blocks leave in an image, (h, w, 3) uint8 RGB.

    Steps of lightness across the edges of 8 x 8 blocks are compared with the steps beside them,
    and with those at each other place of the grid, so that a resized image shows none.

    Returns:
        The excess of the steps, relative to the mean step; about 0 without a grid.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if min(gray.shape) < 4 * BLOCK:
        return 0.0
    return (_grid_across(gray) + _grid_across(gray.T)) / 2


def _grid_across(gray: Map) -> float:
    steps = np.abs(np.diff(gray, axis=1))
    excess = (steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2).mean(axis=0)
    place = (np.arange(len(excess)) + 2) % BLOCK  # 0: between two blocks
    means = [float(excess[place == at].mean()) for at in range(BLOCK)]
    return (means[0] - max(means[1:])) / (float(steps.mean()) + 0.5)


def band(outer: RgbImage, inner: RgbImage, matrix: Matrix) -> float:
    """Tell whether the part of an image around another one is a flat band.

    Args:
        outer: (h, w, 3) uint8 RGB.
        inner: (h, w, 3) uint8 RGB of any size.
        matrix: (2, 3), maps x and y of ``inner`` to those of ``outer``.

    Returns:
        ``FRAME`` for a band of one colour that the rim of the image inside does not have,
        ``GROUND`` for one that it has, and ``NO_BAND`` for anything else.
    """
    height, width = outer.shape[:2]
    whole = np.full(inner.shape[:2], 255, np.uint8)
    covered = (cv2.warpAffine(whole, matrix, (width, height)) > 127).astype(np.uint8)
    # Both sides keep off the edge, which is blurred and a little misplaced.
    around = cv2.dilate(covered, np.ones((7, 7), np.uint8)) == 0
    if int(around.sum()) < MIN_BAND:
        return NO_BAND
    colour = np.median(outer[around][::SAMPLED], axis=0)
    low, high = (tuple(colour + side * BORDER) for side in (-1, 1))
    is_flat = cv2.inRange(outer, low, high) > 0
    if float(is_flat[around].mean()) < FLAT_SHARE:
        return NO_BAND
    inside = cv2.erode(covered, np.ones((7, 7), np.uint8), borderValue=1)
    deeper = cv2.erode(inside, np.ones((9, 9), np.uint8), borderValue=1)
    rim = (inside > 0) & (deeper == 0)
    share = float(is_flat[rim].mean()) if rim.any() else 1.0
    return GROUND if share > GROUND_SHARE else FRAME


def differences_in_words(difference: float) -> str:
    """Write the mean difference of pixels, 0 to 255."""
    mean = "under 0.1" if difference < 0.05 else f"{difference:.1f}"
    size = "small differences" if difference < 8 else "differences"
    return f"{size} in pixels: mean {mean} of 255"
