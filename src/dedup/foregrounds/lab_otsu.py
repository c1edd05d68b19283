"""Segment the product by colour distance from the border: fast, for plain backgrounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dedup.augmentations.background import coverage
from dedup.augmentations.overlay import RgbImage
from dedup.foregrounds import Mask

VERSION = 1
"""Version of the masks, increased when the same image and settings give another mask."""


@dataclass(frozen=True)
class LabOtsu:
    """Otsu's threshold on CIE Lab distances from the border's colour.

    Training cuts packshots out by the same method and the same check of size, place, contrast and
    outline, see ``dedup.augmentations.background``.
    """

    def __call__(self, image: RgbImage) -> Mask | None:
        """Segment an image (h, w, 3) uint8 RGB; return (h, w) uint8, or ``None`` if implausible."""
        return coverage(image)

    @property
    def identity(self) -> dict[str, Any]:
        """Version that determines the masks."""
        return {"part": "lab_otsu", "version": VERSION}
