"""Families of packaged goods: pack sizes, amounts and flavours of one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from dedup.augmentations.overlay import RgbImage, draw_vivid_colour
from families import canvas as c
from families import goods
from families.canvas import Box
from families.goods import Words

_WHATS = ("Shampoo", "Hand cream", "Coffee", "Protein", "Green tea", "Body lotion", "Vitamin C",
          "Face wash", "Rice", "Honey", "Cleaner", "Hair oil", "Almonds", "Soap")  # fmt: skip
_AMOUNTS = (
    ("100 ml", "200 ml", "250 ml", "400 ml", "500 ml", "750 ml", "1 l"),
    ("250 g", "500 g", "750 g", "1 kg", "2 kg", "5 kg"),
    ("0.5 kg", "1 kg", "1.5 kg", "2.5 kg", "3 kg"),
    ("30 capsules", "60 capsules", "90 capsules", "120 capsules", "180 capsules"),
    ("30 ct", "60 ct", "90 ct", "120 ct"), ("8 oz", "12 oz", "16 oz", "24 oz", "32 oz"),
    ("SPF 15", "SPF 20", "SPF 30", "SPF 50"), ("S", "M", "L", "XL", "XXL"),
    ("40 W", "60 W", "75 W", "100 W"), ("Size 1", "Size 2", "Size 3", "Size 4", "Size 5"),
)  # fmt: skip
_FLAVOURS = ("Vanilla", "Mango", "Lemon", "Cherry", "Mint", "Cocoa", "Rose", "Lavender", "Peach",
             "Coconut", "Apple", "Ginger", "Berry", "Original", "Orange", "Aloe")  # fmt: skip


def _scene(rng: Generator) -> tuple[RgbImage, Box]:
    """Draw a ground, and a box for goods on it."""
    height, width = c.draw_size(rng)
    side = rng.uniform(0.07, 0.12)
    box = (side * width, 0.08 * height, (1 - 2 * side) * width, rng.uniform(0.78, 0.85) * height)
    return c.ground(rng, height, width), box


def sizes(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one product with another amount on its label, 4 to 9 % of the image high."""
    amounts = _AMOUNTS[int(rng.integers(len(_AMOUNTS)))]
    shown = c.choose(rng, amounts, int(rng.integers(2, 6)))

    def draw(rng: Generator, member: int) -> RgbImage:
        image, box = _scene(rng)
        words = Words(c.word(rng), str(rng.choice(_WHATS)), shown[member],
                      rng.uniform(0.04, 0.09) * image.shape[0])  # fmt: skip
        goods.place(image, box, goods.draw_look(rng), words)
        return image

    return c.family(rng, len(shown), draw)


def flavours(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one product with another word, and another colour of the label or the body."""
    shown = c.choose(rng, _FLAVOURS, int(rng.integers(2, 7)))
    first = int(rng.integers(180))
    hues = [(first + at * 180 // len(shown)) % 180 for at in range(len(shown))]
    strong, whole = int(rng.integers(60, 230)), rng.random() < 0.3

    def draw(rng: Generator, member: int) -> RgbImage:
        image, box = _scene(rng)
        look = goods.draw_look(rng)
        hsv = np.array([[[hues[member], strong, rng.integers(150, 245)]]], np.uint8)
        red, green, blue = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].tolist()
        look = replace(look, label=(red, green, blue))
        if whole:
            look = replace(look, cap=(red, green, blue))
        words = Words(c.word(rng), shown[member], str(rng.choice(["250 g", "500 ml", "12 pcs"])),
                      0.05 * image.shape[0])  # fmt: skip
        goods.place(image, box, look, words)
        return image

    return c.family(rng, len(shown), draw)


def packs(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one packshot as packs: a badge on the ground or on the goods, or goods side by side."""
    kind = rng.random()
    counts = sorted(int(count) for count in c.choose(rng, ["1", "2", "3", "4", "6", "12"], 4))
    counts = counts[: int(rng.integers(2, 5))]
    if kind >= 0.7:
        counts = [min(count, 8) for count in counts]

    def draw(rng: Generator, member: int) -> RgbImage:
        image, box = _scene(rng)
        look = goods.draw_look(rng)
        words = Words(c.word(rng), str(rng.choice(_WHATS)), str(rng.choice(["250 ml", "1 kg"])),
                      0.045 * image.shape[0])  # fmt: skip
        if kind >= 0.7:
            _side_by_side(image, box, look, words, counts[member])
            return image
        filled = goods.place(image, box, look, words)
        if counts[member] > 1:
            _badge(image, filled if kind < 0.3 else None, counts[member], rng)
        return image

    return c.family(rng, len(counts), draw)


def _side_by_side(
    image: RgbImage, box: Box, look: goods.Look, words: Words, count: int
) -> None:  # fmt: skip
    """Draw goods in a row that overlap, or in two rows from five up."""
    rows = 1 if count < 5 else 2
    across = -(-count // rows)
    left, top, wide, high = box
    aspect = goods.GOODS[look.good].aspect
    step = 0.8 if across < 4 else 0.62
    tall = min(0.95 * high, wide / (aspect * (1 + step * (across - 1)))) * (1 if rows == 1 else 0.8)
    each, rise = tall * aspect, 0.25 * tall * (rows - 1)
    words = words._replace(amount_height=words.amount_height * tall / high)
    floor = top + high - 0.4 * (high - tall - rise)
    for row in range(rows):
        n = across if row < rows - 1 else count - across * (rows - 1)
        start = left + (wide - each * (1 + step * (n - 1))) / 2
        foot = floor - (rows - 1 - row) * 0.25 * tall
        for place in range(n):
            at = (start + step * each * place, foot - tall, each, tall)
            goods.place(image, at, look, words)


def _badge(image: RgbImage, on: Box | None, count: int, rng: Generator) -> None:
    """Draw a badge with the count: beside the goods at the top, or on them."""
    height, width = image.shape[:2]
    style, size = int(rng.integers(4)), rng.uniform(0.17, 0.26) * width
    colour, font = draw_vivid_colour(rng), replace(c.draw_font(rng), case="as is")
    right, low = rng.random() < 0.5, rng.random() < 0.4
    size *= 1 if style < 2 else 1.5
    text = (f"x{count}", f"{count}x", f"Pack of {count}", f"{count} PCS")[style]
    if on is None:
        x = width - 0.62 * size if right else 0.62 * size
        y = height - 0.6 * size if low else 0.6 * size
    else:
        x = on[0] + on[2] * (0.85 if right else 0.15)
        y = on[1] + on[3] * (0.85 if low else 0.2)
    x = min(max(x, 0.56 * size), width - 0.56 * size)
    if style < 2:
        mask = c.oval(image.shape, x, y, size)
        place = (x - 0.36 * size, y - 0.2 * size, 0.72 * size, 0.4 * size)
    else:
        mask = c.rounded(image.shape, (x - size / 2, y - 0.2 * size, size, 0.4 * size), 0.08 * size)
        place = (x - 0.44 * size, y - 0.11 * size, 0.88 * size, 0.22 * size)
    c.cast(image, mask, 0.2, 0.006, 0.003, 0.004)
    c.paint(image, mask, colour)
    c.say(image, text, place, font, c.ink_on(colour))
