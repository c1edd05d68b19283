"""Choose the index that a command works on: the latest, or that of an encoder or a source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dedup.config.instances import plain
from dedup.detection.results import index_of
from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError
from dedup.runtime.files import sha256_file
from dedup.search import origins
from dedup.search.manifest import MANIFEST, RESULT, read_manifest

STARTED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d+")
"""Pattern of a run folder's name, the time of its start."""


def latest_index(runs: Path, *, newest: bool = False) -> Path:
    """Find the index that a command works on if none is named.

    It is the latest cluster run's, or else the index that ``detect.py`` made or used last.

    Args:
        runs: the folder of runs.
        newest: whether to take the newer of the two, as a query does: it follows its index.

    Returns:
        The index's folder.
    """
    made, used = known_indexes(runs)
    if not (used / MANIFEST).is_file():
        return made
    started = [folder.resolve().name for folder in (made, used)]
    is_later = all(map(STARTED.fullmatch, started)) and started[1] > started[0]
    return used if not (made / MANIFEST).is_file() or (newest and is_later) else made


def known_indexes(runs: Path) -> tuple[Path, Path]:
    """Find the folders of the latest index of ``cluster.py``, and of that of ``detect.py``."""
    made, used = runs / "cluster" / "latest", runs / "detect" / "latest"
    return made, used if (used / MANIFEST).is_file() else _named_index(used) or made


def _named_index(folder: Path) -> Path | None:
    """Read the folder of the index that a result was found in."""
    if not (folder / RESULT).is_file():
        return None
    try:
        return index_of(folder)
    except ArtifactError:  # a damaged result is no reason to refuse an intact index
        return None


def usual_index(runs: Path, checkpoint: str | None, *, newest: bool = False) -> Path:
    """Find the latest index; with a checkpoint, the latest that was made with it, if any."""
    folder = latest_index(runs, newest=newest)
    if checkpoint is not None and not _is_of(folder, checkpoint):
        others = known_indexes(runs)
        folder = next((other for other in others if _is_of(other, checkpoint)), folder)
    return folder


def index_to_change(cfg: DictConfig) -> Path:
    """Find the index to change: ``index=``, or else the latest of the chosen encoder."""
    folder, usual = Path(cfg.index), Path(cfg.runs) / "cluster" / "latest"
    if folder != usual:
        return folder
    return usual_index(Path(cfg.runs), cfg.encoder.get("weights"))


def is_given(cfg: DictConfig) -> bool:
    """Tell whether a source was chosen: ``source: trained`` is a CSV without a path."""
    return not ("path" in cfg.source and cfg.source.path is None)


def serves(latest: Path, cfg: DictConfig) -> bool:
    """Tell whether the latest index fits the config, so that no new one is made.

    A source that is given with a checkpoint is always read anew.
    """
    if not is_given(cfg):
        return cfg.checkpoint is None or (
            _is_of(latest, cfg.checkpoint) and _shows(latest, foreground_of(cfg))
        )
    if cfg.checkpoint is not None or not (latest / MANIFEST).is_file():
        return False
    manifest, _ = read_manifest(latest)
    made = manifest.get("source")
    if isinstance(made, dict) and made.get("change") == "update":
        made = {name: value for name, value in made.items() if name not in ("index", "change")}
    return made == plain(cfg.source) and origins.shows(manifest, foreground_of(cfg))


def _is_of(folder: Path, checkpoint: str) -> bool:
    """Tell whether a folder holds an index that was made with a checkpoint."""
    if not (folder / MANIFEST).is_file():
        return False
    made_with: str = read_manifest(folder)[0]["checkpoint_sha256"]
    return made_with == sha256_file(checkpoint_file(checkpoint))


def _shows(folder: Path, foreground: dict[str, Any] | None) -> bool:
    return origins.shows(read_manifest(folder)[0], foreground)


def foreground_of(cfg: DictConfig) -> dict[str, Any] | None:
    """Describe the chosen foreground as an index's manifest does; ``None`` for whole images."""
    if cfg.foreground is None:
        return None
    return {"part": plain(cfg.foreground), "framing": plain(cfg.framing)}
