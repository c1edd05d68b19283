"""Read a catalogue from a Parquet file, or from a folder of them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from dedup.download.buckets import is_bucket
from dedup.errors import SourceError
from dedup.runtime.shortages import pass_on
from dedup.sources.archives import GZIP, ZIP
from dedup.sources.arrow_cells import WHOLE, NoTextError, has_bytes, id_texts, texts, why_not
from dedup.sources.catalogue import Catalogue
from dedup.sources.cells import cell_address, column_address, is_cell
from dedup.sources.headers import Header
from dedup.sources.image_columns import (
    ImageColumn,
    cell_texts,
    has_known_images,
    holds_images,
    image_shape,
    storage_of,
)
from dedup.sources.kinds import PARQUET
from dedup.sources.layouts import Layout
from dedup.sources.paths import ImageFolder
from dedup.sources.records import Record
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import AUTO, file_digest, watched
from dedup.sources.tables import TableSource

_BATCH = 2_000
_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
ROW = "row"
"""Column with the number of each row, where ``id_column`` names it and the table has none."""
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
        prefix: of the numbers of its rows; "" where it is the only file.
    """

    path: Path
    columns: Mapping[_Name, pa.DataType]
    given: Mapping[_Name, str]
    prefix: str


@dataclass(frozen=True)
class ParquetSource(TableSource):
    """Source that reads a Parquet file, or the Parquet files of a folder and the folders in it.

    Each cell becomes a text: see ``arrow_cells``. Folders such as ``brand=Nike`` are columns.
    An image in a cell becomes its address, see ``cells``. Columns of bytes that no setting names
    are left out.

    Args:
        path: the file or the folder. Files of a folder whose names begin with ``.`` or ``_`` are
            left out; relative paths of images start from it.
        id_column: see ``TableSource``; ``row`` numbers the rows of a table that has no such column,
            after the name of their file in a folder.
        image_column: column, or several, with images as bytes, as ``struct<bytes, path>`` or as
            lists of these. They come before the addresses of ``url_column``, which serve where a
            cell is empty or its image fails. ``auto`` for the only such column of a table without
            the usual column of addresses; ``None`` for none. A column of images that
            ``url_column`` names is one, too.
        others: see ``TableSource``.
    """

    image_column: str | Sequence[str] | None = AUTO

    def read(self) -> Catalogue:
        """Read the table, see ``TableSource.read``."""
        source = self._resolved()
        return source._open(source._read)

    def check(self) -> list[str]:
        """Check the settings and the columns, see ``TableSource.check``."""
        source = self._resolved()
        return source._open(source._check)

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
            files = self._files(root, stack)
            header, places = self._header(files)
            self._check_types(files, header, places)
            roles = _Roles(places, {*header.places(self.id_column)}, {*self._images})
            records = (record for file in files for record in _records(file, roles))
            return act(Layout(root, header, records, may_shift=False))

    def _files(self, root: Path, stack: ExitStack) -> list[_File]:
        """Describe the files of the table, and watch them until the stack is closed."""
        paths = _paths(root)
        for path in paths:
            stack.enter_context(watched(path))
        return [_described(path, root) for path in paths]

    def _resolved(self) -> ParquetSource:
        """Find the columns of images, and count them among those with addresses.

        Raises:
            SourceError: there are several, or none of the name, or its type holds none.
        """
        self._categories()
        with ExitStack() as stack:
            files = self._files(table_path(self.path), stack)
            images = self._image_columns(files)
        urls = [name for name in self._url_columns if name not in images]
        if images and urls == [ParquetSource.url_column] and not _have(files, urls[0]):
            urls = []
        return replace(self, url_column=[*images, *urls], image_column=images)

    def _image_columns(self, files: Sequence[_File]) -> list[str]:
        named = [self.image_column] if isinstance(self.image_column, str) else self.image_column
        if named == [AUTO]:
            named = [
                name
                for name in self._url_columns
                if any(has_bytes(kind) for kind in _kinds(files, name))
                and _hold_images(files, name)
            ]
            if named or self.url_column != ParquetSource.url_column:
                return named
            return [] if _have(files, self._url_columns[0]) else self._only_images(files)
        for name in named or []:
            self._check_image_column(files, name)
        return [*dict.fromkeys(named or [])]

    def _only_images(self, files: Sequence[_File]) -> list[str]:
        """Find the column of images in a table without a column of addresses."""
        taken = {self.id_column, self.title_column, self.category_column}
        names = dict.fromkeys(name for file in files for name, _ in file.columns)
        found = [name for name in names if name not in taken and _have_known_images(files, name)]
        if len(found) > 1:
            shown = " and ".join(map(repr, found[:5]))
            raise SourceError(
                f"{self.path} has no column {ParquetSource.url_column!r}, and images in columns "
                f"{shown}: set source.image_column= to one of them, or to a list such as "
                f"[{','.join(found[:2])}]"
            )
        if found:
            _LOG.info(
                "%s: images are read from column %r, as source.image_column=%s says",
                self.path, found[0], found[0],
            )  # fmt: skip
        return found

    def _check_image_column(self, files: Sequence[_File], name: str) -> None:
        kinds = _kinds(files, name)
        if not kinds:
            columns = dict.fromkeys(repr(one) for file in files for one, _ in file.columns)
            raise SourceError(
                f"{self.path} has no column {name!r}: set source.image_column= to one of its "
                f"columns, {', '.join(columns)[:1000]}"
            )
        if any((name, 1) in file.columns for file in files):
            raise SourceError(
                f"{self.path} names {name!r} more than once: give each column a name of its own"
            )
        if not any(image_shape(kind) for kind in kinds):
            raise SourceError(
                f"{self.path}: column {name!r} is {str(kinds[0])[:200]}, which holds no images: "
                "write them as bytes, as struct<bytes, path> or as lists of these, or set "
                "source.image_column= to another column"
            )

    @property
    def _images(self) -> Sequence[str]:
        """Columns of images, once they are found."""
        named = self.image_column
        return [] if named is None or isinstance(named, str) else named

    def _image_folder(self) -> ImageFolder:
        root = table_path(self.path) if self._images else Path(self.path)
        files = _paths(root) if self._images else []
        own = [column_address(_place(file), name) for file in files for name in self._images]
        folder = super()._image_folder()
        return _TableFolder(folder.path, folder.base_url, frozenset(own))

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
            _LOG.info(
                "%s: columns of bytes are left out (%s); source.image_column= reads images from "
                "them", self.path, shown,
            )  # fmt: skip
        every = [name for file in files for name in file.columns]
        every += [name for file in files for name in file.given]
        every += [(ROW, 0)] if self.id_column == ROW else []
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
                if name[0] in self._images and _is_image(file, name):
                    continue
                if name not in file.columns:
                    if name == (ROW, 0) and not _have(files, ROW):
                        continue
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
    with opened(path) as file:
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
    prefix = f"{path.relative_to(root)}/" if path != root else ""
    return _File(path, columns, given, prefix)


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
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


@dataclass(frozen=True)
class _Roles:
    """Columns by what they are for.

    Attributes:
        places: position of each column in a record.
        ids: positions of the ids.
        images: names of the columns of images.
    """

    places: Mapping[_Name, int]
    ids: Set[int]
    images: Set[str]


class _TableFolder(ImageFolder):
    """Folder of a table, whose own images have addresses, too; other tables' have not.

    Args:
        path: see ``ImageFolder``.
        base_url: see ``ImageFolder``.
        own: addresses of the table's columns of images.
    """

    def __init__(self, path: str, base_url: str, own: Set[str]) -> None:
        super().__init__(path, base_url)
        self._own = own

    def locate(self, address: str) -> tuple[str, str]:
        if is_cell(address) and self._is_own(address):
            return address, ""
        return super().locate(address)

    def _is_own(self, address: str) -> bool:
        column, _, rest = address.partition("#")
        return f"{column}#{rest.partition('/')[0]}" in self._own


def _place(path: Path) -> str:
    """Return the absolute path of a file, or its address in object storage."""
    return str(path) if is_bucket(str(path)) else os.path.realpath(path)


def _have(files: Sequence[_File], name: str) -> bool:
    return any((name, 0) in file.columns or (name, 0) in file.given for file in files)


def _kinds(files: Sequence[_File], name: str) -> list[pa.DataType]:
    """List the types of a column in the files that have it."""
    return [file.columns[name, 0] for file in files if (name, 0) in file.columns]


def _is_image(file: _File, name: _Name) -> bool:
    return name in file.columns and image_shape(file.columns[name]) is not None


def _hold_images(files: Sequence[_File], name: str) -> bool:
    """Tell by the first values of a column of bytes whether they are images; no texts."""
    for file in files:
        if _is_image(file, (name, 0)) and (name, 1) not in file.columns:
            with opened(file.path) as parquet:
                column = ImageColumn.of(parquet, name)
                holds = None if column is None else holds_images(column)
            if holds is not None:
                return holds
    return False


def _have_known_images(files: Sequence[_File], name: str) -> bool:
    """Tell by the first values of a column whether it holds images of known formats."""
    for file in files:
        if _is_image(file, (name, 0)) and (name, 1) not in file.columns:
            with opened(file.path) as parquet:
                column = ImageColumn.of(parquet, name)
                if column is not None and has_known_images(column):
                    return True
    return False


def _records(file: _File, roles: _Roles) -> Iterator[Record]:
    """Yield the records of a file."""
    with opened(file.path) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            yield from _of_group(file, roles, parquet, group, first)
            first += parquet.metadata.row_group(group).num_rows


def _of_group(
    file: _File, roles: _Roles, parquet: pq.ParquetFile, group: int, first: int
) -> Iterator[Record]:
    """Yield the records of a row group, whose first row has a number."""
    places = roles.places
    images = {
        name: column
        for name in file.columns
        if name[0] in roles.images and (column := ImageColumn.of(parquet, name[0])) is not None
    }
    full = {name for name, column in images.items() if column.is_full(group)}
    kept = [name for name in file.columns if name in places and name not in full]
    columns = [*dict.fromkeys(name for name, _ in kept)]
    n_rows = min([_BATCH, *(images[name].rows_at_once(group) for name in images.keys() - full)])
    for batch in _batches(parquet, group, columns, n_rows):
        cells = [[""] * len(batch)] * len(places)
        for name, value in file.given.items():
            cells[places[name]] = [value] * len(batch)
        rows = range(first, first + len(batch))
        if (ROW, 0) in places and (ROW, 0) not in file.columns:
            cells[places[ROW, 0]] = [f"{file.prefix}{row}" for row in rows]
        for name in full:
            address = column_address(_place(file.path), name[0])
            cells[places[name]] = [cell_address(address, row) for row in rows]
        for name, array in zip(kept, batch.columns, strict=True):
            if name in images:
                address = column_address(_place(file.path), name[0])
                cells[places[name]] = _image_texts(images[name], array, address, first)
                continue
            convert = id_texts if places[name] in roles.ids else texts
            try:
                cells[places[name]] = convert(array)
            except NoTextError as error:
                raise SourceError(
                    f"{file.path}: column {name[0]!r} of record {first + error.row} (from 0) "
                    f"{error.what}"
                ) from error
        first += len(batch)
        yield from (Record([*row]) for row in zip(*cells, strict=True))


def _batches(
    parquet: pq.ParquetFile, group: int, columns: Sequence[str], n_rows: int
) -> Iterator[pa.RecordBatch]:
    """Read columns of a row group; without any, batches that have a length alone."""
    if columns:
        yield from parquet.iter_batches(n_rows, row_groups=[group], columns=[*columns])
        return
    n_left = parquet.metadata.row_group(group).num_rows
    while n_left:
        n = min(n_rows, n_left)
        yield pa.RecordBatch.from_struct_array(pa.array([{}] * n, pa.struct([])))
        n_left -= n


def _image_texts(column: ImageColumn, array: pa.Array, address: str, first: int) -> list[str]:
    """Write the images of cells as their addresses, and what stands there instead as it is."""
    found: list[str] = []
    for row, entries in enumerate(cell_texts(column, storage_of(array)), first):
        parts = [name or cell_address(address, row, item) for item, name in entries]
        found.append(parts[0] if len(parts) == 1 else json.dumps(parts) if parts else "")
    return found
