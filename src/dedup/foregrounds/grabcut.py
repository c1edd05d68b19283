"""Segment the product with GrabCut, started from the middle of the image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from dedup.augmentations.background import enlarge_mask, keep_large_parts
from dedup.augmentations.overlay import RgbImage, resize
from dedup.foregrounds import Mask, reject_implausible

VERSION = 1
"""Version of the masks, increased when the same image and settings give another mask."""

_MIN_SIDE = 8
"""Smallest side of the reduced image in pixels: below it there are no two colours to learn."""


@dataclass(frozen=True)
class GrabCut:
    """GrabCut (Rother, Kolmogorov and Blake, 2004), started from an ellipse in the middle.

    Args:
        side: longer side of the reduced image in pixels; the time grows with its square.
        iterations: rounds of learning colours and cutting.
        width: width of the ellipse that is probably product at first, as a share of the image's.
        height: height of that ellipse, as a share of the image's.
        core: size of the middle ellipse that is surely product, as a share of both sides.
        border: width of the strip that is surely background, as a share of the longer side.
        least_area: smallest share of the image that a plausible mask covers.
        most_area: largest share of the image that a plausible mask covers.
        most_border: largest share of the image's outermost pixels that a plausible mask covers.
    """

    side: int = 192
    iterations: int = 2
    width: float = 0.6
    height: float = 0.95
    core: float = 0.15
    border: float = 0.01
    least_area: float = 0.03
    most_area: float = 0.9
    most_border: float = 0.5

    def __call__(self, image: RgbImage) -> Mask | None:
        """Segment an image (h, w, 3) uint8 RGB; return (h, w) uint8, or ``None`` if implausible."""
        height, width = image.shape[:2]
        scale = min(1.0, self.side / max(height, width))
        small = resize(image, width * scale, height * scale)
        if min(small.shape[:2]) < _MIN_SIDE:
            return None
        mask = reject_implausible(
            keep_large_parts(self._cut(small)), self.least_area, self.most_area, self.most_border
        )
        return None if mask is None else enlarge_mask(mask, height, width)

    @property
    def identity(self) -> dict[str, Any]:
        """Version and settings that determine the masks."""
        return {"part": "grabcut", "version": VERSION, **asdict(self)}

    def _cut(self, image: RgbImage) -> Mask:
        """Segment a reduced image; return 0 or 255."""
        labels = self._prior(*image.shape[:2])
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.setRNGSeed(0)  # of this thread: the mask must not depend on earlier images
        cv2.grabCut(image, labels, (0, 0, 0, 0), *models, self.iterations, cv2.GC_INIT_WITH_MASK)
        product = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        return np.where(product, np.uint8(255), np.uint8(0))

    def _prior(self, height: int, width: int) -> Mask:
        """Label product and background at first, by place alone."""
        y = (np.arange(height)[:, None] - (height - 1) / 2) / (height / 2)
        x = (np.arange(width) - (width - 1) / 2) / (width / 2)
        labels = np.full((height, width), cv2.GC_PR_BGD, np.uint8)
        labels[(x / self.width) ** 2 + (y / self.height) ** 2 <= 1] = cv2.GC_PR_FGD
        strip = max(1, round(self.border * max(height, width)))
        labels[:strip] = labels[-strip:] = cv2.GC_BGD
        labels[:, :strip] = labels[:, -strip:] = cv2.GC_BGD
        labels[x**2 + y**2 <= self.core**2] = cv2.GC_FGD
        return labels
