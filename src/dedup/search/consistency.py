"""Whether the tables of an index, a search or a result can be true.

Digests say that files are what was written. These checks say that what was written can be what the
commands write: a stranger, or a fault, may have written something else and digests to go with it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.runtime.parallel import in_order
from dedup.search.manifest import Origin

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Digests = npt.NDArray[np.uint64]
"""(n, 8), the 64 hexadecimal digits of each as they are written."""

STATUSES = ("ok", "skipped", "failed")
MAX_CONTRAST = 127.5
DIGITS = 64
"""Of a SHA-256."""
BLOCK = 2**18
"""Bytes that are looked at at once: they stay in the processor's cache."""
MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd: makes one number of two, of which each bit counts."""


FEW = 1000
"""So many digests are compared one by one."""


def check_columns(products: pa.Table, manifest: Mapping[str, Any], origin: Origin) -> None:
    """Check that an index's table has the columns that its manifest names.

    Raises:
        CorruptError: it has not.
    """
    for name in ("id_column", "title_column", "url_column"):
        column = manifest.get(name)
        if column is not None and column not in products.column_names:
            origin.refuse(f"its {name} is {column[:100]!r}, which products.parquet lacks")


def check_images(
    images: pa.Table, ids: pa.ChunkedArray, n_vectors: int, n_clusters: int, origin: Origin
) -> None:
    """Check an index's images.

    Args:
        images: the schema ``INDEX_IMAGES``, without nulls but in numbers with a point.
        ids: the products' ids, by record.
        n_vectors: rows of ``vectors.npy``.
        n_clusters: rows of ``centroids.npy``.
        origin: of the images.

    Raises:
        CorruptError: they cannot be what was written.
    """
    record, vector, cluster = (images[name].to_numpy() for name in ("record", "vector", "cluster"))
    for name, found, least, n, file in (
        ("record", record, 0, len(ids), "products.parquet"),
        ("vector", vector, -1, n_vectors, "vectors.npy"),
        ("cluster", cluster, -1, n_clusters, "centroids.npy"),
    ):
        if len(found) and (found.min() < least or found.max() >= n):
            wrong = found.min() if found.min() < least else found.max()
            origin.refuse(f"it names the {name} {wrong}, and {file} has {n} rows")
    if not _all(pc.is_in(images["status"], pa.array(STATUSES))):
        origin.refuse(f"a status is none of {', '.join(STATUSES)}")
    ok = pc.equal(images["status"], "ok").to_numpy()
    if ((vector >= 0) != ok).any() or ((cluster >= 0) != ok).any():
        origin.refuse("an image that is not ok has a vector, or one that is ok has none")
    for name, most in (("width", np.inf), ("height", np.inf), ("contrast", MAX_CONTRAST)):
        found = images[name].to_numpy()
        if not ((found >= 0) & (found <= most)).all():
            origin.refuse(f"a {name} is out of range")
    parts: tuple[Callable[[], object], ...] = (
        lambda: _check_vectors(
            _digests(images, "sha256_pixels", ok, origin),
            vector[ok],
            cluster[ok],
            n_vectors,
            origin,
        ),
        lambda: _digits(images, "sha256_bytes", ok, origin),
        lambda: _check_owners(images["product_id"], ids, record, ok, origin),
    )
    for _ in in_order(lambda part: part(), parts):
        pass


def _check_owners(
    owners: pa.ChunkedArray, ids: pa.ChunkedArray, record: Ints, ok: Bools, origin: Origin
) -> None:
    """Each image that is ok is the product's in whose record it stands."""
    if not np.array_equal(record, np.arange(len(ids))):
        ids = ids.take(pa.array(record))
    other = np.flatnonzero(~pc.equal(owners, ids).to_numpy() & ok)
    if len(other):
        owner, id_ = (repr(column[int(other[0])].as_py())[:100] for column in (owners, ids))
        origin.refuse(
            f"row {other[0]} is an image of {owner}, its record in products.parquet {id_}"
        )


def _check_vectors(
    digests: Digests, vector: Ints, cluster: Ints, n_vectors: int, origin: Origin
) -> None:
    """Equal pixels share one vector, others do not, and every vector is some image's.

    Args:
        digests: (n, 8) of the pixels of each image that is ok.
        vector: (n,) its vector.
        cluster: (n,) its cluster.
        n_vectors: how many there are.
        origin: of the images.
    """
    first = np.full(n_vectors, -1, np.int64)
    first[vector[::-1]] = np.arange(len(vector) - 1, -1, -1)
    if len(first) and first.min() < 0:
        origin.refuse(f"none of its images has row {int(first.argmin())} of vectors.npy")
    again = np.flatnonzero(first[vector] != np.arange(len(vector)))
    before = first[vector[again]]
    if (digests[again] != digests[before]).any():
        origin.refuse("images with different pixels share a vector")
    if (cluster[again] != cluster[before]).any():
        origin.refuse("images with one vector are in two clusters")
    if not _are_distinct(digests, first):
        origin.refuse("images with equal pixels have different vectors")


def _are_distinct(digests: Digests, rows: Ints) -> bool:
    """Whether no two digests in some rows are equal."""
    beginning = digests[rows, 0]
    in_order = beginning.byteswap() if sys.byteorder == "little" else beginning
    ties = np.flatnonzero(in_order[1:] <= in_order[:-1])
    if len(ties) < FEW:  # as in an index that is new
        before, after = (digests[rows[at]] for at in (ties, ties + 1))
        if all(a.tobytes() < b.tobytes() for a, b in zip(before, after, strict=True)):
            return True
    mixed = beginning * MIX + digests[rows, 1]  # wraps
    mixed.sort()
    if (mixed[1:] != mixed[:-1]).all():
        return True
    return len(np.unique(digests[rows], axis=0)) == len(rows)


def check_compared(compared: pa.Table, origin: Origin) -> None:
    """Check the images that a search compared, the schema ``COMPARED`` without nulls.

    Raises:
        CorruptError: they cannot be what was written.
    """
    _digits(compared, "sha256_pixels", np.ones(len(compared), bool), origin)
    if not _rises(compared["sha256_pixels"]):
        origin.refuse("its images are not in order, each once")


def check_near(
    near: pa.Table, compared: pa.Table, looked: bool, relations: Collection[str], origin: Origin
) -> None:
    """Check the images that a search found near each other.

    Args:
        near: the schema ``NEAR``, without nulls but in numbers with a point.
        compared: the images that were compared, in the schema ``COMPARED``.
        looked: whether there was a second look.
        relations: what two images may be to each other.
        origin: of the pairs.

    Raises:
        CorruptError: they cannot be what was written.
    """
    a, b = near["pixels_a"], near["pixels_b"]
    for name in ("pixels_a", "pixels_b"):
        _digits(near, name, np.ones(len(near), bool), origin)
        if not _all(pc.is_in(near[name], compared["sha256_pixels"])):
            origin.refuse(f"an image in {name} is not among those of compared.parquet")
    if not _all(pc.less(a, b)):
        origin.refuse("pixels_a does not come before pixels_b")
    if not _rises(a, b):
        origin.refuse("its pairs are not in order, each once")
    _check_figures(near, ("score", "alike"), origin)
    if (np.isnan(near["score"].to_numpy()) == looked).any():
        origin.refuse("there are scores without a second look, or none after one")
    _check_words(near, "relation", ["", *relations], origin)


def check_pairs(
    pairs: pa.Table, tiers: Collection[str], relations: Collection[str], origin: Origin
) -> None:
    """Check pairs of products, the schema ``PAIRS`` without nulls but in numbers with a point.

    Args:
        pairs: the table.
        tiers: how sure a pair may be.
        relations: what two products may be to each other.
        origin: of the table.

    Raises:
        CorruptError: they cannot be what was written.
    """
    ends = pairs["product_id_a"], pairs["product_id_b"]
    if not _all(pc.less(*ends)) or not _rises(*ends):
        origin.refuse("its pairs are not in order, each once")
    _check_figures(pairs, ("score",), origin)
    _check_words(pairs, "tier", tiers, origin)
    _check_words(pairs, "relation", ["", *relations], origin)


def check_groups(groups: pa.Table, origin: Origin) -> None:
    """Check groups of products, the schema ``GROUPS`` without nulls.

    Raises:
        CorruptError: a product is in two groups, or a group does not keep exactly one.
    """
    _check_each_once(groups, origin)
    counts = groups.group_by("group_id").aggregate([("kept", "sum"), ("kept", "count")])
    if not _all(pc.equal(counts["kept_sum"], 1)) or not _all(pc.greater(counts["kept_count"], 1)):
        origin.refuse("a group has one product, or keeps none or several")


def check_families(families: pa.Table, origin: Origin) -> None:
    """Check families of products, the schema ``FAMILIES`` without nulls.

    Raises:
        CorruptError: a product is in two families.
    """
    _check_each_once(families, origin)


def check_shared(shared: pa.Table, origin: Origin) -> None:
    """Check images that prove nothing, the schema ``SHARED`` without nulls.

    Raises:
        CorruptError: they cannot be what was written.
    """
    _digits(shared, "sha256_pixels", np.ones(len(shared), bool), origin)
    _check_words(shared, "reason", ("flat", "shared"), origin)
    if not _all(pc.greater(shared["n_products"], 0)):
        origin.refuse("no product shows one of its images")


def _check_each_once(table: pa.Table, origin: Origin) -> None:
    if len(pc.unique(table["product_id"])) != len(table):
        origin.refuse("a product stands in it twice")


def _check_figures(pairs: pa.Table, scores: Collection[str], origin: Origin) -> None:
    """Distances are numbers from 0; scores, where there are any, from 0 to 1."""
    distance = pairs["distance"].to_numpy()
    if not (np.isfinite(distance) & (distance >= 0)).all():
        origin.refuse("a distance is no number from 0")
    for name in scores:
        column = pairs[name].to_numpy()
        if not (np.isnan(column) | ((column >= 0) & (column <= 1))).all():
            origin.refuse(f"its column {name} holds what is no number from 0 to 1")


def _check_words(table: pa.Table, name: str, words: Collection[str], origin: Origin) -> None:
    if not _all(pc.is_in(table[name], pa.array(list(words)))):
        origin.refuse(f"a {name} is none of {', '.join(filter(None, words))}")


def _digests(table: pa.Table, name: str, needed: Bools, origin: Origin) -> Digests:
    """The digests of a column where they are needed; elsewhere there may be "".

    Raises:
        CorruptError: one is no SHA-256 in hexadecimal.
    """
    parts, there = _digits(table, name, needed, origin)
    found: Digests = np.concatenate(parts).reshape(-1, DIGITS).view(np.uint64)
    return found if needed.all() else found[needed[there]]


def _digits(
    table: pa.Table, name: str, needed: Bools, origin: Origin
) -> tuple[list[npt.NDArray[np.uint8]], Bools]:
    """The digits of a column of digests, one after the other in parts, and where there are any.

    Raises:
        CorruptError: they are no SHA-256 in hexadecimal.
    """
    parts, lengths = [np.empty(0, np.uint8)], [np.empty(0, np.int32)]
    for chunk in table[name].chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        lengths.append(np.diff(ends))
        if len(ends) and ends[-1] > ends[0]:
            parts.append(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]])
    length = np.concatenate(lengths)
    there: Bools = length == DIGITS
    if not (there | ((length == 0) & ~needed)).all() or not all(map(_are_hexadecimal, parts)):
        origin.refuse(f"its column {name} holds what is no SHA-256")
    return parts, there


def _are_hexadecimal(digits: npt.NDArray[np.uint8]) -> bool:
    for at in range(0, len(digits), BLOCK):
        block = digits[at : at + BLOCK]
        wanted = (block - ord("0") < 10) | (block - ord("a") < 6)  # wraps below
        if np.count_nonzero(wanted) < len(block):
            return False
    return True


def _rises(*columns: pa.ChunkedArray) -> bool:
    """Whether each row comes after the one before it, by the first column and then the next."""
    n = max(len(columns[0]) - 1, 0)
    rises, equal = np.zeros(n, bool), np.ones(n, bool)
    for column in columns:
        before, after = column.slice(0, n), column.slice(1)
        rises |= equal & pc.less(before, after).to_numpy()
        equal &= pc.equal(before, after).to_numpy()
    return bool(rises.all())


def _all(flags: pa.ChunkedArray) -> bool:
    return bool(pc.all(flags, min_count=0).as_py())
