"""Views of images: what is drawn, from what, and that it is drawn again alike."""

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from dedup.augmentations import RgbImage, packshot
from dedup.errors import ArtifactError, ConfigError
from dedup.schemas import IMAGE_SHAPE
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.training.views import HeldOutViews, TrainingViews, ViewBatch, Views, recoloured
from tests.conftest import draw, encoded, write_shop

UNTOUCHED: dict[str, Any] = {"n_edits": (0, 0), "packshots": 0.0, "hue_variants": 0.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """Eight images in the order of their addresses, the last of them grey."""
    folder = tmp_path_factory.mktemp("shop")
    for number in range(8):
        image = draw(number).convert("L" if number == 7 else "RGB")
        (folder / f"{number}.jpg").write_bytes(encoded(image))
    shop = write_shop(folder, [(f"P{number}", f"{number}.jpg") for number in range(8)])
    store = ImageStore(folder / "store")
    store.ingest(CsvSource(str(shop)).read(), folder)
    return store


def table(store: ImageStore, products: str = "ABCDEFGH") -> pd.DataFrame:
    """The images as those of some products, each product a family."""
    urls = sorted(store.entries.index)
    return pd.DataFrame(
        {"product_id": list(products), "url": urls, "label": [ord(name) for name in products]}
    )


def training(store: ImageStore, products: str = "ABCDEFGH", **settings: Any) -> TrainingViews:
    return TrainingViews(store, table(store, products), Views(**settings))


def details(store: ImageStore) -> list[RgbImage]:
    return store.details(sorted(store.entries.index))


def stored(store: ImageStore) -> Tensor:
    return torch.from_numpy(store.read(store.rows(sorted(store.entries.index))))


def same(a: ViewBatch, b: ViewBatch) -> bool:
    parts = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(torch.equal(one, other) for one, other in parts)


def garment(colour: tuple[int, int, int], ground: tuple[int, int, int]) -> RgbImage:
    """A plain thing in the middle half of a plain ground."""
    image = np.full((120, 80, 3), ground, np.uint8)
    image[30:90, 20:60] = colour
    return image


class TestRecoloured:
    @pytest.mark.parametrize("seed", range(8))
    def test_the_hue_turns_far_and_lightness_stays(self, seed: int) -> None:
        variant = recoloured(garment((200, 40, 60), (230, 230, 230)), np.random.default_rng(seed))
        assert variant is not None
        hue, saturation, value = colorsys.rgb_to_hsv(*variant[60, 40] / 255)
        before = colorsys.rgb_to_hsv(200 / 255, 40 / 255, 60 / 255)
        apart = abs((hue - before[0] + 0.5) % 1 - 0.5) * 360
        assert apart >= 45 - 4
        assert (saturation, value) == pytest.approx(before[1:], abs=0.03)
        np.testing.assert_allclose(variant[0, 0], 230, atol=1)

    def test_sometimes_all_colours_turn_and_sometimes_the_products_alone(self) -> None:
        image = garment((200, 40, 60), (40, 90, 200))
        grounds = []
        for seed in range(20):
            variant = recoloured(image, np.random.default_rng(seed))
            assert variant is not None
            grounds.append(np.abs(variant[0, 0].astype(int) - image[0, 0]).max() > 5)
        assert 3 <= sum(grounds) <= 17

    @pytest.mark.parametrize(
        ("colour", "ground"),
        [((90, 90, 90), (255, 255, 255)), ((20, 20, 20), (200, 40, 60)), ((30, 5, 5), (9, 9, 9))],
        ids=["grey", "black on red", "dark"],
    )
    def test_what_has_no_colour_has_no_variant(
        self, colour: tuple[int, int, int], ground: tuple[int, int, int]
    ) -> None:
        for seed in range(6):
            assert recoloured(garment(colour, ground), np.random.default_rng(seed)) is None

    def test_a_image_of_one_pixel(self) -> None:
        assert recoloured(np.full((1, 1, 3), 7, np.uint8), np.random.default_rng(0)) is None


class TestDrawn:
    def test_the_generator_alone_decides(self, store: ImageStore) -> None:
        images, views = details(store), Views(hue_variants=1.0)
        first, again, next_epoch = (
            views.draw_views(images[0], images[0], views.generator(0, epoch), images[1:])
            for epoch in (0, 0, 1)
        )
        for one, other in zip(first, again, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one, other)
        assert not np.array_equal(first.strong, next_epoch.strong)

    @pytest.mark.parametrize("change", ["seed", "position", "epoch", "held out"])
    def test_generators_differ(self, change: str) -> None:
        other = {
            "seed": Views(seed=4).generator(1, 2),
            "position": Views(seed=3).generator(2, 2),
            "epoch": Views(seed=3).generator(1, 3),
            "held out": Views(seed=3).generator(1),
        }[change]
        assert Views(seed=3).generator(1, 2).random() != other.random()
        assert Views().generator(0, 0).random() != Views().generator(0).random()

    def test_images_are_left_as_they_are(self, store: ImageStore) -> None:
        images, views = details(store), Views(hue_variants=1.0)
        before = [image.copy() for image in images]
        for epoch in range(10):
            views.draw_views(images[0], images[1], views.generator(0, epoch), images[2:])
        for image, copy in zip(images, before, strict=True):
            np.testing.assert_array_equal(image, copy)

    def test_packshots_stand_in_for_both_views(self) -> None:
        ground = np.asarray(draw(0, (160, 240))) // 12 + 90
        ground[60:180, 40:120] = (180, 20, 30)
        image = ground.astype(np.uint8)
        views = Views(packshots=1.0, n_edits=(0, 0), weak=0.0)
        rng = views.generator(0, 0)
        rng.random()
        expected = packshot(image, rng)
        found = views.draw_views(image, image, views.generator(0, 0), [])
        assert expected is not None
        np.testing.assert_array_equal(found.strong, expected)
        assert (np.asarray(found.weak)[:5] > 235).all()

    def test_weak_views_are_closer_than_strong_ones(self, store: ImageStore) -> None:
        data = training(store, packshots=0.0, other_picture=0.0)
        apart = []
        for epoch in range(6):
            batch = data.__getitems__([epoch * 8 + place for place in range(8)])
            originals = stored(store).float()
            apart.append(
                [(part - originals).abs().mean().item() for part in (batch.weak, batch.strong)]
            )
        weak, strong = np.mean(apart, axis=0)
        assert weak < 0.5 * strong

    @pytest.mark.parametrize(
        "setting",
        [{"strength": 1.5}, {"weak": -0.1}, {"packshots": 2}, {"hue_variants": -1},
         {"other_picture": 7}, {"n_copies": 0}, {"n_held_out": 0}, {"n_edits": [3]},
         {"n_edits": [4, 1]}, {"n_edits": [-1, 1]}],
        ids=str,
    )  # fmt: skip
    def test_a_number_that_cannot_be(self, setting: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=rf"views\.{next(iter(setting))}="):
            Views(**setting)


class TestTrainingViews:
    def test_an_unedited_view_is_what_the_store_has(self, store: ImageStore) -> None:
        batch = training(store, **UNTOUCHED).__getitems__(range(8))
        assert len(batch) == 8
        assert batch.strong.shape == (8, *IMAGE_SHAPE)
        assert batch.strong.dtype == torch.uint8
        # The store's details are JPEGs, hence not to the bit.
        assert (batch.strong.float() - stored(store)).abs().mean() < 2
        expected = np.asarray(
            Image.fromarray(details(store)[3]).resize((100, 200), Image.Resampling.BICUBIC)
        )
        np.testing.assert_array_equal(batch.strong[3].permute(1, 2, 0), expected)

    def test_a_draw_names_its_epoch(self, store: ImageStore) -> None:
        whole = [training(store).__getitems__([e * 8 + p for p in range(8)]) for e in range(3)]
        assert same(training(store).__getitems__(range(16, 24)), whole[2])
        assert not same(whole[0], whole[2])
        assert not same(training(store, seed=1).__getitems__(range(8)), whole[0])

    def test_the_place_in_the_batch_does_not_matter(self, store: ImageStore) -> None:
        settings = {"n_edits": (0, 0)}  # collages show the rest of the batch
        forth = training(store, **settings).__getitems__([5, 2, 7])
        back = training(store, **settings).__getitems__([7, 2, 5])
        torch.testing.assert_close(forth.weak, back.weak.flip(0), rtol=0, atol=0)
        torch.testing.assert_close(forth.strong, back.strong.flip(0), rtol=0, atol=0)

    def test_variants_know_whose_they_are(self, store: ImageStore) -> None:
        settings = UNTOUCHED | {"hue_variants": 1.0, "weak": 0.0}
        batch = training(store, **settings).__getitems__(range(8))
        assert 4 <= len(batch.variants) <= 7  # the last image is grey
        assert 7 not in batch.variant_of
        value = batch.variants.amax(dim=1).float()  # of HSV; a turn of the hue leaves it
        own = batch.weak[batch.variant_of].amax(dim=1).float()
        other = batch.weak[(batch.variant_of + 1) % 7].amax(dim=1).float()
        near, far = ((value - part).abs().mean(dim=(1, 2)) for part in (own, other))
        assert (near < far).all()
        assert not training(store, **UNTOUCHED).__getitems__(range(8)).variants.numel()

    def test_the_strong_view_may_be_of_another_image(self, store: ImageStore) -> None:
        settings = UNTOUCHED | {"other_picture": 1.0}
        batch = training(store, products="AABCDDDE", **settings).__getitems__(range(8))
        images = stored(store).float()
        apart = (batch.strong.float()[:, None] - images).abs().mean(dim=(2, 3, 4))
        shown = apart.argmin(dim=1).tolist()
        assert [shown[place] for place in (0, 1, 2, 3, 7)] == [1, 0, 2, 3, 7]
        assert all(shown[place] in {4, 5, 6} - {place} for place in (4, 5, 6))
        assert batch.labels.tolist() == [ord(name) for name in "AABCDDDE"]

    def test_one_image_alone(self, store: ImageStore) -> None:
        batch = training(store).__getitems__([3])
        assert len(batch.weak) == len(batch.strong) == len(batch) == 1


class TestHeldOutViews:
    def held_out(self, store: ImageStore, **settings: Any) -> HeldOutViews:
        return HeldOutViews(store, table(store), Views(**settings))

    def test_originals_are_the_stored_images(self, store: ImageStore) -> None:
        batch = self.held_out(store).__getitems__([1, 6])
        torch.testing.assert_close(batch.weak, stored(store)[[1, 6]], rtol=0, atol=0)

    def test_copies_come_round_by_round(self, store: ImageStore) -> None:
        batch = self.held_out(store, n_copies=3, n_edits=(0, 0)).__getitems__([1, 6])
        assert batch.strong.shape == (6, *IMAGE_SHAPE)
        expected = batch.weak.repeat(3, 1, 1, 1).float()
        assert (batch.strong.float() - expected).abs().mean(dim=(1, 2, 3)).max() < 2

    def test_no_images_have_no_views(self, store: ImageStore) -> None:
        batch = self.held_out(store).__getitems__([])
        shapes = [part.shape for part in (batch.weak, batch.strong, batch.variants)]
        assert shapes == [(0, *IMAGE_SHAPE)] * 3
        assert len(batch) == len(batch.labels) == len(batch.variant_of) == 0

    def test_they_are_always_the_same(self, store: ImageStore) -> None:
        data = self.held_out(store)
        first = data.__getitems__(range(8))
        assert data.__getitems__(range(8)) is first
        assert same(self.held_out(store).__getitems__(range(8)), first)
        assert not torch.equal(first.strong[:8], first.strong[8:])
        assert not same(self.held_out(store, seed=1).__getitems__(range(8)), first)

    def test_every_colourful_image_has_a_variant(self, store: ImageStore) -> None:
        batch = self.held_out(store, hue_variants=0.0).__getitems__(range(8))
        assert 4 <= len(batch.variants) <= 7
        assert 7 not in batch.variant_of


def test_a_batch_moves_as_one(store: ImageStore) -> None:
    batch = training(store).__getitems__(range(4))
    moved = batch.to("meta")
    assert all(part.is_meta for part in vars(moved).values())
    assert len(moved) == 4


def test_a_missing_image_is_said(store: ImageStore, tmp_path: Path) -> None:
    empty = HeldOutViews(ImageStore(tmp_path / "empty"), table(store), Views())
    with pytest.raises(ArtifactError, match="no store of images"):
        empty.__getitems__([0])
