"""Shapes, text, light and grounds of which families are drawn.

Images are (h, w, 3) uint8 RGB and masks (h, w) uint8, 0 to 255, of the image's size. Lengths and
places are in pixels, ``x`` to the right and ``y`` down. Functions that paint work in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from dedup.augmentations.overlay import Colour, Mask, RgbImage, draw_vivid_colour, resize
from dedup.errors import ConfigError

Box: TypeAlias = tuple[float, float, float, float]  # left, top, width, height in pixels
Points: TypeAlias = npt.ArrayLike  # (n, 2)
Draw: TypeAlias = Callable[[Generator, int], RgbImage]  # of a family's generator and a member

WHITE, BLACK = (255, 255, 255), (20, 20, 22)
_SUBPIXEL = 4  # bits of a place below a pixel
_GLYPH = 64  # height of a rendered line before it is scaled
_SYLLABLES = (
    "ar", "bel", "cor", "dan", "el", "fi", "go", "hal", "is", "jo", "ka", "lum", "mi", "nor", "ol",
    "pra", "qui", "ra", "sol", "ti", "ul", "ver", "wen", "yo", "za", "bri", "cla", "dre", "flo",
    "gra", "sta", "tru", "vin", "lo", "na", "ro", "ta", "mo", "ne",
)  # fmt: skip


def family(rng: Generator, n: int, draw: Draw) -> list[RgbImage]:
    """Draw ``n`` members that differ in nothing but what ``draw`` makes of their number.

    ``draw`` gets a generator in the same state for every member, so it must take as many numbers
    from it whatever the member is.
    """
    seed = int(rng.integers(2**62))
    return [draw(np.random.default_rng(seed), member) for member in range(n)]


def draw_size(rng: Generator, low: int = 500, high: int = 800) -> tuple[int, int]:
    """Draw a height and width of a square or upright image, 400 to 900 pixels."""
    wide = int(rng.integers(low, high + 1))
    return (wide if rng.random() < 0.6 else min(900, int(wide * rng.uniform(1.05, 1.35)))), wide


def choose(rng: Generator, values: Sequence[str], n: int) -> list[str]:
    """Draw ``n`` different values, or all where there are fewer."""
    return [values[at] for at in rng.permutation(len(values))[:n]]


def draw_photos(rng: Generator, photos: Sequence[RgbImage], n: int) -> list[RgbImage]:
    """Draw ``n`` different photos, or all where there are fewer.

    Raises:
        ConfigError: there are fewer than two.
    """
    if len(photos) < 2:
        raise ConfigError(f"a family shows two photos or more, and there are {len(photos)}: "
                          "give a folder with more images")  # fmt: skip
    return [photos[int(at)] for at in rng.permutation(len(photos))[:n]]


def word(rng: Generator, low: int = 2, high: int = 3) -> str:
    """Make up a name of ``low`` to ``high`` syllables, in small letters."""
    return "".join(rng.choice(_SYLLABLES, int(rng.integers(low, high + 1))))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    """Mix two colours; ``share`` 1 is the other."""
    red, green, blue = (
        round(a + (b - a) * share) for a, b in zip(one, other, strict=True)
    )  # fmt: skip
    return red, green, blue


def pale(rng: Generator) -> Colour:
    """Draw a light colour."""
    return mixed(draw_vivid_colour(rng), WHITE, rng.uniform(0.72, 0.93))


def ink_on(colour: Colour) -> Colour:
    """Choose the more legible ink on a colour."""
    return BLACK if 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 135 else WHITE


def ground(rng: Generator, height: int, width: int) -> RgbImage:
    """Draw a ground: white, pale, a gradient from pale to pale, or a light in the middle."""
    kind, first, last = rng.random(), pale(rng), pale(rng)
    turn, centre = rng.uniform(0, 1), rng.uniform(0.35, 0.65)
    if kind < 0.45:
        return np.full((height, width, 3), WHITE, np.uint8)
    if kind < 0.65:
        return np.full((height, width, 3), first, np.uint8)
    row = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    column = np.linspace(0, 1, width, dtype=np.float32)[None]
    ramp = turn * row + (1 - turn) * column
    if kind > 0.85:
        ramp = np.minimum(1, 1.3 * np.hypot(row - centre, column - 0.5))
        first, last = WHITE, mixed(last, BLACK, 0.12)
    ends = np.array([first, last], np.float32)
    return np.asarray(ends[0] + (ends[1] - ends[0]) * ramp[..., None] + 0.5, np.uint8)


def _blank(shape: Sequence[int]) -> Mask:
    return np.zeros(tuple(shape[:2]), np.uint8)


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    return np.asarray(np.round(np.asarray(points, np.float64) * 2**_SUBPIXEL), np.int32)


def filled(shape: Sequence[int], points: Points) -> Mask:
    """Fill a polygon."""
    mask = _blank(shape)
    cv2.fillPoly(mask, [_fixed(points)], (255,), cv2.LINE_AA, _SUBPIXEL)
    return mask


def traced(shape: Sequence[int], points: Points, thick: float, closed: bool = False) -> Mask:
    """Draw a line through points, ``thick`` pixels wide and at least one."""
    mask = _blank(shape)
    cv2.polylines(mask, [_fixed(points)], closed, (255,), max(1, round(thick)), cv2.LINE_AA,
                  _SUBPIXEL)  # fmt: skip
    return mask


def oval(shape: Sequence[int], x: float, y: float, wide: float, high: float | None = None) -> Mask:
    """Fill an ellipse about a place, ``wide`` and ``high`` (or as wide) from edge to edge."""
    turn = np.linspace(0, 2 * math.pi, 97)[:-1]
    high = wide if high is None else high
    return filled(shape, np.stack([x + wide / 2 * np.cos(turn), y + high / 2 * np.sin(turn)], 1))


def rounded(shape: Sequence[int], box: Box, radius: float) -> Mask:
    """Fill a box with round corners."""
    left, top, wide, high = box
    radius = max(0.0, min(radius, wide / 2, high / 2))
    centres = [(left + wide - radius, top + high - radius), (left + radius, top + high - radius),
               (left + radius, top + radius), (left + wide - radius, top + radius)]  # fmt: skip
    arc = np.linspace(0, math.pi / 2, 9)
    turns = [arc + quarter * math.pi / 2 for quarter in range(4)]
    corners = [
        np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], 1)
        for (x, y), turn in zip(centres, turns, strict=True)
    ]
    return filled(shape, np.concatenate(corners))


def smooth(points: Points, closed: bool = True) -> npt.NDArray[np.float64]:
    """Lead a Catmull-Rom curve through (n, 2) points; return its points."""
    knots = np.asarray(points, np.float64)
    knots = (
        np.concatenate([knots[-1:], knots, knots[:2]])
        if closed
        else np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    )
    t = np.linspace(0, 1, 13)[:-1, None]
    parts = []
    for a, b, c, d in zip(knots, knots[1:], knots[2:], knots[3:], strict=False):
        parts.append(
            b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * b - a - 3 * c + d)))
        )
    return np.concatenate([*parts, knots[-2:-1]])


def within(box: Box, points: Points) -> npt.NDArray[np.float64]:
    """Place points given as shares of a box."""
    return np.asarray(points, np.float64) * (box[2], box[3]) + (box[0], box[1])


def spot(box: Box, x: float, y: float) -> tuple[float, float]:
    """Place a point given as shares of a box."""
    return (box[0] + x * box[2], box[1] + y * box[3])


def inside(box: Box, left: float, top: float, wide: float, high: float) -> Box:
    """Place a box given as shares of another."""
    return (box[0] + left * box[2], box[1] + top * box[3], wide * box[2], high * box[3])


def _part(mask: Mask) -> tuple[slice, slice]:
    left, top, wide, high = cv2.boundingRect(mask)
    return slice(top, top + high), slice(left, left + wide)


def paint(image: RgbImage, mask: Mask, colour: Colour | RgbImage, opacity: float = 1.0) -> None:
    """Paint a colour, or another image of the size, through a mask."""
    part = _part(mask)
    region = image[part]
    if not region.size:
        return
    new = colour[part] if isinstance(colour, np.ndarray) else np.full_like(region, colour)
    cover = mask[part] * np.float32(opacity / 255)
    region[:] = cv2.blendLinear(new, region, cover, 1 - cover)


def shade(
    image: RgbImage, mask: Mask, form: str, light: float = -0.3, depth: float = 0.4,
    gloss: float = 0.0,
) -> None:  # fmt: skip
    """Shade what a mask covers.

    Args:
        image: to be shaded.
        mask: of the shaded part.
        form: ``round`` about an upright axis, ``ball``, ``flat`` from corner to corner.
        light: where the brightest place is, -1 at the left to 1 at the right.
        depth: what the darkest place loses, 0 to 1.
        gloss: strength of a highlight, 0 to 1.
    """
    part = _part(mask)
    region = image[part]
    if not region.size:
        return
    across = np.linspace(-1, 1, region.shape[1], dtype=np.float32)[None]
    down = np.linspace(-1, 1, region.shape[0], dtype=np.float32)[:, None]
    if form == "round":
        away = np.abs(across - light) / (1 + abs(light)) + 0 * down
    elif form == "ball":
        away = np.hypot(across - light, down + 0.35) / (1.35 + abs(light))
    else:
        away = (np.abs(across - np.sign(light)) + down + 1) / 4
    bright = 1 - np.float32(depth) * np.clip(away, 0, 1) ** np.float32(1.6)
    shine = np.float32(gloss * 255) * np.exp(-((away / np.float32(0.12)) ** 2))
    new = np.clip(region * bright[..., None] + shine[..., None], 0, 255).astype(np.uint8)
    cover = mask[part] * np.float32(1 / 255)
    region[:] = cv2.blendLinear(new, region, cover, 1 - cover)


def outline(image: RgbImage, mask: Mask, colour: Colour, thick: int = 2) -> None:
    """Draw along a mask's edge, inside it."""
    core = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=max(1, thick))
    paint(image, np.asarray(cv2.subtract(mask, core), np.uint8), colour)


def softened(mask: Mask, sigma: float) -> Mask:
    """Blur a mask, by a sigma in pixels, at a quarter of its size where that is enough."""
    height, width = mask.shape
    if sigma < 4:
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), max(0.8, sigma)), np.uint8)
    small = cv2.resize(mask, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def cast(image: RgbImage, mask: Mask, depth: float = 0.25, soft: float = 0.015,
         aside: float = 0.01, below: float = 0.015) -> None:  # fmt: skip
    """Throw the soft shadow of a mask; ``soft``, ``aside``, ``below`` are shares of the width."""
    unit = image.shape[1]
    move = np.array([[1, 0, aside * unit], [0, 1, below * unit]])
    fallen = cv2.warpAffine(mask, move, mask.shape[::-1])
    paint(image, softened(np.asarray(fallen, np.uint8), soft * unit), (40, 40, 48), depth)


def stand(image: RgbImage, box: Box, depth: float = 0.35) -> None:
    """Throw the shadow of a thing that stands in a box onto the floor below it."""
    left, top, wide, high = box
    foot = oval(image.shape, left + wide / 2, top + high, wide * 1.08, 0.1 * wide)
    paint(image, softened(foot, 0.012 * image.shape[1]), (40, 40, 48), depth)


@dataclass(frozen=True)
class Font:
    """How words are set.

    Attributes:
        face: of ``cv2.putText``; -1 is Pillow's own font.
        bold: pixels by which strokes of 64 pixels' height grow.
        wide: stretch of the width.
        case: ``upper``, ``lower``, ``title`` or ``as is``, for names.
    """

    face: int
    bold: int
    wide: float
    case: str

    def named(self, text: str) -> str:
        """Set a name in this font's case."""
        cases = {"upper": text.upper(), "lower": text.lower(), "title": text.title()}
        return cases.get(self.case, text)


def draw_font(rng: Generator) -> Font:
    """Draw a font."""
    face = int(rng.choice([-1, -1, -1, 0, 2, 3, 4, 6, 7]))
    case = str(rng.choice(["upper", "lower", "title"]))
    return Font(face, int(rng.choice([0, 0, 1, 2, 4])), float(rng.uniform(0.85, 1.25)), case)


@cache
def _pillow() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_GLYPH * 1.3)


@cache
def _line(text: str, font: Font) -> Mask:
    """Render a line: as wide as its ink, and as high as ``Hg`` is."""
    room = 3 * _GLYPH
    if font.face < 0:
        image = Image.new("L", (room * (len(text) + 1), room))
        ImageDraw.Draw(image).text(
            (_GLYPH, 2 * _GLYPH), text, 255, _pillow(), anchor="ls", stroke_width=font.bold // 2
        )
        mask = np.array(image)
        mask = mask[2 * _GLYPH - int(0.97 * _GLYPH) : 2 * _GLYPH + int(0.3 * _GLYPH)]
    else:
        mask = np.zeros((room, room * (len(text) + 1)), np.uint8)
        (_, high), _ = cv2.getTextSize("H", font.face, 1.0, 1)
        place = (_GLYPH, 2 * _GLYPH)
        scale = 0.93 * _GLYPH / max(1, high)
        cv2.putText(mask, text, place, font.face, scale, (255,), 3 + font.bold, cv2.LINE_AA)
        mask = mask[2 * _GLYPH - int(0.97 * _GLYPH) : 2 * _GLYPH + int(0.3 * _GLYPH)]
    used = np.flatnonzero(mask.max(axis=0))
    if not used.size:
        return np.zeros((mask.shape[0], 1), np.uint8)
    return np.ascontiguousarray(mask[:, used[0] : used[-1] + 1])


def text_mask(shape: Sequence[int], text: str, box: Box, font: Font, align: float = 0.5) -> Mask:
    """Set a line into a box: capitals as high as the box, smaller where it would be too long.

    Args:
        shape: of the image.
        text: one line.
        box: to set it into.
        font: its font.
        align: 0 to the left, 0.5 in the middle, 1 to the right.
    """
    left, top, wide, high = box
    line = _line(text, font)
    scale = min(high / (0.97 * _GLYPH), wide / (line.shape[1] * font.wide))
    small = resize(
        np.repeat(line[..., None], 3, axis=2), line.shape[1] * scale * font.wide,
        line.shape[0] * scale,
    )[..., 0]  # fmt: skip
    mask = _blank(shape)
    x = round(left + align * (wide - small.shape[1]))
    y = round(top + (high - 0.97 * _GLYPH * scale) / 2)
    rows = slice(max(0, y), min(mask.shape[0], y + small.shape[0]))
    columns = slice(max(0, x), min(mask.shape[1], x + small.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        mask[rows, columns] = small[
            rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
        ]
    return mask


def say(
    image: RgbImage, text: str, box: Box, font: Font, colour: Colour, align: float = 0.5
) -> None:
    """Write a line into a box, see ``text_mask``."""
    paint(image, text_mask(image.shape, text, box, font, align), colour)
