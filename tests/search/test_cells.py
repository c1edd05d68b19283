"""The rule that tells which clusters a near pair can lie in, against all pairs."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import CorruptError
from dedup.search.cells import Cells, Crossings
from dedup.search.clustering import nearest_centroids
from tests.support.effort import examples

Vectors = npt.NDArray[np.float32]
Clusters = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def clumps(rng: np.random.Generator, n: int, d: int) -> Floats:
    centres: Floats = rng.normal(size=(6, d))
    return centres[rng.integers(0, 6, n)] + 0.2 * rng.normal(size=(n, d))


def far(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = float(rng.choice([0.1, 10])) * rng.normal(size=(n, d))
    return rows + 10.0 ** int(rng.integers(4, 8))


def lattice(rng: np.random.Generator, n: int, d: int) -> Floats:
    """Ties of distances, to centroids too."""
    rows = rng.integers(-2, 3, (n, d)).astype(np.float64)
    rows *= rng.choice([1, 0.1, 1e-20, 1e20])
    return rows


def copies(rng: np.random.Generator, n: int, d: int) -> Floats:
    return rng.normal(size=(4, d))[rng.integers(0, 4, n)]


def scales(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = rng.normal(size=(n, d))
    rows *= 10.0 ** rng.integers(-30, 31, (n, 1))
    return rows


def sphere(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = rng.normal(size=(n, d))
    rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return rows


KINDS = [clumps, far, lattice, copies, scales, sphere]


def distances(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Floats:
    """All distances, by the direct difference in float64."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    rows = [np.sqrt(((row - right) ** 2).sum(axis=1)) for row in left]
    return np.array(rows, np.float64).reshape(len(left), len(right))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Vectors, Clusters, Vectors, float]:
    """Vectors, labels that need not be right, centroids that need be no means, a threshold."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(2, 80)), draw(st.sampled_from([1, 2, 3, 12, 24]))
    vectors = draw(st.sampled_from(KINDS))(rng, n, d).astype(np.float32)
    centroids = vectors[rng.integers(0, n, draw(st.integers(1, 12)))]  # some of them equal
    if draw(st.booleans()):
        centroids = (centroids * rng.uniform(0.5, 1.5, (len(centroids), 1))).astype(np.float32)
    clusters = nearest_centroids(vectors, centroids)
    wrong = rng.random(n) < draw(st.sampled_from([0, 0, 0.05, 1]))
    clusters[wrong] = rng.integers(0, len(centroids), wrong.sum())
    clusters[rng.random(n) < draw(st.sampled_from([0, 0.2]))] = -1
    known = np.unique(distances(vectors, vectors))
    place = draw(st.integers(0, min(len(known) - 1, n)))
    return vectors, clusters, centroids, max(float(known[place]), 1e-300)


def separated(n: int = 240, k: int = 6, d: int = 8) -> tuple[Vectors, Clusters, Vectors]:
    """Clusters that lie much farther apart than they are wide; sorted in no way."""
    rng = np.random.default_rng(3)
    centroids = (10 * np.eye(k, d)).astype(np.float32)
    clusters = rng.integers(0, k, n)
    vectors = centroids[clusters] + 0.1 * rng.normal(size=(n, d))
    return vectors.astype(np.float32), clusters, centroids


def crossings_of(cells: Cells) -> Crossings:
    borders = cells.borders
    assert borders is not None
    for cell in range(len(cells.sizes)):
        assert (np.diff(borders.of(cell)) > 0).all()
    return borders


def held(crossings: Crossings, n_rows: int, n_cells: int) -> npt.NDArray[np.bool_]:
    """Whether a row must be compared with a cell, (n_rows, n_cells)."""
    table = np.zeros((n_rows, n_cells), bool)
    for cell in range(n_cells):
        rows = crossings.of(cell)
        assert len(np.unique(rows)) == len(rows)
        table[rows, cell] = True
    return table


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(problems())
def test_every_row_with_a_cluster_has_one_place_in_its_cell(
    problem: tuple[Vectors, Clusters, Vectors, float],
) -> None:
    vectors, clusters, centroids, threshold = problem
    cells = Cells.of(vectors, clusters, centroids, threshold)
    members = [cells.rows[cells.members(cell)].tolist() for cell in range(len(centroids))]
    assert members == [np.flatnonzero(clusters == cell).tolist() for cell in range(len(centroids))]
    assert cells.rows.tolist() == list(chain(*members))
    assert cells.sizes.tolist() == [len(rows) for rows in members]
    assert cells.starts[0] == 0
    assert cells.terms.shape == (len(cells.rows), cells.axes.shape[1] + 3)
    placed = cells.frame.place(vectors[cells.rows])
    np.testing.assert_array_equal(cells.terms, cells.sketch(placed))


@settings(max_examples=examples(150), deadline=None, derandomize=True)
@given(problems())
def test_every_near_pair_of_two_cells_is_a_crossing_or_has_a_stray(
    problem: tuple[Vectors, Clusters, Vectors, float],
) -> None:
    vectors, clusters, centroids, threshold = problem
    cells = replace(Cells.of(vectors, clusters, centroids, threshold), max_crossings=np.inf)
    if cells.borders is None:  # most are strays: all are compared with all
        return
    borders = crossings_of(cells)
    assert (np.diff(borders.strays) > 0).all()
    ordered, label = vectors[cells.rows], clusters[cells.rows]
    table = held(borders, len(ordered), len(centroids))
    assert not table[np.arange(len(centroids)) >= label[:, None]].any()
    near = distances(ordered, ordered) <= threshold
    high, low = np.nonzero(near & (label[:, None] > label))
    stray = np.isin(np.arange(len(ordered)), borders.strays)
    assert (table[high, label[low]] | stray[high] | stray[low]).all()


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(problems(), st.integers(0, 99))
def test_every_member_near_a_query_is_in_a_reached_cell_or_a_stray(
    problem: tuple[Vectors, Clusters, Vectors, float], seed: int
) -> None:
    vectors, clusters, centroids, threshold = problem
    cells = replace(Cells.of(vectors, clusters, centroids, threshold), max_crossings=np.inf)
    step = np.random.default_rng(seed).normal(size=vectors.shape) * min(threshold, 1e30)
    queries = np.concatenate([vectors, (vectors + step / vectors.shape[1] ** 0.5).astype("f4")])
    placed = cells.frame.place(queries)
    inside = np.sqrt((placed**2).sum(axis=1)) <= 2
    queries, placed = queries[inside], placed[inside]
    if not len(cells.rows) or (reached := cells.reached(placed)) is None:
        return
    table = held(reached, len(queries), len(centroids))
    ordered, label = vectors[cells.rows], clusters[cells.rows]
    query, member = np.nonzero(distances(queries, ordered) <= threshold)
    assert (table[query, label[member]] | np.isin(member, reached.strays)).all()


def test_clusters_far_apart_need_no_crossings() -> None:
    vectors, clusters, centroids = separated()
    borders = crossings_of(Cells.of(vectors, clusters, centroids, 2.0))
    assert len(borders.rows) == len(borders.strays) == 0
    assert borders.starts.tolist() == [0] * (len(centroids) + 1)


def test_a_crossing_is_within_the_threshold_of_the_plane_halfway() -> None:
    """On a line: cells around 0 and 10, the plane at 5, where a member is."""
    vectors = np.array([0, 4, 5, 5.5, 5.75, 5.751, 10], np.float32)[:, None]
    clusters = (vectors[:, 0] > 5).astype(np.int64)
    centroids = np.array([[0], [10]], np.float32)
    cells = Cells.of(vectors, clusters, centroids, 0.75)
    borders = crossings_of(cells)
    assert borders.of(0).tolist() == [3, 4]
    assert borders.of(1).tolist() == []
    assert borders.edge(cells.members(0)).tolist() == [2]  # 4 is a whole 1 from the plane
    assert borders.edge(cells.members(1)).tolist() == []


def test_queries_reach_their_own_cell_and_those_within_the_threshold() -> None:
    vectors = np.array([0, 1, 9, 10, 19, 20], np.float32)[:, None]
    clusters = np.array([0, 0, 1, 1, 2, 2])
    centroids = np.array([[0], [10], [20], [5]], np.float32)  # nobody is in the last
    cells = Cells.of(vectors, clusters, centroids, 1.5)
    placed = cells.frame.place(np.array([[0.0], [4.0], [6.0], [14.0], [20.0]]))
    reached = cells.reached(placed)
    assert reached is not None
    assert [sorted(reached.of(cell).tolist()) for cell in range(4)] == [
        [0, 1, 2],
        [1, 2, 3],
        [3, 4],
        [],
    ]
    own = cells.reached(placed, lossless=False)
    assert own is not None
    assert [own.of(cell).tolist() for cell in range(4)] == [[0, 1], [2, 3], [4], []]
    assert len(own.strays) == 0


def test_rows_in_the_wrong_cell_are_strays() -> None:
    vectors, clusters, centroids = separated()
    clusters[[7, 100]] = (clusters[[7, 100]] + 1) % len(centroids)
    cells = Cells.of(vectors, clusters, centroids, 0.3)
    assert sorted(cells.rows[crossings_of(cells).strays].tolist()) == [7, 100]


@pytest.mark.parametrize("origin", [0, 1000, 1e7])
def test_the_nearest_of_all_centroids_is_never_wrong(origin: float) -> None:
    """However far out, and though labels come from float32, rounding makes no strays."""
    rng = np.random.default_rng(4)
    vectors = (origin + 10 * rng.normal(size=(400, 16))).astype(np.float32)
    centroids = (origin + 10 * rng.normal(size=(8, 16))).astype(np.float32)
    cells = Cells.of(vectors, nearest_centroids(vectors, centroids), centroids, 5.0)
    assert len(crossings_of(cells).strays) == 0


def test_equal_centroids_share_their_members() -> None:
    """Either label is right, so that each is compared with the other cell."""
    vectors = np.random.default_rng(5).normal(size=(60, 4)).astype(np.float32)
    clusters = np.arange(60) % 2
    centroids = np.full((2, 4), 3, np.float32)
    cells = Cells.of(vectors, clusters, centroids, 0.1)
    assert crossings_of(cells).of(0).tolist() == list(range(30, 60))


@pytest.mark.parametrize("most", [0, 0.5])
def test_too_many_crossings_give_no_borders(most: float) -> None:
    vectors = np.random.default_rng(6).normal(size=(300, 8)).astype(np.float32)
    centroids = vectors[:6]
    cells = Cells.of(vectors, nearest_centroids(vectors, centroids), centroids, 2.0)
    assert len(crossings_of(cells).rows) > 0.5 * len(vectors)
    crowded = replace(cells, max_crossings=most)
    assert crowded.borders is None
    assert crowded.reached(cells.frame.place(vectors[:5])) is None
    assert crowded.reached(cells.frame.place(vectors[:5]), lossless=False) is not None


def test_too_many_strays_give_no_borders() -> None:
    vectors, clusters, centroids = separated()
    wrong = (clusters + 1) % len(centroids)
    assert Cells.of(vectors, wrong, centroids, 0.3).borders is None


@pytest.mark.parametrize("n", [0, 1, 5])
def test_few_vectors_or_none(n: int) -> None:
    vectors = np.ones((n, 3), np.float32)
    cells = Cells.of(vectors, np.full(n, -1), np.zeros((2, 3), np.float32), 1.0)
    assert cells.sizes.tolist() == [0, 0]
    assert len(crossings_of(cells).rows) == 0
    inside = Cells.of(vectors, np.ones(n, np.int64), np.zeros((2, 3), np.float32), 1.0)
    assert inside.sizes.tolist() == [0, n]


def test_vectors_that_are_not_finite_are_refused() -> None:
    vectors, clusters, centroids = separated()
    vectors[200, 3] = np.nan
    with pytest.raises(CorruptError, match="not finite"):
        Cells.of(vectors, clusters, centroids, 1.0)


def test_the_kind_of_array_changes_nothing(tmp_path: Path) -> None:
    vectors, clusters, centroids = separated()
    np.save(tmp_path / "vectors.npy", vectors)
    padded = np.zeros((len(vectors), 2 * vectors.shape[1]), np.float32)
    padded[:, ::2] = vectors
    expected = Cells.of(vectors, clusters, centroids, 9.0)
    for same in (
        np.load(tmp_path / "vectors.npy", mmap_mode="r"),
        vectors.astype(np.float64),
        padded[:, ::2],
        np.asfortranarray(vectors),
    ):
        found = Cells.of(same, clusters, centroids, 9.0)
        np.testing.assert_array_equal(found.rows, expected.rows)
        for one, other in zip(crossings_of(found), crossings_of(expected), strict=True):
            np.testing.assert_array_equal(one, other)
