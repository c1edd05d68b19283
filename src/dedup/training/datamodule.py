"""A catalogue's images as batches for training."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytorch_lightning as pl
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.tables import read_table, write_table
from dedup.schemas import IMAGES
from dedup.store.placeholders import without_placeholders
from dedup.training.loop_state import LoopPosition, loop_position
from dedup.training.samplers import RankSliceSampler, ShardDrawSampler, ShardShuffleSampler
from dedup.training.views import HeldOutViews, TrainingViews, ViewBatch, Views

Batch = Tensor | ViewBatch


class StoredImages(Dataset[Tensor]):
    """Images of a store by position, a whole batch at a time.

    Args:
        store: where they lie.
        rows: (n, 2) int64, the places as ``ImageStore.rows`` gives them.
    """

    def __init__(self, store: ImageReader, rows: npt.NDArray[np.int64]) -> None:
        self.store = store
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Tensor:
        """One image, (3, 200, 100) uint8."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> Tensor:
        """A batch, (n, 3, 200, 100) uint8: the loader then has nothing to collate."""
        return torch.from_numpy(self.store.read(self.rows[np.asarray(positions, dtype=np.int64)]))


class CatalogueDataModule(pl.LightningDataModule):
    """Training and held-out batches, split so that products which share an image stay together.

    Equal images are taken once. Without views a batch is (n, 3, 200, 100) uint8; with views it
    is a ``ViewBatch``, and images in which there is nothing to be seen are left out.

    Args:
        store: where the images lie.
        images: what ``ImageStore.ingest`` returned.
        views: what makes views, for a task that learns or measures by them.
        batch_size: images in a step, of all processes together where several train.
        val_fraction: share of the products that is held out.
        train_on: how many products to train on; ``None`` for all that are not held out.
        num_workers: loader processes; 0 is the fastest while the store fits in memory.
        shuffle_window: shards of the store whose images are shuffled together: what is read soon
            lies in so many files of 30 MB, so a store may be larger than the memory.
        seed: draws the split and the order of the batches.
    """

    def __init__(
        self,
        store: ImageReader,
        images: pd.DataFrame,
        views: Views | None = None,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        train_on: int | None = None,
        num_workers: int = 0,
        shuffle_window: int = 32,
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
        self.shuffle_window = shuffle_window
        self.seed = seed
        self._start = LoopPosition(0, 0)

    def setup(self, stage: str | None = None) -> None:
        """Split the products.

        Raises:
            ConfigError: there are too few products for both parts, or the processes cannot share
                a step's images evenly.
        """
        self._start = LoopPosition(0, 0)
        world_size = self._share()[1]
        if self.trainer is not None and world_size > 1:
            self.images = _handed_over(self.images, self.trainer)
        if self.batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size} images in a step cannot be shared evenly by "
                f"{world_size} processes: take a multiple of {world_size}"
            )
        ok = self.images[self.images["status"] == "ok"].sort_values(["product_id", "url"])
        ok = ok.assign(label=connected_products(ok))
        if self.views is not None:
            ok = without_placeholders(ok)
        ok = ok.drop_duplicates("sha256_pixels")
        sizes = ok.groupby("label", sort=False)["product_id"].nunique()
        wanted = sizes.sum() if self.train_on is None else min(self.train_on, sizes.sum())
        n_val = max(1, round(self.val_fraction * wanted))
        shuffled = sizes.iloc[np.random.default_rng(self.seed).permutation(len(sizes))]
        held_out = _filled(shuffled, n_val)
        rest = shuffled[~held_out]
        if n_val >= sizes.sum() or rest.empty:
            raise ConfigError(
                f"{sizes.sum()} product(s) with distinct images, {len(sizes)} of them after "
                "joining those that share one, are too few to train on with "
                f"data.val_fraction={self.val_fraction} held out"
            )
        trained_on = rest.index[rest.cumsum() - rest < wanted]
        self.val_images = ok[ok["label"].isin(shuffled.index[held_out])]
        self.train_images = ok[ok["label"].isin(trained_on)]

    def state_dict(self) -> dict[str, Any]:
        """What decides which images are dealt, and how many of the epoch's steps were."""
        at = LoopPosition(0, 0) if self.trainer is None else loop_position(self.trainer)
        return {**self._dealt(), "epoch": at.epoch, "steps": at.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on dealing where a checkpoint was saved.

        Raises:
            ArtifactError: other images would be dealt, or in another order.
        """
        then, now = {**state_dict}, self._dealt()
        place = LoopPosition(then.pop("epoch"), then.pop("steps"))
        changes = [f"{name} {then.get(name)} -> {now.get(name)}" for name in {**now, **then}
                   if then.get(name) != now.get(name)]  # fmt: skip
        if changes:
            raise ArtifactError(
                f"the checkpoint was trained on other images, or in another order "
                f"({', '.join(changes)}): resume with the catalogue and the settings that it was "
                "trained with, or train anew"
            )
        self._start = place

    def _dealt(self) -> dict[str, Any]:
        images = hashlib.sha256("".join(self.train_images["sha256_pixels"]).encode())
        shown = self.store
        framed = {"foreground": shown.product.digest[:12]} if isinstance(shown, Framed) else {}
        return {
            **framed,
            "data.batch_size": self.batch_size,
            "seed": self.seed,
            "data.shuffle_window": self.shuffle_window,
            "training pictures": len(self.train_images),
            "their digest": images.hexdigest()[:12],
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Training batches, each epoch in an order of its own that the seed draws."""
        viewed = self.views is not None and self.views.training
        images: StoredImages | TrainingViews
        if self.views is not None and viewed:
            images = TrainingViews(self.store, self.train_images, self.views)
        else:
            images = self.stored_images(self.train_images)
        rank, world_size = self._share()
        order = (ShardDrawSampler if viewed else ShardShuffleSampler)(
            len(images), self.seed, images.rows[:, 0], self.shuffle_window,
            self.batch_size, rank, world_size,
        )  # fmt: skip
        order.set_epoch(self._start.epoch)
        order.skip(self._start.steps)
        return self._loader(images, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Held-out batches in a fixed order; with views, of ``views.n_held_out`` images."""
        images: StoredImages | HeldOutViews = self.stored_images(self.val_images)
        if self.views is not None:
            spread = np.linspace(0, len(self.val_images) - 1, self.views.n_held_out)
            shown = self.val_images.iloc[np.unique(spread.round().astype(int))]
            images = HeldOutViews(self.store, shown, self.views)
        mine = RankSliceSampler(len(images), *self._share())
        if not len(mine):  # an empty batch: a process without one would miss what others agree on
            return DataLoader(images, batch_sampler=[[]], collate_fn=_whole_batch)
        return self._loader(images, mine)

    def stored_images(self, images: pd.DataFrame) -> StoredImages:
        """The images of some rows of ``images``, in their order."""
        return StoredImages(self.store, self.store.rows(images["url"].tolist()))

    def _share(self) -> tuple[int, int]:
        """Which of how many processes this is."""
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def _loader(self, images: Dataset[Any], order: Sampler[int]) -> DataLoader[Batch]:
        return _Resumable(
            images,
            batch_size=self.batch_size // self._share()[1],
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=_whole_batch,
            worker_init_fn=_outlive_signals,
            # Of its own, or each start of an epoch would draw from the one that dropout draws from.
            generator=torch.Generator().manual_seed(self.seed),
        )


class _Resumable(DataLoader[Batch]):
    """Tells Lightning that it goes on in the middle of an epoch; the data module sees to that."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def connected_products(images: pd.DataFrame) -> npt.NDArray[np.int64]:
    """One label for products that share an image, directly or by way of other products.

    Images that prove nothing, because they are flat or too many products show them, join none.

    Args:
        images: schema ``IMAGES``, rows that are ok.

    Returns:
        (n,) int64, the label of each row's product.
    """
    product, products = pd.factorize(images["product_id"])
    shared = without_placeholders(images.assign(product=product))
    image, unique_images = pd.factorize(shared["sha256_pixels"])
    n = len(products) + len(unique_images)
    edges = (np.ones(len(shared)), (shared["product"], len(products) + image))
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


def _handed_over(images: pd.DataFrame, trainer: pl.Trainer) -> pd.DataFrame:
    """The first process's images: the others read none, so that all have the same.

    By way of a file, since there may be millions.
    """
    file = Path(trainer.strategy.broadcast(str(Path(trainer.default_root_dir) / ".images.parquet")))
    if trainer.is_global_zero:
        write_table(images, IMAGES, file)
    trainer.strategy.barrier()
    if not trainer.is_global_zero:
        images = read_table(file, IMAGES)
    trainer.strategy.barrier()
    if trainer.is_global_zero:
        file.unlink()
    return images


def _whole_batch(batch: Any) -> Any:
    return batch


def _outlive_signals(worker: int) -> None:
    """Leave Ctrl-C and SIGTERM to the process that trains: it needs one more batch to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
