"""Compare a product's colours in two images after a fit of light and white balance (CIEDE2000).

A shop's colour variants show one structure in different colours. So do copies that were lit,
balanced, faded or made grey, but those edits change all colours of an image by one rule. The rule
is fitted within the range of light and cameras, and its residual on the product is measured.

Between black, grey and white a rule always fits. There the ground tells: light moves the product
and its ground, while a variant changes the product alone, and light that brightens cloth brightens
its folds. What the measures prove is learned, see ``classifier``.
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
from dedup.verification.appearance import ALIKE, MIN_OVERLAP, grey, local_structure, warp_onto
from dedup.verification.keypoints import RgbImage

Floats = npt.NDArray[np.float64]
Map = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

MAX_CAST = (8.0, 16.0)
"""CIELAB units by which light or a camera may shift a* and b* at ``MIDDLE``: lamps and skies lie
along yellow and blue."""

MAX_GAIN = 1.25
"""Factor by which white balance may multiply or divide a channel, at most."""

DARK, BURNT = 30, 250
"""Grey levels below and above which a pixel says nothing about the white balance."""

PLAIN = 3.0
"""CIEDE2000 up to which two colours count as equal, so that no further fit is tried."""

MIDDLE = 60.0
"""Lightness at which a cast is measured; casts grow with lightness, since light multiplies."""

MAX_SATURATION = 3.0
"""Factor by which saturation may grow, at most."""

STEADY = 1.0
"""Weight of a saturation of 1 in the fit, against the weight of a pixel."""

FITS = 3
"""Rounds of the fit; each gives less weight to the pixels with a large residual before."""

TONES = 8
"""Pieces of the tone curve."""

SOFT = 1.5
"""Blur before colours are compared, in pixels, against edges, noise and subsampled chroma."""

SAMPLE = 1500
"""Pixels that are compared, at most."""

MARGIN = 0.2
"""Share of each side that is left out where the product cannot be separated from the background."""

FOLD = 4.0
"""Blur of the lightness that folds and prints stand out from, in pixels."""

NOISE = 0.5
"""Contrast, in lightness, that is added to both sides of a ratio: less is noise."""

MAX_LIGHT = 4.0
"""Factor by which light may multiply or divide a channel, at most."""

_LIGHTNESS_WEIGHT = 2.0  # kL of CIEDE2000: the value for cloth


class Colours(NamedTuple):
    """Comparison of a product in two images.

    Attributes:
        apart: mean CIEDE2000 of the product's pixels after the best common light.
        within: share of the product's structured windows that show the same, 0 to 1; -1 without
            structure. The larger of two shares: in grey levels, and in the largest of red, green
            and blue. A fold is darker in every dye, while grey levels may invert with the hue.
        moved: distance of the product's mean colours, CIELAB units.
        lighter: difference of its mean lightness, 0 to 100.
        dark: its mean lightness where it is darker.
        folds: logarithm of its contrast where it is lighter, by that where it is darker.
        ground: distance of the colours beside the product, a mean of its pixels; -1 without any.
        paper: mean lightness beside the product, where it is darker; burnt white tells of no light.
        lit: distance of the product's mean colours after the light that the ground tells of.
        hued: the same without lightness, which a curve may change beside white paper.
    """

    apart: float
    within: float
    moved: float
    lighter: float
    dark: float
    folds: float
    ground: float
    paper: float
    lit: float
    hued: float


NOT_COMPARED = Colours(*(-1.0,) * len(Colours._fields))
"""Stands for colours where two images show too little in common to compare them."""


def compare_colours(
    left: LocalFeatures, right: LocalFeatures, alignment: Alignment
) -> Colours | None:
    """Compare the colours of a product in two aligned images.

    Without a mask, the product is the region that differs from the image's border. If that
    cannot be found, it is the image's middle.

    Args:
        left: image that is warped onto ``right``.
        right: image in whose frame colours are compared.
        alignment: alignment of ``left`` with ``right``.

    Returns:
        The comparison, or ``None`` where the products hardly overlap.
    """
    image, image_mask = left.image, product_mask(left)
    if alignment.mirrored:
        image, image_mask = (np.ascontiguousarray(each[:, ::-1]) for each in (image, image_mask))
    laid, under, mask, _ = warp_onto(image, right.image, alignment.matrix)
    laid_mask, under_mask, _, _ = warp_onto(image_mask, product_mask(right), alignment.matrix)
    product = mask & (laid_mask > 127) & (under_mask > 127)
    if int(product.sum()) < MIN_OVERLAP:
        return None
    alike, _, textured = local_structure(grey(laid), grey(under), mask)
    shaded, _, folded = local_structure(laid.max(axis=2), under.max(axis=2), mask)
    within = np.fmax(_share(alike, textured & product), _share(shaded, folded & product))
    is_same = mask & (alike > ALIKE)
    apart = _apart(laid, under, is_same | (product & ~textured), product)
    within = within if np.isfinite(within) else -1.0
    return Colours(apart, float(within), **_moves(laid, under, product, mask & ~product))


def _moves(laid: RgbImage, under: RgbImage, product: Mask, beside: Mask) -> dict[str, float]:
    """Measure how far the product and its ground move from one image to the other."""
    sides = [cv2.GaussianBlur(side.astype(np.float32), (0, 0), SOFT) for side in (laid, under)]
    labs = [cv2.cvtColor(side / np.float32(255), cv2.COLOR_RGB2LAB) for side in sides]
    means = [lab[product].mean(axis=0) for lab in labs]
    lightness = [float(mean[0]) for mean in means]
    details = [lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), FOLD) for lab in labs]
    contrasts = [float(detail[product].std()) + NOISE for detail in details]
    darker, lighter = (0, 1) if lightness[0] <= lightness[1] else (1, 0)
    found = {
        "moved": float(np.linalg.norm(means[0] - means[1])),
        "lighter": lightness[lighter] - lightness[darker],
        "dark": lightness[darker],
        "folds": float(np.log(contrasts[lighter] / contrasts[darker])),
    }
    if int(beside.sum()) < MIN_OVERLAP:
        hued = float(np.linalg.norm(means[0][1:] - means[1][1:]))
        return {**found, "ground": -1.0, "paper": 0.0, "lit": found["moved"], "hued": hued}
    first, second = (side[beside] for side in sides)
    gain = np.clip(np.median((second + 1) / (first + 1), axis=0), 1 / MAX_LIGHT, MAX_LIGHT)
    lit = _lab(np.minimum(sides[0][product] * gain.astype(np.float32), np.float32(255)))
    step = lit.mean(axis=0) - means[1]
    return {
        **found,
        "ground": float(np.linalg.norm(labs[0][beside] - labs[1][beside], axis=1).mean()),
        "paper": min(float(lab[beside][:, 0].mean()) for lab in labs),
        "lit": float(np.linalg.norm(step)),
        "hued": float(np.linalg.norm(step[1:])),
    }


def _share(alike: Map, windows: Mask) -> float:
    """Compute the share of windows that show the same; NaN without windows."""
    return float((alike[windows] > ALIKE).mean()) if windows.any() else float("nan")


def product_mask(features: LocalFeatures) -> npt.NDArray[np.uint8]:
    """Return the mask of an image's product, (h, w)."""
    mask = coverage(features.image) if features.mask is None else features.mask
    return _middle(features.image) if mask is None else mask


def _middle(image: RgbImage) -> npt.NDArray[np.uint8]:
    height, width = image.shape[:2]
    down, across = round(MARGIN * height), round(MARGIN * width)
    mask = np.zeros((height, width), np.uint8)
    mask[down : height - down, across : width - across] = 255
    return mask


def _apart(laid: Any, under: Any, compared: Mask, product: Mask) -> float:
    """Compute ``Colours.apart``: fit the rule to all compared pixels, measure it on the product."""
    places = np.flatnonzero(compared)
    if int((compared & product).sum()) < MIN_OVERLAP:
        places = np.flatnonzero(product)
    places = places[:: -(-len(places) // SAMPLE)]
    first, second = (
        cv2.GaussianBlur(side, (0, 0), SOFT).reshape(-1, 3)[places].astype(np.float32)
        for side in (laid, under)
    )
    on_product = product.ravel()[places]
    directions = ((first, second), (second, first))  # red can turn grey, but grey cannot turn red
    smallest = np.inf
    for balance, parts in ((False, (on_product,)), (True, (on_product, ~on_product))):
        for start, end in directions:
            if smallest > PLAIN:
                start = _balanced(start, end) if balance else start
                smallest = min(smallest, _residual(start, end, *parts))
    return smallest


def _residual(start: Map, end: Map, *parts: Mask) -> float:
    """Compute the mean CIEDE2000 of two sets of colours, (n, 3) RGB, after a fit of light.

    Light falls on all parts of the pixels, so the part that differs most counts.
    """
    lab, target = _lab(start), _lab(end)
    parts = tuple(part for part in parts if int(part.sum()) >= MIN_OVERLAP) or parts[:1]
    smallest = np.inf
    for fit in _fits(lab, target):
        difference = deltaE_ciede2000(fit, target, kL=_LIGHTNESS_WEIGHT)
        smallest = min(smallest, max(float(difference[part].mean()) for part in parts))
        if smallest <= PLAIN:
            break
    return smallest


def _lab(colours: Map) -> Floats:
    lab = cv2.cvtColor(colours[None] / np.float32(255), cv2.COLOR_RGB2LAB)[0]
    return np.asarray(lab, dtype=np.float64)


def _balanced(start: Map, end: Map) -> Map:
    """Give colours, (n, 3) RGB, the white balance of others, within ``MAX_GAIN``."""
    bright = (start.mean(axis=1) > DARK) & (np.maximum(start, end).max(axis=1) < BURNT)
    if int(bright.sum()) < MIN_OVERLAP:
        return start
    ratio = np.log((end[bright] + 1) / (start[bright] + 1))
    gain = np.median(ratio - ratio.mean(axis=1, keepdims=True), axis=0)
    gain = np.exp(np.clip(gain - gain.mean(), -np.log(MAX_GAIN), np.log(MAX_GAIN)))
    return np.asarray(np.minimum(start * (gain / gain.max()), 255), dtype=np.float32)


def _fits(start: Floats, end: Floats) -> Iterator[Floats]:
    """Fit colours, (n, 3) CIELAB, to others by a common light: unchanged, then two fits.

    Unchanged colours fit where the background alone was replaced. A fit maps lightness by a curve
    that never falls, scales the saturation, and adds a cast. The second fit gives less weight to
    the pixels that the first fit misses, such as a sticker.
    """
    yield start
    lightness = _fit_lightness(start[:, 0], end[:, 0])
    light = (lightness / MIDDLE)[:, None]
    weight = np.ones(len(start))
    for fit in range(FITS):
        saturation, cast = _fit_cast(start[:, 1:], end[:, 1:], light, weight)
        colours = saturation * start[:, 1:] + cast * light
        if fit in (0, FITS - 1):
            yield np.column_stack([lightness, colours])
        missed = np.linalg.norm(colours - end[:, 1:], axis=1)
        weight = 1 / (1 + (missed / max(float(np.median(missed)), 1.0)) ** 2)


def _fit_cast(start: Floats, end: Floats, light: Floats, weight: Floats) -> tuple[float, Floats]:
    """Fit saturation and cast, (2,), from ``start`` to ``end``, (n, 2), by least squares."""
    each = weight[:, None]
    total = float(weight.sum())
    own = float((each * start**2).sum()) + STEADY * total
    both = (each * start * light).sum(axis=0)
    lit = float((each * light**2).sum()) + 1e-6
    seen = float((each * start * end).sum()) + STEADY * total
    under = (each * light * end).sum(axis=0)
    saturation = (seen - float(both @ under) / lit) / (own - float(both @ both) / lit)
    saturation = min(max(saturation, 0.0), MAX_SATURATION)
    limit = np.array(MAX_CAST)
    return saturation, np.clip((under - saturation * both) / lit, -limit, limit)


def _fit_lightness(start: Floats, end: Floats) -> Floats:
    """Map lightness, (n,), towards another by a curve of ``TONES`` pieces that never falls."""
    edges = np.unique(np.quantile(start, np.linspace(0, 1, TONES + 1)))
    piece = np.clip(np.searchsorted(edges, start, side="right") - 1, 0, max(len(edges) - 2, 0))
    pieces = [piece == number for number in range(max(len(edges) - 1, 1))]
    pieces = [members for members in pieces if members.sum() >= TONES]
    if len(pieces) < 2:
        return np.asarray(np.clip(start + (end - start).mean(), 0, 100))
    knots = np.array([start[members].mean() for members in pieces])
    values = np.maximum.accumulate([float(np.median(end[members])) for members in pieces])
    beyond = np.minimum(start - knots[0], 0) + np.maximum(start - knots[-1], 0)
    return np.asarray(np.clip(np.interp(start, knots, values) + beyond, 0, 100))
