"""Packaged goods with labels: bottle, jar, carton, tube, tin and pouch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from dedup.augmentations.overlay import Colour, Mask, RgbImage, draw_colour, draw_vivid_colour
from families import canvas as c
from families.canvas import Box


@dataclass(frozen=True)
class Look:
    """How a packaged product looks, apart from its words.

    Attributes:
        good: a key of ``GOODS``.
        body: colour of the body.
        cap: colour of the cap, lid or crimp.
        label: colour of the label.
        light: where the light falls on it, -1 to 1.
        gloss: strength of its highlight, 0 to 1.
        form: 0 to 1, from slim to stout in what each good varies.
        seed: of the label's layout.
    """

    good: str
    body: Colour
    cap: Colour
    label: Colour
    light: float
    gloss: float
    form: float
    seed: int


class Words(NamedTuple):
    """What stands on a label: the brand, what it is, and how much."""

    brand: str
    what: str
    amount: str = ""
    amount_height: float = 0.0  # pixels


class Panel(NamedTuple):
    """Where a label lies, and what it covers."""

    box: Box
    mask: Mask


def draw_look(rng: Generator) -> Look:
    """Draw a product's look."""
    return Look(
        good=str(rng.choice(list(GOODS))), body=draw_colour(rng), cap=draw_colour(rng),
        label=c.pale(rng) if rng.random() < 0.6 else draw_vivid_colour(rng),
        light=float(rng.uniform(-0.5, 0.5)), gloss=float(rng.uniform(0, 0.35)),
        form=float(rng.random()), seed=int(rng.integers(2**62)),
    )  # fmt: skip


def _lathe(box: Box, profile: list[tuple[float, float]]) -> npt.NDArray[np.float64]:
    """Outline of a turned body: its (height, width) from the top down, as shares of the box."""
    down = np.array(profile)
    right = np.stack([0.5 + down[:, 1] / 2, down[:, 0]], 1)
    left = np.stack([0.5 - down[::-1, 1] / 2, down[::-1, 0]], 1)
    return c.within(box, np.concatenate([right, left]))


def _body(image: RgbImage, mask: Mask, look: Look, colour: Colour, form: str = "round") -> None:
    c.paint(image, mask, colour)
    c.shade(image, mask, form, look.light, 0.5, look.gloss)
    c.outline(image, mask, c.mixed(colour, c.BLACK, 0.45), 1)


def _wrapped(image: RgbImage, box: Box, look: Look) -> Panel:
    mask = c.rounded(image.shape, box, 0.02 * box[2])
    c.paint(image, mask, look.label)
    return Panel(box, mask)


def bottle(image: RgbImage, box: Box, look: Look) -> Panel:
    """Draw a bottle with a cap."""
    neck = 0.3 + 0.25 * look.form
    shoulder = 0.36 - 0.08 * look.form
    profile = [(0.1, neck), (0.17, neck), (0.2, neck + 0.08), (shoulder - 0.04, 0.9),
               (shoulder, 0.98), (shoulder + 0.03, 1), (0.96, 1), (0.985, 0.97),
               (1, 0.9)]  # fmt: skip
    _body(image, c.filled(image.shape, _lathe(box, profile)), look, look.body)
    cap = c.inside(box, 0.5 - neck * 0.58, 0, neck * 1.16, 0.13)
    _body(image, c.rounded(image.shape, cap, 0.1 * cap[2]), look, look.cap)
    return _wrapped(image, c.inside(box, 0.02, shoulder + 0.06, 0.96, 0.9 - shoulder), look)


def jar(image: RgbImage, box: Box, look: Look) -> Panel:
    """Draw a jar with a wide lid."""
    lid = 0.14 + 0.08 * look.form
    body = c.rounded(image.shape, c.inside(box, 0, lid - 0.02, 1, 1.02 - lid), 0.09 * box[2])
    _body(image, body, look, look.body)
    cover = c.inside(box, 0.03, 0, 0.94, lid)
    _body(image, c.rounded(image.shape, cover, 0.04 * box[2]), look, look.cap)
    for at in np.linspace(0.06, 0.94, 22):
        x = cover[0] + at * cover[2]
        ridge = c.traced(
            image.shape, [(x, cover[1] + 0.3 * cover[3]), (x, cover[1] + 0.9 * cover[3])], 1
        )
        c.paint(image, ridge, c.BLACK, 0.25)
    return _wrapped(image, c.inside(box, 0.01, lid + 0.1, 0.98, 0.8 - lid), look)


def carton(image: RgbImage, box: Box, look: Look) -> Panel:
    """Draw a carton from its front and one side."""
    depth, lift = 0.14 + 0.08 * look.form, 0.06
    front = c.within(box, [(0, lift), (1 - depth, lift), (1 - depth, 1), (0, 1)])
    side = c.within(box, [(1 - depth, lift), (1, 0), (1, 1 - lift), (1 - depth, 1)])
    top = c.within(box, [(0, lift), (depth, 0), (1, 0), (1 - depth, lift)])
    for points, dark in ((side, 0.35), (top, 0.12), (front, 0.0)):
        mask = c.filled(image.shape, points)
        c.paint(image, mask, c.mixed(look.body, c.BLACK, dark))
        c.shade(image, mask, "flat", look.light, 0.15)
        c.outline(image, mask, c.mixed(look.body, c.BLACK, 0.5), 1)
    return _wrapped(image, c.inside(box, 0.03, lift + 0.04, 0.94 - depth, 0.88 - lift), look)


def tube(image: RgbImage, box: Box, look: Look) -> Panel:
    """Draw a tube that stands on its cap."""
    profile = [(0, 1), (0.06, 1), (0.4, 0.96), (0.8, 0.84), (0.85, 0.78)]
    _body(image, c.filled(image.shape, _lathe(box, profile)), look, look.body)
    crimp = c.filled(image.shape, c.within(box, [(0, 0), (1, 0), (1, 0.05), (0, 0.05)]))
    c.paint(image, crimp, c.mixed(look.body, c.BLACK, 0.2))
    cap = c.filled(image.shape, _lathe(box, [(0.84, 0.72), (1, 0.62 + 0.1 * look.form)]))
    _body(image, cap, look, look.cap)
    panel = c.inside(box, 0.12, 0.1, 0.76, 0.68)
    mask = c.rounded(image.shape, panel, 0.05 * box[2])
    c.paint(image, mask, look.label)
    return Panel(panel, mask)


def tin(image: RgbImage, box: Box, look: Look) -> Panel:
    """Draw a tin with metal rims, seen from slightly above."""
    left, top, wide, high = box
    lid = 0.16 * wide
    body = np.concatenate([
        [(left, top + lid / 2), (left + wide, top + lid / 2)],
        [(left + wide / 2 + wide / 2 * np.cos(t), top + high - lid / 2 + lid / 2 * np.sin(t))
         for t in np.linspace(0, np.pi, 33)],
    ])  # fmt: skip
    mask = c.filled(image.shape, body)
    c.paint(image, mask, look.label)
    metal = (205, 206, 210)
    base = c.inside(box, 0, 0.93 - 0.08 * wide / high, 1, 0.03)
    c.paint(
        image,
        np.minimum(mask, c.filled(image.shape, c.within(base, [(0, 0), (1, 0), (1, 1), (0, 1)]))),
        look.body,
    )
    c.shade(image, mask, "round", look.light, 0.5, look.gloss)
    c.outline(image, mask, c.mixed(look.label, c.BLACK, 0.5), 1)
    rim = c.oval(image.shape, left + wide / 2, top + lid / 2, wide, lid)
    c.paint(image, rim, metal)
    c.shade(image, rim, "flat", look.light, 0.3)
    c.outline(image, rim, (120, 120, 126), 2)
    well = c.oval(image.shape, left + wide / 2, top + lid / 2, wide * 0.88, lid * 0.8)
    c.outline(image, well, (140, 140, 146), 1)
    shown = c.inside(box, 0.06, 0.1 + 0.16 * wide / high, 0.88, 0.76 - 0.2 * wide / high)
    return Panel(shown, mask)


def pouch(image: RgbImage, box: Box, look: Look) -> Panel:
    """Draw a pouch with a sealed top."""
    points = [(0.04, 0), (0.96, 0), (0.97, 0.1), (1, 0.5), (0.97, 0.97), (0.8, 1), (0.2, 1),
              (0.03, 0.97), (0, 0.5), (0.03, 0.1)]  # fmt: skip
    mask = c.filled(image.shape, c.within(box, points))
    c.paint(image, mask, look.body)
    c.shade(image, mask, "round", look.light, 0.35, look.gloss / 2)
    c.outline(image, mask, c.mixed(look.body, c.BLACK, 0.45), 1)
    for at in (0.05, 0.075):
        seam = c.traced(image.shape, c.within(box, [(0.04, at), (0.96, at)]), 1)
        c.paint(image, seam, c.BLACK, 0.35)
    return _wrapped(image, c.inside(box, 0.14, 0.2, 0.72, 0.66), look)


class Good(NamedTuple):
    """A good: what draws it into a box, and the box's width by its height."""

    draw: Callable[[RgbImage, Box, Look], Panel]
    aspect: float


GOODS: dict[str, Good] = {
    "bottle": Good(bottle, 0.42), "jar": Good(jar, 0.72), "carton": Good(carton, 0.74),
    "tube": Good(tube, 0.46), "tin": Good(tin, 0.7), "pouch": Good(pouch, 0.7),
}  # fmt: skip


def fitted(box: Box, aspect: float) -> Box:
    """Find the largest box of an aspect inside another, in the middle and on its floor."""
    left, top, wide, high = box
    new = min(wide, high * aspect)
    return (left + (wide - new) / 2, top + high - new / aspect, new, new / aspect)


def place(image: RgbImage, box: Box, look: Look, words: Words) -> Box:
    """Draw a product with its shadow and label into a box; return the box that it fills."""
    good = GOODS[look.good]
    filled = fitted(box, good.aspect)
    c.stand(image, filled)
    panel = good.draw(image, filled, look)
    _label(image, panel.box, look, words)
    if look.good != "carton":
        c.shade(image, panel.mask, "round", look.light, 0.3)
    return filled


def _label(image: RgbImage, box: Box, look: Look, words: Words) -> None:
    """Write a label: an emblem, the brand, what it is, fine print and how much."""
    rng = np.random.default_rng(look.seed)
    accent = draw_vivid_colour(rng)
    ink, second = c.ink_on(look.label), c.draw_font(rng)
    brand = c.draw_font(rng)
    layout, band = rng.random(), rng.uniform(0.1, 0.2)
    if layout < 0.4:
        stripe = c.inside(box, 0, 0.52, 1, band)
        c.paint(image, c.rounded(image.shape, stripe, 0), accent)
    elif layout < 0.7:
        x, y, wide, _ = c.inside(box, 0.5, 0.13, 0.22, 0.2)
        badge = c.oval(image.shape, x, y, wide)
        c.paint(image, badge, accent)
        c.outline(image, badge, ink, 1)
    else:
        frame = c.rounded(image.shape, c.inside(box, 0.03, 0.03, 0.94, 0.94), 3)
        c.outline(image, frame, accent, max(1, round(0.02 * box[2])))
    c.say(image, brand.named(words.brand), c.inside(box, 0.09, 0.24, 0.82, 0.15), brand, ink)
    middle = c.ink_on(accent) if layout < 0.4 else ink
    c.say(image, words.what, c.inside(box, 0.1, 0.54, 0.8, band - 0.04), second, middle)
    for line in range(2):
        grey = c.inside(box, 0.2, 0.43 + 0.035 * line, 0.6, 0.012)
        c.paint(image, c.rounded(image.shape, grey, 1), ink, 0.4)
    if words.amount:
        _amount(image, box, words, second, ink)


def _amount(image: RgbImage, box: Box, words: Words, font: c.Font, ink: Colour) -> None:
    """Write how much: in one line, or number and unit in two where one would be too small."""
    high = min(words.amount_height, 0.2 * box[3])
    left, wide = box[0] + 0.08 * box[2], 0.84 * box[2]
    parts = words.amount.split(" ") if 0.6 * len(words.amount) * high > wide else [words.amount]
    high = min(high, 0.2 * box[3] / (1.35 * len(parts)))
    middle = box[1] + (0.87 - 0.02 * len(parts)) * box[3]
    for line, part in enumerate(parts):
        top = middle + (line - len(parts) / 2) * 1.35 * high + 0.17 * high
        c.say(image, part, (left, top, wide, high), font, ink)
