"""Parquet files made to deceive or exhaust whoever reads them, for ``benchmarks/attacks.py``.

Most are written by pyarrow. Footers and pages are then edited: numbers in them are zigzag varints,
and a footer may grow, for nothing in it says where it lies but its own length at the end.
"""

from __future__ import annotations

import base64
import json
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema([("sha256_pixels", pa.string()), ("product_id", pa.string()), ("n", pa.int64())])
"""What a reader expects."""
ROWS = 12_345
"""How many rows of it."""
MANY = 10**9

Make = Callable[[Path], object]


def honest(n: int = ROWS) -> pa.Table:
    """A table as a reader expects it."""
    digests = [f"{number:064x}" for number in range(n)]
    ids = [f"P{number}" for number in range(n)]
    return pa.table([digests, ids, list(range(n))], schema=SCHEMA)


def write(table: pa.Table, path: Path, **options: object) -> None:
    """A file of a table."""
    pq.write_table(table, path, **options)


def described(path: Path, **metadata: bytes) -> None:
    """An honest table whose schema says something besides."""
    write(honest().replace_schema_metadata(metadata), path)


def column(name: str | None, kind: str, numpy: str) -> dict[str, object]:
    """What pandas says of a column."""
    of_it = {"name": name, "field_name": name, "metadata": None}
    return {**of_it, "pandas_type": kind, "numpy_type": numpy}


def pandas_says(path: Path, **said: object) -> None:
    """An honest table, with this in what pandas says of it."""
    columns = [column(name, "unicode", "object") for name in SCHEMA.names]
    plain = {"index_columns": [], "column_indexes": [], "columns": columns}
    described(path, pandas=json.dumps(plain | said).encode())


class Touch:
    """What unpickling would leave a file at."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (f"{self.path}.called",)


def pickled_type(path: Path) -> None:
    """A column whose type is a pickle, as pyarrow before 14.0.1 would load it."""
    import pickle

    storage = pa.field("n", pa.int64(), metadata={
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Touch(path)),
    })  # fmt: skip
    fields = [*list(SCHEMA)[:2], storage]
    write(honest().cast(pa.schema(fields)), path)


def extension(path: Path, name: bytes, content: bytes, numbers: bool = False) -> None:
    """A column of an extension type, of text or of numbers, that says this of itself."""
    kind = pa.int64() if numbers else pa.string()
    field = pa.field("product_id", kind, metadata={
        b"ARROW:extension:name": name, b"ARROW:extension:metadata": content,
    })  # fmt: skip
    table = honest()
    values = table["n"] if numbers else table["product_id"]
    write(table.drop_columns(["product_id"]).append_column(field, values), path)


def dictionary(path: Path, n: int, value: str, said: bool = False) -> None:
    """So many rows of one value, written as runs.

    Args:
        path: the file.
        n: rows.
        value: of each.
        said: whether the file says that the column is a dictionary, so that it is read as one.
    """
    per_group, kind = 50_000_000, pa.dictionary(pa.int32(), pa.string())
    options = {"data_page_size": 2**30, "compression": "zstd", "store_schema": said}
    with pq.ParquetWriter(path, pa.schema([("product_id", kind)]), **options) as writer:
        for start in range(0, n, per_group):
            codes = pa.array(np.zeros(min(per_group, n - start), np.int32))
            column = pa.DictionaryArray.from_arrays(codes, pa.array([value]))
            writer.write_table(pa.table([column], ["product_id"]), per_group)


def long_values(path: Path) -> None:
    """100,000 rows of one value of 1 MB."""
    dictionary(path, 100_000, "x" * 2**20)


def expected(path: Path, n: int, value: str) -> None:
    """So many rows of the columns that are expected, their texts all the same."""
    schema = pa.schema(
        [(name, pa.dictionary(pa.int32(), pa.string())) for name in SCHEMA.names[:2]]
    )
    schema = schema.append(SCHEMA.field(2))
    options = {"data_page_size": 2**30, "compression": "zstd", "store_schema": False}
    with pq.ParquetWriter(path, schema, **options) as writer:
        for start in range(0, n, 50_000_000):
            zeros = np.zeros(min(50_000_000, n - start), np.int32)
            text = pa.DictionaryArray.from_arrays(pa.array(zeros), pa.array([value]))
            numbers = pa.array(zeros.astype(np.int64))
            writer.write_table(pa.table([text, text, numbers], schema=schema), 50_000_000)


def nulls(path: Path, n: int = MANY) -> None:
    """So many rows of nothing."""
    schema = pa.schema([("product_id", pa.null())])
    with pq.ParquetWriter(path, schema, data_page_size=2**30) as writer:
        writer.write_table(pa.table([pa.nulls(n)], ["product_id"]), n)


def nested(path: Path, depth: int) -> None:
    """Lists in lists."""
    kind, value = pa.string(), "x"
    for _ in range(depth):
        kind, value = pa.list_(kind), [value]
    write(pa.table([pa.array([value], kind)], ["product_id"]), path)


def wide(path: Path, n: int) -> None:
    """So many columns of one row."""
    write(pa.table([[1]] * n, [f"c{number}" for number in range(n)]), path)


def groups(path: Path, n: int) -> None:
    """So many groups of one row."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for _ in range(n):
            writer.write_table(honest(1))


def zeros(path: Path, size: int) -> None:
    """Bytes that are zeros, in one value, packed."""
    schema = pa.schema([("product_id", pa.binary())])
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(size // 2**28):
            writer.write_table(pa.table([[bytes(2**28)]], schema=schema))


def varint(number: int) -> bytes:
    """A number as Thrift's compact protocol has it."""
    rest = (number << 1) ^ (number >> 63)
    rest &= 2**64 - 1
    parts = bytearray()
    while rest > 127:
        parts.append(rest & 127 | 128)
        rest >>= 7
    parts.append(rest)
    return bytes(parts)


def with_footer(path: Path, edit: Callable[[bytes], bytes], n: int = ROWS) -> None:
    """An honest file whose footer was edited."""
    write(honest(n), path)
    data = path.read_bytes()
    size = struct.unpack("<I", data[-8:-4])[0]
    footer = edit(data[-8 - size : -8])
    path.write_bytes(data[: -8 - size] + footer + struct.pack("<I", len(footer)) + b"PAR1")


def counted(path: Path, places: Sequence[int], number: int) -> None:
    """A file that says another number of rows in some places of its footer."""

    def edit(footer: bytes) -> bytes:
        parts = footer.split(varint(ROWS))
        assert len(parts) == 9, "another version of pyarrow writes other footers"
        joined = parts[0]
        for place, part in enumerate(parts[1:]):
            joined += varint(number if place in places else ROWS) + part
        return joined

    with_footer(path, edit)


def page_counted(path: Path, number: int) -> None:
    """A file whose first page says another number of values, as long in bytes."""
    write(honest(), path, use_dictionary=False, compression="none")
    old, new = varint(ROWS), varint(number)
    assert len(old) == len(new)
    path.write_bytes(path.read_bytes().replace(old, new, 1))


def cut(path: Path, keep: Callable[[bytes], bytes]) -> None:
    """An honest file of which a part is kept."""
    write(honest(), path)
    path.write_bytes(keep(path.read_bytes()))


def said_length(path: Path, length: int) -> None:
    """A file that says another length of its footer."""
    cut(path, lambda data: data[:-8] + struct.pack("<I", length) + b"PAR1")


def broken_text(path: Path) -> None:
    """Ids that are no UTF-8, in a column of text."""
    raw = pa.array([b"\xff\xfe%d" % number for number in range(ROWS)], pa.binary())
    text = pa.StringArray.from_buffers(ROWS, raw.buffers()[1], raw.buffers()[2])
    write(honest().set_column(1, SCHEMA.field(1), text), path)


def columns(path: Path, *named: tuple[str, pa.Array]) -> None:
    """A table of other columns."""
    write(pa.table([array for _, array in named], [name for name, _ in named]), path)


def of(kind: pa.DataType, values: Sequence[object]) -> pa.Array:
    """A column of one type, of as many rows as are expected."""
    return pa.array([*values, *[None] * (ROWS - len(values))], kind)


def schema_says(path: Path, text: bytes) -> None:
    """A file whose Arrow schema, which is kept beside Parquet's own, is not one."""
    described(path, **{"ARROW:schema": base64.b64encode(text)})


IN_ALL, IN_COLUMNS, IN_GROUP = [0], [1, 3, 5], [7]  # the others are counts of levels
EVERYWHERE = [*IN_ALL, *IN_COLUMNS, *IN_GROUP]
RANGE = {"kind": "range", "name": None, "start": 0, "step": 1}
DAMAGED: dict[str, Make] = {
    "none: an honest file": lambda path: write(honest(), path),
    "an extension type that is a pickle": pickled_type,
    "an extension type of nobody's": lambda path: extension(path, b"evil", b"x" * 1000),
    "arrow.json": lambda path: extension(path, b"arrow.json", b""),
    "arrow.opaque with broken words": lambda path: extension(path, b"arrow.opaque", b"{"),
    "arrow.uuid of text": lambda path: extension(path, b"arrow.uuid", b""),
    "pandas.period of text": lambda path: extension(path, b"pandas.period", b'{"freq": "D"}'),
    "pandas.period of numbers": lambda path: extension(
        path, b"pandas.period", b'{"freq": "D"}', numbers=True
    ),
    "pandas.interval with broken words": lambda path: extension(path, b"pandas.interval", b"["),
    "pandas: product_id is the index": lambda path: pandas_says(path, index_columns=["product_id"]),
    "pandas: an index that is not there": lambda path: pandas_says(path, index_columns=["x"]),
    "pandas: an index of 10¹⁸ rows": lambda path: pandas_says(
        path, index_columns=[{**RANGE, "stop": 10**18}]
    ),
    "pandas: an index of steps of 0": lambda path: pandas_says(
        path, index_columns=[{**RANGE, "stop": 5, "step": 0}]
    ),
    "pandas: columns of another type": lambda path: pandas_says(
        path, column_indexes=[column(None, "datetime", "datetime64[ns]")]
    ),
    "pandas: no JSON": lambda path: described(path, pandas=b"{"),
    "pandas: a list": lambda path: described(path, pandas=b"[]"),
    "pandas: JSON 100,000 deep": lambda path: described(path, pandas=b"[" * 100_000),
    "pandas: no columns in it": lambda path: described(path, pandas=b"{}"),
    "an Arrow schema of noise": lambda path: schema_says(path, b"\xff" * 99),
    "10⁹ rows of one value": lambda path: dictionary(path, MANY, "x"),
    "10⁹ rows of one value, as a dictionary": lambda path: dictionary(path, MANY, "x", said=True),
    "2·10⁸ rows of the columns that are expected": lambda path: expected(path, MANY // 5, "x"),
    "the rows that are expected, of 1 MB each": lambda path: expected(path, ROWS, "x" * 2**20),
    "10⁹ rows of nothing": nulls,
    "100,000 rows of one value of 1 MB": long_values,
    "2 GB of zeros, packed": lambda path: zeros(path, 2**31),
    "lists, 500 deep": lambda path: nested(path, 500),
    "lists, 50 deep": lambda path: nested(path, 50),
    "100,000 columns": lambda path: wide(path, 100_000),
    "20,000 groups of one row": lambda path: groups(path, 20_000),
    "a column twice": lambda path: columns(
        path, ("n", of(pa.int64(), [1])), ("n", of(pa.int64(), [2]))
    ),
    "no columns": lambda path: write(pa.table({}), path),
    "numbers in place of ids": lambda path: columns(
        path,
        ("sha256_pixels", of(pa.int64(), [1])),
        ("product_id", of(pa.float64(), [2.5])),
        ("n", of(pa.string(), ["x"])),
    ),
    "ids that are missing": lambda path: columns(
        path, *((field.name, of(field.type, [])) for field in SCHEMA)
    ),
    "ids that are no UTF-8": broken_text,
    "times beyond all calendars": lambda path: columns(
        path, ("n", of(pa.timestamp("ms"), [2**62, -(2**62)]))
    ),
    "rows in all: -1": lambda path: counted(path, IN_ALL, -1),
    "rows in all: 2⁶²": lambda path: counted(path, IN_ALL, 2**62),
    "rows in all: 1": lambda path: counted(path, IN_ALL, 1),
    "rows of the group: -1": lambda path: counted(path, IN_GROUP, -1),
    "rows of the group: 2⁶²": lambda path: counted(path, IN_GROUP, 2**62),
    "values of the columns: -1": lambda path: counted(path, IN_COLUMNS, -1),
    "values of the columns: 2⁶²": lambda path: counted(path, IN_COLUMNS, 2**62),
    "all of them: -1": lambda path: counted(path, EVERYWHERE, -1),
    "all of them: 2⁶²": lambda path: counted(path, EVERYWHERE, 2**62),
    "all of them: 1": lambda path: counted(path, EVERYWHERE, 1),
    "values of a page: -12,345": lambda path: page_counted(path, -ROWS),
    "values of a page: 1,000,000": lambda path: page_counted(path, 1_000_000),
    "the first half": lambda path: cut(path, lambda data: data[: len(data) // 2]),
    "the last half": lambda path: cut(path, lambda data: data[len(data) // 2 :]),
    "without its last byte": lambda path: cut(path, lambda data: data[:-1]),
    "nothing but PAR1": lambda path: path.write_bytes(b"PAR1"),
    "nothing": lambda path: path.write_bytes(b""),
    "a footer of 0 bytes": lambda path: said_length(path, 0),
    "a footer of 4 GB": lambda path: said_length(path, 2**32 - 1),
    "a footer that says it is encrypted": lambda path: cut(path, lambda data: data[:-1] + b"E"),
}  # fmt: skip
"""Files by what is wrong with them."""
