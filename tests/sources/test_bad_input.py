"""A table that is cut at any place, or broken in any way: no row of it is misread."""

import gzip
import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.errors import SourceError
from dedup.sources.auto import AutoSource
from dedup.sources.catalogue import Catalogue
from tests.sources.exports import RSS, zipped
from tests.support.commands import run_all

ROWS = [(f"P{n}", title, f"https://cdn.test/{n}.jpg")
        for n, title in enumerate(["Hat", 'a "b", c', "d\ne", "Größe"])]  # fmt: skip
TABLE = pd.DataFrame(ROWS, columns=["productId", "title", "imageUrlStr"])
OBJECTS = TABLE.to_dict("records")
CSV = TABLE.to_csv(index=False).encode()
XML = RSS[: RSS.index("<item>")] + "\n".join(
    f"<item><g:id>{key}</g:id><title><![CDATA[{title}]]></title><g:image_link>{url}</g:image_link>"
    "</item>"
    for key, title, url in ROWS
)


def parquet() -> bytes:
    """The table as a Parquet file."""
    pq.write_table(pa.Table.from_pandas(TABLE), file := BytesIO())
    return file.getvalue()


WHOLE: dict[str, bytes] = {
    "csv": CSV,
    "csv_quoted": TABLE.to_csv(index=False, quoting=1).encode(),
    "semicolon_1252": TABLE.to_csv(index=False, sep=";").encode("cp1252"),
    "utf16": TABLE.to_csv(index=False, sep="\t").encode("utf-16"),
    "backslash": TABLE.to_csv(index=False, doublequote=False, escapechar="\\").encode(),
    "lines": "".join(json.dumps(one) + "\n" for one in OBJECTS).encode(),
    "array": json.dumps(OBJECTS, indent=1).encode(),
    "feed": f"{XML}</channel></rss>".encode(),
    "gz": gzip.compress(CSV, mtime=0),
    "zip": zipped(CSV),
    "parquet": parquet(),
}
MAY_LOSE_ROWS = ("csv", "csv_quoted", "semicolon_1252", "utf16", "backslash", "lines")
"""Texts of lines, whose end nothing marks."""


def cells_of(catalogue: Catalogue) -> list[tuple[str, ...]]:
    """Id, title and address of each record."""
    products = catalogue.products
    title = catalogue.title_column or products.columns[1]
    names = [catalogue.id_column, title, catalogue.url_column]
    return [tuple(row) for row in products[names].to_numpy().tolist()]


def check_prefix(path: Path) -> None:
    """Check that all rows but the last are as they were, and the last is a part or has failed."""
    catalogue = AutoSource(str(path)).read()
    cells = cells_of(catalogue)
    assert cells[:-1] == ROWS[: len(cells) - 1]
    reasons = catalogue.requests["reason"].tolist()
    assert reasons[:-1] == [""] * (len(cells) - 1)
    if not reasons[-1]:
        *whole, url = cells[-1]
        *wanted, address = ROWS[len(cells) - 1]
        assert whole == wanted
        assert address.startswith(url)


def refusal(path: Path, check: Callable[[Path], None]) -> str:
    """Check a table; the message if it is refused."""
    try:
        check(path)
    except SourceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", WHOLE)
def test_a_table_that_is_cut_is_told_or_loses_its_last_rows_alone(
    tmp_path: Path, name: str
) -> None:
    data, path = WHOLE[name], tmp_path / "export"
    step = max(1, len(data) // 20)
    n_read = 0
    for cut in sorted({*range(1, len(data), step), *range(len(data) - 9, len(data))}):
        path.write_bytes(data[:cut])
        message = refusal(path, check_prefix)
        n_read += not message
        assert not message or str(path) in message
        assert "\n" not in message
    path.write_bytes(data)
    check_prefix(path)
    assert AutoSource(str(path)).read().requests["reason"].tolist() == [""] * len(ROWS)
    assert n_read == 0 or name in MAY_LOSE_ROWS


def check_others(path: Path) -> None:
    """Check that but one row that is read differs from what was written."""
    catalogue = AutoSource(str(path)).read()
    reasons = catalogue.requests.drop_duplicates("record")["reason"]
    rows = zip(cells_of(catalogue), reasons, strict=True)
    read = [row for row, reason in rows if not reason]
    assert len([row for row in read if row not in ROWS]) <= 1


@pytest.mark.parametrize("name", WHOLE)
def test_a_byte_that_is_another_is_told_or_costs_its_own_row(tmp_path: Path, name: str) -> None:
    data, path = WHOLE[name], tmp_path / "export"
    for at in range(0, len(data), max(1, len(data) // 10)):
        for byte in (0x22, 0xFF):
            path.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
            message = refusal(path, check_others)
            assert not message or str(path) in message


def two_tables() -> bytes:
    """A ZIP archive with two tables."""
    with zipfile.ZipFile(file := BytesIO(), "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.writestr(name, CSV)
    return file.getvalue()


def wrong_types() -> bytes:
    """A Parquet file whose ids are logical values and whose addresses are numbers."""
    table = pa.table({"productId": [True], "title": ["Hat"], "imageUrlStr": [1.5]})
    pq.write_table(table, file := BytesIO())
    return file.getvalue()


ENTITY = f'<?xml version="1.0"?>\n<!DOCTYPE rss [<!ENTITY a "b">]>\n{RSS}'
BAD: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "open_quote": (lambda: CSV + b'P9,"Hat', ["line 7", "never closed", "correct that line"]),
    "cut_feed": (
        lambda: XML.encode()[:-30], ["line 6", "in item 4 where </g:image_link>", "export it"],
    ),
    "entity": (lambda: ENTITY.encode(), ["line 2", "document type", "remove it"]),
    "cut_array": (lambda: WHOLE["array"][:-40], ["element 3", "correct it"]),
    "wrong_types": (
        wrong_types,
        ["column 'productId' is bool", "write the ids as texts", "column 'imageUrlStr' is double",
         "write addresses as texts"],
    ),
    "two_tables": (two_tables, ["'a.csv' and 'b.csv'", "set source.path= to one"]),
    "bomb": (
        lambda: zipped(CSV + (b" " * 2**20 + b"\n") * 70),
        ["unpacks to more than 67,108,864 bytes", "unpack it and set source.path="],
    ),
    "cut_parquet": (lambda: parquet()[:-20], ["cut off or damaged", "download it again"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_command_says_what_is_wrong_and_what_to_write_once(tmp_path: Path, name: str) -> None:
    make, words = BAD[name]
    path = tmp_path / "export"
    path.write_bytes(make())
    settings = ["encoder=bundled", "source=auto", f"source.path={path}"]
    (ended,) = run_all([["detect", *settings]], tmp_path)
    assert ended.code == 2
    said = ended.out + ended.err
    for word in [str(path), *words]:
        assert word in said
    assert said.count(words[0]) == 1
