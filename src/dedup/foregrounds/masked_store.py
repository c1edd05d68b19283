"""The product alone, as an encoder is shown it: cropped by its mask to a box on a neutral ground.

What a foreground finds is kept beside the pixels of each shard of a store, as visual words are:
``shard-00000.masks-FOREGROUND.npy``, (n, 128, 128) uint8, the masks squashed to that size, and
``shard-00000.framed-PRODUCT.npy``, (n, 3, 200, 100) uint8, what is shown. FOREGROUND and PRODUCT
are digests of all that decides them. Where a foreground failed, the mask is 0 and the pixels are
the store's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds import Foreground, Mask, digest
from dedup.runtime.nouns import counted
from dedup.runtime.parallel import in_order
from dedup.runtime.progress import counting
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import Pixels, resizer
from dedup.store.image_store import ImageStore
from dedup.store.shards import Shards, lacking

log = logging.getLogger("dedup")

VERSION = 1
"""Raised when the same image, mask and settings give other pixels."""

MASK_SHAPE = (128, 128)
"""Height and width of a kept mask, whatever the image's."""

BATCH = 1024
"""Masks held in memory at once when they are counted."""

ASPECTS = ("stretch", "keep")


@dataclass(frozen=True)
class Framing:
    """Puts a product into a box on a neutral ground, so that its place and size do not matter.

    Args:
        margin: round the product, as a share of its longer side.
        ground: grey value of the ground, 0 to 255.
        aspect: ``stretch``: the box is as wide and high as the product, whatever is 200 x 100
            pixels later; ``keep``: it is widened to twice as high as wide.
    """

    margin: float = 0.05
    ground: int = 128
    aspect: str = "stretch"

    def __post_init__(self) -> None:
        if self.aspect not in ASPECTS:
            raise ConfigError(f"framing.aspect={self.aspect}: expected one of {', '.join(ASPECTS)}")

    def __call__(self, image: Pixels, mask: Mask) -> Pixels:
        """The product of an image in its box.

        Args:
            image: (h, w, 3) uint8 RGB.
            mask: (h, w) uint8, with some pixels above 127.

        Returns:
            (h', w', 3) uint8 RGB, what the mask leaves out in the colour of the ground.
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
        """Left, top, width and height of the box; it may reach beyond the image."""
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
        framing: how it is shown.
    """

    foreground: Foreground
    framing: Framing

    @cached_property
    def digest(self) -> str:
        """Of all that decides what is shown, 64 hex digits."""
        framing = {"version": VERSION, **asdict(self.framing)}
        return digest({"masks": self.of_masks, "framing": framing})

    @cached_property
    def of_masks(self) -> str:
        """Of all that decides the masks alone."""
        return digest({"foreground": self.foreground.identity, "shape": list(MASK_SHAPE)})

    def mask(self, image: Pixels) -> Mask:
        """The mask of an image as it is kept, ``MASK_SHAPE``; all 0 where the foreground fails."""
        found = self.foreground(image)
        if found is None:
            return np.zeros(MASK_SHAPE, np.uint8)
        height, width = MASK_SHAPE
        small = cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8) if (small > 127).any() else np.zeros_like(small)

    def shown(self, image: Pixels, mask: Mask) -> Pixels:
        """The product of an image in its box, by a kept mask; the whole image by one of 0."""
        height, width = image.shape[:2]
        full = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        if not (full > 127).any():
            return image
        return self.framing(image, np.asarray(full, np.uint8))


@dataclass
class Framed:
    """A store of which the products alone are seen; read like an ``ImageStore``.

    Args:
        store: where the images lie.
        product: what is seen of them.
        settings: what says how to make ``product`` again, for an index's manifest.
    """

    store: ImageStore
    product: Product
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._shards = Shards(self.store.path)
        self._whole: set[int] = set()

    @property
    def facts(self) -> dict[str, Any]:
        """What an index's manifest says: the settings, and the digest of what they make."""
        return {**self.settings, "digest": self.product.digest}

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.store.path

    @property
    def reader(self) -> str:
        """How images are resized."""
        return self.store.reader

    def rows(self, urls: Sequence[str]) -> npt.NDArray[np.int64]:
        """Where images lie, as ``ImageStore.rows`` says."""
        return self.store.rows(urls)

    def read(self, rows: npt.NDArray[np.int64]) -> Pixels:
        """The pixels that are shown at (n, 2) places, (n, 3, 200, 100) uint8.

        Raises:
            ArtifactError: a shard is missing, or the store lacks one of the images.
            CorruptError: a shard cannot be read.
        """
        return self._kept(rows, "framed", IMAGE_SHAPE)

    def masks_at(self, rows: npt.NDArray[np.int64]) -> Mask:
        """The kept masks at (n, 2) places, (n, 128, 128) uint8; 0 where the foreground failed."""
        return self._kept(rows, "masks", MASK_SHAPE)

    def details_at(self, rows: npt.NDArray[np.int64]) -> list[Pixels]:
        """The products at (n, 2) places, each (h, w, 3) uint8 RGB; whole images where it failed.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read, or a detail in it is not whole.
        """
        images, masks = self.store.details_at(rows), self.masks_at(rows)
        return [self.product.shown(*both) for both in zip(images, masks, strict=True)]

    def masks(self, urls: Sequence[str]) -> list[Mask | None]:
        """The kept masks of images, each (128, 128) uint8; ``None`` where the foreground failed.

        Raises:
            ArtifactError: the store lacks one of the images, or a file of a shard.
            CorruptError: a shard cannot be read.
        """
        return [mask if mask.any() else None for mask in self.masks_at(self.rows(urls))]

    def found_in(self, image: Pixels) -> tuple[Mask, Pixels] | None:
        """The mask of an image, (h, w, 3) uint8, as it would be kept, and what would be shown.

        Returns:
            (128, 128) and (3, 200, 100) uint8; ``None`` where it stays whole.
        """
        mask = self.product.mask(image)
        return (mask, self._squashed(image, mask)) if mask.any() else None

    def failed(self, urls: Sequence[str]) -> int:
        """In how many of some images no product is found."""
        rows = np.unique(self.rows(urls), axis=0)
        starts = range(0, len(rows), BATCH)
        masks = (self.masks_at(rows[start : start + BATCH]) for start in starts)
        return sum(int((~part.any(axis=(1, 2))).sum()) for part in masks)

    def prepare(self, urls: Sequence[str]) -> dict[str, Any]:
        """Find the products of images, of whole shards at a time, and say how many failed.

        Returns:
            ``images``; ``failed``, of these; ``made``, the images whose masks were found
            now; and ``ms_per_picture`` of those, on all cores.
        """
        begun, made = time.perf_counter(), self._make(np.unique(self._located(urls)[:, 0]).tolist())
        seconds = time.perf_counter() - begun
        distinct = list(dict.fromkeys(urls))
        failed = self.failed(distinct)
        say = log.warning if failed > len(distinct) / 2 else log.info
        n = counted(len(distinct), "image")
        say("no product found in %d of %s: it is taken whole there", failed, n)
        return {
            "pictures": len(distinct),
            "failed": failed,
            "made": made,
            "ms_per_picture": round(1000 * seconds / made, 2) if made else None,
        }

    def _located(self, urls: Sequence[str]) -> npt.NDArray[np.int64]:
        rows = self.rows(urls)
        if len(rows) and rows.min() < 0:
            raise lacking(self.path)
        return rows

    def _kept(
        self, rows: npt.NDArray[np.int64], kind: str, shape: tuple[int, ...]
    ) -> npt.NDArray[np.uint8]:
        if len(rows) and rows.min() < 0:
            raise lacking(self.path)
        found = np.empty((len(rows), *shape), np.uint8)
        shards = np.unique(rows[:, 0]).tolist()
        self._make(shards)
        for shard in shards:
            here = rows[:, 0] == shard
            found[here] = self._shards.kept_rows(shard, self._name(kind), rows[here, 1])
        return found

    def _make(self, shards: Sequence[int]) -> int:
        """Find the products of those shards where it was not done; in how many images."""
        new = [shard for shard in shards if shard not in self._whole]
        lacking = [shard for shard in new if self._lacks(shard, "masks", MASK_SHAPE)]
        made = sum(self._shards.size(shard) for shard in lacking)
        if lacking:
            with counting("finding products", made) as count:
                for shard in lacking:
                    self._find(shard, count)
        for shard in new:
            if shard in lacking or self._lacks(shard, "framed", IMAGE_SHAPE):
                self._frame(shard)
        self._whole.update(new)
        return made

    def _find(self, shard: int, count: Callable[[], None]) -> None:
        """Find the masks of a shard, and keep them."""

        def mask(row: int) -> Mask:
            return self.product.mask(self._shards.detail(shard, row))

        size = self._shards.size(shard)
        masks = np.empty((size, *MASK_SHAPE), np.uint8)
        for row, one in enumerate(in_order(mask, range(size))):
            masks[row] = one
            count()
        self._shards.keep(shard, self._name("masks"), masks)

    def _frame(self, shard: int) -> None:
        """Make what is shown of a shard from its masks, and keep it."""
        rows = np.arange(self._shards.size(shard))
        masks = self._shards.kept_rows(shard, self._name("masks"), rows)
        framed = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        if len(rows):
            framed[:] = self._shards.pixels(shard, rows)

        def pixels(row: int) -> Pixels:
            return self._squashed(self._shards.detail(shard, row), masks[row])

        found = np.flatnonzero(masks.any(axis=(1, 2))).tolist()
        for row, one in zip(found, in_order(pixels, found), strict=True):
            framed[row] = one
        self._shards.keep(shard, self._name("framed"), framed)

    def _squashed(self, image: Pixels, mask: Mask) -> Pixels:
        return resizer(self.reader)(Image.fromarray(self.product.shown(image, mask)))

    def _lacks(self, shard: int, kind: str, shape: tuple[int, ...]) -> bool:
        try:
            self._shards.kept(shard, self._name(kind), shape, np.uint8)
        except ArtifactError:
            return True
        return False

    def _name(self, kind: str) -> str:
        made_by = self.product.of_masks if kind == "masks" else self.product.digest
        return f"{kind}-{made_by[:8]}"


ImageReader = ImageStore | Framed
"""Where an encoder's images come from: whole, or their products alone."""
