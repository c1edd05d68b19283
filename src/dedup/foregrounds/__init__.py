"""Where the product is in an image: one part a module, chosen with ``foreground=``.

A foreground is called with an image and gives a soft mask of its size, or ``None`` where what it
found is not to be believed; the whole image is used then.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dedup.augmentations.overlay import RgbImage

Mask = npt.NDArray[np.uint8]
"""(h, w) uint8: how much of each pixel is product, 0 to 255."""


class Foreground(Protocol):
    """A way to tell a product from its ground. Equal images have equal masks."""

    def __call__(self, image: RgbImage) -> Mask | None:
        """The mask of an image, (h, w, 3) uint8 RGB, or ``None`` where it fails."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the masks, as plain JSON values: code, settings and files."""
        ...


def guarded(mask: Mask, least_area: float, most_area: float, most_border: float) -> Mask | None:
    """The mask, or ``None`` where its size or place cannot be a product's.

    Args:
        mask: (h, w) uint8.
        least_area: share of the image that a product covers at least.
        most_area: and at most.
        most_border: share of the image's outermost pixels that it covers at most.
    """
    inside = mask > 127
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    fits = least_area <= float(inside.mean()) <= most_area
    return mask if fits and float(border.mean()) <= most_border else None


def digest(identity: dict[str, Any]) -> str:
    """SHA-256 of an identity, 64 hex digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
