"""Check the checksums of an index, a search, a result, or all files of a run."""

from __future__ import annotations

import logging
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dedup.detection.results import DetectionResult
from dedup.encoders.archive import has_checksum
from dedup.errors import CorruptError
from dedup.runtime.checksums import FILES
from dedup.runtime.files import sha256_file
from dedup.runtime.parallel import in_order
from dedup.runtime.run_record import RUN, read_run
from dedup.search.index import Index
from dedup.search.manifest import (
    MANIFEST,
    RESULT,
    SEARCH,
    is_count,
    is_digest,
    read_facts,
    read_manifest,
    read_result,
)
from dedup.search.state import SearchState
from dedup.store.integrity import Damage, Kind

log = logging.getLogger("dedup")

Facts = Mapping[str, Any]

ADVICE = "name the folder of a run that ended, such as runs/detect/latest"
"""Advice for a folder without a run."""


def inspect_index(folder: Path) -> list[Damage]:
    """List the damage to an index: changed files, or invalid files with correct checksums.

    Raises:
        ArtifactError: there is no index, or one of another version.
    """
    return _inspect(folder, MANIFEST, read_manifest, lambda: Index.load(folder).vectors)


def inspect_search(folder: Path) -> list[Damage]:
    """List the damage to a search, as ``inspect_index`` does.

    Raises:
        ArtifactError: there is no search, or one of another version.
    """
    return _inspect(folder, SEARCH, read_facts, lambda: SearchState.load(folder))


def inspect_result(folder: Path) -> list[Damage]:
    """List the damage to a result, as ``inspect_index`` does.

    Raises:
        ArtifactError: there is no result, or one of another version.
    """
    return _inspect(folder, RESULT, read_result, lambda: DetectionResult.load(folder))


def inspect_run(folder: Path) -> list[Damage]:
    """List the damage to all files that a run wrote, checkpoints included.

    Raises:
        ArtifactError: there is no run that ended, or an index or search of another version.
    """
    damages: list[Damage] = []
    files: Facts = {}
    try:
        files = _listed_files(read_run(folder / RUN, ADVICE), folder)
    except CorruptError as error:
        damages.append(Damage(None, RUN, "changed", detail=str(error)))
    damages += _changed(folder, files)
    damages += _broken_checkpoints(sorted(folder.glob("*.ckpt")))
    parts = ((MANIFEST, inspect_index), (SEARCH, inspect_search), (RESULT, inspect_result))
    for name, inspect in parts:
        if (folder / name).is_file():
            damages += inspect(folder)
    return [*{damage.file: damage for damage in reversed(damages)}.values()][::-1]


def size_of(folder: Path) -> int:
    """Sum the sizes of all files in a folder, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _listed_files(run: Facts, folder: Path) -> Facts:
    """Read the sizes and checksums of a run's files from its record.

    Raises:
        CorruptError: a file is outside the run's folder, or its facts are invalid.
    """
    if FILES not in run:
        log.warning(
            "%s was written by an earlier version, without checksums of its files", folder / RUN
        )
    files = run.get(FILES, {})
    if not isinstance(files, dict):
        raise CorruptError(f"{folder / RUN} is invalid: {FILES} is not a list of files; {ADVICE}")
    for name, file in files.items():
        path = PurePosixPath(name)
        is_inside = path.name and not path.is_absolute() and ".." not in path.parts
        is_complete = (
            isinstance(file, dict) and is_count(file.get("size")) and is_digest(file.get("sha256"))
        )
        if not is_inside or not name.isprintable() or not is_complete:
            raise CorruptError(
                f"{folder / RUN} is invalid: its entry {name[:100]!r} does not describe a file of "
                f"the run; {ADVICE}"
            )
    return files


def _changed(folder: Path, files: Facts) -> list[Damage]:
    """List the files that are missing, or of another size or SHA-256."""

    def kind(name: str) -> Kind | None:
        file, facts = folder / name, files[name]
        if not file.is_file():
            return "missing"
        is_same = file.stat().st_size == facts["size"] and sha256_file(file) == facts["sha256"]
        return None if is_same else "changed"

    kinds = zip(files, in_order(kind, files), strict=True)
    return [Damage(None, name, damage) for name, damage in kinds if damage is not None]


def _inspect(
    folder: Path,
    name: str,
    read: Callable[[Path], tuple[Facts, Facts]],
    load: Callable[[], object],
) -> list[Damage]:
    """List the damage to what the file ``name`` describes.

    Args:
        folder: holds the file, and those that it names.
        name: the file with the checksums.
        read: reads it; its second value is the facts by file name.
        load: reads all files, and checks their values.
    """
    try:
        _, files = read(folder)
    except CorruptError as error:
        return [Damage(None, name, "changed", detail=str(error))]
    return _changed(folder, files) or _impossible(folder, files, load)


def _impossible(folder: Path, files: Facts, load: Callable[[], object]) -> list[Damage]:
    """List the files that are invalid although their checksums are correct."""
    try:
        load()
    except CorruptError as error:
        message = str(error)
        names = [name for name in files if message.startswith(str(folder / name))]
        return [Damage(None, name, "impossible", detail=message) for name in names or [MANIFEST]]
    return []


_UNREADABLE = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError,
    zlib.error, lzma.LZMAError, struct.error,
)  # fmt: skip
"""Errors that reading a damaged archive may raise."""


def _broken_checkpoints(files: Iterable[Path]) -> list[Damage]:
    """List the checkpoints whose digest is wrong; of earlier versions, the CRC-32 of a part."""
    damages = []
    for file in files:
        try:
            if not file.is_file():  # a folder, a pipe, or a link that leads nowhere
                raise ValueError("is no regular file")
            if has_checksum(file):
                continue
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
            why = f"its part {broken} is damaged" if broken else ""
        except _UNREADABLE as error:
            why = str(error)
        if why:
            damages.append(Damage(None, file.name, "changed", detail=f"{file}: {why}"))
    return damages
