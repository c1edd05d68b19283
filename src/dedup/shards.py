"""The files of a store: pixels, details and a table for every so many addresses.

A shard is ``shard-00000.npy``, the pixels of its pictures, (n, 3, 200, 100) uint8;
``shard-00000.details.npy``, their details, JPEGs end to end; and ``shard-00000.parquet``, one row
for each address with its digests, status and place in both. The table is written last: a shard
without it was cut off and is made again. Once they were asked for, the visual words of its pictures
lie in ``shard-00000.words-VOCABULARY.npy``, (n, 300) int32; see ``dedup.words``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.artifacts import IMAGE_SHAPE
from dedup.decode import Decoded, restored
from dedup.errors import ArtifactError, CorruptError, DecodeError
from dedup.files import read_array, read_table, write_array, write_table
from dedup.keypoints import N_KEYPOINTS
from dedup.words import Vocabulary, Words

ENTRIES = pa.schema(
    [
        ("url", pa.string()),
        ("version", pa.string()),  # size and time of a file; a changed file is read again
        ("sha256_bytes", pa.string()),
        ("sha256_pixels", pa.string()),
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
ADVICE = "delete the store's folder to make it anew"
OPEN_ARRAYS = 64
"""Files kept mapped at once: each holds a file descriptor, and some systems allow only 256."""


@dataclass(frozen=True)
class Loaded:
    """One address, read.

    Attributes:
        entry: its row of ``ENTRIES``, all but ``PLACE``.
        picture: ``None`` where it failed.
    """

    entry: dict[str, Any]
    picture: Decoded | None


class Shards:
    """The shards in a folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._arrays: dict[Path, npt.NDArray[Any]] = {}
        self._spans: dict[int, npt.NDArray[np.int64]] = {}

    def write(self, shard: int, loaded: Sequence[Loaded]) -> None:
        """Write one shard, its table last: only that makes it part of the store."""
        pixels: list[npt.NDArray[np.uint8]] = []
        details = bytearray()
        entries = []
        for one in loaded:
            place = (-1, 0, 0)
            if one.picture is not None:
                place = (len(pixels), len(details), len(one.picture.detail))
                pixels.append(one.picture.pixels)
                details += one.picture.detail
            entries.append(one.entry | dict(zip(PLACE, place, strict=True)))
        stacked = np.stack(pixels) if pixels else np.empty((0, *IMAGE_SHAPE), np.uint8)
        write_array(stacked, self._file(shard, "npy"))
        write_array(np.frombuffer(details, np.uint8), self._file(shard, "details.npy"))
        table = pd.DataFrame(entries, columns=ENTRIES.names)
        write_table(table, ENTRIES, self._file(shard, "parquet"))

    def entries(self) -> pd.DataFrame:
        """The tables of all shards in their order, with a column ``shard``.

        Raises:
            CorruptError: a table cannot be read, or has other columns.
        """
        files = sorted(self.path.glob("shard-*.parquet"))
        shards = [int(file.stem.removeprefix("shard-")) for file in files]
        tables = [self._table(shard).assign(shard=shard) for shard in shards]
        empty = ENTRIES.empty_table().to_pandas().assign(shard=np.int64())
        return pd.concat(tables) if tables else empty

    def pixels(self, shard: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The pixels at some rows of a shard, (n, 3, 200, 100) uint8.

        Raises:
            ArtifactError: the file is missing.
            CorruptError: it cannot be read, or holds fewer pictures than its table says.
        """
        file = self._file(shard, "npy")
        pixels = self._array(file)
        n_rows = rows.max() + 1
        if pixels.shape[1:] != IMAGE_SHAPE or pixels.dtype != np.uint8 or len(pixels) < n_rows:
            raise CorruptError(
                f"{file} holds {pixels.dtype} of shape {pixels.shape}, not {n_rows} pictures or "
                f"more: {ADVICE}"
            )
        chosen: npt.NDArray[np.uint8] = pixels[rows]
        return chosen

    def detail(self, shard: int, row: int) -> npt.NDArray[np.uint8]:
        """The detail at one row of a shard, (h, w, 3) uint8 RGB.

        Raises:
            ArtifactError: the row is -1, or a file is missing.
            CorruptError: a file cannot be read, its bytes are fewer than its table says, or those
                of the detail are no whole JPEG.
        """
        if row < 0:
            raise ArtifactError(f"the store {self.path} lacks a picture that it was asked for")
        spans, file = self._located(shard), self._file(shard, "details.npy")
        details = self._array(file)
        whole = details.ndim == 1 and details.dtype == np.uint8 and row < len(spans)
        if not whole or spans[row, 1] > len(details):
            raise CorruptError(
                f"{file} holds {details.dtype} of shape {details.shape}, not detail {row} that "
                f"its table names: {ADVICE}"
            )
        start, end = spans[row]
        try:
            return restored(details[start:end].tobytes())
        except DecodeError as error:
            raise CorruptError(f"{file}: detail {row} is broken ({error}): {ADVICE}") from error

    def size(self, shard: int) -> int:
        """How many pictures a shard holds, as its table says.

        Raises:
            ArtifactError: the table is missing.
            CorruptError: it cannot be read, or names places that cannot be.
        """
        return len(self._located(shard))

    def words(self, shard: int, vocabulary: Vocabulary) -> Words:
        """The words kept for a shard, (n, N_KEYPOINTS) int32.

        Raises:
            ArtifactError: there are none, or no shard.
            CorruptError: what there is cannot be they.
        """
        file = self._words_file(shard, vocabulary)
        words: Words = read_array(file)
        shape = (self.size(shard), N_KEYPOINTS)
        whole = words.shape == shape and words.dtype == np.int32
        if not whole or not vocabulary.knows(words):
            raise CorruptError(f"{file} does not hold the words of {shape[0]} pictures: {ADVICE}")
        return words

    def keep_words(self, shard: int, words: Words, vocabulary: Vocabulary) -> None:
        """Keep the words of a shard's pictures; where they are lost, they can be found again."""
        write_array(words, self._words_file(shard, vocabulary))

    def _words_file(self, shard: int, vocabulary: Vocabulary) -> Path:
        return self._file(shard, f"words-{vocabulary.digest[:8]}.npy")

    def _file(self, shard: int, ending: str) -> Path:
        return self.path / f"shard-{shard:05}.{ending}"

    def _array(self, file: Path) -> npt.NDArray[Any]:
        """A file, memory-mapped; beyond ``OPEN_ARRAYS`` the one mapped longest ago is let go."""
        array = self._arrays.get(file)
        if array is None:
            if len(self._arrays) >= OPEN_ARRAYS:
                oldest, *_ = list(self._arrays)  # at once: other threads may add to them
                self._arrays.pop(oldest, None)
            array = self._arrays[file] = read_array(file)
        return array

    def _table(self, shard: int) -> pd.DataFrame:
        file = self._file(shard, "parquet")
        table = read_table(file)
        if list(table.columns) != ENTRIES.names:
            raise CorruptError(f"{file} is no table of a store of this version: {ADVICE}")
        return table

    def _located(self, shard: int) -> npt.NDArray[np.int64]:
        """Where the details of a shard start and end, (n, 2)."""
        if shard not in self._spans:
            self._spans[shard] = self._read_spans(shard)
        return self._spans[shard]

    def _read_spans(self, shard: int) -> npt.NDArray[np.int64]:
        table = self._table(shard)
        places = table.loc[table["row"] >= 0, PLACE].sort_values("row").to_numpy(np.int64)
        row, start, length = places.T
        if (row != np.arange(len(row))).any() or (np.minimum(start, length) < 0).any():
            file = self._file(shard, "parquet")
            raise CorruptError(f"{file} names places that cannot be: {ADVICE}")
        return np.stack([start, start + length], axis=1)
