"""Rough buckets that save comparisons: fit on a sample, then place every image."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from dedup.errors import ConfigError, CorruptError
from dedup.runtime.parallel import in_order

log = logging.getLogger("dedup")

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
BLOCK = 8192

CROWD, ROUNDS = 2, 6
"""A cluster of so many times the usual size is clustered in itself, again and again."""


class Clusterer:
    """Any estimator of scikit-learn's that finds centroids, fit on a sample.

    Every image belongs to its nearest centroid, so that a query finds the cluster of an image
    by the centroids alone. ``predict`` may differ: ``BisectingKMeans`` walks down a tree. The
    estimator runs on one thread, since scikit-learn's sums depend on how many there are.

    Args:
        estimator: called with ``n_clusters=k``, returns the estimator; its ``fit`` leaves
            ``cluster_centers_``.
        n_clusters: how many clusters; fewer where there are fewer distinct images. ``None`` is
            half the square root of the number of images (with fewer, comparing takes longer,
            with more, clustering does), and then more where some clusters become far too large.
        fit_on: images that the estimator is fit on; all others are placed by it. ``None`` is 64
            for each cluster.
        seed: draws the sample.
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
            The cluster of each, (n,), and the clusters' centroids, (k, d).

        Raises:
            ConfigError: the estimator has no centroids, or refuses its arguments.
            CorruptError: an embedding is not finite.
        """
        blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
        if not all(in_order(_finite, blocks)):
            raise CorruptError("the checkpoint gives embeddings that are not finite: train again")
        asked = self.n_clusters or max(1, round(math.sqrt(len(vectors)) / 2))
        sample = self._sample(vectors, self.fit_on or 64 * asked)
        n_distinct = len({row.tobytes() for row in sample})
        k = min(asked, n_distinct)
        if k < asked and self.n_clusters:
            log.warning(
                "clusterer.n_clusters=%d, but the sample holds %d distinct embedding(s): "
                "%d cluster(s)",
                asked,
                n_distinct,
                k,
            )
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
                f"clusterer.estimator: {error}. Choose one that finds centroids: KMeans, "
                "MiniBatchKMeans or BisectingKMeans of sklearn.cluster"
            ) from error

    def _without_crowds(self, sample: Vectors, centroids: Vectors, usual: float) -> Vectors:
        """Centroids of which none has many more of the sample's members than is usual.

        Heaps far apart that got no centroid of their own all fall to the one nearest to the middle
        of everything, and a cell's comparisons grow with the square of its members.
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
    """The cluster of each vector, (n,), by the expanded L2 distance in float32.

    Of two centroids that are equally far but for rounding, either may be taken. The labels do not
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


def _finite(block: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(block).all())
