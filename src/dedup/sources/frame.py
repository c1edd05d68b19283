"""Read a catalogue from a pandas table: one product a row, by the rules for CSV files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource


class FrameSource:
    """Source that reads a table whose images are named by web addresses or paths.

    Args:
        frame: table of products. ``str`` makes a cell text; a missing value becomes an empty
            cell, and a list becomes several addresses.
        settings: arguments of ``CsvSource``, except ``path``. Without ``images_dir``, paths start
            from the working directory.
    """

    def __init__(self, frame: pd.DataFrame, **settings: Any) -> None:
        self.frame = frame
        self.table = CsvSource(path="the table", **settings)

    def read(self) -> Catalogue:
        """Read the table. A bad row becomes a row with a status, and never stops the run.

        Raises:
            SourceError: a column is missing, or the table has no product.
            ConfigError: a setting has a value that cannot work.
        """
        rows = self.frame.itertuples(index=False, name=None)
        header = [str(name) for name in self.frame.columns]
        return self.table.read_records([header, *([_text(cell) for cell in row] for row in rows)])


def _text(cell: Any) -> str:
    """Convert a cell to text."""
    if isinstance(cell, str):
        return cell
    if hasattr(cell, "tolist"):  # a number of numpy's, an array or a series
        cell = cell.tolist()
    if isinstance(cell, Sequence) and not isinstance(cell, str | bytes):
        return json.dumps([text for value in cell if (text := _text(value))])
    return "" if pd.isna(cell) else str(cell)
