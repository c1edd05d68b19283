"""Compare the structure and the colours of two aligned images."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.alignment import Alignment, Matrix
from dedup.verification.keypoints import RgbImage
from dedup.verification.traces import NO_BAND, band, trace

SIZE = 128
"""Long side at which images are compared, in pixels."""

WINDOW = (17, 17)
"""Window of the local correlation, in pixels at that size."""

FLAT = 4.0
"""Standard deviation of grey levels, 0 to 255, below which a window shows no structure."""

ALIKE = 0.6
"""Correlation above which two windows show the same."""

COLOURED = 8.0
"""Chroma in CIELAB below which a hue is too uncertain to compare."""

GRAY = 3.0
"""Mean chroma below which an image has no colours."""

MIN_OVERLAP = 60
"""Minimum overlap in pixels at the compared size; less is too little to compare."""

MAX_CAST = 10.0
"""CIELAB units by which light or a camera may shift all colours alike."""

WHOLE = 0.9
"""Share of an image from which it counts as whole."""

_CELLS = 8
"""Cells along each side of the grid whose worst tenth is measured."""

Map = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Agreement(NamedTuple):
    """Measures of two aligned images where they overlap.

    Attributes:
        cover_one: share of the left image that lies in the right one, 0 to 1.
        cover_other: share of the right image that the left one covers, 0 to 1.
        structure: correlation of local structure, weighted by its strength, -1 to 1.
        same: share of the structured windows that show the same, 0 to 1.
        textured: share of the overlap that has structure, 0 to 1.
        whole: correlation of the grey levels over the whole overlap, -1 to 1.
        hue: mean difference of hue where both are coloured, degrees.
        coloured: share of the compared overlap where both are coloured, 0 to 1.
        chroma: mean difference of colour without lightness, in CIELAB units.
        worst_chroma: ``chroma`` in the worst tenth of the overlap's cells.
        tone: mean difference of lightness after the best linear fit, 0 to 100.
        gain: slope of that fit; 1 where the tone is the same.
        shift: mean difference of lightness, 0 to 100.
        gray: 1 if exactly one of the two images has no colours.
        worst_tone: ``tone`` in the worst tenth of the overlap's cells.
        tint: mean difference of colour after the best uniform scaling and shift of the left
            image's colours. A copy that is paler or warmer all over fits, a variant does not.
        worst_tint: ``tint`` in the worst tenth of the cells.
        difference: mean absolute difference of the pixels, 0 to 255.
        blocky: excess of JPEG's block grid in one image over the other, see ``traces``.
        band: kind of the flat band that one image has around the other, see ``traces``.
        copy_of: which image is the copy, -1 (the left one) to 1 (the right one); 0 where nothing
            tells, or nobody asked; see ``direction``.
        trait: what tells it, in words.
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
    difference: float
    blocky: float = 0.0
    band: float = NO_BAND
    copy_of: float = 0.0
    trait: str = ""


def agree(
    left: RgbImage, right: RgbImage, alignment: Alignment, min_structure: float = -1.0
) -> Agreement | None:
    """Compare two images, (h, w, 3) uint8 RGB, under an alignment of ``left`` with ``right``.

    Structure is compared first, as it costs a fifth of all measures.

    Returns:
        Their agreement, or ``None`` where they hardly overlap, or where the agreement of their
        structure is less than ``min_structure``.
    """
    if alignment.mirrored:
        left = np.ascontiguousarray(left[:, ::-1])
    laid, under, mask, share = warp_onto(left, right, alignment.matrix)
    n_pixels = int(mask.sum())
    if n_pixels < MIN_OVERLAP:
        return None
    alike, structure, textured = local_structure(grey(laid), grey(under), mask)
    if structure < min_structure:
        return None
    scale = SIZE / max(right.shape[:2])
    area = left.shape[0] * left.shape[1] * abs(np.linalg.det(alignment.matrix[:, :2])) * scale**2
    first, second = (
        cv2.cvtColor(side.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for side in (laid, under)
    )
    is_same = mask & (alike > ALIKE)
    compared = is_same if is_same.sum() >= MIN_OVERLAP else mask
    contrasts = [
        float(cv2.GaussianBlur(side[..., 0], (0, 0), 1)[mask].std()) for side in (first, second)
    ]
    is_flat = min(contrasts) <= 0.5
    cover = min(1.0, share * mask.size / max(area, 1.0)), share
    at_pixels = trace(left, right, alignment.matrix)
    return Agreement(
        cover_one=cover[0],
        cover_other=cover[1],
        structure=structure,
        same=float((alike[textured] > ALIKE).mean()) if textured.any() else 0.0,
        textured=float(textured.sum() / n_pixels),
        whole=0.0 if is_flat else _correlation(first[..., 0][mask], second[..., 0][mask]),
        **_colours(first, second, compared),
        **_tones(first[..., 0], second[..., 0], compared),
        difference=at_pixels.difference
        if at_pixels
        else float(cv2.absdiff(laid, under)[mask].mean()),
        blocky=at_pixels.blocky if at_pixels else 0.0,
        band=_band(left, right, alignment.matrix, cover),
    )


def _band(left: RgbImage, right: RgbImage, matrix: Matrix, cover: tuple[float, float]) -> float:
    """Tell the kind of band around the image that lies whole in the other, see ``traces``."""
    if min(cover) >= WHOLE or max(cover) < WHOLE:
        return NO_BAND
    if cover[0] > cover[1]:
        return band(right, left, matrix)
    return band(left, right, np.asarray(cv2.invertAffineTransform(matrix)))


def warp_onto(
    left: Map, right: RgbImage, matrix: Matrix, long_side: int = SIZE
) -> tuple[Map, Map, Mask, float]:
    """Warp ``left`` into the frame of ``right``, both reduced to ``long_side`` pixels.

    Returns:
        Left and right image; the mask of their overlap without its rim, whose pixels are mixed;
        and the overlap's share of the frame, its rim included.
    """
    height, width = right.shape[:2]
    scale = long_side / max(height, width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    under = cv2.resize(right, size, interpolation=cv2.INTER_AREA)
    whole = _scaling(size[0] / width, size[1] / height) @ np.vstack([matrix, [0, 0, 1]])
    shrink = float(np.sqrt(abs(np.linalg.det(whole[:2, :2]))))
    if shrink < 0.8:  # a warp alone would skip pixels
        height, width = left.shape[:2]
        small = (max(2, round(width * shrink)), max(2, round(height * shrink)))
        left = cv2.resize(left, small, interpolation=cv2.INTER_AREA)
        whole = whole @ _scaling(width / small[0], height / small[1])
    laid = cv2.warpAffine(
        left, whole[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    everywhere = np.full(left.shape[:2], 255, np.uint8)
    inside = cv2.warpAffine(everywhere, whole[:2], size, flags=cv2.INTER_LINEAR) > 127
    mask = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return laid, under, mask, float(inside.mean())


def _scaling(across: float, down: float) -> Matrix:
    """Return the matrix, (3, 3), of a resize, with the centre of a pixel at a whole number."""
    return np.array([[across, 0, (across - 1) / 2], [0, down, (down - 1) / 2], [0, 0, 1]])


def grey(image: RgbImage) -> Map:
    """Convert an image to grey levels, (h, w) uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def local_structure(laid: Map, under: Map, mask: Mask) -> tuple[Map, float, Mask]:
    """Correlate two images locally, in a window around each pixel.

    Args:
        laid: (h, w), 0 to 255, grey levels or another measure of lightness.
        under: (h, w), likewise.
        mask: (h, w), overlap of both.

    Returns:
        Correlation at each pixel, (h, w); its mean, weighted by the strength of structure; and
        the pixels whose windows have structure, (h, w).
    """
    a, b = (cv2.GaussianBlur(side.astype(np.float32), (0, 0), 1) for side in (laid, under))
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


def _colours(first: Map, second: Map, mask: Mask) -> dict[str, Any]:
    """Measure the difference of colours without lightness; zeros where an image has none."""
    a, b = first[mask][:, 1:], second[mask][:, 1:]
    means = [float(np.linalg.norm(side, axis=1).mean()) for side in (a, b)]
    if min(means) < GRAY:
        none = dict.fromkeys(
            ("hue", "coloured", "chroma", "worst_chroma", "tint", "worst_tint"), 0.0
        )
        return {**none, "gray": float(max(means) >= 2 * GRAY)}
    strong = np.minimum(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))
    hues = [np.arctan2(side[:, 1], side[:, 0]) for side in (a, b)]
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
    """Average over the cells of a coarse grid that the mask fills by half or more."""
    size = (_CELLS, _CELLS)
    inside = mask.astype(np.float32)
    share = cv2.resize(inside, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(values.astype(np.float32) * inside, size, interpolation=cv2.INTER_AREA)
    return np.asarray((total / np.maximum(share, 1e-6))[share > 0.5])


def _tones(first: Map, second: Map, mask: Mask) -> dict[str, Any]:
    """Measure the difference of lightness, before and after a linear fit."""
    a, b = first[mask], second[mask]
    spreads = float(a.std()), float(b.std())
    gain = _correlation(a, b) * spreads[1] / spreads[0] if min(spreads) > 0.5 else 1.0
    residual = np.abs(second - b.mean() - gain * (first - a.mean()))
    return {
        "tone": float(residual[mask].mean()),
        "gain": gain,
        "shift": float(abs(a.mean() - b.mean())),
        "worst_tone": _worst(residual, mask),
    }
