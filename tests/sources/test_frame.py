"""A pandas table gives the catalogue that its CSV file gives."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.errors import SourceError
from dedup.sources.csv import CsvSource
from dedup.sources.frame import FrameSource


def test_a_table_is_read_as_its_file_is(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.parent)
    frame = pd.read_csv(shop)
    read, expected = FrameSource(frame).read(), CsvSource(str(shop)).read()
    pd.testing.assert_frame_equal(read.products, expected.products)
    pd.testing.assert_frame_equal(read.requests, expected.requests)


def test_cells_of_any_kind_become_texts(tmp_path: Path) -> None:
    images = [["a.png", "b.png"], "c.png", None]
    frame = pd.DataFrame({"sku": [7, 8, 9], "photos": images, "price": [1.5, None, 2.0]})
    read = FrameSource(
        frame, id_column="sku", url_column="photos", choice="all", images_dir=str(tmp_path)
    ).read()
    assert read.products["price"].tolist() == ["1.5", "", "2.0"]
    assert read.requests["product_id"].tolist() == ["7", "7", "8", "9"]
    names = [Path(url).name for url in read.requests["url"]]
    assert names == ["a.png", "b.png", "c.png", ""]
    assert read.requests["reason"].tolist() == ["", "", "", "no_url"]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SourceError, match=r"'productId'.*'sku'"):
        FrameSource(pd.DataFrame({"sku": ["1"]})).read()


def test_missing_values_of_numpy_are_empty(tmp_path: Path) -> None:
    ids = pd.Series([np.float64("nan"), np.datetime64("NaT"), np.int64(3)], dtype=object)
    photos = [["a.png", None], np.array(["b.png", np.nan], object), "c.png"]
    frame = pd.DataFrame({"sku": ids, "photos": photos})
    read = FrameSource(
        frame, id_column="sku", url_column="photos", choice="all", images_dir=str(tmp_path)
    ).read()
    assert read.products["sku"].tolist() == ["", "", "3"]
    assert len(read.requests) == 3
