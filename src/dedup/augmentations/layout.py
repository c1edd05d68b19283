"""Edits that put an image into a larger one: a collage, or a screenshot of a shop's page."""

import math
from typing import TypeAlias

import cv2
import numpy as np
from numpy.random import Generator

from dedup.augmentations.overlay import (
    Box,
    Colour,
    RgbImage,
    choose_ink,
    draw_colour,
    draw_parameter,
    draw_vivid_colour,
    resize_to_cover,
    write,
)

Cells: TypeAlias = list[tuple[bool, Box]]  # true: the image itself; false: another image

_MAX_SLENDER = math.log(2.2)  # largest log ratio of a collage's sides
_GROWTH = 1.25  # area of a collage or screenshot by that of the image in it


def collage(image: RgbImage, strength: float, rng: Generator, other: RgbImage | None) -> RgbImage:
    """Combine the image with another in a collage; its share of the area is .9 to about .27."""
    if other is None:
        return image.copy()
    share = draw_parameter(strength, rng, 0.92, 0.26)
    cells = _cells(share, image.shape[1] / image.shape[0], rng)
    _, _, wide, high = _own(cells)
    scale = math.sqrt(_GROWTH * wide * high) if wide * high < 1 / _GROWTH else 1.0
    height, width = (
        max(1, round(side * scale / part))
        for side, part in zip(image.shape[:2], (high, wide), strict=True)
    )
    canvas = np.full((height, width, 3), draw_colour(rng), dtype=np.uint8)
    gap = rng.choice([0.0, rng.uniform(0.002, 0.02)]) * min(height, width)
    across, down = rng.random(2) < 0.5
    for own, (left, top, part_wide, part_high) in cells:
        x = (1 - left - part_wide if across else left, part_wide)
        y = (1 - top - part_high if down else top, part_high)
        _fill(canvas, image if own else other, (x[0], y[0], x[1], y[1]), gap)
    return canvas


def _own(cells: Cells) -> Box:
    """Return the image's own cell of a collage."""
    return next(box for own, box in cells if own)


def _cells(share: float, aspect: float, rng: Generator) -> Cells:
    """Choose a collage's cells for the image (true) and the other one, in drawing order."""
    rest, side = 1 - share, math.sqrt(share)
    small = math.sqrt(rest)
    layouts: list[Cells] = [
        [(True, (0, 0, share, 1)), (False, (share, 0, rest, 1))],
        [(True, (0, 0, 1, share)), (False, (0, share, 1, rest))],
        [(True, (0, 0, share, 1)), *((False, (share, i / 2, rest, 0.5)) for i in range(2))],
        [(True, (0, 0, 1, share)), *((False, (i / 3, share, 1 / 3, rest)) for i in range(3))],
    ]
    if share < 0.6:
        layouts.append(
            [
                (True, (0, 0, side, side)),
                (False, (side, 0, 1 - side, side)),
                (False, (0, side, side, 1 - side)),
                (False, (side, side, 1 - side, 1 - side)),
            ]
        )
        place = rng.uniform(0, 1 - side, 2)
        layouts.append([(False, (0, 0, 1, 1)), (True, (place[0], place[1], side, side))])
    if share > 0.65:
        layouts.append([(True, (0, 0, 1, 1)), (False, (0.98 - small, 0.98 - small, small, small))])
    slender = [abs(math.log(aspect * _own(each)[3] / _own(each)[2])) for each in layouts]
    likely = np.flatnonzero(np.array(slender) <= max(_MAX_SLENDER, min(slender)))
    return layouts[int(rng.choice(likely))]


def _fill(canvas: RgbImage, image: RgbImage, box: Box, gap: float) -> None:
    """Draw an image into a box, given in shares of the canvas, less a gap in pixels."""
    height, width = canvas.shape[:2]
    left, right = round(box[0] * width + gap), round((box[0] + box[2]) * width - gap)
    top, bottom = round(box[1] * height + gap), round((box[1] + box[3]) * height - gap)
    if right > left >= 0 and bottom > top >= 0:
        region = canvas[top:bottom, left:right]
        region[:] = resize_to_cover(image, right - left, bottom - top)[
            : region.shape[0], : region.shape[1]
        ]


def screenshot(
    image: RgbImage, strength: float, rng: Generator, other: RgbImage | None
) -> RgbImage:
    """Put the image into a shop's page on a phone or desktop; it takes 80 % to 35 % of the area."""
    share = draw_parameter(strength, rng, 0.82, 0.35)
    rows, columns = image.shape[:2]
    beside = _beside(share, rows / columns, rng)
    wide, high = share**beside, share ** (1 - beside)
    scale = math.sqrt(_GROWTH * share)
    height, width = round(rows * scale / high) or 1, round(columns * scale / wide) or 1
    dark = rng.random() < 0.3
    ground = _grey(rng, 10, 45) if dark else _grey(rng, 232, 256)
    canvas = np.full((height, width, 3), ground, dtype=np.uint8)
    left = (1 - wide) * float(rng.choice([0.0, 0.1, 0.5, 1.0] if beside > 0.3 else [0.0, 0.5, 1.0]))
    top = (1 - high) * rng.uniform(0.15, 0.6)
    _panel(canvas, (0, 0, 1, top), rng, other, bar=True)
    _panel(canvas, (0, top + high, 1, 1 - top - high), rng, other)
    _panel(canvas, (0, top, left, high), rng, other)
    _panel(canvas, (left + wide, top, 1 - left - wide, high), rng, other)
    _fill(canvas, image, (left, top, wide, high), 0)
    if rng.random() < 0.5:
        _controls(canvas, (left * width, top * height, wide * width, high * height), rng)
    return canvas


def _beside(share: float, aspect: float, rng: Generator) -> float:
    """Choose the share of the room beside the image (0: all above and below), for a screen."""
    phone = rng.random() < 0.65
    target = math.log(rng.uniform(1.4, 2.2) if phone else rng.uniform(0.5, 0.8))
    return float(np.clip(0.5 + (math.log(aspect) - target) / (2 * math.log(1 / share)), 0, 1))


def _grey(rng: Generator, low: int, high: int) -> Colour:
    value = int(rng.integers(low, high))
    return (value, value, value)


def _panel(
    canvas: RgbImage, box: Box, rng: Generator, other: RgbImage | None, bar: bool = False
) -> None:
    """Fill a part of the screen with rows of text, grey lines, buttons, icons or thumbnails."""
    height, width = canvas.shape[:2]
    left, wide, bottom = box[0] * width, box[2] * width, (box[1] + box[3]) * height
    step = max(8.0, 0.05 * math.sqrt(height * width) * rng.uniform(0.7, 1.2))
    if wide < step or bottom - box[1] * height < 4:
        return
    region = canvas[round(box[1] * height) : round(bottom), round(left) : round(left + wide)]
    if bar and rng.random() < 0.4:
        region[:] = draw_vivid_colour(rng) if rng.random() < 0.5 else _grey(rng, 0, 256)
    red, green, blue = region[0, 0].tolist()
    ink = choose_ink((red, green, blue))
    top = 0.2 * step
    while top < region.shape[0] and top < 14 * step:
        row = step * rng.choice([0.6, 0.8, 1.0, 1.6])
        _row(region, (0.05 * wide, top, 0.9 * wide, row), ink, rng, other)
        top += row * rng.uniform(1.15, 1.8)


def _row(region: RgbImage, box: Box, ink: Colour, rng: Generator, other: RgbImage | None) -> None:
    """Draw one row of a page into a box of pixels."""
    left, top, width, height = box
    kind = rng.random()
    end = (int(left + width * rng.uniform(0.4, 1)), int(top + 0.8 * height))
    if kind < 0.35:
        write(region, (left, top, width, 0.75 * height), ink, rng, rng.uniform(0.5, 1))
    elif kind < 0.6:
        grey = _grey(rng, 90, 190)
        cv2.rectangle(region, (int(left), int(top + 0.3 * height)), end, grey, -1)
    elif kind < 0.78:
        paint = draw_vivid_colour(rng)
        cv2.rectangle(region, (int(left), int(top)), end, paint, -1 if rng.random() < 0.7 else 1)
        write(region, (left, top, end[0] - left, 0.7 * height), choose_ink(paint), rng)
    else:
        _icons(region, box, ink, rng, other)


def _icons(region: RgbImage, box: Box, ink: Colour, rng: Generator, other: RgbImage | None) -> None:
    """Draw a row of round or square icons, or of thumbnails."""
    left, top, width, height = box
    count = int(rng.integers(2, 8))
    size = int(min(0.8 * height, 0.8 * width / count))
    kind = rng.random()
    for place in range(count):
        x, y = int(left + width * (place + 0.5) / count), int(top + height / 2)
        if kind < 0.4:
            cv2.circle(region, (x, y), size // 2, ink, -1 if place % 2 else 1, cv2.LINE_AA)
        else:
            corners = (x - size // 2, y - size // 2), (x + size // 2, y + size // 2)
            cv2.rectangle(region, *corners, ink, 1 if kind < 0.7 else -1)
            cell = region[
                max(0, corners[0][1]) : corners[1][1], max(0, corners[0][0]) : corners[1][0]
            ]
            if kind >= 0.7 and other is not None and cell.size:
                cell[:] = resize_to_cover(other, cell.shape[1], cell.shape[0])


def _controls(canvas: RgbImage, box: Box, rng: Generator) -> None:
    """Draw an app's controls over the image: dots, round buttons."""
    left, top, width, height = box
    size = max(2, int(0.04 * math.sqrt(width * height)))
    grey = _grey(rng, 0, 256)
    if rng.random() < 0.5:
        for dot in range(int(rng.integers(2, 7))):
            centre = (int(left + width / 2 + (dot - 2) * size), int(top + height - size))
            cv2.circle(
                canvas,
                centre,
                max(1, size // 4),
                grey if dot else draw_vivid_colour(rng),
                -1,
                cv2.LINE_AA,
            )
    for x, y in ((0.9, 0.1), (0.05, 0.5), (0.95, 0.5), (0.9, 0.9)):
        if rng.random() < 0.35:
            centre = (int(left + x * width), int(top + y * height))
            cv2.circle(canvas, centre, size, grey, -1, cv2.LINE_AA)
            cv2.circle(canvas, centre, size // 2, choose_ink(grey), 1, cv2.LINE_AA)
