"""The duplicates in a catalogue, which can be saved, loaded and shown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from dedup.api.arguments import public
from dedup.api.errors import as_errors
from dedup.api.index import Index
from dedup.config.instances import build, default_config
from dedup.detection import results
from dedup.errors import ArtifactError
from dedup.reports.group_table import group_table
from dedup.reports.notebook import html_fragment
from dedup.search.manifest import MANIFEST, SEARCH
from dedup.search.state import SearchState

MAX_GROUPS_SHOWN = 10
"""Groups of a result that a notebook shows."""


@dataclasses.dataclass(frozen=True)
class DetectionResult(results.DetectionResult):
    """The duplicates in a catalogue, with the index they were found in.

    ``pairs`` and the other tables are those of ``dedup.detection.results.DetectionResult``.

    Attributes:
        groups: the columns of ``groups.csv``: those of the schema ``GROUPS``, ``duplicate_of``
            (the kept product; "" for that one), ``score`` and ``evidence``; see ``group_table``.
        index: the index that was searched; ``None`` if it is no longer on disk.
        state: the comparisons made, which ``find_duplicates(..., since=result)`` does not repeat.
        folder: the index's folder.
    """

    index: Index | None = None
    state: SearchState | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Add the columns of ``groups.csv`` to the groups."""
        object.__setattr__(self, "groups", group_table(self.groups, self.pairs))

    @public()
    def save(self, folder: str | Path, index: Path | None = None) -> None:
        """Write the files of a ``detect.py`` run: tables, search state and reports.

        Args:
            folder: the folder to write to, created if it is missing.
            index: the index's folder, if it was moved.
        """
        folder = Path(folder)
        with as_errors(folder):
            super().save(folder, index or self.folder)
            if self.state is not None:
                self.state.save(folder)
            for report in build(default_config("detect").report).values():
                report.write(self, self._searched(), folder)

    @classmethod
    @public()
    def load(cls, folder: str | Path) -> Self:
        """Read the result of a ``detect.py`` run or of ``save``.

        Raises:
            ArtifactError: ``folder`` holds no result, or one of an earlier version.
            CorruptError: a file of the result is not what was written.
        """
        folder = Path(folder)
        with as_errors(folder):
            result, named = super().load(folder), results.index_of(folder)
            state = SearchState.load(folder) if (folder / SEARCH).is_file() else None
            index = None
            if named is not None and (named / MANIFEST).is_file():
                index = Index.load(named)
            return dataclasses.replace(result, index=index, state=state, folder=named)

    @public()
    def to_html(self, path: str | Path) -> Path:
        """Write the report as one self-contained page, and return its path.

        Raises:
            ArtifactError: the index that the result was found in is missing.
        """
        path = Path(path)
        with as_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            report = build(default_config("detect").report.html)
            with TemporaryDirectory(dir=path.parent, prefix=".report-") as folder:
                written: Path = report.write(self, self._searched(), Path(folder))
                return written.replace(path)

    def _searched(self) -> Index:
        if self.index is None:
            raise ArtifactError(
                f"the report needs the result's index, but {self.folder or 'its folder'} holds "
                "none: find the duplicates again"
            )
        return self.index

    def __repr__(self) -> str:
        n_groups = self.groups["group_id"].nunique()
        return f"DetectionResult({n_groups} groups, {len(self.groups)} products)"

    def _repr_html_(self) -> str:
        """Show the figures, and the largest groups with their images."""
        return html_fragment(self, self.index, MAX_GROUPS_SHOWN)
