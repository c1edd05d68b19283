"""Segment the product from its background: one method a module, chosen with ``foreground=``.

A foreground is called with an image and returns a soft mask of its size. Where the mask is
implausible it returns ``None``, and the whole image is used.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dedup.augmentations.overlay import RgbImage

Mask = npt.NDArray[np.uint8]
"""(h, w) uint8: coverage of each pixel by the product, 0 to 255."""


class Foreground(Protocol):
    """Segmentation of a product from its background. Equal images have equal masks."""

    def __call__(self, image: RgbImage) -> Mask | None:
        """Segment an image, (h, w, 3) uint8 RGB; ``None`` if no plausible mask is found."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Versions of code, settings and files that determine the masks, as plain JSON values."""
        ...


def reject_implausible(
    mask: Mask, least_area: float, most_area: float, most_border: float
) -> Mask | None:
    """Return the mask, or ``None`` if its size or place is implausible for a product.

    Args:
        mask: (h, w) uint8.
        least_area: smallest share of the image that a product covers.
        most_area: largest share of the image that a product covers.
        most_border: largest share of the image's outermost pixels that a product covers.
    """
    inside = mask > 127
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    is_plausible = least_area <= float(inside.mean()) <= most_area
    return mask if is_plausible and float(border.mean()) <= most_border else None


def digest(identity: dict[str, Any]) -> str:
    """Compute the SHA-256 of an identity, 64 hex digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
