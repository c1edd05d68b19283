"""Keep arrays computed from a store's images beside their shards: visual words, masks, crops.

``shard-00000.NAME-DIGEST.npy`` holds a row for each image of the shard. NAME and DIGEST, 16 hex
digits, are those of its ``Derivation``: another version or other settings make another file. The
last 32 bytes are a digest over the file and the previews that it was computed from. An array that
its digest does not confirm is computed again.

Where a store cannot be written to, arrays lie in a temporary folder until the process ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import kept_digest
from dedup.runtime.files import array_header, read_array, write_bytes
from dedup.runtime.parallel import in_order
from dedup.runtime.progress import Count, counting
from dedup.store.derived import Derivation, warn_unkept
from dedup.store.shards import Shards, advice, lacking

Array = npt.NDArray[Any]
Row = tuple[int, int]
"""Shard and row of an image."""

DIGITS = 16
"""Hex digits of a digest in a file's name: 8 would meet by chance among 10,000 settings."""


def _always(array: Array) -> bool:
    return True


def _uncounted() -> AbstractContextManager[Count]:
    return nullcontext(lambda n=1: None)


@dataclass(frozen=True)
class ArrayDerivation(Derivation):
    """Names a function of one image whose values are arrays of one shape.

    Attributes:
        dtype: of its values.
        shape: of one value.
        is_possible: tells whether an array, (n, *shape), can hold its values.
    """

    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    is_possible: Callable[[Array], bool] = _always

    @property
    def ending(self) -> str:
        """Ending of the names of its files, after the shard's."""
        return f"{self.name}-{self.digest[:DIGITS]}.npy"


class DerivedArrays:
    """Arrays beside the shards of a store.

    Args:
        shards: of the store.
    """

    def __init__(self, shards: Shards) -> None:
        self.shards = shards
        self._confirmed: set[Path] = set()
        self._elsewhere: dict[Path, Path] = {}
        """Files in a temporary folder, by the place in the store that could not be written to."""
        self._spare: Path | None = None

    def missing(self, derivation: ArrayDerivation, shards: Sequence[int]) -> list[int]:
        """Return the shards without a whole array; each file is read once and then trusted.

        Raises:
            CorruptError: the table of a shard cannot be read.
        """
        return [shard for shard in shards if not self._is_whole(derivation, shard)]

    def compute(
        self,
        derivation: ArrayDerivation,
        shards: Sequence[int],
        function: Callable[[Row], Array],
        label: str | None = None,
    ) -> None:
        """Compute the arrays of some shards on all cores, and keep them.

        Args:
            derivation: names the function.
            shards: numbers of shards.
            function: a place to its row.
            label: of the progress bar, which counts images; ``None`` shows none.

        Raises:
            ArtifactError: a file of a shard is missing.
            CorruptError: a shard cannot be read, or a preview in it is not whole.
        """
        sizes = {shard: self.shards.size(shard) for shard in shards}
        bar = counting(label, sum(sizes.values()), "images") if label and sizes else _uncounted()
        with bar as count:
            for shard, size in sizes.items():
                values = np.empty((size, *derivation.shape), derivation.dtype)
                places: Iterator[Row] = ((shard, row) for row in range(size))
                for row, value in enumerate(in_order(function, places)):
                    values[row] = value
                    count()
                self.write(derivation, shard, values)

    def read(self, derivation: ArrayDerivation, rows: npt.NDArray[np.int64]) -> Array:
        """Return the values at (n, 2) places, (n, *shape); their arrays must be there.

        Raises:
            ArtifactError: the store lacks one of the images.
            CorruptError: an array is gone, or holds fewer rows.
        """
        check_places(rows, self.shards.path)
        values = np.empty((len(rows), *derivation.shape), derivation.dtype)
        for shard in np.unique(rows[:, 0]).tolist():
            here, file = rows[:, 0] == shard, self.shards.file(shard, derivation.ending)
            array = self.shards.array(self._elsewhere.get(file, file))
            wanted = rows[here, 1]
            if wanted.max() >= len(array):
                raise CorruptError(f"{file} lacks rows: {advice(self.shards.path)}")
            values[here] = array[wanted]
        return values

    def write(self, derivation: ArrayDerivation, shard: int, values: Array) -> None:
        """Keep the values of a shard's images, (n, *shape); a lost file can be computed again.

        Where the store cannot be written to, a warning says so once, and the values are kept for
        this process alone.

        Raises:
            OSError: neither the store nor the temporary folder can be written to.
        """
        data = kept_bytes(values, self.shards.preview_digests(shard))
        file = self.shards.file(shard, derivation.ending)
        place = file
        try:
            write_bytes(data, file)
            self._elsewhere.pop(file, None)
        except OSError as error:
            warn_unkept(self.shards.path, error)
            place = self._elsewhere[file] = self._spare_folder() / file.name
            write_bytes(data, place)
        self.shards.forget(place)
        self._confirmed.add(file)

    def _spare_folder(self) -> Path:
        """Return a temporary folder, which is removed with these arrays."""
        if self._spare is None:
            self._spare = Path(tempfile.mkdtemp(prefix="dedup-"))
            weakref.finalize(self, _remove, self._spare, os.getpid())
        return self._spare

    def _is_whole(self, derivation: ArrayDerivation, shard: int) -> bool:
        """Tell whether the digest at the end of a file, its type and its shape confirm it."""
        file, size = self.shards.file(shard, derivation.ending), self.shards.size(shard)
        if file in self._confirmed:
            return True
        with suppress(ArtifactError):  # missing, or damaged: computed again either way
            array, data = read_array(file), file.read_bytes()
            fits = array.shape == (size, *derivation.shape) and array.dtype == derivation.dtype
            digest = kept_digest(data[:-32], self.shards.preview_digests(shard))
            if fits and data[-32:] == digest and derivation.is_possible(array):
                self._confirmed.add(file)
        return file in self._confirmed


def kept_bytes(values: Array, previews: Sequence[str]) -> bytes:
    """Return the content of the file that keeps the values of a shard's images.

    Args:
        values: (n, *shape), in C order.
        previews: (n,), digests of the previews that they were computed from.
    """
    data = array_header(values.shape, values.dtype) + values.tobytes()
    return data + kept_digest(data, previews)


def _remove(folder: Path, process: int) -> None:
    """Remove a folder, unless this is a fork of the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def check_places(rows: npt.NDArray[np.int64], path: Path) -> None:
    """Make sure that a store holds the images at (n, 2) places.

    Raises:
        ArtifactError: a place is -1.
    """
    if len(rows) and rows.min() < 0:
        raise lacking(path)
