"""Read a catalogue from a pandas table: one product a row, by the rules for CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from dedup.errors import SourceError
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
            SourceError: a column is missing, the table has no product, or a cell has half a
                character.
            ConfigError: a setting has a value that cannot work.
        """
        return self.table.read_records([self._header(), *self._records()])

    def check(self) -> list[str]:
        """Check the settings against the table's columns, and return these.

        Raises:
            SourceError: a column is missing.
            ConfigError: a setting has a value that cannot work.
        """
        return self.table.check_header(self._header())

    def _header(self) -> list[str]:
        names = [str(name) for name in self.frame.columns]
        _check_written(names, names, "the header")
        return names

    def _records(self) -> Iterator[list[str]]:
        names = [str(name) for name in self.frame.columns]
        for number, row in enumerate(self.frame.itertuples(index=False, name=None)):
            cells = [_text(cell) for cell in row]
            _check_written(cells, names, f"row {number}")
            yield cells


def _check_written(texts: Sequence[str], names: Sequence[str], where: str) -> None:
    """Check that UTF-8 can write some texts.

    Raises:
        SourceError: a text has half a character.
    """
    for name, text in zip(names, texts, strict=True):
        if text.isascii():
            continue
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise SourceError(
                f"{where} of the table has half a character (a lone surrogate) in column "
                f"{name!a}, {text[error.start]!a}, which UTF-8 cannot write: correct the text"
            ) from error


def _text(cell: Any) -> str:
    """Convert a cell to text."""
    if isinstance(cell, str):
        return cell
    if hasattr(cell, "tolist"):  # a number of numpy's, an array or a series
        cell = cell.tolist()
    if isinstance(cell, Sequence) and not isinstance(cell, str | bytes):
        return json.dumps([text for value in cell if (text := _text(value))])
    return "" if pd.isna(cell) else str(cell)
