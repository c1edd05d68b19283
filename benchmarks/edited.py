"""Edited copies of images, as files that a shop would list again."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from bases import Base, Item, replaced
from kinds import COPIES
from numpy.random import Generator
from PIL import Image
from relisted import opened

from dedup.augmentations import RgbImage, augment
from dedup.runtime.parallel import in_order

PLAIN, STRONG = "plain", "strong"
STRENGTH, LENGTH = 0.8, (1, 3)
"""Greatest strength, and least and largest number, of strong edits."""
QUALITIES = (60, 95)
RECOMPRESSED = "recompressed"
"""A plain copy that is only saved again."""


@dataclass(frozen=True)
class Product:
    """A product of a catalogue.

    Attributes:
        key: what its image shows; see ``bases.Item``.
        file: its image.
        edits: what was done to a copy; empty for an original.
    """

    key: str
    file: Path
    edits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copies:
    """Writes copies; each file once.

    Args:
        folder: to write to.
        seed: of the edits. The copy of an image is the same in catalogues of all sizes.
    """

    folder: Path
    seed: int

    def __call__(self, base: Base, items: Sequence[Item], edits: str, run: int) -> list[Product]:
        """One copy of each item, in their order.

        Args:
            base: of the items.
            items: to copy.
            edits: ``PLAIN`` or ``STRONG``.
            run: its number; each run has other copies.
        """

        def copied(item: Item) -> Product:
            place = f"{base.name}/{edits}/{item.kind}-{Path(item.key).name}-{run}"
            file = self.folder / f"{place}.jpg"
            if not file.exists():
                rng = np.random.default_rng([self.seed, zlib.crc32(place.encode())])
                image, done = edited(opened(item.file), edits, rng, fillers(base))
                quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
                replaced(file, image, quality, ",".join(done))
            return Product(item.key, file, done_to(file))

        return list(in_order(copied, items))


def edited(
    image: RgbImage, edits: str, rng: Generator, others: Sequence[RgbImage]
) -> tuple[RgbImage, tuple[str, ...]]:
    """Edit an image plainly or strongly; the image, and the names of what was done."""
    if edits == STRONG:
        return augment(image, rng, STRENGTH, LENGTH, others=others)
    name = str(rng.choice([*COPIES, RECOMPRESSED]))
    return image if name == RECOMPRESSED else COPIES[name](image, rng), (name,)


def done_to(file: Path) -> tuple[str, ...]:
    """The edits of a copy's file, which its comment has."""
    with Image.open(file) as image:
        return tuple(image.info["comment"].decode().split(","))


def fillers(base: Base) -> Sequence[RgbImage]:
    """The images for collages, which no catalogue of the base has."""
    return _opened(tuple(item.file for item in base.fillers))


@lru_cache(1)
def _opened(files: Sequence[Path]) -> list[RgbImage]:
    return [opened(file) for file in files]
