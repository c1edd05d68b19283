"""Draw views of images for contrastive training: edited copies and colour variants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from dedup.augmentations import RgbImage, augment, packshot
from dedup.errors import ConfigError
from dedup.foregrounds.masked_store import ImageReader
from dedup.runtime.parallel import in_order
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import resizer

Job = TypeVar("Job")
Result = TypeVar("Result")

WEAK = ("crop", "brightness", "contrast", "gamma", "rescale", "recompress")
"""Edits that happen to an image between shops without intent."""

MAX_WEAK = 2
HUE_SHIFTS = (45.0, 315.0)
"""Range of the hue shift between a product and its colour variant, in degrees."""

MIN_COLOUR = (60, 50)
"""Smallest saturation and value, of 255, of a pixel with a visible hue."""

SAME_HUE = 35.0
"""Largest difference from the product's commonest hue, in degrees, of a pixel in that hue."""

MIN_CHANGE = 12.0
"""Smallest mean change of a channel in the middle, of 255, that makes a visible variant."""


class Drawn(NamedTuple):
    """Views of an image, each (h, w, 3) uint8 of its own size."""

    weak: RgbImage
    strong: RgbImage
    variant: RgbImage | None


@dataclass(frozen=True)
class ViewBatch:
    """Views of n anchors, resized as in the store, (_, 3, 200, 100) uint8.

    Attributes:
        weak: (n, ...) lightly edited copy of each anchor; for a held-out anchor, its image.
        strong: (k * n, ...) k rounds of an edited copy of each anchor.
        variants: (m, ...) some of the anchors in another colour, which are copies of no image.
        variant_of: (m,) int64, anchor of each variant, 0 to n - 1.
        labels: (n,) int64, equal for products that share an image.
    """

    weak: Tensor
    strong: Tensor
    variants: Tensor
    variant_of: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.weak)

    def to(self, device: torch.device | str) -> ViewBatch:
        """Move the views to another device."""
        return ViewBatch(*(part.to(device) for part in vars(self).values()))


@dataclass(frozen=True)
class Views:
    """Generator of views by random edits; the generator of numbers alone determines them.

    Args:
        strength: greatest strength of an edit of a strong view, 0 to 1.
        n_edits: smallest and largest number of edits of a strong view.
        weak: greatest strength of an edit of a weak view, 0 to 1; it has none to two edits.
        packshots: probability that a packshot, the product on white, replaces its image.
        hue_variants: probability that a colourful anchor has a colour variant.
        other_picture: probability that another image of the product, if any, is edited.
        training: whether training batches have views, or the plain images.
        n_copies: number of edited copies of each held-out image.
        n_held_out: largest number of held-out images with views.
        seed: seed of all views.

    Raises:
        ConfigError: a setting is out of range.
    """

    strength: float = 1.0
    n_edits: Sequence[int] = (1, 4)
    weak: float = 0.3
    packshots: float = 0.3
    hue_variants: float = 0.25
    other_picture: float = 0.2
    training: bool = True
    n_copies: int = 2
    n_held_out: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("strength", "weak", "packshots", "hue_variants", "other_picture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"views.{name}={getattr(self, name)}: set it to a number from 0 to 1"
                )
        for name in ("n_copies", "n_held_out"):
            if getattr(self, name) < 1:
                raise ConfigError(f"views.{name}={getattr(self, name)}: set it to 1 or more")
        if len(self.n_edits) != 2 or not 0 <= self.n_edits[0] <= self.n_edits[1]:
            raise ConfigError(
                f"views.n_edits={list(self.n_edits)}: set it to [fewest,most], such as [1,4]"
            )

    def generator(self, position: int, epoch: int | None = None) -> Generator:
        """Create the generator of an image's views in an epoch; without one, as held out."""
        return np.random.default_rng([self.seed, position, 0 if epoch is None else epoch + 1])

    def draw_views(
        self, image: RgbImage, other: RgbImage, rng: Generator, others: Sequence[RgbImage]
    ) -> Drawn:
        """Draw the views of a training anchor.

        Args:
            image: (h, w, 3) uint8, original of the weak view and the variant.
            other: original of the strong view: the same, or another image of the product.
            rng: generator of the edits.
            others: further images, for edits such as a collage.
        """
        base = image
        if rng.random() < self.packshots:
            base = _cut_out(image, rng)
            other = base if other is image else _cut_out(other, rng)
        variant = recoloured(base, rng) if rng.random() < self.hue_variants else None
        return Drawn(
            weak=self._weak(base, rng),
            strong=self._strong(other, rng, others),
            variant=None if variant is None else self._weak(variant, rng),
        )

    def draw_held_out(
        self, image: RgbImage, rng: Generator, others: Sequence[RgbImage]
    ) -> tuple[list[RgbImage], RgbImage | None]:
        """Draw ``n_copies`` edited copies of a held-out image, and its variant if colourful."""
        copies = [self._strong(image, rng, others) for _ in range(self.n_copies)]
        return copies, recoloured(image, rng)

    def _weak(self, image: RgbImage, rng: Generator) -> RgbImage:
        return augment(image, rng, self.weak, (0, MAX_WEAK), WEAK)[0]

    def _strong(self, image: RgbImage, rng: Generator, others: Sequence[RgbImage]) -> RgbImage:
        min_edits, max_edits = self.n_edits
        return augment(image, rng, self.strength, (min_edits, max_edits), others=others)[0]


def recoloured(image: RgbImage, rng: Generator) -> RgbImage | None:
    """Draw a colour variant: shift all hues, or only those near the product's.

    The product is taken to be in the middle half of the image. Pixels without colour stay, so grey
    or black products have no variant, whatever their background.

    Args:
        image: (h, w, 3) uint8.
        rng: generator of the choice between the two, and of the shift, 45 to 315 degrees.

    Returns:
        The variant, or ``None`` if the product would hardly differ.
    """
    height, width = image.shape[:2]
    middle = slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    is_shifted = (saturation >= MIN_COLOUR[0]) & (value >= MIN_COLOUR[1])
    is_global, shift = rng.random() < 0.5, rng.uniform(*HUE_SHIFTS) * 256 / 360
    if not is_global:
        commonest = (
            np.bincount(hue[middle][is_shifted[middle]] // 16, minlength=16).argmax() * 16 + 8
        )
        apart = np.abs((hue.astype(np.int64) - commonest + 128) % 256 - 128)
        is_shifted &= apart <= SAME_HUE * 256 / 360
    new_hue = np.where(is_shifted, hue + np.uint8(shift), hue)
    variant = cv2.cvtColor(cv2.merge([new_hue, saturation, value]), cv2.COLOR_HSV2RGB_FULL)
    change = np.abs(variant[middle].astype(np.int16) - image[middle]).mean()
    return np.asarray(variant, dtype=np.uint8) if change >= MIN_CHANGE else None


def _cut_out(image: RgbImage, rng: Generator) -> RgbImage:
    """Make a packshot, or return the image if no plausible product is found."""
    cut = packshot(image, rng)
    return image if cut is None else cut


class _ViewDataset(Dataset[ViewBatch]):
    """Base of datasets of views.

    Args:
        store: store of the images.
        images: schema ``IMAGES``, with a ``label`` for products that share an image.
        views: generator of the views.
    """

    def __init__(self, store: ImageReader, images: pd.DataFrame, views: Views) -> None:
        self.store = store
        self.rows = store.rows(images["url"].tolist())
        self.labels = torch.tensor(images["label"].to_numpy())
        self.products = images["product_id"].to_numpy()
        self.views = views
        self.resize = resizer(store.reader)

    def __len__(self) -> int:
        return len(self.rows)

    def resize_all(self, images: Iterable[RgbImage]) -> Tensor:
        """Resize images as in the store, (n, 3, 200, 100) uint8."""
        small = [self.resize(Image.fromarray(image)) for image in images]
        return torch.from_numpy(np.stack(small) if small else np.empty((0, *IMAGE_SHAPE), np.uint8))


class TrainingViews(_ViewDataset):
    """Dataset of training views, a whole batch at a time, drawn again in every epoch."""

    def __init__(self, store: ImageReader, images: pd.DataFrame, views: Views) -> None:
        super().__init__(store, images, views)
        places = pd.Series(np.arange(len(images))).groupby(self.products)
        self.of_product = {str(name): part.to_numpy() for name, part in places}

    def __getitems__(self, draws: Sequence[int]) -> ViewBatch:
        """Draw a batch; a draw is ``epoch * n + position``."""
        epochs, positions = np.divmod(np.asarray(draws), len(self))
        images = self.store.details_at(self.rows[positions])

        def work(place: int) -> tuple[Tensor, Tensor | None]:
            rng = self.views.generator(int(positions[place]), int(epochs[place]))
            other = self._other(int(positions[place]), rng)
            weak, strong, variant = self.views.draw_views(
                images[place],
                images[place] if other is None else other,
                rng,
                images[:place] + images[place + 1 :],
            )
            return self.resize_all([weak, strong]), None if variant is None else self.resize_all(
                [variant]
            )

        pairs, variants = zip(*_map(work, range(len(images))), strict=True)
        weak, strong = torch.stack(pairs).unbind(dim=1)
        return ViewBatch(weak, strong, *_variants(variants), self.labels[positions])

    def _other(self, position: int, rng: Generator) -> RgbImage | None:
        """Choose another image of the product, with the probability ``views.other_picture``."""
        own = self.of_product[str(self.products[position])]
        if len(own) < 2 or rng.random() >= self.views.other_picture:
            return None
        place = rng.choice(own[own != position])
        return self.store.details_at(self.rows[[place]])[0]


class HeldOutViews(_ViewDataset):
    """Dataset of held-out views, a whole batch at a time, always the same."""

    def __init__(self, store: ImageReader, images: pd.DataFrame, views: Views) -> None:
        super().__init__(store, images, views)
        self.made: dict[tuple[int, ...], ViewBatch] = {}

    def __getitems__(self, positions: Sequence[int]) -> ViewBatch:
        """Draw a batch, whose ``weak`` views are the stored images themselves."""
        key = tuple(positions)
        if key not in self.made:
            self.made[key] = self._make(np.asarray(positions))
        return self.made[key]

    def _make(self, positions: Any) -> ViewBatch:
        if not len(positions):
            none = self.resize_all([])
            nothing = torch.empty(0, dtype=torch.int64)
            return ViewBatch(none, none, none, nothing, nothing)
        images = self.store.details_at(self.rows[positions])

        def work(place: int) -> tuple[Tensor, Tensor | None]:
            rng = self.views.generator(int(positions[place]))
            others = images[:place] + images[place + 1 :]
            copies, variant = self.views.draw_held_out(images[place], rng, others)
            return self.resize_all(copies), None if variant is None else self.resize_all([variant])

        copies, variants = zip(*_map(work, range(len(images))), strict=True)
        return ViewBatch(
            torch.from_numpy(self.store.read(self.rows[positions])),
            torch.stack(copies, dim=1).flatten(0, 1),
            *_variants(variants),
            self.labels[positions],
        )


def _variants(variants: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
    """Concatenate the variants that exist, and return the positions of their anchors."""
    anchors = [place for place, variant in enumerate(variants) if variant is not None]
    existing = [variant for variant in variants if variant is not None]
    none = torch.empty((0, *IMAGE_SHAPE), dtype=torch.uint8)
    return torch.cat([none, *existing]), torch.tensor(anchors, dtype=torch.int64)


def _map(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Map on all cores, or on one in a loader process."""
    return in_order(work, jobs) if get_worker_info() is None else map(work, jobs)
