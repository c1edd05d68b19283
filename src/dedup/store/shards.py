"""The files of a store: pixels, details and a table for every so many addresses.

A shard is ``shard-00000.npy``, the pixels of its images, (n, 3, 200, 100) uint8;
``shard-00000.details.npy``, their details, JPEGs end to end; ``shard-00000.parquet``, one row for
each address with its digests, status and place in both; ``shard-00000.copy.parquet``, the same
table again; and ``shard-00000.json``, its seal: size and SHA-256 of the others, and what the
store's manifest says. They are written in the order pixels, details, copy, table, seal.

A shard without seal was cut off and is made again, unless its table and the copy are equal: then
all else is whole, and the seal alone is missing.

What was found in its images may be kept beside them, a row for each: visual words in
``shard-00000.words-VOCABULARY.npy``, see ``dedup.verification.visual_words``, and products in
``masks-FOREGROUND`` and ``framed-PRODUCT``, see ``dedup.foregrounds.masked_store``. The last 32
bytes of such a file are a digest over it and the details that it was found in; what that does not
confirm is found again.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.errors import ArtifactError, CorruptError, DecodeError
from dedup.runtime.checksums import SEALED, kept_digest, read_seal, sealed_text
from dedup.runtime.files import (
    array_header,
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
from dedup.verification.keypoints import N_KEYPOINTS
from dedup.verification.visual_words import Vocabulary, Words

if TYPE_CHECKING:
    pass


FORMAT = 4
"""Of a store: raised when a reader of the old layout would misread the new one."""


ENTRIES = pa.schema(
    [
        ("url", pa.string()),
        (
            "version",
            pa.string(),
        ),  # of a file, and the settings that it failed by: read again if other
        ("sha256_bytes", pa.string()),
        ("sha256_pixels", pa.string()),
        ("sha256_detail", pa.string()),  # of the detail's JPEG; "" where it failed
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("contrast", pa.float32()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("row", pa.int64()),  # among the shard's pixels; -1 where it failed
        ("detail_start", pa.int64()),  # among the bytes of the shard's details
        ("detail_length", pa.int32()),  # in bytes; 0 where it failed
    ]
)
PLACE = ["row", "detail_start", "detail_length"]
PIXELS, DETAILS, TABLE = SEALED
COPY, SEAL = "copy.parquet", "json"
"""How the names of a shard's files end."""
NAME = re.compile(
    r"shard-(\d{5,})\.(npy|details\.npy|parquet|copy\.parquet|json"
    r"|(?:words|masks|framed)-[0-9a-f]{8}\.npy)"
)
KEPT = ("words", "masks", "framed")
"""How the names of files begin, after the shard's, that hold what was found in its images."""
OPEN_ARRAYS = 64
"""Files kept mapped at once: each holds a file descriptor, and some systems allow only 256."""


def advice(path: Path) -> str:
    """What to do about a broken store."""
    if not path.is_dir():
        return f"the whole store is gone: put it back, or make it again with {command('cluster')}"
    return f"run {command('check')} repair=true store.path={path}"


def lacking(path: Path) -> ArtifactError:
    """What to say of an image that a store should hold; or of a store that is not there."""
    again = f"run {command('cluster')} again, which reads what is not there"
    if not path.is_dir():
        where = f"at {path}: put it back there, or beside the index"
        return ArtifactError(f"there is no store of images {where}, or {again}")
    return ArtifactError(f"the store {path} lacks an image that it was asked for: {again}")


def described(reader: str) -> dict[str, Any]:
    """What the manifest of a store says, and each of its seals."""
    return {"format": FORMAT, "reader": reader, "image_shape": list(IMAGE_SHAPE)}


@dataclass(frozen=True)
class Loaded:
    """One address, read.

    Attributes:
        entry: its row of ``ENTRIES``; ``PLACE`` and ``sha256_detail`` are filled in when it is
            written.
        image: ``None`` where it failed.
    """

    entry: dict[str, Any]
    image: Decoded | None


class Shards:
    """The shards in a folder.

    Args:
        path: the folder.
        manifest: what the store's manifest says, for the seals.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self._arrays: dict[Path, npt.NDArray[Any]] = {}
        self._located: dict[int, tuple[npt.NDArray[np.int64], list[str]]] = {}

    def write(self, shard: int, loaded: Sequence[Loaded]) -> None:
        """Write one shard, its seal last: only that makes it part of the store."""
        for ending in (SEAL, TABLE, COPY):  # of one that was cut off
            self.file(shard, ending).unlink(missing_ok=True)
        pixels: list[npt.NDArray[np.uint8]] = []
        details = bytearray()
        entries = []
        for one in loaded:
            place, digest = (-1, 0, 0), ""
            if one.image is not None:
                place = (len(pixels), len(details), len(one.image.detail))
                digest = hashlib.sha256(one.image.detail).hexdigest()
                pixels.append(one.image.pixels)
                details += one.image.detail
            placed = dict(zip(PLACE, place, strict=True), sha256_detail=digest)
            entries.append(one.entry | placed)
        stacked = np.stack(pixels) if pixels else np.empty((0, *IMAGE_SHAPE), np.uint8)
        write_array(stacked, self.file(shard, PIXELS))
        write_array(np.frombuffer(details, np.uint8), self.file(shard, DETAILS))
        table = pd.DataFrame(entries, columns=ENTRIES.names)
        write_table(table, ENTRIES, self.file(shard, COPY))
        write_bytes(self.file(shard, COPY).read_bytes(), self.file(shard, TABLE))
        self.seal(shard)

    def seal(self, shard: int) -> None:
        """Write the seal of a shard from its files as they are."""
        facts = {}
        for ending in SEALED:
            file = self.file(shard, ending)
            facts[ending] = {"size": file.stat().st_size, "sha256": sha256_file(file)}
        content = {"shard": shard, "files": facts, "store": dict(self.manifest or {})}
        write_text(sealed_text(content), self.file(shard, SEAL))

    def sealed(self, shard: int) -> dict[str, Any]:
        """What the seal of a shard says: ``shard``, ``files`` and ``store``.

        Raises:
            CorruptError: it is missing, or not what was written.
        """
        file = self.file(shard, SEAL)
        try:
            content = read_seal(file.read_bytes(), shard)
        except FileNotFoundError:
            raise CorruptError(f"{file} is missing: {advice(self.path)}") from None
        if content is None:
            raise CorruptError(f"{file} is not what was written: {advice(self.path)}")
        return content

    def present(self) -> dict[int, list[str]]:
        """The endings of the files that are there, by shard, both in order."""
        found: dict[int, list[str]] = {}
        for file in self.path.glob("shard-*"):
            name = NAME.fullmatch(file.name)
            if name and file.is_file():  # no pipe, which would be waited for
                found.setdefault(int(name[1]), []).append(name[2])
        return {shard: sorted(found[shard]) for shard in sorted(found)}

    def committed(self) -> list[int]:
        """The shards that are part of the store, in order, whether all are whole or not.

        Shards at the end that were cut off are not.
        """
        return [
            shard
            for shard, endings in self.present().items()
            if SEAL in endings or ({TABLE, COPY} <= set(endings) and self._are_equal(shard))
        ]

    def entries(self) -> pd.DataFrame:
        """The tables of all shards in their order, with a column ``shard``.

        Raises:
            CorruptError: a shard is missing, or a file of one; a table cannot be read, has other
                columns or is not what was written.
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
        """The pixels at some rows of a shard, (n, 3, 200, 100) uint8.

        They are read, not mapped: in a store larger than the memory the system would read what
        lies around each of them too, and forget what is needed for it.

        Raises:
            CorruptError: the file is missing, cannot be read, or holds fewer images than its
                table says.
        """
        file = self.file(shard, PIXELS)
        pixels = self._array(file)
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
        """The detail at one row of a shard, (h, w, 3) uint8 RGB.

        Raises:
            ArtifactError: the row is -1.
            CorruptError: a file is missing or cannot be read, its bytes are fewer than its table
                says, or those of the detail are not what was written.
        """
        if row < 0:
            raise lacking(self.path)
        file = self.file(shard, DETAILS)
        details, (spans, digests) = self._array(file), self._places(shard)
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
        """How many images a shard holds, as its table says.

        Raises:
            CorruptError: the table is missing, cannot be read, or names places that cannot be.
        """
        return len(self._places(shard)[0])

    def words(self, shard: int, vocabulary: Vocabulary) -> Words:
        """The words kept for a shard, (n, N_KEYPOINTS) int32.

        Raises:
            ArtifactError: there are none, or no shard.
            CorruptError: what there is are not they.
        """
        name = _of_words(vocabulary)
        words: Words = self.kept(shard, name, (N_KEYPOINTS,), np.int32)
        if not vocabulary.knows(words):
            raise self._misfit(shard, name)
        return words

    def keep_words(self, shard: int, words: Words, vocabulary: Vocabulary) -> None:
        """Keep the words of a shard's images; where they are lost, they can be found again."""
        self.keep(shard, _of_words(vocabulary), words)

    def kept(
        self, shard: int, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        """What is kept of a shard's images under a name, (n, *shape), memory-mapped.

        Raises:
            ArtifactError: there is nothing, or no shard.
            CorruptError: what there is is not that.
        """
        file = self.file(shard, f"{name}.npy")
        found = read_array(file)
        whole = found.shape == (self.size(shard), *shape) and found.dtype == dtype
        data = file.read_bytes()
        if not whole or data[-32:] != kept_digest(data[:-32], self._places(shard)[1]):
            raise self._misfit(shard, name)
        return found

    def kept_rows(
        self, shard: int, name: str, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint8]:
        """Some rows of what is kept under a name, which ``kept`` or ``keep`` has confirmed.

        Raises:
            CorruptError: it is gone, or holds fewer rows.
        """
        found = self._array(self.file(shard, f"{name}.npy"))
        if len(rows) and rows.max() >= len(found):
            raise self._misfit(shard, name)
        chosen: npt.NDArray[np.uint8] = found[rows]
        return chosen

    def keep(self, shard: int, name: str, found: npt.NDArray[Any]) -> None:
        """Keep what was found in a shard's images; where it is lost, it can be found again."""
        data = array_header(found.shape, found.dtype) + found.tobytes()
        data += kept_digest(data, self._places(shard)[1])
        file = self.file(shard, f"{name}.npy")
        write_bytes(data, file)
        self._arrays.pop(file, None)

    def file(self, shard: int, ending: str) -> Path:
        """The path of one of a shard's files, whether it is there or not."""
        return self.path / f"shard-{shard:05}.{ending}"

    def _misfit(self, shard: int, name: str) -> CorruptError:
        file = self.file(shard, f"{name}.npy")
        return CorruptError(
            f"{file} does not hold what was found in {self.size(shard)} images: {advice(self.path)}"
        )

    def _are_equal(self, shard: int) -> bool:
        """Whether a shard's table is confirmed by its copy."""
        table, copy = (self.file(shard, ending).read_bytes() for ending in (TABLE, COPY))
        return table == copy

    def _array(self, file: Path) -> npt.NDArray[Any]:
        """A file, memory-mapped; beyond ``OPEN_ARRAYS`` the one mapped longest ago is let go."""
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

    def _table(self, shard: int) -> pd.DataFrame:
        file = self.file(shard, TABLE)
        if self.file(shard, SEAL).is_file() or not file.is_file():
            self._check(shard)
        return read_table(file, ENTRIES, advice(self.path))

    def _check(self, shard: int) -> None:
        """Compare the files of a shard with its seal: their sizes, and the table's digest."""
        for ending, said in self.sealed(shard)["files"].items():
            file = self.file(shard, ending)
            if not file.is_file():
                raise CorruptError(f"{file} is missing: {advice(self.path)}")
            size = file.stat().st_size
            if size != said["size"]:
                expected = f"{size} bytes, not {said['size']}"
                raise CorruptError(f"{file} holds {expected}: {advice(self.path)}")
            if ending == TABLE and (found := sha256_file(file)) != said["sha256"]:
                expected = f"SHA-256 {found[:12]}, not {said['sha256'][:12]}"
                raise CorruptError(f"{file} has {expected}: {advice(self.path)}")

    def _places(self, shard: int) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Where the details of a shard start and end, (n, 2), and their digests."""
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


def _of_words(vocabulary: Vocabulary) -> str:
    return f"words-{vocabulary.digest[:8]}"
