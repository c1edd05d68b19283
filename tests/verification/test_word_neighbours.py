"""Nearest images by words, against all similarities."""

import numpy as np
import numpy.typing as npt
import pytest

from dedup.verification import word_neighbours
from dedup.verification.visual_words import Proposals, Vocabulary, Words, similarities
from dedup.verification.word_neighbours import nearest, nearest_of
from tests.verification.test_visual_words import images, vocabulary

LEAST = 0.02


def all_similarities(a: Words, b: Words, known: Vocabulary) -> npt.NDArray[np.float64]:
    rows, columns = np.indices((len(a), len(b))).reshape(2, -1)
    return similarities(a[rows], b[columns], known).reshape(len(a), len(b))


def nearest_in(table: npt.NDArray[np.float64], n: int) -> set[tuple[int, int]]:
    """The largest of each row; of equal ones the first."""
    return {
        (row, column)
        for row, values in enumerate(table)
        for column in np.argsort(-values, kind="stable")[:n].tolist()
        if values[column] >= LEAST
    }


def pairs(found: Proposals) -> list[tuple[int, int]]:
    return list(zip(found.left.tolist(), found.right.tolist(), strict=True))


@pytest.mark.parametrize("n", [1, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 5, 150])
def test_each_image_keeps_its_nearest(count: int, n: int) -> None:
    known, words = vocabulary(), images(150)[:count]
    table = all_similarities(words, words, known)
    np.fill_diagonal(table, -1)
    expected = {(min(pair), max(pair)) for pair in nearest_in(table, n)}
    found = nearest(words, None, n, known, LEAST)
    assert pairs(found) == sorted(expected)
    assert np.array_equal(found.similarity, table[found.left, found.right])


@pytest.mark.parametrize("n", [1, 4])
def test_each_image_keeps_its_nearest_of_another_catalogue(n: int) -> None:
    known, a, b = vocabulary(), images(90), images(70, seed=1)
    b[:10] = a[20:30]
    table = all_similarities(a, b, known)
    assert set(pairs(nearest_of(a, b, n, known, LEAST))) == nearest_in(table, n)
    back = {(row, column) for column, row in nearest_in(table.T, n)}
    assert pairs(nearest(a, b, n, known, LEAST)) == sorted(nearest_in(table, n) | back)
    assert pairs(nearest(a, b[:0], n, known, LEAST)) == []


def test_rare_words_find_the_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that many images have are not looked up, and count in the similarity."""
    known, rng = vocabulary(k=40), np.random.default_rng(0)
    words = np.full((200, 300), -1, np.int32)
    for row in words:
        common, rare = rng.integers(0, 20, 15), rng.integers(20, 1600, 15)
        found = np.unique(np.concatenate([common, rare]))
        row[: len(found)] = found
    words[100:120, :] = words[:20]
    words[100:120, 0] = words[50:70, 0]  # a common word
    words[100:120] = np.sort(words[100:120].view(np.uint32), axis=1).view(np.int32)
    monkeypatch.setattr(word_neighbours, "MOST_POSTINGS", 60)
    found = nearest(words, None, 2, known, LEAST)
    assert {(row, row + 100) for row in range(20)} <= set(pairs(found))
    table = all_similarities(words, words, known)
    assert np.array_equal(found.similarity, table[found.left, found.right])
    monkeypatch.setattr(word_neighbours, "MOST_POSTINGS", 0)  # the rarest word alone
    assert len(nearest(words, None, 2, known, LEAST).left) > 20


def test_blocks_threads_and_the_order_of_images_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known, words = Vocabulary.load(), images(150, k=512, most=60)
    found = nearest(words, None, 3, known, LEAST)
    for rows, threads in ((7, "1"), (64, "4"), (1000, "2")):
        monkeypatch.setattr(word_neighbours, "_ROWS", rows)
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        for one, other in zip(nearest(words, None, 3, known, LEAST), found, strict=True):
            assert np.array_equal(one, other)
    order = np.random.default_rng(0).permutation(150)
    shuffled = nearest(words[order], None, 3, known, LEAST)
    place = {(min(order[a], order[b]), max(order[a], order[b])) for a, b in pairs(shuffled)}
    is_tied = len(place ^ set(pairs(found)))
    assert is_tied <= 0.1 * len(place)  # of equally similar ones the first are taken


def test_a_family_takes_no_place_of_others() -> None:
    """150 near-equal images, and 15 pairs with a quarter of their words in common."""
    known, rng = Vocabulary.load(), np.random.default_rng(1)
    usual = np.flatnonzero(known.idf > 0)
    words = np.full((180, 300), -1, np.int32)
    words[:150, :100] = np.sort(rng.choice(usual, 100, replace=False))
    for row in range(150):
        words[row, :100] = np.sort(np.unique(words[row, :100]))
        words[row, row % 100 : 99] = words[row, row % 100 + 1 : 100]  # one fewer
        words[row, 99] = -1
    for row in range(150, 165):
        one, other = (rng.choice(usual, 80, replace=False) for _ in range(2))
        other[:20] = one[:20]
        words[row, :80], words[row + 15, :80] = np.sort(one), np.sort(other)
    found = set(pairs(nearest(words, None, 8, known, LEAST)))
    assert {(row, row + 15) for row in range(150, 165)} <= found
    assert len(found) <= 8 * 180
