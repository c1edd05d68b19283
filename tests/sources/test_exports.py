"""Every row of every export of the corpus has the outcome that it should, by ``source=auto``."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.dom.minidom import Document

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.csv import write_csv

from dedup.config.instances import build, default_settings
from dedup.sources.auto import AutoSource
from dedup.sources.catalogue import Catalogue
from dedup.sources.xml_feed import SPACE
from tests.sources.exports import EXPORTS, Row
from tests.support.effort import examples

ENDS = "Choose otherwise with source=NAME, such as source=csv"


def outcomes(catalogue: Catalogue, folder: Path) -> list[Row]:
    """Id, title, addresses and reason of each record; addresses below the folder as they are."""
    products, requests = catalogue.products, catalogue.requests
    titles = products[catalogue.title_column].tolist()
    assert requests["record"].tolist() == [*range(len(products))]
    assert requests["product_id"].tolist() == products[catalogue.id_column].tolist()
    below = f"{folder.resolve()}/"
    found: list[Row] = []
    for row, title in zip(requests.itertuples(), titles, strict=True):
        urls = [url.removeprefix(below) for url in (row.url, *row.alternates) if url]
        found.append((row.product_id, title, urls, row.reason))
    return found


@pytest.mark.parametrize("name", EXPORTS)
def test_every_row_of_an_export(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    export, path = EXPORTS[name], tmp_path / "export"
    export.write(path)
    chosen = default_settings("source", "auto") | {"path": str(path), **export.chosen}
    with caplog.at_level(logging.INFO, logger="dedup"):
        catalogue = build(chosen).read()
    assert outcomes(catalogue, tmp_path) == export.rows
    said, read = (
        [line for line in caplog.messages if part in line]
        for part in (f"source={export.part} reads {path}: ", f"{path} is read ")
    )
    assert len(said) == 1
    assert said[0].endswith(ENDS)
    assert "\n" not in said[0]
    if "dialect" not in export.chosen:
        assert len(read) == bool(export.said)
        assert export.said in "".join(read)


def test_the_corpus_is_large() -> None:
    assert len(EXPORTS) >= 60


TITLES = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
    ),
    max_size=8,
).map(lambda text: text.strip(SPACE))
KEYS = st.text("abc01-é ;,|\"'", min_size=1, max_size=6).map(lambda text: text.strip(SPACE) or "x")
ADDRESSES = st.text("abc019-._~%=/é", max_size=8).map("https://a.test/{}.jpg".format)
TABLES = st.lists(
    st.tuples(KEYS, TITLES, st.lists(ADDRESSES, min_size=1, max_size=3, unique=True)),
    min_size=1, max_size=5,
)  # fmt: skip


def by_csv(rows: list[Any], path: Path) -> None:
    """A table by Python's csv."""
    cells = [["productId", "title", "imageUrlStr"], *([k, t, ", ".join(u)] for k, t, u in rows)]
    with path.open("w", newline="", encoding="utf-16") as file:
        csv.writer(file, delimiter=";", quoting=csv.QUOTE_ALL).writerows(cells)


def by_arrow_csv(rows: list[Any], path: Path) -> None:
    """A table by Arrow's writer of CSV."""
    table = pa.table({
        "productId": [key for key, _, _ in rows], "title": [title for _, title, _ in rows],
        "imageUrlStr": ["|".join(urls) for _, _, urls in rows],
    })  # fmt: skip
    write_csv(table, path)


def by_parquet(rows: list[Any], path: Path) -> None:
    """A table of Parquet, with lists and texts in a dictionary."""
    table = pa.table({
        "imageUrlStr": [urls for _, _, urls in rows],
        "productId": pa.array([key for key, _, _ in rows]).dictionary_encode(),
        "title": pa.array([title for _, title, _ in rows], pa.large_string()),
    })  # fmt: skip
    pq.write_table(table, path, row_group_size=2)


def by_pandas_json(rows: list[Any], path: Path) -> None:
    """Lines of JSON by pandas."""
    frame = pd.DataFrame(rows, columns=["productId", "title", "imageUrlStr"])
    frame.to_json(path, orient="records", lines=True)


def by_minidom(rows: list[Any], path: Path) -> None:
    """A feed by the standard library's document of nodes."""
    document = Document()
    root = document.appendChild(document.createElement("rss"))
    root.setAttribute("xmlns:g", "http://base.google.com/ns/1.0")
    channel = root.appendChild(document.createElement("channel"))
    for key, title, urls in rows:
        item = channel.appendChild(document.createElement("item"))
        texts = [("g:id", key), ("title", title), *(("g:image_link", url) for url in urls)]
        for name, text in texts:
            element = item.appendChild(document.createElement(name))
            element.appendChild(document.createTextNode(text))
    path.write_bytes(document.toprettyxml(encoding="utf-16"))


@pytest.mark.parametrize("write", [by_csv, by_arrow_csv, by_parquet, by_pandas_json, by_minidom])
@settings(max_examples=examples(12), deadline=None)
@given(rows=TABLES)
def test_what_a_library_writes_is_read_back_by_auto(
    tmp_path_factory: pytest.TempPathFactory, write: Callable[[Any, Path], None], rows: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    write(rows, folder / "table")
    read = outcomes(AutoSource(str(folder / "table")).read(), folder)
    assert [(*row[:3],) for row in read if row[3] != "duplicate_row"] == [
        row for at, row in enumerate(rows) if all((row[0], row[2][0]) != (one[0], one[2][0])
                                                   for one in rows[:at])
    ]  # fmt: skip
    assert {reason for *_, reason in read} <= {"", "duplicate_row"}
