"""Tables and vectors that are used only after their checksum was compared.

A table is checked when it is read. Vectors are memory-mapped and checked in a thread, and their
first use waits for that thread: reading them takes longer than the rest of an index together, and
a command has other work to do first.
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
"""(n, d) embeddings."""

DIGESTS = ("sha256_bytes", "sha256_pixels", "pixels_a", "pixels_b")
"""Columns of our tables that hold hex digits only."""
BLOCK = 2**20
"""Bytes that are read at a time, a multiple of the 4 bytes of a float32."""


def read_checked_tables(
    folder: Path,
    schemas: Mapping[str, pa.Schema | None],
    facts: Mapping[str, Any],
    advice: str,
    later: Mapping[str, Mapping[str, float]] | None = None,
) -> list[pa.Table]:
    """Read tables, and compare each file's checksum before parsing it.

    The caller checks that the columns ``DIGESTS`` hold digits.

    Args:
        folder: the folder of the files.
        schemas: schema of each file by name; ``None`` if all its columns are text.
        facts: ``checksums.file_facts`` of each file by name, with ``rows``.
        advice: remedy for a damaged file, for messages.
        later: by file name, last columns that earlier versions did not write, and their values
            where they are missing.

    Raises:
        ArtifactError: a file is missing.
        CorruptError: a file is not what was written, or has another schema or number of rows.
    """

    def read(name: str) -> pa.Table:
        file = folder / name
        check_size(file, facts[name], advice)
        try:
            digest = sha256_file(file)
        except OSError as error:
            raise unreadable(file, advice, error) from error
        check_digest(file, digest, facts[name], advice)
        schema, rows = schemas[name], facts[name]["rows"]
        digests = [] if schema is None else [name for name in schema.names if name in DIGESTS]
        added = (later or {}).get(name)
        return read_arrow(file, schema, advice, rows, digests, mapped=True, later=added)

    return list(in_order(read, schemas))


def map_vectors(file: Path, facts: Mapping[str, Any], advice: str) -> Vectors:
    """Memory-map an ``.npy`` file of vectors without checking its bytes.

    Args:
        file: the file.
        facts: its recorded size and checksum, see ``checksums.file_facts``.
        advice: remedy for a damaged file, for messages.

    Returns:
        (n, d) float32 in C order, all of the file after its header.

    Raises:
        ArtifactError: the file is missing.
        CorruptError: its size, type or shape differs.
    """
    check_size(file, facts, advice)
    array = read_array(file, advice)
    is_matrix = array.ndim == 2 and array.dtype == np.float32 and array.flags.c_contiguous
    start = facts["size"] - array.nbytes
    if not is_matrix or start != getattr(array, "offset", start) or start % array.itemsize:
        raise CorruptError(
            f"{file} is not what was written, it holds {array.dtype} of shape {array.shape}, not "
            f"rows of float32: {advice}"
        )
    return array


def check_vectors(file: Path, array: Vectors, facts: Mapping[str, Any], advice: str) -> None:
    """Compare the SHA-256 of a mapped file of vectors, and check that every number is finite.

    Raises:
        CorruptError: the file is not what was written, or a number is not finite.
    """
    start, is_finite = facts["size"] - array.nbytes, True
    digest, buffer = hashlib.sha256(), bytearray(BLOCK)
    view, numbers = memoryview(buffer), np.frombuffer(buffer, np.float32)
    try:
        with file.open("rb") as opened:
            digest.update(opened.read(start))
            while n := opened.readinto(buffer):
                digest.update(view[:n])
                is_finite = is_finite and bool(np.isfinite(numbers[: n // 4]).all())
    except OSError as error:
        raise unreadable(file, advice, error) from error
    check_digest(file, digest.hexdigest(), facts, advice)
    if not is_finite:
        raise CorruptError(f"{file} holds numbers that are not finite: {advice}")


class CheckedArray:
    """Memory-mapped vectors whose file is checked in a background thread.

    Args:
        file: the file.
        array: the mapped vectors, from ``map_vectors``.
        facts: the file's recorded size and checksum.
        advice: remedy for a damaged file, for messages.
    """

    def __init__(self, file: Path, array: Vectors, facts: Mapping[str, Any], advice: str) -> None:
        self.array = array
        self._parts = (file, array, facts, advice)
        self._error: BaseException | None = None
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._check, name=f"check {file}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no memory for another thread
            self._process = 0

    def wait(self) -> Vectors:
        """Wait for the check, and return the array.

        Raises:
            CorruptError: the file is not what was written.
        """
        if os.getpid() == self._process:
            self._thread.join()
        else:  # no thread was started, or a fork left it behind
            self._check()
        if self._error is not None:
            raise self._error
        return self.array

    def _check(self) -> None:
        try:
            check_vectors(*self._parts)
        except BaseException as error:  # noqa: BLE001  raised again by wait()
            self._error = error


class CheckedAttribute:
    """Descriptor of an attribute that holds vectors, perhaps still being checked.

    Reading the attribute waits for the check. To a dataclass the attribute has no default.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Vectors:
        if instance is None:
            raise AttributeError(self.name)
        value: Vectors | CheckedArray = vars(instance)[self.name]
        return value.wait() if isinstance(value, CheckedArray) else value

    def __set__(self, instance: object, value: Vectors | CheckedArray) -> None:
        vars(instance)[self.name] = value
