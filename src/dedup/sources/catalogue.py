"""The result of reading a source: a table of products and requests for their images."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Catalogue:
    """A table of products, and the images to read for them.

    Attributes:
        products: one row for each record of the input, all cells strings, columns untouched.
        requests: images to read, schema ``REQUESTS``.
        id_column: column of ``products`` with the product's id.
        title_column: column with a title to show, or ``None``.
        url_column: column with the images' addresses, or several, or ``None``.
    """

    products: pd.DataFrame
    requests: pd.DataFrame
    id_column: str = "product_id"
    title_column: str | None = None
    url_column: str | list[str] | None = None
