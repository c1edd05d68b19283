"""What a command left behind: ``run.json``, written last, says it of every file of its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dedup.runtime.checksums import FILES, facts, read_seal, read_sealed, write_sealed
from dedup.runtime.files import written

RUN = "run.json"
ADVICE = "run the command again, or take the file away and say all settings yourself"


def seal_run(content: Mapping[str, Any], folder: Path) -> None:
    """Write ``run.json`` into a run's folder: ``content``, and digests of what this process wrote.

    Hidden files are left out, and what is not this package's to write: logs and TensorBoard's
    files. Checkpoints carry a digest of themselves, see ``dedup.encoders.archive``.
    """
    names = [name for name in written(folder) if name != RUN and not _is_hidden(name)]
    known = _sealed_before(folder)
    files = {name: _without_rows(known[name]) if name in known else facts(folder / name)
             for name in names}  # fmt: skip
    write_sealed(content, files, folder / RUN)


def read_run(file: Path, advice: str = ADVICE) -> dict[str, Any]:
    """What a ``run.json`` says; without ``FILES`` where an earlier version wrote it.

    Raises:
        ArtifactError: it is missing.
        CorruptError: it is not what was written.
    """
    return read_sealed(file, "a finished run", advice)


def _sealed_before(folder: Path) -> dict[str, Any]:
    """What has just been said of files there by an index, a search or a result."""
    known: dict[str, Any] = {}
    for name in ("manifest.json", "search.json", "result.json"):
        if name in written(folder):
            known |= (read_seal((folder / name).read_bytes()) or {}).get(FILES, {})
    return known


def _without_rows(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said[name] for name in ("size", "sha256")}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
