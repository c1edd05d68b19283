"""A catalogue's pictures as batches for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from dedup.errors import ConfigError
from dedup.store import ImageStore


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


class CatalogueDataModule(pl.LightningDataModule):
    """Training and held-out batches, (n, 3, 200, 100) uint8, split by product.

    Equal pictures are taken once, so that no held-out picture was trained on under another id.

    Args:
        store: where the pictures lie.
        images: what ``ImageStore.ingest`` returned.
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
        batch_size: int = 128,
        val_fraction: float = 0.1,
        train_on: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.store = store
        self.images = images
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
        ok = ok.drop_duplicates("sha256_pixels")
        products = ok["product_id"].unique()
        shuffled = np.random.default_rng(self.seed).permutation(products)
        wanted = len(products) if self.train_on is None else min(self.train_on, len(products))
        n_val = max(1, round(self.val_fraction * wanted))
        if n_val >= len(products):
            raise ConfigError(
                f"{len(products)} product(s) with distinct pictures are too few to train on with "
                f"data.val_fraction={self.val_fraction} held out"
            )
        self.val_images = ok[ok["product_id"].isin(shuffled[:n_val])]
        self.train_images = ok[ok["product_id"].isin(shuffled[n_val:][:wanted])]

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Training batches, each epoch in an order of its own that the seed draws."""
        pictures = self.pictures(self.train_images)
        return self._loader(pictures, EpochOrder(len(pictures), self.seed))

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Held-out batches in a fixed order."""
        pictures = self.pictures(self.val_images)
        return self._loader(pictures, SequentialSampler(pictures))

    def pictures(self, images: pd.DataFrame) -> StoredPictures:
        """The pictures of some rows of ``images``, in their order."""
        return StoredPictures(self.store, self.store.rows(images["url"].tolist()))

    def _loader(self, pictures: StoredPictures, order: Sampler[int]) -> DataLoader[Tensor]:
        return DataLoader(
            pictures,
            batch_size=self.batch_size,
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=_whole_batch,
        )


def _whole_batch(batch: Any) -> Any:
    return batch
