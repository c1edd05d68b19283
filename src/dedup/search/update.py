"""Change an index: add, remove and update products without embedding the others again.

After any sequence of changes the index holds what one that is made anew from the resulting table
would hold: the same rows, the same products, and for each image a vector of the same bits. Only
the clusters are others, for the centroids stay those of the first catalogue; no pair may depend
on them.
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
from dedup.search.build import DIGEST, distinct_images, embed_images, made_from, placed
from dedup.search.clustering import nearest_centroids
from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue

N_NAMED = 5
"""Unknown ids that a message names."""
N_COMPARED = 1_000
"""Known ids on each side of an unknown one that are searched for the nearest: all would take
minutes in a catalogue of a million."""


def add(
    index: Index, catalogue: Catalogue, images: pd.DataFrame, store: ImageReader,
    batch_size: int = 128, devices: Sequence[str] = ("auto",),
) -> Index:  # fmt: skip
    """Append a catalogue's records and images.

    A product that is there already gets more images, as it would in one run over both tables,
    one after the other. An image that it has already, from the same address, is skipped as
    ``duplicate_row``, whatever the address shows by now: ``update`` takes the new one. Only
    images with new pixels are embedded; each goes to the cluster with the nearest centroid.

    Args:
        index: the index; it stays as it is.
        catalogue: what a source read, with the same columns for id and title as the index.
        images: what ``store.ingest(catalogue)`` returned.
        store: the store of the index.
        batch_size: images read at once.
        devices: what embeds, as torch names it; a process for each.

    Returns:
        An index with the new rows after the old ones. ``products`` has the columns of both
        tables, cells of a column that one of them lacks are empty.

    Raises:
        ConfigError: the catalogue names its columns for id or title otherwise.
        ArtifactError: the store or the checkpoint is not the index's.
    """
    _check_fits(index, catalogue, store)
    images = _skip_known(images, catalogue.requests["status"].to_numpy() == "", index.images)
    first = index.images[index.images["vector"] >= 0].drop_duplicates("vector")
    new = distinct_images(images[~images[DIGEST].isin(first[DIGEST])])
    vectors, clusters = index.vectors, np.empty(0, np.int64)
    if len(new):
        more = embed_images(new, store, index.manifest["checkpoint"], batch_size, devices)
        clusters = nearest_centroids(more, index.centroids)
        vectors = np.concatenate([index.vectors, more])
    added = placed(
        images,
        pd.concat([first[DIGEST], new[DIGEST]]),
        np.append(first["vector"], np.arange(len(index.vectors), len(vectors))),
        np.append(first["cluster"], clusters),
    )
    added["record"] += len(index.products)
    products = pd.concat([index.products, catalogue.products], ignore_index=True).fillna("")
    return replace(
        index,
        images=pd.concat([index.images, added], ignore_index=True),
        vectors=vectors,
        products=products,
        manifest=dict(index.manifest),
    )


def remove(index: Index, product_ids: str | Collection[str]) -> Index:
    """Take products out, with all their records, and the vectors that nothing shows any more.

    A record without an id, which could not be read, stays.

    Args:
        index: the index; it stays as it is.
        product_ids: of the products; all of them may go.

    Returns:
        An index without them, its records and vectors numbered anew from 0 in the old order.

    Raises:
        SourceError: the index has no such product.
    """
    ids = {product_ids} if isinstance(product_ids, str) else set(product_ids)
    images = index.images
    gone = images["product_id"].isin(list(ids))
    _check_known(index, ids - (set(images.loc[gone, "product_id"]) - {""}))
    stays = np.ones(len(index.products), bool)
    stays[images.loc[gone, "record"]] = False
    images = images[~gone]
    shown = np.zeros(len(index.vectors), bool)
    shown[images.loc[images["vector"] >= 0, "vector"]] = True
    return replace(
        index,
        images=images.assign(
            record=_renumbered(stays)[images["record"].to_numpy()],
            vector=np.append(_renumbered(shown), -1)[images["vector"].to_numpy()],
        ).reset_index(drop=True),
        vectors=index.vectors if shown.all() else index.vectors[shown],
        products=index.products[stays].reset_index(drop=True),
        manifest=dict(index.manifest),
    )


def listed_ids(ids: object) -> list[str]:
    r"""Product ids, from a list or from a file of UTF-8 with one on each line.

    A line ends with ``\n``, ``\r\n`` or ``\r``: an id that holds one of them is to be in a list.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    if isinstance(ids, list):
        return [str(one) for one in ids]
    file = Path(str(ids))
    if not file.is_file():
        raise ConfigError(f"ids={ids}: no such file. A single id needs brackets: 'ids=[{ids}]'")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"ids={ids} cannot be read ({error}): one id a line, as UTF-8") from error
    return [line for line in text.split("\n") if line]  # splitlines ends one at U+2028 too


def update(
    index: Index, catalogue: Catalogue, images: pd.DataFrame, store: ImageReader,
    batch_size: int = 128, devices: Sequence[str] = ("auto",),
) -> Index:  # fmt: skip
    """Replace the products that a catalogue names, and add those that are new.

    What the catalogue says of a product replaces all its records and images, even where it is
    skipped or fails now. Arguments, result and errors are those of ``add``.
    """
    named = set(catalogue.requests["product_id"]) - {""}
    known = named & set(index.images["product_id"])
    return add(remove(index, known), catalogue, images, store, batch_size, devices)


def count_changes(before: Index, after: Index) -> tuple[int, int, int]:
    """How many products came, changed their images, and went between two states of an index."""
    old, new = (_images_by_product(index) for index in (before, after))
    n_changed = sum(old[key] != new[key] for key in old.keys() & new.keys())
    return len(new.keys() - old.keys()), n_changed, len(old.keys() - new.keys())


def _images_by_product(index: Index) -> dict[str, frozenset[tuple[str, str]]]:
    """The address and the digest of each product's images."""
    images = index.images[index.images["reason"] != "duplicate_row"]
    owned: dict[str, set[tuple[str, str]]] = {}
    for key, *image in zip(*(images[name] for name in ("product_id", "url", DIGEST)), strict=True):
        owned.setdefault(key, set()).add((image[0], image[1]))
    return {key: frozenset(found) for key, found in owned.items() if key}


def _check_fits(index: Index, catalogue: Catalogue, store: ImageReader) -> None:
    """Refuse what would not have come out of the run that made the index."""
    now = made_from(catalogue, store)
    now.pop("foreground", None)
    other = {name: index.manifest[name] for name in now if now[name] != index.manifest[name]}
    for name, error, setting in (
        ("id_column", ConfigError, "source.id_column"),
        ("title_column", ConfigError, "source.title_column"),
        ("reader", ArtifactError, "store.reader"),
        ("store", ArtifactError, "store.path"),
    ):
        if name in other:
            raise error(
                f"the index was made with {name}={other[name]}, and this is {now[name]}: set "
                f"{setting}={'null' if other[name] is None else other[name]}, or make an index of "
                f"the whole catalogue with {command('cluster')}"
            )
    if index.shows != (store.product.digest if isinstance(store, Framed) else ""):
        raise ArtifactError(
            "the index was made with another foreground, or another version of it: make an index "
            f"of the whole catalogue with {command('cluster')}"
        )
    index.check_encoder(index.manifest["checkpoint"])


def _skip_known(
    images: pd.DataFrame, asked: npt.NDArray[np.bool_], before: pd.DataFrame
) -> pd.DataFrame:
    """Skip what the index has asked for already: the same product and the same address.

    Args:
        images: schema ``IMAGES``.
        asked: (n,) whether the source asked for the row's image.
        before: the index's images.
    """
    key = ["product_id", "url"]
    before = before[before["product_id"].isin(images["product_id"]) & (before["url"] != "")]
    known = pd.MultiIndex.from_frame(before[key])
    repeats = asked & pd.MultiIndex.from_frame(images[key]).isin(known)
    skipped = images.copy()
    skipped.loc[repeats, ["status", "reason"]] = ["skipped", "duplicate_row"]
    skipped.loc[repeats, "contrast"] = 0
    return skipped


def _check_known(index: Index, unknown: set[str]) -> None:
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


def _nearest(wrong: str, known: Sequence[str]) -> str:
    """The known id that is most like a wrong one, of those around it in the sorted list."""
    at = bisect_left(known, wrong)
    matcher = difflib.SequenceMatcher(b=wrong)

    def likeness(place: int) -> tuple[float, int]:
        matcher.set_seq1(known[place])
        return matcher.ratio(), -abs(place - at)

    around = range(max(0, at - N_COMPARED), min(len(known), at + N_COMPARED))
    return known[max(around, key=likeness)] if around else ""


def _renumbered(stays: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The new number of each place that stays, if those that go leave no gaps."""
    return np.cumsum(stays, dtype=np.int64) - 1
