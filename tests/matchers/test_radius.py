"""Within-cluster search against a slow loop."""

import numpy as np
import pytest

from dedup.matchers.radius import RadiusMatcher, l2_distance


def slow(vectors: np.ndarray, clusters: np.ndarray, threshold: float) -> set[tuple[int, int]]:
    """Every pair i < j of one cluster within the threshold, by comparing every two rows."""
    found = set()
    for j in range(len(vectors)):
        for i in range(j):
            gap = np.linalg.norm(vectors[i].astype(float) - vectors[j].astype(float))
            if clusters[i] == clusters[j] >= 0 and gap <= threshold:
                found.add((i, j))
    return found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [1e-6, 0.5, 3.0, 100.0])
def test_pairs_are_those_of_a_slow_loop(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(90, 1 + seed)).astype(np.float32)
    vectors[30:60] = vectors[:30] + rng.normal(scale=0.2, size=(30, 1 + seed))
    vectors[60:70] = vectors[:10]
    clusters = rng.integers(-1, 4, 90)
    left, right, distance = RadiusMatcher(threshold).match(vectors, clusters)
    assert set(zip(left.tolist(), right.tolist(), strict=True)) == slow(
        vectors, clusters, threshold
    )
    assert len(left) == len(set(zip(left.tolist(), right.tolist(), strict=True)))
    np.testing.assert_array_equal(distance, l2_distance(vectors[left], vectors[right]))


def test_blocks_do_not_lose_pairs_across_their_borders() -> None:
    vectors = np.repeat(np.arange(1300, dtype=np.float32)[:, None], 2, axis=0)
    left, right, distance = RadiusMatcher(0.5).match(vectors, np.zeros(2600, np.int64))
    assert (left % 2 == 0).all()
    assert (right == left + 1).all()
    assert len(left) == 1300
    assert (distance == 0).all()


def test_equal_rows_far_from_the_origin_are_found_at_a_tiny_threshold() -> None:
    vectors = np.full((3, 256), 1e4, np.float32)
    left, _, distance = RadiusMatcher(1e-9).match(vectors, np.zeros(3, np.int64))
    assert len(left) == 3
    assert (distance == 0).all()


def test_threshold_zero_leaves_equal_pictures_to_their_digests() -> None:
    left, _, _ = RadiusMatcher(0).match(np.zeros((4, 2), np.float32), np.zeros(4, np.int64))
    assert len(left) == 0


def test_search_agrees_with_match() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(50, 4)).astype(np.float32)
    clusters = rng.integers(0, 3, 50)
    matcher = RadiusMatcher(1.5)
    left, right, _ = matcher.match(vectors, clusters)
    rows, distance = matcher.search(vectors[7], int(clusters[7]), vectors, clusters)
    partners = {*right[left == 7].tolist(), *left[right == 7].tolist(), 7}
    assert set(rows.tolist()) == partners
    assert distance[rows == 7] == 0
