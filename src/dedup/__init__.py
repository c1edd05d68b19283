"""Find duplicate products in a catalogue by their images.

Names are imported at their first use (PEP 562), so that ``import dedup`` loads neither torch nor
Hydra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dedup.api import (
        DetectionResult,
        Index,
        build_index,
        find_duplicates,
        match,
        query,
        update_index,
    )
    from dedup.encoders.checkpoint import load_encoder
    from dedup.errors import (
        ArtifactError,
        ConfigError,
        CorruptError,
        DedupError,
        ImageError,
        LockedError,
        LostProcessError,
        SourceError,
        StalledError,
    )

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "ConfigError",
    "CorruptError",
    "DedupError",
    "DetectionResult",
    "ImageError",
    "Index",
    "LockedError",
    "LostProcessError",
    "SourceError",
    "StalledError",
    "__version__",
    "build_index",
    "find_duplicates",
    "load_encoder",
    "match",
    "query",
    "update_index",
]


_MOVED = {"check": "dedup.cli.check"}
"""Modules that had another place, by their old names."""


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return importlib.import_module(_MOVED[name])
    if name not in __all__:
        raise AttributeError(f"module 'dedup' has no attribute {name!r}")
    home = (
        "errors"
        if name.endswith("Error")
        else "encoders.checkpoint"
        if name == "load_encoder"
        else "api"
    )
    value = getattr(importlib.import_module(f"dedup.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
