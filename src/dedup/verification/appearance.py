"""Whether two images, one laid over the other, show the same in the same colours."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.alignment import Alignment, Matrix
from dedup.verification.keypoints import RgbImage

SIZE = 128
"""Long side at which images are compared, in pixels."""

WINDOW = (17, 17)
"""Where structure is compared, in pixels at that size."""

FLAT = 4.0
"""Spread of grey levels, 0 to 255, below which a window shows no structure."""

ALIKE = 0.6
"""Correlation above which a window shows the same."""

COLOURED = 8.0
"""Chroma in CIELAB below which a hue is not told."""

GRAY = 3.0
"""Mean chroma below which an image has no colours."""

MIN_OVERLAP = 60
"""Pixels at the compared size; less overlap says nothing."""

MAX_CAST = 10.0
"""CIELAB units by which light or a camera may shift all colours alike."""

_CELLS = 8

Map = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Agreement(NamedTuple):
    """What is seen where one image lies over another.

    Attributes:
        cover_one: share of the one image that lies in the other, 0 to 1.
        cover_other: share of the other that the one covers, 0 to 1.
        structure: correlation of local structure, weighted by how much of it there is, -1 to 1.
        same: share of the structured windows that show the same, 0 to 1.
        textured: share of the overlap that has structure, 0 to 1.
        whole: correlation of the grey levels over the whole overlap, -1 to 1.
        hue: mean difference of hue where both are coloured, degrees.
        coloured: share of the compared overlap where both are coloured, 0 to 1.
        chroma: mean difference of colour, apart from lightness, in CIELAB units.
        worst_chroma: the same in the worst tenth of the overlap's cells.
        tone: mean difference of lightness after the best linear fit, 0 to 100.
        gain: slope of that fit; 1 where the tone is the same.
        shift: mean difference of lightness, 0 to 100.
        gray: 1 if just one of the two has no colours.
        worst_tone: ``tone`` in the worst tenth of the overlap's cells.
        tint: mean difference of colour after the best fit of one's colours, scaled and shifted
            all alike, to the other's: a copy paler or warmer all over fits, a variant does not.
        worst_tint: the same in the worst tenth of the cells.
        apart: how far the product's colours are apart after the best common light, and
        within: share of its structured windows that show the same; see ``colours``. NaN where
            nobody looked.
    """

    cover_one: float
    cover_other: float
    structure: float
    same: float
    textured: float
    whole: float
    hue: float
    coloured: float
    chroma: float
    worst_chroma: float
    tone: float
    gain: float
    shift: float
    gray: float
    worst_tone: float
    tint: float
    worst_tint: float
    apart: float = math.nan
    within: float = math.nan


def agree(one: RgbImage, other: RgbImage, placed: Alignment) -> Agreement | None:
    """Compare two images, (h, w, 3) uint8 RGB, under a placement of the one in the other.

    Returns:
        What is seen, or ``None`` where they hardly overlap.
    """
    if placed.mirrored:
        one = np.ascontiguousarray(one[:, ::-1])
    laid, under, mask, share = overlaid(one, other, placed.matrix)
    n = int(mask.sum())
    if n < MIN_OVERLAP:
        return None
    scale = SIZE / max(other.shape[:2])
    area = one.shape[0] * one.shape[1] * abs(np.linalg.det(placed.matrix[:, :2])) * scale**2
    alike, structure, textured = local_structure(grey(laid), grey(under), mask)
    first, second = (
        cv2.cvtColor(it.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for it in (laid, under)
    )
    proven = mask & (alike > ALIKE) if (mask & (alike > ALIKE)).sum() >= MIN_OVERLAP else mask
    grays = [float(cv2.GaussianBlur(it[..., 0], (0, 0), 1)[mask].std()) for it in (first, second)]
    return Agreement(
        cover_one=min(1.0, share * mask.size / max(area, 1.0)),
        cover_other=share,
        structure=structure,
        same=float((alike[textured] > ALIKE).mean()) if textured.any() else 0.0,
        textured=float(textured.sum() / n),
        whole=_correlation(first[..., 0][mask], second[..., 0][mask]) if min(grays) > 0.5 else 0.0,
        **_colours(first, second, proven),
        **_tones(first[..., 0], second[..., 0], proven),
    )


def overlaid(one: Map, other: RgbImage, matrix: Matrix) -> tuple[Map, Map, Mask, float]:
    """Both at the compared size in the other's frame, where they overlap, and the overlap's share.

    The mask leaves out the overlap's rim, whose pixels are mixed; the share does not.
    """
    height, width = other.shape[:2]
    scale = SIZE / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    under = cv2.resize(other, size, interpolation=cv2.INTER_AREA)
    whole = _scaling(size[0] / width, size[1] / height) @ np.vstack([matrix, [0, 0, 1]])
    shrink = float(np.sqrt(abs(np.linalg.det(whole[:2, :2]))))
    if shrink < 0.8:  # else a warp would skip pixels
        height, width = one.shape[:2]
        small = (max(2, round(width * shrink)), max(2, round(height * shrink)))
        one = cv2.resize(one, small, interpolation=cv2.INTER_AREA)
        whole = whole @ _scaling(width / small[0], height / small[1])
    laid = cv2.warpAffine(
        one, whole[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    everywhere = np.full(one.shape[:2], 255, np.uint8)
    inside = cv2.warpAffine(everywhere, whole[:2], size, flags=cv2.INTER_LINEAR) > 127
    mask = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return laid, under, mask, float(inside.mean())


def _scaling(across: float, down: float) -> Matrix:
    """What resizing does to a pixel's place, whose middle is a whole number; (3, 3)."""
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def grey(image: RgbImage) -> Map:
    """An image without its colours, (h, w) uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def local_structure(laid: Map, under: Map, mask: Mask) -> tuple[Map, float, Mask]:
    """Local correlation at each pixel, its weighted mean, and which windows have structure.

    Args:
        laid: (h, w), 0 to 255: grey, or whatever else tells light from dark.
        under: likewise.
        mask: (h, w), where both are seen.
    """
    a, b = (cv2.GaussianBlur(it.astype(np.float32), (0, 0), 1) for it in (laid, under))
    inside = mask.astype(np.float32)
    share = cv2.blur(inside, WINDOW) + 1e-6

    def mean(values: Map) -> Map:
        return np.asarray(cv2.blur(values * inside, WINDOW) / share, dtype=np.float32)

    mean_a, mean_b = mean(a), mean(b)
    spread_a = np.maximum(mean(a * a) - mean_a**2, 0)
    spread_b = np.maximum(mean(b * b) - mean_b**2, 0)
    together = mean(a * b) - mean_a * mean_b
    alike = together / np.sqrt(spread_a * spread_b + FLAT**4 / 16)
    weight = np.sqrt(np.maximum(spread_a, spread_b)) * mask
    textured = mask & (np.maximum(spread_a, spread_b) > FLAT**2)
    return alike, float((alike * weight).sum() / (weight.sum() + 1e-6)), textured


def _correlation(a: Map, b: Map) -> float:
    return float(np.corrcoef(a, b)[0, 1])


def _colours(first: Map, second: Map, mask: Mask) -> dict[str, float]:
    """How the colours differ, lightness aside; nothing where one image has none."""
    a, b = first[mask][:, 1:], second[mask][:, 1:]
    means = [float(np.linalg.norm(it, axis=1).mean()) for it in (a, b)]
    if min(means) < GRAY:
        none = dict.fromkeys(
            ("hue", "coloured", "chroma", "worst_chroma", "tint", "worst_tint"), 0.0
        )
        return {**none, "gray": float(max(means) >= 2 * GRAY)}
    strong = np.minimum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    hues = [np.arctan2(it[:, 1], it[:, 0]) for it in (a, b)]
    apart = np.abs(np.angle(np.exp(1j * (hues[0] - hues[1]))))
    both = strong > COLOURED
    weight = strong * both
    gain = float(((a - a.mean(0)) * (b - b.mean(0))).sum() / max(a.var(0).sum() * len(a), 1e-6))
    gain = min(max(gain, 0.3), 3.0)
    shift = np.clip(b.mean(0) - gain * a.mean(0), -MAX_CAST, MAX_CAST)
    plain = np.linalg.norm(first[..., 1:] - second[..., 1:], axis=2)
    fitted = np.linalg.norm(gain * first[..., 1:] + shift - second[..., 1:], axis=2) / max(gain, 1)
    return {
        "hue": float(np.degrees((apart * weight).sum() / max(weight.sum(), 1e-6))),
        "coloured": float(both.mean()),
        "chroma": float(plain[mask].mean()),
        "worst_chroma": _worst(plain, mask),
        "gray": 0.0,
        "tint": float(fitted[mask].mean()),
        "worst_tint": _worst(fitted, mask),
    }


def _worst(values: Map, mask: Mask) -> float:
    cells = _by_cell(values, mask)
    return float(np.quantile(cells, 0.9)) if len(cells) else 0.0


def _by_cell(values: Map, mask: Mask) -> Map:
    """Means over the cells of a coarse grid, of those that the mask fills by half."""
    size = (_CELLS, _CELLS)
    inside = mask.astype(np.float32)
    share = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(values.astype(np.float32) * inside, size, interpolation=cv2.INTER_AREA)
    return np.asarray((total / np.maximum(share, 1e-6))[share > 0.5])


def _tones(first: Map, second: Map, mask: Mask) -> dict[str, float]:
    """How the lightness differs, before and after a linear fit of one to the other."""
    a, b = first[mask], second[mask]
    spreads = float(a.std()), float(b.std())
    gain = _correlation(a, b) * spreads[1] / spreads[0] if min(spreads) > 0.5 else 1.0
    left = np.abs(second - b.mean() - gain * (first - a.mean()))
    return {
        "tone": float(left[mask].mean()),
        "gain": gain,
        "shift": float(abs(a.mean() - b.mean())),
        "worst_tone": _worst(left, mask),
    }
