"""Measures beside a store's shards: kept when images are read, or else taken from previews."""

from pathlib import Path

import numpy as np
import pytest

from dedup.sources.folder import FolderSource
from dedup.store.decode import decode
from dedup.store.derived_arrays import kept_bytes
from dedup.store.image_store import MEASURED, ImageStore
from dedup.store.measures import MEASURES, measure_preview
from tests.store.test_measures import saved, scene


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        (folder / f"{seed}.jpg").write_bytes(saved(scene(seed), quality=80 - 30 * seed))
    (folder / "bad.jpg").write_bytes(b"no image")
    return folder


def filled(shop: Path) -> tuple[ImageStore, list[str]]:
    store = ImageStore(shop.parent / "store", workers=1)
    images = store.ingest(FolderSource(str(shop)).read(), shop.parent)
    return store, images.loc[images["status"] == "ok", "url"].tolist()


def kept(shop: Path) -> Path:
    return shop.parent / "store" / f"shard-00000.{MEASURED.ending}"


def test_measures_are_those_of_the_decoded_files(shop: Path) -> None:
    store, urls = filled(shop)
    wanted = [decode(Path(url).read_bytes()).measures for url in urls]
    before = kept(shop).read_bytes()
    np.testing.assert_array_equal(store.measures(urls[::-1]), np.array(wanted[::-1], float))
    np.testing.assert_array_equal(ImageStore(store.path).measures(urls), np.array(wanted, float))
    assert kept(shop).read_bytes() == before


def test_an_image_that_the_store_lacks_has_none(shop: Path) -> None:
    store, urls = filled(shop)
    values = store.measures([urls[0], "/nowhere.jpg"])
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1]).all()
    assert ImageStore(shop.parent / "no store").measures([]).shape == (0, len(MEASURES))


def test_without_them_previews_are_measured(shop: Path) -> None:
    store, urls = filled(shop)
    kept(shop).unlink()
    again = ImageStore(store.path)
    previews = [measure_preview(image) for image in again.details(urls)]
    np.testing.assert_array_equal(again.measures(urls), previews)
    assert np.isnan(again.measures(urls)[:, :4]).all()


@pytest.mark.parametrize("value", [99.0, -2.0, 0.5, np.inf])
def test_impossible_values_are_not_believed(shop: Path, value: float) -> None:
    store, urls = filled(shop)
    values = store.measures(urls)
    values[0, MEASURES.index("format")] = value
    digests = store.entries.loc[urls, "sha256_detail"].tolist()
    kept(shop).write_bytes(kept_bytes(values, digests))
    again = ImageStore(store.path).measures(urls)
    assert np.isnan(again[:, MEASURES.index("format")]).all()
