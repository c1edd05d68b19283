"""Write the difference of two runs: JSON, CSV and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from dedup.actions.diff import STATES, Difference
from dedup.actions.pages import write_page
from dedup.actions.text_columns import mergeable
from dedup.runtime.files import write_json
from dedup.runtime.nouns import counted
from dedup.runtime.tables import read_table, write_csv, write_table
from dedup.schemas import SEEN

SEEN_FILE = "seen.parquet"
"""Table of a run with the date on which each of its pairs was first reported."""

MAX_ROWS = 200
"""Pairs of one state, and groups, that the page shows."""


def write_difference(found: Difference, folder: Path, formulas: str = "keep") -> list[Path]:
    """Write ``diff.json``, ``diff.csv``, ``diff_groups.csv``, ``diff.html`` and ``seen.parquet``.

    Args:
        found: the difference.
        folder: an existing folder.
        formulas: treatment of formulas in the tables, see ``tables.write_rows``.

    Returns:
        The files for people, the page first.
    """
    write_json(summary(found), folder / "diff.json")
    write_csv(found.pairs, folder / "diff.csv", formulas)
    write_csv(found.groups, folder / "diff_groups.csv", formulas)
    write_seen(found, folder)
    _write_page(found, folder / "diff.html")
    return [folder / name for name in ("diff.html", "diff.csv", "diff_groups.csv", "diff.json")]


def write_seen(found: Difference, folder: Path) -> None:
    """Write ``seen.parquet``, by which later differences know when a pair was first reported."""
    write_table(found.seen, SEEN, folder / SEEN_FILE)


def read_seen(*folders: Path | None) -> pd.DataFrame:
    """Read the first dates that runs have kept; a run without them adds nothing.

    Raises:
        CorruptError: a table is damaged.
    """
    files = [folder / SEEN_FILE for folder in folders if folder is not None]
    advice = "remove the file; first dates then begin anew"
    tables = [mergeable(read_table(file, SEEN, advice)) for file in files if file.is_file()]
    return pd.concat(tables) if tables else pd.DataFrame(columns=SEEN.names)


def summary(found: Difference) -> dict[str, Any]:
    """Return the numbers of a difference as plain JSON values."""
    return {
        "old": {"run": found.old[0], "made": found.old[1], "pairs": found.n_old},
        "new": {"run": found.new[0], "made": found.new[1], "pairs": found.n_new},
        "pairs": found.counts(),
        "causes": found.causes(),
        "groups": found.group_counts(),
        "settings": [{"setting": key, "old": old, "new": new} for key, old, new in found.settings],
    }


def _write_page(found: Difference, path: Path) -> None:
    counts = found.counts()
    causes = found.causes()
    changed = sum(n for state, n in counts.items() if state != "same")
    states = []
    for state in STATES:
        rows = found.pairs[found.pairs["state"] == state]
        if len(rows):
            states.append((state, len(rows), rows.head(MAX_ROWS).to_dict("records")))
    write_page(
        "diff.html",
        path,
        title=f"{counted(changed, 'pair')} changed" if changed else "No pair changed",
        facts=[
            f"old: {found.old[0]}, {found.old[1]}, {counted(found.n_old, 'pair')}",
            f"new: {found.new[0]}, {found.new[1]}, {counted(found.n_new, 'pair')}",
        ],
        warnings=[],
        counts=[
            *((state, cause, n) for state in causes for cause, n in causes[state].items()),
            ("same", "", counts["same"]),
        ],
        settings=found.settings,
        states=states,
        groups=found.groups.head(MAX_ROWS).to_dict("records"),
        n_groups=len(found.groups),
    )
