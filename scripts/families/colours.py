"""Families of one product in several colours: neutral ones, or any."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator

from dedup.augmentations import foreground
from dedup.augmentations.overlay import Colour, RgbImage, resize_to_cover
from families import canvas as c
from families.canvas import Box

NEUTRAL: tuple[Colour, ...] = (
    (38, 38, 42), (84, 85, 90), (202, 204, 208), (240, 240, 237), (30, 44, 88), (120, 112, 104),
)  # fmt: skip
"""Black, graphite, silver, white, navy, taupe."""
VIVID: tuple[Colour, ...] = (
    (178, 28, 42), (226, 122, 32), (236, 200, 62), (54, 132, 72), (36, 92, 174), (112, 66, 150),
    (232, 150, 178), (112, 74, 48), (48, 168, 170), (40, 40, 44), (238, 236, 230),
)  # fmt: skip


def phone(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> None:
    """Draw a telephone's back, with cameras and a name."""
    high = box[3]
    wide = min(box[2], high * rng.uniform(0.46, 0.52))
    box = (box[0] + (box[2] - wide) / 2, box[1], wide, high)
    dark, font = c.mixed(colour, c.BLACK, 0.45), c.draw_font(rng)
    mask = c.rounded(image.shape, box, rng.uniform(0.1, 0.18) * wide)
    c.cast(image, mask, 0.3)
    c.paint(image, mask, colour)
    c.shade(image, mask, "flat", rng.uniform(-1, 1), 0.2)
    c.outline(image, mask, dark, max(2, round(0.012 * wide)))
    bump = c.inside(box, 0.07, 0.04, 0.44, 0.21)
    island = c.rounded(image.shape, bump, 0.08 * wide)
    c.paint(image, island, c.mixed(colour, c.BLACK, 0.15))
    c.outline(image, island, dark, 1)
    for x, y in ((0.3, 0.28), (0.72, 0.5), (0.3, 0.74))[: int(rng.integers(2, 4))]:
        at = c.spot(bump, x, y)
        for size, paint in ((0.17, dark), (0.14, (22, 22, 26)), (0.05, (62, 62, 92))):
            c.paint(image, c.oval(image.shape, *at, size * wide), paint)
    c.say(image, font.named(c.word(rng)), c.inside(box, 0.3, 0.52, 0.4, 0.03), font, dark)


def case(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> None:
    """Draw a suitcase with ribs, wheels and a handle."""
    high = box[3]
    wide = min(box[2], high * rng.uniform(0.52, 0.64))
    box = (box[0] + (box[2] - wide) / 2, box[1], wide, high)
    dark, grey = c.mixed(colour, c.BLACK, 0.5), (110, 110, 116)
    for x in (0.34, 0.66):
        c.paint(image, c.rounded(image.shape, c.inside(box, x - 0.015, 0, 0.03, 0.25), 2), grey)
    c.paint(image, c.rounded(image.shape, c.inside(box, 0.3, 0, 0.4, 0.035), 5), (45, 45, 50))
    for x in (0.12, 0.88):
        c.paint(image, c.oval(image.shape, *c.spot(box, x, 0.965), 0.12 * wide), (40, 40, 44))
    body = c.inside(box, 0, 0.2, 1, 0.75)
    c.stand(image, c.inside(box, 0, 0, 1, 1.0))
    mask = c.rounded(image.shape, body, rng.uniform(0.08, 0.14) * wide)
    c.paint(image, mask, colour)
    ribs = int(rng.integers(4, 9))
    for rib in range(ribs):
        x = 0.1 + 0.8 * (rib + 0.5) / ribs
        groove = c.rounded(image.shape, c.inside(body, x - 0.015, 0.06, 0.03, 0.88), 4)
        c.paint(image, groove, dark, 0.5)
    c.shade(image, mask, "round", rng.uniform(-0.4, 0.4), 0.4, 0.12)
    c.outline(image, mask, dark, 2)


def lamp(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> None:
    """Draw a table lamp with a round foot."""
    left, top, wide, high = box
    middle, dark = left + wide / 2, c.mixed(colour, c.BLACK, 0.4)
    c.stand(image, (middle - 0.2 * wide, top, 0.4 * wide, 0.96 * high))
    foot = c.oval(image.shape, middle, top + 0.94 * high, 0.42 * wide, 0.1 * high)
    stem = c.rounded(
        image.shape, (middle - 0.02 * wide, top + 0.4 * high, 0.04 * wide, 0.54 * high), 2
    )
    small, large = rng.uniform(0.18, 0.3), rng.uniform(0.36, 0.48)
    hood = c.filled(image.shape, [(middle - small * wide, top), (middle + small * wide, top),
                                  (middle + large * wide, top + 0.46 * high),
                                  (middle - large * wide, top + 0.46 * high)])  # fmt: skip
    for mask in (foot, stem, hood):
        c.paint(image, mask, colour)
        c.shade(image, mask, "round", -0.2, 0.4, 0.1)
        c.outline(image, mask, dark, 1)


def headphones(image: RgbImage, box: Box, rng: Generator, colour: Colour) -> None:
    """Draw headphones from the front."""
    dark, thick = c.mixed(colour, c.BLACK, 0.45), rng.uniform(0.05, 0.08) * box[2]
    bow = c.smooth(
        c.within(box, [(0.16, 0.62), (0.16, 0.34), (0.5, 0.08), (0.84, 0.34), (0.84, 0.62)]), False
    )
    band = c.traced(image.shape, bow, thick)
    wide = rng.uniform(0.18, 0.24)
    cups = [c.rounded(image.shape, c.inside(box, x, 0.5, wide, 0.38), 0.09 * box[2])
            for x in (0.06, 0.94 - wide)]  # fmt: skip
    pads = [c.rounded(image.shape, c.inside(box, x, 0.52, 0.08, 0.34), 0.04 * box[2])
            for x in (0.04 + wide, 0.88 - wide)]  # fmt: skip
    for mask in (*pads, band, *cups):
        c.cast(image, mask, 0.12)
    for mask, paint in [(pad, (48, 48, 52)) for pad in pads] + [
        (band, colour),
        *((cup, colour) for cup in cups),
    ]:
        c.paint(image, mask, paint)
        c.shade(image, mask, "round", -0.2, 0.4, 0.12)
        c.outline(image, mask, dark, 1)


def _of_drawn(rng: Generator, palette: Sequence[Colour]) -> list[RgbImage]:
    """Draw one object in several colours of a palette."""
    objects: tuple[Callable[[RgbImage, Box, Generator, Colour], None], ...]
    objects = (phone, case, lamp, headphones)
    what = objects[int(rng.integers(len(objects)))]
    order = rng.permutation(len(palette))[: int(rng.integers(2, 7))]

    def draw(rng: Generator, member: int) -> RgbImage:
        height, width = c.draw_size(rng)
        image = c.ground(rng, height, width)
        side = rng.uniform(0.76, 0.88) * min(height, width)
        box = ((width - side) / 2, (height - side) / 2, side, side)
        what(image, box, rng, palette[int(order[member])])
        return image

    return c.family(rng, len(order), draw)


def _of_photo(
    rng: Generator, photos: Sequence[RgbImage], palette: Sequence[Colour]
) -> list[RgbImage] | None:
    """Paint the product of a photo in colours of a palette; ``None`` where none is found."""
    for photo in c.draw_photos(rng, photos, 8):
        mask = foreground(photo)
        if 0.12 < mask.mean() < 0.7:
            break
    else:
        return None
    scale = rng.uniform(420, 620) / min(photo.shape[:2])
    high, wide = (min(900, round(side * scale)) for side in photo.shape[:2])
    image = resize_to_cover(photo, wide, high)
    cover = resize_to_cover(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), wide, high)
    # The mask is coarse: a little more than it covers, so that no rim of the first colour is left.
    grown = cv2.dilate(cover[..., 0], np.ones((3, 3), np.uint8), iterations=max(1, wide // 180))
    soft = np.asarray(cv2.GaussianBlur(grown, (0, 0), 1.5), np.uint8)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inside = soft > 127
    level, spread = lab[inside].mean(axis=0), float(lab[inside][:, 0].std())
    images = []
    for at in rng.permutation(len(palette))[: int(rng.integers(2, 7))]:
        aim = cv2.cvtColor(np.array([[palette[at]]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
        new = lab.copy()
        folds = np.clip((lab[..., 0] - level[0]) * min(1.0, 12 / max(spread, 1e-6)), -30, 30)
        new[..., 0] = np.clip(aim[0] + folds, 0, 100)
        new[..., 1:] = aim[1:] + (lab[..., 1:] - level[1:]) * 0.2
        rgb = cv2.cvtColor(new, cv2.COLOR_LAB2RGB)
        painted = image.copy()
        c.paint(painted, soft, np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8))
        images.append(painted)
    return images


def neutral_variants(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw an object, or paint a photo's product, in black, graphite, silver, white, navy, taupe.

    Raises:
        ConfigError: there is one photo or none.
    """
    of_photo = _of_photo(rng, photos, NEUTRAL) if rng.random() < 0.45 else None
    return of_photo or _of_drawn(rng, NEUTRAL)


def coloured_variants(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw an object, or paint a photo's product, in several colours.

    Raises:
        ConfigError: there is one photo or none.
    """
    of_photo = _of_photo(rng, photos, VIVID) if rng.random() < 0.45 else None
    return of_photo or _of_drawn(rng, VIVID)
