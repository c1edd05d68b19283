"""What confirms a shard's files: its seal, as text with a digest of itself, and digests at ends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from dedup.files import json_text

SEALED = ("npy", "details.npy", "parquet")
"""How the names of the files end that a seal confirms: pixels, details and the table."""


def read_seal(data: bytes, shard: int) -> dict[str, Any] | None:
    """What the bytes of a seal say, or ``None`` where they are not exactly what was written."""
    try:
        content = json.loads(data)
        del content["sha256"]
        whole = content["shard"] == shard and sealed_text(content).encode() == data
        files = content["files"]
        # They become paths: a store may have been passed on.
        named = {*files} == {*SEALED} and all(
            type(files[ending]["size"]) is int and type(files[ending]["sha256"]) is str
            for ending in SEALED
        )
        whole = whole and named and isinstance(content["store"], dict)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return content if whole else None


def sealed_text(content: Mapping[str, Any]) -> str:
    """A seal as text, with a digest of itself."""
    digest = hashlib.sha256(json_text(content).encode()).hexdigest()
    return json_text({**content, "sha256": digest})


def kept_digest(data: bytes, details: Sequence[str]) -> bytes:
    """The 32 bytes at the end of a file of what was found in a shard's pictures.

    Args:
        data: the file up to there.
        details: digests of the details in which it was found, in the order of rows.
    """
    return hashlib.sha256(data + "".join(details).encode()).digest()
