"""Load a catalogue's images as batches for training and validation."""

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
    """Dataset of stored images, which reads a whole batch at a time.

    Args:
        store: store of the images.
        rows: (n, 2) int64, places in the store, see ``ImageStore.rows``.
    """

    def __init__(self, store: ImageReader, rows: npt.NDArray[np.int64]) -> None:
        self.store = store
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Tensor:
        """Read one image, (3, 200, 100) uint8."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> Tensor:
        """Read a batch, (n, 3, 200, 100) uint8, so that the loader has nothing to collate."""
        return torch.from_numpy(self.store.read(self.rows[np.asarray(positions, dtype=np.int64)]))


class CatalogueDataModule(pl.LightningDataModule):
    """Training and held-out batches; products with a common image stay on one side of the split.

    Equal images are used once. Without views a batch is (n, 3, 200, 100) uint8. With views it is a
    ``ViewBatch``, and placeholders are left out.

    Args:
        store: store of the images.
        images: result of ``ImageStore.ingest``.
        views: settings of views, for a task that trains or measures with them.
        batch_size: number of images in a step, over all processes together.
        val_fraction: share of the products to hold out.
        train_on: number of products to train on; ``None`` for all that are not held out.
        num_workers: number of loader processes; 0 is fastest while the store fits in memory.
        shuffle_window: number of shards whose images are shuffled together. Successive batches
            read from these files of 30 MB alone, so a store may be larger than the memory.
        seed: seed of the split and of the order of the batches.
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
            ConfigError: the products are too few for both parts, or ``batch_size`` is not a
                multiple of the number of processes.
        """
        self._start = LoopPosition(0, 0)
        world_size = self._share()[1]
        if self.trainer is not None and world_size > 1:
            self.images = _handed_over(self.images, self.trainer)
        if self.batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={self.batch_size} images in a step cannot be shared evenly by "
                f"{world_size} processes: set a multiple of {world_size}"
            )
        ok = self.images[self.images["status"] == "ok"].sort_values(["product_id", "url"])
        ok = ok.assign(label=connected_products(ok))
        if self.views is not None:
            ok = without_placeholders(ok)
        ok = ok.drop_duplicates("sha256_pixels")
        sizes = ok.groupby("label", sort=False)["product_id"].nunique()
        n_products = sizes.sum() if self.train_on is None else min(self.train_on, sizes.sum())
        n_val = max(1, round(self.val_fraction * n_products))
        shuffled = sizes.iloc[np.random.default_rng(self.seed).permutation(len(sizes))]
        held_out = _choose_held_out(shuffled, n_val)
        rest = shuffled[~held_out]
        if n_val >= sizes.sum() or rest.empty:
            raise ConfigError(
                f"{sizes.sum()} product(s) with distinct images, in {len(sizes)} group(s) with "
                "common images, are too few to train on with "
                f"data.val_fraction={self.val_fraction} held out: read more products, or lower it"
            )
        trained_on = rest.index[rest.cumsum() - rest < n_products]
        self.val_images = ok[ok["label"].isin(shuffled.index[held_out])]
        self.train_images = ok[ok["label"].isin(trained_on)]

    def state_dict(self) -> dict[str, Any]:
        """Save the facts that determine the order of images, and the position in the epoch."""
        at = LoopPosition(0, 0) if self.trainer is None else loop_position(self.trainer)
        return {**self._order_facts(), "epoch": at.epoch, "steps": at.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at the position of a checkpoint.

        Raises:
            ArtifactError: the images, or their order, differ from those of the checkpoint.
        """
        then, now = {**state_dict}, self._order_facts()
        position = LoopPosition(then.pop("epoch"), then.pop("steps"))
        changes = [f"{name} {then.get(name)} -> {now.get(name)}" for name in {**now, **then}
                   if then.get(name) != now.get(name)]  # fmt: skip
        if changes:
            raise ArtifactError(
                f"the checkpoint was trained on other images, or in another order "
                f"({', '.join(changes)}): resume with the catalogue and the settings that it was "
                "trained with, or train from scratch"
            )
        self._start = position

    def _order_facts(self) -> dict[str, Any]:
        images = hashlib.sha256("".join(self.train_images["sha256_pixels"]).encode())
        store = self.store
        foreground = {"foreground": store.product.digest[:12]} if isinstance(store, Framed) else {}
        return {
            **foreground,
            "data.batch_size": self.batch_size,
            "seed": self.seed,
            "data.shuffle_window": self.shuffle_window,
            "training pictures": len(self.train_images),
            "their digest": images.hexdigest()[:12],
        }

    def train_dataloader(self) -> DataLoader[Batch]:
        """Load training batches, in an order drawn from the seed and the epoch."""
        has_views = self.views is not None and self.views.training
        images: StoredImages | TrainingViews
        if self.views is not None and has_views:
            images = TrainingViews(self.store, self.train_images, self.views)
        else:
            images = self.stored_images(self.train_images)
        rank, world_size = self._share()
        order = (ShardDrawSampler if has_views else ShardShuffleSampler)(
            len(images), self.seed, images.rows[:, 0], self.shuffle_window,
            self.batch_size, rank, world_size,
        )  # fmt: skip
        order.set_epoch(self._start.epoch)
        order.skip(self._start.steps)
        return self._loader(images, order)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Load held-out batches in a fixed order; with views, of ``views.n_held_out`` images."""
        images: StoredImages | HeldOutViews = self.stored_images(self.val_images)
        if self.views is not None:
            spread = np.linspace(0, len(self.val_images) - 1, self.views.n_held_out)
            shown = self.val_images.iloc[np.unique(spread.round().astype(int))]
            images = HeldOutViews(self.store, shown, self.views)
        sampler = RankSliceSampler(len(images), *self._share())
        if not len(sampler):  # an empty batch, so that this process takes part in the exchange
            return DataLoader(images, batch_sampler=[[]], collate_fn=_whole_batch)
        return self._loader(images, sampler)

    def stored_images(self, images: pd.DataFrame) -> StoredImages:
        """Return the dataset of some rows of ``images``, in their order."""
        return StoredImages(self.store, self.store.rows(images["url"].tolist()))

    def _share(self) -> tuple[int, int]:
        """Return the rank of this process and the number of processes."""
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
            # A separate generator: else each start of an epoch would draw from that of dropout.
            generator=torch.Generator().manual_seed(self.seed),
        )


class _Resumable(DataLoader[Batch]):
    """Loader that Lightning takes for resumable; the data module restores the position."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def connected_products(images: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Label connected components of products that share images.

    Placeholders, which are flat or shown by too many products, connect none.

    Args:
        images: schema ``IMAGES``, rows that are ok.

    Returns:
        (n,) int64, label of each row's product.
    """
    product, products = pd.factorize(images["product_id"])
    shared = without_placeholders(images.assign(product=product))
    image, unique_images = pd.factorize(shared["sha256_pixels"])
    n = len(products) + len(unique_images)
    edges = (np.ones(len(shared)), (shared["product"], len(products) + image))
    labels = connected_components(coo_array(edges, shape=(n, n)), directed=False)[1]
    return np.asarray(labels, dtype=np.int64)[product]


def _choose_held_out(sizes: pd.Series[int], room: int) -> npt.NDArray[np.bool_]:
    """Hold out components in their order, each if it still fits; else the smallest alone."""
    taken = np.zeros(len(sizes), dtype=bool)
    for place, size in enumerate(sizes):
        if size <= room:
            taken[place] = True
            room -= size
    if len(sizes) and not taken.any():
        taken[sizes.argmin()] = True
    return taken


def _handed_over(images: pd.DataFrame, trainer: pl.Trainer) -> pd.DataFrame:
    """Share the first process's table of images with the other processes.

    It passes through a file, since it may have millions of rows.
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
    """Ignore Ctrl-C and SIGTERM in a worker: the training process needs one more batch to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
