"""Save and load a search of an index's images, for a later search to continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dedup.runtime.checked_files import read_checked_tables
from dedup.runtime.checksums import file_facts, write_checked
from dedup.runtime.tables import as_frame, write_table
from dedup.schemas import COMPARED, NEAR, RELATIONS
from dedup.search.consistency import check_compared, check_near
from dedup.search.manifest import SEARCH, WITHOUT, Origin, read_facts

_KEYS = {
    "n_images": "pictures",
    "n_comparisons": "comparisons",
    "n_pairs": "pairs",
    "n_near_pairs": "near_pairs",
}
"""Keys in files, of the attributes that have another name there."""


@dataclass(frozen=True, kw_only=True)
class SearchFacts:
    """Limits, size and completeness of a search.

    Attributes:
        asked: the threshold by setting: a distance, or ``auto``.
        threshold: distance (L2) within which images are near.
        looked: a verifier compared the candidates.
        words: similarity of visual words that makes a candidate; ``None`` where none was used.
        lossless: no near pair was missed.
        n_images: number of images compared.
        n_comparisons: number of pairs of these images that were compared, by this search or one
            that it continues; never more than ``n_pairs``. After ``since``, at most so many.
        n_pairs: number of pairs in all; ``None`` in a search by an earlier version.
        share: of the comparisons among all pairs, 0 to 1.
        n_near_pairs: number of pairs found.
        missed: estimated number of near pairs that were not compared; 0 where lossless.
        missed_share: of these among all near pairs, 0 to 1.
        checkpoint_sha256: digest of the encoder.
        block_by: column whose cells limited the comparisons; ``None`` where none did.
        against: true where only pairs of two catalogues were compared.
        verdicts: digest of all that decides a verdict besides the images; ``None`` without a
            verifier, and in a search by an earlier version.
    """

    asked: float | str
    threshold: float
    looked: bool
    words: float | None = None
    lossless: bool
    n_images: int
    n_comparisons: int
    n_pairs: int | None = None
    share: float
    n_near_pairs: int
    missed: float
    missed_share: float
    checkpoint_sha256: str
    block_by: str | None = None
    against: bool | None = None
    verdicts: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, as ``search.json`` and ``result.json`` hold them."""
        values = {_key(name.name): getattr(self, name.name) for name in fields(self)}
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take what ``to_dict`` gave; ``dedup.search.manifest`` has checked it in files."""
        names = [field.name for field in fields(cls) if _key(field.name) in values]
        return cls(**{name: values[_key(name)] for name in names})


def _key(name: str) -> str:
    return _KEYS.get(name, name)


@dataclass(frozen=True)
class SearchState:
    """Images that were compared, and those found near each other.

    Attributes:
        near: the schema ``NEAR``, sorted by both.
        compared: the schema ``COMPARED``.
        facts: limits, size and completeness of the search.
    """

    near: pd.DataFrame
    compared: pd.DataFrame
    facts: SearchFacts

    def save(self, folder: Path) -> None:
        """Write the search into an existing folder; ``search.json`` comes last."""
        tables = {"near.parquet": (self.near, NEAR), "compared.parquet": (self.compared, COMPARED)}
        for name, (table, schema) in tables.items():
            write_table(table, schema, folder / name)
        files = {name: file_facts(folder / name, rows=len(tables[name][0])) for name in tables}
        write_checked(self.facts.to_dict(), files, folder / SEARCH)

    @classmethod
    def load(cls, folder: Path) -> SearchState:
        """Read a search.

        Raises:
            ArtifactError: there is none in ``folder``, or one of an earlier version.
            CorruptError: its files are damaged, or their values impossible.
        """
        values, files = read_facts(folder)
        schemas = {"near.parquet": NEAR, "compared.parquet": COMPARED}
        near, compared = read_checked_tables(
            folder, schemas, files, WITHOUT, {"near.parquet": {"copy_of": 0.0}}
        )
        near = _rename_relations(near)
        check_compared(compared, Origin(folder / "compared.parquet", WITHOUT))
        origin = Origin(folder / "near.parquet", WITHOUT)
        check_near(near, compared, values["looked"], RELATIONS, origin)
        return cls(as_frame(near), as_frame(compared), SearchFacts.from_dict(values))


def _rename_relations(near: pa.Table) -> pa.Table:
    """Replace a relation's name of earlier versions, ``same picture``."""
    column = near["relation"]
    column = pc.if_else(pc.equal(column, "same picture"), RELATIONS[0], column)
    return near.set_column(near.schema.get_field_index("relation"), "relation", column)
