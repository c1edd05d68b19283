"""What the user's own table says of products and images: cells, and addresses as typed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import pandas as pd

from dedup.errors import ConfigError
from dedup.search.index import Index
from dedup.sources.paths import split_addresses, typed_address

KEY = ["product_id", "url"]


def check_columns(names: Sequence[str], index: Index) -> None:
    """Make sure that the user's table has these columns.

    Raises:
        ConfigError: one of them is not there.
    """
    known = [str(name) for name in index.products.columns]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)[:1000]}"
            raise ConfigError(f"report.csv.columns: the table has no column {name}, {hint}")


def cells(column: str, index: Index) -> pd.Series[str]:
    """A column's cell for each product, by id: the smallest, where its rows differ; not empty."""
    rows = index.products[[index.manifest["id_column"], column]].set_axis(["id", "cell"], axis=1)
    rows = rows[rows["cell"].str.strip() != ""]
    return rows.groupby("id")["cell"].min()


def typed_addresses(ids: Iterable[str], urls: Iterable[str], index: Index) -> list[str]:
    """Images' addresses as the user's table has them.

    A path in the table is relative to a folder, and an index holds absolute ones.

    Args:
        ids: of products.
        urls: of an image of each, as in ``Index.images``.
        index: gives the table.

    Returns:
        One address for each: that of the table, or ``url`` where the table does not tell.
    """
    column, urls = index.manifest.get("url_column"), list(urls)
    if not column:
        return urls
    shown = index.images[index.images["url"].isin(urls)].drop_duplicates(KEY)
    keys = zip(shown["product_id"], shown["url"], strict=True)
    record_of = dict(zip(keys, shown["record"], strict=True))
    table = index.products[column].tolist()
    records = ((url, record_of.get((key, url))) for key, url in zip(ids, urls, strict=True))
    return [url if row is None else typed_address(table[row], url) for url, row in records]


def n_left_out(index: Index) -> int:
    """Count the further addresses in cells of which another one was read."""
    column = index.manifest.get("url_column")
    if not column:
        return 0
    table = index.products[column]
    several = table[table.str.contains(r"[;\[]", regex=True)]
    fine = index.images.loc[index.images["status"] == "ok", "record"]
    several = several[several.index.isin(fine)]
    n_read = index.images["record"].value_counts().reindex(several.index)
    rows = zip(several, n_read, strict=True)
    return sum(max(0, len(set(split_addresses(cell)[0])) - int(n)) for cell, n in rows)
