"""What confirms files: JSON that carries the SHA-256 of itself and of others, and digests at ends.

A sealed file is read only if it is, byte for byte, what would be written of what it says. So the
digests in it can be relied on, unless somebody made them anew: this finds damage, not forgery.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.files import (
    json_text,
    parsed_json,
    read_bytes,
    sha256_file,
    unreadable,
    write_text,
)

HEX = re.compile(r"[0-9a-f]{64}")


FILES, OWN = "files", "sha256"
"""Where a sealed file tells of other files, and its own digest."""

MAX_BYTES = 2**26
"""No sealed file is longer, so no more of one is read into memory."""

SEALED = ("npy", "details.npy", "parquet")
"""How the names of the files end that a seal confirms: pixels, details and the table."""


def read_seal(data: bytes, shard: int | None = None) -> dict[str, Any] | None:
    """What the bytes of a seal say, or ``None`` where they are not exactly what was written.

    With ``shard``, the seal must be of the shard of that number.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        del content[OWN]
        whole = sealed_text(content).encode() == data
        if shard is not None:
            whole = whole and content["shard"] == shard and _names_its_own(content)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return content if whole else None


def _names_its_own(content: Mapping[str, Any]) -> bool:
    """Whether a shard's seal names its files alone: they become paths, and stores are passed on."""
    files = content[FILES]
    return (
        {*files} == {*SEALED}
        and all(type(said["size"]) is int and type(said[OWN]) is str for said in files.values())
        and isinstance(content["store"], dict)
    )


def sealed_text(content: Mapping[str, Any]) -> str:
    """A seal as text, with a digest of itself."""
    digest = hashlib.sha256(json_text(content).encode()).hexdigest()
    return json_text({**content, OWN: digest})


def write_sealed(content: Mapping[str, Any], files: Mapping[str, Any], path: Path) -> None:
    """Write a sealed file that says ``content`` and confirms other files, see ``facts``."""
    said = {name: value for name, value in content.items() if name not in (FILES, OWN)}
    write_text(sealed_text({**said, FILES: files}), path)


def facts(file: Path, **more: int) -> dict[str, Any]:
    """What a seal says of a file: ``size`` in bytes, ``sha256``, and ``more``."""
    return {**more, "size": file.stat().st_size, "sha256": sha256_file(file)}


def read_sealed(path: Path, what: str, advice: str) -> dict[str, Any]:
    """What a sealed file says, but its digest.

    One that an earlier version wrote has no seal, and says nothing of ``FILES``.

    Args:
        path: the file.
        what: what it belongs to, for the message: "an index".
        advice: what to do when it is missing or broken.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it is not what was written.
    """
    if not path.is_file():
        raise ArtifactError(f"{path.parent} is not {what} (no {path.name} there): {advice}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, advice, error) from error
    if size > MAX_BYTES:
        raise CorruptError(f"{path} is not what was written, it has {size} bytes: {advice}")
    data = read_bytes(path, advice)
    content = read_seal(data)
    if content is None:
        content = parsed_json(data, path, advice)
        # Neither stood in what earlier versions wrote, and damage does not take both out.
        if FILES in content or OWN in content:
            raise CorruptError(f"{path} is not what was written, its seal says: {advice}")
    return content


def check_size(file: Path, said: Mapping[str, Any], advice: str) -> None:
    """Compare a file with what a seal says of it, without reading it.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it has another size.
    """
    try:
        size = file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{file} is missing: {advice}") from None
    except OSError as error:
        raise unreadable(file, advice, error) from error
    if size != said["size"]:
        raise CorruptError(
            f"{file} is not what was written, it has {size} bytes, not {said['size']}: {advice}"
        )


def check_digest(file: Path, digest: str, said: Mapping[str, Any], advice: str) -> None:
    """Compare the SHA-256 of a file with what a seal says of it.

    Raises:
        CorruptError: it is another.
    """
    if digest != said["sha256"]:
        raise CorruptError(
            f"{file} is not what was written, its SHA-256 is {digest[:12]}, not "
            f"{said['sha256'][:12]}: {advice}"
        )


def kept_digest(data: bytes, details: Sequence[str]) -> bytes:
    """The 32 bytes at the end of a file of what was found in a shard's images.

    Args:
        data: the file up to there.
        details: digests of the details in which it was found, in the order of rows.
    """
    return hashlib.sha256(data + "".join(details).encode()).digest()
