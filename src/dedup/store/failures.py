"""What was not read: a table of reasons for people, and a CSV that can be read again."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from dedup.errors import SourceError
from dedup.runtime.nouns import counted
from dedup.runtime.tables import write_csv
from dedup.sources.catalogue import Catalogue

log = logging.getLogger("dedup")

PREFIX = "failure_"
"""What the names of the columns start with that stand beside the catalogue's own."""
FACTS = ["status", "reason", "detail", "url", "record"]
MISREAD = ("bad_field_count", "bad_quotes", "field_too_long")
"""Of these records it is not known which cell belongs to which column."""

HINTS = {
    "blocked_address": "fetch.allow_networks=[10.0.0.0/8] lets private networks be reached",
    "decoder_oom": "store.decode_memory=BYTES lets an image take more",
    "decoder_timeout": "store.decode_timeout=SECONDS waits longer",
    "outside_folder": "source.images_dir=FOLDER says below which folder images may lie",
    "robots": "fetch.robots says what is left out",
    "timeout": "fetch.timeout=SECONDS waits longer",
    "too_large": "fetch.max_bytes=BYTES takes larger files",
}
"""Which setting an image fails by, and what another value does."""


def account(catalogue: Catalogue, images: pd.DataFrame, path: Path, formulas: str = "keep") -> None:
    """Say how the reading went, and list what is not ok.

    The list has the catalogue's own columns as they were, and so can be read again as a catalogue
    with the same settings; beside them stand ``failure_status``, ``failure_reason`` and so on. Of
    records whose cells could not be told apart it shows the id alone.

    Args:
        catalogue: what was asked for.
        images: what became of it, schema ``IMAGES``.
        path: where the list goes, if anything is not ok.
        formulas: see ``files.write_rows``; a list with escaped cells is for people alone.

    Raises:
        SourceError: nothing at all is ok.
    """
    bad = images[images["status"] != "ok"]
    n_ok = len(images) - len(bad)
    n_products = images.loc[images["product_id"] != "", "product_id"].nunique()
    log.info("%s ok, of %s", counted(n_ok, "image"), counted(n_products, "product"))
    if bad.empty:
        return
    write_csv(_listed(catalogue, bad), path, formulas)
    counts = (bad["status"] + ":" + bad["reason"]).value_counts()
    if not n_ok:
        reasons = ", ".join(
            _counted(count, str(reason)) for reason, count in sorted(counts.items())
        )
        raise SourceError(
            f"not one of {counted(len(images), 'picture')} could be read: {reasons}. See {path}"
        )
    lines = [_counted(f"{count:8} ", str(reason)) for reason, count in counts.items()]
    log.warning("%s not ok. See %s", counted(len(bad), "image"), path)
    log.warning("\n".join(["why:", *lines]))


def _counted(count: int | str, reason: str) -> str:
    """How often something failed, why, and by which setting."""
    hint = HINTS.get(reason.partition(":")[2])
    return f"{count} {reason} ({hint})" if hint else f"{count} {reason}"


def _listed(catalogue: Catalogue, bad: pd.DataFrame) -> pd.DataFrame:
    products = catalogue.products
    own = products[[name for name in products.columns if not str(name).startswith(PREFIX)]]
    listed = own.iloc[bad["record"]].reset_index(drop=True)
    misread = bad["reason"].isin(MISREAD).to_numpy()
    listed.loc[misread, :] = ""
    listed.loc[misread, catalogue.id_column] = bad["product_id"].to_numpy()[misread]
    facts = bad[FACTS].add_prefix(PREFIX).reset_index(drop=True)
    return pd.concat([listed, facts], axis=1)
