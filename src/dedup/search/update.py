"""Add, remove and update products of an index, without embedding the others again.

After any changes the index equals one built from the resulting table: the same rows and products,
and for each image a vector of the same bits. Only the clusters may differ, since the centroids stay
those of the first catalogue. No pair depends on them.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.errors import ArtifactError, ConfigError, SourceError
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.invocation import command
from dedup.search.build import DIGEST, describe_origin, distinct_images, place_images, vectors_of
from dedup.search.clustering import nearest_centroids
from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue
from dedup.sources.repeats import skip_further_rows
from dedup.store.failures import WRITE

N_NAMED = 5
"""Unknown ids named in a message, at most."""
N_COMPARED = 1_000
"""Ids of the index compared with an unknown id, on each side of it in the sorted list; comparing
all would take minutes in a catalogue of a million."""


def add(
    index: Index, catalogue: Catalogue, images: pd.DataFrame, store: ImageReader,
    batch_size: int = 128, devices: Sequence[str] = ("auto",),
) -> Index:  # fmt: skip
    """Append a catalogue's records and images.

    A product of the index gets more images, as in one run over both tables in sequence. An image
    that the product has already, from the same address, is skipped as ``duplicate_row``, even if
    the address shows another image by now: ``update`` takes the new one. Only images with new
    pixels are embedded; each joins the cluster with the nearest centroid.

    Args:
        index: the index; it is not changed.
        catalogue: catalogue with the same columns for id and title as the index.
        images: result of ``store.ingest(catalogue)``.
        store: the store of the index.
        batch_size: images read at once.
        devices: devices that embed, as torch names them; a process for each.

    Returns:
        An index with the new rows after the old ones. ``products`` has the columns of both
        tables; missing cells are empty.

    Raises:
        ConfigError: the catalogue's columns for id or title differ from the index's.
        ArtifactError: the store or the checkpoint is not that of the index.
    """
    return _add(index, catalogue, images, store, batch_size, devices, index)


def _add(
    index: Index, catalogue: Catalogue, images: pd.DataFrame, store: ImageReader, batch_size: int,
    devices: Sequence[str], known: Index,
) -> Index:  # fmt: skip
    """Append records and images; vectors of images that ``known`` has are taken from there."""
    _check_fits(index, catalogue, store)
    images = _skip_repeats(images, catalogue.requests["status"].to_numpy() == "", index.images)
    first = index.images[index.images["vector"] >= 0].drop_duplicates("vector")
    new = distinct_images(images[~images[DIGEST].isin(first[DIGEST])])
    vectors, clusters = index.vectors, np.empty(0, np.int64)
    if len(new):
        more = vectors_of(new, known, store, known.manifest["checkpoint"], batch_size, devices)
        clusters = nearest_centroids(more, index.centroids)
        vectors = np.concatenate([index.vectors, more])
    added = place_images(
        images,
        pd.concat([first[DIGEST], new[DIGEST]]),
        np.append(first["vector"], np.arange(len(index.vectors), len(vectors))),
        np.append(first["cluster"], clusters),
    )
    added["record"] += len(index.products)
    rows = pd.concat([index.images, added], ignore_index=True)
    skip_further_rows(rows, ~rows["reason"].isin(WRITE))
    products = pd.concat([index.products, catalogue.products], ignore_index=True).fillna("")
    return replace(
        index,
        images=rows,
        vectors=vectors,
        products=products,
        manifest=dict(index.manifest),
        folder=None,
    )


def remove(index: Index, product_ids: str | Collection[str]) -> Index:
    """Remove products with all their records, and the vectors that no image uses any more.

    A record without an id, which could not be read, stays.

    Args:
        index: the index; it is not changed.
        product_ids: ids of the products; the index may become empty.

    Returns:
        An index without them, its records and vectors renumbered from 0 in the old order.

    Raises:
        SourceError: the index has no such product.
    """
    ids = {product_ids} if isinstance(product_ids, str) else set(product_ids)
    images = index.images
    gone = images["product_id"].isin(list(ids))
    _refuse_unknown(index, ids - (set(images.loc[gone, "product_id"]) - {""}))
    return _without(index, gone)


def _without(index: Index, gone: pd.Series[bool]) -> Index:
    """Leave out rows of ``images`` with their records, and the vectors that nothing else uses."""
    images = index.images
    stays = np.ones(len(index.products), bool)
    stays[images.loc[gone, "record"]] = False
    images = images[~gone]
    is_used = np.zeros(len(index.vectors), bool)
    is_used[images.loc[images["vector"] >= 0, "vector"]] = True
    return replace(
        index,
        images=images.assign(
            record=_renumbered(stays)[images["record"].to_numpy()],
            vector=np.append(_renumbered(is_used), -1)[images["vector"].to_numpy()],
        ).reset_index(drop=True),
        vectors=index.vectors if is_used.all() else index.vectors[is_used],
        products=index.products[stays].reset_index(drop=True),
        manifest=dict(index.manifest),
        folder=None,
    )


def listed_ids(ids: object) -> list[str]:
    r"""Read product ids from a list, or from a UTF-8 file with one id a line.

    A line ends with ``\n``, ``\r\n`` or ``\r``. An id that holds one of them needs a list.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    if isinstance(ids, list):
        return [str(id_) for id_ in ids]
    file = Path(str(ids))
    if not file.is_file():
        raise ConfigError(
            f"ids={ids} is not a file: name a file with one id a line, or put the id into "
            f"brackets, 'ids=[{ids}]'"
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read ids={ids}: {error}. Save it as UTF-8, with one id a line"
        ) from error
    return [line for line in text.split("\n") if line]  # splitlines ends a line at U+2028 too


def update(
    index: Index, catalogue: Catalogue, images: pd.DataFrame, store: ImageReader,
    batch_size: int = 128, devices: Sequence[str] = ("auto",),
) -> Index:  # fmt: skip
    """Replace the products that a catalogue names, and add those that are new.

    The catalogue's records replace all records and images of a product, even where an image is
    skipped or fails now. A record without an id is replaced by one with equal cells, so that a
    table that is given each day leaves it there once. Arguments, result and errors are those of
    ``add``.
    """
    named = set(catalogue.requests["product_id"]) - {""}
    replaced = index.images["product_id"].isin(named) | _repeated(index, catalogue, images)
    rest = _without(index, replaced)
    return _add(rest, catalogue, images, store, batch_size, devices, index)


def count_changes(before: Index, after: Index) -> tuple[int, int, int]:
    """Count the products added, changed in their images, and removed between two indexes."""
    old, new = (_images_by_product(index) for index in (before, after))
    n_changed = sum(old[key] != new[key] for key in old.keys() & new.keys())
    return len(new.keys() - old.keys()), n_changed, len(old.keys() - new.keys())


def _images_by_product(index: Index) -> dict[str, frozenset[tuple[str, str]]]:
    """Collect the address and digest of each product's images."""
    images = index.images[index.images["reason"] != "duplicate_row"]
    owned: dict[str, set[tuple[str, str]]] = {}
    for key, *image in zip(*(images[name] for name in ("product_id", "url", DIGEST)), strict=True):
        owned.setdefault(key, set()).add((image[0], image[1]))
    return {key: frozenset(pairs) for key, pairs in owned.items() if key}


def _check_fits(index: Index, catalogue: Catalogue, store: ImageReader) -> None:
    """Refuse a catalogue or a store that does not match the index's manifest."""
    now = describe_origin(catalogue, store)
    now.pop("foreground", None)
    changed = {name: index.manifest[name] for name in now if now[name] != index.manifest[name]}
    for name, error, setting in (
        ("id_column", ConfigError, "source.id_column"),
        ("title_column", ConfigError, "source.title_column"),
        ("reader", ArtifactError, "store.reader"),
        ("store", ArtifactError, "store.path"),
    ):
        if name in changed:
            before = changed[name]
            raise error(
                f"the index was made with {name}={before}, and this is {now[name]}: set "
                f"{setting}={'null' if before is None else before}, or make an index of the whole "
                f"catalogue with {command('cluster')}"
            )
    if index.shows != (store.product.digest if isinstance(store, Framed) else ""):
        raise ArtifactError(
            "the index was made with another foreground, or another version of it: make an index "
            f"of the whole catalogue with {command('cluster')}"
        )
    index.check_encoder(index.manifest["checkpoint"])


def _repeated(index: Index, catalogue: Catalogue, images: pd.DataFrame) -> pd.Series[bool]:
    """Tell of each image of an index whether its record has no id and a catalogue repeats it."""
    nameless = index.images["product_id"] == ""
    old = index.products.iloc[index.images.loc[nameless, "record"]]
    new = catalogue.products.iloc[images.loc[images["product_id"] == "", "record"]]
    columns = list(dict.fromkeys([*old.columns, *new.columns]))
    cells = [table.reindex(columns=columns, fill_value="").astype(str) for table in (old, new)]
    known = set(cells[1].itertuples(index=False, name=None))
    repeated = nameless.to_numpy(bool, copy=True)
    found = [row in known for row in cells[0].itertuples(index=False, name=None)]
    repeated[repeated] = np.array(found, bool)
    return pd.Series(repeated, nameless.index)


def _skip_repeats(
    images: pd.DataFrame, is_requested: npt.NDArray[np.bool_], before: pd.DataFrame
) -> pd.DataFrame:
    """Skip images that the index has already: the same product and the same address.

    Args:
        images: the new images, schema ``IMAGES``.
        is_requested: (n,), whether the source requested the row's image.
        before: images of the index.
    """
    key = ["product_id", "url"]
    before = before[before["product_id"].isin(images["product_id"]) & (before["url"] != "")]
    indexed = pd.MultiIndex.from_frame(before[key])
    repeats = is_requested & pd.MultiIndex.from_frame(images[key]).isin(indexed)
    skipped = images.copy()
    skipped.loc[repeats, ["status", "reason"]] = ["skipped", "duplicate_row"]
    skipped.loc[repeats, "contrast"] = 0
    return skipped


def _refuse_unknown(index: Index, unknown: set[str]) -> None:
    if not unknown:
        return
    named = sorted(unknown)[:N_NAMED]
    more = f" and {len(unknown) - len(named)} more" if len(unknown) > len(named) else ""
    near = _nearest(named[0], sorted({*index.images["product_id"]} - {""}))
    hint = f" Nearest to {named[0]!r} is {near!r}." if near else ""
    raise SourceError(
        f"the index has no product {', '.join(map(repr, named))}{more}.{hint} Nothing was "
        "removed: correct the ids, or leave them out"
    )


def _nearest(wrong: str, ids: Sequence[str]) -> str:
    """Find the id most similar to a wrong one, among its neighbours in the sorted list."""
    at = bisect_left(ids, wrong)
    matcher = difflib.SequenceMatcher(b=wrong)

    def similarity(place: int) -> tuple[float, int]:
        matcher.set_seq1(ids[place])
        return matcher.ratio(), -abs(place - at)

    around = range(max(0, at - N_COMPARED), min(len(ids), at + N_COMPARED))
    return ids[max(around, key=similarity)] if around else ""


def _renumbered(stays: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Renumber the rows that stay, (n,), without gaps."""
    return np.cumsum(stays, dtype=np.int64) - 1
