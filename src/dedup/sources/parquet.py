"""Read a catalogue from a Parquet file, or from a folder of them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from dedup.errors import SourceError
from dedup.runtime.shortages import pass_on
from dedup.sources.archives import GZIP, ZIP
from dedup.sources.arrow_cells import WHOLE, NoTextError, has_bytes, id_texts, texts, why_not
from dedup.sources.headers import Header
from dedup.sources.kinds import PARQUET
from dedup.sources.layouts import Layout
from dedup.sources.records import Record
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import file_digest, watched
from dedup.sources.tables import TableSource

_BATCH = 2_000
_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_LOG = logging.getLogger("dedup")
_LAKES = {
    "_delta_log/": ("Delta", "deltalake.DeltaTable(path).to_pandas()"),
    ".hoodie/": ("Hudi", "spark.read.format('hudi').load(path)"),
    "metadata/*.metadata.json": ("Iceberg", "StaticTable.from_metadata(path).scan().to_pandas()"),
}
"""Logs of tables whose folder also holds files of rows that were removed, by their pattern: the
format, and what reads it in Python."""

T = TypeVar("T")
_Name = tuple[str, int]  # of a column, and how many of the same name stand before it


@dataclass(frozen=True)
class _File:
    """A file of the table.

    Attributes:
        path: the file.
        columns: its columns, with their types, in their order.
        given: values that its folders name, as in ``brand=Nike/part-0.parquet``.
    """

    path: Path
    columns: Mapping[_Name, pa.DataType]
    given: Mapping[_Name, str]


@dataclass(frozen=True)
class ParquetSource(TableSource):
    """Source that reads a Parquet file, or the Parquet files of a folder and the folders in it.

    Each cell becomes a text: see ``arrow_cells``. Folders such as ``brand=Nike`` are columns.
    Columns of bytes that no setting names are left out.

    Args:
        path: the file or the folder. Files of a folder whose names begin with ``.`` or ``_`` are
            left out; relative paths of images start from it.
        others: see ``TableSource``.
    """

    @property
    def _folder(self) -> Path | str:
        return Path(self.path) if Path(self.path).is_dir() else super()._folder

    def digest(self) -> str:
        """Compute the SHA-256 of the file, or that of the names and contents of a folder's files.

        Raises:
            SourceError: a file cannot be read.
        """
        root = table_path(self.path)
        if not root.is_dir():
            return super().digest()
        lines = (f"{path.relative_to(root)}\0{file_digest(path)}\n" for path in _paths(root))
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()

    def _open(self, act: Callable[[Layout], T]) -> T:
        self._categories()
        root = table_path(self.path)
        with ExitStack() as stack:
            paths = _paths(root)
            for path in paths:
                stack.enter_context(watched(path))
            files = [_described(path, root) for path in paths]
            header, places = self._header(files)
            self._check_types(files, header, places)
            ids = {*header.places(self.id_column)}
            records = (record for file in files for record in _records(file, places, ids))
            return act(Layout(root, header, records, may_shift=False))

    def _header(self, files: Sequence[_File]) -> tuple[Header, dict[_Name, int]]:
        """Join the columns of all files, without those of bytes that no setting names."""
        named = {name.strip() for name in (*self._needed, self.title_column) if name}
        left_out = {
            name: ""
            for file in files
            for name, kind in file.columns.items()
            if has_bytes(kind) and name[0].strip() not in named
        }
        if left_out:
            shown = ", ".join(repr(name) for name, _ in [*left_out][:5])
            _LOG.info("%s: columns of bytes are left out (%s)", self.path, shown)
        every = [name for file in files for name in file.columns]
        every += [name for file in files for name in file.given]
        joined = [*dict.fromkeys(name for name in every if name not in left_out)]
        header = Header.of([name for name, _ in joined])
        return header, {name: place for place, name in enumerate(joined)}

    def _check_types(
        self, files: Sequence[_File], header: Header, places: Mapping[_Name, int]
    ) -> None:
        """Check that each file has the columns that settings name, of types that can serve.

        Raises:
            SourceError: one is missing in a file, or has another type; the message names each.
        """
        roles = {"id": [self.id_column], "url": self._url_columns}
        roles |= {"category": [self.category_column]} if self.categories else {}
        wanted = {
            place: role
            for role, names in roles.items()
            for name in names
            for place in header.places(name)
        }
        wrong: list[str] = []
        for file in files:
            for name, place in places.items():
                if place not in wanted or name in file.given:
                    continue
                if name not in file.columns:
                    wrong.append(f"{file.path} has no column {name[0]!r}, and other files have one")
                    continue
                kind, role = file.columns[name], wanted[place]
                if why := why_not(kind, role):
                    setting = f"source.{role}_column="
                    wrong.append(
                        f"{file.path}: column {name[0]!r} is {str(kind)[:200]}, {why}, or set "
                        f"{setting} to another column"
                    )
                elif role == "id" and kind in WHOLE and file is files[0]:
                    _LOG.info("%s: the ids are floats, and 12.0 is read as 12", file.path)
        if wrong:
            more = f"\nand {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise SourceError("\n".join(wrong[:5]) + more)


def _paths(root: Path) -> list[Path]:
    """List the files of the table, sorted by their paths.

    Raises:
        SourceError: a folder has none, or has files of rows that were removed.
    """
    if not root.is_dir():
        return [root]
    _check_plain(root)
    found = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in PARQUET
        and not any(part.startswith((".", "_")) for part in path.relative_to(root).parts)
    )
    if not found:
        raise SourceError(
            f"{root} holds no Parquet file ({', '.join(PARQUET)}): set source.path= to a file or "
            "a folder of them, or read images with source=folder"
        )
    return found


def _check_plain(root: Path) -> None:
    """Check that all files of a folder are of the table, and not those that a log names alone.

    Raises:
        SourceError: a log is in the folder, in one below it, or in one above it.
    """
    for pattern, (name, call) in _LAKES.items():
        within = root.rglob(pattern)
        above = (found for folder in root.absolute().parents for found in folder.glob(pattern))
        log = next((found for found in chain(within, above) if found.exists()), None)
        if log is not None:
            raise SourceError(
                f"{root} is of a table of {name} ({log}), whose folder also holds files of rows "
                "that were changed or removed since: write the rows it has now into one Parquet "
                f"file, such as with {call}, and set source.path= to that"
            )


def _described(path: Path, root: Path) -> _File:
    """Read the columns of a file, and the values that its folders name."""
    with _opened(path) as file:
        schema = file.schema_arrow
    n_before: Counter[str] = Counter()
    columns: dict[_Name, pa.DataType] = {}
    for field in schema:
        columns[field.name, n_before[field.name]] = field.type
        n_before[field.name] += 1
    given: dict[_Name, str] = {}
    for part in path.relative_to(root).parts[:-1]:
        name, sign, value = part.partition("=")
        if sign and (name, 0) not in columns:
            given[unquote(name), 0] = "" if value == _NO_VALUE else unquote(value)
    return _File(path, columns, given)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file, and turn its errors into a ``SourceError``."""
    with path.open("rb") as start:
        head = start.read(4)
    if head != _MAGIC:
        if head.startswith((GZIP, ZIP)):
            raise SourceError(
                f"{path} is an archive, and Parquet is read as it is (its columns are compressed "
                "already): unpack it and set source.path= to the Parquet file"
            )
        what = "is encrypted" if head == _ENCRYPTED else "is no Parquet file"
        what = what if head else "is empty"
        raise SourceError(
            f"{path} {what}: set source.path= to a Parquet file, or choose source=csv or "
            "source=jsonl for a table of text"
        )
    try:
        with (
            pa.OSFile(os.fspath(path)) as data,
            pq.ParquetFile(data, buffer_size=2**16, page_checksum_verification=True) as file,
        ):
            yield file
    except (pa.ArrowException, OSError) as error:
        pass_on(error, path)
        why = str(error).partition("\n")[0][:200]
        raise SourceError(
            f"{path} is cut off or damaged ({why}): copy or download it again"
        ) from error


def _records(file: _File, places: Mapping[_Name, int], ids: set[int]) -> Iterator[Record]:
    """Yield the records of a file.

    Args:
        file: the file.
        places: positions of the columns in a record.
        ids: positions of the ids.
    """
    kept = [name for name in file.columns if name in places]
    n_rows = 0
    with _opened(file.path) as parquet:
        columns = [*dict.fromkeys(name for name, _ in kept)]
        for batch in parquet.iter_batches(_BATCH, columns=columns):
            cells = [[""] * len(batch)] * len(places)
            for name, value in file.given.items():
                cells[places[name]] = [value] * len(batch)
            for name, array in zip(kept, batch.columns, strict=True):
                convert = id_texts if places[name] in ids else texts
                try:
                    cells[places[name]] = convert(array)
                except NoTextError as error:
                    raise SourceError(
                        f"{file.path}: column {name[0]!r} of record {n_rows + error.row} (from 0) "
                        f"{error.what}"
                    ) from error
            n_rows += len(batch)
            yield from (Record([*row]) for row in zip(*cells, strict=True))
