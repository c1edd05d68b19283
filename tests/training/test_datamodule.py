"""How a catalogue is split and dealt out as batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from torch import Tensor
from torch.utils.data import DataLoader

from dedup.errors import ConfigError
from dedup.schemas import IMAGE_SHAPE
from dedup.sources.catalogue import Catalogue
from dedup.store.image_store import ImageStore
from dedup.training.datamodule import Batch, CatalogueDataModule, connected_products
from dedup.training.views import ViewBatch, Views


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "store", shard_rows=8)


@pytest.fixture
def images(store: ImageStore, catalogue: Catalogue, tmp_path: Path) -> pd.DataFrame:
    """The shop's images: 20 distinct ones of P00-P19, three copies, and one that is missing."""
    return store.ingest(catalogue, tmp_path)


def split(store: ImageStore, images: pd.DataFrame, **settings: Any) -> CatalogueDataModule:
    """A data module that is set up."""
    data = CatalogueDataModule(store, images, **settings)
    data.setup("fit")
    return data


def drawn(n_products: int, per_product: int = 1, equal: tuple[int, ...] = ()) -> pd.DataFrame:
    """A table of images that lie nowhere: enough to be split.

    Args:
        n_products: how many.
        per_product: images of each.
        equal: rows that all show the same pixels.
    """
    n = n_products * per_product
    return pd.DataFrame(
        {
            "product_id": [f"P{i // per_product:04}" for i in range(n)],
            "url": [f"/{i:05}.jpg" for i in range(n)],
            "sha256_pixels": ["same" if i in equal else f"{i:05}" for i in range(n)],
            "contrast": 50.0,
            "status": "ok",
        }
    )


def products(images: pd.DataFrame) -> set[str]:
    return set(images["product_id"])


@pytest.fixture
def nowhere(tmp_path: Path) -> ImageStore:
    """A store with nothing in it."""
    return ImageStore(tmp_path / "nowhere")


def test_the_parts_share_no_product_and_leave_none_out(nowhere: ImageStore) -> None:
    images = drawn(100, per_product=3)
    data = split(nowhere, images, val_fraction=0.2)
    train, val = products(data.train_images), products(data.val_images)
    assert not train & val
    assert train | val == products(images)
    assert len(val) == 20
    assert len(data.val_images) == 60
    assert len(data.train_images) == 240


def test_no_pixels_are_on_both_sides(nowhere: ImageStore) -> None:
    images = drawn(40, per_product=2, equal=(0, 1, 5, 30, 31, 77))
    for seed in range(20):
        data = split(nowhere, images, val_fraction=0.5, seed=seed)
        train, val = set(data.train_images["sha256_pixels"]), set(data.val_images["sha256_pixels"])
        assert not train & val
        assert len(data.train_images) + len(data.val_images) == 80 - 5


def test_each_good_image_is_taken_once(store: ImageStore, images: pd.DataFrame) -> None:
    data = split(store, images)
    taken = pd.concat([data.train_images, data.val_images])
    assert sorted(taken["product_id"]) == [f"P{i:02}" for i in range(20)]
    assert taken["sha256_pixels"].is_unique
    assert (taken["status"] == "ok").all()


def test_the_split_is_the_same_for_a_seed_and_any_order_of_the_rows(nowhere: ImageStore) -> None:
    images = drawn(60, per_product=2, equal=(3, 40, 41))
    first = split(nowhere, images, seed=5)
    again = split(nowhere, images.sample(frac=1, random_state=1), seed=5)
    pd.testing.assert_frame_equal(first.train_images, again.train_images)
    pd.testing.assert_frame_equal(first.val_images, again.val_images)
    assert products(split(nowhere, images, seed=6).val_images) != products(first.val_images)


def test_train_on_bounds_the_products_trained_on(nowhere: ImageStore) -> None:
    data = split(nowhere, drawn(100, per_product=2), train_on=30, val_fraction=0.1)
    assert len(products(data.train_images)) == 30
    assert len(products(data.val_images)) == 3
    assert not products(data.train_images) & products(data.val_images)


def test_train_on_more_than_there_are_takes_all_that_are_not_held_out(nowhere: ImageStore) -> None:
    data = split(nowhere, drawn(50), train_on=50_000, val_fraction=0.1)
    assert len(data.val_images) == 5
    assert len(data.train_images) == 45


def test_at_least_one_product_is_held_out(nowhere: ImageStore) -> None:
    data = split(nowhere, drawn(2), val_fraction=0.01)
    assert len(data.val_images) == len(data.train_images) == 1


@pytest.mark.parametrize(
    ("images", "val_fraction"),
    [(drawn(0), 0.1), (drawn(1, per_product=9), 0.1), (drawn(3), 0.99),
     (drawn(4, equal=(0, 1, 2, 3)), 0.1), (drawn(9).assign(status="failed"), 0.1)],
    ids=["none", "one product", "all held out", "all equal", "all failed"],
)  # fmt: skip
def test_too_few_products_are_a_wrong_setting(
    nowhere: ImageStore, images: pd.DataFrame, val_fraction: float
) -> None:
    with pytest.raises(ConfigError, match=r"too few to train on with data\.val_fraction"):
        split(nowhere, images, val_fraction=val_fraction)


def test_batches_are_what_the_store_holds(store: ImageStore, images: pd.DataFrame) -> None:
    data = split(store, images, batch_size=3, val_fraction=0.4)
    expected = store.read(store.rows(data.val_images["url"].tolist()))
    batches = [batch for batch in data.val_dataloader() if isinstance(batch, Tensor)]
    assert [len(batch) for batch in batches] == [3, 3, 2]
    assert all(batch.dtype == torch.uint8 for batch in batches)
    assert all(batch.shape[1:] == IMAGE_SHAPE for batch in batches)
    np.testing.assert_array_equal(torch.cat(batches).numpy(), expected)
    # One by one, as the data set alone gives them.
    alone = data.stored_images(data.val_images)
    np.testing.assert_array_equal(alone[4].numpy(), expected[4])
    assert len(alone) == 8


def test_images_keep_the_order_of_the_rows_asked_for(
    store: ImageStore, images: pd.DataFrame
) -> None:
    data = CatalogueDataModule(store, images)
    asked = images[images["status"] == "ok"].iloc[[9, 2, 2, 17]]
    found = data.stored_images(asked).__getitems__([3, 0, 1])
    expected = store.read(store.rows([asked["url"].iloc[i] for i in (3, 0, 1)]))
    np.testing.assert_array_equal(found.numpy(), expected)


def epoch(loader: DataLoader[Batch], number: int = 0) -> list[bytes]:
    """The images of one epoch, in order, told to the loader as Lightning tells it.

    Of views, the strong ones.
    """
    _set_sampler_epoch(loader, number)
    batches = [batch.strong if isinstance(batch, ViewBatch) else batch for batch in loader]
    return [image.numpy().tobytes() for batch in batches for image in batch]


def test_every_epoch_has_all_images_in_an_order_of_its_own(
    store: ImageStore, images: pd.DataFrame
) -> None:
    data = split(store, images, batch_size=4, seed=3)
    loader = data.train_dataloader()
    first, second = epoch(loader, 0), epoch(loader, 1)
    everything = store.read(store.rows(data.train_images["url"].tolist()))
    assert sorted(first) == sorted(second) == sorted(image.tobytes() for image in everything)
    assert first != second


def test_a_rerun_deals_the_same_batches(store: ImageStore, images: pd.DataFrame) -> None:
    def run(seed: int) -> list[list[bytes]]:
        loader = split(store, images, batch_size=4, seed=seed).train_dataloader()
        return [epoch(loader, number) for number in range(3)]

    torch.rand(7)  # what else was drawn before does not matter
    first = run(3)
    torch.rand(5)
    assert run(3) == first
    assert run(4) != first


def test_a_run_that_goes_on_has_the_order_it_would_have_had(
    store: ImageStore, images: pd.DataFrame
) -> None:
    whole = split(store, images, batch_size=4).train_dataloader()
    orders = [epoch(whole, number) for number in range(3)]
    assert epoch(split(store, images, batch_size=4).train_dataloader(), 2) == orders[2]


def test_loader_processes_deal_the_same_batches(store: ImageStore, images: pd.DataFrame) -> None:
    alone = split(store, images, batch_size=4, num_workers=0)
    helped = split(store, images, batch_size=4, num_workers=1)
    assert epoch(helped.train_dataloader()) == epoch(alone.train_dataloader())
    assert epoch(helped.val_dataloader()) == epoch(alone.val_dataloader())


def linked(shown: list[tuple[str, str]], contrast: float = 50.0) -> pd.DataFrame:
    """A table of images that lie nowhere, from products and what they show."""
    return pd.DataFrame(
        {
            "product_id": [product for product, _ in shown],
            "url": [f"/{i:05}.jpg" for i in range(len(shown))],
            "sha256_pixels": [image for _, image in shown],
            "contrast": contrast,
            "status": "ok",
        }
    )


def spread(links: set[tuple[str, str]], product: str) -> set[str]:
    """Every product that can be reached over shared images, step by step."""
    reached, before = {product}, set[str]()
    while reached != before:
        before = set(reached)
        images = {image for one, image in links if one in reached}
        reached |= {one for one, image in links if image in images}
    return reached


class TestFamilies:
    @pytest.mark.parametrize("seed", range(5))
    def test_products_are_joined_over_shared_images_however_far(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shown = [(f"P{a}", f"{b}") for a, b in zip(*rng.integers(0, 20, (2, 24)), strict=True)]
        labels = connected_products(linked(shown))
        label_of = {product: label for (product, _), label in zip(shown, labels, strict=True)}
        for product, label in label_of.items():
            found = {other for other, its in label_of.items() if its == label}
            assert found == spread(set(shown), product)

    def test_a_chain_is_never_split(self, nowhere: ImageStore) -> None:
        chains = [[(f"{c}{i}", f"{c}-{i}"), (f"{c}{i}", f"{c}-{i + 1}")] for c in "abcdefgh"
                  for i in range(3)]  # fmt: skip
        images = linked([link for chain in chains for link in chain])
        for seed in range(20):
            data = split(nowhere, images, val_fraction=0.3, seed=seed)
            val = {product[0] for product in products(data.val_images)}
            assert val
            assert not val & {product[0] for product in products(data.train_images)}
            assert len(products(data.val_images)) <= 0.3 * 24

    @pytest.mark.parametrize("why", ["flat", "shown by too many"])
    def test_a_image_that_proves_nothing_joins_nobody(self, why: str) -> None:
        n = 5 if why == "flat" else 101
        images = linked([(f"P{i}", "placeholder") for i in range(n)], 1.0 if why == "flat" else 50)
        assert len(set(connected_products(images))) == n

    def test_families_larger_than_the_held_out_part(self, nowhere: ImageStore) -> None:
        members = [(c, f"{c}{i}") for c in "abc" for i in range(4 if c == "b" else 5)]
        shown = [(one, c) for c, one in members] + [(one, one) for _, one in members]
        data = split(nowhere, linked(shown), val_fraction=0.05)
        assert {product[0] for product in products(data.val_images)} == {"b"}

    def test_one_family_alone_is_too_few(self, nowhere: ImageStore) -> None:
        shown = [(f"P{i}", "one") for i in range(9)] + [(f"P{i}", f"{i}") for i in range(9)]
        with pytest.raises(ConfigError, match="too few"):
            split(nowhere, linked(shown))


class TestWithViews:
    @pytest.fixture
    def viewed(self, store: ImageStore, images: pd.DataFrame) -> CatalogueDataModule:
        return split(store, images, views=Views(), batch_size=8, val_fraction=0.3)

    def test_batches_hold_views(self, viewed: CatalogueDataModule) -> None:
        train, val = list(viewed.train_dataloader()), list(viewed.val_dataloader())
        assert [len(batch) for batch in train] == [8, 6]
        assert [len(batch) for batch in val] == [6]
        assert all(isinstance(batch, ViewBatch) for batch in train + val)
        labels = [label for batch in train + val for label in batch.labels.tolist()]
        assert len(set(labels)) == 20

    def test_each_epoch_has_views_of_its_own_and_a_rerun_the_same(
        self, viewed: CatalogueDataModule
    ) -> None:
        loader, again = viewed.train_dataloader(), viewed.train_dataloader()
        first, second = epoch(loader, 0), epoch(loader, 1)
        assert epoch(again, 1) == second
        assert not set(first) & set(second)

    def test_loader_processes_draw_the_same_views(
        self, store: ImageStore, images: pd.DataFrame, viewed: CatalogueDataModule
    ) -> None:
        helped = split(store, images, views=Views(), batch_size=8, val_fraction=0.3, num_workers=1)
        assert epoch(helped.train_dataloader(), 1) == epoch(viewed.train_dataloader(), 1)
        assert epoch(helped.val_dataloader()) == epoch(viewed.val_dataloader())

    def test_views_for_measuring_alone(self, store: ImageStore, images: pd.DataFrame) -> None:
        data = split(store, images, views=Views(training=False))
        assert all(isinstance(batch, Tensor) for batch in data.train_dataloader())
        assert all(isinstance(batch, ViewBatch) for batch in data.val_dataloader())

    def test_so_many_are_held_out_and_measured_on(
        self, store: ImageStore, images: pd.DataFrame
    ) -> None:
        data = split(store, images, views=Views(n_held_out=3), val_fraction=0.5)
        (batch,) = data.val_dataloader()
        assert isinstance(batch, ViewBatch)
        asked = data.val_images.iloc[[0, 4, 9]]["url"].tolist()
        np.testing.assert_array_equal(batch.weak.numpy(), store.read(store.rows(asked)))

    def test_flat_images_have_no_views(self, store: ImageStore, images: pd.DataFrame) -> None:
        flat = images.assign(contrast=images["contrast"].where(images["product_id"] != "P07", 0))
        data = split(store, flat, views=Views())
        assert "P07" not in products(data.train_images) | products(data.val_images)
