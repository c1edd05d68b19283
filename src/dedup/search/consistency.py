"""Check that the tables of an index, a search or a result are consistent with each other.

Checksums show that a file did not change since it was written. They do not show that a command of
this package wrote it: a stranger or a fault may have written other tables and their checksums.
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
"""(n, 8): the 64 hexadecimal digits of each digest, as text in memory."""

STATUSES = ("ok", "skipped", "failed")
MAX_CONTRAST = 127.5
DIGITS = 64
"""Hexadecimal digits of a SHA-256."""
BLOCK = 2**18
"""Bytes checked at once, chosen to stay in the processor's cache."""
MIX = np.uint64(0x9E3779B97F4A7C15)
"""Odd multiplier (the golden ratio) that hashes two words into one."""
MAX_TIES = 1000
"""Digests compared one by one, at most; more are compared by hash."""


def check_columns(products: pa.Table, manifest: Mapping[str, Any], origin: Origin) -> None:
    """Check that an index's table has the columns that its manifest names.

    Raises:
        CorruptError: a column is missing.
    """
    for name in ("id_column", "title_column", "url_column"):
        columns = manifest.get(name)
        for column in columns if isinstance(columns, list) else [columns]:
            if column is not None and column not in products.column_names:
                origin.refuse(f"{name} is {column[:100]!r}, a column that products.parquet lacks")


def check_images(
    images: pa.Table, ids: pa.ChunkedArray, n_vectors: int, n_clusters: int, origin: Origin
) -> None:
    """Check the image table of an index against its products, vectors and clusters.

    Args:
        images: the schema ``INDEX_IMAGES``; nulls in columns of floats alone.
        ids: product id of each record.
        n_vectors: rows of ``vectors.npy``.
        n_clusters: rows of ``centroids.npy``.
        origin: file of the images.

    Raises:
        CorruptError: the tables contradict each other.
    """
    record, vector, cluster = (images[name].to_numpy() for name in ("record", "vector", "cluster"))
    for name, values, minimum, n_rows, file in (
        ("record", record, 0, len(ids), "products.parquet"),
        ("vector", vector, -1, n_vectors, "vectors.npy"),
        ("cluster", cluster, -1, n_clusters, "centroids.npy"),
    ):
        if len(values) and (values.min() < minimum or values.max() >= n_rows):
            wrong = values.min() if values.min() < minimum else values.max()
            origin.refuse(f"it names the {name} {wrong}, and {file} has {n_rows} rows")
    if not _all(pc.is_in(images["status"], pa.array(STATUSES))):
        origin.refuse(f"a status is not one of {', '.join(STATUSES)}")
    ok = pc.equal(images["status"], "ok").to_numpy()
    if ((vector >= 0) != ok).any() or ((cluster >= 0) != ok).any():
        origin.refuse("an image that is not ok has a vector, or one that is ok has none")
    for name, maximum in (("width", np.inf), ("height", np.inf), ("contrast", MAX_CONTRAST)):
        values = images[name].to_numpy()
        if not ((values >= 0) & (values <= maximum)).all():
            origin.refuse(f"a {name} is out of range")
    parts: tuple[Callable[[], object], ...] = (
        lambda: _check_vectors(
            _read_digests(images, "sha256_pixels", ok, origin),
            vector[ok],
            cluster[ok],
            n_vectors,
            origin,
        ),
        lambda: _read_digits(images, "sha256_bytes", ok, origin),
        lambda: _check_owners(images["product_id"], ids, record, ok, origin),
    )
    for _ in in_order(lambda part: part(), parts):
        pass


def check_owners(images: pa.Table, ids: pa.ChunkedArray, origin: Origin) -> None:
    """Check the product, the status and the digests of each image of an index, as above.

    For readers of the tables alone, without vectors and clusters.

    Args:
        images: the schema ``INDEX_IMAGES``; nulls in columns of floats alone.
        ids: product id of each record.
        origin: file of the images.

    Raises:
        CorruptError: the tables contradict each other.
    """
    record = images["record"].to_numpy()
    if len(record) and (record.min() < 0 or record.max() >= len(ids)):
        origin.refuse(f"it names a record that products.parquet, of {len(ids)} rows, does not have")
    _check_labels(images, "status", STATUSES, origin)
    ok = pc.equal(images["status"], "ok").to_numpy()
    for name in ("sha256_bytes", "sha256_pixels"):
        _read_digits(images, name, ok, origin)
    _check_owners(images["product_id"], ids, record, ok, origin)


def _check_owners(
    owners: pa.ChunkedArray, ids: pa.ChunkedArray, record: Ints, ok: Bools, origin: Origin
) -> None:
    """Check that each image that is ok has the product id of its record."""
    if not np.array_equal(record, np.arange(len(ids))):
        ids = ids.take(pa.array(record))
    wrong = np.flatnonzero(~pc.equal(owners, ids).to_numpy() & ok)
    if len(wrong):
        owner, id_ = (repr(column[int(wrong[0])].as_py())[:100] for column in (owners, ids))
        origin.refuse(
            f"row {wrong[0]} is an image of {owner}, and its record in products.parquet is {id_}"
        )


def _check_vectors(
    digests: Digests, vector: Ints, cluster: Ints, n_vectors: int, origin: Origin
) -> None:
    """Check that images share a vector if and only if their pixels are equal.

    Args:
        digests: (n, 8), pixel digests of the images that are ok.
        vector: (n,), row of ``vectors.npy`` of each.
        cluster: (n,), cluster of each.
        n_vectors: rows of ``vectors.npy``; each must belong to an image.
        origin: file of the images.
    """
    first = np.full(n_vectors, -1, np.int64)
    first[vector[::-1]] = np.arange(len(vector) - 1, -1, -1)
    if len(first) and first.min() < 0:
        origin.refuse(f"no image has row {int(first.argmin())} of vectors.npy")
    repeats = np.flatnonzero(first[vector] != np.arange(len(vector)))
    earlier = first[vector[repeats]]
    if (digests[repeats] != digests[earlier]).any():
        origin.refuse("images with different pixels share a vector")
    if (cluster[repeats] != cluster[earlier]).any():
        origin.refuse("images with one vector are in two clusters")
    if not _are_distinct(digests, first):
        origin.refuse("images with equal pixels have different vectors")


def _are_distinct(digests: Digests, rows: Ints) -> bool:
    """Return whether the digests in ``rows`` are all different."""
    prefixes = digests[rows, 0]
    big_endian = prefixes.byteswap() if sys.byteorder == "little" else prefixes
    ties = np.flatnonzero(big_endian[1:] <= big_endian[:-1])
    if len(ties) < MAX_TIES:  # a new index holds its vectors in the order of their digests
        before, after = (digests[rows[at]] for at in (ties, ties + 1))
        if all(a.tobytes() < b.tobytes() for a, b in zip(before, after, strict=True)):
            return True
    hashes = prefixes * MIX + digests[rows, 1]  # overflow wraps around
    hashes.sort()
    if (hashes[1:] != hashes[:-1]).all():
        return True
    return len(np.unique(digests[rows], axis=0)) == len(rows)


def check_compared(compared: pa.Table, origin: Origin) -> None:
    """Check the table of images that a search compared, schema ``COMPARED`` without nulls.

    Raises:
        CorruptError: an image is no digest, is repeated or out of order.
    """
    _read_digits(compared, "sha256_pixels", np.ones(len(compared), bool), origin)
    if not _is_increasing(compared["sha256_pixels"]):
        origin.refuse("its images are unsorted or repeated")


def check_near(
    near: pa.Table, compared: pa.Table, looked: bool, relations: Collection[str], origin: Origin
) -> None:
    """Check the near pairs of images that a search reports.

    Args:
        near: the schema ``NEAR``; nulls in columns of floats alone.
        compared: images that were compared, schema ``COMPARED``.
        looked: whether a verifier scored the pairs.
        relations: relations that a pair may have.
        origin: file of the pairs.

    Raises:
        CorruptError: the pairs contradict themselves or ``compared``.
    """
    a, b = near["pixels_a"], near["pixels_b"]
    for name in ("pixels_a", "pixels_b"):
        _read_digits(near, name, np.ones(len(near), bool), origin)
        if not _all(pc.is_in(near[name], compared["sha256_pixels"])):
            origin.refuse(f"an image in {name} is not among those of compared.parquet")
    if not _all(pc.less(a, b)):
        origin.refuse("pixels_a does not come before pixels_b")
    if not _is_increasing(a, b):
        origin.refuse("its pairs are unsorted or repeated")
    _check_ranges(near, ("score", "alike"), origin)
    if not (np.abs(near["copy_of"].to_numpy()) <= 1).all():
        origin.refuse("a number in copy_of is not from -1 to 1")
    if (np.isnan(near["score"].to_numpy()) == looked).any():
        origin.refuse("pairs have scores without a second look, or lack them after it")
    _check_labels(near, "relation", ["", *relations], origin)


def check_pairs(
    pairs: pa.Table, tiers: Collection[str], relations: Collection[str], origin: Origin
) -> None:
    """Check the pairs of products in a result.

    Args:
        pairs: the schema ``PAIRS``; nulls in columns of floats alone.
        tiers: match types that a pair may have.
        relations: relations that a pair may have.
        origin: file of the pairs.

    Raises:
        CorruptError: a pair is repeated, out of order or out of range.
    """
    products = pairs["product_id_a"], pairs["product_id_b"]
    if not _all(pc.less(*products)) or not _is_increasing(*products):
        origin.refuse("its pairs are unsorted or repeated")
    _check_ranges(pairs, ("score",), origin)
    _check_labels(pairs, "tier", tiers, origin)
    _check_labels(pairs, "relation", ["", *relations], origin)


def check_decided(decided: pa.Table, states: Collection[str], origin: Origin) -> None:
    """Check the pairs that people decided on, schema ``DECIDED`` without nulls.

    Raises:
        CorruptError: a pair is repeated or out of order, or its state does not exist.
    """
    products = decided["product_id_a"], decided["product_id_b"]
    if not _all(pc.less(*products)) or not _is_increasing(*products):
        origin.refuse("its pairs are unsorted or repeated")
    _check_labels(decided, "state", states, origin)


def check_groups(groups: pa.Table, origin: Origin) -> None:
    """Check the groups of products in a result, schema ``GROUPS`` without nulls.

    Raises:
        CorruptError: a product is in two groups, or a group does not keep exactly one.
    """
    _check_unique_products(groups, origin)
    counts = groups.group_by("group_id").aggregate([("kept", "sum"), ("kept", "count")])
    if not _all(pc.equal(counts["kept_sum"], 1)) or not _all(pc.greater(counts["kept_count"], 1)):
        origin.refuse("a group has a single product, or does not keep exactly one")


def check_families(families: pa.Table, origin: Origin) -> None:
    """Check the families of variants in a result, schema ``FAMILIES`` without nulls.

    Raises:
        CorruptError: a product is in two families.
    """
    _check_unique_products(families, origin)


def check_shared(shared: pa.Table, origin: Origin) -> None:
    """Check the placeholder images of a result, schema ``SHARED`` without nulls.

    Raises:
        CorruptError: an image is no digest, has no product, or an unknown reason.
    """
    _read_digits(shared, "sha256_pixels", np.ones(len(shared), bool), origin)
    _check_labels(shared, "reason", ("flat", "shared"), origin)
    if not _all(pc.greater(shared["n_products"], 0)):
        origin.refuse("an image in it belongs to no product")


def check_health(health: pa.Table, problems: Collection[str], origin: Origin) -> None:
    """Check the health of images in a result, schema ``HEALTH``.

    Args:
        health: the table; nulls in columns of floats alone.
        problems: problems that an image may have.
        origin: file of the table.

    Raises:
        CorruptError: an image is repeated, out of order, no digest or has an unknown problem.
    """
    _read_digits(health, "sha256_pixels", np.zeros(len(health), bool), origin)
    if not _is_increasing(health["product_id"], health["image"]):
        origin.refuse("its images are unsorted or repeated")
    known = {*problems}
    if not known.issuperset(name for some in _texts(health["problems"]) for name in some.split()):
        origin.refuse(f"a problem is not one of {', '.join(problems)}")
    for name, least in (("width", 0), ("height", 0), ("bytes", -1)):
        if not _all(pc.greater_equal(health[name], least)):
            origin.refuse(f"a {name} is out of range")


def _texts(column: pa.ChunkedArray) -> list[str]:
    """List the distinct texts of a column."""
    texts: list[str] = pc.unique(column).to_pylist()
    return texts


def _check_unique_products(table: pa.Table, origin: Origin) -> None:
    if len(pc.unique(table["product_id"])) != len(table):
        origin.refuse("it lists a product twice")


def _check_ranges(pairs: pa.Table, scores: Collection[str], origin: Origin) -> None:
    """Check that distances are at least 0, and scores from 0 to 1 or missing."""
    distance = pairs["distance"].to_numpy()
    if not (np.isfinite(distance) & (distance >= 0)).all():
        origin.refuse("a distance is negative or not finite")
    for name in scores:
        column = pairs[name].to_numpy()
        if not (np.isnan(column) | ((column >= 0) & (column <= 1))).all():
            origin.refuse(f"a value in column {name} is outside 0 to 1")


def _check_labels(table: pa.Table, name: str, labels: Collection[str], origin: Origin) -> None:
    if not _all(pc.is_in(table[name], pa.array(list(labels)))):
        origin.refuse(f"a {name} is not one of {', '.join(filter(None, labels))}")


def _read_digests(table: pa.Table, name: str, needed: Bools, origin: Origin) -> Digests:
    """Read the digests of a column in the rows that need one; other rows may hold "".

    Raises:
        CorruptError: a digest is not a SHA-256 in hexadecimal.
    """
    parts, has_digest = _read_digits(table, name, needed, origin)
    digests: Digests = np.concatenate(parts).reshape(-1, DIGITS).view(np.uint64)
    return digests if needed.all() else digests[needed[has_digest]]


def _read_digits(
    table: pa.Table, name: str, needed: Bools, origin: Origin
) -> tuple[list[npt.NDArray[np.uint8]], Bools]:
    """Read the characters of a column of digests without copying them.

    Returns:
        Consecutive parts, each (64 n,) uint8, and (n,) whether a row has a digest.

    Raises:
        CorruptError: a digest is not a SHA-256 in hexadecimal.
    """
    parts, lengths = [np.empty(0, np.uint8)], [np.empty(0, np.int32)]
    for chunk in table[name].chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        lengths.append(np.diff(ends))
        if len(ends) and ends[-1] > ends[0]:
            parts.append(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]])
    length = np.concatenate(lengths)
    has_digest: Bools = length == DIGITS
    is_valid = has_digest | ((length == 0) & ~needed)
    if not is_valid.all() or not all(map(_are_hexadecimal, parts)):
        origin.refuse(f"a value in column {name} is not a SHA-256")
    return parts, has_digest


def _are_hexadecimal(digits: npt.NDArray[np.uint8]) -> bool:
    for at in range(0, len(digits), BLOCK):
        block = digits[at : at + BLOCK]
        is_digit = (block - ord("0") < 10) | (block - ord("a") < 6)  # uint8 wraps below 0
        if np.count_nonzero(is_digit) < len(block):
            return False
    return True


def _is_increasing(*columns: pa.ChunkedArray) -> bool:
    """Return whether the rows increase strictly, by the first column and then the next."""
    n = max(len(columns[0]) - 1, 0)
    is_greater, is_equal = np.zeros(n, bool), np.ones(n, bool)
    for column in columns:
        before, after = column.slice(0, n), column.slice(1)
        is_greater |= is_equal & pc.less(before, after).to_numpy()
        is_equal &= pc.equal(before, after).to_numpy()
    return bool(is_greater.all())


def _all(flags: pa.ChunkedArray) -> bool:
    return bool(pc.all(flags, min_count=0).as_py())
