"""Families of printed garments: drawn mock-ups, and photos with other graphics on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from dedup.augmentations.overlay import (
    Colour,
    Mask,
    RgbImage,
    draw_vivid_colour,
    resize,
    resize_to_cover,
)
from families import canvas as c
from families.canvas import Box

_SAYINGS = ("BE KIND", "NO LIMITS", "EST 1987", "Good vibes", "RUN", "Coffee first", "WILD", "1994",
            "Stay cool", "PARIS", "Dream big", "HELLO", "Roots", "LOVE", "Sunday club", "OFF DUTY",
            "Team bride", "Ocean", "TOKYO", "Bonjour", "Level up", "MAMA", "Explore")  # fmt: skip


def _apart(rng: Generator, cloth: Colour) -> Colour:
    """Draw a colour that stands out from the cloth."""
    while True:
        colour = draw_vivid_colour(rng)
        if np.abs(np.subtract(colour, cloth)).sum() > 180:
            return colour


def emblem(image: RgbImage, box: Box, rng: Generator, cloth: Colour) -> Mask:
    """Draw a print of one to three parts into a box; return what it covers.

    Args:
        image: to draw on.
        box: for the print.
        rng: generator.
        cloth: colour below the print, from which it stands out.
    """
    before, only, ink = image.copy(), rng.random() < 0.4, c.ink_on(cloth)
    first, second = (ink if only else _apart(rng, cloth) for _ in range(2))
    kind = int(rng.integers(7))
    x, y, size = box[0] + box[2] / 2, box[1] + 0.4 * box[3], min(box[2], 0.7 * box[3])
    if kind == 0:
        for ring in range(int(rng.integers(2, 5))):
            c.outline(image, c.oval(image.shape, x, y, size * (1 - 0.22 * ring)),
                      first if ring % 2 else second, max(2, round(0.05 * size)))  # fmt: skip
    elif kind == 1:
        spikes = int(rng.integers(5, 13))
        turn = np.arange(2 * spikes) * np.pi / spikes - np.pi / 2
        reach = np.where(np.arange(2 * spikes) % 2, rng.uniform(0.2, 0.38), 0.5) * size
        points = np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], 1)
        c.paint(image, c.filled(image.shape, points), first)
    elif kind == 2:
        sun = c.oval(image.shape, x, y - 0.05 * size, 0.8 * size)
        c.paint(image, sun, second)
        peaks = [(-0.5, 0.4), (-0.25, -0.15), (-0.1, 0.1), (0.15, -0.3), (0.5, 0.4)]
        moved = [(x + a * size, y + (b + rng.uniform(-0.1, 0.1)) * size) for a, b in peaks]
        c.paint(
            image,
            c.filled(image.shape, moved),
            first if not only else c.mixed(ink, (128,) * 3, 0.5),
        )
    elif kind == 3:
        t = np.linspace(0, 2 * np.pi, 60)
        points = np.stack([x + size * 0.5 * np.sin(t) ** 3,
                           y - size * (0.41 * np.cos(t) - 0.16 * np.cos(2 * t) - 0.06 * np.cos(3 * t))], 1)  # noqa: E501  # fmt: skip
        c.paint(image, c.filled(image.shape, points), first)
    elif kind == 4:
        for stripe in range(n := int(rng.integers(3, 7))):
            top = y - size / 2 + stripe * size / n
            bar = (x - size / 2, top, size * rng.uniform(0.4, 1), 0.6 * size / n)
            c.paint(image, c.rounded(image.shape, bar, 3), first if stripe % 2 else second)
    elif kind == 5:
        turn = np.linspace(0, 2 * np.pi, int(rng.integers(6, 13)))[:-1]
        reach = rng.uniform(0.28, 0.52, len(turn)) * size
        knots = np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], 1)
        c.paint(image, c.filled(image.shape, c.smooth(knots)), first)
        eye = ink if only else second
        c.paint(image, c.oval(image.shape, x, y, 0.22 * size), c.mixed(eye, cloth, float(only)))
    else:
        for _ in range(int(rng.integers(4, 9))):
            px, py = rng.uniform(-0.38, 0.38, 2) * size
            c.paint(image, c.oval(image.shape, x + px, y + py, size * rng.uniform(0.1, 0.3)),
                    first if rng.random() < 0.5 else second)  # fmt: skip
    font = replace(c.draw_font(rng), case="as is")
    words = c.inside(box, 0, 0.82, 1, 0.16)
    c.say(image, str(rng.choice(_SAYINGS)), words, font, ink)
    return np.asarray((image != before).any(axis=2) * 255, np.uint8)


def tee(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> Box:
    """Draw a T-shirt, laid flat, with folds; return where its print goes."""
    reach, hem = rng.uniform(0.3, 0.4), rng.uniform(0, 0.03)
    half = [(0.13, 0.02), (0.24, 0.05), (0.5, 0.16), (0.46 + 0.05 * reach, reach), (0.33, 0.3),
            (0.3, 0.4), (0.31, 0.7), (0.32, 0.97), (0.15, 0.985 + hem / 3)]  # fmt: skip
    right = np.array(half) * (1, 1) + (0.5, 0)
    left = right[::-1] * (-1, 1) + (1, 0)
    neck = np.array([(0.4, 0.065), (0.5, 0.1), (0.6, 0.065)])
    mask = c.filled(image.shape, c.within(box, np.concatenate([right, left, neck])))
    c.cast(image, mask, 0.25)
    c.paint(image, mask, colour)
    folds = np.zeros(image.shape[:2], np.float32)
    for _ in range(6):
        start = np.array([rng.uniform(0.22, 0.78), rng.uniform(0.2, 0.9)])
        bend = start + rng.uniform(-0.28, 0.28, 2)
        line = c.traced(image.shape, c.within(box, [start, bend]), 0.02 * box[2])
        folds += c.softened(line, 0.03 * box[2]) * np.float32(rng.uniform(0.3, 1))
    soft = np.asarray(np.minimum(folds, mask), np.uint8)
    c.paint(image, soft, c.BLACK, 0.35)
    c.shade(image, mask, "flat", rng.uniform(-1, 1), 0.25)
    seam = c.mixed(colour, c.BLACK if sum(colour) > 200 else c.WHITE, 0.3)
    c.outline(image, mask, seam, 1)
    collar = c.smooth(
        c.within(box, [(0.37, 0.025), (0.43, 0.1), (0.5, 0.125), (0.57, 0.1), (0.63, 0.025)]), False
    )
    c.paint(image, c.traced(image.shape, collar, 0.02 * box[2]), seam)
    return c.inside(box, 0.33, 0.24, 0.34, 0.4)


def mug(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> Box:
    """Draw a mug; return where its print goes."""
    left, top, wide, high = c.inside(box, 0.08, 0.12, 0.66, 0.8)
    ring = c.smooth(
        c.within(box, [(0.7, 0.3), (0.9, 0.32), (0.95, 0.52), (0.86, 0.7), (0.7, 0.74)]), False
    )
    handle = c.traced(image.shape, ring, rng.uniform(0.05, 0.07) * box[2])
    c.stand(image, (left, top, wide, high))
    c.paint(image, handle, c.mixed(colour, c.BLACK, 0.12))
    c.outline(image, handle, c.mixed(colour, c.BLACK, 0.35), 1)
    lip = 0.12 * wide
    bow = np.linspace(0, np.pi, 33)
    base = np.stack(
        [left + wide / 2 + wide / 2 * np.cos(bow), top + high + lip / 2 * np.sin(bow)], 1
    )
    body = c.filled(image.shape, [(left, top), (left + wide, top), *base])
    c.paint(image, body, colour)
    c.shade(image, body, "round", rng.uniform(-0.5, 0.5), 0.35, 0.1)
    c.outline(image, body, c.mixed(colour, c.BLACK, 0.35), 1)
    mouth = c.oval(image.shape, left + wide / 2, top, wide, lip * 1.6)
    c.paint(image, mouth, c.mixed(colour, c.BLACK, 0.25))
    c.outline(image, mouth, c.mixed(colour, c.WHITE, 0.4), 2)
    return (left + 0.2 * wide, top + 0.2 * high, 0.6 * wide, 0.68 * high)


def tote(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> Box:
    """Draw a cloth bag with two handles; return where its print goes."""
    dark = c.mixed(colour, c.BLACK, 0.3)
    for lift, shift in ((0.0, 0.02), (0.04, 0.0)):
        knots = [(0.33 + shift, 0.33), (0.36, 0.08 + lift), (0.5, 0.02 + lift)]
        knots += [(0.64, 0.08 + lift), (0.67 + shift, 0.33)]
        bow = c.smooth(c.within(box, knots), False)
        c.paint(image, c.traced(image.shape, bow, 0.045 * box[2]), dark if lift == 0 else colour)
    slope = rng.uniform(0, 0.04)
    mask = c.filled(
        image.shape,
        c.within(box, [(0.14 + slope, 0.3), (0.86 - slope, 0.3), (0.88, 0.98), (0.12, 0.98)]),
    )
    c.cast(image, mask, 0.25)
    c.paint(image, mask, colour)
    c.shade(image, mask, "flat", rng.uniform(-1, 1), 0.3)
    c.outline(image, mask, dark, 1)
    hem = c.traced(image.shape, c.within(box, [(0.14 + slope, 0.35), (0.86 - slope, 0.35)]), 1)
    c.paint(image, hem, dark)
    return c.inside(box, 0.27, 0.42, 0.46, 0.46)


def mockups(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one T-shirt, mug or bag with other prints."""
    good = (tee, tee, mug, tote)[int(rng.integers(4))]
    prints = [int(rng.integers(2**62)) for _ in range(rng.integers(2, 7))]
    colours = ((250, 250, 248), (28, 28, 32), (190, 190, 194), (32, 42, 74), (240, 232, 214))

    def draw(rng: Generator, member: int) -> RgbImage:
        height, width = c.draw_size(rng)
        image = c.ground(rng, height, width)
        colour = colours[int(rng.integers(len(colours)))]
        colour = draw_vivid_colour(rng) if rng.random() < 0.3 else colour
        side = 0.88 * min(height, width)
        box = ((width - side) / 2, (height - side) / 2, side, side)
        area = good(image, box, rng, colour)
        plain = image.copy()
        own = np.random.default_rng(prints[member])
        mask = emblem(image, area, own, colour)
        image[:] = _with_cloth(image, plain, mask)
        return image

    return c.family(rng, len(prints), draw)


def _with_cloth(printed: RgbImage, cloth: RgbImage, mask: Mask) -> RgbImage:
    """Let the light and folds of cloth show through its print."""
    grey = cv2.cvtColor(cloth, cv2.COLOR_RGB2GRAY).astype(np.float32)
    level = max(8.0, float(np.median(grey[mask > 0]))) if mask.any() else 128.0
    light = np.clip(grey / level, 0.55, 1.35)[..., None]
    lit = np.clip(printed * light, 0, 255).astype(np.uint8)
    image = cloth.copy()
    c.paint(image, cv2.GaussianBlur(mask, (3, 3), 0).astype(np.uint8), lit, 0.94)
    return image


def _plainness(photo: RgbImage) -> float:
    """Measure how little a photo's middle varies, so that a print shows on it; 0 is flat."""
    rows, columns = photo.shape[0] // 3, photo.shape[1] // 3
    middle = resize(photo[rows : 2 * rows + 1, columns : 2 * columns + 1], 32, 32)
    return float(middle.astype(np.float32).std(axis=(0, 1)).mean())


def prints(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Print other graphics on the middle of one photo, of those whose middle is plain.

    Raises:
        ConfigError: there is one photo or none.
    """
    photo = min(c.draw_photos(rng, photos, 12), key=_plainness)
    seeds = [int(rng.integers(2**62)) for _ in range(rng.integers(2, 7))]
    scale = rng.uniform(420, 640) / min(photo.shape[:2])
    high, wide = (min(900, round(side * scale)) for side in photo.shape[:2])
    cloth = resize_to_cover(photo, wide, high)
    size = rng.uniform(0.26, 0.4) * min(high, wide)
    box = (wide / 2 - size / 2, rng.uniform(0.4, 0.55) * high - size / 2, size, 1.15 * size)
    left, top = round(box[0] + size / 4), round(box[1] + size / 4)
    red, green, blue = np.median(
        cloth[top : top + round(size / 2), left : left + round(size / 2)], axis=(0, 1)
    ).tolist()
    colour = (int(red), int(green), int(blue))
    images = []
    for seed in seeds:
        image, own = cloth.copy(), np.random.default_rng(seed)
        mask = emblem(image, box, own, colour)
        images.append(_with_cloth(image, cloth, mask))
    return images
