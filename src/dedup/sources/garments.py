"""Draw images of garments, as a shop shows them, from a seed.

A garment is a small vector drawing, given as text (see ``Design``). Its parts, from back to front,
have a height, and colour from a woven tile; one light shades parts and folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw, ImageFilter

WIDTH, HEIGHT = 400, 533
"""Size of an image in pixels."""

_Floats = npt.NDArray[Any]
_Rng = np.random.Generator

_TILE = 240  # a fabric's tile: 120 pixels of the image, drawn twice as fine
_LIGHT = (-0.45, -0.60, 0.66)  # direction of the lamp: right, down, to the viewer
_MARGIN = 28  # pixels around a part, enough for its roundness and its shadow


@dataclass(frozen=True)
class Design:
    """Complete description of an image; equal designs give equal pixels.

    A shape is a name of ``FALLS`` and then parts from back to front, all separated by ``/``. A part
    is ``cloth symmetry [height turn width]: x,y x,y~ ...``: x counts from the middle, ``~`` rounds
    a corner, ``turn`` rotates the fabric in degrees, and a width makes the outline a line.
    ``whole`` mirrors half an outline into a whole one, ``pair`` draws it on both sides, ``one``
    draws it once, ``dots`` a disc on each point. Cloths: main, trim, inside (in the shade), seam (a
    line pressed into what lies below), first, second, third (printed flat), steel, pale and dark.

    Attributes:
        shape: drawing of the garment.
        fabric: name of a fabric in ``FABRICS``.
        colours: ``#rrggbb`` of the cloth, of its pattern, and of the pattern's second colour.
        backdrop: ``#rrggbb`` of the background; white stays flat, other colours fade like paper.
        seed: seed of proportions, pattern, folds and place, shared by a garment's colours.
    """

    shape: str
    fabric: str
    colours: tuple[str, str, str]
    backdrop: str
    seed: int


_FIXED = {"steel": "#b9bcc0", "pale": "#f1ede5", "dark": "#2b2826"}
_INKS = ("first", "second", "third")  # the design's colours, printed flat
_CONTRAST = ("stripes", "block", "argyle", "zigzag", "dots")  # trimmed in another colour

FALLS: dict[str, list[tuple[float, float, float, float, float]]] = {
    "body": [(60, 260, 0, 7, 0), (34, 170, 30, 4.5, 0), (34, 170, -30, 4.5, 0)],
    "drape": [(30, 500, 0, 9, 0.004), (60, 300, 0, 8, 0.002)],
    "pleats": [(20, 1500, 0, 10, 0.006)],
    "legs": [(44, 330, 0, 6, 0), (32, 140, 60, 3.6, 0), (32, 140, -60, 3.6, 0)],
    "stiff": [(90, 120, 0, 3, 0)],
}
"""Layers of folds by kind of garment: (px across, px along, degrees, px high, fanning out)."""

_X, _Y = np.meshgrid(*[np.arange(_TILE, dtype=np.float32) / _TILE] * 2)
_XY = _X + _Y
_DOWN, _RIGHT = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
_GLOW = 1.7 * ((_RIGHT / WIDTH - 0.4) ** 2 + (_DOWN / HEIGHT - 0.35) ** 2)


def _ripple(phase: _Floats) -> _Floats:
    return np.asarray(np.cos(2 * np.pi * phase))


def _wave(phase: _Floats, duty: float = 0.0) -> _Floats:
    """Make a square wave with soft edges: 1 on about half of each unit of ``phase``, else 0."""
    return np.clip(4 * (_ripple(phase) + duty) + 0.5, 0, 1)


def _tent(phase: _Floats) -> _Floats:
    return np.asarray(np.abs(2 * (phase % 1) - 1))


def _relief(light: _Floats) -> list[_Floats]:
    return [0 * light, 0 * light, light]


def _cloud(rng: _Rng, down: int, across: int) -> _Floats:
    """Draw a smooth random field of ``down`` x ``across`` lumps that tiles without a border."""
    grid = np.pad(rng.standard_normal((down, across)).astype(np.float32), 2, mode="wrap")
    size = (across + 4) * _TILE // across, (down + 4) * _TILE // down
    image = np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC), np.float32)
    top, left = 2 * _TILE // down, 2 * _TILE // across
    return image[top : top + _TILE, left : left + _TILE]


def _scatter(rng: _Rng, side: int, size: float, *groups: list[complex]) -> list[_Floats]:
    """Draw side x side rotated copies of discs on the tile; a layer for each group of centres."""
    layers = [Image.new("L", (_TILE, _TILE)) for _ in groups]
    for spot in range(side * side):
        at = (complex(*divmod(spot, side)) + complex(*rng.uniform(0.25, 0.75, 2))) * _TILE / side
        turn = complex(rng.uniform(0.75, 1.15) * np.exp(1j * rng.uniform(0, 6.3)) * size)
        for layer, group in zip(layers, groups, strict=True):
            pen = ImageDraw.Draw(layer)
            for disc in (at + turn * centre for centre in group):
                x, y = ((side + _TILE / 2) % _TILE - _TILE / 2 for side in (disc.real, disc.imag))
                for wrap in ((x, y), (x + _TILE, y), (x, y + _TILE), (x + _TILE, y + _TILE)):
                    pen.circle(wrap, abs(turn) * 0.55, fill=255)
    return [np.asarray(layer, np.float32) / 255 for layer in layers]


def _tartan(n: int, r: float, rng: _Rng) -> list[_Floats]:
    bands = _wave(_X * n, r - 0.6) + _wave(_Y * n, r - 0.6)
    lines = np.maximum(_wave(_X * n + r / 2, -0.96), _wave(_Y * n + r / 2, -0.96))
    return [0.42 * bands, 0.75 * lines, 0.05 * _ripple(60 * _XY)]


def _dots(n: int, r: float, rng: _Rng) -> list[_Floats]:
    lattices = [[(axis * n + at) % 1 - 0.5 for axis in (_X, _Y)] for at in (0.25, 0.75)]
    far = np.minimum(*[np.hypot(*lattice) for lattice in lattices])
    return [np.clip((0.18 + 0.16 * r - far) * 80 / n, 0, 1)]


def _floral(n: int, r: float, rng: _Rng) -> list[_Floats]:
    petals = [complex(np.exp(2j * np.pi * turn / 5)) for turn in range(5)]
    return _scatter(rng, n, (32 + 21 * r) / n, petals, [0j, 1.2 + 1.9j, 1.9 + 2.1j, -1.4 - 1.8j])


def _leopard(n: int, r: float, rng: _Rng) -> list[_Floats]:
    ring = [complex(np.exp(1j * turn)) for turn in (0.0, 0.7, 1.5, 2.6, 3.3, 4.4)]
    return _scatter(rng, n, 70 / n, ring, [0j, 0.4 + 0j])


_Weave = Callable[[int, float, _Rng], list[_Floats]]

FABRICS: dict[str, tuple[int, int, _Weave]] = {
    "plain": (1, 2, lambda n, r, g: []),
    "heather": (1, 2, lambda n, r, g: [np.clip(0.2 * _cloud(g, 120, 40), 0, 0.5)]),
    "stripes": (3, 9, lambda n, r, g: [_wave(_Y * n, r - 0.5), _wave(_Y * n + 0.5, -0.8 - r)]),
    "pinstripes": (6, 13, lambda n, r, g: [0.8 * _wave(_X * n, -0.86)]),
    "gingham": (5, 12, lambda n, r, g: [(_wave(_X * n) + _wave(_Y * n)) / 2]),
    "tartan": (2, 4, _tartan),
    "herringbone": (3, 6, lambda n, r, g: [0.6 * _wave(_Y * 24 + _tent(_X * n) * 12 / n)]),
    "zigzag": (3, 8, lambda n, r, g: [_wave(_Y * n + (0.4 + 0.5 * r) * _tent(_X * n), r - 0.5)]),
    "argyle": (2, 4, lambda n, r, g: [_wave((_tent(_X * 2 * n) + _tent(_Y * n)) / 2)]),
    "dots": (3, 8, _dots),
    "floral": (3, 6, _floral),
    "leopard": (7, 10, _leopard),
    "camouflage": (4, 7, lambda n, r, g: [np.clip(9 * _cloud(g, 6, n) - c, 0, 1) for c in (2, 5)]),
    "twill": (36, 48, lambda n, r, g: _relief(0.10 * _ripple(n * _XY))),
    "denim": (40, 50, lambda n, r, g: _relief(0.09 * _ripple(n * _XY) + 0.05 * _cloud(g, 30, 90))),
    "rib": (14, 26, lambda n, r, g: _relief(0.24 * _ripple(n * _X))),
    "knit": (12, 19, lambda n, r, g: _relief(0.2 * _ripple(n * _Y + 0.6 * _tent(n * _X)))),
    "canvas": (45, 55, lambda n, r, g: _relief(0.09 * _ripple(n * _X) * _ripple(n * _Y))),
    "leather": (60, 80, lambda n, r, g: _relief(0.06 * np.abs(_cloud(g, n, n)))),
    "suede": (20, 30, lambda n, r, g: _relief(0.04 * _cloud(g, n, n))),
    "straw": (10, 14, lambda n, r, g: _relief(0.2 * _ripple(2 * n * _Y + _tent(n * _X)))),
    "gradient": (1, 2, lambda n, r, g: []),
    "block": (1, 2, lambda n, r, g: []),
}
"""Fabrics by name: smallest and largest number of repeats (exclusive), and a weave or print.

A weave returns up to three layers: the share of the second colour, of the third, and extra light.
``gradient`` and ``block`` are plain cloth; their colours change along the whole garment.
"""


@dataclass(frozen=True)
class _Part:
    cloth: str
    points: npt.NDArray[np.float64]  # (n, 2): x right, y down
    height: float
    turn: float
    width: float  # 0 = a filled outline


def draw(design: Design) -> Image.Image:
    """Draw a design as an RGB image of ``WIDTH`` x ``HEIGHT``."""
    rng = np.random.default_rng(design.seed)
    fall, *lines = (line.strip() for line in design.shape.split("/"))
    parts = _fit([part for line in lines for part in _parts(line)], rng)
    canvas = _Canvas(design, parts, fall, rng)
    for part in parts:
        canvas.lay(part)
    return canvas.lit(rng)


def _rgb(code: str) -> _Floats:
    return np.array(ImageColor.getrgb(code), np.float32)


@cache
def _parts(line: str) -> list[_Part]:
    """Parse one part of a shape; a pair gives two."""
    head, _, tail = line.partition(":")
    cloth, symmetry, *numbers = head.split()
    usual = ["4", "0", "1.6" if cloth == "seam" else "0"]
    height, turn, width = map(float, numbers + usual[len(numbers) :])
    words = tail.split()
    at = np.array([word.rstrip("~").split(",") for word in words], np.float64)
    smooth = np.array([word.endswith("~") for word in words])
    if symmetry == "dots":
        return [_Part(cloth, dot[None], height, turn, width) for dot in at]
    if symmetry == "pair":
        curve = _curve(at, smooth, width == 0)
        return [_Part(cloth, curve * (side, 1), height, side * turn, width) for side in (1, -1)]
    if symmetry == "whole":
        if width and at[0, 0] == 0:  # a line that starts in the middle must cross it
            at, smooth = at[::-1], smooth[::-1]
        other = at[::-1, 0] != 0
        at = np.concatenate([at, (at[::-1] * (-1, 1))[other]])
        smooth = np.concatenate([smooth, smooth[::-1][other]])
    return [_Part(cloth, _curve(at, smooth, width == 0), height, turn, width)]


def _curve(at: _Floats, smooth: npt.NDArray[np.bool_], closed: bool) -> _Floats:
    """Draw a Catmull-Rom curve through the points, about (8 n, 2); other points stay corners."""
    bent = smooth[:, None] & (closed | (np.arange(len(at)) % (len(at) - 1) > 0))[:, None]
    end = np.roll(at, -1, 0)
    before = np.where(bent, np.roll(at, 1, 0), at)
    after = np.where(np.roll(bent, -1, 0), np.roll(at, -2, 0), end)
    t = (np.arange(8) / 8)[:, None, None]
    curve = (2 * t**3 - 3 * t**2 + 1) * at + (3 * t**2 - 2 * t**3) * end
    curve = curve + (t**3 - 2 * t**2 + t) * (end - before) / 2 + (t**3 - t**2) * (after - at) / 2
    line = curve.transpose(1, 0, 2).reshape(-1, 2)
    return line if closed else np.concatenate([line[:-8], at[-1:]])


def _fit(parts: list[_Part], rng: _Rng) -> list[_Part]:
    """Vary the proportions, then centre the garment in the image."""
    wide, long, flare = rng.uniform(0.86, 1.14), rng.uniform(0.84, 1.16), rng.uniform(-0.08, 0.10)
    every = np.concatenate([part.points for part in parts])
    down = (every[:, 1] - every[:, 1].min()) / np.ptp(every[:, 1])
    at = every * np.stack([wide * (1 + flare * down), long + 0 * down], axis=1)
    low, high = at.min(0), at.max(0)
    scale = rng.uniform(0.82, 0.92) * ((WIDTH, HEIGHT) / (high - low)).min()
    at = (at - (low + high) / 2) * scale + (WIDTH / 2, HEIGHT / 2) + rng.uniform(-5, 5, 2)
    ends = np.cumsum([len(part.points) for part in parts])
    pairs = zip(parts, np.split(at, ends[:-1]), strict=True)
    return [replace(part, points=piece, width=part.width * scale) for part, piece in pairs]


def _folds(fall: str, rng: _Rng) -> _Floats:
    """Draw the height of the folds in pixels, (HEIGHT, WIDTH)."""
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    for across, along, degrees, height, fan in FALLS[fall]:
        grid = Image.fromarray(rng.standard_normal((64, 64)).astype(np.float32))
        turn = np.radians(degrees + rng.normal(0, 6))
        right, down = 2 * np.cos(turn), 2 * np.sin(turn)  # for an image of half the size
        x, y = WIDTH / 4, HEIGHT / 4
        plan = [right / across, down / across + 64 * fan, 32 - (right * x + down * y) / across]
        plan += [-down / along, right / along + 64 * fan, 32 + (down * x - right * y) / along]
        how = Image.Transform.PERSPECTIVE, [*plan, 0, 2 * fan], Image.Resampling.BICUBIC
        half = grid.transform((WIDTH // 2, HEIGHT // 2 + 1), *how)
        wave = np.asarray(half.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), np.float32)
        total += height * (0.7 * wave - 0.4 * np.sqrt(wave**2 + 0.05))
    if fall in ("drape", "pleats"):
        total *= np.linspace(0.3, 1.2, HEIGHT, dtype=np.float32)[:, None]
    return total


class _Canvas:
    """Colour, height and light of an image while its parts are drawn."""

    def __init__(self, design: Design, parts: list[_Part], fall: str, rng: _Rng) -> None:
        self.design, self.stiff = design, fall == "stiff"
        self.colours = [_rgb(code) for code in design.colours]
        self.folds = _folds(fall, rng)
        self.tile = _tile(design.fabric, self.colours, rng)
        self.zoom = 2 / rng.uniform(0.75, 1.3)
        edges = np.sort(rng.uniform(0.25, 0.8, 2)).tolist()
        bands = {"gradient": [(0.2, 1.4)], "block": [(edge, 99.0) for edge in edges]}
        self.bands = bands.get(design.fabric, [])
        self.x, self.y = _RIGHT + 1.1 * self.folds, _DOWN + 0.6 * self.folds
        ends = np.concatenate([part.points[:, 1] for part in parts if part.cloth == "main"])
        self.down = (self.y - float(ends.min())) / float(np.ptp(ends))
        self.albedo = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        self.height = self.folds + 2.5  # near a part's height, so that its outline is no cliff
        self.cover, self.gloss = np.zeros((2, HEIGHT, WIDTH), np.float32)
        self.tone = np.ones_like(self.cover)

    def lay(self, part: _Part) -> None:
        """Draw one part over those below."""
        box, mask, size = _mask(part)
        if part.cloth == "seam":
            self.height[box] -= 0.9 * mask
            self.tone[box] *= 1 - 0.25 * mask
            return
        if part.cloth in _INKS:
            _paint(self.albedo[box], mask, self.colours[_INKS.index(part.cloth)])
            return
        drop = _blur(np.roll(mask, (4, 2), (0, 1)), 4)
        self.tone[box] *= 1 - 0.38 * drop * (1 - mask)
        spread = float(np.clip((0.15 if self.stiff else 0.09) * size, 1.2, 16))
        swell = np.sin(np.pi / 2 * np.clip(1.3 * _blur(mask, spread) - 0.3, 0, 1))
        colour, gloss = self._cloth(part, box)
        _paint(self.albedo[box], mask, colour)
        tone = (0.86 + 0.14 * swell) * (0.6 if part.cloth == "inside" else 1)
        height = part.height / 2 + 0.9 * spread * swell
        height += self.folds[box] * (0.3 if part.width else 1)
        planes: list[_Floats] = [self.height, self.tone, self.gloss, self.cover]
        for plane, value in zip(planes, (height, tone, gloss, 1), strict=True):
            plane[box] += mask * (value - plane[box])

    def _cloth(self, part: _Part, box: tuple[slice, slice]) -> tuple[_Floats, float]:
        """Return the colour in a window, and its gloss."""
        if part.cloth in _FIXED:
            return _rgb(_FIXED[part.cloth]), 0.8 if part.cloth == "steel" else 0.1
        gloss = {"leather": 1.0, "suede": 0.0}.get(self.design.fabric, 0.08)
        if part.cloth == "trim":
            contrast = self.design.fabric in _CONTRAST
            return self.colours[1] if contrast else self.colours[0] * 0.88 + 4, gloss
        turn = math.radians(part.turn)
        right, down = math.cos(turn) * self.zoom, math.sin(turn) * self.zoom
        u = (self.x[box] * right - self.y[box] * down).astype(np.int32) % _TILE
        v = (self.x[box] * down + self.y[box] * right).astype(np.int32) % _TILE
        colour = self.tile.take(v * _TILE + u, axis=0).astype(np.float32)
        for (start, steep), paint in zip(self.bands, self.colours[1:], strict=False):
            _paint(colour, np.clip((self.down[box] - start) * steep, 0, 1), paint)
        return colour, gloss

    def lit(self, rng: _Rng) -> Image.Image:
        """Render the image with light, background and shadow."""
        height = self.height
        for axis in (0, 1):
            height = (np.roll(height, 1, axis) + 2 * height + np.roll(height, -1, axis)) / 4
        down, right = np.gradient(height)
        facing = _LIGHT[2] - right * _LIGHT[0] - down * _LIGHT[1]
        facing /= _LIGHT[2] * np.sqrt(down**2 + right**2 + 1)
        shade = np.clip(0.36 + 0.64 * facing, 0.25, 1.5) * self.tone
        glint = np.clip(facing - 1.05, 0, 1) * (26 + 120 * self.gloss)
        self.albedo *= shade[..., None]
        self.albedo += glint[..., None]
        image = self._backdrop(rng)
        _paint(image, self.cover, self.albedo)
        image += rng.standard_normal((HEIGHT, WIDTH, 1), np.float32)
        return Image.fromarray(np.clip(image, 0, 255, out=image).astype(np.uint8))

    def _backdrop(self, rng: _Rng) -> _Floats:
        """Render the background with the garment's shadow."""
        paper = rng.uniform(0.10, 0.24) * (self.design.backdrop != "#ffffff")
        glow = 1 + 0.3 * paper - paper * _GLOW
        if self.stiff:
            glow -= 0.4 * paper / (1 + np.exp((0.68 - _DOWN / HEIGHT) * 60))
            rows, columns = (np.flatnonzero(self.cover.max(axis) > 0.5) for axis in (1, 0))
            half = float(np.ptp(columns)) / 2
            middle, floor = float(columns[0]) + half, float(rows[-1])
            far = ((_RIGHT - middle) / half) ** 2 + ((_DOWN - floor) / 24) ** 2
            shadow = 0.5 * np.exp(-1.6 * far)
        else:
            shadow = 0.30 * _blur(np.roll(self.cover, (12, 7), (0, 1)), 11)
        return np.asarray(_rgb(self.design.backdrop) * (glow * (1 - shadow))[..., None])


def _mask(part: _Part) -> tuple[tuple[slice, slice], _Floats, float]:
    """Return a part's window of the image, its coverage there, and its typical width."""
    at = part.points
    left, top = np.maximum(at.min(0).astype(int) - _MARGIN, 0).tolist()
    right, bottom = np.minimum(at.max(0).astype(int) + _MARGIN, (WIDTH, HEIGHT)).tolist()
    image = Image.new("L", (2 * (right - left), 2 * (bottom - top)))
    pen, size, line = ImageDraw.Draw(image), part.width, [*map(tuple, (at - (left, top)) * 2)]
    if not part.width:
        pen.polygon(line, fill=255)
        edge = np.hypot(*(np.roll(at, 1, 0) - at).T).sum()
        size = float(np.asarray(image).sum() / 255 / 2 / edge)
    elif len(line) == 1:
        pen.circle(line[0], 2 * part.width, fill=255)
    else:
        pen.line(line, fill=255, width=max(round(2 * part.width), 2), joint="curve")
    cover = np.asarray(image.reduce(2), np.float32) / 255
    return (slice(top, bottom), slice(left, right)), cover, size


def _paint(image: _Floats, share: _Floats, colour: _Floats) -> None:
    change = colour - image
    change *= share[..., None]
    image += change


def _blur(mask: _Floats, radius: float) -> _Floats:
    image = Image.fromarray((mask * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image, np.float32) / 255


def _tile(fabric: str, colours: list[_Floats], rng: _Rng) -> npt.NDArray[np.uint8]:
    """Weave the fabric in its colours, (_TILE * _TILE, 3)."""
    min_repeats, max_repeats, weave = FABRICS[fabric]
    layers = weave(int(rng.integers(min_repeats, max_repeats)), float(rng.random()), rng)
    colour = np.tile(colours[0], (_TILE, _TILE, 1))
    for layer, paint in zip(layers[:2], colours[1:], strict=False):
        _paint(colour, layer, paint)
    thread = 0.022 * _cloud(rng, 90, 90) + sum(layers[2:])
    colour = colour * (1 + thread[..., None]) + 20 * thread[..., None]
    tile = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(1))
    return np.asarray(tile).reshape(-1, 3)
