"""Crop products by their masks, and read the crops of a store instead of its whole images.

Two derived arrays lie beside each shard, see ``dedup.store.derived_arrays``. ``masks`` holds the
masks of the foreground, (n, 128, 128) uint8, squashed to that size. ``framed`` holds the encoder's
input, (n, 3, 200, 100) uint8: each product in its box on a neutral ground. Where the foreground
failed, the mask is 0 and the pixels are the store's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dedup.errors import ConfigError
from dedup.foregrounds import Foreground, Mask, digest
from dedup.runtime.nouns import counted
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import Pixels, resizer
from dedup.store.derived_arrays import ArrayDerivation, DerivedArrays, Row, check_places
from dedup.store.image_store import ImageStore
from dedup.store.shards import Shards

log = logging.getLogger("dedup")

VERSION = 1
"""Raised when the same image, mask and settings give other pixels."""

MASKS_VERSION = 1
"""Raised when the same image and foreground give another kept mask."""

MASK_SHAPE = (128, 128)
"""Height and width of a kept mask, whatever those of the image."""

BATCH = 1024
"""Maximum number of masks in memory when failures are counted."""

ASPECTS = ("stretch", "keep")


@dataclass(frozen=True)
class Framing:
    """Puts a product into a box on a neutral ground, whatever its place and size in the image.

    Args:
        margin: round the product, as a share of its longer side.
        ground: grey value of the ground, 0 to 255.
        aspect: ``stretch``: the box is as wide and high as the product, and is squashed to
            200 x 100 pixels later; ``keep``: it is widened to twice as high as wide.
    """

    margin: float = 0.05
    ground: int = 128
    aspect: str = "stretch"

    def __post_init__(self) -> None:
        if self.aspect not in ASPECTS:
            raise ConfigError(f"framing.aspect={self.aspect}: expected one of {', '.join(ASPECTS)}")

    def __call__(self, image: Pixels, mask: Mask) -> Pixels:
        """Crop the product of an image to its box.

        Args:
            image: (h, w, 3) uint8 RGB.
            mask: (h, w) uint8, with some pixels above 127.

        Returns:
            (h', w', 3) uint8 RGB; pixels outside the mask have the colour of the ground.
        """
        left, top, wide, high = self._box(mask)
        share = mask[..., None] / np.float32(255)
        product = image * share + self.ground * (1 - share)
        box = np.full((high, wide, 3), self.ground, np.uint8)
        height, width = mask.shape
        rows = slice(max(0, top), min(height, top + high))
        columns = slice(max(0, left), min(width, left + wide))
        within = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        box[within] = np.rint(product[rows, columns])
        return box

    def _box(self, mask: Mask) -> tuple[int, int, int, int]:
        """Compute left, top, width and height of the box; it may reach beyond the image."""
        left, top, wide, high = cv2.boundingRect((mask > 127).astype(np.uint8))
        margin = round(self.margin * max(wide, high))
        left, top, wide, high = left - margin, top - margin, wide + 2 * margin, high + 2 * margin
        if self.aspect == "keep":
            ratio = IMAGE_SHAPE[1] / IMAGE_SHAPE[2]
            wider, higher = max(wide, round(high / ratio)), max(high, round(wide * ratio))
            left, top = left - (wider - wide) // 2, top - (higher - high) // 2
            wide, high = wider, higher
        return left, top, wide, high


@dataclass(frozen=True)
class Product:
    """Finds the product of an image and frames it.

    Args:
        foreground: finds it.
        framing: puts it into a box.
    """

    foreground: Foreground
    framing: Framing

    @cached_property
    def digest(self) -> str:
        """Digest of all that decides a crop, 64 hex digits."""
        framing = {"version": VERSION, **asdict(self.framing)}
        return digest({"masks": self.of_masks, "framing": framing})

    @cached_property
    def of_masks(self) -> str:
        """Digest of all that decides a mask, 64 hex digits."""
        return digest({"foreground": self.foreground.identity, "shape": list(MASK_SHAPE)})

    def mask(self, image: Pixels) -> Mask:
        """Compute an image's mask for keeping, ``MASK_SHAPE``; all 0 where the foreground fails."""
        mask = self.foreground(image)
        if mask is None:
            return np.zeros(MASK_SHAPE, np.uint8)
        height, width = MASK_SHAPE
        small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8) if (small > 127).any() else np.zeros_like(small)

    def shown(self, image: Pixels, mask: Mask) -> Pixels:
        """Crop an image's product by a kept mask; a mask of 0 gives the whole image."""
        height, width = image.shape[:2]
        full = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        if not (full > 127).any():
            return image
        return self.framing(image, np.asarray(full, np.uint8))


@dataclass
class Framed:
    """A store's products alone, cropped; read like an ``ImageStore``.

    Args:
        store: holds the images.
        product: finds and frames their products.
        settings: of ``product``, for an index's manifest.
    """

    store: ImageStore
    product: Product
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shards = Shards(self.store.path)
        self._derived = DerivedArrays(self._shards)
        self._masks = ArrayDerivation(
            "masks", MASKS_VERSION, _settings(self.product.of_masks), np.uint8, MASK_SHAPE
        )
        self._crops = ArrayDerivation(
            "framed", VERSION, _settings(self.product.digest), np.uint8, IMAGE_SHAPE
        )
        self._confirmed: set[int] = set()

    @property
    def facts(self) -> dict[str, Any]:
        """The settings and the digest of ``product``, for an index's manifest."""
        return {**self.settings, "digest": self.product.digest}

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.store.path

    @property
    def reader(self) -> str:
        """The name of the reader that resizes images."""
        return self.store.reader

    def rows(self, urls: Sequence[str]) -> npt.NDArray[np.int64]:
        """Find the places of images, as ``ImageStore.rows`` does."""
        return self.store.rows(urls)

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """Read the crops at (n, 2) places, (n, 3, 200, 100) uint8.

        Raises:
            ArtifactError: a shard is missing, or the store lacks one of the images.
            CorruptError: a shard cannot be read.
        """
        return self._derived_at(rows, self._crops)

    def masks_at(self, rows: npt.NDArray[np.int64]) -> Mask:
        """Read the kept masks at (n, 2) places, (n, 128, 128) uint8; 0 without a product."""
        return self._derived_at(rows, self._masks)

    def details_at(self, rows: npt.NDArray[np.int64]) -> list[Pixels]:
        """Crop the previews at (n, 2) places, each (h, w, 3) uint8 RGB.

        Where no product was found, the preview stays whole.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read, or a preview in it is damaged.
        """
        images, masks = self.store.details_at(rows), self.masks_at(rows)
        return [self.product.shown(*both) for both in zip(images, masks, strict=True)]

    def masks(self, urls: Sequence[str]) -> list[Mask | None]:
        """Read the kept masks of images, each (128, 128) uint8; ``None`` without a product.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read.
        """
        return [mask if mask.any() else None for mask in self.masks_at(self.rows(urls))]

    def found_in(self, image: Pixels) -> tuple[Mask, Pixels] | None:
        """Compute the mask and the encoder's input of an image, (h, w, 3) uint8.

        Returns:
            (128, 128) and (3, 200, 100) uint8; ``None`` where no product is found.
        """
        mask = self.product.mask(image)
        return (mask, self._squashed(image, mask)) if mask.any() else None

    def failed(self, urls: Sequence[str]) -> int:
        """Count the images without a product."""
        rows = np.unique(self.rows(urls), axis=0)
        starts = range(0, len(rows), BATCH)
        masks = (self.masks_at(rows[start : start + BATCH]) for start in starts)
        return sum(int((~part.any(axis=(1, 2))).sum()) for part in masks)

    def prepare(self, urls: Sequence[str]) -> dict[str, Any]:
        """Find the products of images, whole shards at a time, and log the number of failures.

        Returns:
            ``pictures``, the number of images; ``failed``, of these; ``made``, the number of masks
            computed now; and ``ms_per_picture`` of those, on all cores.
        """
        start, rows = time.perf_counter(), self.rows(urls)
        check_places(rows, self.path)
        made = self._make(np.unique(rows[:, 0]).tolist())
        seconds = time.perf_counter() - start
        distinct = list(dict.fromkeys(urls))
        failed = self.failed(distinct)
        level = logging.WARNING if failed > len(distinct) / 2 else logging.INFO
        n = counted(len(distinct), "image")
        log.log(level, "no product found in %d of %s: these are taken whole", failed, n)
        return {
            "pictures": len(distinct),
            "failed": failed,
            "made": made,
            "ms_per_picture": round(1000 * seconds / made, 2) if made else None,
        }

    def _derived_at(
        self, rows: npt.NDArray[np.int64], derivation: ArrayDerivation
    ) -> npt.NDArray[np.uint8]:
        check_places(rows, self.path)
        self._make(np.unique(rows[:, 0]).tolist())
        return self._derived.read(derivation, rows)

    def _make(self, shards: Sequence[int]) -> int:
        """Find the products of shards without masks, and frame them.

        Returns:
            The number of images whose masks were computed.
        """
        new = [shard for shard in shards if shard not in self._confirmed]
        without_masks = self._derived.missing(self._masks, new)
        self._derived.compute(self._masks, without_masks, self._mask, "finding products")
        without_crops = self._derived.missing(self._crops, new)
        for shard in sorted({*without_masks, *without_crops}):
            self._frame(shard)
        self._confirmed.update(new)
        return sum(self._shards.size(shard) for shard in without_masks)

    def _mask(self, place: Row) -> Mask:
        return self.product.mask(self._shards.detail(*place))

    def _frame(self, shard: int) -> None:
        """Frame the products of a shard by their masks, and keep the crops."""
        rows = np.arange(self._shards.size(shard))
        places = np.stack([np.full_like(rows, shard), rows], axis=1)
        masks = self._derived.read(self._masks, places)
        pixels = self._shards.pixels(shard, rows) if len(rows) else ()

        def crop(place: Row) -> Pixels:
            row = place[1]
            if not masks[row].any():
                return np.asarray(pixels[row])
            return self._squashed(self._shards.detail(*place), masks[row])

        self._derived.compute(self._crops, [shard], crop)

    def _squashed(self, image: Pixels, mask: Mask) -> Pixels:
        return resizer(self.reader)(Image.fromarray(self.product.shown(image, mask)))


def _settings(digest: str) -> dict[str, str]:
    """Settings of a derivation: OpenCV resizes masks, and its bits change between releases."""
    return {"product": digest, "opencv": cv2.__version__}


ImageReader = ImageStore | Framed
"""Source of an encoder's images: whole, or their products alone."""
