"""The lossless search against brute force: every pair within the threshold, and no other."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import ConfigError, CorruptError
from dedup.search.bounds import Frame, sample_of
from dedup.search.cells import Cells
from dedup.search.clustering import nearest_centroids
from dedup.search.radius import Matches, RadiusSearch, l2_distance
from tests.conftest import ROOT, python
from tests.support.effort import examples

Vectors = npt.NDArray[np.float32]
Clusters = npt.NDArray[np.int64]
EXAMPLES = int(os.environ.get("DEDUP_EXAMPLES", "150"))


def distances(a: Vectors, b: Vectors) -> npt.NDArray[np.float64]:
    """All distances, by the direct difference in float64, one row at a time."""
    return np.array([l2_distance(row, b) for row in a]).reshape(len(a), len(b))


def brute(vectors: Vectors, clusters: Clusters, threshold: float) -> set[tuple[int, int]]:
    """Every pair i < j within the threshold, of rows that have a cluster."""
    near = np.triu(distances(vectors, vectors) <= threshold, 1) & (threshold > 0)
    near &= (clusters >= 0)[:, None] & (clusters >= 0)
    return set(zip(*(axis.tolist() for axis in np.nonzero(near)), strict=True))


def as_set(matches: Matches) -> set[tuple[int, int]]:
    """The pairs; each of them once."""
    pairs = list(zip(matches.left.tolist(), matches.right.tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert pairs == sorted(pairs)
    return set(pairs)


def clustered(rng: np.random.Generator, n: int, d: int) -> Vectors:
    centres = rng.normal(size=(5, d)) * rng.choice([1, 10])
    return (centres[rng.integers(0, 5, n)] + 0.3 * rng.normal(size=(n, d))).astype(np.float32)


def duplicated(rng: np.random.Generator, n: int, d: int) -> Vectors:
    rows = rng.normal(size=(max(n // 4, 1), d))
    copies = rows[rng.integers(0, len(rows), n)]
    return (copies + rng.choice([0, 1e-6, 1e-2], (n, 1)) * rng.normal(size=(n, d))).astype("f4")


def far(rng: np.random.Generator, n: int, d: int) -> Vectors:
    """Close together and far from the origin, where float32 has few digits left."""
    return (1000 + 0.1 * rng.normal(size=(n, d))).astype(np.float32)


def grid(rng: np.random.Generator, n: int, d: int) -> Vectors:
    """Whole numbers: many equal distances, some of them the threshold's."""
    return rng.integers(-2, 3, (n, d)).astype(np.float32)


def line(rng: np.random.Generator, n: int, d: int) -> Vectors:
    """All on one line through the space."""
    return (rng.normal(size=(n, 1)) * rng.normal(size=d)).astype(np.float32)


def outlier(rng: np.random.Generator, n: int, d: int) -> Vectors:
    rows = rng.normal(size=(n, d)).astype(np.float32)
    rows[:1] = rng.choice([1e6, 1e15, 1e30])
    return rows


def tiny(rng: np.random.Generator, n: int, d: int) -> Vectors:
    return (1e-25 * rng.normal(size=(n, d))).astype(np.float32)


def constant(rng: np.random.Generator, n: int, d: int) -> Vectors:
    return np.full((n, d), rng.choice([0.0, 3.0, -1e20]), np.float32)


KINDS = [clustered, duplicated, far, grid, line, outlier, tiny, constant]


@st.composite
def problems(draw: st.DrawFn) -> tuple[Vectors, Clusters, Vectors, float]:
    """Vectors, their clusters, centroids, and a threshold between 0 and more than everything."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(0, 90)), draw(st.sampled_from([1, 2, 3, 16, 40, 140]))
    vectors = draw(st.sampled_from(KINDS))(rng, n, d)
    k = draw(st.integers(1, 12))
    centroids = vectors[rng.integers(0, n, k)] if n else np.zeros((k, d), np.float32)
    labels = draw(st.sampled_from(["nearest", "random", "some left out"]))
    clusters = nearest_centroids(vectors, centroids)
    if labels == "random":
        clusters = rng.integers(0, k, n)
    elif labels == "some left out":
        clusters[rng.random(n) < 0.2] = -1
    known = np.unique(distances(vectors, vectors)) if n else np.zeros(1)
    threshold = draw(
        st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 2.0, 30.0, 1e30])
        | st.integers(0, len(known) - 1).map(lambda place: float(known[place]))
    )
    return vectors, clusters, centroids, threshold


@settings(max_examples=examples(EXAMPLES), deadline=None, derandomize=True)
@given(problems())
def test_pairs_are_those_of_brute_force(
    problem: tuple[Vectors, Clusters, Vectors, float],
) -> None:
    vectors, clusters, centroids, threshold = problem
    prepared = RadiusSearch(threshold).prepare(vectors, clusters, centroids)
    found = prepared.pairs()
    assert as_set(found) == brute(vectors, clusters, threshold)
    np.testing.assert_array_equal(
        found.distance, l2_distance(vectors[found.left], vectors[found.right])
    )


@settings(max_examples=examples(EXAMPLES), deadline=None, derandomize=True)
@given(problems(), st.integers(1, 30))
def test_queries_find_what_brute_force_finds(
    problem: tuple[Vectors, Clusters, Vectors, float], n_queries: int
) -> None:
    vectors, clusters, centroids, threshold = problem
    rng = np.random.default_rng(n_queries)
    strangers = rng.normal(size=(n_queries, vectors.shape[1])).astype(np.float32)
    queries = np.concatenate([vectors[:n_queries], strangers])
    found = RadiusSearch(threshold).prepare(vectors, clusters, centroids).search(queries)
    near = (distances(queries, vectors) <= threshold) & (clusters >= 0) & (threshold > 0)
    assert as_set(found) == set(zip(*(axis.tolist() for axis in np.nonzero(near)), strict=True))


@settings(max_examples=examples(EXAMPLES // 3), deadline=None, derandomize=True)
@given(problems())
def test_not_lossless_compares_inside_clusters_alone(
    problem: tuple[Vectors, Clusters, Vectors, float],
) -> None:
    vectors, clusters, centroids, threshold = problem
    found = RadiusSearch(threshold, lossless=False).prepare(vectors, clusters, centroids).pairs()
    expected = brute(vectors, clusters, threshold)
    assert as_set(found) == {(i, j) for i, j in expected if clusters[i] == clusters[j]}


def scattered(n: int, d: int = 24, k: int = 12) -> tuple[Vectors, Clusters, Vectors]:
    """A problem with several blocks of rows in each cell."""
    rng = np.random.default_rng(5)
    vectors = clustered(rng, n, d)
    centroids = vectors[rng.choice(n, k, replace=False)]
    return vectors, nearest_centroids(vectors, centroids), centroids


def test_blocks_and_chunks_lose_nothing() -> None:
    vectors, clusters, centroids = scattered(6000)
    threshold = 1.2
    prepared = RadiusSearch(threshold).prepare(vectors, clusters, centroids)
    found = prepared.pairs()
    expected = brute(vectors, clusters, threshold)
    assert as_set(found) == expected
    assert len(expected) > 1000
    across = sum(clusters[i] != clusters[j] for i, j in expected)
    assert across > 10  # what comparing inside clusters would have lost
    assert found.comparisons < 6000 * 5999 / 2


@pytest.mark.parametrize("most", [0, 0.5])
def test_borders_that_hold_nothing_back(most: float) -> None:
    vectors, clusters, centroids = scattered(900)
    prepared = RadiusSearch(2.0).prepare(vectors, clusters, centroids)
    prepared = replace(prepared, cells=replace(prepared.cells, max_crossings=most))
    assert prepared.cells.borders is None
    found = prepared.pairs()
    assert as_set(found) == brute(vectors, clusters, 2.0)
    assert found.comparisons == 900 * 899 // 2
    near = distances(vectors[:50], vectors) <= 2.0
    assert len(prepared.search(vectors[:50]).left) == near.sum()


def test_rows_in_the_wrong_cluster_are_compared_with_everything() -> None:
    vectors, clusters, centroids = scattered(900)
    clusters[::50] = (clusters[::50] + 1) % len(centroids)
    prepared = RadiusSearch(1.5).prepare(vectors, clusters, centroids)
    assert prepared.cells.borders is not None
    assert 0 < len(prepared.cells.borders.strays) <= 18
    assert as_set(prepared.pairs()) == brute(vectors, clusters, 1.5)


@pytest.mark.parametrize("every", [900, 50, 7])
def test_each_compared_pair_is_counted_once(every: int) -> None:
    """Beside a loop over all pairs; rows in the wrong cluster are met more than once."""
    vectors, clusters, centroids = scattered(900)
    clusters[1::every] = (clusters[1::every] + 1) % len(centroids)
    prepared = RadiusSearch(1.2).prepare(vectors, clusters, centroids)
    cells, borders = prepared.cells, prepared.cells.borders
    assert borders is not None
    cell_of = np.repeat(np.arange(len(centroids)), cells.sizes)
    met = cell_of[:, None] == cell_of
    for cell in range(len(centroids)):
        met[np.ix_(borders.of(cell), borders.edge(cells.members(cell)))] = True
    met[borders.strays] = True
    assert prepared.pairs().comparisons == (met | met.T)[np.triu_indices(900, 1)].sum()
    asked = vectors[::9]
    found = prepared.search(asked)
    assert len(found.left) <= found.comparisons <= len(asked) * 900


def test_what_is_lost_inside_clusters_is_estimated() -> None:
    vectors, clusters, centroids = scattered(3000)
    lossy = RadiusSearch(1.2, lossless=False).prepare(vectors, clusters, centroids)
    found = lossy.pairs()
    lost = len(brute(vectors, clusters, 1.2)) - len(found.left)
    assert lost > 0
    assert lossy.missed(found, n_sample=3000) == lost
    assert 0.4 * lost < lossy.missed(found, n_sample=1000) < 2 * lost


def test_too_many_pairs_end_with_advice() -> None:
    vectors, clusters, centroids = scattered(300)
    with pytest.raises(ConfigError, match=r"more than 100 pairs.*matcher\.threshold.*lower"):
        RadiusSearch(50.0, max_pairs=100).prepare(vectors, clusters, centroids).pairs()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    vectors, clusters, centroids = scattered(300)
    vectors[7, 3] = bad
    with pytest.raises(CorruptError, match="not finite"):
        RadiusSearch(1.0).prepare(vectors, clusters, centroids)


def test_memory_mapped_vectors_answer_alike(tmp_path: Path) -> None:
    vectors, clusters, centroids = scattered(500)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    matcher = RadiusSearch(1.2)
    for one, other in zip(
        matcher.prepare(vectors, clusters, centroids).pairs(),
        matcher.prepare(mapped, clusters, centroids).pairs(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


THREADS = """
import hashlib
import numpy as np
from tests.search.test_radius import scattered
from dedup.search.radius import RadiusSearch
found = RadiusSearch(1.2).prepare(*scattered(3000)).pairs()
print(found.comparisons, [hashlib.sha256(column.tobytes()).hexdigest() for column in found[:3]])
"""


def test_the_number_of_threads_changes_nothing() -> None:
    answers = {
        python("-c", THREADS, cwd=ROOT, OMP_NUM_THREADS=threads).stdout
        for threads in ("1", "2", "3")
    }
    assert len(answers) == 1
    assert len(answers.pop()) > 3 * 64


def test_no_queries_no_answers() -> None:
    prepared = RadiusSearch(1.0).prepare(*scattered(100))
    assert len(prepared.search(np.empty((0, 24), np.float32)).left) == 0


@pytest.mark.parametrize("row", [16_386, 16_387])  # in the second block; one is in the sample
def test_no_block_may_hold_a_number_that_is_not_finite(row: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(16_700, 3)).astype(np.float32)
    vectors[row : row + 4, 1] = np.nan
    with pytest.raises(CorruptError, match="not finite"):
        RadiusSearch(0.1).prepare(vectors, np.zeros(16_700, np.int64), vectors[:1])


def test_infinities_that_cancel() -> None:
    vectors = np.array([[np.inf], [-np.inf]], np.float32)
    with pytest.raises(CorruptError, match="not finite"):
        Frame.of(vectors, sample_of(vectors))


@pytest.mark.parametrize("size", [1e10, 1e22, 1e38])
def test_centroids_that_removed_outliers_left_behind(size: float) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    centroids = np.array([[size] * 8, [-size] * 8], np.float32)
    clusters = (vectors.sum(axis=1) < 0).astype(np.int64)
    found = RadiusSearch(2.5).prepare(vectors, clusters, centroids).pairs()
    assert as_set(found) == brute(vectors, clusters, 2.5)


@pytest.mark.parametrize("threshold", [1e39, 1e155, 1e300])
def test_a_threshold_beyond_everything(threshold: float) -> None:
    vectors = np.array([[3e38, 0], [-3e38, 0], [1, 0]], np.float32)
    found = RadiusSearch(threshold).prepare(vectors, np.zeros(3, np.int64), vectors[:1]).pairs()
    assert len(found.left) == 3


def test_strays_do_not_count_twice_towards_the_most_pairs() -> None:
    vectors, clusters, centroids = scattered(900)
    clusters[::50] = (clusters[::50] + 1) % len(centroids)
    n = len(RadiusSearch(1.5).prepare(vectors, clusters, centroids).pairs().left)
    found = RadiusSearch(1.5, max_pairs=n).prepare(vectors, clusters, centroids).pairs()
    assert len(found.left) == n


def test_nothing_is_missed_at_threshold_0() -> None:
    prepared = RadiusSearch(0.0, lossless=False).prepare(*scattered(300))
    assert prepared.missed(prepared.pairs()) == 0


def test_half_precision() -> None:
    vectors = (100 * np.random.default_rng(0).normal(size=(200, 16))).astype(np.float16)
    one = np.zeros(200, np.int64)
    found = RadiusSearch(500.0).prepare(vectors, one, vectors[:1].astype(np.float32))
    assert as_set(found.pairs()) == brute(vectors, one, 500.0)


def test_centroids_must_be_finite() -> None:
    vectors, clusters, centroids = scattered(300)
    centroids[3, 1] = np.nan
    with pytest.raises(CorruptError, match="not finite"):
        Cells.of(vectors, clusters, centroids, 1.0)
