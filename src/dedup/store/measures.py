"""Measure the sharpness, the light and the compression of an image, for its health.

All sums are of integers, so equal pixels give equal measures on every machine. Light is measured
inside the product's area, so that a packshot on white is not taken for overexposed.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from dedup.sources.image_formats import HEAD, image_format

Pixels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Measures = npt.NDArray[np.float64]
"""(len(MEASURES),) float64: a value for each name in ``MEASURES``; NaN where it is not known."""

MEASURES: Final = (
    "bytes",  # size of the file
    "format",  # its place in FORMATS, -1 for others
    "quality",  # of a JPEG by its quantisers, 1 to 100 as libjpeg counts; NaN for other formats
    "blockiness",  # steps at the borders of blocks of 8 pixels, 0 or more; strong JPEGs have 5
    "sharpness",  # Laplacian over gradient on the strongest edges; blurred images have 0.4
    "light",  # luma of the brightest hundredth of the image, 0 to 255
    "product_light",  # luma of the brightest twentieth of the product, 0 to 255
    "clipped",  # share of the product's area that is white, 0 to 1
    "range",  # levels of luma between the darkest and the brightest hundredth of that area
)
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
VERSION = 1
"""Raised when the same image gets other measures."""

MAX_SIDE = 640
"""Longer side that sharpness is measured at, in pixels: larger images are reduced by a whole
number. A photo that is sharp at that size is sharp in a shop's page."""
EDGES = 0.1
"""Share of the pixels, with the strongest gradients, that sharpness is measured on. Of .02 to .3 it
told sigma 1 at 320 pixels best from 300 photos and 250 packshots as they were."""
DIRECTIONS = (1, 0), (0, 1)
"""Orders of the derivatives across and down."""
SAMPLED = 7
"""One pixel in so many tells how strong the strongest gradients are."""
WINDOW = 512
"""Sides of the central part that blockiness is measured in, in pixels."""
BLOCK = 8
"""Side of a JPEG's blocks, in pixels."""
MAX_STEP = 32
"""Steps of luma count up to here: larger ones are edges of things."""
RING = 4, 2
"""Rows and columns of the 200 x 100 pixels that count as the image's border."""
PLAIN, NEAR, FAR = 0.75, 10, 40
"""Share of the border that is within ``NEAR`` levels of its median colour on a plain ground; the
product is what differs by more, and surely if by more than ``FAR``."""
MIN_AREA = 0.02
"""Least share of the image that can be a product."""
MIDDLE = slice(30, 170), slice(15, 85)
"""Rows and columns that count as the product where the ground is not plain."""
WHITE = 245
"""Luma from which a pixel counts as white."""
IJG_LUMA = 3688
"""Sum of libjpeg's 64 quantisers of luma at quality 50 (ITU-T T.81, table K.1)."""
FIRST, IJG_FIRST = 10, 132
"""Number and sum of the first of them, below 255, the most of a table, from quality 4 on."""


def measure(image: Pixels, small: Pixels, data: bytes | None = None) -> Measures:
    """Measure an image.

    Args:
        image: (height, width, 3) uint8 RGB, upright.
        small: (3, 200, 100) uint8, the same image as the store keeps it.
        data: bytes of the file; ``None`` where only a preview is left of it. ``bytes``,
            ``format``, ``quality`` and ``blockiness`` are then NaN.
    """
    facts = (np.nan, np.nan, np.nan, np.nan)
    is_small = max(image.shape) <= MAX_SIDE
    luma = _grey(image) if is_small else _reduced(image)
    if data is not None:
        kind = format_of(data)
        quality = jpeg_quality(data) if kind == "JPEG" else np.nan
        place = FORMATS.index(kind) if kind else -1
        centre = _centre(luma) if is_small else _grey(_centre(image))
        facts = (len(data), place, quality, blockiness(centre))
    return np.array([*facts, sharpness(luma), *light(small)], np.float64)


def measure_preview(preview: Pixels) -> Measures:
    """Measure a preview, (height, width, 3) uint8 RGB, of which the file is gone.

    A preview has at most 320 pixels on its long side, so large images may be sharper than it, and
    less sharp than it seems.
    """
    small = cv2.resize(preview, (100, 200), interpolation=cv2.INTER_AREA)
    return measure(preview, np.ascontiguousarray(small.transpose(2, 0, 1), np.uint8))


def _grey(image: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def _centre(image: Pixels) -> Pixels:
    """Cut out the part that blockiness is measured in."""
    top, left = (max(0, (side - WINDOW) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + WINDOW, left : left + WINDOW])


def _reduced(image: Pixels) -> Pixels:
    """Reduce an image to a luma of ``MAX_SIDE``.

    Of a large image only some rows and columns are read, and the rest is the mean of blocks of 2 x
    2 or 3 x 3 of their pixels: a blurred image has nothing that this could miss.
    """
    step = max(1, -(-max(image.shape) // MAX_SIDE) // 2)
    luma = _grey(image[::step])
    if step > 1:
        luma = np.ascontiguousarray(luma[:, ::step])
    factor = -(-max(luma.shape) // MAX_SIDE)
    if factor > 1:
        size = max(1, luma.shape[1] // factor), max(1, luma.shape[0] // factor)
        luma = np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8)
    return luma


def are_possible(values: npt.NDArray[np.float64]) -> bool:
    """Tell whether (n, len(MEASURES)) values can be measures: a store may come from a stranger."""
    known = values[~np.isnan(values)]
    place = values[:, MEASURES.index("format")]
    place = place[~np.isnan(place)]
    is_place = np.isin(place, np.arange(-1, len(FORMATS))).all()
    return bool((known >= -1).all() and (known < 2**53).all() and is_place)


def sharpness(luma: Pixels) -> float:
    """Divide the sum of absolute Laplacians by that of gradients, on the strongest edges.

    On an edge blurred by a Gaussian of sigma, the ratio falls as 1 / sigma, whatever the contrast.

    Args:
        luma: (height, width) uint8, at most ``MAX_SIDE`` a side.

    Returns:
        0, for a flat image, to about 4, for fine noise.
    """
    across, down = (cv2.Sobel(luma, cv2.CV_16S, *order) for order in DIRECTIONS)
    across, down = (np.abs(each, out=each) for each in (across, down))
    # The larger and half of the smaller: within 12 % of the root of their squares, in integers.
    gradient = np.minimum(across, down)
    gradient >>= 1
    gradient += np.maximum(across, down, out=across)
    sampled = np.bincount(gradient.ravel()[::SAMPLED], minlength=3)
    above = np.cumsum(sampled[::-1])  # pixels with the highest gradient, the two highest, ...
    threshold = len(sampled) - 1 - int(np.searchsorted(above, EDGES * above[-1]))
    edges = (gradient >= max(threshold, 2)).view(np.uint8)  # 1 is rounding
    steep, strength = (
        int(cv2.norm(cv2.copyTo(each, edges), cv2.NORM_L1))  # of whole numbers, exact
        for each in (cv2.Laplacian(luma, cv2.CV_16S), gradient)
    )
    return float(8 * steep / strength) if strength else 0.0  # Sobel's sum is of eight steps


def blockiness(luma: Pixels) -> float:
    """Measure how far steps between blocks of 8 pixels exceed those inside of them.

    A step counts by its excess over the two steps beside it. The blocks may begin anywhere, as in
    a cropped copy. The excess is divided by the share of pixels with any, since a packshot is
    flat for the most part.

    Args:
        luma: (height, width) uint8, at the resolution of the file.

    Returns:
        About 1 without blocks, and 5 or more in a JPEG of quality 30 or less; 0 for an image of
        fewer than 16 pixels a side.
    """
    if min(luma.shape) < 2 * BLOCK + 3:
        return 0.0
    return (_excess(luma) + _excess(np.ascontiguousarray(luma.T))) / 2


def _excess(luma: Pixels) -> float:
    """Measure the blockiness of columns."""
    luma = luma[::2]  # half of the rows tell as much
    step = cv2.absdiff(luma[:, 1:], luma[:, :-1]).astype(np.int16)
    excess = 2 * step[:, 1:-1]
    excess -= step[:, :-2]
    excess -= step[:, 2:]
    excess = np.clip(excess, -MAX_STEP, MAX_STEP, out=excess)
    excess = excess[:, : excess.shape[1] // BLOCK * BLOCK]
    columns = excess.sum(axis=0, dtype=np.int32).reshape(-1, BLOCK).sum(axis=0)
    busy = np.count_nonzero(excess) + excess.size // 50
    return float(BLOCK * (columns.max() - np.median(columns)) / busy)


def light(small: Pixels) -> tuple[float, float, float, float]:
    """Measure the light of an image of (3, 200, 100) uint8.

    Returns:
        The last four of ``MEASURES``.
    """
    luma = cv2.cvtColor(np.ascontiguousarray(small.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    area, product = product_area(small)
    whole, inside, sure = (_histogram(luma, mask) for mask in (None, area, product))
    spread = _level(inside, 0.99) - _level(inside, 0.01)
    clipped = float(inside[WHITE:].sum() / inside.sum())
    return _level(whole, 0.99), _level(sure, 0.95), clipped, spread


def _histogram(luma: npt.NDArray[Any], mask: Bools | None) -> npt.NDArray[np.int64]:
    """Count the pixels of each level, of 256, inside of a mask."""
    within = None if mask is None else mask.view(np.uint8)
    counts = cv2.calcHist([luma], [0], within, [256], [0, 256])
    return counts.ravel().astype(np.int64)


def _level(histogram: npt.NDArray[np.int64], share: float) -> float:
    """Return the level at a quantile of a histogram of levels."""
    total = np.cumsum(histogram)
    return float(np.searchsorted(total, share * total[-1]))


def product_area(small: Pixels) -> tuple[Bools, Bools]:
    """Find the product on a plain ground; elsewhere it is the middle of the image.

    Args:
        small: (3, 200, 100) uint8.

    Returns:
        Two masks, (200, 100): the product's outline filled, so that parts as white as the ground
        belong to it; and the pixels that are surely its own.
    """
    rows, columns = RING
    levels = small.astype(np.int16)
    ring = [levels[:, :rows], levels[:, -rows:], levels[:, :, :columns], levels[:, :, -columns:]]
    border = np.concatenate([part.reshape(3, -1) for part in ring], axis=1)
    ground = np.median(border, axis=1).astype(np.int16)
    whole = np.zeros(small.shape[1:], bool)
    whole[MIDDLE] = True
    if (np.abs(border - ground[:, None]).max(axis=0) <= NEAR).mean() < PLAIN:
        return whole, whole
    apart = np.abs(levels - ground[:, None, None]).max(axis=0)
    area = _filled(apart > NEAR)
    if area.mean() < MIN_AREA:
        return whole, whole
    sure = cv2.erode((apart > FAR).astype(np.uint8), np.ones((5, 3), np.uint8)) > 0
    return area, np.asarray(sure, bool) if sure.mean() >= MIN_AREA else area


def _filled(mask: Bools) -> Bools:
    """Fill a mask: what lies between two of its pixels in its row, and in its column."""
    between = np.ones_like(mask)
    for axis in (0, 1):
        n = mask.shape[axis]
        places = np.arange(n).reshape((-1, 1) if axis == 0 else (1, -1))
        first = np.expand_dims(mask.argmax(axis), axis)
        last = n - 1 - np.expand_dims(np.flip(mask, axis).argmax(axis), axis)
        between &= (places >= first) & (places <= last) & mask.any(axis, keepdims=True)
    return between


def format_of(data: bytes) -> str:
    """Name the format of a file by its first bytes, as in ``FORMATS``; "" for others."""
    name = image_format(data[:HEAD]).upper()
    return "HEIF" if name == "HEIC" else name


def jpeg_quality(data: bytes) -> float:
    """Estimate the quality that a JPEG was saved with, 1 to 100, from its quantisers of luma.

    libjpeg scales one table by 5000 / quality percent below 50, and by 200 - 2 quality above;
    other writers' tables are compared with it by their sum. NaN where there is no table.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        table = data[at + 4 : at + 2 + length]
        if data[at + 1] == 0xDB and table and table[0] & 15 == 0:  # the first table is of luma
            kind = ">u2" if table[0] >> 4 else "u1"
            table = table[1 : 1 + 64 * np.dtype(kind).itemsize]
            steps = np.frombuffer(table[: len(table) // 2 * 2], kind).astype(np.int64)
            n = FIRST if len(steps) and steps.max() >= 255 else len(steps)
            percent = 100 * max(int(steps[:n].sum()), 1) / (IJG_FIRST if n == FIRST else IJG_LUMA)
            quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
            return round(min(max(quality, 1.0), 100.0), 1)
        at += 2 + length
    return float("nan")
