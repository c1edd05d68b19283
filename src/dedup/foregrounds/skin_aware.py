"""Segment worn clothes, without the wearer's face, hair and skin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dedup.augmentations.overlay import RgbImage
from dedup.foregrounds import Foreground, Mask, reject_implausible
from dedup.foregrounds.grabcut import GrabCut

VERSION = 1
"""Version of the masks, increased when the same image and settings give another mask."""

_SKIN = np.array([50, 136, 80]), np.array([255, 173, 125])
"""Lower and upper bounds of luma, red and blue difference for skin of any tone (Chai and Ngan,
1999, with a narrower range of blue)."""

_EXTRA_VARIANCE = np.array([60.0, 6.0, 6.0])
"""Added to the variances of L, a and b: the light on a face differs from that on a leg."""

_NEAR_FACE = 15
"""Largest difference of the head's skin from its median, in units of a and b."""

_MIN_PART = 0.02
"""Smallest share of the clothes that a connected part must have."""

_MIN_LEFT = 0.25
"""Smallest share of the person that must remain as clothes; otherwise nothing is removed."""


@dataclass(frozen=True)
class SkinAware:
    """Mask of another foreground, with a wearer's head and skin removed.

    The top of the mask counts as a head if enough of it has colours of skin. That skin is the
    sample for all of the wearer's skin, which is removed anywhere in the mask, with the head. A
    product that nobody wears keeps its mask.

    Args:
        person: foreground that finds the wearer with the clothes.
        head: height of the head, as a share of the mask's.
        least_skin: smallest share of the head that looks like skin.
        reach: largest distance of a colour from the head's skin, in standard deviations.
        most_skin: share of the person above which no skin is removed, since the product has that
            colour too.
        least_area: smallest share of the image that a plausible mask covers.
    """

    person: Foreground = field(default_factory=GrabCut)
    head: float = 0.13
    least_skin: float = 0.25
    reach: float = 1.8
    most_skin: float = 0.45
    least_area: float = 0.02

    def __call__(self, image: RgbImage) -> Mask | None:
        """Segment an image (h, w, 3) uint8 RGB; return (h, w) uint8, or ``None`` if implausible."""
        person = self.person(image)
        if person is None or not (person > 127).any():
            return None
        smooth = np.asarray(cv2.GaussianBlur(image, (3, 3), 0), np.uint8)
        inside, head = person > 127, self._head(person > 127)
        seeds = _looks_like_skin(smooth) & head
        if seeds.sum() < self.least_skin * head.sum():
            return person
        skin = self._find_similar(smooth, seeds) & inside
        clothes = _clean(inside & ~skin & ~head)
        share_left = (clothes > 127).sum() / inside.sum()
        if skin.sum() > self.most_skin * inside.sum() or share_left < _MIN_LEFT:
            return person
        soft = np.minimum(person, cv2.GaussianBlur(clothes, (3, 3), 0))
        return reject_implausible(np.asarray(soft, np.uint8), self.least_area, 1, 1)

    @property
    def identity(self) -> dict[str, Any]:
        """Version and settings that determine the masks, those of ``person`` included."""
        settings = {name: value for name, value in vars(self).items() if name != "person"}
        person = self.person.identity
        return {"part": "skin_aware", "version": VERSION, "person": person, **settings}

    def _head(self, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return the part of a mask, (h, w), that a wearer's head would take."""
        rows = np.flatnonzero(inside.any(axis=1))
        height = max(2, int(self.head * (rows[-1] - rows[0] + 1)))
        head = np.zeros_like(inside)
        head[rows[0] : rows[0] + height] = inside[rows[0] : rows[0] + height]
        return head

    def _find_similar(self, image: RgbImage, seeds: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Find the pixels whose colour is like the seeds': Mahalanobis distance in Lab."""
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab).astype(np.float64)
        apart = lab - np.median(lab[seeds], axis=0)
        sample = apart[seeds]
        sample = sample[(np.abs(sample[:, 1:]) < _NEAR_FACE).all(axis=1)]
        covariance = sample.T @ sample / max(1, len(sample)) + np.diag(_EXTRA_VARIANCE)
        distance = np.einsum("hwi,ij,hwj->hw", apart, np.linalg.inv(covariance), apart)
        close = np.asarray(distance < self.reach**2, np.uint8)
        opened = cv2.morphologyEx(close, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        return np.asarray(opened > 0, np.bool_)


def _looks_like_skin(image: RgbImage) -> npt.NDArray[np.bool_]:
    """Find the pixels that may be skin, of any tone and in any light."""
    colours = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    return np.asarray(((colours >= _SKIN[0]) & (colours <= _SKIN[1])).all(axis=2), np.bool_)


def _clean(clothes: npt.NDArray[np.bool_]) -> Mask:
    """Remove threads and crumbs from the clothes; return 0 or 255."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    mask = cv2.morphologyEx(clothes.astype(np.uint8) * 255, cv2.MORPH_OPEN, kernel)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    kept = (areas > 0) & (areas >= _MIN_PART * areas.sum())
    return np.where(kept[labels], np.uint8(255), np.uint8(0))
