"""The duplicates in a catalogue, which can be saved, loaded and shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from dedup.actions.decisions import read_decisions
from dedup.actions.diff import Difference, difference
from dedup.actions.diff_report import write_difference
from dedup.actions.plan import Plan, Planner
from dedup.actions.plan_report import write_plan
from dedup.actions.runs import DetectRun, present_run
from dedup.api.arguments import public
from dedup.api.errors import as_errors
from dedup.api.index import Index
from dedup.config.instances import build, default_config
from dedup.detection import results
from dedup.errors import ArtifactError
from dedup.reports.group_table import group_table
from dedup.reports.notebook import html_fragment
from dedup.schemas import GROUPS
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
    def diff(
        self,
        earlier: DetectionResult | str | Path,
        *,
        decisions: str | Path | None = None,
        folder: str | Path | None = None,
    ) -> Difference:
        """Say which pairs and groups differ from an earlier result, and why, as ``diff.py`` does.

        Args:
            earlier: the earlier result, or its folder.
            decisions: file or ledger of people's decisions: JSONL, or SQLite.
            folder: folder to write the files of ``diff.py`` to; ``None`` writes nothing.

        Returns:
            ``pairs`` and ``groups``, tables as in ``diff.csv`` and ``diff_groups.csv``, and
            ``counts()``, ``causes()`` and ``sentence()``.

        Raises:
            ArtifactError: the earlier result is missing, or the index of one is gone.
            SourceError: the decisions cannot be read.
        """
        with as_errors("the difference"):
            before = earlier if isinstance(earlier, DetectionResult) else type(self).load(earlier)
            decided = read_decisions(decisions)
            found = difference(before._run(), self._run(), decided)
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
                write_difference(found, Path(folder))
            return found

    @public()
    def plan(
        self,
        *,
        decisions: str | Path | None = None,
        trust: Sequence[str] = (),
        applied: str | Path | Sequence[str | Path] | None = None,
        columns: str | Sequence[str] = "auto",
        url_column: str | None = None,
        url_template: str | None = None,
        folder: str | Path | None = None,
    ) -> Plan:
        """Plan what to keep, what to retire and where old pages lead, as ``plan.py`` does.

        Args:
            decisions: file or ledger of people's decisions: JSONL, or SQLite.
            trust: tiers of equal images that are merged without a decision.
            applied: what was done of earlier plans.
            columns: rules of columns, such as ``["equal:material"]``.
            url_column: column with the addresses of products' pages.
            url_template: or a path with columns in braces: ``/products/{handle}``.
            folder: folder to write the files of ``plan.py`` to; ``None`` writes nothing.

        Returns:
            ``actions``, ``conflicts``, ``changes`` and ``redirects``, lists of named tuples, and
            ``counts()`` and ``sentence()``.

        Raises:
            ConfigError: an argument is wrong.
            ArtifactError: a file is missing, or the result's index is gone.
            SourceError: a file has wrong content, or pages of products collide.
        """
        settings = {"trust": list(trust), "columns": columns, "url_column": url_column,
                    "url_template": url_template}  # fmt: skip
        with as_errors("the plan"):
            planner = Planner(applied=applied, **settings)  # type: ignore[arg-type]
            made = planner(self._run(), read_decisions(decisions))
            if folder is not None:
                Path(folder).mkdir(parents=True, exist_ok=True)
                write_plan(made, settings, Path(folder))
            return made

    def _run(self) -> DetectRun:
        """Describe this result as a run, for the actions on it."""
        plain = results.DetectionResult(
            **{field.name: getattr(self, field.name)
               for field in dataclasses.fields(results.DetectionResult)}
        )  # fmt: skip
        plain = dataclasses.replace(plain, groups=self.groups[list(GROUPS.names)])
        return present_run(plain, self._searched(), {}, self.folder)

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
