"""What a search compared and found near, for a later one to go on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from dedup.runtime.checksums import facts, write_sealed
from dedup.runtime.sealed_files import (
    confirmed_tables,
)
from dedup.runtime.tables import as_frame, write_table
from dedup.search.consistency import check_compared, check_near
from dedup.search.manifest import (
    SEARCH,
    WITHOUT,
    Origin,
    read_facts,
)

if TYPE_CHECKING:
    pass
from dedup.schemas import COMPARED, NEAR, RELATIONS


@dataclass(frozen=True)
class SearchState:
    """What was compared, and the images found near each other.

    Attributes:
        near: the schema ``NEAR``, sorted by both.
        compared: the schema ``COMPARED``.
        facts: plain JSON values. ``threshold``; ``lossless``; ``images`` that were compared;
            ``comparisons`` made; their ``share`` of all; ``near_pairs`` found; ``missed``, those
            beyond the comparisons made: 0 where lossless, else an estimate; ``missed_share`` of
            all; ``checkpoint_sha256`` of the encoder.
    """

    near: pd.DataFrame
    compared: pd.DataFrame
    facts: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the search into an existing folder; ``search.json`` comes last."""
        tables = {"near.parquet": (self.near, NEAR), "compared.parquet": (self.compared, COMPARED)}
        for name, (table, schema) in tables.items():
            write_table(table, schema, folder / name)
        files = {name: facts(folder / name, rows=len(tables[name][0])) for name in tables}
        write_sealed(self.facts, files, folder / SEARCH)

    @classmethod
    def load(cls, folder: Path) -> SearchState:
        """Read a search.

        Raises:
            ArtifactError: there is none in ``folder``, or one of an earlier version.
            CorruptError: its files are not what was written, or cannot be.
        """
        said, files = read_facts(folder)
        schemas = {"near.parquet": NEAR, "compared.parquet": COMPARED}
        near, compared = confirmed_tables(folder, schemas, files, WITHOUT)
        check_compared(compared, Origin(folder / "compared.parquet", WITHOUT))
        origin = Origin(folder / "near.parquet", WITHOUT)
        check_near(near, compared, said["looked"], RELATIONS, origin)
        return cls(as_frame(near), as_frame(compared), said)
