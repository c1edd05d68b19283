"""Tables in Parquet, which stages read back, and in CSV, which people open.

Stages never read CSV: it turns the ids ``007``, ``1e5`` and ``NA`` into numbers and blanks.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.runtime.files import atomically, first_line, unreadable, write_bytes
from dedup.runtime.shortages import pass_on

FORMULAS = ("keep", "escape")
"""What is done with cells that a spreadsheet takes for formulas."""

_FORMULA = re.compile(
    r"[\s\ufeff\x00-\x1f\x7f-\x9f]*[=+@\-\uff1d\uff0b\uff20\uff0d\ufe66\ufe62\ufe6b\ufe63]"
    r"|[ \u3000]*[\t\r\n]"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FIRST = ("\ufeff", "PK\x03\x04")
"""A file that starts so is taken for something else: a byte order mark, a ZIP archive."""


SLACK, LZ4_RATIO, CELL = 2**26, 255, 4096
"""A table may always unpack to so many bytes; and to so many for each of the file's, which LZ4
cannot pass; and what it writes once and repeats, to so many for a cell."""
_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY",
              "DELTA_BINARY_PACKED"}  # fmt: skip
"""How columns are written; others would let one cell be spelt by the one before it."""


def write_table(table: pd.DataFrame, schema: pa.Schema | None, path: Path) -> None:
    """Write a table as Parquet; with a schema, exactly its columns in its types."""
    if schema is None:
        schema = pa.schema([(str(name), pa.string()) for name in table.columns])
    arrow = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    arrow = arrow.replace_schema_metadata(None)
    few = [name for name in schema.names if _repeats(arrow[name])]
    whole = [name for name in schema.names if pa.types.is_integer(schema.field(name).type)]
    # Read in half the time of Arrow's defaults, which make dictionaries of what never comes twice.
    settings = {
        "compression": "lz4",
        "use_dictionary": few,
        "column_encoding": {name: "DELTA_BINARY_PACKED" for name in whole if name not in few},
    }
    atomically(path, lambda part: pq.write_table(arrow, part, **settings))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Whether a column holds few values many times, by its beginning."""
    if pa.types.is_nested(column.type):
        return False
    beginning = column.slice(0, 10_000)
    n_distinct: int = pc.count_distinct(beginning).as_py()
    return 2 * n_distinct < len(beginning)


def read_table(
    path: Path, schema: pa.Schema | None = None, advice: str = "run its stage again"
) -> pd.DataFrame:
    """Read a Parquet table, as ``write_table`` wrote it with this schema.

    Raises:
        ArtifactError: it is missing, or must not be read.
        CorruptError: it cannot be read, or is not of this schema.
    """
    return as_frame(read_arrow(path, schema, advice))


def read_arrow(
    path: Path,
    schema: pa.Schema | None,
    advice: str,
    rows: int | None = None,
    digests: Collection[str] = (),
    mapped: bool = False,
) -> pa.Table:
    """Read a Parquet table for Arrow.

    Types come from the schema alone: a file that tells pandas or Arrow to make something else of
    its columns is refused, as is text that is no UTF-8 and, but for numbers with a point, a cell
    without a value.

    Args:
        path: the file.
        schema: its columns; ``None`` where they all are texts.
        advice: what to do where it is damaged, for messages.
        rows: so many it must have; known before anything is unpacked.
        digests: columns of which the caller makes sure that they hold digits alone.
        mapped: do not read it through a buffer: it has just been read.

    Raises:
        ArtifactError: it is missing, or must not be read.
        CorruptError: it cannot be read, or is not of this schema.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: {advice}")
    try:
        with pq.ParquetFile(path, memory_map=mapped) as file:
            found, n_rows = file.schema_arrow, file.metadata.num_rows
            if schema is None:
                schema = pa.schema([(name, pa.string()) for name in found.names])
            wrong = _differs(found, schema)
            if not wrong and rows not in (None, n_rows):
                wrong = f"it has {n_rows} rows, not {rows}"
            if not wrong:
                wrong = _unpacks_to_too_much(file.metadata, path.stat().st_size)
                repeated = _dictionaries(file.metadata, schema)
        if not wrong:
            # Repeated texts are written once: a few bytes may stand for gigabytes.
            with pq.ParquetFile(path, memory_map=mapped, read_dictionary=repeated) as file:
                table = file.read()
            if len(table) != n_rows:  # a footer says it in more than one place
                wrong = f"it holds {len(table)} rows, and says that it holds {n_rows}"
            wrong = wrong or _repeats_too_much(table, repeated)
            if not wrong:
                table = table.cast(found)
                table.validate()
                others = [name for name in table.column_names if name not in digests]
                table.select([n for n in others if not _is_ascii(table[n])]).validate(full=True)
                wrong = _lacks(table)
    except (pa.ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        pass_on(error, path)
        if isinstance(error, OSError) and error.errno:
            raise unreadable(path, advice, error) from error
        raise CorruptError(f"{path} cannot be read ({first_line(error)}): {advice}") from error
    if wrong:
        raise CorruptError(f"{path} is not what was written, {wrong}: {advice}")
    return table


def _is_ascii(column: pa.ChunkedArray) -> bool:
    """Whether a column is of texts in which each byte is a letter, so that it is UTF-8."""
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
    """Why a file would take far more memory than one of ours of its size; "" if it would not."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    if others := {one for chunk in chunks for one in chunk.encodings} - _ENCODINGS:
        return f"it is encoded by {', '.join(sorted(others))}"
    n_bytes = sum(chunk.total_uncompressed_size for chunk in chunks)
    return f"it would unpack to {n_bytes} bytes" if n_bytes > SLACK + LZ4_RATIO * size else ""


def _dictionaries(metadata: pq.FileMetaData, schema: pa.Schema) -> list[str]:
    """The columns of texts that are written as numbers and the texts that these stand for."""
    texts = {field.name for field in schema if field.type == pa.string()}
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    found = {chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page}
    return [name for name in schema.names if name in texts & found]


def _repeats_too_much(table: pa.Table, repeated: Collection[str]) -> str:
    """Why texts that are written once would take too much memory; "" if they would not."""
    n_bytes = 0
    for chunk in (chunk for name in repeated for chunk in table[name].chunks):
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64())
        n_bytes += pc.sum(lengths.take(chunk.indices), min_count=0).as_py()
    most = SLACK + CELL * len(table) * len(repeated)
    return f"its texts would unpack to {n_bytes} bytes" if n_bytes > most else ""


def as_frame(table: pa.Table) -> pd.DataFrame:
    """An Arrow table for pandas, whatever it says of itself."""
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def _differs(found: pa.Schema, schema: pa.Schema) -> str:
    """What is other in a schema than it is to be; "" where nothing is."""
    if found.names != schema.names or len(set(found.names)) < len(found.names):
        return f"its columns are {', '.join(map(repr, found.names))[:1000]}"
    for field in schema:
        if not found.field(field.name).equals(field, check_metadata=True):
            return (
                f"its column {field.name!r} holds {found.field(field.name).type}, not {field.type}"
            )
    return "" if not found.metadata else "it tells readers what else to make of its columns"


def _lacks(table: pa.Table) -> str:
    """Which column lacks a value that it must have; "" where none does."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count and not pa.types.is_floating(column.type):
            return f"its column {name!r} lacks {column.null_count} values"
    return ""


def write_csv(table: pd.DataFrame, path: Path, formulas: str = "keep") -> None:
    """Write a table as CSV, see ``write_rows``; a missing value is an empty cell."""
    if table.isna().to_numpy().any():
        table = table.astype(object).where(table.notna(), "")
    # By columns: to go through the rows of a table of texts takes three times as long.
    columns = [table.iloc[:, place].tolist() for place in range(table.shape[1])]
    write_rows(list(table.columns), zip(*columns, strict=True), path, formulas)


def write_rows(
    columns: Sequence[object],
    rows: Iterable[Sequence[object]],
    path: Path,
    formulas: str = "keep",
) -> None:
    r"""Write RFC 4180 CSV: UTF-8, lines that end in ``\n``, a header; every record stays one.

    All tables in CSV are written here. Cells are quoted where a reader needs it, at either kind of
    line end too; what is no Unicode, as half a surrogate pair, is written as ``\udcff``.

    Args:
        columns: the header's cells.
        rows: of as many cells; ``float(text)`` gives a number back to the last bit.
        path: the file.
        formulas: ``keep`` writes cells as they are; ``escape`` puts an apostrophe before what a
            spreadsheet would run, see ``harmless``.

    Raises:
        ConfigError: ``formulas`` is neither.
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
    if len(columns) == 1:  # a line of blanks alone is no record to some readers
        lines[:] = [f'"{line[:-1]}"\n' if line.isspace() else line for line in lines]
    write_bytes("".join(lines).encode(errors="backslashreplace"), path)


def harmless(cell: object) -> object:
    """A cell that no spreadsheet runs: text that it may take for a formula gets an apostrophe.

    Such text starts with ``=``, ``+``, ``-`` or ``@``, in full width or small too, be it after
    blanks, or with a tab or a line's end. Numbers stay numbers.
    """
    if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}" if _FORMULA.match(cell) else cell


class _Lines(list[str]):
    """What ``csv.writer`` writes, a line for each record.

    Only a writer whose lines end in both kinds quotes both before Python 3.13.
    """

    def write(self, line: str) -> None:
        self.append(f"{line[:-2]}\n")
