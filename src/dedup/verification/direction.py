"""Tell which of two aligned images is the copy, by what an edit leaves in one of them.

Each cue looks for one kind of edit, and says -1 (the left image is the copy) to 1 (the right one),
or 0. Edits that leave no trace of their own, such as a mirror or another tone, say nothing.
``benchmarks/direction.py`` measures how often the sum is right.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from dedup.verification.alignment import Alignment, LocalFeatures, Matrix
from dedup.verification.appearance import Agreement, grey, warp_onto
from dedup.verification.keypoints import RgbImage
from dedup.verification.traces import BLOCKY, block_grid

Map = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

SURE = 0.3
"""Absolute sum of the cues below which nothing is said."""

PLAUSIBLE = 0.3
"""Agreement of structure below which two images are no copies, and neither is asked."""

NEAR, FAR = 3.0, 7.0
"""Pixels on either side of an image's edge at which its surroundings are compared with it."""

ACTIVE = 5.0
"""Grey levels by which neighbours differ where an edge can be judged."""

COLOURFUL = 6.0
"""Levels of chroma, beyond a tint, that a coloured image has."""

PREVIEW = 300
"""Long side in pixels from which a preview may have been reduced, and lost detail by that."""

SHARPENED = 0.93
"""Correlation of two images' finest detail from which the sharper one may have been sharpened."""

NOISE = 12.0
"""Energy of the finest band in flat parts from which an image has noise."""

DIFFERS = 20.0
"""Grey levels by which pixels of an overlay differ, after a common tone."""

MAX_OVERLAY = 0.35
"""Share of the overlap beyond which a region that differs is no overlay."""

CROPPED = "cropped"
SET_IN = "set in a larger image"
GRAY = "without colour"
LESS_DETAIL = "less detail"
OVERLAID = "something added on top"
RECOMPRESSED = "recompressed"
ADDED = (GRAY, LESS_DETAIL, OVERLAID)
"""Traits that evidence lists as edits; the others have words of their own there."""


class Direction(NamedTuple):
    """Which of two images is the copy.

    Attributes:
        copy_of: -1 (the left one) to 1 (the right one), in tenths; 0 where nothing tells.
        trait: what tells most, such as "less detail"; "" for 0.
    """

    copy_of: float = 0.0
    trait: str = ""


def direction(
    left: LocalFeatures, right: LocalFeatures, alignment: Alignment, agreement: Agreement
) -> Direction:
    """Tell which of two aligned images is the copy; swapping them changes the sign.

    Args:
        left: features of the left image.
        right: features of the right image.
        alignment: maps the left image to the right one.
        agreement: result of ``appearance.agree`` for them.
    """
    found = cues(left, right, alignment, agreement)
    total = float(np.clip(sum(found.values()), -1, 1))
    if abs(total) < SURE:
        return Direction()
    trait = max(found, key=lambda name: found[name] * (1 if total > 0 else -1))
    return Direction(round(total, 1), trait)


def directed(
    left: LocalFeatures, right: LocalFeatures, alignment: Alignment, agreement: Agreement
) -> Agreement:
    """Add to an agreement which image is the copy, where the two can be copies at all."""
    if agreement.structure < PLAUSIBLE:
        return agreement
    found = direction(left, right, alignment, agreement)
    return agreement._replace(copy_of=found.copy_of, trait=found.trait)


def told(copy_of: float, left: str, right: str, evidence: str) -> str:
    """Write evidence with the name of the image that is the copy, if that is known.

    Args:
        copy_of: -1 (the left image) to 1 (the right one).
        left: name of the left image, such as its product's id.
        right: likewise.
        evidence: edits in words.
    """
    if not abs(copy_of) >= SURE or not evidence:
        return evidence
    return f"{right if copy_of > 0 else left} is the copy: {evidence}"


def cues(
    left: LocalFeatures, right: LocalFeatures, alignment: Alignment, agreement: Agreement
) -> dict[str, float]:
    """Measure each cue, -1 to 1, by its name in words; see ``direction``."""
    first, second = left.image, right.image
    if alignment.mirrored:
        first = np.ascontiguousarray(first[:, ::-1])
    matrix = np.asarray(alignment.matrix, np.float64)
    back = np.asarray(cv2.invertAffineTransform(matrix), np.float64)
    seen = _Overlap.of(first, second, matrix)
    inside, around = rim(second, first, matrix), rim(first, second, back)
    found = {
        SET_IN: max(inside, 0.0) - max(around, 0.0),
        CROPPED: min(inside, 0.0) - min(around, 0.0),
        GRAY: _gray(seen),
        LESS_DETAIL: _detail(first, second, matrix, back),
        OVERLAID: _overlay(seen),
    }
    if agreement.blocky > BLOCKY and agreement.difference < 4 and not any(found.values()):
        found[RECOMPRESSED] = 0.5 if block_grid(second) > block_grid(first) else -0.5
    return found


def rim(outer: RgbImage, inner: RgbImage, matrix: Matrix) -> float:
    """Judge the edge of an image that lies in another, at least in part.

    Where the content goes on across the edge, the inner image was cut out. Where it steps, or is
    flat or drawn out beyond the edge, the inner image was set into the outer one.

    Args:
        outer: (h, w, 3) uint8 RGB.
        inner: (h', w', 3) uint8 RGB.
        matrix: (2, 3), maps x and y of ``inner`` to those of ``outer``.

    Returns:
        1: the outer image is the copy; -1: the inner one is; 0: nothing tells.
    """
    height, width = inner.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float) - 0.5
    corners = corners @ matrix[:, :2].T + matrix[:, 2]
    smooth = cv2.GaussianBlur(outer, (0, 0), 1).astype(np.float32)
    total = perimeter = 0.0
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        perimeter += float(np.hypot(*(end - start)))
        total += _side(smooth, start, end, corners.mean(axis=0))
    return float(np.clip(2.8 * total / max(perimeter, 1.0), -1, 1))


def _side(smooth: Map, start: Map, end: Map, middle: Map) -> float:
    """Judge one side of an edge: its length in pixels, negative where the content goes on."""
    along = end - start
    length = float(np.hypot(*along))
    if length < 16:
        return 0.0
    normal = np.array([-along[1], along[0]]) / length
    normal *= np.sign(normal @ (middle - start)) or 1.0
    places = start + along * ((np.arange(int(length)) + 0.5) / int(length))[:, None]
    points = np.stack([places + normal * far for far in (FAR, NEAR, -NEAR, -FAR)])
    limits = np.array([smooth.shape[1] - 2, smooth.shape[0] - 2])
    points = points[:, ((points >= 1) & (points < limits)).all(axis=(0, 2))].astype(np.float32)
    if points.shape[1] < 12:
        return 0.0
    deep, edge, out, far = cv2.remap(smooth, points[..., 0], points[..., 1], cv2.INTER_LINEAR)
    pairs = (edge, out), (deep, edge), (out, far)
    steps = np.stack([np.abs(a - b).max(axis=1) for a, b in pairs])
    steps = steps[:, steps.max(axis=0) > ACTIVE]
    n = int(steps.shape[1])
    if n < 6:
        return 0.0
    across, within, beyond = (float(mean) for mean in steps.mean(axis=1))
    most = max(within, beyond)
    if across > 2 * most + 6:
        return float(n)
    if within > 4 and beyond < within / 4:
        return 0.7 * n
    is_continued = bool(across < 1.6 * most + 4 and min(within, beyond) > 0.3 * most)
    return -float(n) if is_continued else 0.0


def _gray(seen: _Overlap) -> float:
    """Tell which image has far paler colours: a boosted one differs by less from the other."""
    same = seen.mask & (seen.region == 0)
    if same.sum() < 0.995 * seen.mask.sum():
        return 0.0
    one, other = (_colours(each, same) for each in seen.plain)
    if max(one, other) < COLOURFUL:
        return 0.0
    paler = np.log2((one + 1) / (other + 1))
    return float(np.clip((abs(paler) - 0.7) / 0.3, 0, 1) * np.sign(paler))


def _colours(image: Map, mask: Mask) -> float:
    """Measure the colours, YCrCb, that do not follow from lightness, as those of a tint do."""
    steps = image[..., 0][mask].astype(np.int64) // 16
    colours = image[mask][:, 1:]
    apart = np.zeros(len(colours), np.float32)
    for step in np.unique(steps):
        at = steps == step
        apart[at] = np.abs(colours[at] - np.median(colours[at], axis=0)).max(axis=1)
    return float(np.quantile(apart, 0.95)) if len(apart) else 0.0


def _detail(first: RgbImage, second: RgbImage, matrix: Matrix, back: Matrix) -> float:
    """Tell which image has less detail, on the finer of the two grids."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    one, other = grey(first).astype(np.float32), grey(second).astype(np.float32)
    if scale < 1:
        return -_finer(other, one, back, 1 / scale)
    return _finer(one, other, matrix, scale)


def _finer(coarse: Map, fine: Map, matrix: Matrix, scale: float) -> float:
    """Tell which image has less detail: -1 the coarse one, 1 the fine one."""
    lost, alike = _loss(coarse, fine, matrix)
    if alike > SHARPENED and abs(lost) < 1:
        return 0.0
    if lost < 0 and scale > 1.05 and max(coarse.shape) >= PREVIEW:
        return 0.0  # perhaps the preview alone lost it
    return float(np.clip((abs(lost) - 0.2) / 0.33, 0, 1) * np.sign(lost))


def _loss(coarse: Map, fine: Map, matrix: Matrix) -> tuple[float, float]:
    """Compare the finest band of two images where edges are that both show.

    Returns:
        Half the log2 ratio of the coarse image's energy to the fine one's, each by that of its
        third band; and the bands' correlation. 0 where too little can be compared, or one image
        has noise that the other lacks.
    """
    size = fine.shape[::-1]
    laid = cv2.warpAffine(
        coarse, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    inside = cv2.warpAffine(np.full(coarse.shape, 255, np.uint8), matrix, size) > 250
    inside = cv2.erode(inside.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    (top, third), (other_top, other_third) = _bands(laid), _bands(fine)
    powers = [cv2.GaussianBlur(each**2, (0, 0), 3) for each in (third, other_third)]
    together = cv2.GaussianBlur(third * other_third, (0, 0), 3)
    least, most = np.minimum(*powers), np.maximum(*powers)
    same = inside & (together > 0.9 * np.sqrt(powers[0] * powers[1])) & (least > 1)
    if same.sum() < 400:
        return 0.0, 0.0
    edge = same & (least >= np.quantile(least[same], 0.5))
    flat = inside & (most <= np.quantile(most[inside], 0.3))
    noise = [float((each[flat] ** 2).mean()) for each in (top, other_top)]
    energies = [float((each[edge] ** 2).mean()) for each in (top, other_top, third, other_third)]
    if max(noise) > NOISE or any(noise[at] > 0.35 * energies[at] + 0.2 for at in (0, 1)):
        return 0.0, 0.0
    detail = [max(energies[at] - noise[at], 0) + 0.02 for at in (0, 1)]
    lost = np.log2(detail[0] / detail[1] * energies[3] / energies[2]) / 2
    alike = float((top[edge] * other_top[edge]).mean()) / np.sqrt(energies[0] * energies[1] + 0.01)
    return float(lost), float(alike)


def _bands(image: Map) -> tuple[Map, Map]:
    """Split off the finest band of grey levels, and the third one, each an octave."""
    small, middle, large = (cv2.GaussianBlur(image, (0, 0), sigma) for sigma in (0.7, 1.4, 2.8))
    return image - small, middle - large


class _Overlap(NamedTuple):
    """Two images laid over each other, in YCrCb; see ``warp_onto``."""

    one: Map
    other: Map
    mask: Mask
    region: Map  # what differs after a common tone, 0 or 1
    signed: Map  # difference of lightness after it
    plain: tuple[Map, Map]  # both images before it

    @classmethod
    def of(cls, first: RgbImage, second: RgbImage, matrix: Matrix) -> _Overlap:
        laid, under, mask, _ = warp_onto(first, second, matrix)
        one, other = (
            cv2.GaussianBlur(cv2.cvtColor(each, cv2.COLOR_RGB2YCrCb), (0, 0), 0.8).astype(
                np.float32
            )
            for each in (laid, under)
        )
        fitted = _common_tone(one, other, mask), _common_tone(other, one, mask)
        apart = [fitted[0] - other, one - fitted[1]]
        sizes = [np.abs(each).max(axis=2) for each in apart]
        better = int(sizes[1][mask].mean() < sizes[0][mask].mean())
        region = ((np.minimum(*sizes) > DIFFERS) & mask).astype(np.uint8)
        region = cv2.morphologyEx(region, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        pair = (one, fitted[1]) if better else (fitted[0], other)
        return cls(pair[0], pair[1], mask, region, apart[better][..., 0], (one, other))


def _overlay(seen: _Overlap) -> float:
    """Tell which image has text, a sticker or a patch over it.

    The outline of a region that differs is an edge in the image that has the overlay alone.
    """
    region, mask = seen.region, seen.mask
    share = float(region.sum()) / max(int(mask.sum()), 1)
    if not 0.003 < share < MAX_OVERLAY:
        return 0.0
    if float(np.median(np.abs(seen.plain[0] - seen.plain[1])[..., 0][mask])) > DIFFERS:
        return 0.0  # another ground, or another tone
    # A patch that is blurred keeps the mean of what it hides, and has no outline of its own.
    signed = seen.signed * mask
    means = [cv2.GaussianBlur(each, (0, 0), 5) for each in (signed, np.abs(signed))]
    onesided = np.abs(means[0]) / (means[1] + 1)
    slopes = [_slope(each) for each in (seen.one, seen.other)]
    _, part_of, facts, _ = cv2.connectedComponentsWithStats(region)
    areas = facts[1:, cv2.CC_STAT_AREA]
    total = 0.0
    for part in 1 + np.argsort(-areas)[:8]:
        inside = part_of == part
        outlined = _outlined(inside, slopes, mask)
        weight = np.clip((float(onesided[inside].mean()) - 0.35) / 0.3, 0, 1)
        total += float(weight * areas[part - 1]) * outlined
    total /= float(np.sort(areas)[-8:].sum())
    return float(np.clip(2.5 * total, -1, 1)) if abs(total) > 0.12 else 0.0


def _slope(image: Map) -> Map:
    across, down = cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)
    return np.asarray(np.hypot(across, down).max(axis=2) / 4)


def _outlined(inside: Mask, slopes: list[Map], mask: Mask) -> float:
    """Tell in which of two images a region has an outline of its own, -1 to 1."""
    kernel, part = np.ones((3, 3), np.uint8), inside.astype(np.uint8)
    outline = (cv2.dilate(part, kernel) > 0) & (cv2.erode(part, kernel) == 0) & mask
    if not outline.any():
        return 0.0
    one, other = (slope[outline] for slope in slopes)
    return float((other > 2 * one + 6).mean() - (one > 2 * other + 6).mean())


def _common_tone(one: Map, other: Map, mask: Mask) -> Map:
    """Give an image the tone of another: the median of each of its levels, by steps of 8."""
    out = one.copy()
    for channel in range(3):
        levels, wanted = one[..., channel], other[..., channel]
        steps = np.where(mask, np.minimum(levels / 8, 31), -1).astype(np.int64)
        known = [step for step in range(32) if int((steps == step).sum()) >= 20]
        if known:
            medians = [float(np.median(wanted[steps == step])) for step in known]
            out[..., channel] = np.interp(levels, np.array(known) * 8 + 4, medians)
    return out
