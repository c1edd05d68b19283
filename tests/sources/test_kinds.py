"""The source of a path: what is in the file decides, and its name where nothing is."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.errors import SourceError
from dedup.sources.csv import CsvSource
from dedup.sources.folder import FolderSource
from dedup.sources.kinds import kind_of

LINE = b'{"productId": 1}\n'


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.csv", b"id,image\n1,a\n", "csv"),
        ("a.csv", LINE, "jsonl"),
        ("a.jsonl", b"id,image\n", "csv"),
        ("a.json", b'\xef\xbb\xbf\n[\n  {\n"a"', "jsonl"),
        ("a.csv", b"{},image\n", "csv"),
        ("a.csv", b'{\r\n  "id": 1,\n', "jsonl"),
        ("a.csv", b'{\n"id,x",image\n', "csv"),
        ("a.csv", '{"id": 1}\n'.encode("utf-16"), "jsonl"),
        ("a.csv", '[\n{"id": 1}]\n'.encode("utf-16"), "jsonl"),
        ("a.csv", b'[["id", "image"]]', "jsonl"),
        ("a.csv", b"{}\n", "csv"),
        ("a.csv", b"[{,image\n", "csv"),
        ("a.txt", gzip.compress(LINE, mtime=0), "jsonl"),
        ("a.gz", gzip.compress(b"id,image\n", mtime=0), "csv"),
        ("a.csv", b'{"id",image\n', "csv"),
        ("a.csv", b"[id],image\n", "csv"),
        ("a.parquet", b"", "parquet"),
        ("a.ndjson.gz", None, "jsonl"),
        ("A.JSONL", b" \n", "jsonl"),
        ("a.PQ", None, "parquet"),
        ("a", None, "csv"),
        ("a.zip", b"PK\x03\x04", "csv"),
    ],
)
def test_kinds(tmp_path: Path, name: str, data: bytes | None, kind: str) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    assert kind_of(path) == kind


def test_kinds_of_parquet_and_folders(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.csv")
    assert kind_of(tmp_path / "a.csv") == "parquet"
    assert kind_of(tmp_path) == "folder"


def test_the_message_names_the_other_source(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(SourceError, match="source=parquet"):
        CsvSource(str(path)).read()
    with pytest.raises(SourceError, match="source=parquet"):
        FolderSource(str(tmp_path)).read()
    with pytest.raises(SourceError, match="choose source=parquet"):
        FolderSource(str(path)).read()
    path.write_bytes(LINE)
    with pytest.raises(SourceError, match="read it with source=jsonl"):
        CsvSource(str(path)).read()
