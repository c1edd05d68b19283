"""Edits of an image's shape and size; each edit as in `dedup.augmentations`."""

import math

import cv2
import numpy as np
from numpy.random import Generator

from dedup.augmentations.overlay import (
    RgbImage,
    draw_colour,
    draw_parameter,
    resize,
    resize_to_cover,
)

_FILTERS = cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4
_MIN_SIDE = 40  # smallest side in pixels of an image that is left reduced


def crop(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Crop to an off-centre part of 95 % to 40 % of the area, in another aspect."""
    height, width = image.shape[:2]
    share = draw_parameter(strength, rng, 0.96, 0.4)
    aspect = math.exp(rng.uniform(-0.4, 0.4) * strength)
    high = min(1.0, math.sqrt(share * aspect))
    wide = min(1.0, share / high)
    rows, columns = max(1, round(high * height)), max(1, round(wide * width))
    top, left = (rng.beta(1.5, 1.5, 2) * (height - rows + 1, width - columns + 1)).astype(int)
    return image[top : top + rows, left : left + columns].copy()


def zoom_out(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Put the image on a larger canvas: white, black, grey, a colour, its own border or blur."""
    height, width = image.shape[:2]
    grown = draw_parameter(strength, rng, 0.05, 0.9) * np.array([height, width])
    kind = rng.random()
    if kind < 0.3:
        grown[rng.integers(2)] = 0
    elif kind < 0.5 and max(height, width) < 3 * min(height, width):
        grown = np.maximum(0, max(height, width) - np.array([height, width])) + 0.2 * grown
    split = rng.choice([0.5, rng.uniform(0, 1)], 2)
    top, left = (grown * split).astype(int)
    rows, columns = np.array([height, width]) + grown.astype(int)
    canvas = _ground(image, int(rows), int(columns), rng)
    canvas[top : top + height, left : left + width] = image
    return canvas


def _ground(image: RgbImage, rows: int, columns: int, rng: Generator) -> RgbImage:
    """Make a canvas of (rows, columns) for an image, most often white."""
    kind = rng.random()
    if kind < 0.15:
        small = resize_to_cover(image, 1 + columns // 8, 1 + rows // 8)
        return resize(np.asarray(cv2.blur(small, (7, 7)), dtype=np.uint8), columns, rows)
    paint = (255, 255, 255) if kind < 0.5 else draw_colour(rng)
    if kind > 0.85:
        paint = _border_colour(image)
    return np.full((rows, columns, 3), paint, dtype=np.uint8)


def _border_colour(image: RgbImage) -> tuple[int, int, int]:
    """Compute the mean colour of the image's outermost pixels."""
    ring = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    red, green, blue = ring.mean(axis=0)
    return int(red), int(green), int(blue)


def squeeze(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Change the aspect by a factor of 0.6 to 1.6, and keep the area."""
    factor = math.exp(rng.choice([-0.5, 0.48]) * draw_parameter(strength, rng, 0.05, 1.0))
    height, width = image.shape[:2]
    return resize(image, width * math.sqrt(factor), height / math.sqrt(factor))


def mirror(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Mirror left and right."""
    return image[:, ::-1].copy()


def rotate(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Rotate by up to 15 degrees: corners filled, cut off, or on a larger canvas."""
    height, width = image.shape[:2]
    angle = rng.choice([-1, 1]) * draw_parameter(strength, rng, 1.0, 15.0)
    sin, cos = math.sin(math.radians(abs(angle))), math.cos(math.radians(angle))
    cut = cos + sin * max(height, width) / min(height, width)
    kind = rng.random()
    scale = cut if kind < 0.4 and cut < 1.6 else 1.0
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    if kind > 0.75:
        larger = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
        turn[:, 2] += (larger[0] - width) / 2, (larger[1] - height) / 2
        width, height = larger
    return _warped(image, np.vstack([turn, [0, 0, 1]]), height, width, rng)


def shear(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Shear by up to a fifth along one axis."""
    height, width = image.shape[:2]
    slant = np.eye(3)
    axis = int(rng.integers(2))
    slant[axis, 1 - axis] = rng.choice([-1, 1]) * draw_parameter(strength, rng, 0.02, 0.2)
    middle = np.array([width / 2, height / 2])
    slant[:2, 2] = middle - slant[:2, :2] @ middle
    return _warped(image, slant, height, width, rng)


def perspective(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Change the perspective: move each corner by up to a tenth of the side."""
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    shifts = rng.choice([-1, 1], (4, 2)) * rng.uniform(0.2, 1, (4, 2))
    moved = corners + shifts * draw_parameter(strength, rng, 0.01, 0.12) * [width, height]
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return _warped(image, np.asarray(matrix, dtype=np.float64), height, width, rng)


def _warped(
    image: RgbImage,
    matrix: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    height: int,
    width: int,
    rng: Generator,
) -> RgbImage:
    """Warp an image by a 3 x 3 matrix, and fill new areas with a colour or the edge."""
    mode = cv2.BORDER_REPLICATE if rng.random() < 0.3 else cv2.BORDER_CONSTANT
    paint = (255, 255, 255) if rng.random() < 0.5 else draw_colour(rng)
    warped = cv2.warpPerspective(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=mode, borderValue=paint
    )
    return np.asarray(warped, dtype=np.uint8)


def rescale(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Reduce to as little as a sixth, and perhaps enlarge again, with random filters."""
    height, width = image.shape[:2]
    factor = 1 / draw_parameter(strength, rng, 1.1, 6.0)
    down, up = rng.choice(_FILTERS[:4]), rng.choice(_FILTERS[1:])
    back = rng.random() < 0.6
    if not back:
        factor = min(1.0, max(factor, _MIN_SIDE / min(height, width)))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=int(down))
    if back:
        small = cv2.resize(small, (width, height), interpolation=int(up))
    return np.asarray(small, dtype=np.uint8)
