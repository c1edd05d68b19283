"""Write a plan: tables for people and shops, a page, and the inverse of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.actions.merge import REDIRECT
from dedup.actions.pages import write_page
from dedup.actions.plan import Plan
from dedup.actions.receipts import PLAN_JSON, PLAN_TABLE
from dedup.actions.redirects import write_redirects
from dedup.runtime.checksums import file_facts, write_checked
from dedup.runtime.nouns import counted
from dedup.runtime.tables import write_rows, write_table
from dedup.schemas import PLAN

MAX_ROWS = 200
"""Conflicts, and products of groups, that the page shows."""

CONFLICT_COLUMNS = (
    *("group_id", "kind", "column", "product_id_a", "product_id_b", "value_a", "value_b", "effect"),
)
CHANGE_COLUMNS = ("product_id", "column", "old", "new", "source")
RETIRE_COLUMNS = ("product_id", "target", "pages", "reason", "decided_by")
PAIR_COLUMNS = ("source", "target")


def write_plan(
    plan: Plan, settings: Mapping[str, Any], folder: Path, formulas: str = "keep"
) -> list[Path]:
    """Write a plan into a folder; the same plan gives the same bytes.

    Args:
        plan: the plan.
        settings: settings that it was made with, for ``plan.json``.
        folder: an existing folder.
        formulas: treatment of formulas in ``conflicts.csv``, see ``tables.write_rows``. The other
            tables are read by programs.

    Returns:
        The files, the page first.
    """
    files = [folder / "plan.html", folder / PLAN_TABLE]
    write_table(plan_table(plan), PLAN, folder / PLAN_TABLE)
    files.append(_rows(CONFLICT_COLUMNS, conflict_rows(plan), folder / "conflicts.csv", formulas))
    files.append(_rows(CHANGE_COLUMNS, plan.changes, folder / "changes.csv"))
    retire = [
        (each.product_id, each.target, _pages(plan, each.product_id), each.reason, each.decided_by)
        for each in plan.retired()
    ]
    files.append(_rows(RETIRE_COLUMNS, retire, folder / "retire.csv"))
    files += _write_redirects(plan, folder)
    if plan.item_groups:
        rows = sorted(plan.item_groups.items())
        files.append(_rows(("id", "item_group_id"), rows, folder / "merchant.csv"))
    files += _write_undo(plan, folder)
    _write_page(plan, folder / "plan.html")
    inputs = {name: file_facts(path) for name, path in sorted(plan.inputs.items())}
    content: dict[str, Any] = {"settings": dict(settings), "counts": plan.counts()}
    content["notes"] = plan.notes
    content["inputs"] = inputs
    if plan.ledger:
        content["ledger"] = dict(plan.ledger)
    named = {path.relative_to(folder).as_posix(): file_facts(path) for path in files}
    write_checked(content, named, folder / PLAN_JSON)
    return [*files, folder / PLAN_JSON]


def plan_table(plan: Plan) -> pd.DataFrame:
    """Return the actions in the schema ``PLAN``."""
    rows = [
        (*each, _pages(plan, each.product_id) if each.action == REDIRECT or each.former_target
         else "")
        for each in plan.actions
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=PLAN.names)


def conflict_rows(plan: Plan) -> list[tuple[str, ...]]:
    """Return the conflicts in ``CONFLICT_COLUMNS``; ``effect`` is review or noted."""
    rows = []
    for group, conflict, is_open in plan.conflicts:
        products = (*conflict.products, "")[:2]
        values = (*conflict.values, "", "")[:2]
        effect = "review" if is_open else "noted"
        rows.append((group, conflict.kind, conflict.column, *products, *values, effect))
    return rows


def _pages(plan: Plan, product: str) -> str:
    return " ".join(plan.pages.get(product, ()))


def _rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], path: Path, formulas: str = "keep"
) -> Path:
    write_rows(columns, rows, path, formulas)
    return path


def _write_redirects(plan: Plan, folder: Path) -> list[Path]:
    """Write the redirects of each shop, and those of earlier plans that they replace."""
    if not plan.shops:
        return []
    place = folder / "redirects"
    place.mkdir(exist_ok=True)
    whole = sorted(plan.redirects)
    files = write_redirects(
        plan.redirects[: plan.n_imported], whole, place, plan.shops, plan.store_ids
    )
    if plan.outdated:
        files.append(_rows(PAIR_COLUMNS, plan.outdated, place / "outdated.csv"))
    return files


def _write_undo(plan: Plan, folder: Path) -> list[Path]:
    """Write the inverse: what to publish again, cells as they were, redirects to remove or set."""
    place = folder / "undo"
    place.mkdir(exist_ok=True)
    restore = [(each.product_id, _pages(plan, each.product_id)) for each in plan.retired()]
    changes = [(each.product_id, each.column, each.new, each.old) for each in plan.changes]
    return [
        _rows(("product_id", "pages"), restore, place / "restore.csv"),
        _rows(("product_id", "column", "old", "new"), changes, place / "changes.csv"),
        _rows(PAIR_COLUMNS, plan.redirects[: plan.n_imported], place / "remove_redirects.csv"),
        _rows(PAIR_COLUMNS, plan.outdated, place / "set_redirects.csv"),
    ]


def _write_page(plan: Plan, path: Path) -> None:
    counts = plan.counts()
    title = f"{counted(counts['retire'], 'product')} to retire"
    facts = [
        f"{counted(counts['groups'], 'group')}",
        f"{counts['keep']:,} kept",
        f"{counts['review']:,} to review",
        f"{counted(counts['changes'], 'cell')} to change",
        f"{counted(counts['redirects'], 'redirect')} of pages",
        f"{counted(counts['undecided_pairs'], 'pair')} undecided",
        *([f"compared {plan.named_columns()}"] if plan.compared else []),
    ]
    rows = conflict_rows(plan)
    write_page(
        "plan.html",
        path,
        title=title,
        facts=facts,
        warnings=plan.notes,
        conflicts=[dict(zip(CONFLICT_COLUMNS, row, strict=True)) for row in rows[:MAX_ROWS]],
        n_conflicts=len(rows),
        changes=[change._asdict() for change in plan.changes[:MAX_ROWS]],
        n_changes=len(plan.changes),
        actions=[action._asdict() for action in plan.actions[:MAX_ROWS]],
        n_actions=len(plan.actions),
    )
