"""Write pairs, groups, related products and placeholders as CSV tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports import health, phrases
from dedup.reports.group_table import evidence_of, group_table
from dedup.reports.records import cells, check_columns, typed_addresses
from dedup.runtime.tables import write_csv
from dedup.schemas import RELATIONS
from dedup.search.index import Index

COLUMNS = (
    *("product_id_a", "product_id_b", "distance", "tier", "group_id", "image_a", "image_b"),
    *("score", "evidence", "relation", "kept", "group_size"),
    *("title_a", "title_b", "address_a", "address_b"),
)
"""Columns of ``duplicates.csv``, in this order; the user's own follow."""

RELATED_COLUMNS = (
    *("product_id_a", "product_id_b", "relation", "family_id", "distance", "image_a", "image_b"),
    *("score", "evidence", "title_a", "title_b", "address_a", "address_b"),
)
"""Columns of ``related.csv``, in this order; the user's own follow."""

SHARED_COLUMNS = ("product_id", "image", "n_products", "reason", "picture")
"""Columns of ``shared.csv``, in this order."""

ENDS = ("a", "b")


class CsvReport:
    """Write ``duplicates.csv``, a line for each pair, and ``groups.csv``, a line for each product.

    Where placeholder or flat images were left out, ``shared.csv`` lists the products that show
    them. Where products are colour variants or other photos of a product, ``related.csv`` lists
    the pairs. Where images have problems, ``health.csv`` lists these images.

    Args:
        formulas: treatment of cells that a spreadsheet would run as formulas, see
            ``files.write_rows``.
        columns: columns of the user's table that these tables and ``related.csv`` get as well.
    """

    def __init__(self, formulas: str = "keep", columns: Sequence[str] = ()) -> None:
        self.formulas = formulas
        self.columns = columns

    def check(self, index: Index) -> None:
        """Check the settings against the table of an index, before any work.

        Raises:
            ConfigError: a column is not in the table.
        """
        self.check_columns([str(name) for name in index.products.columns])

    def check_columns(self, columns: Sequence[str]) -> None:
        """Check the settings against the columns of a table, as ``check`` does.

        Raises:
            ConfigError: a column is not in the table.
        """
        check_columns(self._own, columns)

    @property
    def _own(self) -> list[str]:
        """Columns of the user's table; a single name needs no brackets."""
        columns: Any = () if self.columns is None else self.columns
        is_list = isinstance(columns, Sequence) and not isinstance(columns, str)
        return [str(name) for name in (columns if is_list else [columns])]

    def write(self, findings: DetectionResult, index: Index, folder: Path) -> Path:
        """Write the tables.

        Ids and addresses are written unchanged; ``float(text)`` returns the exact distance and
        score. The score is empty without a verifier. A pair's group, its kept product and its size
        are empty where the products are not in the same group. ``image_a`` is the address that was
        read, ``address_a`` the address in the user's table. In ``related.csv``, only colour
        variants have a family. In ``shared.csv``, an image is named by the first 12 hex digits of
        its digest.

        Args:
            findings: the result; rows keep their order.
            index: index with titles, addresses and the user's columns.
            folder: an existing folder.

        Returns:
            The path of ``duplicates.csv``.

        Raises:
            ConfigError: as for ``check``.
        """
        self.check(index)
        path, own = folder / "duplicates.csv", self._own
        pairs = _pairs(findings, index)
        self._write(_with_columns(pairs[list(COLUMNS)], own, index, ENDS), path)
        groups = group_table(findings.groups, findings.pairs)
        self._write(_with_columns(groups, own, index), folder / "groups.csv")
        if len(related := findings.related):
            families = findings.families.set_index("product_id")["family_id"]
            family = related["product_id_a"].map(families)
            family = family.where(related["relation"] == RELATIONS[-1]).fillna("")
            table = related.assign(family_id=family, **_named(related, index))
            self._write(
                _with_columns(table[list(RELATED_COLUMNS)], own, index, ENDS),
                folder / "related.csv",
            )
        if len(shared := findings.shared):
            images = shared.assign(picture=shared["sha256_pixels"].str[:12])
            self._write(images[list(SHARED_COLUMNS)], folder / "shared.csv")
        if len(ills := health.table(findings, index)):
            self._write(ills, folder / "health.csv")
        return path

    def _write(self, table: pd.DataFrame, path: Path) -> None:
        write_csv(table, path, self.formulas)


def check_reports(reports: Iterable[object], columns: Sequence[str]) -> None:
    """Check the settings of reports against the columns of the user's table, before any work.

    Raises:
        ConfigError: a column is not in the table.
    """
    for report in reports:
        if isinstance(report, CsvReport):
            report.check_columns(columns)


def _pairs(findings: DetectionResult, index: Index) -> pd.DataFrame:
    """Add groups, titles and addresses to the pairs."""
    groups, pairs = findings.groups, findings.pairs
    group_of = dict(zip(groups["product_id"], groups["group_id"], strict=True))
    kept = groups[groups["kept"].astype(bool)]
    kept_of = dict(zip(kept["group_id"], kept["product_id"], strict=True))
    size_of = groups["group_id"].value_counts().to_dict()
    ends = zip(pairs["product_id_a"], pairs["product_id_b"], strict=True)
    both = ((group_of.get(a, ""), group_of.get(b, "")) for a, b in ends)
    homes = [a if a == b else "" for a, b in both]
    return pairs.assign(
        group_id=homes,
        evidence=evidence_of(pairs),
        relation=[
            phrases.relation(*row) for row in zip(pairs["relation"], pairs["tier"], strict=True)
        ],
        kept=[kept_of.get(home, "") for home in homes],
        group_size=[size_of.get(home, "") for home in homes],
        **_named(pairs, index),
    )


def _named(pairs: pd.DataFrame, index: Index) -> dict[str, Any]:
    """Return the titles of both products, and the addresses of both images in the table."""
    ids = dict.fromkeys(key for end in ENDS for key in pairs[f"product_id_{end}"])
    titles = index.titles(list(ids)) if "title_column" in index.manifest else {}
    return {
        f"{name}_{end}": value
        for end in ENDS
        for name, value in (
            ("title", [titles.get(key, "") for key in pairs[f"product_id_{end}"]]),
            ("address", typed_addresses(pairs[f"product_id_{end}"], pairs[f"image_{end}"], index)),
        )
    }


def _with_columns(
    table: pd.DataFrame, own: Sequence[str], index: Index, ends: Sequence[str] = ()
) -> pd.DataFrame:
    """Add the user's columns to a table; to a table of pairs, for both products."""
    more = {}
    for name in own:
        cell = cells(name, index).to_dict()
        for suffix in [f"_{end}" for end in ends] or [""]:
            heading = f"{name}{suffix}"
            while heading in table.columns or heading in more:
                heading += "_"
            more[heading] = [cell.get(key, "") for key in table[f"product_id{suffix}"]]
    return table.assign(**more)
