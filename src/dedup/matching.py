"""Find the duplicates in an index; runs without torch."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.artifacts import NEAR, PAIRS, Findings, Index, Search
from dedup.clustering import nearest_centroids
from dedup.errors import ArtifactError, ConfigError
from dedup.grouping import Grouping, best_pairs
from dedup.matchers.exact import exact_pairs
from dedup.matchers.radius import Matches, RadiusMatcher, ordered
from dedup.sharing import shared_pictures, telling

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
ENDS = ["product_id_a", "product_id_b"]


@dataclass(frozen=True)
class Detection:
    """Every two products that are duplicates: by equal pixels, or by the matcher.

    Args:
        matcher: tells which embeddings are near each other.
        grouping: makes groups of the pairs.
        max_products: a picture that more products than this show proves nothing.
        min_contrast: nor does one with less contrast, 0 to 127.5.
        block_by: a column of the user's: only products with equal cells in it are compared.
    """

    matcher: RadiusMatcher
    grouping: Grouping
    max_products: int = 100
    min_contrast: float = 3.0
    block_by: str | None = None

    def __call__(
        self, index: Index, since: Search | None = None, others: Collection[str] | None = None
    ) -> tuple[Findings, Search]:
        """Search an index.

        Args:
            index: what to search.
            since: an earlier search. Pictures that it compared are not compared with each other
                again; the result is the same.
            others: ids of products; only pairs of one of these and one of the rest are taken.

        Raises:
            ConfigError: a column is not in the table, or there are too many pairs.
            ArtifactError: ``since`` does not fit.
        """
        self._check(index, since)
        images = telling(index.images, self.max_products, self.min_contrast)
        exact = exact_pairs(images)
        search = self._search(index, images, since, others)
        near = _shown_by(search.near, images).assign(tier="near")
        pairs = best_pairs(pd.concat([exact, near[PAIRS.names]]))
        if others is not None:
            pairs = pairs[pairs[ENDS[0]].isin(list(others)) != pairs[ENDS[1]].isin(list(others))]
        if self.block_by is not None:
            block = _cells(index, self.block_by)
            pairs = pairs[pairs[ENDS[0]].map(block) == pairs[ENDS[1]].map(block)]
        pairs = pairs.reset_index(drop=True)
        shared = shared_pictures(index.images, self.max_products, self.min_contrast)
        return Findings(pairs, self.grouping(pairs, index), shared, search.facts), search

    def _check(self, index: Index, since: Search | None) -> None:
        columns = list(index.products.columns)
        self.grouping.check(columns)
        if self.block_by is not None and self.block_by not in columns:
            raise ConfigError(
                f"block_by={self.block_by}: the table has no such column. It has "
                + ", ".join(map(str, columns))
            )
        if since is None:
            return
        facts, threshold = since.facts, self.matcher.threshold
        if facts["checkpoint_sha256"] != index.manifest["checkpoint_sha256"]:
            raise ArtifactError("since= names a search with another checkpoint: leave it out")
        if facts["threshold"] < threshold or not (facts["lossless"] and self.matcher.lossless):
            raise ArtifactError(
                f"since= names a search at threshold {facts['threshold']:g}, lossless="
                f"{facts['lossless']}, and this one is at {threshold:g}, lossless="
                f"{self.matcher.lossless}: both must be lossless, and the earlier threshold no "
                "lower. Leave since out"
            )

    def _search(
        self,
        index: Index,
        images: pd.DataFrame,
        since: Search | None,
        others: Collection[str] | None,
    ) -> Search:
        """The pictures of ``images`` that are near each other."""
        first = images.drop_duplicates("vector").sort_values("vector")
        rows, digests = first["vector"].to_numpy(), first["sha256_pixels"].to_numpy()
        clusters = clusters_of_vectors(images, len(index.vectors))
        n_all, n_before, missed = len(rows) * (len(rows) - 1) // 2, 0, 0.0
        before = pd.DataFrame(columns=NEAR.names)
        asked: Ints | None = None
        if others is not None:
            theirs = images["product_id"].isin(list(others))
            asked = np.sort(images.loc[theirs, "vector"].unique())
            ours = images.loc[~theirs, "vector"].unique()
            clusters[np.setdiff1d(rows, ours)] = -1
            n_all = len(asked) * len(ours)
        elif since is not None:
            known = np.isin(digests, since.compared["sha256_pixels"])
            asked, n_before = rows[~known], since.facts["comparisons"]
            before = _among(since.near, digests[known], self.matcher.threshold)
            log.info("%d of %d pictures were compared before", known.sum(), len(rows))
        prepared = self.matcher.prepare(index.vectors, clusters, index.centroids)
        if asked is None:
            found = prepared.pairs()
            missed = 0.0 if self.matcher.lossless else prepared.missed(found)
        else:
            found = prepared.search(index.vectors[asked])
            found = ordered(found._replace(left=asked[found.left]))
        digest_of = np.full(len(index.vectors), "", object)
        digest_of[rows] = digests
        near = pd.concat([before, _named(found, digest_of)])
        facts = {
            "threshold": float(self.matcher.threshold),
            "lossless": self.matcher.lossless,
            "pictures": len(rows),
            "comparisons": n_before + found.comparisons,
            "share": (n_before + found.comparisons) / max(n_all, 1),
            "near_pairs": len(near),
            "missed": missed,
            "missed_share": missed / max(missed + len(near), 1),
            "checkpoint_sha256": index.manifest["checkpoint_sha256"],
        }
        compared = pd.DataFrame({"sha256_pixels": np.sort(digests)})
        return Search(near.sort_values(NEAR.names[:2], ignore_index=True), compared, facts)


def clustered_table(index: Index) -> pd.DataFrame:
    """The user's table with one more column, ``cluster``: that of the record's first good picture.

    A record without one has an empty cell. Should the table have a column of that name already,
    it is replaced.
    """
    ok = index.images[index.images["vector"] >= 0].drop_duplicates("record")
    cluster = pd.Series(ok["cluster"].astype(str).to_numpy(), index=ok["record"].to_numpy())
    return index.products.assign(cluster=cluster.reindex(index.products.index).fillna(""))


def clusters_of_vectors(images: pd.DataFrame, n_vectors: int) -> Ints:
    """The cluster of each vector, (n_vectors,), from an index's images; -1 where none shows it."""
    clusters = np.full(n_vectors, -1, np.int64)
    shown = images[images["vector"] >= 0]
    clusters[shown["vector"]] = shown["cluster"]
    return clusters


def merged(index: Index, other: Index, prefix: str) -> tuple[Index, set[str]]:
    """Two catalogues as one index, to be compared with each other.

    Args:
        index: gives the centroids, the manifest and the columns' names.
        other: made with the same encoder; its ids get ``prefix``, so that equal ids stay apart.
        prefix: such as ``B:``.

    Returns:
        The index, and the other's ids in it.

    Raises:
        ArtifactError: the two were made with different encoders.
        ConfigError: an id of ``index`` starts with the prefix.
    """
    if index.manifest["checkpoint_sha256"] != other.manifest["checkpoint_sha256"]:
        raise ArtifactError(
            "against= names an index made with another checkpoint: distances between the two mean "
            "nothing. Make both with one checkpoint"
        )
    taken = index.images["product_id"].str.startswith(prefix)
    if taken.any():
        raise ConfigError(
            f"prefix={prefix}: the id {index.images['product_id'][taken].iloc[0]!r} starts with "
            "it. Choose another prefix"
        )
    images = other.images.assign(product_id=_prefixed(other.images["product_id"], prefix))
    images["record"] += len(index.products)
    place, vectors = _placed(index, other)
    images["vector"] = np.append(place, -1)[images["vector"]]
    labels = nearest_centroids(other.vectors, index.centroids)
    images["cluster"] = np.append(labels, -1)[other.images["vector"]]
    key = other.manifest["id_column"]
    products = other.products.assign(**{key: _prefixed(other.products[key], prefix)})
    names = {key: index.manifest["id_column"]}
    if index.manifest["title_column"] and other.manifest["title_column"]:
        names[other.manifest["title_column"]] = index.manifest["title_column"]
    products = products.rename(columns=names)
    thumbnails = [index.thumbnails, other.thumbnails]
    both = replace(
        index,
        images=pd.concat([index.images, images], ignore_index=True),
        vectors=vectors,
        products=pd.concat([index.products, products], ignore_index=True).fillna(""),
        thumbnails=lambda urls: thumbnails[1](urls) | thumbnails[0](urls),
    )
    return both, set(images["product_id"])


def _prefixed(ids: pd.Series[str], prefix: str) -> pd.Series[str]:
    return (prefix + ids).where(ids != "", "")


def _placed(index: Index, other: Index) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Where the other's vectors stand among both: equal pixels share one."""
    mine, theirs = (it.images.drop_duplicates("vector") for it in (index, other))
    mine, theirs = (it[it["vector"] >= 0] for it in (mine, theirs))
    known = pd.Series(mine["vector"].to_numpy(), index=mine["sha256_pixels"].to_numpy())
    place = np.full(len(other.vectors), -1, np.int64)
    place[theirs["vector"]] = theirs["sha256_pixels"].map(known).fillna(-1).astype(np.int64)
    new = np.flatnonzero(place < 0)
    place[new] = len(index.vectors) + np.arange(len(new))
    return place, np.concatenate([index.vectors, other.vectors[new]])


def _among(near: pd.DataFrame, digests: npt.NDArray[np.object_], threshold: float) -> pd.DataFrame:
    """Those of the earlier pairs whose pictures are both still there."""
    there = near["pixels_a"].isin(digests) & near["pixels_b"].isin(digests)
    return near[there & (near["distance"] <= threshold)]


def _named(found: Matches, digest_of: npt.NDArray[np.object_]) -> pd.DataFrame:
    """Pairs of vectors as pairs of pictures, the smaller digest first."""
    a, b = digest_of[found.left], digest_of[found.right]
    swap = a > b
    ends = {"pixels_a": np.where(swap, b, a), "pixels_b": np.where(swap, a, b)}
    return pd.DataFrame({**ends, "distance": found.distance}, columns=NEAR.names)


def _shown_by(near: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Every two different products that show two near pictures; columns of ``PAIRS``, but tier."""
    shown = images[images["sha256_pixels"].isin(pd.unique(near[NEAR.names[:2]].to_numpy().ravel()))]
    shown = shown[["sha256_pixels", "product_id", "url"]].drop_duplicates()
    pairs = near
    for end in ("a", "b"):
        names = [f"pixels_{end}", f"product_id_{end}", f"image_{end}"]
        pairs = pairs.merge(shown.set_axis(names, axis=1), on=names[0])
    pairs = pairs[pairs["product_id_a"] != pairs["product_id_b"]]
    swap = (pairs["product_id_a"] > pairs["product_id_b"]).to_numpy()[:, None]
    for name in ("product_id", "image"):
        ends = [f"{name}_a", f"{name}_b"]
        pairs[ends] = np.where(swap, pairs[ends[::-1]], pairs[ends])
    return pairs


def _cells(index: Index, column: str) -> pd.Series[str]:
    """A column's cell for each product: the smallest, where its rows differ."""
    rows = index.products[[index.manifest["id_column"], column]].set_axis(["id", "cell"], axis=1)
    return rows.groupby("id")["cell"].min()
