"""Whether an index, a search or all that a run left is what was written, byte for byte."""

from __future__ import annotations

import logging
import zipfile
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

Said = Mapping[str, Any]

ADVICE = "name the folder of a run that ended, such as runs/detect/latest"


def inspect_index(folder: Path) -> list[Damage]:
    """The damage to an index, and what of it cannot be, though its digests are right.

    Raises:
        ArtifactError: there is no index, or one of another version.
    """
    try:
        _, files = read_manifest(folder)
    except CorruptError as error:
        return [Damage(None, MANIFEST, "changed", detail=str(error))]
    return _changed(folder, files) or _impossible(folder, files, lambda: Index.load(folder).vectors)


def inspect_search(folder: Path) -> list[Damage]:
    """The damage to a search, as ``inspect_index`` says it.

    Raises:
        ArtifactError: there is no search, or one of another version.
    """
    try:
        _, files = read_facts(folder)
    except CorruptError as error:
        return [Damage(None, SEARCH, "changed", detail=str(error))]
    return _changed(folder, files) or _impossible(folder, files, lambda: SearchState.load(folder))


def inspect_result(folder: Path) -> list[Damage]:
    """The damage to a result, as ``inspect_index`` says it.

    Raises:
        ArtifactError: there is no result, or one of another version.
    """
    try:
        _, files = read_result(folder)
    except CorruptError as error:
        return [Damage(None, RESULT, "changed", detail=str(error))]
    return _changed(folder, files) or _impossible(
        folder, files, lambda: DetectionResult.load(folder)
    )


def inspect_run(folder: Path) -> list[Damage]:
    """The damage to what a run left: to each file that it wrote, checkpoints among them.

    Raises:
        ArtifactError: there is no run that ended, or an index or search of another version.
    """
    found: list[Damage] = []
    files: Said = {}
    try:
        files = _listed(read_run(folder / RUN, ADVICE), folder)
    except CorruptError as error:
        found.append(Damage(None, RUN, "changed", detail=str(error)))
    found += _changed(folder, files)
    found += _broken_checkpoints(sorted(folder.glob("*.ckpt")))
    sealed = ((MANIFEST, inspect_index), (SEARCH, inspect_search), (RESULT, inspect_result))
    for name, inspect in sealed:
        if (folder / name).is_file():
            found += inspect(folder)
    return [*{damage.file: damage for damage in reversed(found)}.values()][::-1]


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _listed(said: Said, folder: Path) -> Said:
    """What a run says of its files.

    Raises:
        CorruptError: they are not files of its folder.
    """
    if FILES not in said:
        log.warning("%s is an earlier version's, which kept no digests of results", folder / RUN)
    files = said.get(FILES, {})
    if not isinstance(files, dict):
        raise CorruptError(f"{folder / RUN} cannot be what was written, it lists no files")
    for name, one in files.items():
        path = PurePosixPath(name)
        inside = path.name and not path.is_absolute() and ".." not in path.parts
        told = isinstance(one, dict) and is_count(one.get("size")) and is_digest(one.get("sha256"))
        if not inside or not name.isprintable() or not told:
            raise CorruptError(
                f"{folder / RUN} cannot be what was written, it lists a file {name[:100]!r}"
            )
    return files


def _changed(folder: Path, files: Said) -> list[Damage]:
    """The files that are not there, or not of the size and SHA-256 that is said of them."""

    def kind(name: str) -> Kind | None:
        file, said = folder / name, files[name]
        if not file.is_file():
            return "missing"
        same = file.stat().st_size == said["size"] and sha256_file(file) == said["sha256"]
        return None if same else "changed"

    kinds = zip(files, in_order(kind, files), strict=True)
    return [Damage(None, name, found) for name, found in kinds if found is not None]


def _impossible(folder: Path, files: Said, load: Callable[[], object]) -> list[Damage]:
    """What cannot be, though its digest is right."""
    try:
        load()
    except CorruptError as error:
        said = str(error)
        names = [name for name in files if said.startswith(str(folder / name))]
        return [Damage(None, name, "impossible", detail=said) for name in names or [MANIFEST]]
    return []


def _broken_checkpoints(files: Iterable[Path]) -> list[Damage]:
    """Those whose own digest, or whose parts' in what an earlier version wrote, are others."""
    found = []
    for file in files:
        try:
            if has_checksum(file):
                continue
            with zipfile.ZipFile(file) as archive:
                broken = archive.testzip()
            why = f"its part {broken} is broken" if broken else ""
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
            why = str(error)
        if why:
            found.append(Damage(None, file.name, "changed", detail=f"{file}: {why}"))
    return found
