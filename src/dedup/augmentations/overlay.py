"""Edits that add to an image or hide parts of it: text, stickers, banners, borders, patches.

Every edit here is ``(image, strength, rng, other) -> image``, as in `dedup.augmentations`, on
(h, w, 3) uint8 RGB. The drawing functions work in place, on a copy that an edit has made.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

RgbImage: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]
Box: TypeAlias = tuple[float, float, float, float]  # left, top, width, height as shares of 1

_CONSONANTS, _VOWELS, _SIGNS = "bcdfghklmnprstvwz", "aeiou", ("$", "US$ ", "EUR ", "Rs. ", "")
_FONT_SIZE = 36
_OPAQUE = 255


def draw_parameter(strength: float, rng: Generator, low: float, high: float) -> float:
    """Draw a parameter between ``low`` (strength 0) and about ``high`` (strength 1)."""
    return low + (high - low) * strength * rng.uniform(0.75, 1.0)


def draw_colour(rng: Generator) -> Colour:
    """Draw a colour that shops put on or around images: often white, black or grey."""
    kind = rng.random()
    if kind < 0.3:
        return (255, 255, 255)
    if kind < 0.4:
        return (0, 0, 0)
    if kind < 0.6:
        grey = int(rng.integers(20, 250))
        return (grey, grey, grey)
    return draw_vivid_colour(rng)


def draw_vivid_colour(rng: Generator) -> Colour:
    """Draw a saturated or pale colour of any hue."""
    pixel = np.array(
        [[[rng.integers(180), rng.integers(40, 256), rng.integers(90, 256)]]], dtype=np.uint8
    )
    red, green, blue = cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0]
    return int(red), int(green), int(blue)


def resize(image: RgbImage, width: float, height: float) -> RgbImage:
    """Resize an image to a size in pixels, at least 1 x 1."""
    size = max(1, round(width)), max(1, round(height))
    is_smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR),
        dtype=np.uint8,
    )


def resize_to_cover(image: RgbImage, width: int, height: int) -> RgbImage:
    """Resize and crop an image about its middle to (height, width), with its aspect kept."""
    rows, columns = image.shape[:2]
    scale = max(width / columns, height / rows)
    high, wide = max(1, int(height / scale)), max(1, int(width / scale))
    top, left = (rows - high) // 2, (columns - wide) // 2
    return resize(image[top : top + high, left : left + wide], width, height)


def make_phrase(rng: Generator) -> str:
    """Make up one to three words, or a price."""
    if rng.random() < 0.35:
        price = f"{rng.choice(_SIGNS)}{rng.integers(1, 2000)}"
        return price + str(rng.choice(["", ".99", ",00", " -50%", "/-", "!"]))
    words = " ".join(_word(rng) for _ in range(rng.integers(1, 4)))
    return words.upper() if rng.random() < 0.5 else words.capitalize()


def _word(rng: Generator) -> str:
    """Make up a word of two to eight letters."""
    pairs = rng.integers(0, [[len(_CONSONANTS)], [len(_VOWELS)]], (2, int(rng.integers(1, 5))))
    return "".join(_CONSONANTS[first] + _VOWELS[second] for first, second in pairs.T)


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(_FONT_SIZE)


def render_text(text: str, height: float, rng: Generator) -> Mask:
    """Render a text's coverage, (height, about its length) uint8: thin or bold, narrow or wide."""
    left, top, right, bottom = _font().getbbox(text)
    image = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(image).text((-left, -top), text, _OPAQUE, _font())
    wide = image.width * height / image.height * rng.uniform(0.8, 1.3)
    bold = np.ones((int(rng.integers(1, 4)),) * 2, np.uint8)
    return resize(np.asarray(cv2.dilate(np.asarray(image), bold), np.uint8), wide, height)


def _turned(mask: Mask, degrees: float) -> Mask:
    """Rotate a mask or patch about its middle, in a box that holds all of it."""
    height, width = mask.shape[:2]
    turn = np.array(cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0), np.float64)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    wide, high = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
    turn[:, 2] += [(wide - width) / 2, (high - height) / 2]
    return np.asarray(cv2.warpAffine(mask, turn, (wide, high)), dtype=np.uint8)


def blend(
    canvas: RgbImage, mask: Mask, paint: RgbImage | Colour, left: float, top: float, opacity: float
) -> None:
    """Paint a colour or a patch through a mask, clipped at the canvas."""
    x, y = round(left), round(top)
    rows = slice(max(0, y), min(canvas.shape[0], y + mask.shape[0]))
    columns = slice(max(0, x), min(canvas.shape[1], x + mask.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    inside = (slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x))
    cover = mask[inside] * np.float32(opacity / _OPAQUE)
    region = canvas[rows, columns]
    new = paint[inside] if isinstance(paint, np.ndarray) else np.full_like(region, paint)
    region[:] = cv2.blendLinear(new, region, cover, 1 - cover)


def write(canvas: RgbImage, box: Box, ink: Colour, rng: Generator, opacity: float = 1.0) -> None:
    """Write a phrase into a box of pixels, made smaller if it is too long."""
    left, top, width, height = box
    text = render_text(make_phrase(rng), max(4.0, height), rng)
    if text.shape[1] > width:
        text = resize(text, width, max(4.0, text.shape[0] * width / text.shape[1]))
    shift = rng.uniform(0, 1) * max(0.0, width - text.shape[1])
    blend(canvas, text, ink, left + shift, top + (height - text.shape[0]) / 2, opacity)


def _place(rng: Generator, shape: Sequence[int], height: float, width: float) -> tuple[int, int]:
    """Choose left and top of an object on an image: a corner, the middle or anywhere."""
    free = (shape[1] - width, shape[0] - height)
    kind = rng.random()
    if kind < 0.5:
        inset = 0.03 * min(shape[:2])
        x, y = (rng.choice([inset, max(inset, room - inset)]) for room in free)
    elif kind < 0.6:
        x, y = free[0] / 2, free[1] / 2
    else:
        x, y = (rng.uniform(min(0, room), max(0, room)) for room in free)
    return int(x), int(y)


def choose_ink(paint: Colour) -> Colour:
    """Choose black or white as the more legible ink on a colour."""
    return (0, 0, 0) if sum(paint) > 400 else (255, 255, 255)


def watermark(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add half-transparent text: once at any angle and place, or all over."""
    canvas = image.copy()
    height, width = image.shape[:2]
    opacity = draw_parameter(strength, rng, 0.1, 0.65)
    ink = (255, 255, 255) if rng.random() < 0.5 else draw_colour(rng)
    angle = float(rng.choice([0, 0, 30, 45, -30, 90, rng.uniform(-60, 60)]))
    if rng.random() < 0.4:
        blend(canvas, _tiles(height, width, angle, rng), ink, 0, 0, opacity)
        return canvas
    text = render_text(make_phrase(rng), _FONT_SIZE, rng)
    scale = draw_parameter(strength, rng, 0.25, 0.95) * width / text.shape[1]
    scale = min(scale, 0.4 * height / text.shape[0])
    text = resize(text, text.shape[1] * scale, text.shape[0] * scale)
    if rng.random() < 0.3:
        text = cv2.copyMakeBorder(text, 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=(0,)).astype(
            np.uint8
        )
        cv2.rectangle(text, (0, 0), (text.shape[1] - 1, text.shape[0] - 1), (_OPAQUE,), 2)
    text = _turned(text, angle)
    blend(canvas, text, ink, *_place(rng, canvas.shape, *text.shape), opacity)
    return canvas


def _tiles(height: int, width: int, angle: float, rng: Generator) -> Mask:
    """Tile (height, width) with a text at an angle."""
    text = render_text(make_phrase(rng), max(6.0, rng.uniform(0.04, 0.1) * min(height, width)), rng)
    gaps = int(text.shape[0] * rng.uniform(0.6, 4)), int(text.shape[0] * rng.uniform(0.5, 4))
    row = cv2.copyMakeBorder(text, 0, gaps[0], 0, gaps[1], cv2.BORDER_CONSTANT, value=(0,))
    tile = np.vstack([row, np.roll(row, row.shape[1] // 2, axis=1)])
    side = math.ceil(math.hypot(height, width)) + 1
    sheet = np.tile(tile, (side // tile.shape[0] + 1, side // tile.shape[1] + 1))[:side, :side]
    turn = np.array(cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1.0), np.float64)
    turn[:, 2] += [(width - side) / 2, (height - side) / 2]
    return np.asarray(cv2.warpAffine(sheet, turn, (width, height)), dtype=np.uint8)


def _disc(height: int, width: int, _: Generator) -> Mask:
    mask = np.zeros((height, width), dtype=np.uint8)
    centre, axes = (width // 2, height // 2), (max(1, width // 2 - 1), max(1, height // 2 - 1))
    cv2.ellipse(mask, centre, axes, 0, 0, 360, (_OPAQUE,), -1, cv2.LINE_AA)
    return mask


def _polygon(height: int, width: int, corners: npt.NDArray[np.float64]) -> Mask:
    """Draw a filled polygon; its corners are shares of (width, height)."""
    mask = np.zeros((height, width), dtype=np.uint8)
    points = np.round(corners * [width - 1, height - 1]).astype(np.int32)
    cv2.fillPoly(mask, [points], (_OPAQUE,), cv2.LINE_AA)
    return mask


def _star(height: int, width: int, rng: Generator) -> Mask:
    spikes = int(rng.choice([5, 8, 12, 16, 24]))
    turns = np.arange(2 * spikes) * math.pi / spikes
    radius = np.where(np.arange(2 * spikes) % 2, rng.uniform(0.6, 0.88) if spikes > 5 else 0.45, 1)
    ring = np.stack([np.sin(turns), -np.cos(turns)], axis=1) * radius[:, None]
    return _polygon(height, width, 0.5 + 0.5 * ring)


def _ribbon(height: int, width: int, rng: Generator) -> Mask:
    """Draw a band across the box's corner, or the whole corner."""
    inner = rng.choice([0.0, rng.uniform(0.4, 0.7)])
    return _polygon(height, width, np.array([[inner, 0], [1, 0], [0, 1], [0, inner]]))


def _slab(height: int, width: int, _: Generator) -> Mask:
    return np.full((height, width), _OPAQUE, dtype=np.uint8)


def _flag(height: int, width: int, rng: Generator) -> Mask:
    notch = rng.uniform(0.7, 0.95)
    return _polygon(height, width, np.array([[0, 0], [1, 0], [notch, 0.5], [1, 1], [0, 1]]))


_SHAPES: dict[str, Callable[[int, int, Generator], Mask]] = {
    "disc": _disc, "star": _star, "ribbon": _ribbon, "slab": _slab, "flag": _flag, "code": _slab,
}  # fmt: skip


def sticker(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add one to four badges, labels, corner ribbons or codes on up to a quarter of the area."""
    canvas = image.copy()
    height, width = image.shape[:2]
    share = draw_parameter(strength, rng, 0.02, 0.25)
    count = 1 + int(rng.integers(0, 1 + round(3 * strength)))
    for part in rng.dirichlet(np.full(count, 3.0)) * share:
        name = str(rng.choice(list(_SHAPES)))
        aspect = 1.0 if name in ("disc", "star", "ribbon", "code") else rng.uniform(1.5, 5)
        high = min(height, math.ceil(math.sqrt(part * 1.2 * height * width / aspect)))
        wide = min(width, math.ceil(high * aspect))
        patch, mask = _badge(name, max(2, high), max(2, wide), rng)
        if name == "ribbon":
            across, down = rng.random(2) < 0.5
            mask = np.ascontiguousarray(mask[:: -1 if down else 1, :: -1 if across else 1])
            place = ((width - wide) * int(across), (height - high) * int(down))
        else:
            place = _place(rng, canvas.shape, high, wide)
        blend(canvas, mask, patch, *place, rng.choice([1.0, 1.0, rng.uniform(0.85, 1)]))
    return canvas


def _badge(name: str, height: int, width: int, rng: Generator) -> tuple[RgbImage, Mask]:
    """Draw a sticker's colours and its outline, each (height, width)."""
    mask = _SHAPES[name](height, width, rng)
    ground = draw_colour(rng)
    patch = np.full((height, width, 3), ground, dtype=np.uint8)
    if name == "code":
        blocks = rng.integers(0, 2, (int(rng.choice([1, 21])), 29)).astype(np.uint8) * 255
        code = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
        patch[:] = code[..., None]
        cv2.rectangle(patch, (0, 0), (width - 1, height - 1), (255, 255, 255), 2)
        return patch, mask
    if rng.random() < 0.4:
        rim = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=1 + height // 20)
        blend(patch, np.asarray(_OPAQUE - rim, dtype=np.uint8), draw_colour(rng), 0, 0, 1.0)
    lines = int(rng.integers(1, 3))
    for line in range(lines):
        top = height * (0.25 + 0.5 * line / lines)
        box = (0.15 * width, top, 0.7 * width, 0.45 * height / lines)
        write(patch, box, choose_ink(ground), rng)
    angle = float(rng.uniform(-25, 25)) if rng.random() < 0.3 and name != "ribbon" else 0.0
    if angle:
        patch, mask = _turned(patch, angle), _turned(mask, angle)
    return patch, mask


def banner(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add a bar of text, such as a price, over or beyond the top, the bottom or both."""
    canvas = image.copy()
    width = image.shape[1]
    sides = [(True,), (False,), (True, False)][int(rng.choice(3, p=[0.35, 0.45, 0.2]))]
    outside = rng.random() < 0.4
    for top in sides:
        high = max(
            2, round(image.shape[0] * draw_parameter(strength, rng, 0.06, 0.25 / len(sides)))
        )
        bar = np.full((high, width, 3), paint := draw_colour(rng), dtype=np.uint8)
        parts = int(rng.integers(1, 4))
        for part in range(parts):
            box = (width * (part + 0.08) / parts, 0.2 * high, 0.84 * width / parts, 0.6 * high)
            write(bar, box, choose_ink(paint), rng)
        if outside:
            canvas = np.vstack([bar, canvas] if top else [canvas, bar])
        else:
            start = 0 if top else canvas.shape[0] - high
            blend(
                canvas, _slab(high, width, rng), bar, 0, start, rng.choice([1, rng.uniform(0.6, 1)])
            )
    return canvas


def border(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add a frame of one or two colours around or over the edge, at times wider below."""
    wide = max(
        1,
        round(
            math.sqrt(image.shape[0] * image.shape[1]) * draw_parameter(strength, rng, 0.01, 0.1)
        ),
    )
    below = wide * (int(rng.integers(2, 4)) if rng.random() < 0.15 else 1)
    paint = draw_colour(rng)
    if rng.random() < 0.5:
        canvas = image.copy()
        wide = min(wide, *(max(1, side // 5) for side in image.shape[:2]))
        canvas[:wide], canvas[-wide:], canvas[:, :wide], canvas[:, -wide:] = (paint,) * 4
    else:
        framed = cv2.copyMakeBorder(
            image, wide, below, wide, wide, cv2.BORDER_CONSTANT, value=paint
        )
        canvas = np.asarray(framed, dtype=np.uint8)
    if rng.random() < 0.3:
        inset = wide // 2
        corner = (canvas.shape[1] - 1 - inset, canvas.shape[0] - 1 - inset)
        cv2.rectangle(canvas, (inset, inset), corner, draw_colour(rng), max(1, wide // 5))
    return canvas


def tint_band(image: RgbImage, strength: float, rng: Generator, _: RgbImage | None) -> RgbImage:
    """Add a translucent coloured or dark band over up to a third of the image."""
    canvas = image.copy()
    height, width = image.shape[:2]
    share = draw_parameter(strength, rng, 0.1, 0.34)
    along = rng.random() < 0.7
    high, wide = (round(height * share), width) if along else (height, round(width * share))
    mask = _slab(max(1, high), max(1, wide), rng)
    if rng.random() < 0.4:
        ramp = np.linspace(0, 1, max(high, 1) if along else max(wide, 1))
        mask = (mask * (ramp[:, None] if along else ramp)).astype(np.uint8)
    place = [
        rng.choice([0, room, rng.uniform(0, max(room, 1))])
        for room in (width - wide, height - high)
    ]
    blend(
        canvas, mask, draw_colour(rng), place[0], place[1], draw_parameter(strength, rng, 0.1, 0.45)
    )
    return canvas


def erase(image: RgbImage, strength: float, rng: Generator, other: RgbImage | None) -> RgbImage:
    """Hide up to a quarter under rectangles, ellipses or stars: flat, blurred, blocks or noise."""
    canvas = image.copy()
    height, width = image.shape[:2]
    share = draw_parameter(strength, rng, 0.02, 0.25)
    count = int(rng.integers(1, 5))
    for part in rng.dirichlet(np.full(count, 2.0)) * share:
        aspect = math.exp(rng.uniform(-1, 1))
        high = min(height, max(1, round(math.sqrt(part * height * width * aspect))))
        wide = min(width, max(1, round(part * height * width / high)))
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        patch = _cover(canvas[top : top + high, left : left + wide], rng, other)
        mask = (_slab, _disc, _star)[int(rng.choice(3, p=[0.5, 0.4, 0.1]))](high, wide, rng)
        blend(canvas, mask, patch, left, top, 1.0)
    return canvas


def _cover(region: RgbImage, rng: Generator, other: RgbImage | None) -> RgbImage:
    """Make a patch that hides a region, of its size."""
    height, width = region.shape[:2]
    kind = rng.random()
    if kind < 0.2:
        return resize(resize(region, rng.uniform(1, 5), rng.uniform(1, 5)), width, height)
    if kind < 0.35:
        blocks = resize(region, rng.uniform(2, 8), rng.uniform(2, 8))
        return np.asarray(
            cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8
        )
    if kind < 0.5:
        return rng.integers(0, 256, region.shape, dtype=np.uint8)
    if kind < 0.65 and other is not None:
        return resize_to_cover(other, width, height)
    return np.full_like(region, draw_colour(rng))
