"""Read cells and image addresses from the user's own table, for reports."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from dedup.errors import ConfigError
from dedup.search.index import Index
from dedup.sources.addresses import is_whole, join_addresses, typed_address

KEY = ["product_id", "url"]
_JOINED = r"[;,|\[({\s]"
"""What cells with several addresses have."""


def check_columns(names: Sequence[str], columns: Sequence[str]) -> None:
    """Check that the user's table has these columns.

    Raises:
        ConfigError: a column is missing.
    """
    for name in names:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(columns)[:1000]}"
            raise ConfigError(f"report.csv.columns: the table has no column {name}, {hint}")


def cells(column: str, index: Index) -> pd.Series[str]:
    """Return a column's cell of each product: the smallest, where its rows differ; never empty."""
    rows = index.products[[index.manifest["id_column"], column]].set_axis(["id", "cell"], axis=1)
    rows = rows[rows["cell"].str.strip() != ""]
    return rows.groupby("id")["cell"].min()


def typed_addresses(ids: Iterable[str], urls: Iterable[str], index: Index) -> list[str]:
    """Convert image addresses back to the user's table, whose paths may be relative.

    Args:
        ids: ids of the products.
        urls: address of an image of each product, as in ``Index.images``.
        index: index with the table.

    Returns:
        Address of each image in the table, or ``url`` where the table does not hold it.
    """
    columns, urls = index.url_columns, list(urls)
    if not columns:
        return urls
    shown = index.images[index.images["url"].isin(urls)].drop_duplicates(KEY)
    keys = zip(shown["product_id"], shown["url"], strict=True)
    record_of = dict(zip(keys, shown["record"], strict=True))
    table = [index.products[column].tolist() for column in columns]
    records = ((url, record_of.get((key, url))) for key, url in zip(ids, urls, strict=True))
    return [
        url if row is None else typed_address([cells[row] for cells in table], url)
        for url, row in records
    ]


def n_left_out(index: Index) -> int:
    """Count the further addresses in cells of which only a part was read."""
    columns = index.url_columns
    if not columns:
        return 0
    table = index.products[columns]
    n_filled = sum((table[name].str.strip() != "").astype(int) for name in columns)
    is_joined = [table[name].str.contains(_JOINED, regex=True) for name in columns]
    several = table[(n_filled > 1) | np.any(is_joined, axis=0)]
    fine = index.images[index.images["status"] == "ok"]
    several = several[several.index.isin(fine["record"])]
    n_read = index.images["record"].value_counts().reindex(several.index)
    url = fine.drop_duplicates("record").set_index("record")["url"].reindex(several.index)
    rows = zip(several.itertuples(index=False, name=None), n_read, url, strict=True)
    return sum(max(0, _n_addresses(cells, url) - int(n)) for cells, n, url in rows)


def _n_addresses(cells: Sequence[str], url: str) -> int:
    """Count the distinct addresses of a record of which ``url`` was read."""
    whole = {cell for cell in cells if is_whole(cell, url)}
    others = join_addresses(cell for cell in cells if cell not in whole)[0]
    return len({*whole, *others})
