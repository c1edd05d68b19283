"""Families of cards: vouchers and sale texts, size tables, and one seller's template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from dedup.augmentations.overlay import (
    Colour,
    Mask,
    RgbImage,
    draw_colour,
    draw_vivid_colour,
    resize_to_cover,
)
from families import canvas as c
from families.canvas import Box

_TEXTS = (
    ("GIFT CARD", ("10", "20", "25", "50", "75", "100", "150", "200", "250", "500")),
    ("SALE", ("10 %", "20 %", "30 %", "40 %", "50 %", "60 %", "70 %", "80 %")),
    ("", ("NEW IN", "SALE", "SOLD OUT", "COMING SOON", "BEST SELLER", "LAST CHANCE", "BACK SOON")),
    ("VOUCHER", ("$10", "$20", "$25", "$50", "$100", "$150", "$300")),
    ("SHIPPING", ("FREE", "48 H", "24 H", "WORLDWIDE", "+ $5", "+ $9")),
    ("COURSE", ("LEVEL 1", "LEVEL 2", "LEVEL 3", "LEVEL 4", "LEVEL 5")),
    ("WARRANTY", ("1 year", "2 years", "3 years", "5 years")),
)


def _framed(rng: Generator) -> tuple[RgbImage, Colour]:
    """Draw a card with or without a frame, dots or corners; return it and its ink."""
    height, width = c.draw_size(rng)
    if rng.random() < 0.4:
        height = max(400, int(width * 0.66))
    colour = draw_vivid_colour(rng) if rng.random() < 0.55 else c.pale(rng)
    image = np.full((height, width, 3), colour, np.uint8)
    ink, other = c.ink_on(colour), draw_vivid_colour(rng)
    kind, inset = rng.random(), rng.uniform(0.02, 0.06) * width
    edge = c.rounded(image.shape, (inset, inset, width - 2 * inset, height - 2 * inset), inset)
    if kind < 0.4:
        c.outline(image, edge, ink, max(2, round(0.008 * width)))
    elif kind < 0.6:
        for x, y in ((0, 0), (width, 0), (0, height), (width, height)):
            c.paint(image, c.oval(image.shape, x, y, 0.4 * width), other)
    elif kind < 0.8:
        band = c.filled(image.shape, [(0, 0.82 * height), (width, 0.7 * height),
                                      (width, height), (0, height)])  # fmt: skip
        c.paint(image, band, other)
    return image, ink


def text(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw cards of nothing but words: one shop's design, another value."""
    head, values = _TEXTS[int(rng.integers(len(_TEXTS)))]
    shown = c.choose(rng, values, int(rng.integers(2, 7)))

    def draw(rng: Generator, member: int) -> RgbImage:
        image, ink = _framed(rng)
        height, width = image.shape[:2]
        brand, large = c.draw_font(rng), replace(c.draw_font(rng), case="as is")
        name, small = c.word(rng), f"www.{c.word(rng)}.com"
        size, align = rng.uniform(0.14, 0.28) * height, float(rng.choice([0.0, 0.5, 0.5, 1.0]))
        left, wide = 0.11 * width, 0.78 * width
        top = rng.uniform(0.4, 0.58) * height - size / 2
        is_headed, boxed, accent = rng.random() < 0.7, rng.random(), draw_vivid_colour(rng)
        at = 0.12 if is_headed else 0.8
        c.say(image, brand.named(name), (left, at * height, wide, 0.07 * height), brand, ink, align)
        if head:
            over = (left, top - 0.1 * height, wide, 0.055 * height)
            c.say(image, head, over, large, ink, align)
        if boxed < 0.3:
            plate = (left - 0.03 * width, top - 0.03 * height, wide + 0.06 * width)
            mask = c.rounded(image.shape, (*plate, size + 0.06 * height), 0.02 * width)
            c.paint(image, mask, accent)
            ink = c.ink_on(accent)
        elif boxed < 0.5:
            rule = (left, top + size + 0.04 * height, wide, 0.008 * height)
            c.paint(image, c.rounded(image.shape, rule, 0), accent)
        c.say(image, shown[member], (left, top, wide, size), large, ink, align)
        if is_headed and boxed >= 0.3:
            c.say(image, small, (left, 0.86 * height, wide, 0.03 * height), brand, ink, align)
        return image

    return c.family(rng, len(shown), draw)


_COLUMNS = ("Size", "Chest", "Waist", "Hip", "Length", "Sleeve", "EU", "UK", "US", "cm", "Inch")
_ROWS = (("XS", "S", "M", "L", "XL", "2XL", "3XL"), ("34", "36", "38", "40", "42", "44", "46"),
         ("2Y", "4Y", "6Y", "8Y", "10Y", "12Y", "14Y"))  # fmt: skip


def charts(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one seller's size table, with other numbers in each."""
    numbers = [np.random.default_rng(int(rng.integers(2**62))) for _ in range(rng.integers(2, 6))]
    count, is_near = len(numbers), rng.random() < 0.5

    def draw(rng: Generator, member: int) -> RgbImage:
        height, width = c.draw_size(rng, 560, 860)
        height = max(400, int(height * rng.uniform(0.7, 1)))
        image = np.full((height, width, 3), c.WHITE, np.uint8)
        paint, font = draw_colour(rng), replace(c.draw_font(rng), wide=1.0, case="as is")
        rows, columns = int(rng.integers(4, 8)), int(rng.integers(3, 6))
        names, heads = _ROWS[int(rng.integers(3))], ["Size", *c.choose(rng, _COLUMNS[1:], 5)]
        title, striped = str(rng.choice(["SIZE CHART", "Size guide", "Measurements"])), rng.random()
        note = rng.random() < 0.5
        top, left = 0.2 * height, 0.06 * width
        high, wide = (0.92 - 0.2 - 0.08 * note) * height / (rows + 1), 0.88 * width / columns
        c.say(image, title, (left, 0.07 * height, 0.88 * width, 0.07 * height), font, c.BLACK)
        first, step = rng.integers(24, 96, columns) + 2 * member, int(rng.integers(2, 6))
        if not is_near:
            first = numbers[member].integers(24, 110, columns)
        for row in range(rows + 1):
            if row == 0 or (striped < 0.5 and row % 2 == 0):
                ground = paint if row == 0 else c.mixed(paint, c.WHITE, 0.85)
                c.paint(image, c.rounded(image.shape, (left, top + row * high, 0.88 * width, high),
                                         0), ground)  # fmt: skip
            for column in range(columns):
                value = heads[column] if row == 0 else str(first[column] + step * row)
                value = names[row - 1] if row and column == 0 else value
                ink = c.ink_on(paint) if row == 0 else c.BLACK
                cell = (left + (column + 0.12) * wide, top + (row + 0.28) * high, 0.76 * wide)
                c.say(image, value, (*cell, min(0.44 * high, 0.045 * height)), font, ink)
        for row in range(rows + 2):
            line = [(left, top + row * high), (left + 0.88 * width, top + row * high)]
            c.paint(image, c.traced(image.shape, line, 1), (130, 130, 130))
        for column in range(columns + 1):
            line = [(left + column * wide, top), (left + column * wide, top + (rows + 1) * high)]
            c.paint(image, c.traced(image.shape, line, 1), (130, 130, 130))
        if note:
            words = "All sizes in cm. They may differ by 1 to 2 cm."
            c.say(image, words, (left, 0.94 * height, 0.88 * width, 0.025 * height), font,
                  (90, 90, 90))  # fmt: skip
        return image

    return c.family(rng, count, draw)


def _pattern(image: RgbImage, rng: Generator, colour: Colour) -> None:
    """Draw a ground's pattern: dots, slanted stripes, a curve or nothing."""
    height, width = image.shape[:2]
    kind, step = rng.random(), rng.uniform(0.05, 0.12) * width
    if kind < 0.25:
        for y in np.arange(0, height + step, step):
            for x in np.arange(0, width + step, step):
                c.paint(image, c.oval(image.shape, x, y, 0.25 * step), colour)
    elif kind < 0.5:
        for x in np.arange(-height, width, step):
            c.paint(
                image, c.traced(image.shape, [(x, height), (x + height, 0)], 0.2 * step), colour
            )
    elif kind < 0.75:
        knots = [
            (x * width, (0.5 + 0.3 * np.sin(4 * x + 9 * step)) * height)
            for x in np.linspace(0, 1, 9)
        ]
        bow = c.smooth(knots, closed=False)
        c.paint(image, c.filled(image.shape, [*bow, (width, height), (0, height)]), colour)


def _logo(image: RgbImage, box: Box, rng: Generator, ink: Colour) -> None:
    """Draw a mark and a name beside it."""
    left, top, wide, high = box
    colour, font, name = draw_vivid_colour(rng), c.draw_font(rng), c.word(rng)
    mark = c.oval(image.shape, left + high / 2, top + high / 2, high)
    if rng.random() < 0.5:
        spikes = np.linspace(0, 2 * np.pi, 9)[:-1]
        reach = np.where(np.arange(8) % 2, 0.25, 0.5) * high
        x, y = left + high / 2 + reach * np.cos(spikes), top + high / 2 + reach * np.sin(spikes)
        mark = c.filled(image.shape, np.stack([x, y], 1))
    c.paint(image, mark, colour)
    words = (left + 1.2 * high, top + 0.2 * high, wide - 1.2 * high, 0.6 * high)
    c.say(image, font.named(name), words, font, ink, 0.0)


def _bar(image: RgbImage, box: Box, rng: Generator) -> None:
    """Draw a bar of one to three promises."""
    colour, font = draw_vivid_colour(rng), c.draw_font(rng)
    c.paint(image, c.rounded(image.shape, box, 0), colour)
    said = c.choose(rng, ("Free shipping", "100 % original", "Cash on delivery", "2 years warranty",
                          "Top rated seller", "Easy returns", "Made with care"), 3)  # fmt: skip
    said = said[: int(rng.integers(1, 4))]
    for place, words in enumerate(said):
        cell = c.inside(box, (place + 0.06) / len(said), 0.28, 0.88 / len(said), 0.42)
        c.say(image, font.named(words), cell, font, c.ink_on(colour))


def template(rng: Generator, photos: Sequence[RgbImage], share: float) -> list[RgbImage]:
    """Draw one seller's frame, logo, banner and ground with another photo in each.

    Args:
        rng: generator.
        photos: at least two.
        share: of the area that the photo covers, about.

    Raises:
        ConfigError: there is one photo or none.
    """
    shown = c.draw_photos(rng, photos, int(rng.integers(2, 7)))

    def draw(rng: Generator, member: int) -> RgbImage:
        height, width = c.draw_size(rng)
        colour = draw_vivid_colour(rng) if rng.random() < 0.4 else c.pale(rng)
        image = np.full((height, width, 3), colour, np.uint8)
        _pattern(image, rng, c.mixed(colour, draw_colour(rng), 0.35))
        covered = share * rng.uniform(0.9, 1.1)
        head, foot = rng.uniform(0.09, 0.15), rng.uniform(0.08, 0.14)
        if share > 0.5:
            head, foot = 0.55 * head, 0.55 * foot
        free = 1 - 0.04 - head - foot
        high = min(free, covered / min(0.94, max(0.5, covered / free)))
        wide = min(0.96, covered / high)
        left = (1 - wide) * rng.uniform(0.3, 0.7)
        top = 0.02 + head + (free - high) * rng.uniform(0.2, 0.8)
        box = (left * width, top * height, wide * width, high * height)
        round_, rim = rng.uniform(0, 0.06) * width * (rng.random() < 0.4), draw_colour(rng)
        mask = c.rounded(image.shape, box, round_)
        c.cast(image, mask, 0.3 * rng.random(), 0.01)
        _paste(image, shown[member], box, mask)
        if rng.random() < 0.5:
            c.outline(image, mask, rim, max(2, round(0.01 * width)))
        logo = (0.05 * width, 0.2 * head * height, 0.5 * width, 0.72 * head * height)
        _logo(image, logo, rng, c.ink_on(colour))
        _bar(image, (0, (1 - foot) * height, width, foot * height + 1), rng)
        if share < 0.5 and rng.random() < 0.5:
            font = c.draw_font(rng)
            price = (0.62 * width, 0.3 * head * height, 0.33 * width, 0.5 * head * height)
            c.say(image, font.named(str(rng.choice(["Best price", "New", "Only today"]))), price,
                  font, c.ink_on(colour), 1.0)  # fmt: skip
        return image

    return c.family(rng, len(shown), draw)


def _paste(image: RgbImage, photo: RgbImage, box: Box, mask: Mask) -> None:
    """Put a photo into a box, cropped to its shape."""
    left, top, wide, high = (round(value) for value in box)
    sheet = np.zeros_like(image)
    part = sheet[top : top + high, left : left + wide]
    part[:] = resize_to_cover(photo, part.shape[1], part.shape[0])
    c.paint(image, mask, sheet)
