"""What differs in colour from the image's border: fast, and for plain grounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dedup.augmentations.background import coverage
from dedup.augmentations.overlay import RgbImage
from dedup.foregrounds import Mask

VERSION = 1
"""Raised when the same image and settings give another mask."""


@dataclass(frozen=True)
class LabOtsu:
    """Distances in CIE Lab from the border's colour, split by Otsu's threshold.

    What cuts packshots out for training, see ``dedup.augmentations.background``, with the same
    guard: size, place, contrast and outline.
    """

    def __call__(self, image: RgbImage) -> Mask | None:
        """The mask, (h, w) uint8, of an image (h, w, 3) uint8 RGB; ``None`` where it fails."""
        return coverage(image)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the masks."""
        return {"part": "lab_otsu", "version": VERSION}
