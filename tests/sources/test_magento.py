"""Magento's export of products: paths that start from the folder of media, or from its address."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dedup.sources.magento import MagentoSource

HEADER = "sku,store_view_code,product_type,categories,name,base_image,additional_images\n"
MEDIA = "https://shop.test/media/catalog/product"


def read(folder: Path, *rows: str, **chosen: Any) -> pd.DataFrame:
    """The requests of an export with these rows."""
    path = folder / "export.csv"
    path.write_text(HEADER + "\n".join(rows) + "\n", encoding="utf-8")
    return MagentoSource(str(path), **chosen).read().requests


def addresses(requests: pd.DataFrame) -> list[str]:
    """All addresses of the first record."""
    return [requests.loc[0, "url"], *requests.loc[0, "alternates"]]


ROW = 'A1,,simple,Default Category/Bags,Bag,/w/b/1.jpg,"/w/b/1.jpg,/w/b/2.jpg"'


def test_paths_start_from_the_address_of_media(tmp_path):
    for base in (MEDIA, f"{MEDIA}/"):
        found = addresses(read(tmp_path, ROW, base_url=base))
        assert found == [f"{MEDIA}/w/b/1.jpg", f"{MEDIA}/w/b/2.jpg"]


@pytest.mark.parametrize("slash", ["/", ""])
def test_paths_start_from_the_folder_of_media(tmp_path, slash):
    media = tmp_path / "media"
    media.mkdir()
    row = ROW.replace("/w/b", f"{slash}w/b")
    found = addresses(read(tmp_path, row, images_dir=str(media)))
    assert found == [str(media.resolve() / "w/b/1.jpg"), str(media.resolve() / "w/b/2.jpg")]


def test_a_whole_path_below_the_folder_stays(tmp_path):
    row = f"A1,,simple,,Bag,{tmp_path}/1.jpg,"
    assert addresses(read(tmp_path, row)) == [str(tmp_path.resolve() / "1.jpg")]


OTHERS: dict[str, tuple[str, str, str]] = {
    "web": ("https://cdn.test/1.jpg,", "https://cdn.test/1.jpg", ""),
    "host": ("//cdn.test/1.jpg,", "https://cdn.test/1.jpg", ""),
    "no_selection": ("no_selection,", "", "failed:no_url"),
    "no_selection_but_more": ("no_selection,/2.jpg", f"{MEDIA}/2.jpg", ""),
    "none": (",", "", "failed:no_url"),
    "another_scheme": ("file:///etc/passwd,", "file:///etc/passwd", "failed:scheme"),
}


@pytest.mark.parametrize(("cells", "url", "outcome"), OTHERS.values(), ids=OTHERS)
def test_other_addresses(tmp_path, cells, url, outcome):
    row = read(tmp_path, f"A1,,simple,,Bag,{cells}", base_url=MEDIA).iloc[0]
    assert (row.url, f"{row.status}:{row.reason}".strip(":")) == (url, outcome)


def test_no_path_leaves_the_folder(tmp_path):
    media = tmp_path / "media"
    media.mkdir()
    rows = [f"A1,,simple,,Bag,{path}," for path in ("/../secret.jpg", "../secret.jpg")]
    found = read(tmp_path, *rows, images_dir=str(media))
    assert found["reason"].tolist() == ["outside_folder"] * 2


def test_rows_of_store_views_repeat_the_product(tmp_path):
    requests = read(tmp_path, ROW, "A1,de,simple,,Tasche,,", base_url=MEDIA)
    assert requests["product_id"].tolist() == ["A1", "A1"]
    assert requests["reason"].tolist() == ["", "no_url"]
