"""The seal of a shard: what its files hold, as text with a digest of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dedup.files import json_text


def read_seal(data: bytes, shard: int) -> dict[str, Any] | None:
    """What the bytes of a seal say, or ``None`` where they are not exactly what was written."""
    try:
        content = json.loads(data)
        del content["sha256"]
        whole = content["shard"] == shard and sealed_text(content).encode() == data
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return content if whole else None


def sealed_text(content: Mapping[str, Any]) -> str:
    """A seal as text, with a digest of itself."""
    digest = hashlib.sha256(json_text(content).encode()).hexdigest()
    return json_text({**content, "sha256": digest})
