"""Products on several rows: with the id on each, or on the first alone."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dedup.detection.blocks import block_cells
from dedup.detection.grouping import Grouping
from dedup.errors import ConfigError
from dedup.reports.records import cells
from dedup.schemas import INDEX_IMAGES, PAIRS
from dedup.search.index import Index
from dedup.sources.csv import CsvSource
from dedup.sources.frame import FrameSource

HEADER = "id,title,brand,image"
NAMES = {"id_column": "id", "url_column": "image"}

BELOW: dict[str, tuple[list[str], str, str]] = {
    "nothing_but_an_image": (["P1,Hat,Acme,1.jpg", ",,,2.jpg"], "P1 P1", "P1 P1"),
    "several": (["P1,Hat,,1.jpg", ",,,2.jpg", ",,,3.jpg"], "P1 P1 P1", "P1 P1 P1"),
    "of_the_next_product": (["P1,Hat,,1.jpg", "P2,Cap,,2.jpg", ",,,3.jpg"], "P1 P2 P2", "P1 P2 P2"),
    "blanks_as_an_id": (["P1,Hat,,1.jpg", " , ,,2.jpg"], "P1 P1", "P1 P1"),
    "the_image_of_a_product_without": (["P1,Hat,,", ",,,2.jpg"], "no_url P1", "no_url P1"),
    "a_title_of_its_own": (["P1,Hat,,1.jpg", ",Cap,,2.jpg"], "P1 no_id", "P1 P1"),
    "a_brand_of_its_own": (["P1,Hat,,1.jpg", ",,Acme,2.jpg"], "P1 no_id", "P1 P1"),
    "below_one_of_its_own": (
        ["P1,Hat,,1.jpg", ",Cap,,2.jpg", ",,,3.jpg"], "P1 no_id no_id", "P1 P1 P1",
    ),
    "a_product_with_nothing_else": (["P1,,,1.jpg", ",,,2.jpg"], "P1 no_id", "P1 P1"),
    "no_product_above": ([",,,1.jpg", "P1,Hat,,2.jpg"], "no_id P1", "no_id P1"),
    "below_a_broken_row": (
        ["P1,Hat,,1.jpg", "P2,Hat, blue,,2.jpg", ",,,3.jpg"],
        "P1 bad_field_count no_id", "P1 bad_field_count no_id",
    ),
    "below_broken_quotes": (
        ["P1,Hat,,1.jpg", 'P2,"Hat" x,,2.jpg', ",,,3.jpg"],
        "P1 bad_quotes no_id", "P1 bad_quotes no_id",
    ),
    "below_a_blank_row": (
        ["P1,Hat,,1.jpg", ",,,", ",,,2.jpg"], "P1 blank_row no_id", "P1 blank_row P1",
    ),
    "no_image": (["P1,Hat,,1.jpg", ",,Acme,"], "P1 no_id", "P1 no_url"),
    "the_same_image": (["P1,Hat,,1.jpg", ",,,1.jpg"], "P1 duplicate_row", "P1 duplicate_row"),
    "the_id_again": (["P1,Hat,,1.jpg", "P1,,,2.jpg"], "P1 P1", "P1 P1"),
}  # fmt: skip
"""Rows, and what each ends as with auto and with true: an id or a reason."""


def load(folder: Path, lines: list[str], **chosen: Any) -> Any:
    """The catalogue of a table with these lines."""
    table = folder / "shop.csv"
    table.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return CsvSource(str(table), **{**NAMES, **chosen}).read()


def ends(catalogue: Any) -> str:
    """The id of each request, or the reason why there is none."""
    rows = catalogue.requests.itertuples()
    return " ".join(row.reason or row.product_id for row in rows)


@pytest.mark.parametrize("name", BELOW)
def test_a_row_below_a_product(name: str, tmp_path: Path) -> None:
    lines, found_out, asked = BELOW[name]
    assert ends(load(tmp_path, lines)) == found_out
    catalogue = load(tmp_path, lines, continue_rows=True)
    assert ends(catalogue) == asked
    for row in catalogue.requests.itertuples():
        assert catalogue.products["id"][row.record].strip() == row.product_id
    before = load(tmp_path, lines, continue_rows=False)
    without = [bool(line.split(",")[0].strip()) for line in lines]
    reasons = before.requests["reason"].tolist()
    assert [reason in ("no_id", "blank_row") for reason in reasons] == [not one for one in without]


def test_it_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="dedup"):
        load(tmp_path, ["P1,Hat,,1.jpg", ",,,2.jpg", ",,,3.jpg"])
    assert caplog.messages[0].startswith("2 rows without an id: further images of the product")


def test_a_range_of_rows_that_starts_below_its_product(tmp_path: Path) -> None:
    lines = ["P1,Hat,,1.jpg", ",,,2.jpg", "P2,Cap,,3.jpg", ",,,4.jpg"]
    assert ends(load(tmp_path, lines, rows=[1, None])) == "no_id P2 P2"


def test_a_pandas_table(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["P1", None], "title": ["Hat", None], "image": ["1.jpg", "2.jpg"]})
    assert ends(FrameSource(frame, **NAMES, images_dir=str(tmp_path)).read()) == "P1 P1"


@pytest.mark.parametrize("value", ["yes", None, 2, ""])
def test_a_value_that_says_nothing(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.continue_rows="):
        load(tmp_path, ["P1,Hat,,1.jpg"], continue_rows=value)


def test_a_category_on_the_first_row_counts_for_the_product(tmp_path: Path) -> None:
    lines = ["P1,Hat,A,1.jpg", "P1,,,2.jpg", ",,,3.jpg", "P2,Cap,B,4.jpg", "P2,,,5.jpg",
             "P3,,,6.jpg", "P1,,B,7.jpg"]  # fmt: skip
    chosen = {"category_column": "brand", "categories": ["A"]}
    assert ends(load(tmp_path, lines, **chosen)) == "P1 P1 P1" + " category" * 4


@pytest.mark.parametrize("further", ["P1", ""])
def test_a_fact_on_one_row_counts_for_the_product(tmp_path: Path, further: str) -> None:
    lines = ["P1,Hat,Acme,1.jpg", f"{further},,,2.jpg", "P2,Zoo,Zeta,3.jpg"]
    catalogue = load(tmp_path, lines)
    images = catalogue.requests.assign(status="ok", width=9, height=9, vector=range(3), cluster=0)
    images["sha256_pixels"] = images["url"]
    vectors = np.zeros((3, 2), np.float32)
    manifest = {"id_column": "id", "title_column": "title", "url_column": "image"}
    table = images.reindex(columns=INDEX_IMAGES.names)
    index = Index(table, vectors, vectors, catalogue.products, manifest)
    assert index.titles(["P1", "P2"]) == {"P1": "Hat", "P2": "Zoo"}
    assert cells("brand", index).to_dict() == {"P1": "Acme", "P2": "Zeta"}
    assert block_cells(index.products, "id", "brand").to_dict() == {"P1": "Acme", "P2": "Zeta"}
    pair = pd.DataFrame([("P1", "P2", 0.0, "near", "", "", 1.0, "", "")], columns=PAIRS.names)
    for rule, kept in (("lowest:brand", "P1"), ("highest:brand", "P2"), ("lowest:title", "P1")):
        groups = Grouping(keep=[rule])(pair, index)
        assert groups.loc[groups["kept"], "product_id"].tolist() == [kept]
