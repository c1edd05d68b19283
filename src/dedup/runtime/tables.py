"""Tables in Parquet, which stages read back, and in CSV, which people open.

Stages never read CSV: it turns the ids ``007``, ``1e5`` and ``NA`` into numbers and blanks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.runtime.files import atomically, first_line, unreadable, write_bytes
from dedup.runtime.shortages import pass_on

FORMULAS = ("keep", "escape")
"""Treatments of cells that a spreadsheet takes for formulas."""

_FORMULA = re.compile(
    r"[\s\ufeff\x00-\x1f\x7f-\x9f]*[=+@\-\uff1d\uff0b\uff20\uff0d\ufe66\ufe62\ufe6b\ufe63]"
    r"|[ \u3000]*[\t\r\n]"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FIRST = ("\ufeff", "PK\x03\x04")
"""Beginnings by which readers detect another kind of file: a byte order mark, a ZIP archive."""
SLACK, LZ4_RATIO, CELL = 2**26, 255, 4096
"""Limits of the bytes that a table unpacks to: always allowed; per byte of the file, the most that
LZ4 can reach; and per cell of a column whose repeated texts are stored once."""
_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY",
              "DELTA_BINARY_PACKED"}  # fmt: skip
"""Encodings of our columns; delta encodings of text would let a few bytes unpack to gigabytes."""


def write_table(table: pd.DataFrame, schema: pa.Schema | None, path: Path) -> None:
    """Write a table as Parquet: the schema's columns in its types, or all columns as text."""
    if schema is None:
        schema = pa.schema([(str(name), pa.string()) for name in table.columns])
    arrow = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    arrow = arrow.replace_schema_metadata(None)
    repetitive = [name for name in schema.names if _repeats(arrow[name])]
    integers = [name for name in schema.names if pa.types.is_integer(schema.field(name).type)]
    # Reads in half the time of Arrow's defaults, which build dictionaries of unique values too.
    settings = {
        "compression": "lz4",
        "use_dictionary": repetitive,
        "column_encoding": {
            name: "DELTA_BINARY_PACKED" for name in integers if name not in repetitive
        },
    }
    atomically(path, lambda part: pq.write_table(arrow, part, **settings))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Tell whether a column repeats its values, by its first 10,000 rows."""
    if pa.types.is_nested(column.type):
        return False
    beginning = column.slice(0, 10_000)
    n_distinct: int = pc.count_distinct(beginning).as_py()
    return 2 * n_distinct < len(beginning)


def read_table(
    path: Path, schema: pa.Schema | None = None, advice: str = "run its stage again"
) -> pd.DataFrame:
    """Read a Parquet table that ``write_table`` wrote with this schema.

    Raises:
        ArtifactError: the file is missing, or the user may not read it.
        CorruptError: the file cannot be read, or has another schema.
    """
    return as_frame(read_arrow(path, schema, advice))


def read_arrow(
    path: Path,
    schema: pa.Schema | None,
    advice: str,
    rows: int | None = None,
    digests: Collection[str] = (),
    mapped: bool = False,
    later: Mapping[str, float] | None = None,
) -> pa.Table:
    """Read a Parquet table as an Arrow table, with limits on the memory it unpacks to.

    Column types come from the schema alone. A file whose metadata ask pandas or Arrow for other
    types is refused. So are text that is not UTF-8, and empty cells outside of float columns.

    Args:
        path: the file.
        schema: the columns; ``None`` if all of them are text.
        advice: remedy for a damaged file, for messages.
        rows: expected number of rows, compared before anything is unpacked.
        digests: columns whose digits the caller checks; their UTF-8 is not validated.
        mapped: whether to memory-map a file that has just been read, instead of buffering it.
        later: last columns, of floats, that an earlier version did not write, and the values that
            they get then.

    Raises:
        ArtifactError: the file is missing, or the user may not read it.
        CorruptError: the file cannot be read, or has another schema.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: {advice}")
    try:
        with pq.ParquetFile(path, memory_map=mapped) as file:
            actual, n_rows = file.schema_arrow, file.metadata.num_rows
            if schema is None:
                schema = pa.schema([(name, pa.string()) for name in actual.names])
            lacks = later if later and actual.names == schema.names[: -len(later)] else {}
            wrong = _difference(actual, pa.schema(list(schema)[: len(schema) - len(lacks)]))
            if not wrong and rows not in (None, n_rows):
                wrong = f"it has {n_rows} rows, not {rows}"
            if not wrong:
                wrong = _unpacks_to_too_much(file.metadata, path.stat().st_size)
                repeated = _dictionaries(file.metadata, schema)
        if not wrong:
            # Repeated texts are stored once: a few bytes may stand for gigabytes.
            with pq.ParquetFile(path, memory_map=mapped, read_dictionary=repeated) as file:
                table = file.read()
            if len(table) != n_rows:  # a footer states the number in several places
                wrong = f"it holds {len(table)} rows, and its footer says {n_rows}"
            wrong = wrong or _repeats_too_much(table, repeated)
            if not wrong:
                table = table.cast(actual)
                table.validate()
                others = [name for name in table.column_names if name not in digests]
                table.select([n for n in others if not _is_ascii(table[n])]).validate(full=True)
                wrong = _missing_values(table)
    except (pa.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        pass_on(error, path)
        if isinstance(error, OSError) and error.errno:
            raise unreadable(path, advice, error) from error
        raise CorruptError(f"{path} cannot be read ({first_line(error)}): {advice}") from error
    if wrong:
        raise CorruptError(f"{path} is not what was written, {wrong}: {advice}")
    for name, value in lacks.items():
        table = table.append_column(
            schema.field(name), pa.array([value] * len(table), pa.float64())
        )
    return table


def _is_ascii(column: pa.ChunkedArray) -> bool:
    """Tell whether a column is pure ASCII text, and so valid UTF-8."""
    if not pa.types.is_string(column.type):
        return False
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)
        words = data[: len(data) // 8 * 8].view(np.uint64)
        high = np.bitwise_or.reduce(words) & np.uint64(0x8080808080808080)
        if high or (data[8 * len(words) :] > 127).any():
            return False
    return True


def _unpacks_to_too_much(metadata: pq.FileMetaData, size: int) -> str:
    """Say why a file would unpack to far more memory than ours of its size; "" if it would not."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    if others := {name for chunk in chunks for name in chunk.encodings} - _ENCODINGS:
        return f"it is encoded by {', '.join(sorted(others))}"
    n_bytes = sum(chunk.total_uncompressed_size for chunk in chunks)
    return f"it would unpack to {n_bytes} bytes" if n_bytes > SLACK + LZ4_RATIO * size else ""


def _dictionaries(metadata: pq.FileMetaData, schema: pa.Schema) -> list[str]:
    """List the text columns that are stored as a dictionary and indices into it."""
    texts = {field.name for field in schema if field.type == pa.string()}
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    encoded = {chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page}
    return [name for name in schema.names if name in texts & encoded]


def _repeats_too_much(table: pa.Table, repeated: Collection[str]) -> str:
    """Say why a table's repeated texts would take too much memory; "" if they would not."""
    n_bytes = 0
    for chunk in (chunk for name in repeated for chunk in table[name].chunks):
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        n_bytes += pc.sum(lengths.take(chunk.indices), min_count=0).as_py()
    max_bytes = SLACK + CELL * len(table) * len(repeated)
    return f"its texts would unpack to {n_bytes} bytes" if n_bytes > max_bytes else ""


def as_frame(table: pa.Table) -> pd.DataFrame:
    """Convert an Arrow table to pandas, ignoring the conversions that its metadata ask for."""
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _difference(actual: pa.Schema, schema: pa.Schema) -> str:
    """Describe the first difference between two schemas; "" if there is none."""
    if actual.names != schema.names or len(set(actual.names)) < len(actual.names):
        return f"its columns are {', '.join(map(repr, actual.names))[:1000]}"
    for field in schema:
        if not actual.field(field.name).equals(field, check_metadata=True):
            return (
                f"its column {field.name!r} holds {actual.field(field.name).type}, not {field.type}"
            )
    return "" if not actual.metadata else "its metadata tell readers to convert its columns"


def _missing_values(table: pa.Table) -> str:
    """Name the first column with missing values that must not be missing; "" if there is none."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and not pa.types.is_floating(column.type):
            return f"its column {name!r} lacks {column.null_count} values"
    return ""


def write_csv(table: pd.DataFrame, path: Path, formulas: str = "keep") -> None:
    """Write a table as CSV, see ``write_rows``; a missing value becomes an empty cell."""
    if table.isna().to_numpy().any():
        table = table.astype(object).where(table.notna(), "")
    # By columns: iterating over the rows of a table of texts takes three times as long.
    columns = [_values(table.iloc[:, place]) for place in range(table.shape[1])]
    write_rows(list(table.columns), zip(*columns, strict=True), path, formulas)


def _values(column: pd.Series[Any]) -> list[object]:
    """List a column's values; pandas would take Arrow's texts out one by one."""
    is_text = isinstance(column.dtype, pd.StringDtype)
    return (column.to_numpy(dtype=object) if is_text else column).tolist()


def write_rows(
    columns: Sequence[object],
    rows: Iterable[Sequence[object]],
    path: Path,
    formulas: str = "keep",
) -> None:
    r"""Write RFC 4180 CSV: UTF-8, lines that end in ``\n``, a header, one record a row.

    Every CSV file of the package is written here. Cells are quoted where a reader needs quotes, for
    either kind of line end. A lone surrogate, which is no Unicode, becomes ``\udcff``.

    Args:
        columns: the header's cells.
        rows: rows of as many cells; ``float(text)`` restores a number to the last bit.
        path: the file.
        formulas: ``keep`` writes cells unchanged; ``escape`` puts an apostrophe before cells that
            a spreadsheet would run, see ``harmless``.

    Raises:
        ConfigError: ``formulas`` is neither ``keep`` nor ``escape``.
    """
    if formulas not in FORMULAS:
        raise ConfigError(f"formulas={formulas}: use one of {', '.join(FORMULAS)}")
    table: Iterable[Sequence[object]] = chain([columns], rows)
    if formulas == "escape":
        table = ([harmless(cell) for cell in row] for row in table)
    lines = _Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(table)
    head = lines[0]
    if head.startswith(_NOT_FIRST):
        cell, comma, rest = head[:-1].partition(",")
        lines[0] = f'"{cell}"{comma}{rest}\n'
    if len(columns) == 1:  # some readers skip a line of blanks
        lines[:] = [f'"{line[:-1]}"\n' if line.isspace() else line for line in lines]
    write_bytes("".join(lines).encode(errors="backslashreplace"), path)


def harmless(cell: object) -> object:
    """Put an apostrophe before text that a spreadsheet may take for a formula.

    Such text starts with ``=``, ``+``, ``-`` or ``@``, also in full width or small form and after
    blanks, or with a tab or a line end. Numbers stay numbers.
    """
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}" if _FORMULA.match(cell) else cell


class _Lines(list[str]):
    """Collect the records that ``csv.writer`` writes, and end each with a line feed.

    Before Python 3.13 a writer quotes both kinds of line end only if its own lines end in both.
    """

    def write(self, line: str) -> None:
        self.append(f"{line[:-2]}\n")
