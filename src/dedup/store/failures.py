"""Report the images that were not read: a table of reasons, and a CSV that can be read again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dedup.errors import SourceError
from dedup.runtime.nouns import counted
from dedup.runtime.tables import write_csv
from dedup.sources.catalogue import Catalogue
from dedup.sources.requests import MAX_FIELD, MAX_ID

log = logging.getLogger("dedup")

PREFIX = "failure_"
"""Prefix of the columns beside the catalogue's own."""
FACTS = ["status", "reason", "detail", "url", "record"]
MISREAD = ("bad_field_count", "bad_json", "bad_quotes", "field_too_long")
"""Reasons of records whose cells cannot be assigned to columns."""

HINTS = {
    "bad_json": "each line must be one JSON object in UTF-8, without a key twice",
    "bad_quotes": 'source.dialect=backslash reads quotes inside of fields written as \\"',
    "blocked_address": "fetch.allow_networks=[10.0.0.0/8] allows private networks",
    "blocked_scheme": "fetch.schemes=[http,https,file,s3] lets the table read buckets of S3",
    "decoder_oom": "store.decode_memory=BYTES allows more memory for an image",
    "decoder_timeout": "store.decode_timeout=SECONDS waits longer",
    "no_id": "source.continue_rows=true takes such a row as an image of the product above",
    "outside_folder": "source.images_dir=FOLDER names the folder of the images",
    "robots": "fetch.robots lists the words that exclude an image",
    "timeout": "fetch.timeout=SECONDS waits longer",
    "too_large": "fetch.max_bytes=BYTES allows larger files",
}
"""Advice by reason: the setting that an image fails by, and the effect of another value."""

WRITE = {
    "bad_field_count": "the record has more or fewer fields than the header names columns: quote "
    "a field that has a delimiter or a line break in it",
    "bad_id": f"{{id}} has an id of more than {MAX_ID:,} characters, or with a NUL in it, or that "
    "is no text and no number, or several ids: write a short text",
    "bad_json": "the line is no JSON object: write one object on each line",
    "bad_quotes": "a field goes on after its closing quote: write each quote inside of it twice",
    "bad_url": "{url} has no address that can be used: write http(s) addresses or paths, with ; "
    "between them",
    "blank_row": "the record is empty",
    "category": "the record has none of the categories of source.categories",
    "duplicate_row": "a record above has the same id and the same address",
    "field_too_long": f"a cell is longer than {MAX_FIELD:,} characters: shorten it",
    "no_id": "{id} is empty: write the product's id",
    "no_url": "{url} is empty: write the address of an image, unless another row of the product "
    "has one",
    "outside_folder": "{url} has a path that leaves the folder of images: write one below it",
    "scheme": "{url} has an address that is neither http(s) nor a path: write one of these",
}
"""What is wrong with a record that a source closed, and what to write, by reason."""
_SHOWN = 200


def account(catalogue: Catalogue, images: pd.DataFrame, path: Path, formulas: str = "keep") -> None:
    """Log how many images were read, and list those that failed.

    The list has the catalogue's own columns unchanged, so it can be read again as a catalogue with
    the same settings. Further columns are ``failure_status``, ``failure_reason`` and so on. For a
    record whose cells cannot be assigned to columns, it has the id alone, and the start of the
    cells in ``failure_detail``.

    Args:
        catalogue: products and requests.
        images: results of the requests, schema ``IMAGES``.
        path: file of the list, written if any image failed.
        formulas: see ``files.write_rows``; a list with escaped cells is for people alone.

    Raises:
        SourceError: no image could be read.
    """
    bad = images[images["status"] != "ok"]
    n_ok = len(images) - len(bad)
    n_products = images.loc[images["product_id"] != "", "product_id"].nunique()
    log.info("read %s of %s", counted(n_ok, "image"), counted(n_products, "product"))
    if bad.empty:
        return
    write_csv(_failure_table(catalogue, bad), path, formulas)
    counts = (bad["status"] + ":" + bad["reason"]).value_counts()
    if not n_ok:
        reasons = ", ".join(
            _describe(count, str(reason)) for reason, count in sorted(counts.items())
        )
        raise SourceError(
            f"not one of {counted(len(images), 'image')} could be read: {reasons}. See {path}"
        )
    lines = [_describe(f"{count:8} ", str(reason)) for reason, count in counts.items()]
    log.warning("%s failed or skipped. See %s", counted(len(bad), "image"), path)
    log.warning("\n".join(["why:", *lines]))


def _describe(count: int | str, reason: str) -> str:
    """Format a count, its reason, and advice on the setting."""
    hint = HINTS.get(reason.partition(":")[2])
    return f"{count} {reason} ({hint})" if hint else f"{count} {reason}"


def _failure_table(catalogue: Catalogue, bad: pd.DataFrame) -> pd.DataFrame:
    products = catalogue.products
    own = products[[name for name in products.columns if not str(name).startswith(PREFIX)]]
    listed = own.iloc[bad["record"]].reset_index(drop=True)
    misread = bad["reason"].isin(MISREAD).to_numpy()
    begins = np.full(len(bad), "", dtype=object)
    begins[misread] = [_beginning(cells) for cells in listed[misread].to_numpy()]
    listed.loc[misread, :] = ""
    listed.loc[misread, catalogue.id_column] = bad["product_id"].to_numpy()[misread]
    facts = bad[FACTS].add_prefix(PREFIX).reset_index(drop=True)
    named = {"id": _column(catalogue.id_column), "url": _column(catalogue.url_column)}
    facts[f"{PREFIX}detail"] = [
        detail or WRITE.get(reason, "").format(**named) + cells
        for detail, reason, cells in zip(bad["detail"], bad["reason"], begins, strict=True)
    ]
    return pd.concat([listed, facts], axis=1)


def _column(names: str | Sequence[str] | None) -> str:
    several = [names] if isinstance(names, str) else [*(names or [])]
    return f"column {' and '.join(map(repr, several))}"


def _beginning(cells: Iterable[object]) -> str:
    """Write the start of a record's cells, which cannot be assigned to columns."""
    text = " | ".join(cell for cell in map(str, cells) if cell)
    return f". It begins: {text[:_SHOWN]}" if text else ""
