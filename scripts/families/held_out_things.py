"""Families that no classifier is fitted on: jerseys, dials, mirrored and patterned things."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from dedup.augmentations.overlay import Colour, Mask, RgbImage, draw_vivid_colour
from families import canvas as c
from families.canvas import Box


def _square(rng: Generator, share: float = 0.84) -> tuple[RgbImage, Box]:
    """Draw a ground, and a square box in its middle."""
    height, width = c.draw_size(rng, 480, 780)
    image = c.ground(rng, height, width)
    side = share * min(height, width)
    return image, ((width - side) / 2, (height - side) / 2, side, side)


def jerseys(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw the back of one team's jersey with other numbers and names."""
    count = int(rng.integers(2, 7))
    numbers = c.choose(rng, [str(number) for number in range(1, 100)], count)
    names = [c.word(rng, 2, 3).upper()[:9] for _ in numbers]
    is_named = rng.random() < 0.8

    def draw(rng: Generator, member: int) -> RgbImage:
        image, box = _square(rng)
        first, second = draw_vivid_colour(rng), draw_vivid_colour(rng)
        body = c.within(box, [(0.36, 0.05), (0.64, 0.05), (0.77, 0.12), (0.74, 0.98), (0.26, 0.98),
                              (0.23, 0.12)])  # fmt: skip
        arms = [c.within(box, [(a, 0.115), (b, 0.47), (d, 0.52), (e, 0.3)]) for a, b, d, e in
                ((0.235, 0.04, 0.2, 0.27), (0.765, 0.96, 0.8, 0.73))]  # fmt: skip
        arms_ink = first if rng.random() < 0.4 else second
        whole = c.filled(image.shape, body)
        masks = [c.filled(image.shape, arm) for arm in arms]
        c.cast(image, np.maximum.reduce([whole, *masks]), 0.25)
        for mask in masks:
            c.paint(image, mask, arms_ink)
            c.shade(image, mask, "flat", -0.5, 0.25)
        c.paint(image, whole, first)
        style, thick = rng.random(), rng.uniform(0.03, 0.07)
        for at in np.arange(0.26, 0.8, 2 * thick):
            stripe = (
                c.inside(box, at, 0, thick, 1) if style < 0.3 else c.inside(box, 0, at, 1, thick)
            )
            if style < 0.5:
                c.paint(
                    image,
                    np.minimum(whole, c.rounded(image.shape, stripe, 0)),
                    c.mixed(first, second, 0.45),
                )
        c.shade(image, whole, "round", rng.uniform(-0.5, 0.5), 0.3)
        for mask in (whole, *masks):
            c.outline(image, mask, c.mixed(first, c.BLACK, 0.5), 1)
        rib = c.within(box, [(0.36, 0.05), (0.43, 0.085), (0.57, 0.085), (0.64, 0.05)])
        c.paint(image, c.traced(image.shape, c.smooth(rib, False), 0.03 * box[2]), second)
        ink = c.ink_on(c.mixed(first, second, 0.25))
        font = c.Font(
            int(rng.choice([-1, 2, 4])), int(rng.integers(3, 7)), rng.uniform(0.8, 1.1), ""
        )
        low = 0.33 if is_named else 0.28
        c.say(image, numbers[member], c.inside(box, 0.3, low, 0.4, 0.34), font, ink)
        if is_named:
            c.say(image, names[member], c.inside(box, 0.29, 0.18, 0.42, 0.075), font, ink)
        return image

    return c.family(rng, count, draw)


def _hand(image: RgbImage, x: float, y: float, turn: float, long: float, thick: float,
          colour: Colour) -> None:  # fmt: skip
    way = np.array([np.sin(turn), -np.cos(turn)])
    ends = np.array([x, y]) + np.array([-0.18, 1.0])[:, None] * way * long
    c.paint(image, c.traced(image.shape, ends, thick), colour)


def dials(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one clock, watch or gauge with other hands."""
    kind, count = int(rng.integers(3)), int(rng.integers(2, 7))
    step, most = (28, 25) if kind == 2 else (7, 100)
    times = [int(time) * step + 2 for time in rng.permutation(most)[:count]]  # minutes of 12 hours

    def draw(rng: Generator, member: int) -> RgbImage:
        image, box = _square(rng, 0.9)
        x, y, size = box[0] + box[2] / 2, box[1] + box[3] / 2, box[2] * (0.9, 0.62, 0.8)[kind]
        face = c.pale(rng) if rng.random() < 0.7 else (30, 30, 36)
        rim, ink = draw_vivid_colour(rng), c.ink_on(face)
        if kind == 1:
            strap = c.rounded(image.shape, c.inside(box, 0.34, 0, 0.32, 1), 0.03 * size)
            c.cast(image, strap, 0.25)
            c.paint(image, strap, draw_vivid_colour(rng))
            c.shade(image, strap, "round", 0, 0.45)
            crown = (x + 0.48 * size, y - 0.04 * size, 0.09 * size, 0.08 * size)
            c.paint(image, c.rounded(image.shape, crown, 4), (170, 170, 176))
        outer = c.oval(image.shape, x, y, size)
        c.cast(image, outer, 0.35)
        c.paint(image, outer, (182, 184, 190) if rng.random() < 0.4 else rim)
        c.shade(image, outer, "flat", rng.uniform(-1, 1), 0.4)
        c.paint(image, c.oval(image.shape, x, y, size * rng.uniform(0.84, 0.92)), face)
        ticks, font = int(rng.choice([12, 60])), c.draw_font(rng)
        numbered, roman = rng.random() < 0.65, rng.random() < 0.3
        first, sweep = (-2.3, 4.6) if kind == 2 else (0.0, 2 * np.pi)
        steps = 10 if kind == 2 else 12
        for tick in range((50 if ticks == 60 else 10) + 1 if kind == 2 else ticks):
            turn = first + sweep * tick / ((50 if ticks == 60 else 10) if kind == 2 else ticks)
            way = np.array([np.sin(turn), -np.cos(turn)])
            is_long = tick % 5 == 0 or ticks == 12
            ends = (
                np.array([x, y])
                + np.array([0.36 if is_long else 0.385, 0.405])[:, None] * way * size
            )
            c.paint(image, c.traced(image.shape, ends, size * (0.012 if is_long else 0.005)), ink)
        names = ["XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI"]
        for step in range(steps + 1 if kind == 2 else steps):
            turn = first + sweep * step / steps
            text = str(10 * step) if kind == 2 else names[step] if roman else str(step or 12)
            at = (x + 0.3 * size * np.sin(turn), y - 0.3 * size * np.cos(turn))
            place = (at[0] - 0.06 * size, at[1] - 0.025 * size, 0.12 * size, 0.05 * size)
            if numbered or kind == 2:
                c.say(image, text, place, font, ink)
        under = (x - 0.12 * size, y + 0.14 * size, 0.24 * size, 0.032 * size)
        c.say(image, font.named(c.word(rng)), under, font, ink)
        accent, slim = draw_vivid_colour(rng), rng.uniform(0.6, 1.3)
        if kind == 2:
            turn = first + sweep * times[member] / 704
            _hand(image, x, y, turn, 0.33 * size, 0.018 * size * slim, accent)
        else:
            _hand(
                image, x, y, times[member] / 720 * 2 * np.pi, 0.2 * size, 0.026 * size * slim, ink
            )
            _hand(image, x, y, times[member] / 60 * 2 * np.pi, 0.3 * size, 0.018 * size * slim, ink)
            _hand(image, x, y, times[member] * 1.7, 0.33 * size, 0.006 * size, accent)
        c.paint(image, c.oval(image.shape, x, y, 0.05 * size), ink)
        return image

    return c.family(rng, count, draw)


def _motif(image: RgbImage, box: Box, rng: Generator) -> None:
    """Draw a design that has a left and a right: a bird, a boat or a branch."""
    kind, first, second = int(rng.integers(3)), draw_vivid_colour(rng), draw_vivid_colour(rng)
    dark = c.mixed(first, c.BLACK, 0.5)
    if kind == 0:
        body = [(0.1, 0.5), (0.3, 0.32), (0.55, 0.4), (0.95, 0.24), (0.72, 0.6), (0.4, 0.68)]
        wing = [(0.38, 0.46), (0.6, 0.1), (0.7, 0.16), (0.62, 0.52)]
        bill = [(0.12, 0.44), (0.0, 0.5), (0.14, 0.54)]
        for points, paint in ((bill, second), (body, first), (wing, second)):
            shape = c.within(box, points)
            shape = shape if points is bill else c.smooth(shape)
            c.paint(image, c.filled(image.shape, shape), paint)
        c.paint(image, c.oval(image.shape, *c.spot(box, 0.24, 0.45), 0.03 * box[2]), c.BLACK)
    elif kind == 1:
        hull = [(0.08, 0.66), (0.92, 0.6), (0.8, 0.82), (0.22, 0.82)]
        sails = [(0.5, 0.08), (0.5, 0.6), (0.86, 0.56)], [(0.46, 0.2), (0.46, 0.6), (0.16, 0.62)]
        for points, paint in ((hull, dark), (sails[0], first), (sails[1], second)):
            c.paint(image, c.filled(image.shape, c.within(box, points)), paint)
        wave = [(x, 0.9 + 0.02 * (-1) ** n) for n, x in enumerate(np.linspace(0.02, 0.98, 13))]
        c.paint(
            image,
            c.traced(image.shape, c.smooth(c.within(box, wave), False), 0.015 * box[2]),
            second,
        )
    else:
        stem = c.smooth(c.within(box, [(0.1, 0.95), (0.3, 0.7), (0.5, 0.42), (0.9, 0.1)]), False)
        c.paint(image, c.traced(image.shape, stem, 0.02 * box[2]), dark)
        for at in np.linspace(0.15, 0.85, int(rng.integers(4, 8))):
            x, y = stem[int(at * (len(stem) - 1))]
            reach = rng.uniform(0.12, 0.24) * box[2]
            turn = rng.choice([-2.6, 0.2]) + rng.normal(0, 0.2)
            tip = np.array([np.cos(turn), np.sin(turn)])
            side = np.array([-tip[1], tip[0]])
            leaf = np.array([x, y]) + reach * np.array(
                [0 * tip, 0.5 * tip + 0.22 * side, tip, 0.5 * tip - 0.22 * side]
            )
            c.paint(image, c.filled(image.shape, c.smooth(leaf)), first if at < 0.6 else second)


def _framed_design(rng: Generator, mirrored: bool) -> RgbImage:
    """Draw a design in a picture frame with a caption; the frame is never mirrored."""
    image, box = _square(rng, 0.86)
    wood, paper, font = draw_vivid_colour(rng), c.pale(rng), c.draw_font(rng)
    mask = c.rounded(image.shape, box, 2)
    c.cast(image, mask, 0.4)
    c.paint(image, mask, wood)
    c.shade(image, mask, "flat", -0.6, 0.35)
    sheet = c.inside(box, 0.07, 0.07, 0.86, 0.86)
    c.paint(image, c.rounded(image.shape, sheet, 0), paper)
    design = np.full_like(image, paper)
    inner = c.inside(sheet, 0.12, 0.1, 0.76, 0.66)
    _motif(design, inner, rng)
    left, top, wide, high = (round(value) for value in inner)
    part = design[top : top + high, left : left + wide]
    image[top : top + high, left : left + wide] = part[:, ::-1] if mirrored else part
    words = c.inside(sheet, 0.2, 0.84, 0.6, 0.05)
    c.say(image, font.named(f"{c.word(rng)} studio"), words, font, c.BLACK)
    return image


def _glove(box: Box) -> npt.NDArray[np.float64]:
    return c.smooth(c.within(box, [
        (0.3, 0.98), (0.28, 0.72), (0.12, 0.55), (0.02, 0.42), (0.1, 0.34), (0.26, 0.46),
        (0.25, 0.3), (0.24, 0.12), (0.33, 0.1), (0.38, 0.3), (0.4, 0.08), (0.5, 0.06), (0.52, 0.3),
        (0.56, 0.1), (0.65, 0.11), (0.65, 0.34), (0.7, 0.2), (0.79, 0.23), (0.77, 0.5),
        (0.72, 0.72), (0.7, 0.98),
    ]))  # fmt: skip


def _shoe(box: Box) -> npt.NDArray[np.float64]:
    return c.smooth(c.within(box, [
        (0.06, 0.3), (0.2, 0.26), (0.34, 0.3), (0.5, 0.46), (0.74, 0.56), (0.95, 0.66),
        (0.96, 0.78), (0.5, 0.79), (0.08, 0.78), (0.04, 0.55),
    ]))  # fmt: skip


def _left_or_right(rng: Generator, mirrored: bool) -> RgbImage:
    """Draw a left or right glove or shoe beside a name that can be read."""
    image, box = _square(rng, 0.78)
    is_glove, first, second = rng.random() < 0.5, draw_vivid_colour(rng), draw_vivid_colour(rng)
    font, ground = c.draw_font(rng), image.copy()
    name, sign = f"{c.word(rng)} sport", str(rng.choice(["-25 %", "NEW", "TOP", "2026"]))
    points = _glove(box) if is_glove else _shoe(box)
    mask = c.filled(image.shape, points)
    laid = image.copy()
    c.cast(laid, mask, 0.3)
    c.paint(laid, mask, first)
    if is_glove:
        cuff = np.minimum(mask, c.rounded(image.shape, c.inside(box, 0, 0.8, 1, 0.2), 0))
        c.paint(laid, cuff, second)
        palm = c.oval(image.shape, *c.spot(box, 0.5, 0.58), 0.2 * box[2], 0.16 * box[3])
        c.paint(laid, palm, c.mixed(first, second, 0.5))
    else:
        sole = np.minimum(mask, c.rounded(image.shape, c.inside(box, 0, 0.72, 1, 0.1), 0))
        c.paint(laid, sole, second)
        for x, y in ((0.4, 0.42), (0.47, 0.48), (0.54, 0.53)):
            lace = c.within(box, [(x, y - 0.06), (x - 0.05, y + 0.09)])
            c.paint(laid, c.traced(image.shape, lace, 0.016 * box[2]), c.WHITE)
        band = c.smooth(
            c.within(box, [(0.18, 0.68), (0.34, 0.6), (0.5, 0.66), (0.66, 0.58)]), False
        )
        c.paint(laid, np.minimum(mask, c.traced(image.shape, band, 0.04 * box[2])), second)
    c.shade(laid, mask, "ball", 0.0, 0.35)
    c.outline(laid, mask, c.mixed(first, c.BLACK, 0.5), 1)
    change = np.abs(laid.astype(np.int16) - ground)
    if mirrored:
        image[:] = np.clip(ground - change[:, ::-1].astype(np.int16), 0, 255)
        flipped = np.ascontiguousarray(mask[:, ::-1])
        c.paint(image, flipped, np.ascontiguousarray(laid[:, ::-1]))
    else:
        image[:] = laid
    height, width = image.shape[:2]
    c.say(
        image,
        font.named(name),
        (0.2 * width, 0.03 * height, 0.6 * width, 0.05 * height),
        font,
        c.BLACK,
    )
    tag = c.oval(image.shape, 0.88 * width, 0.88 * height, 0.17 * width)
    c.paint(image, tag, second)
    c.say(
        image,
        sign,
        (0.82 * width, 0.855 * height, 0.12 * width, 0.05 * height),
        font,
        c.ink_on(second),
    )
    return image


def _sweater(rng: Generator, mirrored: bool) -> RgbImage:
    """Draw a long-sleeved sweater with a pocket on one side, and a design on its chest."""
    image, box = _square(rng, 0.9)
    wool = draw_vivid_colour(rng)
    points = c.within(box, [
        (0.36, 0.06), (0.5, 0.1), (0.64, 0.06), (0.8, 0.14), (0.97, 0.8), (0.86, 0.84),
        (0.74, 0.42), (0.74, 0.96), (0.26, 0.96), (0.26, 0.42), (0.14, 0.84),
        (0.03, 0.8), (0.2, 0.14),
    ])  # fmt: skip
    mask = c.filled(image.shape, points)
    c.cast(image, mask, 0.25)
    c.paint(image, mask, wool)
    for y in np.arange(0.1, 1, 0.022):
        row = c.traced(image.shape, c.within(box, [(0, y), (1, y)]), 1)
        c.paint(image, np.minimum(row, mask), c.BLACK, 0.12)
    c.shade(image, mask, "flat", rng.uniform(-1, 1), 0.25)
    hem = c.rounded(image.shape, c.inside(box, 0.26, 0.9, 0.48, 0.06), 0)
    c.paint(image, hem, c.BLACK, 0.2)
    tag = c.inside(box, 0.28, 0.82, 0.07, 0.05)
    c.paint(image, c.rounded(image.shape, tag, 2), c.ink_on(wool))
    area = c.inside(box, 0.33, 0.24, 0.34, 0.38)
    design = np.full_like(image, c.pale(rng))
    _motif(design, area, rng)
    left, top, wide, high = (round(value) for value in area)
    part = design[top : top + high, left : left + wide]
    image[top : top + high, left : left + wide] = part[:, ::-1] if mirrored else part
    return image


def mirrored(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw a design and its mirror image in one frame or on one sweater; left and right shoes."""
    what = (_framed_design, _left_or_right, _sweater)[int(rng.integers(3))]
    return c.family(rng, 2, lambda rng, member: what(rng, member == 1))


def _pattern(shape: Sequence[int], own: Generator, step: float) -> RgbImage:
    """Draw a pattern all over: dots, checks, waves, flowers, scales or triangles."""
    sheet = np.full(
        (*shape[:2], 3), c.pale(own) if own.random() < 0.6 else draw_vivid_colour(own), np.uint8
    )
    kind, first, second = int(own.integers(6)), draw_vivid_colour(own), draw_vivid_colour(own)
    step *= own.uniform(0.7, 1.4)
    grid = [
        (x, y)
        for y in np.arange(0, shape[0] + step, step)
        for x in np.arange(0, shape[1] + step, step)
    ]
    if kind == 1:
        for x in np.arange(0, shape[1], step):
            c.paint(sheet, c.rounded(shape, (x, 0, 0.5 * step, shape[0]), 0), first, 0.6)
        for y in np.arange(0, shape[0], step):
            c.paint(sheet, c.rounded(shape, (0, y, shape[1], 0.5 * step), 0), second, 0.5)
        return sheet
    if kind == 2:
        across = np.arange(0, shape[1] + step, step / 2)
        for n, y in enumerate(np.arange(0, shape[0] + step, step)):
            wave = np.stack([across, y + 0.3 * step * (-1.0) ** np.arange(len(across))], 1)
            line = c.smooth(wave, False) if first[0] % 2 else wave
            c.paint(sheet, c.traced(shape, line, 0.22 * step), second if n % 2 else first)
        return sheet
    for n, (x, y) in enumerate(grid):
        paint = first if n % 2 else second
        if kind == 0:
            c.paint(sheet, c.oval(shape, x, y, 0.55 * step), paint)
        elif kind == 3:
            for turn in np.arange(5) * 2 * np.pi / 5:
                px, py = x + 0.2 * step * np.cos(turn), y + 0.2 * step * np.sin(turn)
                c.paint(sheet, c.oval(shape, px, py, 0.24 * step), first)
            c.paint(sheet, c.oval(shape, x, y, 0.18 * step), second)
        elif kind == 4:
            c.outline(sheet, c.oval(shape, x, y, 1.1 * step), paint, max(2, round(0.07 * step)))
        else:
            c.paint(
                sheet, c.filled(shape, [(x, y), (x + step, y), (x + step / 2, y + step)]), paint
            )
    return sheet


def _plate(shape: Sequence[int], box: Box) -> tuple[Mask, list[Mask]]:
    x, y, size = box[0] + box[2] / 2, box[1] + box[3] / 2, box[2]
    return c.oval(shape, x, y, size), [
        c.oval(shape, x, y, 0.66 * size),
        c.oval(shape, x, y, 0.97 * size),
    ]


def _phone_case(shape: Sequence[int], box: Box) -> tuple[Mask, list[Mask]]:
    frame = c.inside(box, 0.25, 0, 0.5, 1)
    body = c.rounded(shape, frame, 0.09 * box[2])
    hole = c.rounded(shape, c.inside(frame, 0.08, 0.04, 0.4, 0.2), 0.05 * box[2])
    return cv2.subtract(body, hole).astype(np.uint8), [
        c.rounded(shape, c.inside(frame, 0.02, 0.01, 0.96, 0.98), 0.08 * box[2])
    ]


def _cushion(shape: Sequence[int], box: Box) -> tuple[Mask, list[Mask]]:
    points = [(0.03, 0.03), (0.5, 0.08), (0.97, 0.03), (0.92, 0.5), (0.97, 0.97), (0.5, 0.92),
              (0.03, 0.97), (0.08, 0.5)]  # fmt: skip
    return c.filled(shape, c.smooth(c.within(box, points))), []


def patterned(rng: Generator, photos: Sequence[RgbImage]) -> list[RgbImage]:
    """Draw one plate, phone case or cushion with other patterns."""
    what: Callable[[Sequence[int], Box], tuple[Mask, list[Mask]]]
    what = (_plate, _phone_case, _cushion)[int(rng.integers(3))]
    seeds = [int(rng.integers(2**62)) for _ in range(rng.integers(2, 7))]

    def draw(rng: Generator, member: int) -> RgbImage:
        image, box = _square(rng)
        mask, rims = what(image.shape, box)
        rim, light = draw_vivid_colour(rng), rng.uniform(-0.6, 0.6)
        c.cast(image, mask, 0.35, 0.02)
        c.paint(
            image, mask, _pattern(image.shape, np.random.default_rng(seeds[member]), 0.1 * box[2])
        )
        for edge in rims:
            c.outline(image, edge, rim, max(2, round(0.01 * box[2])))
        c.shade(image, mask, "ball", light, 0.3, 0.08)
        c.outline(image, mask, c.mixed(rim, c.BLACK, 0.5), 1)
        return image

    return c.family(rng, len(seeds), draw)
