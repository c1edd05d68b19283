"""Columns of Parquet files that hold images as bytes, and the images in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from dedup.sources.arrow_cells import is_bytes, is_text, plain_type
from dedup.sources.image_formats import image_format

BATCH_BYTES, MAX_BATCH_BYTES, MAX_ROWS = 2**22, 2**26, 2_000
"""Bytes of images that are read at a time, as a rule and at most where images are repeated; rows.
An image that is larger is read alone."""
_SAMPLE, _START = 32, 4096
"""Number of values, and bytes of each, that tell whether bytes are images or texts."""
_BYTES, _NAMES = "bytes", ("path", "url", "src")
_LISTS = (types.is_list, types.is_large_list, types.is_fixed_size_list)


@dataclass(frozen=True)
class ImageShape:
    """How a column holds images.

    Attributes:
        is_list: whether a cell is a list of images.
        field: field of an object that has the bytes, as in ``struct<bytes, path>``; "" for bytes.
        name: field of the object with a path or an address, for a cell without bytes; "" for none.
    """

    is_list: bool
    field: str = ""
    name: str = ""


def image_shape(kind: pa.DataType) -> ImageShape | None:
    """Tell how a column of a type may hold images; ``None`` if it cannot."""
    plain = plain_type(kind)
    is_list = any(test(plain) for test in _LISTS)
    plain = plain_type(plain.value_type) if is_list else plain
    if is_bytes(plain):
        return ImageShape(is_list)
    if not types.is_struct(plain):
        return None
    fields = [plain.field(at) for at in range(plain.num_fields)]
    several = [field.name for field in fields if is_bytes(plain_type(field.type))]
    own = _BYTES if _BYTES in several else several[0] if len(several) == 1 else ""
    texts = {field.name for field in fields if is_text(field.type)}
    named = next((name for name in _NAMES if name in texts and name != own), "")
    return ImageShape(is_list, own, named) if own else None


@dataclass(frozen=True)
class ImageColumn:
    """A column of images of an open Parquet file.

    Args:
        file: the file.
        name: of the column, of which there is but one.
        shape: how it holds images.
    """

    file: pq.ParquetFile
    name: str
    shape: ImageShape

    @classmethod
    def of(cls, file: pq.ParquetFile, name: str) -> ImageColumn | None:
        """Find a column; ``None`` if the file has none of the name, or one without images."""
        schema = file.schema_arrow
        at = schema.get_field_index(name)
        shape = None if at < 0 else image_shape(schema.field(at).type)
        return None if shape is None else cls(file, name, shape)

    @property
    def leaf(self) -> int:
        """Number of the column of bytes among those that Parquet stores."""
        schema = self.file.schema
        paths = [schema.column(at).path for at in range(len(schema))]
        inside = f"{self.name}."
        return next(
            at
            for at, path in enumerate(paths)
            if path == self.name
            or (
                path.startswith(inside)
                and (not self.shape.field or path.endswith(f".{self.shape.field}"))
            )
        )

    def is_full(self, group: int) -> bool:
        """Tell, without a look at the images, that each cell of a row group has one."""
        facts = self.file.metadata.row_group(group).column(self.leaf).statistics
        return (
            not self.shape.is_list
            and facts is not None
            and facts.has_null_count
            and facts.null_count == 0
        )

    def rows_at_once(self, group: int) -> int:
        """Choose how many rows of a row group to read at a time, by their mean size.

        A dictionary has an image once that many cells repeat, so its size counts for each of them.
        """
        facts = self.file.metadata.row_group(group)
        chunk = facts.column(self.leaf)
        mean = chunk.total_uncompressed_size / max(1, facts.num_rows)
        n = min(MAX_ROWS, BATCH_BYTES // max(1, int(mean)))
        if chunk.has_dictionary_page:
            size = chunk.data_page_offset - chunk.dictionary_page_offset
            n = min(n, MAX_BATCH_BYTES // max(1, size))
        return max(1, n)

    def batches(self, group: int, *, has_names: bool = False) -> Iterator[pa.Array]:
        """Read the cells of a row group, some at a time.

        Args:
            group: number of the row group.
            has_names: whether the paths beside the bytes are read, too.
        """
        path = self.file.schema.column(self.leaf).path
        column = self.name if has_names else path
        rows = self.rows_at_once(group)
        for batch in self.file.iter_batches(rows, row_groups=[group], columns=[column]):
            yield storage_of(batch.column(batch.schema.get_field_index(self.name)))

    def image(self, cells: pa.Array, at: int, item: int | None) -> pa.Buffer | None:
        """Return the bytes of an image; ``None`` where there is none.

        Args:
            cells: read by ``batches``.
            at: number of the cell.
            item: number of the image in its list.
        """
        cell: pa.Scalar = cells[at]
        if self.shape.is_list:
            if item is None or not cell.is_valid or item >= len(cell):
                return None
            cell = cell[item]
        if isinstance(cell, pa.ExtensionScalar):
            cell = cell.value
        if self.shape.field and cell.is_valid:
            cell = cell[self.shape.field]
        if isinstance(cell, pa.DictionaryScalar):
            cell = cell.value
        return cell.as_buffer() if cell.is_valid else None


def storage_of(array: pa.Array) -> pa.Array:
    """Return the array that an extension type stores."""
    return storage_of(array.storage) if isinstance(array, pa.ExtensionArray) else array


def holds_images(column: ImageColumn) -> bool | None:
    """Tell by its first values whether a column holds images.

    Objects of bytes are images. Bytes are, unless the first of them are texts in UTF-8.

    Returns:
        ``None`` if it has no value.
    """
    seen: list[bytes] = []
    for group in range(column.file.num_row_groups):
        facts = column.file.metadata.row_group(group)
        known = facts.column(column.leaf).statistics
        if known is not None and known.has_null_count and known.null_count == facts.num_rows:
            continue
        for cells in column.batches(group):
            seen += _values(column, cells, _SAMPLE - len(seen))
            if len(seen) >= _SAMPLE:
                break
        if len(seen) >= _SAMPLE:
            break
    if not seen:
        return None
    return any(map(image_format, seen)) or not all(map(_is_text, seen))


def has_known_images(column: ImageColumn) -> bool:
    """Tell whether one of the first values of a column is an image by its first bytes."""
    for group in range(min(column.file.num_row_groups, _SAMPLE)):
        for cells in column.batches(group):
            if values := _values(column, cells, _SAMPLE):
                return any(map(image_format, values))
    return False


def _values(column: ImageColumn, cells: pa.Array, n: int) -> list[bytes]:
    """Return the starts of the first values that are not empty."""
    found: list[bytes] = []
    for at in range(len(cells)):
        if len(found) >= n:
            break
        for item in _items(column, cells[at]):
            value = column.image(cells, at, item)
            if value is not None and value.size:
                found.append(value[:_START].to_pybytes())
    return found


def _is_text(value: bytes) -> bool:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:  # a sign may be cut off at the end
        return error.start > len(value) - 4 and len(value) == _START
    return "\0" not in text


def cell_texts(column: ImageColumn, cells: pa.Array) -> list[list[tuple[int | None, str]]]:
    """List what stands in each cell: images and names.

    Args:
        column: the column.
        cells: read by ``batches`` with names.

    Returns:
        For each cell the items that are there: the number in its list, and "" for an image, or
        the path or address of one without bytes.
    """
    return [
        [one for item in _items(column, cells[at]) for one in _entries(column, cells, at, item)]
        for at in range(len(cells))
    ]


def _items(column: ImageColumn, cell: pa.Scalar) -> Sequence[int | None]:
    """Return the numbers of the images in a cell's list; ``None`` for a cell that is no list."""
    if not column.shape.is_list:
        return [None]
    return range(len(cell)) if cell.is_valid else []


def _entries(
    column: ImageColumn, cells: pa.Array, at: int, item: int | None
) -> list[tuple[int | None, str]]:
    if column.image(cells, at, item) is not None:
        return [(item, "")]
    if not column.shape.name:
        return []
    cell = cells[at] if item is None else cells[at][item]
    value = cell.as_py()
    name = value.get(column.shape.name) if isinstance(value, dict) else None
    name = name.decode(errors="surrogateescape") if isinstance(name, bytes) else name
    return [(item, name)] if name and name.strip() else []
