"""Write and read the shards of a store: pixels, previews and a table of some hundred addresses.

A shard has five files. ``shard-00000.npy`` holds the pixels of its images, (n, 3, 200, 100) uint8.
``shard-00000.details.npy`` holds their previews: JPEGs end to end. ``shard-00000.parquet`` has a
row for each address with its digests, its status and its place in both.
``shard-00000.copy.parquet`` is the same table again. ``shard-00000.json`` has the checksums: size
and SHA-256 of the others, and the content of the store's manifest. They are written in the order
pixels, previews, copy, table, checksums.

A shard without checksums was cut off and is made again. Where its table and the copy are equal,
the other files are whole, and the checksums alone are written again.

Arrays computed from its images may lie beside them, see ``dedup.store.derived_arrays``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.download.validators import UNKNOWN, Validators
from dedup.errors import ArtifactError, CorruptError, DecodeError
from dedup.runtime.checksums import SHARD_SUFFIXES, checked_text, parse_checked
from dedup.runtime.files import (
    read_array,
    sha256_file,
    write_array,
    write_bytes,
    write_text,
)
from dedup.runtime.invocation import command
from dedup.runtime.tables import read_table, write_table
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import Decoded, decode_preview

FORMAT = 4
"""Format of a store: raised when a reader of the old layout would misread the new one."""


ENTRIES = pa.schema(
    [
        ("url", pa.string()),
        ("version", pa.string()),  # of the file, and of settings that it failed by
        ("sha256_bytes", pa.string()),
        ("sha256_pixels", pa.string()),
        ("sha256_detail", pa.string()),  # of the preview's JPEG; "" where it failed
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("contrast", pa.float32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("row", pa.int64()),  # among the shard's pixels; -1 where it failed
        ("detail_start", pa.int64()),  # among the bytes of the shard's previews
        ("detail_length", pa.int32()),  # in bytes; 0 where it failed
    ]
)
PLACE = ["row", "detail_start", "detail_length"]
PIXELS, DETAILS, TABLE = SHARD_SUFFIXES
COPY, SEAL = "copy.parquet", "json"
"""Endings of the names of a shard's files."""
NAME = re.compile(
    r"shard-(\d{5,})\.(npy|details\.npy|parquet|copy\.parquet|json|[a-z]+-[0-9a-f]{16}\.npy)"
)
"""Names of a shard's files: its number and the ending; the last is of a derived array."""
OUTDATED = re.compile(r"shard-\d{5,}\.(?:words|masks|framed)-[0-9a-f]{8}\.npy")
"""Names of derived arrays by earlier versions, which say too little of their settings; not read."""
OPEN_ARRAYS = 64
"""Maximum number of mapped files: each holds a descriptor, and some systems allow only 256."""


def advice(path: Path) -> str:
    """Write the step that mends a damaged store, for an error message."""
    if not path.is_dir():
        return f"the whole store is gone: put it back, or make it again with {command('cluster')}"
    return f"run {command('check')} repair=true store.path={path}"


def lacking(path: Path) -> ArtifactError:
    """Make the error for an image that the store lacks, or for a missing store."""
    again = f"run {command('cluster')} again, which reads missing images"
    if not path.is_dir():
        where = f"at {path}: put it back there, or beside the index"
        return ArtifactError(f"there is no store of images {where}, or {again}")
    return ArtifactError(f"the store {path} lacks an image of the index: {again}")


def described(reader: str) -> dict[str, Any]:
    """Return the content of a store's manifest, as its checksum files repeat it."""
    return {"format": FORMAT, "reader": reader, "image_shape": list(IMAGE_SHAPE)}


@dataclass(frozen=True)
class Loaded:
    """Result of reading one address.

    Attributes:
        entry: row of ``ENTRIES``; ``PLACE`` and ``sha256_detail`` are filled in when written.
        image: ``None`` where it failed, or where the store's stays.
        validators: what a web address sent to recognise the image by.
        is_kept: whether what the store has of the address stays; ``entry`` says why.
    """

    entry: dict[str, Any]
    image: Decoded | None
    validators: Validators = UNKNOWN
    is_kept: bool = False


class Shards:
    """Shards in a folder.

    Args:
        path: the folder.
        manifest: content of the store's manifest, for the checksum files.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._arrays: dict[Path, npt.NDArray[Any]] = {}
        self._located: dict[int, tuple[npt.NDArray[np.int64], list[str]]] = {}

    def write(
        self, shard: int, loaded: Sequence[Loaded], derived: Mapping[str, bytes] | None = None
    ) -> None:
        """Write one shard, its checksums last: only these make it part of the store.

        Args:
            shard: its number.
            loaded: its rows.
            derived: files of values that were computed while reading, by their ending.
        """
        for ending in (SEAL, TABLE, COPY):  # of one that was cut off
            self.file(shard, ending).unlink(missing_ok=True)
        pixels: list[npt.NDArray[np.uint8]] = []
        previews = bytearray()
        entries = []
        for image, entry in ((reading.image, reading.entry) for reading in loaded):
            place, digest = (-1, 0, 0), ""
            if image is not None:
                place = (len(pixels), len(previews), len(image.detail))
                digest = hashlib.sha256(image.detail).hexdigest()
                pixels.append(image.pixels)
                previews += image.detail
            placed = dict(zip(PLACE, place, strict=True), sha256_detail=digest)
            entries.append(entry | placed)
        stacked = np.stack(pixels) if pixels else np.empty((0, *IMAGE_SHAPE), np.uint8)
        write_array(stacked, self.file(shard, PIXELS))
        write_array(np.frombuffer(previews, np.uint8), self.file(shard, DETAILS))
        for ending, data in (derived or {}).items():
            write_bytes(data, self.file(shard, ending))
        table = pd.DataFrame(entries, columns=ENTRIES.names)
        write_table(table, ENTRIES, self.file(shard, COPY))
        write_bytes(self.file(shard, COPY).read_bytes(), self.file(shard, TABLE))
        self.seal(shard)

    def seal(self, shard: int) -> None:
        """Write the checksums of a shard's files as they are now."""
        facts = {}
        for ending in SHARD_SUFFIXES:
            file = self.file(shard, ending)
            facts[ending] = {"size": file.stat().st_size, "sha256": sha256_file(file)}
        content = {"shard": shard, "files": facts, "store": dict(self.manifest or {})}
        write_text(checked_text(content), self.file(shard, SEAL))

    def sealed(self, shard: int) -> dict[str, Any]:
        """Read the checksums of a shard: ``shard``, ``files`` and ``store``.

        Raises:
            CorruptError: the file is missing, or damaged.
        """
        file = self.file(shard, SEAL)
        try:
            content = parse_checked(file.read_bytes(), shard)
        except FileNotFoundError:
            raise CorruptError(f"{file} is missing: {advice(self.path)}") from None
        if content is None:
            raise CorruptError(f"{file} is not what was written: {advice(self.path)}")
        return content

    def present(self) -> dict[int, list[str]]:
        """List the endings of existing files by shard, both in order."""
        endings: dict[int, list[str]] = {}
        for file in self.path.glob("shard-*"):
            name = NAME.fullmatch(file.name)
            if name and file.is_file():  # no pipe, which would block
                endings.setdefault(int(name[1]), []).append(name[2])
        return {shard: sorted(endings[shard]) for shard in sorted(endings)}

    def committed(self) -> list[int]:
        """List the shards of the store in order, damaged ones too.

        Shards at the end that were cut off are no part of it.
        """
        return [
            shard
            for shard, endings in self.present().items()
            if SEAL in endings or ({TABLE, COPY} <= set(endings) and self._are_equal(shard))
        ]

    def entries(self) -> pd.DataFrame:
        """Read the tables of all shards in their order, with a column ``shard``.

        Raises:
            CorruptError: a shard or a file of one is missing; a table cannot be read, has other
                columns or is damaged.
        """
        shards = self.committed()
        for expected, shard in enumerate(shards):
            if shard != expected:
                missing = self.path / f"shard-{expected:05}"
                raise CorruptError(f"{missing} is missing, not the last: {advice(self.path)}")
        tables = [self._table(shard).assign(shard=shard) for shard in shards]
        empty = ENTRIES.empty_table().to_pandas().assign(shard=np.int64())
        return pd.concat(tables) if tables else empty

    def pixels(self, shard: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Read the pixels at some rows of a shard, (n, 3, 200, 100) uint8.

        They are read, not mapped: with a store larger than the memory, mapping makes the system
        read around each image, and drop pages that are needed.

        Raises:
            CorruptError: the file is missing, cannot be read, or holds fewer images than its
                table says.
        """
        file = self.file(shard, PIXELS)
        pixels = self.array(file)
        n_rows = rows.max() + 1
        if pixels.shape[1:] != IMAGE_SHAPE or pixels.dtype != np.uint8 or len(pixels) < n_rows:
            raise CorruptError(
                f"{file} holds {pixels.dtype} of shape {pixels.shape}, not {n_rows} images or "
                f"more: {advice(self.path)}"
            )
        chosen = np.empty((len(rows), *IMAGE_SHAPE), np.uint8)
        size, start = chosen[0].nbytes, file.stat().st_size - pixels.nbytes
        with file.open("rb", buffering=0) as opened:
            for image, row in zip(chosen, rows.tolist(), strict=True):
                if os.preadv(opened.fileno(), [image.data], start + row * size) != size:
                    raise CorruptError(f"{file} was cut off while it was read: {advice(self.path)}")
        return chosen

    def detail(self, shard: int, row: int) -> npt.NDArray[np.uint8]:
        """Read the preview at one row of a shard, (h, w, 3) uint8 RGB.

        Raises:
            ArtifactError: the row is -1.
            CorruptError: a file is missing, cannot be read or is too short, or the bytes of the
                preview are damaged.
        """
        if row < 0:
            raise lacking(self.path)
        file = self.file(shard, DETAILS)
        details, (spans, digests) = self.array(file), self._places(shard)
        whole = details.ndim == 1 and details.dtype == np.uint8 and row < len(spans)
        if not whole or spans[row, 1] > len(details):
            raise CorruptError(
                f"{file} holds {details.dtype} of shape {details.shape}, not detail {row} that "
                f"its table names: {advice(self.path)}"
            )
        start, end = spans[row]
        jpeg = details[start:end].tobytes()
        if hashlib.sha256(jpeg).hexdigest() != digests[row]:
            raise CorruptError(f"{file}: detail {row} is broken: {advice(self.path)}")
        try:
            return decode_preview(jpeg)
        except DecodeError as error:
            message = f"{file}: detail {row} is no JPEG ({error}): {advice(self.path)}"
            raise CorruptError(message) from error

    def size(self, shard: int) -> int:
        """Count the images of a shard by its table.

        Raises:
            CorruptError: the table is missing, cannot be read, or names impossible places.
        """
        return len(self._places(shard)[0])

    def preview_digests(self, shard: int) -> list[str]:
        """Return the digests of a shard's previews, in the order of rows.

        Raises:
            CorruptError: as in ``size``.
        """
        return self._places(shard)[1]

    def array(self, file: Path) -> npt.NDArray[Any]:
        """Map a file into memory; beyond ``OPEN_ARRAYS`` the one mapped longest ago is let go.

        Raises:
            CorruptError: the file is missing, or cannot be read.
        """
        array = self._arrays.get(file)
        if array is None:
            if len(self._arrays) >= OPEN_ARRAYS:
                oldest, *_ = list(self._arrays)  # at once: other threads may add to them
                self._arrays.pop(oldest, None)
            try:
                array = self._arrays[file] = read_array(file)
            except ArtifactError as error:
                how = "cannot be read" if file.is_file() else "is missing"
                raise CorruptError(f"{file} {how}: {advice(self.path)}") from error
        return array

    def forget(self, file: Path) -> None:
        """Let go of a mapped file that was written anew."""
        self._arrays.pop(file, None)

    def file(self, shard: int, ending: str) -> Path:
        """Return the path of one of a shard's files, whether it exists or not."""
        return self.path / f"shard-{shard:05}.{ending}"

    def _are_equal(self, shard: int) -> bool:
        """Tell whether a shard's table is confirmed by its copy."""
        table, copy = (self.file(shard, ending).read_bytes() for ending in (TABLE, COPY))
        return table == copy

    def _table(self, shard: int) -> pd.DataFrame:
        file = self.file(shard, TABLE)
        if self.file(shard, SEAL).is_file() or not file.is_file():
            self._check(shard)
        return read_table(file, ENTRIES, advice(self.path))

    def _check(self, shard: int) -> None:
        """Compare a shard's files with its checksums: their sizes, and the table's digest."""
        for ending, facts in self.sealed(shard)["files"].items():
            file = self.file(shard, ending)
            if not file.is_file():
                raise CorruptError(f"{file} is missing: {advice(self.path)}")
            size = file.stat().st_size
            if size != facts["size"]:
                expected = f"{size} bytes, not {facts['size']}"
                raise CorruptError(f"{file} holds {expected}: {advice(self.path)}")
            if ending == TABLE and (digest := sha256_file(file)) != facts["sha256"]:
                expected = f"SHA-256 {digest[:12]}, not {facts['sha256'][:12]}"
                raise CorruptError(f"{file} has {expected}: {advice(self.path)}")

    def _places(self, shard: int) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Return the starts and ends of a shard's previews, (n, 2), and their digests."""
        if shard not in self._located:
            self._located[shard] = self._read_places(shard)
        return self._located[shard]

    def _read_places(self, shard: int) -> tuple[npt.NDArray[np.int64], list[str]]:
        table = self._table(shard)
        images = table[table["row"] >= 0].sort_values("row")
        row, start, length = images[PLACE].to_numpy(np.int64).T
        if (row != np.arange(len(row))).any() or (np.minimum(start, length) < 0).any():
            file = self.file(shard, TABLE)
            raise CorruptError(f"{file} names places that cannot be: {advice(self.path)}")
        spans = np.stack([start, start + length], axis=1)
        return spans, images["sha256_detail"].tolist()
