"""Cluster embeddings by scikit-learn: fit centroids on a sample, then label every image.

Clusters save comparisons; no pair depends on them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from dedup.errors import ConfigError, CorruptError
from dedup.runtime.nouns import counted
from dedup.runtime.parallel import in_order

log = logging.getLogger("dedup")

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
BLOCK = 8192
"""Rows labelled at once."""

CROWD, ROUNDS = 2, 6
"""Size of a cluster that is split, in multiples of the mean size, and rounds of splits at most."""


class Clusterer:
    """Cluster embeddings with any scikit-learn estimator that has centroids.

    Every image gets the label of its nearest centroid, so that a query needs the centroids alone.
    The estimator's ``predict`` may differ: ``BisectingKMeans`` walks down a tree. The estimator
    runs on one thread, since scikit-learn's sums depend on the number of threads.

    Args:
        estimator: callable that takes ``n_clusters=k`` and returns an estimator; its ``fit``
            sets ``cluster_centers_``.
        n_clusters: number of clusters; fewer where there are fewer distinct images. ``None`` is
            half the square root of the number of images, which balances the time of clustering
            and comparing, and more where some clusters are far too large.
        fit_on: number of images that the estimator is fit on; ``None`` is 64 a cluster.
        seed: seed of the sample.
    """

    def __init__(
        self,
        estimator: Callable[..., Any],
        n_clusters: int | None = None,
        fit_on: int | None = None,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_clusters = n_clusters
        self.fit_on = fit_on
        self.seed = seed

    def fit_predict(self, vectors: Vectors) -> tuple[Labels, Vectors]:
        """Cluster embeddings, (n, d) with n at least 1; may be memory-mapped.

        Returns:
            The label of each, (n,), and the centroids, (k, d).

        Raises:
            ConfigError: the estimator has no centroids, or rejects its arguments.
            CorruptError: an embedding is not finite.
        """
        blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
        if not all(in_order(_is_finite, blocks)):
            raise CorruptError(
                "an embedding is not finite: the weights of the checkpoint are broken; train again"
            )
        n_wanted = self.n_clusters or max(1, round(math.sqrt(len(vectors)) / 2))
        sample = self._sample(vectors, self.fit_on or 64 * n_wanted)
        n_distinct = len({row.tobytes() for row in sample})
        k = min(n_wanted, n_distinct)
        if k < n_wanted and self.n_clusters:
            log.warning(
                "clusterer.n_clusters=%d, but the sample holds %s: making %s",
                n_wanted, counted(n_distinct, "distinct embedding"), counted(k, "cluster"),
            )  # fmt: skip
        centroids = self._centroids(sample, k)
        if not self.n_clusters:
            centroids = self._without_crowds(sample, centroids, len(sample) / k)
        return nearest_centroids(vectors, centroids), centroids

    def _centroids(self, sample: Vectors, k: int) -> Vectors:
        try:
            with threadpool_limits(1):
                fitted = self.estimator(n_clusters=k).fit(sample)
            return np.asarray(fitted.cluster_centers_, dtype=np.float32)
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"clusterer.estimator failed: {error}. Choose an estimator with centroids: "
                "KMeans, MiniBatchKMeans or BisectingKMeans of sklearn.cluster"
            ) from error

    def _without_crowds(self, sample: Vectors, centroids: Vectors, usual: float) -> Vectors:
        """Split clusters that hold far more of the sample than ``usual``.

        Distant dense regions without a centroid of their own all join the most central cluster,
        and the comparisons of a cell grow with the square of its members.
        """
        for _ in range(ROUNDS):
            labels = nearest_centroids(sample, centroids)
            counts = np.bincount(labels, minlength=len(centroids))
            crowded = np.flatnonzero(counts > CROWD * usual)
            if not len(crowded):
                break
            parts = [
                self._centroids(sample[labels == cell], int(np.ceil(counts[cell] / usual)))
                for cell in crowded
            ]
            centroids = np.concatenate([np.delete(centroids, crowded, axis=0), *parts])
        return centroids

    def _sample(self, vectors: Vectors, size: int) -> Vectors:
        if len(vectors) <= size:
            return np.asarray(vectors)
        chosen = np.random.default_rng(self.seed).choice(len(vectors), size, replace=False)
        return np.asarray(vectors[np.sort(chosen)])


def nearest_centroids(vectors: npt.NDArray[Any], centroids: Vectors) -> Labels:
    """Label each vector with its nearest centroid, (n,), by the expanded L2 distance in float32.

    Where two centroids are equally far but for rounding, the label may be either. Labels do not
    depend on the number of threads.
    """
    origin = centroids.mean(axis=0, dtype=np.float64).astype(np.float32)
    size = max(float(np.abs(centroids).max()), float(np.abs(origin).max()))

    def label(start: int) -> Labels:
        block = vectors[start : start + BLOCK]
        largest = 2 * max(size, float(block.max()), -float(block.min()))
        scale = np.float32(2.0 ** -math.ceil(math.log2(largest)) if largest > 0 else 1.0)
        right = centroids * scale - origin * scale  # scaled, so that no square overflows
        left = (block * scale - origin * scale).astype(np.float32)
        nearest: Labels = np.argmin((right**2).sum(axis=1) / 2 - left @ right.T, axis=1)
        return nearest

    starts = range(0, len(vectors), BLOCK)
    return np.concatenate([np.empty(0, np.int64), *in_order(label, starts)])


def _is_finite(block: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(block).all())
