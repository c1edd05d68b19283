"""Checksums: JSON files with the SHA-256 of themselves and of other files.

Such a file is accepted only if writing its content again gives the same bytes, so its digests can
be relied on. This finds damage, not forgery: anybody can compute new digests.
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
    parse_json,
    read_json_bytes,
    sha256_file,
    unreadable,
    write_text,
)

HEX = re.compile(r"[0-9a-f]{64}")
"""A SHA-256 in hex digits."""

FILES, OWN = "files", "sha256"
"""Keys of the other files' checksums, and of the file's own."""

SHARD_SUFFIXES = ("npy", "details.npy", "parquet")
"""Suffixes of a shard's files with checksums: pixels, previews and the table."""


def parse_checked(data: bytes, shard: int | None = None) -> dict[str, Any] | None:
    """Parse JSON with checksums; ``None`` if the bytes are not exactly those that were written.

    Args:
        data: the file's bytes.
        shard: number of the shard that the file must describe; ``None`` if it describes none.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        del content[OWN]
        is_whole = checked_text(content).encode() == data
        if shard is not None:
            is_whole = is_whole and content["shard"] == shard and _has_shard_files(content)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return content if is_whole else None


def _has_shard_files(content: Mapping[str, Any]) -> bool:
    """Tell whether exactly a shard's own files are named: a stranger's names must not be paths."""
    files = content[FILES]
    return (
        {*files} == {*SHARD_SUFFIXES}
        and all(type(facts["size"]) is int and type(facts[OWN]) is str for facts in files.values())
        and isinstance(content["store"], dict)
    )


def checked_text(content: Mapping[str, Any]) -> str:
    """Format JSON with a checksum of itself."""
    digest = hashlib.sha256(json_text(content).encode()).hexdigest()
    return json_text({**content, OWN: digest})


def write_checked(content: Mapping[str, Any], files: Mapping[str, Any], path: Path) -> None:
    """Write JSON with checksums of itself and of other files.

    Args:
        content: the values to write.
        files: ``file_facts`` of the other files, by name.
        path: the file.
    """
    others = {name: value for name, value in content.items() if name not in (FILES, OWN)}
    write_text(checked_text({**others, FILES: files}), path)


def file_facts(file: Path, **more: int) -> dict[str, Any]:
    """Describe a file: ``size`` in bytes, ``sha256``, and ``more``."""
    return {**more, "size": file.stat().st_size, "sha256": sha256_file(file)}


def read_checked(path: Path, what: str, advice: str) -> dict[str, Any]:
    """Read JSON with checksums, and leave its own checksum out.

    A file of an earlier version has no checksum, and no entry ``FILES``.

    Args:
        path: the file.
        what: kind of folder that holds the file, for messages: "an index".
        advice: remedy for a missing or damaged file, for messages.

    Raises:
        ArtifactError: the file is missing.
        CorruptError: the file is not what was written.
    """
    data = read_json_bytes(path, what, advice)
    content = parse_checked(data)
    if content is None:
        content = parse_json(data, path, advice)
        # Earlier versions wrote neither key, and damage does not remove both.
        if FILES in content or OWN in content:
            raise CorruptError(f"{path} is not what was written, its SHA-256 differs: {advice}")
    return content


def check_size(file: Path, facts: Mapping[str, Any], advice: str) -> None:
    """Compare a file's size with the recorded one, without reading the file.

    Raises:
        ArtifactError: the file is missing.
        CorruptError: its size differs.
    """
    try:
        size = file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{file} is missing: {advice}") from None
    except OSError as error:
        raise unreadable(file, advice, error) from error
    if size != facts["size"]:
        raise CorruptError(
            f"{file} is not what was written, it has {size} bytes, not {facts['size']}: {advice}"
        )


def check_digest(file: Path, digest: str, facts: Mapping[str, Any], advice: str) -> None:
    """Compare a file's SHA-256 with the recorded one.

    Raises:
        CorruptError: the two differ.
    """
    if digest != facts["sha256"]:
        raise CorruptError(
            f"{file} is not what was written, its SHA-256 is {digest[:12]}, not "
            f"{facts['sha256'][:12]}: {advice}"
        )


def kept_digest(data: bytes, details: Sequence[str]) -> bytes:
    """Compute the 32-byte digest that ends a file of values derived from a shard's previews.

    Args:
        data: the file without its digest.
        details: digests of the previews that the values were derived from, in the order of rows.
    """
    return hashlib.sha256(data + "".join(details).encode()).digest()
