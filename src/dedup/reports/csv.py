"""The pairs as a table for spreadsheets and scripts, and the pictures that prove nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dedup.artifacts import RELATIONS, Index
from dedup.files import write_csv
from dedup.results import DetectionResult

COLUMNS = (
    *("product_id_a", "product_id_b", "distance", "tier", "group_id", "image_a", "image_b"),
    *("score", "evidence", "relation"),
)
"""The columns of ``duplicates.csv``, in this order."""

RELATED_COLUMNS = (
    *("product_id_a", "product_id_b", "relation", "family_id", "distance", "image_a", "image_b"),
    *("score", "evidence"),
)
"""The columns of ``related.csv``, in this order."""

SHARED_COLUMNS = ("product_id", "image", "n_products", "reason", "picture")
"""The columns of ``shared.csv``, in this order."""


class CsvReport:
    """Writes ``duplicates.csv``: one line for each pair, with its group and its proof.

    Where pictures were left out because they prove nothing, ``shared.csv`` lists the products that
    show them. Where products are one but for their colour or photo, ``related.csv`` lists the
    pairs.

    Args:
        formulas: what is done with cells that a spreadsheet takes for formulas, see
            ``files.write_rows``.
    """

    def __init__(self, formulas: str = "keep") -> None:
        self.formulas = formulas

    def write(self, findings: DetectionResult, index: Index, folder: Path) -> Path:
        """Write the tables.

        Ids and addresses are written as they are; ``float(text)`` gives back the distance and
        the score; the score is empty where the distance alone speaks. A pair's group is empty
        where its products are in two groups, or one of them is in none. In ``related.csv`` the
        family stands with colour variants alone. In ``shared.csv`` a picture is called by the
        first 12 hex digits of its digest.

        Args:
            findings: what was found; the tables' orders are kept.
            index: not used.
            folder: an existing folder.

        Returns:
            The path of ``duplicates.csv``.
        """
        groups, pairs, shared = findings.groups, findings.pairs, findings.shared
        group_of = dict(zip(groups["product_id"], groups["group_id"], strict=True))
        ends = zip(pairs["product_id_a"], pairs["product_id_b"], strict=True)
        both = ((group_of.get(a, ""), group_of.get(b, "")) for a, b in ends)
        path = folder / "duplicates.csv"
        table = pairs.assign(group_id=[a if a == b else "" for a, b in both])
        self._write(table, COLUMNS, path)
        if len(related := findings.related):
            families = findings.families.set_index("product_id")["family_id"]
            family = related["product_id_a"].map(families)
            family = family.where(related["relation"] == RELATIONS[-1]).fillna("")
            table = related.assign(family_id=family)
            self._write(table, RELATED_COLUMNS, folder / "related.csv")
        if len(shared):
            pictures = shared.assign(picture=shared["sha256_pixels"].str[:12])
            self._write(pictures, SHARED_COLUMNS, folder / "shared.csv")
        return path

    def _write(self, table: pd.DataFrame, columns: Sequence[str], path: Path) -> None:
        write_csv(table[list(columns)], path, self.formulas)
