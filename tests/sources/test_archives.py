"""A packed table gives the catalogue of the table in it, and a bad archive one message."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from dedup.errors import SourceError
from dedup.sources import archives
from dedup.sources.csv import CsvSource
from dedup.sources.jsonl import JsonlSource
from dedup.sources.kinds import kind_of

TABLE = b"productId,title,imageUrlStr\n1,caf\xc3\xa9,a.jpg;b.jpg\n2,,c.jpg\n"
TABS = TABLE.replace(b",", b"\t")
LINES = b'{"productId": 1, "title": "x", "imageUrlStr": ["a.jpg"]}\n'


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def in_zip(data: bytes) -> bytes:
    extras = {"__MACOSX/._a.csv": b"x", ".DS_Store": b"x", "readme.txt": b"x", "images/a.jpg": b"x"}
    return zipped({**extras, "folder/table.tsv": data} if b"\t" in data else {"a.jsonl": data})


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "gz-in-parts": lambda data: gzip.compress(data[:30]) + gzip.compress(data[30:]),
    "zip": lambda data: in_zip(data) if data != TABLE else zipped({"../../x/table.csv": data}),
    "stored": lambda data: zipped({"table": data}, zipfile.ZIP_STORED),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("data", [TABLE, TABS, LINES], ids=["csv", "tsv", "jsonl"])
def test_a_packed_table_is_read_as_it_is(tmp_path: Path, packer: str, data: bytes) -> None:
    kind = JsonlSource if data is LINES else CsvSource
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(data)
    packed.write_bytes(PACKERS[packer](data))
    expected, found = kind(str(plain), choice="all").read(), kind(str(packed), choice="all").read()
    pd.testing.assert_frame_equal(found.products, expected.products)
    pd.testing.assert_frame_equal(found.requests, expected.requests)
    assert found.requests["url"][0] == str(tmp_path.resolve() / "a.jpg")
    assert kind(str(packed)).check() == ["productId", "title", "imageUrlStr"]
    assert kind_of(packed) == ("jsonl" if data is LINES else "csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["packed", "plain"]


def test_a_packed_table_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    rows = "".join(f"{n},{'Hose' * 300},{n}.jpg\n" for n in range(300))  # more than the head
    path.write_bytes(gzip.compress(f"productId,title,imageUrlStr\n{rows}x,grün,a.jpg\n"
                                   .encode("cp1252")))  # fmt: skip
    assert CsvSource(str(path)).read().products["title"].iloc[-1] == "grün"
    path.write_bytes(gzip.compress(TABLE + b"3,\xff\xff,a.jpg\n"))
    with pytest.raises(SourceError, match=rf"byte {len(TABLE) + 2} is not utf-8 \(line 4\)"):
        CsvSource(str(path)).read()


def encrypted(data: bytes) -> bytes:
    """Set the flag of encryption in the directory of an archive, and before its file."""
    at = data.index(b"PK\x01\x02")
    flagged = data[: at + 8] + b"\x01\x00" + data[at + 10 :]
    return flagged[:6] + b"\x01\x00" + flagged[8:]


BAD = {
    "gz-cut": (gzip.compress(TABLE * 99)[:-20], "is a gzip file that is cut off"),
    "gz-head": (b"\x1f\x8b\x08\x00", "is a gzip file that is cut off"),
    "gz-broken": (gzip.compress(TABLE)[:10] + b"\x07" * 60, "is damaged"),
    "gz-sum": (gzip.compress(TABLE)[:-8] + bytes(8), "is damaged .*CRC"),
    "gz-twice": (gzip.compress(gzip.compress(TABLE)), "compressed with gzip twice"),
    "zip-cut": (zipped({"a.csv": TABLE})[:-30], "is cut off or damaged"),
    "zip-sum": (zipped({"a.csv": TABLE}, 0).replace(b"a.jpg", b"x.jpg"), "is damaged .*CRC"),
    "zip-empty": (zipped({}), "holds no file"),
    "zip-folder": (zipped({"a/": b""}), "holds no file"),
    "zip-two": (
        zipped({"a.csv": TABLE, "b/c.tsv": TABLE}),
        "'a.csv' and 'b/c.tsv': unpack it and set source.path= to one",
    ),
    "zip-many": (zipped({f"{n}.csv": TABLE for n in range(9)}), "and 4 more: unpack it"),
    "zip-encrypted": (encrypted(zipped({"a.csv": TABLE})), "is encrypted: unpack it"),
    "zip-bz2": (zipped({"a.csv": TABLE}, zipfile.ZIP_BZIP2), "by method 12"),
    "zip-xlsx": (zipped({"[Content_Types].xml": b"", "xl/a.xml": b""}), "is an Excel file"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("kind", [CsvSource, JsonlSource])
def test_bad_archives_have_one_message(
    tmp_path: Path, name: str, kind: type[CsvSource | JsonlSource]
) -> None:
    data, words = BAD[name]
    if name == "gz-twice" and kind is JsonlSource:
        words = "no text in UTF-8"
    path = tmp_path / "packed"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=words) as caught:
        kind(str(path)).read()
    assert str(path) in str(caught.value)
    assert kind_of(path) in ("csv", "jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["packed"]


@pytest.mark.parametrize("kind", [CsvSource, JsonlSource])
@pytest.mark.parametrize("pack", [gzip.compress, lambda data: zipped({"a.csv": data})])
def test_a_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[CsvSource | JsonlSource],
    pack: Callable[[bytes], bytes],
) -> None:  # fmt: skip
    monkeypatch.setattr(archives, "SMALL", 2**20)
    data = TABLE if kind is CsvSource else LINES
    path = tmp_path / "packed"
    path.write_bytes(pack(data + b" " * 2**22))
    with pytest.raises(SourceError, match=r"unpacks to more than 1,048,576 bytes .* 200 times"):
        kind(str(path)).read()
    monkeypatch.setattr(archives, "SMALL", 2**23)
    assert len(kind(str(path), rows=[0, 1]).read().products) == 1


def test_a_limit_on_bytes_holds_for_any_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_UNPACKED", 40)
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(TABLE))
    with pytest.raises(SourceError, match="unpacks to more than 40 bytes"):
        CsvSource(str(path)).read()
