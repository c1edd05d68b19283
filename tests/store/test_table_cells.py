"""Images in the cells of a Parquet file become what their files would become."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.errors import FetchError, SourceError
from dedup.sources.cells import Cell, cell_address, column_address, is_cell, read_cell
from dedup.sources.parquet import ParquetSource
from dedup.store.image_store import ImageStore
from dedup.store.table_cells import TableCells
from tests.conftest import draw, encoded
from tests.store.test_image_store import contents

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
JPEG = [encoded(draw(number)) for number in range(6)]
SHOWN = ["product_id", "status", "reason"]


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    n_rows = len(next(iter(columns.values())))
    ids = {"productId": [f"P{number}" for number in range(n_rows)]}
    pq.write_table(pa.table(ids | columns), path, **options)
    return path


def ingest(table: Path, store: str = "store", **settings: Any) -> pd.DataFrame:
    catalogue = ParquetSource(str(table), title_column=None, **settings).read()
    return ImageStore(table.parent / store, workers=1).ingest(catalogue, table.parent)


def outcomes(images: pd.DataFrame) -> list[str]:
    return [f"{status}:{reason}" for _, status, reason in images[SHOWN].to_numpy()]


def failures(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "failures.csv", dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(pa.binary(), id="binary"),
        pytest.param(pa.large_binary(), id="large-binary"),
        pytest.param(pa.dictionary(pa.int32(), pa.binary()), id="dictionary"),
        pytest.param(IMAGE, id="struct"),
        pytest.param(pa.struct([("path", pa.string()), ("data", pa.large_binary())]), id="data"),
        pytest.param(pa.list_(pa.binary()), id="list"),
        pytest.param(pa.large_list(IMAGE), id="list-of-structs"),
    ],
)
@pytest.mark.parametrize("group", [1, 2, 100])
def test_the_store_has_what_files_would_give(tmp_path: Path, kind: pa.DataType, group: int) -> None:
    def cell(data: bytes) -> Any:
        inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
        one = {"bytes": data, "data": data, "path": "no/such/file"}
        one = {f.name: one[f.name] for f in inner} if pa.types.is_struct(inner) else data
        return one if inner is kind else [one]

    values = [*map(cell, JPEG), None, cell(JPEG[0])]
    (tmp_path / "t").mkdir()
    images = pa.array([None if one is None else one for one in values], kind)
    table = write(tmp_path / "t/my shop, 1#2.parquet", {"photo": images}, row_group_size=group)
    found = ingest(table)
    assert outcomes(found) == ["ok:"] * 6 + ["failed:no_url", "ok:"]
    for number, data in enumerate(JPEG):
        (tmp_path / f"{number}.jpg").write_bytes(data)
    names = [f"{number}.jpg" for number in range(6)]
    files = write(tmp_path / "files.parquet", {"imageUrlStr": [*names, None, "0.jpg"]})
    expected = ingest(files)
    digests = ["sha256_bytes", "sha256_pixels", "width", "height", "contrast"]
    pd.testing.assert_frame_equal(found[digests], expected[digests])
    stores = [ImageStore(one.parent / "store") for one in (table, files)]
    several = [
        store.measures(images["url"].tolist()[:6])
        for store, images in zip(stores, (found, expected), strict=True)
    ]
    assert several[0].tolist() == several[1].tolist()


@pytest.mark.parametrize(
    ("value", "outcome", "detail"),
    [
        (None, "failed:no_url", "column 'image' is empty"),
        ({"bytes": None, "path": None}, "failed:no_url", "column 'image' is empty"),
        ({"bytes": None, "path": " "}, "failed:no_url", "column 'image' is empty"),
        ({"bytes": b"", "path": "0.jpg"}, "failed:empty", "no bytes"),
        ({"bytes": b"no image", "path": None}, "failed:format", "not a JPEG"),
        ({"bytes": JPEG[0][:300], "path": None}, "failed:truncated", ""),
        ({"bytes": JPEG[0] + bytes(2**21), "path": None}, "failed:too_large", "more than 1048576"),
        ({"bytes": None, "path": "0.jpg"}, "ok:", ""),
        ({"bytes": None, "path": "gone.jpg"}, "failed:not_found", ""),
        ({"bytes": None, "path": "../0.jpg"}, "failed:outside_folder", "leaves the folder"),
        ({"bytes": None, "path": "cell:/etc/t.parquet#image/0"}, "failed:scheme", ""),
        ({"bytes": JPEG[1], "path": "gone.jpg"}, "ok:", ""),
    ],
)
def test_each_row_has_one_outcome(tmp_path: Path, value: Any, outcome: str, detail: str) -> None:
    from dedup.download.client import Fetcher

    (tmp_path / "0.jpg").write_bytes(JPEG[0])
    cells = [{"bytes": JPEG[2], "path": None}, value]
    table = write(tmp_path / "t.parquet", {"image": pa.array(cells, IMAGE)})
    catalogue = ParquetSource(str(table), title_column=None).read()
    store = ImageStore(tmp_path / "store", fetcher=Fetcher(max_bytes=2**20), workers=1)
    assert outcomes(store.ingest(catalogue, tmp_path)) == ["ok:", outcome]
    if outcome != "ok:":
        (row,) = failures(tmp_path).to_dict("records")
        assert row["productId"] == "P1"
        assert row["failure_reason"] == outcome.partition(":")[2]
        assert detail in row["failure_detail"]
        if outcome in ("failed:empty", "failed:format", "failed:truncated", "failed:too_large"):
            assert row["failure_url"] == f"cell:{tmp_path}/t.parquet#image/1"


def test_a_gallery_is_all_of_its_images(tmp_path: Path) -> None:
    cells = [[JPEG[0], None, JPEG[1]], [], None, [JPEG[2]]]
    table = write(tmp_path / "t.parquet", {"photos": pa.array(cells, pa.list_(pa.binary()))})
    found = ingest(table, image_column="photos", choice="all")
    assert found["product_id"].tolist() == ["P0", "P0", "P1", "P2", "P3"]
    assert outcomes(found) == ["ok:", "ok:", "failed:no_url", "failed:no_url", "ok:"]
    at = f"cell:{tmp_path}/t.parquet#photos"
    assert found["url"].tolist() == [f"{at}/0/0", f"{at}/0/2", "", "", f"{at}/3/0"]


def test_addresses_serve_where_an_image_is_missing_or_broken(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(JPEG[number])
    table = write(
        tmp_path / "t.parquet",
        {
            "imageUrlStr": ["0.jpg", "1.jpg", "2.jpg", None, None],
            "image": pa.array([JPEG[3], None, b"broken", JPEG[4], None], pa.binary()),
        },
    )
    found = ingest(table, image_column="image")
    assert outcomes(found) == ["ok:"] * 4 + ["failed:no_url"]
    ends = [url.rpartition("/")[2] for url in found["url"]]
    assert ends == ["0", "1.jpg", "2.jpg", "3", ""]
    every = ingest(table, "all", image_column="image", choice="all")
    assert outcomes(every) == ["ok:", "ok:", "ok:", "failed:format", "ok:", "ok:", "failed:no_url"]
    assert "failed:format" not in outcomes(ingest(table, "urls"))  # bytes are left out
    named = ingest(table, "named", url_column=["image", "imageUrlStr"])
    pd.testing.assert_frame_equal(named, found)


def test_two_columns_of_images_are_not_guessed(tmp_path: Path) -> None:
    images = pa.array(JPEG[:2], pa.binary())
    table = write(tmp_path / "t.parquet", {"front": images, "back": images.take([1, 0])})
    with pytest.raises(SourceError, match=r"'front' and 'back': set source.image_column="):
        ParquetSource(str(table)).check()
    found = ingest(table, image_column=["front", "back"], choice="all")
    assert outcomes(found) == ["ok:"] * 4
    assert found["sha256_pixels"].tolist()[:2] == found["sha256_pixels"].tolist()[:1:-1]


def test_bytes_that_are_texts_are_addresses(tmp_path: Path) -> None:
    (tmp_path / "é.jpg").write_bytes(JPEG[0])
    table = write(tmp_path / "t.parquet", {"imageUrlStr": ["é.jpg".encode(), None]})
    assert outcomes(ingest(table)) == ["ok:", "failed:no_url"]
    texts = write(tmp_path / "u.parquet", {"other": [b"a.jpg", b"b.jpg"]})
    with pytest.raises(SourceError, match="no column 'imageUrlStr'"):
        ParquetSource(str(texts)).check()
    (tmp_path / "a.jpg").write_bytes(JPEG[1])
    assert outcomes(ingest(texts, url_column="other")) == ["ok:", "failed:not_found"]


@pytest.mark.parametrize(
    ("column", "setting", "words"),
    [
        (["a.jpg"], "other", r"no column 'other': set source.image_column= to one of its columns"),
        ([7], "image", r"column 'image' is int64, which holds no images"),
        (["a.jpg"], "image", r"column 'image' is string, which holds no images"),
    ],
)
def test_a_wrong_column_is_told_before_any_work(
    tmp_path: Path, column: list[Any], setting: str, words: str
) -> None:
    table = write(tmp_path / "t.parquet", {"image": column})
    with pytest.raises(SourceError, match=words):
        ParquetSource(str(table), image_column=setting).check()


def test_rows_are_numbered_where_a_table_has_no_ids(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for part in range(2):
        images = pa.array([{"bytes": one, "path": "x"} for one in JPEG[part * 3 :][:3]], IMAGE)
        pq.write_table(pa.table({"image": images}), folder / f"train-{part}.parquet")
    catalogue = ParquetSource(str(folder), id_column="row", title_column=None).read()
    assert catalogue.products["row"].tolist() == [
        f"train-{part}.parquet/{row}" for part in range(2) for row in range(3)
    ]
    assert catalogue.url_column == "image"
    found = ingest(folder / "train-1.parquet", id_column="row")
    assert found["product_id"].tolist() == ["0", "1", "2"]


def test_a_damaged_part_costs_its_rows_alone(tmp_path: Path) -> None:
    images = pa.array([*JPEG, *JPEG[::-1]], pa.binary())
    plain = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    checked = {"row_group_size": 3, "write_page_checksum": True}
    table = write(tmp_path / "t.parquet", {"image": images}, **plain, **checked)
    data = bytearray(table.read_bytes())
    catalogue = ParquetSource(str(table), title_column=None).read()
    at = data.index(JPEG[4])  # of the second row group
    data[at + 200 : at + 260] = bytes(60)
    table.write_bytes(data)
    found = ImageStore(tmp_path / "store", workers=1).ingest(catalogue, tmp_path)
    assert outcomes(found) == ["ok:"] * 3 + ["failed:unreadable"] * 3 + ["ok:"] * 6
    assert set(failures(tmp_path)["failure_detail"].str[:34]) == {
        "the table is damaged in rows 3 to "
    }


def test_a_table_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    table = write(tmp_path / "t.parquet", {"image": pa.array(JPEG[:3], pa.binary())})
    first = ingest(table)
    files = sorted((tmp_path / "store").glob("shard-*.json"))
    assert ingest(table)["sha256_pixels"].tolist() == first["sha256_pixels"].tolist()
    assert sorted((tmp_path / "store").glob("shard-*.json")) == files
    write(table, {"image": pa.array([JPEG[5], *JPEG[:3]], pa.binary())})
    again = ingest(table)
    assert again["sha256_pixels"].tolist()[1:] == first["sha256_pixels"].tolist()
    assert again["sha256_pixels"][0] not in first["sha256_pixels"].tolist()
    table.unlink()
    store = ImageStore(tmp_path / "store", workers=1, retry=True)
    (row,) = store.read_anew([first["url"][0]])
    assert (row.entry["reason"], row.entry["version"]) == ("not_found", "missing")


INGEST = """
import sys
from dedup.sources.parquet import ParquetSource
from dedup.store.image_store import ImageStore

table, folder = sys.argv[1:]
store = ImageStore(folder, workers=1, shard_rows=4)
store.ingest(ParquetSource(table).read(), __import__("pathlib").Path(table).parent)
"""


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not reached():
        assert process.poll() is None, "it ended before the moment to kill it"
        time.sleep(0.001)


@pytest.mark.parametrize("moment", ["shard-00001.npy", "shard-00003.json"])
def test_a_killed_run_goes_on(tmp_path: Path, moment: str) -> None:
    images = [encoded(draw(number, size=(900, 900))) for number in range(24)]
    table = write(tmp_path / "t.parquet", {"image": pa.array(images, pa.binary())},
                  row_group_size=7)  # fmt: skip
    arguments = [sys.executable, "-c", INGEST, str(table)]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen([*arguments, str(killed)], stderr=subprocess.DEVNULL) as process:
        wait_for((killed / moment).exists, process)
        process.kill()
    assert len(list(killed.glob("shard-*.json"))) < 6
    for folder in (killed, whole):
        subprocess.run([*arguments, str(folder)], check=True, capture_output=True)
    assert contents(killed) == contents(whole)


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    data = JPEG[0] + bytes(2**20 - len(JPEG[0]))
    table = tmp_path / "t.parquet"
    kind = pa.schema([("productId", pa.int64()), ("image", pa.binary())])
    with pq.ParquetWriter(table, kind, use_dictionary=False) as writer:
        for part in range(4):
            ids = range(64 * part, 64 * part + 64)
            writer.write_table(pa.table([[*ids], [data] * 64], schema=kind))
    address = column_address(str(table), "image")
    before = pa.total_allocated_bytes()
    most = 0
    with TableCells(2**22) as cells:
        for row in range(256):
            assert len(cells.read(cell_address(address, row))) == 2**20
            most = max(most, pa.total_allocated_bytes() - before)
    assert most < 150 * 2**20 < 256 * 2**20


def test_cells_are_read_in_any_order(tmp_path: Path) -> None:
    images = [bytes([number]) * 300_000 for number in range(60)]
    table = write(tmp_path / "t.parquet", {"image": pa.array(images, pa.binary())},
                  row_group_size=25)  # fmt: skip
    address = column_address(str(table), "image")
    with TableCells(2**20) as cells:
        for row in (0, 59, 30, 31, 29, 58, 1, 0, 24, 25):
            assert cells.read(cell_address(address, row))[0] == row
        others = [(table, "productId"), (table, "none"), (tmp_path / "u.parquet", "image")]
        missing = [cell_address(column_address(str(path), name), 0) for path, name in others]
        for wrong in (cell_address(address, 60), *missing):
            with pytest.raises(FetchError) as caught:
                cells.read(wrong)
            assert caught.value.reason == "not_found"


@pytest.mark.parametrize(
    ("path", "column"),
    [("/a/b.parquet", "image"), ("/my shop/t,1;2|[3].parquet", "a/b#c é"), ("s3://b/k", "x"),
     ("/f\udcff/%23", "%2F")],
)  # fmt: skip
def test_addresses_are_read_as_they_are_written(path: str, column: str) -> None:
    address = column_address(path, column)
    assert is_cell(address)
    assert not set(address) & set(" ;,|[]{}()'\"\n")
    assert read_cell(cell_address(address, 12)) == Cell(path, column, 12)
    assert read_cell(cell_address(address, 0, 3)) == Cell(path, column, 0, 3)
    for wrong in (address, f"{address}/x", f"{address}/1/2/3", "cell:"):
        with pytest.raises(FetchError):
            read_cell(wrong)
