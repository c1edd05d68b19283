"""Read a detect run with the catalogue that it searched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.actions.text_columns import mergeable
from dedup.detection.results import SCHEMAS, DetectionResult, index_of
from dedup.errors import ArtifactError
from dedup.runtime.invocation import command
from dedup.runtime.run_record import RUN, read_run
from dedup.search.index import Index, load_tables
from dedup.search.manifest import MANIFEST, RESULT

SECTIONS = ("matcher", "verifier", "detection")
"""Sections of a run's settings that decide which pairs are found."""

_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}")


@dataclass(frozen=True)
class DetectRun:
    """A detect run: its result, the catalogue that it searched, and its settings.

    Attributes:
        name: the folder, for people.
        made: time of the run, ISO 8601 in UTC to the second.
        result: the tables of the result.
        images: ``product_id``, ``url`` and ``sha256_pixels``; the digest is "" where the image is
            not ok.
        products: the user's table; no rows where the index is gone.
        manifest: of the index; empty where that is gone.
        settings: the settings by dotted key that decide which pairs are found.
    """

    name: str
    made: str
    result: DetectionResult
    images: pd.DataFrame
    products: pd.DataFrame = field(default_factory=pd.DataFrame)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)


def read_detect_run(folder: Path) -> DetectRun:
    """Read the result in a folder, and the tables of the index that it was found in.

    Raises:
        ArtifactError: there is no result, it compares two catalogues, or neither the index nor
            the table of health tells which images the products had.
        CorruptError: a file is damaged.
    """
    result = DetectionResult.load(folder)
    tables: dict[str, Any] = {name: mergeable(getattr(result, name)) for name in SCHEMAS}
    result = replace(result, **tables)
    if result.search is not None and result.search.against:
        raise ArtifactError(
            f"{folder} compares two catalogues (against=): name a run of {command('detect')} on "
            "one catalogue"
        )
    home = index_of(folder)
    if home is not None and (home / MANIFEST).is_file():
        shown, products, manifest = load_tables(home)
        images = _shown(shown)
    elif len(result.health):
        images = result.health[["product_id", "image", "sha256_pixels"]]
        images = images.set_axis(["product_id", "url", "sha256_pixels"], axis=1)
        products, manifest = pd.DataFrame(), {}
    else:
        raise ArtifactError(
            f"the index that {folder} was found in is gone ({home}), so nothing tells which "
            f"products there were: run {command('detect')} again"
        )
    recorded = read_run(folder / RUN) if (folder / RUN).is_file() else {}
    return DetectRun(
        _name_of(folder), _time_of(folder), result, _named(images), products, manifest,
        _settings(recorded, result),
    )  # fmt: skip


def present_run(
    result: DetectionResult, index: Index, settings: Mapping[str, Any], folder: Path | None
) -> DetectRun:
    """Describe the run that is being made, before its files are written.

    Args:
        result: its result.
        index: the index that it searched.
        settings: its settings as plain values.
        folder: its folder, if it has one.
    """
    made = _stamped(folder) if folder is not None else ""
    return DetectRun(
        str(folder or ""), made or _written(datetime.now(UTC)), result,
        _named(_shown(index.images)), index.products, index.manifest, _settings(settings, result),
    )  # fmt: skip


def _shown(images: pd.DataFrame) -> pd.DataFrame:
    """Return product, address and digest of an index's images; "" where one is not ok."""
    digests = images["sha256_pixels"].where(images["status"] == "ok", "")
    return images[["product_id", "url"]].assign(sha256_pixels=digests)


def _named(images: pd.DataFrame) -> pd.DataFrame:
    """Leave out the images of rows without an id, and repeated ones."""
    return images[images["product_id"] != ""].drop_duplicates().reset_index(drop=True)


def _name_of(folder: Path) -> str:
    """Name a run's folder, and not the link that led there and will lead elsewhere."""
    return str(folder.parent / folder.resolve().name if folder.is_symlink() else folder)


def _time_of(folder: Path) -> str:
    """Read a run's time from its folder's name, or else from its result's file."""
    written = datetime.fromtimestamp((folder / RESULT).stat().st_mtime, UTC)
    return _stamped(folder) or _written(written)


def _stamped(folder: Path) -> str:
    """Read a time from a folder's name, in the zone of this machine; "" where it has none."""
    stamp = _STAMP.fullmatch(folder.resolve().name)
    if not stamp:
        return ""
    return _written(datetime.strptime(stamp[0], "%Y-%m-%d_%H-%M-%S-%f").astimezone(UTC))


def _written(made: datetime) -> str:
    return made.strftime("%Y-%m-%dT%H:%M:%SZ")


def _settings(recorded: Mapping[str, Any], result: DetectionResult) -> dict[str, str]:
    """Collect the settings that decide which pairs are found: of the run, and of its search."""
    settings = {
        key: value
        for section in SECTIONS
        for key, value in _flat(recorded.get(section), section)
        if not key.endswith("_target_")
    }
    if "version" in recorded:
        settings["version"] = str(recorded["version"])
    if result.search is not None:
        facts = result.search
        settings |= {
            "encoder (SHA-256)": facts.checkpoint_sha256[:12],
            "classifier and verifier (SHA-256)": str(facts.verdicts)[:12],
            "matcher.threshold": f"{facts.asked}",
            "detection.block_by": f"{facts.block_by}",
        }
    return settings


def _flat(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(inner, f"{key}.{name}")]
    return [(key, str(value))]


def changed_settings(old: DetectRun, new: DetectRun) -> list[tuple[str, str, str]]:
    """List the settings in which two runs differ, each with its old and its new value."""
    keys = sorted({*old.settings} & {*new.settings})
    pairs = ((key, old.settings[key], new.settings[key]) for key in keys)
    return [each for each in pairs if each[1] != each[2]]
