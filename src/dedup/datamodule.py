"""A catalogue's pictures as batches for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from dedup.errors import ConfigError
from dedup.sharing import telling
from dedup.store import ImageStore
from dedup.views import HeldOutViews, TrainingViews, ViewBatch, Views

Batch = Tensor | ViewBatch


class StoredPictures(Dataset[Tensor]):
    """Pictures of a store by position, a whole batch at a time.

    Args:
        store: where they lie.
        rows: (n, 2) int64, the places as ``ImageStore.rows`` gives them.
    """

    def __init__(self, store: ImageStore, rows: npt.NDArray[np.int64]) -> None:
        self.store = store
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Tensor:
        """One picture, (3, 200, 100) uint8."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> Tensor:
        """A batch, (n, 3, 200, 100) uint8: the loader then has nothing to collate."""
        return torch.from_numpy(self.store.read(self.rows[np.asarray(positions)]))


class EpochOrder(Sampler[int]):
    """Every position once, in an order drawn from the seed and the epoch.

    The trainer names each epoch before it starts, so a resumed run has the order that it would
    have had without the stop.

    Args:
        n: how many positions.
        seed: draws the orders.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from np.random.default_rng([self.seed, self.epoch]).permutation(self.n).tolist()


class EpochDraws(EpochOrder):
    """The same order, as ``epoch * n + position``: what is drawn for a position may then differ
    from epoch to epoch, in a loader process too."""

    def __iter__(self) -> Iterator[int]:
        for position in super().__iter__():
            yield self.epoch * self.n + position


class CatalogueDataModule(pl.LightningDataModule):
    """Training and held-out batches, split so that products which share a picture stay together.

    Equal pictures are taken once. Without views a batch is (n, 3, 200, 100) uint8; with views it
    is a ``ViewBatch``, and pictures in which there is nothing to be seen are left out.

    Args:
        store: where the pictures lie.
        images: what ``ImageStore.ingest`` returned.
        views: what makes views, for a task that learns or measures by them.
        batch_size: pictures in a step.
        val_fraction: share of the products that is held out.
        train_on: how many products to train on; ``None`` for all that are not held out.
        num_workers: loader processes; 0 is the fastest while the store fits in memory.
        seed: draws the split and the order of the batches.
    """

    def __init__(
        self,
        store: ImageStore,
        images: pd.DataFrame,
        views: Views | None = None,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        train_on: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.store = store
        self.images = images
        self.views = views
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.train_on = train_on
        self.num_workers = num_workers
        self.seed = seed

    def setup(self, stage: str | None = None) -> None:
        """Split the products.

        Raises:
            ConfigError: there are too few products for both parts.
        """
        ok = self.images[self.images["status"] == "ok"].sort_values(["product_id", "url"])
        ok = ok.assign(label=families(ok))
        if self.views is not None:
            ok = telling(ok)
        ok = ok.drop_duplicates("sha256_pixels")
        sizes = ok.groupby("label", sort=False)["product_id"].nunique()
        wanted = sizes.sum() if self.train_on is None else min(self.train_on, sizes.sum())
        n_val = max(1, round(self.val_fraction * wanted))
        shuffled = sizes.iloc[np.random.default_rng(self.seed).permutation(len(sizes))]
        held_out = _filled(shuffled, n_val)
        rest = shuffled[~held_out]
        if n_val >= sizes.sum() or rest.empty:
            raise ConfigError(
                f"{sizes.sum()} product(s) with distinct pictures, {len(sizes)} of them after "
                "joining those that share one, are too few to train on with "
                f"data.val_fraction={self.val_fraction} held out"
            )
        trained_on = rest.index[rest.cumsum() - rest < wanted]
        self.val_images = ok[ok["label"].isin(shuffled.index[held_out])]
        self.train_images = ok[ok["label"].isin(trained_on)]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, each epoch in an order of its own that the seed draws."""
        if self.views is None or not self.views.training:
            pictures = self.pictures(self.train_images)
            return self._loader(pictures, EpochOrder(len(pictures), self.seed))
        viewed = TrainingViews(self.store, self.train_images, self.views)
        return self._loader(viewed, EpochDraws(len(viewed), self.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Held-out batches in a fixed order; with views, of ``views.n_held_out`` pictures."""
        pictures: StoredPictures | HeldOutViews = self.pictures(self.val_images)
        if self.views is not None:
            spread = np.linspace(0, len(self.val_images) - 1, self.views.n_held_out)
            shown = self.val_images.iloc[np.unique(spread.round().astype(int))]
            pictures = HeldOutViews(self.store, shown, self.views)
        return self._loader(pictures, SequentialSampler(pictures))

    def pictures(self, images: pd.DataFrame) -> StoredPictures:
        """The pictures of some rows of ``images``, in their order."""
        return StoredPictures(self.store, self.store.rows(images["url"].tolist()))

    def _loader(self, pictures: Dataset[Any], order: Sampler[int]) -> DataLoader[Batch]:
        return DataLoader(
            pictures,
            batch_size=self.batch_size,
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=_whole_batch,
        )


def families(images: pd.DataFrame) -> npt.NDArray[np.int64]:
    """One label for products that share a picture, directly or by way of other products.

    Pictures that prove nothing, because they are flat or too many products show them, join none.

    Args:
        images: schema ``IMAGES``, rows that are ok.

    Returns:
        (n,) int64, the label of each row's product.
    """
    product, products = pd.factorize(images["product_id"])
    shared = telling(images.assign(product=product))
    picture, pictures = pd.factorize(shared["sha256_pixels"])
    n = len(products) + len(pictures)
    edges = (np.ones(len(shared)), (shared["product"], len(products) + picture))
    labels = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1]
    return np.asarray(labels, dtype=np.int64)[product]


def _filled(sizes: pd.Series[int], room: int) -> npt.NDArray[np.bool_]:
    """Which families to hold out: in their order, each that still fits; else the smallest."""
    taken = np.zeros(len(sizes), dtype=bool)
    for place, size in enumerate(sizes):
        if size <= room:
            taken[place] = True
            room -= size
    if len(sizes) and not taken.any():
        taken[sizes.argmin()] = True
    return taken


def _whole_batch(batch: Any) -> Any:
    return batch
