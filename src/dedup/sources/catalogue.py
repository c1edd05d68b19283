"""What a source reads: the user's table and the images it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Catalogue:
    """What a source read: the user's table, and the images that it asks for.

    Attributes:
        products: one row for every record of the input, all cells strings, columns untouched.
        requests: the images asked for, in the schema ``REQUESTS``.
        id_column: the column of ``products`` that holds the product's id.
        title_column: the column that holds a title to show, or ``None``.
        url_column: the column that holds the images' addresses, or ``None``.
    """

    products: pd.DataFrame
    requests: pd.DataFrame
    id_column: str = "product_id"
    title_column: str | None = None
    url_column: str | None = None
