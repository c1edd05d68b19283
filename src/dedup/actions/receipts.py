"""Read what was applied of earlier plans: a plan's folder, or a table of retired products."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dedup.actions.merge import REDIRECT
from dedup.errors import ArtifactError, SourceError
from dedup.runtime.checksums import FILES, check_digest, read_checked
from dedup.runtime.files import sha256_file
from dedup.runtime.tables import read_table
from dedup.schemas import PLAN

PLAN_JSON, PLAN_TABLE = "plan.json", "plan.parquet"
ADVICE = "name the folder of a plan, or a CSV with the columns product_id and target"


class Retired(NamedTuple):
    """A product that was retired.

    Attributes:
        target: the product that it leads to.
        pages: its paths; empty where unknown.
    """

    target: str
    pages: tuple[str, ...]


def read_applied(places: Sequence[str | Path]) -> dict[str, Retired]:
    """Read what was applied, the later places over the earlier ones.

    Args:
        places: folders of plans that were applied as a whole, or CSV files with the rows of
            ``retire.csv`` that were applied.

    Raises:
        ArtifactError: a place is missing.
        CorruptError: a plan is damaged.
        SourceError: a CSV has other columns, or a row without an id.
    """
    retired: dict[str, Retired] = {}
    for place in map(Path, places):
        retired |= _of_plan(place) if place.is_dir() else _of_table(place)
    return retired


def _of_plan(folder: Path) -> dict[str, Retired]:
    facts = read_checked(folder / PLAN_JSON, "a plan", ADVICE)
    file = folder / PLAN_TABLE
    if not file.is_file():
        raise ArtifactError(f"{file} is missing: {ADVICE}")
    check_digest(file, sha256_file(file), facts[FILES][PLAN_TABLE], ADVICE)
    rows = read_table(file, PLAN, ADVICE)
    known: dict[str, Retired] = {}
    for row in rows.itertuples():
        # One that was retired before and is to be reviewed leads where it led.
        target = str(row.target if row.action == REDIRECT else row.former_target)
        if target:
            known[str(row.product_id)] = Retired(target, tuple(str(row.pages).split()))
    return known


def _of_table(file: Path) -> dict[str, Retired]:
    known: dict[str, Retired] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened)
            missing = {"product_id", "target"} - {*(rows.fieldnames or ())}
            if missing:
                names = " and no ".join(sorted(missing))
                raise SourceError(f"{file} has no column {names}: {ADVICE}")
            for row in rows:
                product, target = row["product_id"], row["target"]
                if not product or not target or product == target:
                    raise SourceError(
                        f"{file}, line {rows.line_num}: a product and another one that it leads "
                        "to must be named. Correct the line"
                    )
                known[product] = Retired(target, tuple((row.get("pages") or "").split()))
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read ({error.strerror}): {ADVICE}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{file} is no CSV in UTF-8 ({error}): {ADVICE}") from error
    return known
