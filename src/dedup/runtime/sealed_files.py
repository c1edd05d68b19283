"""Files that are read only after their digest was confirmed, see ``dedup.runtime.checksums``.

Tables are checked where they are read. Vectors stay on the disk, and are checked in a thread that
their first use waits for: to read them all takes longer than all else that is read of an index, and
there is work enough before they are needed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.errors import CorruptError
from dedup.runtime.checksums import check_digest, check_size
from dedup.runtime.files import read_array, sha256_file, unreadable
from dedup.runtime.parallel import in_order
from dedup.runtime.tables import read_arrow

Vectors = npt.NDArray[np.float32]

DIGESTS = ("sha256_bytes", "sha256_pixels", "pixels_a", "pixels_b")
"""Columns of our tables that hold digits alone."""
BLOCK = 2**20
"""Bytes that are checked at a time; a multiple of what one number takes."""


def confirmed_tables(
    folder: Path, schemas: Mapping[str, pa.Schema | None], said: Mapping[str, Any], advice: str
) -> list[pa.Table]:
    """Tables, none of which is parsed before its bytes are what was written.

    That ``DIGESTS`` are digits is left to the checks of what the tables say, which look at each.

    Args:
        folder: where they lie.
        schemas: theirs, by file; ``None`` where all columns are texts.
        said: what a seal says of each file, see ``seals.facts``, with ``rows``.
        advice: what to do where one is damaged, for messages.

    Raises:
        ArtifactError: one is missing.
        CorruptError: one is not what was written, or of another schema or number of rows.
    """

    def table(name: str) -> pa.Table:
        file = folder / name
        check_size(file, said[name], advice)
        try:
            digest = sha256_file(file)
        except OSError as error:
            raise unreadable(file, advice, error) from error
        check_digest(file, digest, said[name], advice)
        schema, rows = schemas[name], said[name]["rows"]
        ours = [] if schema is None else [column for column in schema.names if column in DIGESTS]
        return read_arrow(file, schema, advice, rows, ours, mapped=True)

    return list(in_order(table, schemas))


def mapped_vectors(file: Path, said: Mapping[str, Any], advice: str) -> Vectors:
    """An array of vectors in an ``.npy`` file, memory-mapped; its bytes are not checked yet.

    Args:
        file: the file.
        said: what a seal says of it, see ``seals.facts``.
        advice: what to do where it is damaged, for messages.

    Returns:
        (n, d) float32 in C order, the whole file but for its header.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it has another size or holds something else.
    """
    check_size(file, said, advice)
    array = read_array(file, advice)
    whole = array.ndim == 2 and array.dtype == np.float32 and array.flags.c_contiguous
    start = said["size"] - array.nbytes
    if not whole or start != getattr(array, "offset", start) or start % array.itemsize:
        raise CorruptError(
            f"{file} is not what was written, it holds {array.dtype} of shape {array.shape}, not "
            f"rows of float32: {advice}"
        )
    return array


def check_vectors(file: Path, array: Vectors, said: Mapping[str, Any], advice: str) -> None:
    """Read the file of ``mapped_vectors`` and compare its SHA-256; every number must be finite.

    Raises:
        CorruptError: it is not what was written, or a number is not finite.
    """
    start, finite = said["size"] - array.nbytes, True
    digest, buffer = hashlib.sha256(), bytearray(BLOCK)
    view, numbers = memoryview(buffer), np.frombuffer(buffer, np.float32)
    try:
        with file.open("rb") as opened:
            digest.update(opened.read(start))
            while n := opened.readinto(buffer):
                digest.update(view[:n])
                finite = finite and bool(np.isfinite(numbers[: n // 4]).all())
    except OSError as error:
        raise unreadable(file, advice, error) from error
    check_digest(file, digest.hexdigest(), said, advice)
    if not finite:
        raise CorruptError(f"{file} holds numbers that are not finite: {advice}")


class Mapped:
    """A memory-mapped array whose file is being checked in a thread of its own.

    Args:
        file: its file.
        array: as ``mapped_vectors`` returned it.
        said: what a seal says of the file.
        advice: what to do where it is damaged, for messages.
    """

    def __init__(self, file: Path, array: Vectors, said: Mapping[str, Any], advice: str) -> None:
        self.array = array
        self._parts = (file, array, said, advice)
        self._error: BaseException | None = None
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._check, name=f"check {file}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no memory for one more
            self._process = 0

    def confirmed(self) -> Vectors:
        """The array, once all its bytes are what was written.

        Raises:
            CorruptError: they are not.
        """
        if os.getpid() == self._process:
            self._thread.join()
        else:  # no thread was started, or it is not in this fork
            self._check()
        if self._error is not None:
            raise self._error
        return self.array

    def _check(self) -> None:
        try:
            check_vectors(*self._parts)
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            self._error = error


class Confirmed:
    """An attribute that holds an array, or a ``Mapped`` whose array it gives once that is checked.

    A dataclass takes it for an attribute without a default.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Vectors:
        if instance is None:
            raise AttributeError(self.name)
        found: Vectors | Mapped = vars(instance)[self.name]
        return found.confirmed() if isinstance(found, Mapped) else found

    def __set__(self, instance: object, value: Vectors | Mapped) -> None:
        vars(instance)[self.name] = value
