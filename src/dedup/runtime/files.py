"""The file formats of a run, read and written whole.

This is the only module that knows them. Everything is Parquet, ``.npy`` or JSON: no pickle, and no
CSV between stages (CSV turns the ids ``007``, ``1e5`` and ``NA`` into numbers and blanks).
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


def atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path in the same folder, then move the file into place.

    The bytes are on disk before the name is, so a reader sees the old file or the new one, and
    never a part, even when the process or the machine stops at any moment.

    Raises:
        OSError: it cannot be written; the error names ``path``.
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
        with suppress(OSError):  # what stopped the writing is what is to be said
            part.unlink()


_WRITTEN: set[Path] = set()


def written(folder: Path) -> list[str]:
    """What this process wrote into a folder and below it, and is there: names in it, sorted."""
    folder = folder.absolute()
    files = [path for path in _WRITTEN if folder in path.parents and path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in files)


def move(source: Path, target: Path) -> None:
    """Give a file its place in another folder of the same disk, for good once this returns."""
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
    """A file's bytes.

    Raises:
        ArtifactError: it is missing, or must not be read.
        CorruptError: the disk does not give them.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise ArtifactError(f"{path} is missing: {advice}") from None
    except OSError as error:
        raise unreadable(path, advice, error) from error


def unreadable(path: Path, advice: str, error: OSError) -> Exception:
    """What to raise where a file's bytes cannot be had."""
    refused = isinstance(error, PermissionError)
    if is_shortage(error) and not refused:
        return error
    kind = ArtifactError if refused else CorruptError
    return kind(f"{path} cannot be read ({error.strerror or error}): {advice}")


def write_array(array: npt.NDArray[Any], path: Path) -> None:
    """Write an array as ``.npy``.

    Raises:
        ValueError: it holds objects, which only a pickle could keep.
    """
    if array.dtype.hasobject:
        raise ValueError(f"an array of {array.dtype} holds objects")

    def write(part: Path) -> None:
        with part.open("wb") as file:  # np.save does not say why a disk takes no more
            file.write(array_header(array.shape, array.dtype))
            file.write(np.ascontiguousarray(array).data)

    atomically(path, write)


def array_header(shape: tuple[int, ...], dtype: npt.DTypeLike) -> bytes:
    """What stands in an ``.npy`` file before the values of an array in C order."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return header.getvalue()


def read_array(path: Path, advice: str = "run its stage again") -> npt.NDArray[Any]:
    """Memory-map an ``.npy`` array, read-only; ``advice`` is what to do where it is damaged.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it cannot be read, is cut short or holds pickled objects.
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
"""What NumPy raises of a header that it did not write."""


def write_json(value: Mapping[str, Any], path: Path) -> None:
    """Write a JSON object, see ``json_text``."""
    write_text(json_text(value), path)


def json_text(value: Mapping[str, Any]) -> str:
    """A JSON object, indented as the original experiment's report was."""
    return visible_json(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def write_text(text: str, path: Path) -> None:
    """Write a text file as UTF-8."""
    write_bytes(text.encode(), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file of these bytes."""

    def write(part: Path) -> None:
        part.write_bytes(data)

    atomically(path, write)


def in_sorted_order(data: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library writes them in random order."""
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
        what: what it belongs to, for the message: "an index".
        advice: what to do when it is missing or broken.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it is not a JSON object.
    """
    if not path.is_file():
        raise ArtifactError(f"{path.parent} is not {what} (no {path.name} there): {advice}")
    return parsed_json(read_bytes(path, advice), path, advice)


def parsed_json(data: bytes, path: Path, advice: str) -> dict[str, Any]:
    """A file's JSON object; ``path`` and ``advice`` are for messages.

    Raises:
        CorruptError: it is not a JSON object.
    """
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{path} is not valid JSON ({error}): {advice}") from error
    if not isinstance(value, dict):
        raise CorruptError(f"{path} holds no JSON object: {advice}")
    return value


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Be the only one who writes into a folder, which is made where there is none.

    The lock is the kernel's, on the file ``lock`` there: it ends with the process, however that
    ends, and the file stays.

    Args:
        folder: where only one may write.
        wait: until others are done.

    Raises:
        LockedError: another process has it, or this one has it already.
        ArtifactError: the folder cannot be written to, or the lock is a link to somewhere else.
        StalledError: the disk is full, or too many files are open.
    """
    file = folder / "lock"
    lock = FileLock(file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():  # of a folder that was passed on: what it leads to would be emptied
            raise ArtifactError(f"{file} is a link: remove it")
        lock.acquire(blocking=wait)
    except Timeout:
        raise LockedError(
            f"{_holder(file)} writes into {folder} (it holds {file}): wait until it is done (so "
            "does store.wait=true), or stop it"
        ) from None
    except OSError as error:
        unusable = ArtifactError(f"{folder} cannot be written to: {error}")
        raise explain_shortage(error, folder) or unusable from error
    try:
        _sign(file, str(os.getpid()))
        yield
        _sign(file, "")
    finally:
        lock.release()


def _sign(file: Path, text: str) -> None:
    with suppress(OSError):  # a full disk: others then do not learn who it is
        file.write_text(text, encoding="utf-8")


def _holder(file: Path) -> str:
    number = file.read_text(encoding="utf-8").strip()
    return f"process {number}" if number.isdecimal() else "another process"
