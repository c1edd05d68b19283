"""Find the duplicates in an index; runs without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.artifacts import PAIRS, Index
from dedup.grouping import best_pairs
from dedup.matchers.exact import exact_pairs
from dedup.matchers.radius import RadiusMatcher


def find_pairs(index: Index, matcher: RadiusMatcher) -> pd.DataFrame:
    """Every two products that are duplicates: by equal pixels, or by the matcher.

    Returns:
        Schema ``PAIRS``.
    """
    exact = exact_pairs(index.images)
    left, right, distance = matcher.match(
        index.vectors, clusters_of_vectors(index.images, len(index.vectors))
    )
    near = pd.DataFrame({"vector_a": left, "vector_b": right, "distance": distance})
    for end in ("a", "b"):
        shown = index.images.loc[index.images["vector"] >= 0, ["vector", "product_id", "url"]]
        shown.columns = pd.Index([f"vector_{end}", f"product_id_{end}", f"image_{end}"])
        near = near.merge(shown, on=f"vector_{end}")
    return best_pairs(pd.concat([exact, _ordered(near).assign(tier="near")[PAIRS.names]]))


def clustered_table(index: Index) -> pd.DataFrame:
    """The user's table with one more column, ``cluster``: that of the record's first good picture.

    A record without one has an empty cell. Should the table have a column of that name already,
    it is replaced.
    """
    ok = index.images[index.images["vector"] >= 0].drop_duplicates("record")
    cluster = pd.Series(ok["cluster"].astype(str).to_numpy(), index=ok["record"].to_numpy())
    return index.products.assign(cluster=cluster.reindex(index.products.index).fillna(""))


def clusters_of_vectors(images: pd.DataFrame, n_vectors: int) -> npt.NDArray[np.int64]:
    """The cluster of each vector, (n_vectors,), from an index's images."""
    clusters = np.full(n_vectors, -1, np.int64)
    shown = images[images["vector"] >= 0]
    clusters[shown["vector"]] = shown["cluster"]
    return clusters


def _ordered(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of two different products, the smaller id first, its picture with it."""
    pairs = pairs[pairs["product_id_a"] != pairs["product_id_b"]]
    swap = (pairs["product_id_a"] > pairs["product_id_b"]).to_numpy()[:, None]
    for name in ("product_id", "image"):
        ends = [f"{name}_a", f"{name}_b"]
        pairs[ends] = np.where(swap, pairs[ends[::-1]], pairs[ends])
    return pairs
