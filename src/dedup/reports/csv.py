"""The pairs as a table for spreadsheets and scripts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from dedup.artifacts import Index, write_text

COLUMNS = ("product_id_a", "product_id_b", "distance", "tier", "group_id", "image_a", "image_b")
"""The columns of ``duplicates.csv``, in this order."""


class CsvReport:
    """Writes ``duplicates.csv``: one line for each pair, with its group and its proof."""

    def write(self, groups: pd.DataFrame, pairs: pd.DataFrame, index: Index, folder: Path) -> Path:
        r"""Write the pairs as RFC 4180 CSV: UTF-8, lines that end in ``\n``, a header.

        Ids and addresses are written as they are; ``float(text)`` gives back the distance.

        Args:
            groups: the schema ``GROUPS``; holds both products of every pair.
            pairs: the schema ``PAIRS``; its order is kept.
            index: not used.
            folder: an existing folder.

        Returns:
            The path of ``duplicates.csv``.
        """
        group_of = dict(zip(groups["product_id"], groups["group_id"], strict=True))
        table = pairs.assign(group_id=[group_of[a] for a in pairs["product_id_a"]])
        rows = table[list(COLUMNS)].itertuples(index=False, name=None)
        path = folder / "duplicates.csv"
        write_text("".join(map(_line, [COLUMNS, *rows])), path)
        return path


def _line(values: Iterable[object]) -> str:
    return ",".join(_field(str(value)) for value in values) + "\n"


def _field(text: str) -> str:
    """Quote a field where a reader needs it.

    The standard library's writer, told to end lines with a line feed, leaves a bare carriage
    return unquoted before Python 3.13, and readers then see a new line there.
    """
    if any(mark in text for mark in ',"\r\n'):
        return '"' + text.replace('"', '""') + '"'
    return text
