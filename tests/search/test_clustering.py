"""Clusters of embeddings, beside a slow loop over all centroids."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering, BisectingKMeans, KMeans
from sklearn.cluster import MiniBatchKMeans as MiniBatch

from dedup.errors import ConfigError, CorruptError
from dedup.search.clustering import BLOCK, Clusterer, nearest_centroids
from tests.conftest import ROOT, python

Floats = npt.NDArray[np.float32]
ESTIMATORS = [KMeans, MiniBatch, BisectingKMeans]


def vectors(n: int, dim: int = 6, offset: float = 0.0, seed: int = 0) -> Floats:
    """Embeddings without any order to find, (n, dim)."""
    drawn = np.random.default_rng(seed).normal(size=(n, dim)) + offset
    return drawn.astype(np.float32)


def blobs(n_each: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Four heaps far apart, and which of them each row is in."""
    corners = np.array([[0, 0], [0, 100], [100, 0], [100, 100]], np.float32)
    heap = np.tile(np.arange(4), n_each)
    return corners[heap] + vectors(4 * n_each, 2), heap


def seeded(estimator: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(estimator, random_state=0, n_init=1)


def slow_nearest(rows: Floats, centroids: Floats) -> list[int]:
    """The closest centroid of each row, one distance at a time."""
    return [
        min(range(len(centroids)), key=lambda c: sum((float(a) - float(b)) ** 2
            for a, b in zip(row, centroids[c], strict=True)))
        for row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_images_and_queries_belong_to_their_nearest_centroid(estimator: Any, offset: float) -> None:
    rows = vectors(200, offset=offset)
    labels, centroids = Clusterer(seeded(estimator), n_clusters=20).fit_predict(rows)
    assert centroids.shape == (20, 6)
    assert centroids.dtype == np.float32
    assert labels.dtype == np.int64
    assert labels.tolist() == slow_nearest(rows, centroids)
    assert labels.tolist() == nearest_centroids(rows, centroids).tolist()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_heaps_far_apart_become_clusters(estimator: Any) -> None:
    rows, heap = blobs(25)
    labels, centroids = Clusterer(
        functools.partial(estimator, random_state=0, n_init=5), n_clusters=4
    ).fit_predict(rows)
    assert len({(h, c) for h, c in zip(heap, labels, strict=True)}) == 4
    for cluster in range(4):
        mean = rows[labels == cluster].mean(axis=0)
        np.testing.assert_allclose(centroids[cluster], mean, atol=0.5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_fewer_images_than_clusters(estimator: Any, caplog: pytest.LogCaptureFixture) -> None:
    rows = np.repeat(np.eye(5, dtype=np.float32), 3, axis=0)
    with caplog.at_level(logging.WARNING, "dedup"):
        labels, centroids = Clusterer(seeded(estimator), n_clusters=200).fit_predict(rows)
    assert centroids.shape == (5, 5)
    np.testing.assert_allclose(centroids[labels], rows, atol=1e-6)
    assert len(caplog.records) == 1
    assert "holds 5 distinct" in caplog.text


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n", [1, 7])
def test_equal_vectors_are_one_cluster(estimator: Any, n: int) -> None:
    rows = np.repeat(vectors(1), n, axis=0)
    labels, centroids = Clusterer(seeded(estimator), n_clusters=3).fit_predict(rows)
    assert labels.tolist() == [0] * n
    np.testing.assert_allclose(centroids, rows[:1], rtol=1e-6)


def test_enough_images_are_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    Clusterer(seeded(KMeans), n_clusters=10).fit_predict(vectors(10))
    assert not caplog.records


def test_a_sample_is_fit_and_all_are_placed() -> None:
    rows = vectors(200)
    given: list[Floats] = []

    class FirstRows:
        """The simplest estimator: its centroids are the first images that it is given."""

        def __init__(self, n_clusters: int) -> None:
            self.n_clusters = n_clusters

        def fit(self, sample: Floats) -> "FirstRows":
            given.append(sample)
            self.cluster_centers_ = sample[: self.n_clusters]
            return self

    labels, centroids = Clusterer(FirstRows, n_clusters=4, fit_on=40).fit_predict(rows)
    (sample,) = given
    assert sample.shape == (40, 6)
    assert len({tuple(row) for row in sample} & {tuple(row) for row in rows}) == 40
    np.testing.assert_array_equal(centroids, sample[:4])
    assert labels.tolist() == slow_nearest(rows, centroids)


def test_fewer_fit_on_than_clusters_are_fewer_clusters() -> None:
    labels, centroids = Clusterer(seeded(KMeans), n_clusters=20, fit_on=5).fit_predict(vectors(50))
    assert len(centroids) == 5
    assert set(labels) == set(range(5))


def test_the_sample_is_drawn_from_the_seed() -> None:
    rows = vectors(200)

    def centroids(seed: int) -> Floats:
        return Clusterer(seeded(KMeans), 3, fit_on=20, seed=seed).fit_predict(rows)[1]

    np.testing.assert_array_equal(centroids(1), centroids(1))
    assert not np.array_equal(centroids(1), centroids(2))


def test_more_images_than_a_block() -> None:
    rows = vectors(2 * BLOCK + 3, dim=2)
    labels, centroids = Clusterer(seeded(KMeans), n_clusters=7, fit_on=100).fit_predict(rows)
    distance = np.linalg.norm(rows[:, None].astype(np.float64) - centroids[None], axis=2)
    np.testing.assert_array_equal(labels, distance.argmin(axis=1))


def test_memory_mapped_vectors(tmp_path: Any) -> None:
    rows = vectors(50)
    np.save(tmp_path / "vectors.npy", rows)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    clusterer = Clusterer(seeded(KMeans), n_clusters=4)
    np.testing.assert_array_equal(clusterer.fit_predict(mapped)[0], clusterer.fit_predict(rows)[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_a_broken_checkpoint(value: float) -> None:
    rows = vectors(20)
    rows[7, 3] = value
    with pytest.raises(CorruptError, match="not finite"):
        Clusterer(seeded(KMeans), n_clusters=2).fit_predict(rows)


@pytest.mark.parametrize(
    "estimator",
    [DBSCAN, AgglomerativeClustering, functools.partial(KMeans, n_init=-1)],
    ids=["no n_clusters", "no centroids", "refuses its argument"],
)
def test_an_estimator_that_cannot_serve_is_a_wrong_setting(estimator: Any) -> None:
    with pytest.raises(ConfigError, match=r"clusterer.estimator failed: .* KMeans"):
        Clusterer(estimator, n_clusters=2).fit_predict(vectors(20))


def test_the_nearest_centroids_of_vectors() -> None:
    centroids = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    rows = np.array([[1, 1], [6, 0], [4, 7]], np.float32)
    assert nearest_centroids(rows, centroids).tolist() == [0, 1, 2]
    assert nearest_centroids(rows[:0], centroids).tolist() == []


def test_the_nearest_of_two_close_centroids_far_from_zero() -> None:
    # Without a shift of the origin the expanded distance would see no difference in float32.
    centroids = np.array([[5000.0, 0], [5000.01, 0]], np.float32)
    rows = np.array([[5000.009, 0], [5000.001, 0]], np.float32)
    assert nearest_centroids(rows, centroids).tolist() == [1, 0]


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_very_large_and_very_small_vectors(scale: float) -> None:
    rows, heap = blobs(5)
    centroids = np.array([rows[heap == corner].mean(axis=0) for corner in range(4)], np.float32)
    assert nearest_centroids(rows * np.float32(scale), centroids * np.float32(scale)).tolist() == (
        heap.tolist()
    )


def test_clusters_grow_with_the_catalogue() -> None:
    for n in (1, 64, 1600):
        labels, centroids = Clusterer(seeded(KMeans)).fit_predict(vectors(n))
        assert len(centroids) >= max(1, round(n**0.5 / 2))
        assert labels.tolist() == slow_nearest(vectors(n), centroids)


def test_heaps_without_a_centroid_do_not_crowd_one_cluster() -> None:
    rng = np.random.default_rng(0)
    heaps = rng.normal(size=(600, 128)).astype(np.float32)
    rows = heaps[rng.integers(0, 600, 12_000)] + np.float32(0.15) * vectors(12_000, 128)
    estimator = functools.partial(KMeans, init="random", n_init=1, max_iter=10, random_state=0)
    counts = np.bincount(Clusterer(estimator, n_clusters=55).fit_predict(rows)[0])
    assert len(counts) == 55  # as many as asked for, and some far too large
    assert counts.max() > 5 * 12_000 / 55
    balanced = np.bincount(Clusterer(estimator).fit_predict(rows)[0])
    assert balanced.max() < 3 * 12_000 / 55
    assert 55 < len(balanced) < 3 * 55


THREADS = """
import hashlib
from tests.search.test_clustering import KMeans, Clusterer, seeded, vectors
labels, centroids = Clusterer(seeded(KMeans)).fit_predict(vectors(20000, 32))
print(hashlib.sha256(labels.tobytes() + centroids.tobytes()).hexdigest())
"""


def test_the_number_of_threads_changes_nothing() -> None:
    digests = {
        python("-c", THREADS, cwd=ROOT, OMP_NUM_THREADS=threads).stdout for threads in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop().strip()) == 64
