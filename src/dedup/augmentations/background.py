"""Cut the product out of its background, and put it on another one."""

import math

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from dedup.augmentations.overlay import (
    Colour,
    RgbImage,
    draw_colour,
    draw_parameter,
    resize,
    resize_to_cover,
)

_SIDE = 128  # pixels of the reduced image's longer side
_SHARES = 0.08, 0.85  # plausible share of the area
_MAX_BORDER = 0.4  # largest share of the outermost pixels
_MIN_MIDDLE = 0.35  # smallest share of the image's middle quarter
_MAX_RAGGED = 9.0
_MIN_SEPARATION = 0.6  # smallest share of the variance that the mask explains (Otsu's criterion)


def foreground(image: RgbImage) -> npt.NDArray[np.bool_]:
    """Segment the product by its colour distance from the border; return (h, w) bool.

    Otsu's threshold (1979) splits the CIE Lab distances from the border's median colour. The large
    connected parts are kept, and their holes filled.
    """
    mask, _ = _mask(image)
    height, width = image.shape[:2]
    full = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(full > 127, dtype=np.bool_)


def _mask(image: RgbImage) -> tuple[RgbImage, float]:
    """Segment the reduced image; return its mask (0 or 255) and its separation, 0 to 1."""
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    small = resize(image, image.shape[1] * scale, image.shape[0] * scale)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2Lab).astype(np.float32)
    edge = max(1, min(small.shape[:2]) // 32)
    ring = np.concatenate(
        [part.reshape(-1, 3) for part in (lab[:edge], lab[-edge:], lab[:, :edge], lab[:, -edge:])]
    )
    # Half of the lightness, so that shadows belong to the background.
    apart = (lab - np.median(ring, axis=0).astype(np.float32)) * np.array([0.5, 1, 1], np.float32)
    distance = np.minimum(np.sqrt((apart**2).sum(axis=2)) * 2, 255).astype(np.uint8)
    distance = np.asarray(cv2.GaussianBlur(distance, (5, 5), 0), dtype=np.uint8)
    _, mask = cv2.threshold(distance, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return keep_large_parts(np.asarray(mask, dtype=np.uint8)), _separation(distance, mask > 0)


def _separation(distance: RgbImage, mask: npt.NDArray[np.bool_]) -> float:
    """Compute the share of the distances' variance between the mask and the rest."""
    total, share = float(distance.var()), float(mask.mean())
    if total < 1 or share in (0.0, 1.0):
        return 0.0
    gap = float(distance[mask].mean() - distance[~mask].mean())
    return share * (1 - share) * gap * gap / total


def _ring(values: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    """Return the outermost of (h, w) values."""
    return np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])


def keep_large_parts(mask: RgbImage) -> RgbImage:
    """Keep the largest connected part of a mask, and parts of similar size, without holes."""
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _kernel(5))
    opened = cv2.morphologyEx(closed, cv2.MORPH_OPEN, _kernel(5))
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    solid = np.zeros_like(mask)
    if n_labels == 1:
        return solid
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    large = areas >= 0.25 * areas.max()
    # A further part that touches the border belongs to the surroundings.
    large[np.unique(_ring(np.asarray(labels, dtype=np.int32)))] = False
    large[areas.argmax()] = True
    kept = np.asarray(large[labels], dtype=np.uint8)
    outlines, _ = cv2.findContours(kept, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(solid, outlines, -1, (255,), -1)
    return solid


def _kernel(side: int) -> RgbImage:
    """Make a round kernel for the morphology of masks."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def _raggedness(mask: RgbImage) -> float:
    """Divide the outlines' length by the root of the area: 3.5 for a disc, about 6 for a shirt."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    length = sum(cv2.arcLength(outline, True) for outline in outlines)
    return length / math.sqrt(max(1, cv2.countNonZero(mask)))


def _is_plausible(mask: RgbImage, separation: float) -> bool:
    """Check whether a mask may be one product: size, place, contrast and outline."""
    rows, columns = mask.shape[0] // 4, mask.shape[1] // 4
    middle = mask[rows : mask.shape[0] - rows, columns : mask.shape[1] - columns]
    return (
        _SHARES[0] <= float((mask > 0).mean()) <= _SHARES[1]
        and float((_ring(mask) > 0).mean()) < _MAX_BORDER
        and float((middle > 0).mean()) > _MIN_MIDDLE
        and separation >= _MIN_SEPARATION
        and _raggedness(mask) <= _MAX_RAGGED
    )


def coverage(image: RgbImage) -> RgbImage | None:
    """Segment the product; return (h, w) uint8 with soft edges, or None if implausible."""
    mask, separation = _mask(image)
    if not _is_plausible(mask, separation):
        return None
    return enlarge_mask(mask, *image.shape[:2])


def enlarge_mask(mask: RgbImage, height: int, width: int) -> RgbImage:
    """Enlarge a reduced image's mask, 0 or 255, to (height, width), with soft edges."""
    full = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(full, (0, 0), 0.4 * max(height, width) / _SIDE + 0.3)
    return np.asarray(np.clip(soft.astype(np.int16) * 2 - 180, 0, 255), dtype=np.uint8)


def _over(image: RgbImage, alpha: RgbImage, ground: RgbImage, amount: float = 1.0) -> RgbImage:
    """Put an image's product on a background of its size; ``amount`` 0 keeps the old one."""
    rest = (255 - alpha.astype(np.float32)) * np.float32(amount / 255)
    return np.asarray(cv2.blendLinear(ground, image, rest, 1 - rest), dtype=np.uint8)


def packshot(image: RgbImage, rng: Generator | None = None) -> RgbImage | None:
    """Cut the product out, and centre it on white with a slight shadow, in the same size.

    Args:
        image: (h, w, 3) uint8.
        rng: generator that varies scale, place and shadow, and the background up to a light grey.

    Returns:
        The packshot, or None if no plausible product is found.
    """
    alpha = coverage(image)
    if alpha is None or not alpha.any():
        return None
    height, width = alpha.shape
    left, top, wide, high = cv2.boundingRect(alpha)
    fill = 0.84 if rng is None else rng.uniform(0.6, 0.9)
    scale = fill * min(height / high, width / wide)
    free = width - wide * scale, height - high * scale
    x, y = (0.5, 0.5) if rng is None else rng.uniform(0.4, 0.6, 2)
    move = np.array([[scale, 0, free[0] * x - left * scale], [0, scale, free[1] * y - top * scale]])
    ground = 255 if rng is None or rng.random() < 0.5 else int(rng.integers(236, 256))
    product = cv2.warpAffine(image, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
    moved = np.asarray(cv2.warpAffine(alpha, move, (width, height)), dtype=np.uint8)
    depth = 0.1 if rng is None else rng.uniform(0, 0.2)
    return _over(np.asarray(product, dtype=np.uint8), moved, _shaded(moved, ground, depth))


def _shaded(alpha: RgbImage, value: int, depth: float) -> RgbImage:
    """Make a grey background with the soft shadow of a product, slightly below it."""
    unit = math.sqrt(alpha.size)
    fall = np.array([[1, 0, 0], [0, 1, 0.012 * unit]])
    shadow = cv2.warpAffine(alpha, fall, (alpha.shape[1], alpha.shape[0]))
    shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.5, 0.01 * unit))
    grey = (value * (1 - shadow.astype(np.float32) * np.float32(depth / 255)) + 0.5).astype(
        np.uint8
    )
    return np.asarray(cv2.merge([grey, grey, grey]), dtype=np.uint8)


def ground(image: RgbImage, strength: float, rng: Generator, other: RgbImage | None) -> RgbImage:
    """Put the product on another background: white, a colour, a gradient or an image.

    An image without a plausible product is copied unchanged.
    """
    alpha = coverage(image)
    if alpha is None:
        return image.copy()
    height, width = alpha.shape
    kind = rng.random()
    if kind < 0.35:
        new = _shaded(alpha, int(rng.integers(240, 256)), rng.uniform(0, 0.2))
    elif kind < 0.6 and other is not None:
        new = resize_to_cover(other, width, height)
    elif kind < 0.8:
        new = _gradient(height, width, draw_colour(rng), draw_colour(rng), rng)
    else:
        new = np.full_like(image, draw_colour(rng))
    return _over(image, alpha, new, min(1.0, draw_parameter(strength, rng, 0.3, 1.5)))


def _gradient(height: int, width: int, start: Colour, end: Colour, rng: Generator) -> RgbImage:
    """Make a background with a gradient of two colours, linear or radial."""
    row, column = (
        np.linspace(0, 1, height, dtype=np.float32),
        np.linspace(0, 1, width, dtype=np.float32),
    )
    across = rng.uniform(0, 1)
    ramp = (1 - across) * row[:, None] + across * column
    if rng.random() < 0.3:
        ramp = np.minimum(1, 2 * np.hypot(row[:, None] - 0.5, column - 0.5))
    first, last = np.array(start, dtype=np.float32), np.array(end, dtype=np.float32)
    return (first + (last - first) * ramp[..., None]).astype(np.uint8)
