"""Shopify's export of products: both headers, and rows of one product."""

import csv
from pathlib import Path
from typing import Any

import pytest

from dedup.errors import SourceError
from dedup.sources.shopify import ShopifySource

FORMER = ("Handle", "Title", "Product Category", "Image Src", "Variant Image")
PRESENT = ("URL handle", "Title", "Product category", "Product image URL", "Variant image URL")
ROWS = [
    ("hat", "Hat", "Clothing > Hats", "http://a.test/1.jpg", "http://a.test/2.jpg"),
    ("hat", "", "", "http://a.test/2.jpg", ""),
    ("hat", "", "", "", "http://a.test/3.jpg"),
    ("hat", "", "", "", ""),
    ("bag", "Bag", "Bags", "", ""),
    ("", "Cap", "Clothing > Hats", "http://a.test/4.jpg", ""),
    ("hat-2", "Hat", "Clothing > Hats", "http://a.test/1.jpg", ""),
]
EXPECTED = [
    ("hat", ["http://a.test/1.jpg", "http://a.test/2.jpg"], ""),
    ("hat", ["http://a.test/2.jpg"], ""),
    ("hat", ["http://a.test/3.jpg"], ""),
    ("hat", [""], "skipped:no_url"),
    ("bag", [""], "failed:no_url"),
    ("", [""], "failed:no_id"),
    ("hat-2", ["http://a.test/1.jpg"], ""),
]


def source(folder: Path, header: tuple[str, ...], rows: Any = ROWS, **chosen: Any) -> ShopifySource:
    """The source of an export that is written here."""
    path = folder / "products_export.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return ShopifySource(str(path), **chosen)


def outcomes(read_from: ShopifySource) -> list[tuple[str, list[str], str]]:
    """Product id, addresses and ``status:reason`` of each request."""
    rows = read_from.read().requests.itertuples()
    return [
        (row.product_id, [row.url, *row.alternates], f"{row.status}:{row.reason}".strip(":"))
        for row in rows
    ]


@pytest.mark.parametrize("header", [FORMER, PRESENT], ids=["former", "present"])
def test_rows_of_a_handle_are_one_product(tmp_path, header):
    export = source(tmp_path, header)
    assert export.check() == [*header]
    assert outcomes(export) == EXPECTED
    catalogue = export.read()
    assert (catalogue.id_column, catalogue.title_column) == (header[0], "Title")
    assert catalogue.url_column == [*header[3:]]


@pytest.mark.parametrize("header", [FORMER, PRESENT], ids=["former", "present"])
def test_a_category_counts_for_all_rows_of_a_product(tmp_path, header):
    kept = outcomes(source(tmp_path, header, categories=["Clothing>Hats"]))
    assert [reason for _, _, reason in kept] == [
        "", "", "", "skipped:no_url", "skipped:category", "failed:no_id", "",
    ]  # fmt: skip


def test_an_export_without_images_of_variants(tmp_path):
    export = source(tmp_path, (*FORMER[:4], "Vendor"), [(*row[:4], "") for row in ROWS])
    assert export.read().url_column == "Image Src"
    assert outcomes(export)[0] == ("hat", ["http://a.test/1.jpg"], "")


def test_columns_that_are_set_win(tmp_path):
    rows = [("hat", "S1", "http://a.test/1.jpg", "http://a.test/2.jpg")]
    header = ("Handle", "Variant SKU", "Image Src", "Photo")
    export = source(tmp_path, header, rows, id_column="Variant SKU", url_column="Photo")
    assert outcomes(export) == [("S1", ["http://a.test/2.jpg"], "")]


WRONG = {
    "no_handle": (("Title", "Image Src"), "has no column 'Handle' or 'URL handle': set source.id_"),
    "no_image": (("Handle", "Title"), "'Variant image URL': set source.url_column="),
    "both_handles": (
        ("Handle", "URL handle", "Image Src"),
        "of which one is needed: set source.id",
    ),
    "an_empty_file": ((), "has no column"),
}


@pytest.mark.parametrize(("header", "message"), WRONG.values(), ids=WRONG)
def test_other_tables_are_refused(tmp_path, header, message):
    export = source(tmp_path, header, [])
    for act in (export.check, export.read):
        with pytest.raises(SourceError) as caught:
            act()
        assert message in str(caught.value)
