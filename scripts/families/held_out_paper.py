"""Families that no classifier is fitted on: series of covers, codes, maps and plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator

from dedup.augmentations.overlay import Mask, RgbImage, draw_vivid_colour
from families import canvas as c
from families.canvas import Box

_SUBJECTS = ("The Lost", "A Year of", "Letters to", "The House of", "Notes on", "Return to",
             "The Last", "Beyond", "Songs of", "The Book of", "Winter in", "Under")  # fmt: skip


def _picture(image: RgbImage, box: Box, rng: Generator) -> None:
    """Draw a small landscape, still life or abstract picture into a box."""
    mask = c.rounded(image.shape, box, 0)
    sheet = np.full_like(image, c.pale(rng))
    kind = int(rng.integers(3))
    if kind == 0:
        for layer in range(4):
            tops = rng.uniform(0.2, 0.42, 7) + 0.16 * layer
            ridge = c.smooth(c.within(box, np.stack([np.linspace(-0.05, 1.05, 7), tops], 1)), False)
            foot = c.within(box, [(1.1, 1.1), (-0.1, 1.1)])
            c.paint(sheet, c.filled(image.shape, [*ridge, *foot]), draw_vivid_colour(rng))
        x, y = c.spot(box, rng.uniform(0.15, 0.85), rng.uniform(0.04, 0.2))
        c.paint(sheet, c.oval(image.shape, x, y, 0.16 * box[2]), draw_vivid_colour(rng))
    elif kind == 1:
        for _ in range(int(rng.integers(5, 10))):
            spots = rng.uniform(0, 1, (4, 2))
            shape = c.smooth(c.within(box, spots)) if rng.random() < 0.5 else c.within(box, spots)
            c.paint(sheet, c.filled(image.shape, shape), draw_vivid_colour(rng), 0.85)
    else:
        for x in np.linspace(0.08, 0.92, int(rng.integers(4, 9))):
            tall = rng.uniform(0.2, 0.85)
            tower = c.inside(box, x - 0.05, 1 - tall, rng.uniform(0.06, 0.14), tall)
            c.paint(sheet, c.rounded(image.shape, tower, 0), draw_vivid_colour(rng))
    c.paint(image, mask, sheet)


def series(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw covers of a series: one layout, another title and small picture."""
    seeds = [int(rng.integers(2**62)) for _ in range(rng.integers(2, 7))]

    def draw(rng: Generator, member: int) -> RgbImage:
        own = np.random.default_rng(seeds[member])
        wide = int(rng.integers(440, 640))
        high = min(900, int(wide * rng.uniform(1.3, 1.5)))
        image = np.full((high, wide, 3), c.pale(rng), np.uint8)
        back = draw_vivid_colour(rng) if rng.random() < 0.6 else c.pale(rng)
        is_book, font, other = rng.random() < 0.6, c.draw_font(rng), c.draw_font(rng)
        margin = 0.07 if is_book else 0.0
        box = (margin * wide, margin * high, (1 - 2 * margin) * wide, (1 - 2 * margin) * high)
        cover = c.rounded(image.shape, box, 4 if is_book else 0)
        if is_book:
            c.cast(image, cover, 0.4, 0.015, 0.012, 0.01)
        c.paint(image, cover, back)
        ink, style, band = c.ink_on(back), rng.random(), draw_vivid_colour(rng)
        name, author = c.word(rng), f"{c.word(rng)} {c.word(rng)}"
        title = f"{own.choice(_SUBJECTS)} {c.word(own)}"
        shown = (
            c.inside(box, 0.12, 0.36, 0.76, 0.42) if style < 0.5 else c.inside(box, 0, 0.3, 1, 0.5)
        )
        if style > 0.75:
            shown = c.inside(box, 0.3, 0.45, 0.4, 0.3)
        strip = c.inside(box, 0, 0.86, 1, 0.14)
        c.paint(image, c.rounded(image.shape, strip, 0), band)
        c.say(image, f"{name.upper()} LIBRARY", c.inside(box, 0.1, 0.05, 0.8, 0.025), other, ink)
        c.say(image, font.named(title), c.inside(box, 0.08, 0.14, 0.84, 0.08), font, ink)
        c.say(image, str(member + 1), c.inside(box, 0.42, 0.245, 0.16, 0.03), other, ink)
        c.say(image, author.title(), c.inside(strip, 0.1, 0.3, 0.8, 0.35), other, c.ink_on(band))
        _picture(image, shown, own)
        if is_book:
            spine = c.rounded(image.shape, c.inside(box, 0.03, 0, 0.012, 1), 0)
            c.paint(image, spine, c.BLACK, 0.25)
        return image

    return c.family(rng, len(seeds), draw)


def _square_code(own: Generator, cells: int) -> Mask:
    """Draw a matrix code's modules, (cells, cells), with three finders: 255 is ink."""
    code = own.integers(0, 2, (cells, cells)).astype(np.uint8)
    for row, column in ((0, 0), (0, cells - 7), (cells - 7, 0)):
        code[max(0, row - 1) : row + 8, max(0, column - 1) : column + 8] = 0
        code[row : row + 7, column : column + 7] = 1
        code[row + 1 : row + 6, column + 1 : column + 6] = 0
        code[row + 2 : row + 5, column + 2 : column + 5] = 1
    return np.asarray(code * 255, np.uint8)


def _code(image: RgbImage, box: Box, own: Generator, cells: int) -> None:
    """Draw a matrix code of ``cells`` modules, or a bar code for 0, into a box."""
    left, top, wide, high = (round(value) for value in box)
    if cells:
        wide = high = min(wide, high)
        modules = _square_code(own, cells)
    else:
        bars = np.repeat(np.arange(60) % 2, own.integers(1, 5, 60)).astype(np.uint8)
        modules = np.asarray(bars[None] * 255, np.uint8)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[top : top + high, left : left + wide] = cv2.resize(
        modules, (wide, high), interpolation=cv2.INTER_NEAREST
    )
    c.paint(image, np.ascontiguousarray(mask), c.BLACK)


def _number(own: Generator, form: str) -> str:
    """Fill a form: A is a letter, 0 a digit."""
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    return "".join(
        letters[int(own.integers(23))] if sign == "A"
        else str(own.integers(10)) if sign == "0" else sign for sign in form
    )  # fmt: skip


def _ticket(image: RgbImage, rng: Generator, own: Generator) -> None:
    """Draw a ticket with a seat, a number and a bar code."""
    height, width = image.shape[:2]
    paint, font, plain = draw_vivid_colour(rng), c.draw_font(rng), c.Font(-1, 0, 1.0, "as is")
    box = (0.06 * width, 0.22 * height, 0.88 * width, 0.56 * height)
    mask = c.rounded(image.shape, box, 0.03 * width)
    c.cast(image, mask, 0.25)
    c.paint(image, mask, paint)
    stub = c.inside(box, 0.74, 0, 0.26, 1)
    c.paint(image, np.minimum(mask, c.rounded(image.shape, stub, 0)), c.mixed(paint, c.WHITE, 0.8))
    for y in np.linspace(0.06, 0.94, 14):
        c.paint(image, c.oval(image.shape, stub[0], box[1] + y * box[3], 0.012 * width), c.WHITE)
    ink = c.ink_on(paint)
    c.say(
        image, font.named(f"{c.word(rng)} live"), c.inside(box, 0.06, 0.14, 0.6, 0.2), font, ink, 0
    )
    c.say(image, "Admit one", c.inside(box, 0.06, 0.44, 0.5, 0.09), plain, ink, 0.0)
    seat = f"Row {_number(own, 'A')}   Seat {int(own.integers(1, 60))}"
    c.say(image, seat, c.inside(box, 0.06, 0.6, 0.6, 0.12), plain, ink, 0.0)
    c.say(
        image, f"No. {_number(own, '000000')}", c.inside(box, 0.06, 0.78, 0.6, 0.09), plain, ink, 0
    )
    _code(image, c.inside(stub, 0.18, 0.12, 0.64, 0.76), own, 0)


def _plate(image: RgbImage, rng: Generator, own: Generator) -> None:
    """Draw a number plate."""
    height, width = image.shape[:2]
    form = str(rng.choice(["AA 00 AAA", "A-AA 0000", "AA 00 AA 0000", "000 AAA", "AAA-0000"]))
    paint = ((246, 246, 246), (246, 206, 58), (24, 24, 28))[int(rng.integers(3))]
    box = (0.05 * width, 0.36 * height, 0.9 * width, 0.24 * height)
    mask = c.rounded(image.shape, box, 0.02 * width)
    c.cast(image, mask, 0.35)
    c.paint(image, mask, paint)
    c.outline(image, mask, c.ink_on(paint), max(2, round(0.007 * width)))
    strip = c.inside(box, 0.015, 0.06, 0.08, 0.88)
    c.paint(image, c.rounded(image.shape, strip, 3), (30, 60, 160))
    font = c.Font(int(rng.choice([-1, 0, 2])), 3, 0.95, "as is")
    c.say(image, c.word(rng)[:2].upper(), c.inside(strip, 0.15, 0.7, 0.7, 0.14), font, c.WHITE)
    c.say(image, _number(own, form), c.inside(box, 0.13, 0.24, 0.83, 0.54), font, c.ink_on(paint))
    for x in (0.16, 0.9):
        c.paint(
            image,
            c.oval(image.shape, *c.spot(box, x, 0.1), 0.018 * width),
            (150, 150, 155),
        )


def _sticker(image: RgbImage, rng: Generator, own: Generator) -> None:
    """Draw a sheet with a matrix code or a bar code, a head and a number."""
    height, width = image.shape[:2]
    font, cells = c.draw_font(rng), int(rng.choice([0, 25, 29, 33]))
    head = str(rng.choice(["SCAN ME", "Pay here", "Follow us", "Menu", "Serial number"]))
    c.say(image, head, (0.15 * width, 0.06 * height, 0.7 * width, 0.09 * height), font, c.BLACK)
    side = 0.64 * min(width, height)
    _code(image, ((width - side) / 2, 0.21 * height, side, side), own, cells)
    foot = (0.15 * width, 0.21 * height + side + 0.03 * height, 0.7 * width, 0.04 * height)
    c.say(image, _number(own, "00 0000 0000"), foot, c.Font(-1, 0, 1.1, "as is"), c.BLACK)


def codes(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw stickers with codes, tickets or number plates, with other numbers."""
    what: Callable[[RgbImage, Generator, Generator], None]
    what = (_sticker, _ticket, _plate)[int(rng.integers(3))]
    seeds = [int(rng.integers(2**62)) for _ in range(rng.integers(2, 7))]

    def draw(rng: Generator, member: int) -> RgbImage:
        width = int(rng.integers(520, 860))
        height = max(400, int(width * rng.uniform(0.62, 1.05)))
        image = np.full(
            (height, width, 3), c.WHITE if rng.random() < 0.5 else c.pale(rng), np.uint8
        )
        what(image, rng, np.random.default_rng(seeds[member]))
        return image

    return c.family(rng, len(seeds), draw)


_ROOMS = ("Living", "Kitchen", "Bedroom", "Bath", "Hall", "Office", "Store", "Dining", "Balcony")


def _rooms(own: Generator, box: Box, least: float) -> list[Box]:
    """Split a box into rooms at random walls."""
    left, top, wide, high = box
    if max(wide, high) < 2.2 * least or (max(wide, high) < 3.2 * least and own.random() < 0.3):
        return [box]
    at = own.uniform(0.36, 0.64)
    if wide > high:
        parts = [(left, top, wide * at, high), (left + wide * at, top, wide * (1 - at), high)]
    else:
        parts = [(left, top, wide, high * at), (left, top + high * at, wide, high * (1 - at))]
    return [room for part in parts for room in _rooms(own, part, least)]


def _floor_plan(image: RgbImage, rng: Generator, own: Generator) -> None:
    """Draw a floor plan: walls, doors, names and areas of rooms, and a title."""
    height, width = image.shape[:2]
    font, fill = replace(c.draw_font(rng), case="as is"), c.pale(rng)
    wall, thick = (50, 50, 56), rng.uniform(0.008, 0.014) * width
    box = (0.08 * width, 0.16 * height, 0.84 * width, 0.76 * height)
    title = f"{c.word(rng).title()} Park, plan {_number(own, 'A-00')}"
    c.say(
        image, title, (0.08 * width, 0.05 * height, 0.84 * width, 0.055 * height), font, wall, 0.0
    )
    c.paint(image, c.rounded(image.shape, box, 0), fill)
    names = c.choose(own, _ROOMS, len(_ROOMS))
    for number, room in enumerate(_rooms(own, box, 0.27 * min(box[2], box[3]))):
        corners = c.within(room, [(0, 0), (1, 0), (1, 1), (0, 1)])
        c.paint(image, c.traced(image.shape, corners, thick, True), wall)
        place, across = own.uniform(0.25, 0.6), own.random() < 0.5
        reach = 0.22 * min(room[2], room[3])
        x, y = (
            (room[0] + place * room[2], room[1]) if across else (room[0], room[1] + place * room[3])
        )
        end = (x + reach, y) if across else (x, y + reach)
        c.paint(image, c.traced(image.shape, [(x, y), end], thick + 2), fill)
        turn = np.linspace(0, np.pi / 2, 13)
        arc = np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], 1)
        c.paint(image, c.traced(image.shape, [(x, y), *arc], 1), wall)
        line = min(0.035 * height, 0.16 * room[3])
        words = c.inside(room, 0.12, 0.48, 0.76, 0)[:3]
        c.say(image, names[number % len(names)], (*words, line), font, wall)
        area = f"{room[2] * room[3] / (width * height) * 90:.0f} m2"
        c.say(image, area, (words[0], words[1] + 1.6 * line, words[2], 0.75 * line), font, wall)


def _street_map(image: RgbImage, rng: Generator, own: Generator) -> None:
    """Draw a town map in one style: streets, water, parks, and the town's name."""
    height, width = image.shape[:2]
    land, road, water, park = c.pale(rng), c.pale(rng), (150, 190, 220), (176, 208, 160)
    if rng.random() < 0.4:
        land, road, water, park = (40, 46, 60), (210, 206, 190), (24, 60, 96), (52, 80, 66)
    elif rng.random() < 0.5:
        road = (90, 90, 96)
    font, foot = c.draw_font(rng), 0.16 * height
    image[:] = land
    box = (0.0, 0.0, float(width), float(height))
    for _ in range(3):
        knots = own.uniform(0.05, 0.95, 2) + own.uniform(-0.14, 0.14, (6, 2))
        order = np.argsort(np.arctan2(*(knots - knots.mean(0)).T))
        c.paint(image, c.filled(image.shape, c.smooth(c.within(box, knots[order]))), park)
    river = np.stack([np.linspace(-0.1, 1.1, 6), own.uniform(0.1, 0.8, 6)], 1)
    river = river[:, ::-1] if own.random() < 0.5 else river
    c.paint(
        image, c.traced(image.shape, c.smooth(c.within(box, river), False), 0.05 * width), water
    )
    for number in range(26):
        start, turn = own.uniform(0, 1, 2), own.choice([0.2, 0.2 + np.pi / 2]) + own.normal(0, 0.25)
        way = np.array([np.cos(turn), np.sin(turn)])
        line = start + way * np.linspace(-1.4, 1.4, 5)[:, None] + own.normal(0, 0.03, (5, 2))
        thick = (0.012 if number < 5 else 0.005) * width
        c.paint(image, c.traced(image.shape, c.smooth(c.within(box, line), False), thick), road)
    plate = (0.0, height - foot, float(width), foot)
    c.paint(image, c.rounded(image.shape, plate, 0), c.WHITE)
    c.say(image, font.named(c.word(own)), c.inside(plate, 0.15, 0.2, 0.7, 0.36), font, c.BLACK)
    degrees = f"{own.uniform(1, 60):.3f} N  {own.uniform(1, 150):.3f} E"
    c.say(image, degrees, c.inside(plate, 0.25, 0.7, 0.5, 0.14), font, (90, 90, 90))
    frame = c.rounded(image.shape, c.inside(box, 0.0, 0, 1, 1), 0)
    c.outline(image, frame, c.WHITE, max(4, round(0.03 * width)))


def maps_and_plans(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw floor plans with other rooms, or posters of other towns in one style."""
    what = _floor_plan if rng.random() < 0.55 else _street_map
    seeds = [int(rng.integers(2**62)) for _ in range(rng.integers(2, 7))]

    def draw(rng: Generator, member: int) -> RgbImage:
        height, width = c.draw_size(rng, 520, 760)
        image = np.full((height, width, 3), c.WHITE, np.uint8)
        what(image, rng, np.random.default_rng(seeds[member]))
        return image

    return c.family(rng, len(seeds), draw)
