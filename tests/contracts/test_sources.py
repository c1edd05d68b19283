"""What every source of a table promises. A new one is found by itself, by its module."""

import importlib
import inspect
import json
import pkgutil
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dedup.sources
from dedup.errors import SourceError
from dedup.runtime.tables import write_csv
from dedup.schemas import REQUESTS
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.sources.jsonl import JsonlSource
from dedup.sources.magento import MagentoSource
from dedup.sources.merchant import MerchantSource
from dedup.sources.parquet import ParquetSource
from dedup.sources.requests import CLOSED, MAX_FIELD
from dedup.sources.shopify import ShopifySource
from dedup.sources.tables import TableSource

Rows = list[dict[str, str]]

MODULES = [
    importlib.import_module(f"dedup.sources.{found.name}")
    for found in pkgutil.iter_modules(dedup.sources.__path__)
]
SOURCES: list[type[TableSource]] = [
    value
    for module in MODULES
    for _, value in inspect.getmembers(module, inspect.isclass)
    if issubclass(value, TableSource) and value.__module__ == module.__name__
    and value is not TableSource
]  # fmt: skip
COLUMNS = ("productId", "title", "imageUrlStr", "categories")
NAMED = {
    "id_column": "productId", "url_column": "imageUrlStr", "title_column": "title",
    "category_column": "categories",
}  # fmt: skip
"""Columns of all these tables; exports of shops' tools have others of their own."""


def as_csv(rows: Rows, path: Path, columns: tuple[str, ...]) -> None:
    write_csv(pd.DataFrame(rows, columns=list(columns), dtype=str), path)


def as_parquet(rows: Rows, path: Path, columns: tuple[str, ...]) -> None:
    arrays = [pa.array([row[name] for row in rows], pa.string()) for name in columns]
    pq.write_table(pa.table(arrays, names=list(columns)), path)


def as_lines(rows: Rows, path: Path, columns: tuple[str, ...]) -> None:
    lines = (json.dumps({name: row[name] for name in columns}) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))


WRITERS: dict[type[TableSource], Callable[[Rows, Path, tuple[str, ...]], None]] = {
    CsvSource: as_csv,
    MagentoSource: as_csv,
    MerchantSource: as_csv,
    ShopifySource: as_csv,
    ParquetSource: as_parquet,
    JsonlSource: as_lines,
}

every_source = pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: kind.__name__)


def row(product_id: str, address: str = "http://shop.test/1.jpg", **others: str) -> dict[str, str]:
    return {"title": "t", "categories": "A>B"} | others | {
        "productId": product_id, "imageUrlStr": address,
    }  # fmt: skip


def read(kind: type[TableSource], table: Rows, folder: Path, **settings: object) -> Catalogue:
    path = folder / "table"
    WRITERS[kind](table, path, COLUMNS)
    return made(kind, path, **settings).read()


def made(kind: type[TableSource], path: Path, **settings: object) -> TableSource:
    return kind(str(path), **(NAMED | settings))  # type: ignore[arg-type]


def outcomes(catalogue: Catalogue) -> list[tuple[int, str, str]]:
    found = catalogue.requests.itertuples()
    return [(one.record, one.product_id, f"{one.status}:{one.reason}".strip(":")) for one in found]


def test_every_source_of_a_table_is_known() -> None:
    assert set(SOURCES) == set(WRITERS)


@every_source
def test_each_record_has_one_outcome(kind: type[TableSource], tmp_path: Path) -> None:
    rows = [
        row("007"), row("7"), row(" 7 "), row("é🧦"), row("e\u0301"), row("NA"), row("1e5"),
        row("9007199254740993"), row("x" * 1000), row("x" * 1001), row("1" * 1_000_000),
        row("", title="no id"), row("a\0b"), row("A", ""), row("B", "ftp://x/y"),
        row("C", "../../etc/passwd"), row("D", categories="Z"),
        row("", "", title="", categories=""), row("007"), row("E", "\0"),
    ]  # fmt: skip
    settings = {"continue_rows": False} if issubclass(kind, CsvSource) else {}
    catalogue = read(kind, rows, tmp_path, categories=["A"], **settings)
    expected = [
        *([""] * 9), "failed:bad_id", "failed:field_too_long", "failed:no_id", "failed:bad_id",
        "failed:no_url", "failed:scheme", "failed:outside_folder", "skipped:category",
        "skipped:blank_row", "skipped:duplicate_row", "failed:bad_url",
    ]  # fmt: skip
    ids = [one["productId"] for one in rows]
    assert outcomes(catalogue) == list(zip(range(len(rows)), ids, expected, strict=True))
    assert catalogue.products.to_dict("records") == [
        {name: one[name] for name in COLUMNS} for one in rows
    ]
    assert list(catalogue.requests) == REQUESTS.names
    assert {*catalogue.requests["reason"]} <= {"", *CLOSED}
    assert MAX_FIELD < 1_000_000
    named = catalogue.id_column, catalogue.title_column, catalogue.url_column
    assert named == ("productId", "title", "imageUrlStr")


@every_source
def test_rows_in_any_order_give_the_same_products(kind: type[TableSource], tmp_path: Path) -> None:
    rng = random.Random(5)
    rows = [row(f"{number:03}", f"{number % 40}.jpg", title=str(number)) for number in range(60)]
    rows += [row("", title="no id"), row("Z", "")]
    shuffled = rng.sample(rows, len(rows))

    def products(some: Rows) -> Counter[tuple[str, ...]]:
        read_ = read(kind, some, tmp_path)
        ends = read_.requests.drop(columns=["record", "alternates"]).astype(str)
        whole = read_.products.iloc[read_.requests["record"]]
        return Counter(map(tuple, pd.concat([ends, whole.reset_index(drop=True)], axis=1).values))

    assert products(rows) == products(shuffled)


@every_source
def test_an_empty_file_is_refused(kind: type[TableSource], tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.touch()
    for act in (made(kind, path).read, made(kind, path).check):
        with pytest.raises(SourceError, match=rf"{path} is empty"):
            act()


@every_source
def test_what_is_not_there_is_refused(kind: type[TableSource], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere cannot be read.*source\.path="):
        made(kind, tmp_path / "nowhere").read()


@every_source
def test_missing_columns_are_all_named(kind: type[TableSource], tmp_path: Path) -> None:
    path = tmp_path / "table"
    # Two records: one object alone may be the whole of a catalogue's file.
    WRITERS[kind]([row("1"), row("2")], path, ("title", "categories"))
    source = made(kind, path)
    for act in (source.read, source.check):
        with pytest.raises(SourceError) as caught:
            act()
        for word in ("'productId'", "'imageUrlStr'", "source.id_column=", "source.url_column="):
            assert word in str(caught.value)
        assert "'title', 'categories'" in str(caught.value)


@every_source
def test_all_bad_rows_are_all_told(kind: type[TableSource], tmp_path: Path) -> None:
    catalogue = read(kind, [row(str(number), "ftp://x") for number in range(7)], tmp_path)
    assert outcomes(catalogue) == [(n, str(n), "failed:scheme") for n in range(7)]
    with pytest.raises(SourceError, match="0 products"):
        read(kind, [row("", "", title="", categories="")] * 3, tmp_path)


@every_source
def test_rows_choose_records(kind: type[TableSource], tmp_path: Path) -> None:
    rows = [row(str(number), f"{number}.jpg") for number in range(6_000)]
    catalogue = read(kind, rows, tmp_path, rows=[4_999, 5_001])
    assert outcomes(catalogue) == [(0, "4999", ""), (1, "5000", "")]


@every_source
def test_relative_paths_start_from_the_folder(kind: type[TableSource], tmp_path: Path) -> None:
    catalogue = read(kind, [row("1", "images/a.jpg;b.jpg")], tmp_path, choice="all")
    folder = tmp_path.resolve()
    assert catalogue.requests["url"].tolist() == [f"{folder}/images/a.jpg", f"{folder}/b.jpg"]


@every_source
def test_a_file_that_changes_meanwhile_is_refused(kind: type[TableSource], tmp_path: Path) -> None:
    path = tmp_path / "table"
    WRITERS[kind]([row("1")], path, COLUMNS)

    class Grows(kind):  # type: ignore[valid-type, misc]
        def _read(self, layout):  # type: ignore[no-untyped-def]
            path.write_bytes(path.read_bytes())  # the file is another, though equal
            return super()._read(layout)

    with pytest.raises(SourceError, match="changed while it was read"):
        made(Grows, path).read()
