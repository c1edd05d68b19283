"""The file formats of a run, read and written whole.

This is the only module that knows them. Everything is Parquet, ``.npy`` or JSON: no pickle, and no
CSV between stages (CSV turns the ids ``007``, ``1e5`` and ``NA`` into numbers and blanks).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tokenize
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from dedup.errors import ArtifactError, ConfigError, CorruptError, LockedError
from dedup.visible import visible_json

FORMULAS = ("keep", "escape")
"""What is done with cells that a spreadsheet takes for formulas."""

_FORMULA = re.compile(
    r"[\s\ufeff\x00-\x1f\x7f-\x9f]*[=+@\-\uff1d\uff0b\uff20\uff0d\ufe66\ufe62\ufe6b\ufe63]"
    r"|[ \u3000]*[\t\r\n]"
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_FIRST = ("\ufeff", "PK\x03\x04")
"""A file that starts so is taken for something else: a byte order mark, a ZIP archive."""


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path in the same folder, then move the file into place.

    The bytes are on disk before the name is, so a reader sees the old file or the new one, and
    never a part, even when the process or the machine stops at any moment.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        move(part, path)
    finally:
        part.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Give a file its place in another folder of the same disk, for good once this returns."""
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_table(table: pd.DataFrame, schema: pa.Schema | None, path: Path) -> None:
    """Write a table as Parquet; with a schema, exactly its columns in its types."""
    if schema is None:
        schema = pa.schema([(str(name), pa.string()) for name in table.columns])
    arrow = pa.Table.from_pandas(table[schema.names], schema=schema, preserve_index=False)
    atomically(path, lambda part: pq.write_table(arrow.replace_schema_metadata(None), part))


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet table.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it cannot be read.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: run the stage that writes it again")
    try:
        table: pd.DataFrame = pq.read_table(path).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise CorruptError(f"{path} cannot be read ({error}): run its stage again") from error
    return table


def write_array(array: npt.NDArray[Any], path: Path) -> None:
    """Write an array as ``.npy``.

    Raises:
        ValueError: it holds objects, which only a pickle could keep.
    """
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} holds objects")

    def write(part: Path) -> None:
        with part.open("wb") as file:  # np.save does not say why a disk takes no more
            file.write(array_header(array.shape, array.dtype))
            file.write(np.ascontiguousarray(array).data)

    atomically(path, write)


def array_header(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """What stands in an ``.npy`` file before the values of an array in C order."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


def read_array(path: Path) -> npt.NDArray[Any]:
    """Memory-map an ``.npy`` array, read-only.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it cannot be read, is cut short or holds pickled objects.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: run the stage that writes it again")
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise CorruptError(f"{path} cannot be read ({error}): run its stage again") from error
    return array


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object, see ``json_text``."""
    write_text(json_text(value), path)


def json_text(value: Mapping[str, Any]) -> str:
    """A JSON object, indented as the original experiment's report was."""
    return visible_json(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def write_text(text: str, path: Path) -> None:
    """Write a text file as UTF-8."""
    write_bytes(text.encode(), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file of these bytes."""

    def write(part: Path) -> None:
        part.write_bytes(data)

    atomically(path, write)


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


def in_sorted_order(data: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in random order."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def read_json(path: Path, what: str, advice: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: the file.
        what: what it belongs to, for the message: "an index".
        advice: what to do when it is missing or broken.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it is not a JSON object.
    """
    if not path.is_file():
        raise ArtifactError(f"{path.parent} is not {what} (no {path.name} there): {advice}")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not valid JSON ({error}): {advice}") from error
    if not isinstance(value, dict):
        raise CorruptError(f"{path} holds no JSON object: {advice}")
    return value


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Be the only one who writes into a folder, which is made where there is none.

    The lock is the kernel's, on the file ``lock`` there: it ends with the process, however that
    ends, and the file stays.

    Args:
        folder: where only one may write.
        wait: until others are done.

    Raises:
        LockedError: another process has it, or this one has it already.
        ArtifactError: the folder cannot be written to, or the lock is a link to somewhere else.
    """
    file = folder / "lock"
    lock = FileLock(file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():  # of a folder that was passed on: what it leads to would be emptied
            raise ArtifactError(f"{file} is a link: remove it")
        lock.acquire(blocking=wait)
    except Timeout:
        raise LockedError(
            f"{_holder(file)} writes into {folder} (it holds {file}): wait until it is done (so "
            "does store.wait=true), or stop it"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written to: {error}") from error
    try:
        _sign(file, str(os.getpid()))
        yield
        _sign(file, "")
    finally:
        lock.release()


def _sign(file: Path, text: str) -> None:
    with suppress(OSError):  # a full disk: others then do not learn who it is
        file.write_text(text, encoding="utf-8")


def _holder(file: Path) -> str:
    number = file.read_text(encoding="utf-8").strip()
    return f"process {number}" if number.isdecimal() else "another process"
