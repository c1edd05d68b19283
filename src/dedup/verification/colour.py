"""How far a product's colours are apart in two images, once no shared light explains it.

A shop's colour variants show one structure in different colours. So do copies that were lit,
balanced, faded or made grey; but those change all colours of an image by one rule. That rule is
fitted here as far as light and cameras go, and what it leaves on the product is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from skimage.color import deltaE_ciede2000

from dedup.augmentations.background import coverage
from dedup.verification.alignment import Alignment, LocalFeatures
from dedup.verification.appearance import ALIKE, MIN_OVERLAP, grey, local_structure, overlaid
from dedup.verification.keypoints import RgbImage

Floats = npt.NDArray[np.float64]
Map = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

MAX_CAST = (8.0, 16.0)
"""CIELAB units by which light or a camera may shift a* and b* at ``MIDDLE``: lamps and skies lie
along yellow and blue."""

MAX_GAIN = 1.25
"""By which white balance may multiply a channel, or divide it."""

DARK, BURNT = 30, 250
"""Grey levels below and above which a pixel does not tell the white balance."""

PLAIN = 3.0
"""CIEDE2000 up to which nothing more needs to be explained."""

MIDDLE = 60.0
"""Lightness at which a cast is given; it grows with the light, for it multiplies."""

MAX_SATURATION = 3.0

STEADY = 1.0
"""Weight of "the colours are as strong as before" against what is seen, a pixel's."""

FITS = 3
"""Times that the rule is fitted, each time with less weight on what it missed before."""

TONES = 8
"""Pieces of the tone curve."""

SOFT = 1.5
"""Blur before colours are compared: edges, noise and saved chroma do not count; in pixels."""

SAMPLE = 1500
"""Pixels that are compared, at most."""

MARGIN = 0.2
"""Share of each side that is left out where a product cannot be told from its ground."""

_LIGHTNESS_WEIGHT = 2.0  # kL of CIEDE2000: the value for cloth


class Colours(NamedTuple):
    """What is seen of a product in two images.

    Attributes:
        apart: mean CIEDE2000 of the product's pixels after the best common light.
        within: share of the structured windows of the product that show the same, 0 to 1; NaN
            where it has no structure. In grey, or in the strongest of red, green and blue if that
            is more: a fold is darker in every dye, and grey turns round where the hue does.
    """

    apart: float
    within: float


def compare_colours(one: LocalFeatures, other: LocalFeatures, placed: Alignment) -> Colours | None:
    """Compare the colours of one product in two images.

    Without a mask the product is what differs from the image's border, and where that says
    nothing, the image's middle.

    Args:
        one: is laid over ``other``.
        other: the other image.
        placed: how.

    Returns:
        What is seen, or ``None`` where the products hardly overlap.
    """
    image, its_mask = one.image, _product(one)
    if placed.mirrored:
        image, its_mask = (np.ascontiguousarray(it[:, ::-1]) for it in (image, its_mask))
    laid, under, mask, _ = overlaid(image, other.image, placed.matrix)
    mine, theirs, _, _ = overlaid(its_mask, _product(other), placed.matrix)
    product = mask & (mine > 127) & (theirs > 127)
    if int(product.sum()) < MIN_OVERLAP:
        return None
    alike, _, textured = local_structure(grey(laid), grey(under), mask)
    shaded, _, folded = local_structure(laid.max(axis=2), under.max(axis=2), mask)
    within = np.fmax(_share(alike, textured & product), _share(shaded, folded & product))
    proven = mask & (alike > ALIKE)
    apart = _apart(laid, under, proven | (product & ~textured), product)
    return Colours(apart, float(within))


def _share(alike: Map, windows: Mask) -> float:
    """Share of some windows that show the same; NaN of none."""
    return float((alike[windows] > ALIKE).mean()) if windows.any() else float("nan")


def _product(seen: LocalFeatures) -> npt.NDArray[np.uint8]:
    """Where an image shows its product, (h, w)."""
    mask = coverage(seen.image) if seen.mask is None else seen.mask
    return _middle(seen.image) if mask is None else mask


def _middle(image: RgbImage) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    down, across = round(MARGIN * height), round(MARGIN * width)
    mask = np.zeros((height, width), np.uint8)
    mask[down : height - down, across : width - across] = 255
    return mask


def _apart(laid: Any, under: Any, compared: Mask, product: Mask) -> float:
    """``Colours.apart``: the rule is fitted to all that is compared, and tried on the product."""
    places = np.flatnonzero(compared)
    if int((compared & product).sum()) < MIN_OVERLAP:
        places = np.flatnonzero(product)
    places = places[:: -(-len(places) // SAMPLE)]
    first, second = (
        cv2.GaussianBlur(it, (0, 0), SOFT).reshape(-1, 3)[places].astype(np.float32)
        for it in (laid, under)
    )
    counted = product.ravel()[places]
    ways = ((first, second), (second, first))  # grey can be made of red, and not red of grey
    left = np.inf
    for balance, parts in ((False, (counted,)), (True, (counted, ~counted))):
        for start, end in ways:
            if left > PLAIN:
                start = _balanced(start, end) if balance else start
                left = min(left, _left(start, end, *parts))
    return left


def _left(start: Map, end: Map, *parts: Mask) -> float:
    """Mean CIEDE2000 from what light makes of some colours to others, (n, 3) RGB.

    Of several parts of the pixels the one that differs most counts: light falls on all of them.
    """
    lab, wanted = _lab(start), _lab(end)
    parts = tuple(part for part in parts if int(part.sum()) >= MIN_OVERLAP) or parts[:1]
    left = np.inf
    for fit in _explained(lab, wanted):
        off = deltaE_ciede2000(fit, wanted, kL=_LIGHTNESS_WEIGHT)
        left = min(left, max(float(off[part].mean()) for part in parts))
        if left <= PLAIN:
            break
    return left


def _lab(colours: Map) -> Floats:
    lab = cv2.cvtColor(colours[None] / np.float32(255), cv2.COLOR_RGB2LAB)[0]
    return np.asarray(lab, dtype=np.float64)


def _balanced(start: Map, end: Map) -> Map:
    """Colours, (n, 3) RGB, with the white balance of others, as far as cameras are apart."""
    bright = (start.mean(axis=1) > DARK) & (np.maximum(start, end).max(axis=1) < BURNT)
    if int(bright.sum()) < MIN_OVERLAP:
        return start
    ratio = np.log((end[bright] + 1) / (start[bright] + 1))
    gain = np.median(ratio - ratio.mean(axis=1, keepdims=True), axis=0)
    gain = np.exp(np.clip(gain - gain.mean(), -np.log(MAX_GAIN), np.log(MAX_GAIN)))
    return np.asarray(np.minimum(start * (gain / gain.max()), 255), dtype=np.float32)


def _explained(start: Floats, end: Floats) -> Iterator[Floats]:
    """Colours as a common light makes them of others, (n, 3) CIELAB: as they are, and two fits.

    As they are: where the ground alone was replaced, there is no common light. In a fit the
    lightness goes through a curve that never falls; colours are made stronger or weaker, and get a
    cast. The second one leaves aside what the first misses, such as a sticker.
    """
    yield start
    lightness = _toned(start[:, 0], end[:, 0])
    light = (lightness / MIDDLE)[:, None]
    weight = np.ones(len(start))
    for fit in range(FITS):
        saturation, cast = _cast(start[:, 1:], end[:, 1:], light, weight)
        colours = saturation * start[:, 1:] + cast * light
        if fit in (0, FITS - 1):
            yield np.column_stack([lightness, colours])
        missed = np.linalg.norm(colours - end[:, 1:], axis=1)
        weight = 1 / (1 + (missed / max(float(np.median(missed)), 1.0)) ** 2)


def _cast(start: Floats, end: Floats, light: Floats, weight: Floats) -> tuple[float, Floats]:
    """Saturation and cast, (2,), that make ``end`` of ``start``, (n, 2): weighted least squares."""
    each = weight[:, None]
    total = float(weight.sum())
    own = float((each * start**2).sum()) + STEADY * total
    both = (each * start * light).sum(axis=0)
    lit = float((each * light**2).sum()) + 1e-6
    seen = float((each * start * end).sum()) + STEADY * total
    under = (each * light * end).sum(axis=0)
    saturation = (seen - float(both @ under) / lit) / (own - float(both @ both) / lit)
    saturation = min(max(saturation, 0.0), MAX_SATURATION)
    most = np.array(MAX_CAST)
    return saturation, np.clip((under - saturation * both) / lit, -most, most)


def _toned(start: Floats, end: Floats) -> Floats:
    """Lightness through the curve that takes it nearest to another, (n,); the curve never falls."""
    edges = np.unique(np.quantile(start, np.linspace(0, 1, TONES + 1)))
    piece = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, max(len(edges) - 2, 0))
    held = [piece == number for number in range(max(len(edges) - 1, 1))]
    held = [it for it in held if it.sum() >= TONES]
    if len(held) < 2:
        return np.asarray(np.clip(start + (end - start).mean(), 0, 100))
    knots = np.array([start[it].mean() for it in held])
    values = np.maximum.accumulate([float(np.median(end[it])) for it in held])
    beyond = np.minimum(start - knots[0], 0) + np.maximum(start - knots[-1], 0)
    return np.asarray(np.clip(np.interp(start, knots, values) + beyond, 0, 100))
