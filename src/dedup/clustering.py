"""Rough buckets that save comparisons: fit on a sample, then place every picture."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from dedup.errors import ConfigError, CorruptError

log = logging.getLogger("dedup")

Vectors = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
BLOCK = 8192


class Clusterer:
    """Any estimator of scikit-learn's that finds centroids, fit on a sample.

    Every picture belongs to its nearest centroid, so that a query finds the cluster of a picture
    by the centroids alone. ``predict`` may differ: ``BisectingKMeans`` walks down a tree.

    Args:
        estimator: called with ``n_clusters=k``, returns the estimator; its ``fit`` leaves
            ``cluster_centers_``.
        n_clusters: how many clusters; fewer where there are fewer distinct pictures.
        fit_on: pictures that the estimator is fit on; all others are placed by it.
        seed: draws the sample.
    """

    def __init__(
        self,
        estimator: Callable[..., Any],
        n_clusters: int = 200,
        fit_on: int = 10_000,
        seed: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_clusters = n_clusters
        self.fit_on = fit_on
        self.seed = seed

    def fit_predict(self, vectors: Vectors) -> tuple[Labels, Vectors]:
        """Cluster embeddings, (n, d) with n at least 1.

        Returns:
            The cluster of each, (n,), and the clusters' centroids, (k, d).

        Raises:
            ConfigError: the estimator has no centroids, or refuses its arguments.
            CorruptError: an embedding is not finite.
        """
        if not np.isfinite(vectors).all():
            raise CorruptError("the checkpoint gives embeddings that are not finite: train again")
        sample = self._sample(vectors)
        n_distinct = len(np.unique(sample, axis=0))
        k = min(self.n_clusters, n_distinct)
        if k < self.n_clusters:
            log.warning(
                "clusterer.n_clusters=%d, but the sample holds %d distinct embedding(s): "
                "%d cluster(s)",
                self.n_clusters,
                n_distinct,
                k,
            )
        centroids = self._centroids(sample, k)
        return _nearest(vectors, centroids), centroids

    def _centroids(self, sample: Vectors, k: int) -> Vectors:
        try:
            fitted = self.estimator(n_clusters=k).fit(sample)
            return np.asarray(fitted.cluster_centers_, dtype=np.float32)
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"clusterer.estimator: {error}. Choose one that finds centroids: KMeans, "
                "MiniBatchKMeans or BisectingKMeans of sklearn.cluster"
            ) from error

    def _sample(self, vectors: Vectors) -> Vectors:
        if len(vectors) <= self.fit_on:
            return np.asarray(vectors)
        chosen = np.random.default_rng(self.seed).choice(len(vectors), self.fit_on, replace=False)
        return np.asarray(vectors[np.sort(chosen)])


def nearest_centroid(vector: Vectors, centroids: Vectors) -> int:
    """The cluster of one embedding, (d,), by L2 distance in float64."""
    difference = centroids.astype(np.float64) - vector.astype(np.float64)
    return int(np.argmin((difference**2).sum(axis=1)))


def _nearest(vectors: Vectors, centroids: Vectors) -> Labels:
    """``nearest_centroid`` of each row, (n,), by the expanded distance, a block at a time."""
    centres = centroids.astype(np.float64)
    halves = (centres**2).sum(axis=1) / 2
    labels = np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float64)
        labels[start : start + BLOCK] = np.argmin(halves - block @ centres.T, axis=1)
    return labels
