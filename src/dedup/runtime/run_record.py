"""A run's record: ``run.json``, written last, with settings and a checksum of every file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dedup.runtime.checksums import FILES, file_facts, parse_checked, read_checked, write_checked
from dedup.runtime.files import written

RUN = "run.json"
ADVICE = "run the command again, or remove the file and name all settings yourself"
"""Remedy for a damaged ``run.json``."""


def write_run(content: Mapping[str, Any], folder: Path) -> None:
    """Write ``run.json`` into a run's folder, with checksums of the files this process wrote.

    Hidden files, logs and TensorBoard's files are left out. A checkpoint carries its own checksum,
    see ``dedup.encoders.archive``.

    Args:
        content: version, settings and result of the run.
        folder: the run's folder.
    """
    names = [name for name in written(folder) if name != RUN and not _is_hidden(name)]
    recorded = _recorded_before(folder)
    files = {name: _without_rows(recorded[name]) if name in recorded else file_facts(folder / name)
             for name in names}  # fmt: skip
    write_checked(content, files, folder / RUN)


def read_run(file: Path, advice: str = ADVICE) -> dict[str, Any]:
    """Read a ``run.json``; one of an earlier version has no entry ``FILES``.

    Raises:
        ArtifactError: the file is missing.
        CorruptError: the file is not what was written.
    """
    return read_checked(file, "a finished run", advice)


def _recorded_before(folder: Path) -> dict[str, Any]:
    """Collect the checksums that this process wrote with an index, a search or a result."""
    recorded: dict[str, Any] = {}
    for name in ("manifest.json", "search.json", "result.json"):
        if name in written(folder):
            recorded |= (parse_checked((folder / name).read_bytes()) or {}).get(FILES, {})
    return recorded


def _without_rows(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in ("size", "sha256")}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
