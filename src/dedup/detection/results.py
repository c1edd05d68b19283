"""What a detection gives, and how it is saved and loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from dedup import __version__
from dedup.runtime.checksums import facts, write_sealed
from dedup.runtime.files import write_json
from dedup.runtime.sealed_files import confirmed_tables
from dedup.runtime.tables import as_frame, write_table
from dedup.schemas import FAMILIES, GROUPS, PAIRS, RELATIONS, SHARED, TIERS
from dedup.search.consistency import check_families, check_groups, check_pairs, check_shared
from dedup.search.manifest import ANEW, RESULT, RESULT_FORMAT, Origin, read_result

SCHEMAS = {
    "pairs": PAIRS,
    "groups": GROUPS,
    "shared": SHARED,
    "candidates": PAIRS,
    "related": PAIRS,
    "families": FAMILIES,
}
"""The tables of a result by name; each is saved as ``<name>.parquet``."""


def _no_rows(schema: pa.Schema) -> pd.DataFrame:
    return pd.DataFrame(columns=schema.names)


@dataclass(frozen=True)
class DetectionResult:
    """The duplicates in a catalogue.

    Attributes:
        pairs: the schema ``PAIRS``.
        groups: the schema ``GROUPS``.
        shared: the schema ``SHARED``.
        search: the facts of a ``SearchState``.
        calibration: how the threshold was chosen, plain JSON values; empty where it was given as
            a number. ``precision`` asked for; ``setting`` that was chosen, ``verifier.min_score``
            or ``matcher.threshold``; ``threshold``, its value; ``higher_is_surer``;
            ``expected_precision``, as all expected figures value, low and high; ``interval``,
            the confidence of these; ``n_pairs`` looked at; ``measured`` against the user's own
            pairs, or ``None``: ``precision``, ``recall``, ``f1``, ``n_true``, ``n_found``,
            ``n_wrong``, ``bcubed_f1`` and ``truth``, the file. Where edited copies were made:
            ``n_copies``; ``expected_recall``; ``recall_by_edit``, recall and number of copies by
            name; ``curve``, at most 200 points with ``threshold``, ``precision``, ``recall``.
        candidates: the schema ``PAIRS``: every two products that were looked at again, reported or
            not; without a verifier, those that are near.
        related: the schema ``PAIRS``: pairs that are no duplicates and yet not nothing: colour
            variants, and products photographed again. A variant's score is how surely the two are
            one but for their colours; another photo has none.
        families: the schema ``FAMILIES``: the products of the variants in ``related``.
    """

    pairs: pd.DataFrame
    groups: pd.DataFrame
    shared: pd.DataFrame
    search: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] = field(default_factory=dict)
    candidates: pd.DataFrame = field(default_factory=partial(_no_rows, PAIRS))
    related: pd.DataFrame = field(default_factory=partial(_no_rows, PAIRS))
    families: pd.DataFrame = field(default_factory=partial(_no_rows, FAMILIES))

    def save(self, folder: str | Path, index: Path | None = None) -> None:
        """Write the tables, ``calibration.json`` and last the sealed ``result.json``.

        Args:
            folder: where to; made if it is not there.
            index: the folder of the index that was searched, so that a later reader finds it.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, schema in SCHEMAS.items():
            write_table(getattr(self, name), schema, folder / f"{name}.parquet")
        write_json(self.calibration, folder / "calibration.json")
        files = {
            f"{name}.parquet": facts(folder / f"{name}.parquet", rows=len(getattr(self, name)))
            for name in SCHEMAS
        }
        content = {
            "format": RESULT_FORMAT,
            "version": __version__,
            "index": None if index is None else _beside(index, folder),
            "search": self.search,
            "calibration": self.calibration,
        }
        write_sealed(content, files, folder / RESULT)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a result.

        Raises:
            ArtifactError: there is none in ``folder``, or one of an earlier version.
            CorruptError: its files are not what was written, or cannot be.
        """
        folder = Path(folder)
        manifest, files = read_result(folder)
        schemas = {f"{name}.parquet": schema for name, schema in SCHEMAS.items()}
        tables = dict(zip(SCHEMAS, confirmed_tables(folder, schemas, files, ANEW), strict=True))
        origins = {name: Origin(folder / f"{name}.parquet", ANEW) for name in SCHEMAS}
        for name in ("pairs", "candidates", "related"):
            check_pairs(tables[name], TIERS, RELATIONS, origins[name])
        check_groups(tables["groups"], origins["groups"])
        check_shared(tables["shared"], origins["shared"])
        check_families(tables["families"], origins["families"])
        frames = {name: as_frame(table) for name, table in tables.items()}
        return cls(search=manifest["search"], calibration=manifest["calibration"], **frames)


def index_of(folder: Path) -> Path | None:
    """The folder of the index that a result was found in, or ``None`` where it is not known.

    Raises:
        ArtifactError: there is no result in ``folder``.
        CorruptError: ``result.json`` is not what was written.
    """
    named = read_result(folder)[0]["index"]
    return None if named is None else folder / named


def _beside(index: Path, folder: Path) -> str:
    """The path of an index: relative where it lies in the same folder of runs, which may move."""
    index, folder = index.resolve(), folder.resolve()
    near = folder.parents[min(1, len(folder.parents) - 1)]
    return os.path.relpath(index, folder) if index.is_relative_to(near) else str(index)
