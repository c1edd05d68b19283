"""Find where two aligned images differ: the largest compact region, and what kind of region it is.

Two products of one family agree in nearly everything: a pack of six and of twelve, 250 ml and
500 ml, two prints on one shirt. A measure of agreement over the whole image hardly sees that. So
local structure is compared in windows the size of a character, after blur, a shift of a pixel and
contrast are explained, and the windows that differ are joined to regions. Plain ground has no
structure and counts for nothing. Colours are compared likewise after the best common light.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.alignment import MAX_ERROR, Alignment, LocalFeatures, errors, matches
from dedup.verification.appearance import MIN_OVERLAP, warp_onto
from dedup.verification.keypoints import RgbImage, mirrored

SIZE = 320
"""Long side at which images are compared, in pixels."""

WINDOW = (7, 7)
"""Window of the local correlation at that size: about a character of a label."""

SOFT = 0.6
"""Blur before structure is compared, in pixels, against noise and JPEG."""

UNEVEN = 0.1
"""Difference of two images' fineness from which the finer one is blurred, as a share."""

BLURS = (0.5, 0.8, 1.1, 1.5, 2.0)
"""Blurs that are tried on it, in pixels."""

SHIFT = 1
"""Pixels by which an alignment may miss; the best correlation within them counts."""

STRONG = 8.0
"""Standard deviation of grey levels from which a window has structure, at least."""

OF_STRONGEST = 0.35
"""The same as a share of the image's strong windows: noise and weave are not structure."""

DIFFERENT = 0.6
"""Correlation below which two windows differ."""

FAINTER = 0.3
"""Ratio of contrasts below which two windows differ."""

SAME = 0.8
"""Correlation above which two windows show the same."""

SPOT = (5, 5)
"""Window of the largest mismatch, in pixels: a stroke of a character."""

TINTED = 18.0
"""CIELAB units by which a region differs in colour after the best common light."""

MOST_PARTS = 60
"""Regions of which the strongest is sought; of more the largest is taken."""

_CELLS = 6
"""Cells along each side of the grid that inliers are counted in."""

_SMOOTH = 2.0  # added to a product of contrasts, so that flat windows correlate

Map = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Difference(NamedTuple):
    """Measures of what differs in two aligned images.

    Attributes:
        parts: number of regions that differ in structure.
        area: share of the overlap that the strongest of them covers, 0 to 1.
        contrast: its local contrast in the image that has more, grey levels.
        both: the weaker contrast there by the stronger, 0 (something was added) to 1 (replaced).
        fill: share of its bounding box that it covers.
        rim: distance of that box from the overlap's border, as a share of the long side.
        under: its local contrast in the image that has less, grey levels.
        step: mean difference of grey levels there, after the tone of the rest.
        alike: mean correlation there, -1 to 1.
        rest: share of the structure elsewhere that is the same, 0 to 1.
        strong: share of the overlap that has structure.
        differing: share of the structure that differs.
        mismatch: what the correlation lacks to 1 where it is lowest but for two in a thousand
            pixels with structure, 0 to 2: a few characters are small beside the rest.
        mismatch_spot: the largest mean of the same over ``SPOT``.
        mismatch_rest: the same as ``mismatch`` but for the strongest region.
        sharpness: absolute log of the ratio of the images' sharpness.
        tinted: share of the overlap of the largest region that differs in colour after the best
            common light.
        tint_step: mean difference of colour there, CIELAB units.
        pale: chroma of the paler image's most colourful hundredth, CIELAB units.
        vivid: of the other image's.
        repeated: share of the overlap's keypoints that agree with the alignment.
        spread: share of a grid's cells in the overlap with such a keypoint.
        hull: share of the overlap inside their convex hull.
    """

    parts: float = 0.0
    area: float = 0.0
    contrast: float = 0.0
    both: float = 0.0
    fill: float = 0.0
    rim: float = 0.0
    under: float = 0.0
    step: float = 0.0
    alike: float = 0.0
    rest: float = 0.0
    strong: float = 0.0
    differing: float = 0.0
    mismatch: float = 0.0
    mismatch_spot: float = 0.0
    mismatch_rest: float = 0.0
    sharpness: float = 0.0
    tinted: float = 0.0
    tint_step: float = 0.0
    pale: float = 0.0
    vivid: float = 0.0
    repeated: float = 0.0
    spread: float = 0.0
    hull: float = 0.0


class Region(NamedTuple):
    """A region of the right image: left, top, width and height as shares of its sides."""

    left: float
    top: float
    width: float
    height: float


SMALLEST = 0.0005
"""Share of the overlap of the smallest region that evidence names."""

ADDED = 0.35
"""Ratio of contrasts below which something was added; above it one thing stands for another."""

NOTHING = Difference()
"""Of images that hardly overlap."""


def differ(
    left: LocalFeatures, right: LocalFeatures, alignment: Alignment
) -> tuple[Difference, Region | None]:
    """Measure what differs in two images, (h, w, 3) uint8 RGB, under an alignment.

    Returns:
        The measures, and the strongest region that differs; ``None`` where none does.
    """
    image = left.image
    if alignment.mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    laid, under, mask, _ = warp_onto(image, right.image, alignment.matrix, SIZE)
    mask = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if int(mask.sum()) < MIN_OVERLAP:
        return NOTHING, None
    structure, region = _structure(laid, under, mask)
    found = {**structure, **_colours(laid, under, mask), **_support(left, right, alignment, mask)}
    return Difference(**found), region


def difference_in_words(difference: Difference, region: Region | None) -> str:
    """Name the strongest region that differs: "top right differs (3 % of the image: added)"."""
    if region is None or difference.area < SMALLEST:
        return ""
    down = ("top", "middle", "bottom")[_third(region.top + region.height / 2)]
    across = ("left", "middle", "right")[_third(region.left + region.width / 2)]
    place = down if down == across else f"{down} {across}"
    if region.width * region.height > 0.4:
        place = "most"
    kind = "added" if difference.both < ADDED else "other content"
    share = f"{difference.area:.0%}".replace("%", " %") if difference.area > 0.01 else "under 1 %"
    return f"{place} differs ({share} of the image: {kind})"


def _third(at: float) -> int:
    return min(int(3 * at), 2)


def _structure(
    laid: RgbImage, under: RgbImage, mask: Mask
) -> tuple[dict[str, float], Region | None]:
    """Compare local structure."""
    a, b = (_soft(cv2.cvtColor(side, cv2.COLOR_RGB2GRAY), SOFT) for side in (laid, under))
    sharpness = _sharpness(a, b, mask)
    a, b = _as_soft(a, b, mask)
    window = _Windows(mask)
    alike, first, second = window.compare(a, b)
    gain, level = _tone(a, b, first, second, mask & (alike > 0.6))
    second, b = second * gain, b * gain
    top = np.maximum(first, second)
    least = max(STRONG, OF_STRONGEST * float(np.quantile(top[mask], 0.9)))
    strong = _inner(mask) & (top > least)
    ratio = np.minimum(first, second) / np.maximum(top, 1e-3)
    if (strong & (alike < SAME)).any():
        alike = np.maximum(alike, window.shifted(a, b))
    bad = strong & ((alike < DIFFERENT) | (ratio < FAINTER))
    n_pixels, n_strong = int(mask.sum()), int(strong.sum())
    found = {
        "strong": n_strong / n_pixels,
        "differing": float(bad.sum()) / max(n_strong, 1),
        "sharpness": sharpness,
        **_mismatch(alike, strong),
    }
    n_parts, part, box = _strongest(bad, top)
    rest = strong
    if part is not None:
        x, y, width, height = box
        rest = strong & ~(cv2.dilate(part.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0)
        found |= {
            "parts": float(n_parts),
            "area": float(part.sum()) / n_pixels,
            "contrast": float(top[part].mean()),
            "both": float(ratio[part].mean()),
            "fill": float(part.sum()) / (width * height),
            "rim": _rim(mask, box),
            "under": float(np.minimum(first, second)[part].mean()),
            "step": float(np.abs(a - b - level)[part].mean()),
            "alike": float(alike[part].mean()),
        }
    found["mismatch_rest"] = _mismatch(alike, rest).get("mismatch", 0.0)
    n_rest = int(rest.sum())
    found["rest"] = float((alike[rest] > SAME).mean()) if n_rest > MIN_OVERLAP // 2 else 0.0
    if part is None:
        return found, None
    down, across = mask.shape
    return found, Region(x / across, y / down, width / across, height / down)


def _inner(mask: Mask) -> Mask:
    """Leave out the rim, where a frame that is a pixel off stands beside nothing."""
    eroded = cv2.erode(
        mask.astype(np.uint8),
        np.ones(WINDOW, np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=0,
    )
    return np.asarray(eroded > 0)


class _Windows:
    """Means in a window around each pixel, of the overlap alone."""

    def __init__(self, mask: Mask) -> None:
        self.inside = mask.astype(np.float32)
        self.share = cv2.blur(self.inside, WINDOW) + np.float32(1e-6)

    def mean(self, values: Map) -> Map:
        return np.asarray(cv2.blur(values * self.inside, WINDOW) / self.share)

    def compare(self, a: Map, b: Map) -> tuple[Map, Map, Map]:
        """Correlate two images in each window; also their standard deviations."""
        (mean_a, spread_a), (mean_b, spread_b) = self._moments(a), self._moments(b)
        return self._correlation(a * b, mean_a * mean_b, spread_a * spread_b), spread_a, spread_b

    def shifted(self, a: Map, b: Map) -> Map:
        """Take the best correlation over the shifts of the second image but none."""
        mean, spread = self._moments(a)
        best = np.full(a.shape, -1, np.float32)
        steps = range(-SHIFT, SHIFT + 1)
        for down, across in ((y, x) for y in steps for x in steps if x or y):
            moved = np.roll(b, (down, across), (0, 1))
            mean_b, spread_b = self._moments(moved)
            best = np.maximum(best, self._correlation(a * moved, mean * mean_b, spread * spread_b))
        return best

    def _moments(self, values: Map) -> tuple[Map, Map]:
        """Compute the mean and the standard deviation in each window."""
        mean = self.mean(values)
        return mean, np.sqrt(np.maximum(self.mean(values * values) - mean**2, 0))

    def _correlation(self, product: Map, means: Map, spreads: Map) -> Map:
        """Correlate from the product of two images, and those of their moments."""
        return np.asarray((self.mean(product) - means + _SMOOTH) / (spreads + _SMOOTH))


def _soft(image: Map, sigma: float) -> Map:
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma))


def _tone(a: Map, b: Map, first: Map, second: Map, same: Mask) -> tuple[float, float]:
    """Fit the contrast and the level of the second image to the first's, by the median."""
    both = same & (first > STRONG) & (second > STRONG)
    if int(both.sum()) < MIN_OVERLAP:
        return 1.0, float(np.median(a - b))
    gain = float(np.clip(np.median(first[both] / second[both]), 0.2, 5))
    return gain, float(np.median((a - gain * b)[both]))


def _sharpness(a: Map, b: Map, mask: Mask) -> float:
    edges = [float(np.abs(cv2.Laplacian(side, cv2.CV_32F))[mask].mean()) for side in (a, b)]
    return abs(float(np.log((edges[0] + 0.1) / (edges[1] + 0.1))))


def _as_soft(a: Map, b: Map, mask: Mask) -> tuple[Map, Map]:
    """Blur the finer one of two images until it is about as fine as the other."""
    fine = [_fineness(side, mask) for side in (a, b)]
    if max(fine) < (1 + UNEVEN) * min(fine):
        return a, b
    finer = a if fine[0] > fine[1] else b
    blurred = [finer, *(_soft(finer, sigma) for sigma in BLURS)]
    off = [abs(_fineness(side, mask) - min(fine)) for side in blurred]
    best = blurred[int(np.argmin(off))]
    return (best, b) if finer is a else (a, best)


def _fineness(image: Map, mask: Mask) -> float:
    """Compute the mean second difference by the mean first one, whatever the contrast."""
    steps = [cv2.Sobel(image, cv2.CV_32F, *axis, scale=1 / 8)[mask] for axis in ((1, 0), (0, 1))]
    bends = np.abs(cv2.Laplacian(image, cv2.CV_32F)[mask])
    return float(bends.mean() / (np.hypot(*steps).mean() + 0.01))


def _strongest(bad: Mask, top: Map) -> tuple[int, Mask | None, tuple[int, int, int, int]]:
    """Join windows that differ to regions: their number, the strongest, and its box."""
    joined = cv2.morphologyEx(bad.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    n_labels, labels, facts, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    if n_labels < 2:
        return 0, None, (0, 0, 0, 0)
    strength: Map = facts[:, cv2.CC_STAT_AREA]
    if n_labels < MOST_PARTS:
        strength = np.bincount(labels.ravel(), top.ravel(), n_labels)
    at = 1 + int(np.argmax(strength[1:]))
    x, y, width, height = (int(value) for value in facts[at, :4])
    return n_labels - 1, labels == at, (x, y, width, height)


def _mismatch(alike: Map, strong: Mask) -> dict[str, float]:
    """Measure where the structure of two images agrees least, whether it counts as differing."""
    lacks = np.where(strong, np.clip(1 - alike, 0, 2), 0).astype(np.float32)
    if not strong.any():
        return {}
    return {
        "mismatch": float(np.quantile(lacks[strong], 0.998)),
        "mismatch_spot": float(cv2.blur(lacks, SPOT).max()),
    }


def _rim(mask: Mask, box: tuple[int, int, int, int]) -> float:
    """Compute the distance of a box from the border of the overlap's own box."""
    x, y, width, height = box
    x0, y0, x1, y1 = _bounds(mask)
    inset = min(x - x0, y - y0, x1 + 1 - x - width, y1 + 1 - y - height)
    return inset / float(max(mask.shape))


def _bounds(mask: Mask) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a mask; right and bottom belong to it."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _colours(laid: RgbImage, under: RgbImage, mask: Mask) -> dict[str, float]:
    """Compare colours after the best common light, at half the size."""
    size = (max(2, mask.shape[1] // 2), max(2, mask.shape[0] // 2))
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    if not inside.any():
        return {}
    first, second = (
        cv2.cvtColor(
            _soft(cv2.resize(side, size, interpolation=cv2.INTER_AREA), 1.0) / np.float32(255),
            cv2.COLOR_RGB2LAB,
        )
        for side in (laid, under)
    )
    chroma = [float(np.quantile(np.linalg.norm(side[inside][:, 1:], axis=1), 0.99))
              for side in (first, second)]  # fmt: skip
    apart = np.where(inside, _after_light(first, second, inside), 0)
    far = cv2.morphologyEx(
        (apart > TINTED).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    found = {"pale": min(chroma), "vivid": max(chroma)}
    n_labels, labels, facts, _ = cv2.connectedComponentsWithStats(far, connectivity=8)
    if n_labels < 2:
        return found
    at = 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA]))
    area = float(facts[at, cv2.CC_STAT_AREA]) / float(inside.sum())
    return {**found, "tinted": area, "tint_step": float(apart[labels == at].mean())}


def _after_light(first: Map, second: Map, inside: Mask) -> Map:
    """Compute the difference of colours, (h, w), after a fit of lightness and chroma.

    Lightness is scaled and shifted, chroma scaled by one factor and shifted. The second fit leaves
    out what the first one misses, such as a sticker. A grey image has no chroma to compare.
    """
    a, b = first[inside], second[inside]
    is_gray = min(float(np.linalg.norm(side[:, 1:], axis=1).mean()) for side in (a, b)) < 1.0
    used = np.ones(len(a), bool)
    apart = np.zeros(first.shape[:2], np.float32)
    for _ in range(2):
        light = _line(a[used, :1], b[used, :1])
        parts = [light[0] * first[..., :1] + light[1] - second[..., :1]]
        if not is_gray:
            tint = _line(a[used, 1:], b[used, 1:])
            parts.append(tint[0] * first[..., 1:] + tint[1] - second[..., 1:])
        apart = np.linalg.norm(np.concatenate(parts, axis=2), axis=2)
        missed = apart[inside]
        used = missed <= max(2.5 * float(np.median(missed)), 4.0)
    return apart


def _line(a: Map, b: Map) -> tuple[float, Map]:
    """Fit ``b``, (n, c), by one factor of ``a`` and a shift of each column."""
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    spread = float(((a - mean_a) ** 2).sum())
    factor = float(((a - mean_a) * (b - mean_b)).sum()) / spread if spread > len(a) else 1.0
    factor = float(np.clip(factor, 0.3, 3))
    return factor, mean_b - factor * mean_a


def _support(
    left: LocalFeatures, right: LocalFeatures, alignment: Alignment, mask: Mask
) -> dict[str, float]:
    """Measure how many keypoints agree with the alignment, and where they lie."""
    points = left.keypoints
    if alignment.mirrored:
        points = mirrored(points, left.image.shape[1])
    rows, columns = matches(points, right.keypoints)
    if not len(rows):
        return {}
    start, end = points.places[rows], right.keypoints.places[columns]
    end = end[errors(alignment.matrix, start, end) < MAX_ERROR]
    if not len(end):
        return {}
    back = cv2.invertAffineTransform(np.asarray(alignment.matrix, np.float64))
    n_left = _within(points.places, alignment.matrix, right.image)
    n_right = _within(right.keypoints.places, back, left.image)
    scale = SIZE / max(right.image.shape[:2])
    x0, y0, x1, y1 = (bound / scale for bound in _bounds(mask))
    width, height = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
    at = (end - np.array([x0, y0])) / np.array([width, height])
    cells = np.clip((at * _CELLS).astype(np.int64), 0, _CELLS - 1)
    hull = 0.0
    if len(end) > 3:
        hull = float(cv2.contourArea(cv2.convexHull(end.astype(np.float32)))) / (width * height)
    return {
        "repeated": len(end) / max(min(n_left, n_right), 1),
        "spread": len(np.unique(cells[:, 0] * _CELLS + cells[:, 1])) / _CELLS**2,
        "hull": hull,
    }


def _within(places: Map, matrix: Map, image: RgbImage) -> int:
    """Count the points, (n, 2), that a map, (2, 3), takes into an image."""
    mapped = places @ matrix[:, :2].T + matrix[:, 2]
    height, width = image.shape[:2]
    return int(((mapped >= 0) & (mapped < [width, height])).all(axis=1).sum())
