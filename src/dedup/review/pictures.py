"""Pictures for the page: previews from the store, encoded anew, and maps of what differs."""

from __future__ import annotations

import io
import re
import threading
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from dedup.review.standing import Catalogue
from dedup.schemas import Image8
from dedup.search.image_access import ImageAccess
from dedup.verification.alignment import LocalFeatures
from dedup.verification.appearance import warp_onto
from dedup.verification.difference import Region
from dedup.verification.geometric import placements

DIGEST = re.compile(r"[0-9a-f]{64}")
QUALITY = 85
KEPT = 512
"""Encoded pictures, and differences, kept in memory."""

LONG_SIDE = 320
STRONG = 60.0
"""Difference of grey levels that is painted in full red."""


class Differing(NamedTuple):
    """What differs in two pictures.

    Attributes:
        picture: JPEG: the right picture in grey, red where the left one differs; ``None`` where
            the two cannot be aligned.
        region: the strongest region that differs, in the right picture; ``None`` where none does.
    """

    picture: bytes | None
    region: Region | None


class Pictures:
    """Pictures by the digest of their pixels.

    Args:
        catalogue: digests by address.
        sight: previews by address.
    """

    def __init__(self, catalogue: Catalogue, sight: ImageAccess) -> None:
        self._address: dict[str, str] = {}
        for address, digests in catalogue.of_address.items():
            self._address.setdefault(digests.pixels, address)
        self._sight = sight
        self._lock = threading.Lock()
        self._jpeg = lru_cache(KEPT)(self._encoded)
        self._differing = lru_cache(KEPT)(self._compared)

    def jpeg(self, digest: str) -> bytes | None:
        """Encode a picture; ``None`` for a name that is none of this run."""
        return self._jpeg(digest) if self.knows(digest) else None

    def differing(self, left: str, right: str) -> Differing | None:
        """Compare two pictures; ``None`` for a name that is none of this run."""
        return self._differing(left, right) if self.knows(left) and self.knows(right) else None

    def knows(self, digest: str) -> bool:
        """Tell whether a text is the digest of a picture of this run."""
        return DIGEST.fullmatch(digest) is not None and digest in self._address

    def _encoded(self, digest: str) -> bytes:
        return _jpeg(self._preview(digest))

    def _preview(self, digest: str) -> Image8:
        with self._lock:
            return self._sight.details([self._address[digest]])[0]

    def _compared(self, left: str, right: str) -> Differing:
        one, other = (LocalFeatures.of(self._preview(digest)) for digest in (left, right))
        pairs = placements(one, other)
        best = max(pairs, key=lambda pair: pair.agreement.structure, default=None)
        if best is None:
            return Differing(None, None)
        image: Any = one.image[:, ::-1] if best.alignment.mirrored else one.image
        laid, under, mask, _ = warp_onto(
            np.ascontiguousarray(image), other.image, best.alignment.matrix, LONG_SIDE
        )
        return Differing(_jpeg(_painted(laid, under, mask)), best.region)


def _painted(laid: Any, under: Any, mask: Any) -> Image8:
    """Paint in red where two aligned images differ, on a pale copy of the right one."""
    soft = [cv2.GaussianBlur(side.astype(np.float32), (0, 0), 1.2) for side in (laid, under)]
    differ = np.abs(soft[0] - soft[1]).max(axis=2) * mask
    weight = np.clip((differ - 8) / STRONG, 0, 1)[..., None]
    grey = cv2.cvtColor(under, cv2.COLOR_RGB2GRAY).astype(np.float32)
    pale = np.repeat((128 + grey / 2)[..., None], 3, axis=2)
    pale[~mask] *= 0.8
    return np.asarray(pale * (1 - weight) + np.array([214, 28, 28]) * weight, np.uint8)


def _jpeg(image: Image8) -> bytes:
    """Encode an image, (h, w, 3) uint8 RGB, without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
