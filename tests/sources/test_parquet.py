"""A Parquet file gives the catalogue that its texts would give."""

import datetime
import gzip
import json
import logging
import uuid
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.sources.parquet import ParquetSource

WEB = "http://shop.test/"


def read(folder: Path, table: pa.Table, **settings: Any) -> Catalogue:
    path = folder / "shop.parquet"
    pq.write_table(table, path)
    return ParquetSource(str(path), **settings).read()


def ids(folder: Path, values: pa.Array, **settings: Any) -> list[str]:
    urls = [f"{WEB}{number}.jpg" for number in range(len(values))]
    catalogue = read(folder, pa.table({"productId": values, "imageUrlStr": urls}), **settings)
    assert catalogue.requests["product_id"].tolist() == catalogue.products["productId"].tolist()
    return catalogue.products["productId"].tolist()


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        pytest.param([9007199254740993, -1, None], pa.int64(), ["9007199254740993", "-1", ""],
                     id="int64"),
        pytest.param([2**64 - 1], pa.uint64(), ["18446744073709551615"], id="uint64"),
        pytest.param([7], pa.int8(), ["7"], id="int8"),
        pytest.param([Decimal(10) ** 30, Decimal(7)], pa.decimal128(38, 0), ["1" + "0" * 30, "7"],
                     id="decimal"),
        pytest.param([Decimal("1.50")], pa.decimal128(9, 2), ["1.50"], id="decimal-places"),
        pytest.param(["007", "", None], pa.string(), ["007", "", ""], id="string"),
        pytest.param(["007"], pa.large_string(), ["007"], id="large-string"),
        pytest.param(["b", "a", None, "b"], pa.dictionary(pa.int8(), pa.string()),
                     ["b", "a", "", "b"], id="dictionary"),
        pytest.param([b"abc", "é".encode()], pa.binary(), ["abc", "é"], id="bytes-of-text"),
        pytest.param([12.0, None, -3.0, 2.0**53 - 1], pa.float64(),
                     ["12", "", "-3", "9007199254740991"], id="whole-floats"),
        pytest.param([2.0**24 - 1], pa.float32(), ["16777215"], id="whole-float32"),
        pytest.param([datetime.date(2024, 5, 6)], pa.date32(), ["2024-05-06"], id="date"),
    ],
)  # fmt: skip
def test_ids_of_any_type_become_texts(
    tmp_path: Path, values: list[Any], kind: pa.DataType, texts: list[str]
) -> None:
    assert ids(tmp_path, pa.array(values, kind)) == texts


def test_uuids_are_ids(tmp_path: Path) -> None:
    one = uuid.UUID(int=2**100)
    assert ids(tmp_path, pa.array([one.bytes], pa.uuid())) == [str(one)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 1.5], pa.float64()),
        ([1.0, 2.0**53], pa.float64()),
        ([1.0, 2.0**24], pa.float32()),
        ([1.0, float("inf")], pa.float64()),
    ],
)
def test_ids_that_may_be_rounded_are_refused(
    tmp_path: Path, values: list[float], kind: pa.DataType
) -> None:
    with pytest.raises(SourceError) as caught:
        ids(tmp_path, pa.array(values, kind))
    for word in ("shop.parquet", "'productId' of record 1 ", "rounded", "write the ids as texts"):
        assert word in str(caught.value)


def test_floats_as_ids_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dedup")
    ids(tmp_path, pa.array([1.0]))
    assert "the ids are floats, and 12.0 is read as 12" in caplog.text


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TWO = pa.struct([("a", pa.binary()), ("b", pa.binary())])


@pytest.mark.parametrize(
    ("column", "values", "kind", "words"),
    [
        ("productId", [{"a": 1}], pa.struct([("a", pa.int64())]), "struct<a: int64>, which is no"),
        ("productId", [["1"]], pa.list_(pa.string()), "which is no id: write the ids as texts"),
        ("productId", [True], pa.bool_(), "column 'productId' is bool, which is no id"),
        ("imageUrlStr", [1], pa.int64(), "int64, which is no address.*set source.url_column="),
        ("imageUrlStr", [{"a": b"x", "b": b"y"}], TWO, "with bytes in several places"),
        (
            "imageUrlStr",
            [b"a.jpg", *[b"b.jpg"] * 40, b"\xff\xd8\xff"],
            pa.binary(),
            "of record 41 .* set source.image_column= to it if it holds images",
        ),
        ("categories", [["A", "B"]], pa.list_(pa.string()), "which is no category: write paths"),
    ],
)
def test_columns_of_other_types_are_refused(
    tmp_path: Path, column: str, values: list[Any], kind: pa.DataType, words: str
) -> None:
    n_rows = len(values)
    columns = {"productId": ["1"] * n_rows, "imageUrlStr": ["a.jpg"] * n_rows}
    table = pa.table({**columns, "categories": ["A"] * n_rows, column: pa.array(values, kind)})
    with pytest.raises(SourceError, match=words) as caught:
        read(tmp_path, table, categories=["A"])
    assert str(tmp_path / "shop.parquet") in str(caught.value)


def test_all_wrong_types_are_named_at_once_and_early(tmp_path: Path) -> None:
    path = tmp_path / "shop.parquet"
    pq.write_table(pa.table({"productId": [True], "imageUrlStr": [1.5]}), path)
    with pytest.raises(SourceError, match=r"(?s)no id.*\n.*no address"):
        ParquetSource(str(path)).check()


@pytest.mark.parametrize(
    ("values", "kind", "names"),
    [
        ([["a.jpg", None, "b;c.jpg"], [], None], pa.list_(pa.string()), ["a.jpg", "b;c.jpg"]),
        ([["a.jpg", "b.jpg"]], pa.large_list(pa.large_string()), ["a.jpg", "b.jpg"]),
        ([[{"url": "a.jpg", "w": 1}, {"url": "é.jpg", "w": 2}]],
         pa.list_(pa.struct([("url", pa.string()), ("w", pa.int64())])), ["a.jpg", "é.jpg"]),
        ([{"src": "a.jpg"}], pa.struct([("src", pa.string())]), ["a.jpg"]),
        (["a.jpg;b.jpg"], pa.dictionary(pa.int32(), pa.string()), ["a.jpg", "b.jpg"]),
        ([[("front", "a.jpg"), ("back", "b.jpg")], [], None], pa.map_(pa.string(), pa.string()),
         ["a.jpg", "b.jpg"]),
        ([{"url": "a.jpg"}, {"url": None}], pa.struct([("url", pa.string())]), ["a.jpg"]),
    ],
    ids=["list", "large-list", "objects", "object", "dictionary", "map", "no-address"],
)  # fmt: skip
def test_a_list_has_several_addresses(
    tmp_path: Path, values: list[Any], kind: pa.DataType, names: list[str]
) -> None:
    numbers = list(range(len(values)))
    table = pa.table({"productId": numbers, "imageUrlStr": pa.array(values, kind)})
    requests = read(tmp_path, table, choice="all").requests
    first = requests[requests["record"] == 0]
    assert [Path(url).name for url in first["url"]] == names
    assert requests[requests["record"] > 0]["reason"].tolist() == ["no_url"] * (len(values) - 1)


def test_other_columns_are_kept_as_text(tmp_path: Path) -> None:
    moment = datetime.datetime(2024, 1, 2, 3, 4, tzinfo=datetime.UTC)
    table = pa.table({
        "productId": ["1", "2"], "imageUrlStr": ["a.jpg", "b.jpg"],
        "price": [1.5, None], "stock": [3, None], "is_new": [True, None],
        "at": pa.array([moment, None], pa.timestamp("ms", "Mars/Unknown")),
        "tags": [["x", "é"], None], "size": [{"w": 1}, None], "none": pa.nulls(2),
        "cost": pa.array([Decimal("2.50"), None], pa.decimal128(9, 2)),
        "small": pa.array([0.1, None], pa.float32()),
        "image": pa.array([b"\xff", None], pa.binary()),
    })  # fmt: skip
    products = read(tmp_path, table).products
    expected = ["1", "a.jpg", "1.5", "3", "True", "2024-01-02 03:04:00.000Z", '["x", "é"]',
                '{"w": 1}', "", "2.50", "0.1"]  # fmt: skip
    assert products.iloc[0].tolist() == expected
    assert products.iloc[1].tolist() == ["2", "b.jpg"] + [""] * 9
    assert "image" not in products


def test_columns_of_bytes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dedup")
    columns = {"productId": ["1"], "imageUrlStr": ["a.jpg"], "image": pa.array([None], IMAGE)}
    read(tmp_path, pa.table(columns))
    assert "columns of bytes are left out ('image')" in caplog.text


def test_a_table_is_read_as_its_csv_is(shop: Path) -> None:
    frame = pd.read_csv(shop, dtype=str, keep_default_na=False)
    frame.to_parquet(shop.parent / "same.parquet")
    found, expected = ParquetSource(str(shop.parent / "same.parquet")).read(), CsvSource(str(shop))
    pd.testing.assert_frame_equal(found.products, expected.read().products)
    pd.testing.assert_frame_equal(found.requests, expected.read().requests)


def test_a_folder_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "table"
    parts = {
        "brand=No%20Name/b.parquet": {"productId": [2], "imageUrlStr": ["b.jpg"], "x": ["1"]},
        "brand=007/a.parquet": {"imageUrlStr": ["a.jpg"], "productId": ["01"], "y": ["2"]},
        "brand=__HIVE_DEFAULT_PARTITION__/c.parquet": {"productId": [3.0], "imageUrlStr": ["c"]},
        "_temporary/d.parquet": {"other": [1]},
    }
    for name, columns in parts.items():
        (folder / name).parent.mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / name)
    (folder / "_SUCCESS").touch()
    catalogue = ParquetSource(str(folder)).read()
    assert catalogue.products.to_dict("list") == {
        "imageUrlStr": ["a.jpg", "b.jpg", "c"], "productId": ["01", "2", "3"],
        "y": ["2", "", ""], "x": ["", "1", ""], "brand": ["007", "No Name", ""],
    }  # fmt: skip
    assert catalogue.requests["url"][0] == str(folder.resolve() / "a.jpg")


def test_each_file_of_a_folder_has_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"productId": [1], "imageUrlStr": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"sku": [1], "imageUrlStr": ["a"]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet has no column 'productId', and other"):
        ParquetSource(str(tmp_path)).check()


def test_a_folder_without_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no Parquet file"):
        ParquetSource(str(tmp_path)).read()


def test_repeated_names(tmp_path: Path) -> None:
    table = pa.table([["1"], ["a.jpg"], ["b.jpg"]], names=["productId", "image", "image"])
    catalogue = read(tmp_path, table, url_column="image", choice="all")
    assert list(catalogue.products) == ["productId", "image", "image_2"]
    assert [Path(url).name for url in catalogue.requests["url"]] == ["a.jpg", "b.jpg"]
    twice = pa.table([["1"], ["2"], ["a"]], names=["productId", "productId", "imageUrlStr"])
    with pytest.raises(SourceError, match="'productId' more than once"):
        read(tmp_path, twice)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:-9], "is cut off or damaged"),
        (lambda data: data[:200], "is cut off or damaged"),
        (lambda data: b"PARE" + data[4:], "is encrypted"),
        (lambda data: b"id,image\n", "is no Parquet file.*source=csv or source=jsonl"),
    ],
    ids=["tail", "short", "encrypted", "csv"],
)
def test_damaged_files_are_refused(tmp_path: Path, damage: Any, words: str) -> None:
    path = tmp_path / "shop.parquet"
    pq.write_table(pa.table({"productId": ["1"], "imageUrlStr": ["a.jpg"]}), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match=words):
        ParquetSource(str(path)).read()


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    offsets, data = np.array([0, 1, 2], np.int32), b"a\xff"
    titles = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    )
    table = pa.table({"productId": ["1", "2"], "imageUrlStr": ["a", "b"], "title": titles})
    with pytest.raises(SourceError, match=r"'title' of record 1 .* is no text in UTF-8"):
        read(tmp_path, table)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NAMES = st.text("ab-é.", min_size=1, max_size=6).map(lambda name: f"{WEB}{name}.jpg")
IDS = {
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "decimal": (pa.decimal128(38, 0), st.integers(-(10**38) + 1, 10**38 - 1).map(Decimal)),
    "text": (pa.string(), TEXT),
    "large": (pa.large_string(), TEXT),
    "dictionary": (pa.dictionary(pa.int16(), pa.string()), TEXT),
}


@pytest.mark.parametrize("name", IDS)
@settings(max_examples=10, deadline=None)
@given(st.data())
def test_what_arrow_writes_is_read(tmp_path_factory: Any, name: str, data: st.DataObject) -> None:
    kind, values = IDS[name]
    rows = data.draw(
        st.lists(st.tuples(values, TEXT, st.lists(NAMES, min_size=1, max_size=3, unique=True)),
                 min_size=1, max_size=8)
    )  # fmt: skip
    table = pa.table({
        "productId": pa.array([row[0] for row in rows], kind),
        "title": [row[1] for row in rows],
        "imageUrlStr": [row[2] for row in rows],
    })  # fmt: skip
    folder = tmp_path_factory.mktemp("arrow")
    catalogue = read(folder, table, choice="all")
    assert catalogue.products["productId"].tolist() == [str(row[0]) for row in rows]
    assert catalogue.products["title"].tolist() == [row[1] for row in rows]
    assert [json.loads(cell) for cell in catalogue.products["imageUrlStr"]] == [
        row[2] for row in rows
    ]
    for number, (key, _, urls) in enumerate(rows):
        of_row = catalogue.requests[catalogue.requests["record"] == number]
        if str(key).strip() and "\0" not in str(key):
            assert of_row["url"].tolist() == urls
        else:
            assert of_row["reason"].isin(["no_id", "bad_id"]).all()


def test_the_digest_of_a_folder_is_of_its_names_and_contents(tmp_path: Path) -> None:
    def digest() -> str:
        return ParquetSource(path=str(tmp_path)).digest()

    table = pa.table({"productId": ["1"], "imageUrlStr": ["a.jpg"]})
    pq.write_table(table, tmp_path / "a.parquet")
    first = digest()
    assert digest() == first
    pq.write_table(table, tmp_path / "b.parquet")
    second = digest()
    (tmp_path / "b.parquet").rename(tmp_path / "c.parquet")
    third = digest()
    pq.write_table(table.slice(0, 0), tmp_path / "c.parquet")
    assert len({first, second, third, digest()}) == 4


LAKES = {
    "delta": ("_delta_log/00000000000000000000.json", "Delta"),
    "hudi": (".hoodie/hoodie.properties", "Hudi"),
    "iceberg": ("metadata/v1.metadata.json", "Iceberg"),
}


@pytest.mark.parametrize("place", ["", "tables/shop/", "../"], ids=["in", "below", "above"])
@pytest.mark.parametrize(("log", "name"), LAKES.values(), ids=LAKES)
def test_files_of_removed_rows_are_not_read(
    tmp_path: Path, log: str, name: str, place: str
) -> None:
    folder = tmp_path / "lake" / "shop"
    folder.mkdir(parents=True)
    for part in ("removed", "present"):
        rows = pa.table({"productId": [part], "imageUrlStr": [f"{WEB}{part}.jpg"]})
        pq.write_table(rows, folder / f"{part}.parquet")
    assert len(ParquetSource(str(folder)).read().products) == 2
    (folder / place / log).parent.mkdir(parents=True, exist_ok=True)
    (folder / place / log).write_text("{}")
    with pytest.raises(SourceError, match=f"of {name} .*removed") as caught:
        ParquetSource(str(folder)).read()
    assert str(folder) in str(caught.value)
    assert "source.path=" in str(caught.value)


@pytest.mark.parametrize("ending", [".gz", ".zip"])
def test_parquet_in_an_archive_is_named(tmp_path: Path, ending: str) -> None:
    plain, packed = tmp_path / "shop.parquet", tmp_path / f"shop.parquet{ending}"
    pq.write_table(pa.table({"productId": ["1"], "imageUrlStr": [f"{WEB}1.jpg"]}), plain)
    if ending == ".gz":
        packed.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with zipfile.ZipFile(packed, "w") as archive:
            archive.write(plain, "shop.parquet")
    with pytest.raises(SourceError, match=r"is an archive.*unpack it"):
        ParquetSource(str(packed)).read()
