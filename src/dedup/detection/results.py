"""Save and load the result of a detection."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from dedup import __version__
from dedup.detection.calibration import Calibration
from dedup.errors import CorruptError
from dedup.runtime.checked_files import read_checked_tables
from dedup.runtime.checksums import file_facts, write_checked
from dedup.runtime.files import write_json
from dedup.runtime.tables import as_frame, write_table
from dedup.schemas import (
    DECIDED,
    DECIDED_STATES,
    FAMILIES,
    GROUPS,
    HEALTH,
    PAIR_RELATIONS,
    PAIRS,
    PROBLEMS,
    SHARED,
    TIERS,
)
from dedup.search.consistency import (
    check_decided,
    check_families,
    check_groups,
    check_health,
    check_pairs,
    check_shared,
)
from dedup.search.manifest import ANEW, RESULT, RESULT_FORMAT, Origin, read_result
from dedup.search.state import SearchFacts

SCHEMAS = {
    "pairs": PAIRS,
    "groups": GROUPS,
    "shared": SHARED,
    "candidates": PAIRS,
    "related": PAIRS,
    "families": FAMILIES,
    "health": HEALTH,
    "decided": DECIDED,
}
"""The tables of a result by name; each is saved as ``<name>.parquet``, the last one if it
has rows."""


def _no_rows(schema: pa.Schema) -> pd.DataFrame:
    return pd.DataFrame(columns=schema.names)


@dataclass(frozen=True)
class DetectionResult:
    """The duplicates in a catalogue.

    Attributes:
        pairs: the schema ``PAIRS``.
        groups: the schema ``GROUPS``.
        shared: the schema ``SHARED``.
        search: limits, size and completeness of the search; ``None`` where nothing was searched.
        calibration: the threshold that was chosen, and the precision and recall expected of it;
            ``None`` where it was given as a number.
        measured: comparison with the user's own pairs, or ``None``: ``precision``, ``recall``,
            ``f1``, ``n_true``, ``n_found``, ``n_wrong``, ``bcubed_f1`` and ``truth``, the file.
        candidates: the schema ``PAIRS``: all pairs that a verifier compared, reported or not;
            without a verifier, the near pairs.
        related: the schema ``PAIRS``: pairs that are not reported, but colour variants, or perhaps
            other photos of one product, below the threshold, or products that share a secondary
            image alone. A variant's score is the probability of one product but for the colours;
            another photo has none.
        families: the schema ``FAMILIES``: the products of the variants in ``related``.
        health: the schema ``HEALTH``: the images and their problems; no rows where none were
            judged, and in results of earlier versions.
        changes: a sentence on what changed since an earlier run, for reports; "" without one. It
            is not saved.
        decided: the schema ``DECIDED``: pairs that people decided on; no rows
            without a ledger.
    """

    pairs: pd.DataFrame
    groups: pd.DataFrame
    shared: pd.DataFrame
    search: SearchFacts | None = None
    calibration: Calibration | None = None
    measured: dict[str, Any] | None = None
    candidates: pd.DataFrame = field(default_factory=partial(_no_rows, PAIRS))
    related: pd.DataFrame = field(default_factory=partial(_no_rows, PAIRS))
    families: pd.DataFrame = field(default_factory=partial(_no_rows, FAMILIES))
    health: pd.DataFrame = field(default_factory=partial(_no_rows, HEALTH))
    changes: str = ""
    decided: pd.DataFrame = field(default_factory=partial(_no_rows, DECIDED))

    def save(self, folder: str | Path, index: Path | None = None) -> None:
        """Write the tables, ``calibration.json`` and last ``result.json`` with checksums.

        Args:
            folder: made if it is not there.
            index: the folder of the index that was searched, for later readers.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = {
            name: SCHEMAS[name] for name in SCHEMAS if name != "decided" or len(self.decided)
        }
        for name, schema in written.items():
            write_table(getattr(self, name), schema, folder / f"{name}.parquet")
        calibration = self._calibration()
        write_json(calibration, folder / "calibration.json")
        files = {
            f"{name}.parquet": file_facts(folder / f"{name}.parquet", rows=len(getattr(self, name)))
            for name in written
        }
        content = {
            "format": RESULT_FORMAT,
            "version": __version__,
            "index": None if index is None else _beside(index, folder),
            "search": {} if self.search is None else self.search.to_dict(),
            "calibration": calibration,
        }
        write_checked(content, files, folder / RESULT)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a result.

        Raises:
            ArtifactError: there is none in ``folder``, or one of an earlier version.
            CorruptError: its files are damaged, or their values impossible.
        """
        folder = Path(folder)
        manifest, files = read_result(folder)
        names = [name for name in SCHEMAS if f"{name}.parquet" in files]
        schemas = {f"{name}.parquet": SCHEMAS[name] for name in names}
        tables = dict(zip(names, read_checked_tables(folder, schemas, files, ANEW), strict=True))
        origins = {name: Origin(folder / f"{name}.parquet", ANEW) for name in names}
        for name in ("pairs", "candidates", "related"):
            check_pairs(tables[name], TIERS, PAIR_RELATIONS, origins[name])
        check_groups(tables["groups"], origins["groups"])
        check_shared(tables["shared"], origins["shared"])
        check_families(tables["families"], origins["families"])
        if "health" in tables:
            check_health(tables["health"], PROBLEMS, origins["health"])
        if "decided" in tables:
            check_decided(tables["decided"], DECIDED_STATES, origins["decided"])
        frames = {name: as_frame(table) for name, table in tables.items()}
        search, calibration = manifest["search"], dict(manifest["calibration"])
        measured = calibration.pop("measured", None)
        try:
            chosen = Calibration.from_dict(calibration) if calibration else None
        except ValueError as error:
            raise CorruptError(f"{folder / RESULT} is damaged: {error}. {ANEW}") from error
        return cls(
            search=SearchFacts.from_dict(search) if search else None,
            calibration=chosen,
            measured=measured,
            **{name: frames[name] for name in names},  # type: ignore[arg-type]
        )

    def _calibration(self) -> dict[str, Any]:
        """Return the content of ``calibration.json``: empty without a choice or a truth."""
        values = {} if self.calibration is None else self.calibration.to_dict()
        return values if self.measured is None else {**values, "measured": self.measured}


def index_of(folder: Path) -> Path | None:
    """Return the folder of the index that a result was found in, or ``None`` where unknown.

    Raises:
        ArtifactError: there is no result in ``folder``.
        CorruptError: ``result.json`` is damaged.
    """
    name = read_result(folder)[0]["index"]
    return None if name is None else folder / name


def _beside(index: Path, folder: Path) -> str:
    """Return an index's path: relative in the same folder of runs, since that may be moved."""
    index, folder = index.resolve(), folder.resolve()
    near = folder.parents[min(1, len(folder.parents) - 1)]
    return os.path.relpath(index, folder) if index.is_relative_to(near) else str(index)
