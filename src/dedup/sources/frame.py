"""A pandas table as a catalogue: one product a row, read as a CSV file is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource


class FrameSource:
    """Reads a table of products whose images are named by web addresses or paths.

    Args:
        frame: the table. A cell becomes text as ``str`` writes it, one without a value becomes
            empty, a list of addresses is taken for several.
        settings: of ``CsvSource``, but for ``path``. Paths start from the working directory if
            ``images_dir`` is left out.
    """

    def __init__(self, frame: pd.DataFrame, **settings: Any) -> None:
        self.frame = frame
        self.table = CsvSource(path="the table", **settings)

    def read(self) -> Catalogue:
        """Read the table; a bad row is a row with a status, and never stops the run.

        Raises:
            SourceError: a column is missing, or there is no product.
            ConfigError: a setting has a value that cannot work.
        """
        rows = self.frame.itertuples(index=False, name=None)
        header = [str(name) for name in self.frame.columns]
        return self.table.read_records([header, *([_text(cell) for cell in row] for row in rows)])


def _text(cell: Any) -> str:
    """A cell as text."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Sequence) or hasattr(cell, "tolist"):
        values = cell.tolist() if hasattr(cell, "tolist") else list(cell)
        return json.dumps([str(one) for one in values]) if isinstance(values, list) else str(cell)
    return "" if pd.isna(cell) else str(cell)
