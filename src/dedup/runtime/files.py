"""Atomic writes, ``.npy`` arrays, JSON and folder locks.

Stages exchange ``.npy``, JSON and the Parquet of ``dedup.runtime.tables``, and never a pickle.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tokenize
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from dedup.errors import ArtifactError, CorruptError, LockedError
from dedup.runtime.printable import visible_json
from dedup.runtime.shortages import explain_shortage, is_shortage, pass_on

MAX_JSON_BYTES = 2**26
"""Longest JSON file that is read into memory; ours are far shorter."""


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path in the same folder, then move the file into place.

    The bytes are on disk before the name is. A reader sees the old file or the new one and never a
    part, even if the process or the machine stops at any moment.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        move(part, path)
        _WRITTEN.add(path.absolute())
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # the error that stopped the writing matters more
            part.unlink()


_WRITTEN: set[Path] = set()


def written(folder: Path) -> list[str]:
    """List the files below a folder that this process wrote and that still exist.

    Returns:
        Paths relative to ``folder``, sorted.
    """
    folder = folder.absolute()
    files = [path for path in _WRITTEN if folder in path.parents and path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in files)


def move(source: Path, target: Path) -> None:
    """Move a file within one disk, durably: the new name survives a crash."""
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def first_line(error: BaseException) -> str:
    """Take the first line of an error's text, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def read_bytes(path: Path, advice: str) -> bytes:
    """Read a file's bytes.

    Raises:
        ArtifactError: the file is missing, or the user may not read it.
        CorruptError: the disk cannot read it.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ArtifactError(f"{path} is missing: {advice}") from None
    except OSError as error:
        raise unreadable(path, advice, error) from error


def unreadable(path: Path, advice: str, error: OSError) -> Exception:
    """Choose the error to raise for a file that cannot be read: damage, or a lack of rights."""
    is_refused = isinstance(error, PermissionError)
    if is_shortage(error) and not is_refused:
        return error
    kind = ArtifactError if is_refused else CorruptError
    return kind(f"{path} cannot be read ({error.strerror or error}): {advice}")


def write_array(array: npt.NDArray[Any], path: Path) -> None:
    """Write an array as ``.npy``.

    Raises:
        ValueError: the array holds objects, which need a pickle.
    """
    if array.dtype.hasobject:
        raise ValueError(f"cannot write an array of {array.dtype}: it holds Python objects")

    def write(part: Path) -> None:
        with part.open("wb") as file:  # np.save hides why a write failed
            file.write(array_header(array.shape, array.dtype))
            file.write(np.ascontiguousarray(array).data)

    atomically(path, write)


def array_header(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """Build the header of an ``.npy`` file whose values follow in C order."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


def read_array(path: Path, advice: str = "run its stage again") -> npt.NDArray[Any]:
    """Memory-map an ``.npy`` array, read-only.

    Args:
        path: the file.
        advice: remedy for a missing or damaged file, for messages.

    Raises:
        ArtifactError: the file is missing.
        CorruptError: the file cannot be read, is cut short or holds pickled objects.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: {advice}")
    try:
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except _NO_ARRAY as error:
        pass_on(error, path)
        if isinstance(error, OSError) and error.errno:
            raise unreadable(path, advice, error) from error
        raise CorruptError(f"{path} cannot be read ({first_line(error)}): {advice}") from error
    return array


_NO_ARRAY = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)
"""Errors that NumPy raises for a damaged header."""


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object, formatted by ``json_text``."""
    write_text(json_text(value), path)


def json_text(value: Mapping[str, Any]) -> str:
    """Format a JSON object, indented as the original experiment's report was."""
    return visible_json(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def write_text(text: str, path: Path) -> None:
    """Write a text file as UTF-8."""
    write_bytes(text.encode(), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file of these bytes."""

    def write(part: Path) -> None:
        part.write_bytes(data)

    atomically(path, write)


def sort_metadata(data: bytes) -> bytes:
    """Sort the metadata of a safetensors file, which the library writes in random order."""
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
        what: kind of folder that holds the file, for messages: "an index".
        advice: remedy for a missing or damaged file, for messages.

    Raises:
        ArtifactError: the file is missing.
        CorruptError: the file is longer than ``MAX_JSON_BYTES``, or no JSON object.
    """
    return parse_json(read_json_bytes(path, what, advice), path, advice)


def read_json_bytes(path: Path, what: str, advice: str) -> bytes:
    """Read a JSON file's bytes, see ``read_json`` for arguments and errors."""
    if not path.is_file():
        raise ArtifactError(f"{path.parent} is not {what} (no {path.name} there): {advice}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, advice, error) from error
    if size > MAX_JSON_BYTES:
        raise CorruptError(f"{path} is not what was written, it has {size} bytes: {advice}")
    return read_bytes(path, advice)


def parse_json(data: bytes, path: Path, advice: str) -> dict[str, Any]:
    """Parse a JSON object; ``path`` and ``advice`` are for messages.

    Raises:
        CorruptError: the bytes are no JSON object.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not valid JSON ({error}): {advice}") from error
    if not isinstance(value, dict):
        raise CorruptError(f"{path} holds no JSON object: {advice}")
    return value


def sha256_file(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a folder's write lock, and create the folder if it is missing.

    The kernel holds the lock on the file ``lock`` in the folder. The lock ends with the process,
    however the process ends; the file stays.

    Args:
        folder: folder with one writer at a time.
        wait: whether to wait for the other writer instead of failing.

    Raises:
        LockedError: another process holds the lock, or this one holds it already.
        ArtifactError: the folder cannot be written to, or the lock is a symbolic link.
        StalledError: the disk is full, or too many files are open.
    """
    file = folder / "lock"
    lock = FileLock(file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():  # in a folder from a stranger: locking would empty the link's target
            raise ArtifactError(f"{file} is a symbolic link, not a lock: remove it")
        lock.acquire(blocking=wait)
    except Timeout:
        raise LockedError(
            f"{_holder(file)} writes into {folder} (it holds {file}): wait until that process "
            "has finished, set store.wait=true to wait automatically, or stop it"
        ) from None
    except OSError as error:
        unusable = ArtifactError(f"{folder} cannot be written to: {error}")
        raise explain_shortage(error, folder) or unusable from error
    try:
        _write_holder(file, str(os.getpid()))
        yield
        _write_holder(file, "")
    finally:
        lock.release()


def _write_holder(file: Path, text: str) -> None:
    with suppress(OSError):  # on a full disk others do not learn the process id
        file.write_text(text, encoding="utf-8")


def _holder(file: Path) -> str:
    process_id = file.read_text(encoding="utf-8").strip()
    return f"process {process_id}" if process_id.isdecimal() else "another process"
