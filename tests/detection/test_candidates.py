"""Candidates and the looks at them, beside slow loops."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from dedup.detection.candidates import (
    MIN_WORDS,
    Candidates,
    by_words,
    min_words,
    radius,
    united,
)
from dedup.detection.verdicts import IN_MEMORY, _blocks, look
from dedup.search.image_access import ImageAccess
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.keypoints import N_KEYPOINTS
from dedup.verification.visual_words import Vocabulary, Words, propose, similarities
from tests.verification.test_keypoints import patches


def random_words(count: int, seed: int = 0, per_image: int = 60) -> Words:
    """Images with some words of few, so that most have a few in common."""
    rng = np.random.default_rng(seed)
    known = np.flatnonzero(Vocabulary.load().idf > 0)[:400]
    words = np.full((count, N_KEYPOINTS), -1, np.int32)
    for row in words:
        row[:per_image] = np.sort(rng.choice(known, per_image, replace=False))
    return words


def as_set(candidates: Candidates) -> set[tuple[int, int]]:
    """The pairs; each must be there once, in order."""
    pairs = list(zip(candidates.left.tolist(), candidates.right.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    return set(pairs)


@pytest.mark.parametrize("per_image", [0.5, 2, 8])
@pytest.mark.parametrize("count", [40, 200])
def test_a_radius_gives_so_many_candidates(count: int, per_image: float) -> None:
    vectors = np.random.default_rng(count).normal(size=(count, 5)).astype(np.float32)
    within = radius(vectors, per_image)
    apart = [float(np.linalg.norm(vectors[a] - vectors[b]))
             for a, b in combinations(range(count), 2)]  # fmt: skip
    n_pairs = (np.array(apart) <= within + 1e-5).sum()
    assert n_pairs == pytest.approx(per_image * count, abs=2)


def test_a_radius_of_a_sample_is_about_that_of_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(1600, 4)).astype(np.float32)
    within = radius(vectors, 3)
    squares = (vectors**2).sum(axis=1)
    apart = squares[:, None] + squares - 2 * vectors @ vectors.T
    n_pairs = (apart[np.triu_indices(1600, 1)] <= within**2).sum()
    assert n_pairs == pytest.approx(3 * 1600, rel=0.15)
    assert radius(vectors, 3) == within


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_limits_of_next_to_nothing(count: int) -> None:
    vectors = np.arange(count, dtype=np.float32)[:, None]
    assert radius(vectors, 4) == (0 if count < 2 else pytest.approx(count - 1))
    assert min_words(random_words(count), 8) == MIN_WORDS
    assert min_words(np.full((count, N_KEYPOINTS), -1, np.int32), 8) == MIN_WORDS


@pytest.mark.parametrize("per_image", [0.5, 2, 8])
def test_a_similarity_gives_so_many_candidates(per_image: float) -> None:
    words = random_words(80)
    found = propose(words, None, Vocabulary.load(), min_words(words, per_image))
    assert len(found.left) == pytest.approx(per_image * 80, abs=2)


def test_a_budget_that_is_not_used_up_takes_all_with_something_in_common() -> None:
    words = random_words(12)
    assert min_words(words, 100) == MIN_WORDS


def nearest_by_loop(
    words: Words, queries: Sequence[int], pool: Sequence[int], n: int
) -> set[tuple[int, int]]:
    """The nearest of each query in the pool; of equal ones the first."""
    found = set()
    for query in queries:
        others = [row for row in pool if row != query]
        ends = words[[query] * len(others)], words[others]
        order = np.argsort(-similarities(*ends, Vocabulary.load()), kind="stable")[:n]
        found |= {(min(query, others[at]), max(query, others[at])) for at in order.tolist()}
    return found


@pytest.mark.parametrize(("per_image", "n"), [(0.3, 1), (2, 2), (8, 8)])
def test_words_beside_a_slow_loop(per_image: float, n: int) -> None:
    words = random_words(40)
    expected = nearest_by_loop(words, range(40), range(40), n)
    assert as_set(by_words(words, None, None, per_image)) == expected
    pool = np.sort(np.random.default_rng(0).permutation(40)[:25])
    expected = nearest_by_loop(words, pool.tolist(), pool.tolist(), n)
    assert as_set(by_words(words, None, pool, per_image)) == expected


def test_some_asked_have_their_nearest_and_are_those_of_others() -> None:
    words, rng = random_words(50), np.random.default_rng(0)
    asked = np.sort(rng.permutation(50)[:12])
    pool = np.sort(rng.permutation(50)[:30])
    for rows in (pool, None):
        among = list(range(50)) if rows is None else rows.tolist()
        found = as_set(by_words(words, asked, rows, 3))
        least = nearest_by_loop(words, asked.tolist(), among, 3)
        least |= nearest_by_loop(words, among, asked.tolist(), 3)
        assert least <= found
        assert len(found) <= 4 * (len(asked) + len(among))
        assert all((a in asked and b in among) or (b in asked and a in among) for a, b in found)
    assert as_set(by_words(words, asked, np.empty(0, np.int64), 3)) == set()
    assert as_set(by_words(words, asked[:0], pool, 3)) == set()


def test_united_candidates_are_a_set_of_pairs() -> None:
    rng = np.random.default_rng(0)
    parts = [Candidates(*rng.integers(0, 9, (2, n))) for n in (0, 14, 30)]
    expected = {
        (min(a, b), max(a, b))
        for part in parts
        for a, b in zip(part.left.tolist(), part.right.tolist(), strict=True)
        if a != b
    }
    assert as_set(united(*parts)) == expected
    assert as_set(united(parts[0])) == set()
    assert united(*parts).left.dtype == np.int64


def test_a_look_is_the_verdict_on_each_pair() -> None:
    images = [patches(seed, (120, 160)) for seed in range(3)]
    images += [np.ascontiguousarray(images[1][10:100, 20:150]), np.full_like(images[0], 255)]
    urls = np.array([str(place) for place in range(5)], object)
    asked: list[str] = []

    def details(some: object) -> list[npt.NDArray[np.uint8]]:
        assert isinstance(some, list)
        asked.extend(some)
        return [images[int(url)] for url in some]

    sight = ImageAccess(details, lambda some: random_words(len(some)))
    pairs = Candidates(np.array([0, 0, 1, 3]), np.array([1, 4, 3, 4]))
    verifier = GeometricVerifier()
    (verdicts,) = look(pairs, urls, sight, verifier, np.ones(4, bool))
    seen = [LocalFeatures.of(image) for image in images]
    ends = [(seen[a], seen[b]) for a, b in zip(*pairs, strict=True)]
    expected = verifier(ends)
    assert [it.log_odds for it in verdicts] == [it.log_odds for it in expected]
    assert np.argmax([it.log_odds for it in verdicts]) == 2
    assert sorted(asked) == ["0", "1", "3", "4"]  # each once
    empty = np.empty(0, np.int64)
    assert list(look(Candidates(empty, empty), urls, sight, verifier, np.empty(0, bool))) == []


def test_blocks_hold_few_images_and_every_candidate() -> None:
    rng = np.random.default_rng(0)
    left, right = np.sort(rng.integers(0, 30_000, (2, 12_000)), axis=0)
    blocks = list(_blocks(Candidates(np.sort(left), right)))
    left = np.sort(left)
    assert [place for block in blocks for place in range(block.start, block.stop)] == [
        *range(12_000)
    ]
    for block in blocks:
        assert len(set(left[block]) | set(right[block])) <= IN_MEMORY + 2
    assert len(blocks) > 4
