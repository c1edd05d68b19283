"""What somebody wears, without the wearer's face, hair and skin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dedup.augmentations.overlay import RgbImage
from dedup.foregrounds import Foreground, Mask, guarded
from dedup.foregrounds.grabcut import GrabCut

VERSION = 1
"""Raised when the same image and settings give another mask."""

_SKIN = np.array([50, 136, 80]), np.array([255, 173, 125])
"""Least and most luma, red and blue difference of skin, whatever its tone (Chai and Ngan, 1999,
somewhat narrower in blue)."""

_ALLOWED = np.array([60.0, 6.0, 6.0])
"""Added to the variances of L, a and b: a face's light differs from a leg's."""

_NEAR_FACE = 15
"""Units of a and b within which skin of the head may differ from its median."""

_MIN_PART = 0.02
"""Share of what is left that a connected part of it has to have."""

_MIN_LEFT = 0.25
"""Share of the person that has to be left, or nothing is taken away."""


@dataclass(frozen=True)
class SkinAware:
    """A foreground's mask without the wearer, where there seems to be one.

    The top of the mask is a head where so much of it has the colours of skin. Skin there says how
    all of this wearer's skin looks; it goes, wherever in the mask, and so does the head. A product
    that nobody wears stays as it is.

    Args:
        person: finds the wearer with all that is worn.
        head: height of the head, as a share of the mask's.
        least_skin: share of the head that has to look like skin.
        reach: how far, in standard deviations, a colour may lie from the head's skin.
        most_skin: where more of the person would go, nothing goes: the product has that colour.
        least_area: a mask of less of the image is not believed.
    """

    person: Foreground = field(default_factory=GrabCut)
    head: float = 0.13
    least_skin: float = 0.25
    reach: float = 1.8
    most_skin: float = 0.45
    least_area: float = 0.02

    def __call__(self, image: RgbImage) -> Mask | None:
        """The mask, (h, w) uint8, of an image (h, w, 3) uint8 RGB; ``None`` where it fails."""
        person = self.person(image)
        if person is None or not (person > 127).any():
            return None
        smooth = np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)
        inside, head = person > 127, self._head(person > 127)
        seeds = _looks_like_skin(smooth) & head
        if seeds.sum() < self.least_skin * head.sum():
            return person
        skin = self._like(smooth, seeds) & inside
        worn = _cleaned(inside & ~skin & ~head)
        left = (worn > 127).sum() / inside.sum()
        if skin.sum() > self.most_skin * inside.sum() or left < _MIN_LEFT:
            return person
        soft = np.minimum(person, cv2.GaussianBlur(worn, (3, 3), 0))
        return guarded(np.asarray(soft, np.uint8), self.least_area, 1, 1)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the masks."""
        settings = {name: value for name, value in vars(self).items() if name != "person"}
        person = self.person.identity
        return {"part": "skin_aware", "version": VERSION, "person": person, **settings}

    def _head(self, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """The part of a mask, (h, w), in which a wearer's head would be."""
        rows = np.flatnonzero(inside.any(axis=1))
        height = max(2, int(self.head * (rows[-1] - rows[0] + 1)))
        head = np.zeros_like(inside)
        head[rows[0] : rows[0] + height] = inside[rows[0] : rows[0] + height]
        return head

    def _like(self, image: RgbImage, seeds: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Where the colours are those of some pixels: a normal distribution in Lab."""
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab).astype(np.float64)
        apart = lab - np.median(lab[seeds], axis=0)
        known = apart[seeds]
        known = known[(np.abs(known[:, 1:]) < _NEAR_FACE).all(axis=1)]
        spread = known.T @ known / max(1, len(known)) + np.diag(_ALLOWED)
        distance = np.einsum("hwi,ij,hwj->hw", apart, np.linalg.inv(spread), apart)
        close = np.asarray(distance < self.reach**2, np.uint8)
        opened = cv2.morphologyEx(close, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return np.asarray(opened > 0, np.bool_)


def _looks_like_skin(image: RgbImage) -> npt.NDArray[np.bool_]:
    """Where a pixel may be skin, of anybody and in any light."""
    colours = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    return np.asarray(((colours >= _SKIN[0]) & (colours <= _SKIN[1])).all(axis=2), np.bool_)


def _cleaned(worn: npt.NDArray[np.bool_]) -> Mask:
    """What is worn without threads and crumbs, 0 or 255."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    mask = cv2.morphologyEx(worn.astype(np.uint8) * 255, cv2.MORPH_OPEN, kernel)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = (areas > 0) & (areas >= _MIN_PART * areas.sum())
    return np.where(kept[labels], np.uint8(255), np.uint8(0))
