"""Find the nearest images of each image by visual words, in time proportional to their number.

Most images of a large catalogue have a common word with most others. So the words of an image are
looked up from the rarest in this catalogue on, until ``MOST_POSTINGS`` images with them are found:
an inverted index with early termination (Zobel and Moffat, Inverted files for text search engines,
2006). The best of these images are compared by all words, as ``visual_words.similarities`` does.
Each image keeps its own nearest ones, so that a family of near-equal images takes no other's place.

Results do not depend on blocks or threads: all sums are sums of whole numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

from dedup.runtime.parallel import in_order
from dedup.verification.visual_words import (
    Floats,
    Ints,
    Proposals,
    Vocabulary,
    Words,
)

MOST_POSTINGS = 20_000
"""Maximum number of images that the words of an image are found in, each counted once a word; the
rarest word is always looked up. Catalogues of less than some 4,700 images have fewer."""

LOOKED_AT = 4
"""Images that are compared by all words, as a multiple of the wanted number: the order by the rare
words is not quite that by all."""

_ROWS = 64
"""Number of images of a block: some 20 MB of sums."""

Mask = npt.NDArray[np.bool_]


def nearest(
    words_a: Words, words_b: Words | None, n_nearest: int, vocabulary: Vocabulary, least: float
) -> Proposals:
    """Find the ``n_nearest`` images of each image with the most similar words, mirrored or not.

    A pair is found if either image is among the nearest of the other. Of equally similar images
    the first ones are taken, so their order should not be that of the catalogue.

    Args:
        words_a: (n, N_KEYPOINTS) int32, as ``Vocabulary.words`` gives them; likewise ``words_b``,
            (m, N_KEYPOINTS).
        words_b: None to compare ``words_a`` with itself: each pair once, ``left < right``.
        n_nearest: number of images that each image keeps.
        vocabulary: the one that the words are from.
        least: least similarity, more than 0; see ``visual_words.propose``.

    Returns:
        The pairs, each once, sorted by both rows.
    """
    if words_b is None:
        left, right, similarity = nearest_of(words_a, None, n_nearest, vocabulary, least)
        ends = np.minimum(left, right), np.maximum(left, right)
        return _each_once(*ends, similarity)
    there = nearest_of(words_a, words_b, n_nearest, vocabulary, least)
    back = nearest_of(words_b, words_a, n_nearest, vocabulary, least)
    return _each_once(
        np.concatenate([there.left, back.right]),
        np.concatenate([there.right, back.left]),
        np.concatenate([there.similarity, back.similarity]),
    )


def _each_once(left: Ints, right: Ints, similarity: Floats) -> Proposals:
    """Sort pairs by both rows, and keep each once."""
    order = np.lexsort([right, left])
    left, right, similarity = left[order], right[order], similarity[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(left) != 0) | (np.diff(right) != 0)
    return Proposals(left[first], right[first], similarity[first])


def nearest_of(
    words_a: Words, words_b: Words | None, n_nearest: int, vocabulary: Vocabulary, least: float
) -> Proposals:
    """Find the nearest images on the right of each image on the left; arguments as of ``nearest``.

    Returns:
        The pairs, those of a left row from the most similar one on.
    """
    right = words_a if words_b is None else words_b
    index = _Index.of(right, vocabulary)

    def search(start: int) -> Proposals:
        some = words_a[start : start + _ROWS]
        own = np.full(len(some), -1)
        if words_b is None:
            own = np.arange(start, start + len(some))
        return _of_block(index, vocabulary, some, right, own, n_nearest, least, start)

    parts = list(in_order(search, range(0, len(words_a), _ROWS)))
    return Proposals(*(np.concatenate(each) for each in zip(_NOTHING, *parts, strict=True)))


class _Index(NamedTuple):
    """Inverted index of images by their words with a weight above 0.

    Attributes:
        images: (k * k, n) sparse int32: the weight of each word in each image that has it.
        counts: (k * k,) int64: number of images with each word.
        scale: (n,) float64: inverse of the length of each image; 0 where that is 0.
    """

    images: sparse.csr_array
    counts: Ints
    scale: Floats

    @classmethod
    def of(cls, words: Words, vocabulary: Vocabulary) -> _Index:
        used = _used(words, vocabulary)
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
        shape = (len(words), vocabulary.size**2)
        # Of the weights, not of ones: the sums of a product are those of the common words.
        weights = vocabulary.weights[words[used]]
        images = sparse.csr_array((weights, words[used], starts), shape=shape).T.tocsr()
        return cls(images, np.diff(images.indptr).astype(np.int64), _scale(words, vocabulary))


def _used(words: Words, vocabulary: Vocabulary) -> Mask:
    return np.asarray((words >= 0) & (vocabulary.weights[words] > 0))


def _scale(words: Words, vocabulary: Vocabulary) -> Floats:
    """Compute the inverse of the length of each image, (n,)."""
    weights = np.where(words >= 0, vocabulary.weights[words], 0)
    squares = weights.sum(axis=1, dtype=np.int64)
    scale = np.zeros(len(words))
    np.divide(1, np.sqrt(squares), out=scale, where=squares > 0)
    return scale


def _of_block(
    index: _Index,
    vocabulary: Vocabulary,
    words: Words,
    words_b: Words,
    own: Ints,
    n_nearest: int,
    least: float,
    start: int,
) -> Proposals:
    """Find the nearest images of a block of images; ``own`` are their rows in the index, or -1."""
    sides, scale = (words, vocabulary.mirrored(words)), _scale(words, vocabulary)
    sums = [_rare(index, vocabulary, side) @ index.images for side in sides]
    table = np.zeros(len(vocabulary.weights) + 1, np.int32)
    parts = [_NOTHING]
    for row in range(len(words)):
        likely = [_likely(table, row, index.scale, int(own[row]), LOOKED_AT * n_nearest)
                  for table in sums]  # fmt: skip
        right = np.unique(np.concatenate(likely))
        common = np.maximum(
            *(_common(side[row], words_b[right], vocabulary, table) for side in sides)
        )
        similarity = np.minimum(common * (scale[row] * index.scale[right]), 1)
        order = np.lexsort([right, -similarity])[:n_nearest]
        order = order[similarity[order] >= least]
        left = np.full(len(order), start + row)
        parts.append(Proposals(left, right[order], similarity[order]))
    return Proposals(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _likely(sums: sparse.csr_array, row: int, scale: Floats, own: int, n: int) -> Ints:
    """Return the images with the largest sums of rare words, by their length; not ``own``."""
    start, stop = sums.indptr[row : row + 2]
    column = sums.indices[start:stop].astype(np.int64)
    # The length of the row itself changes no order.
    value = sums.data[start:stop] * scale[column]
    value[column == own] = 0
    return np.asarray(column[_largest(value, column, n)])


def _common(
    words: Words, others: Words, vocabulary: Vocabulary, table: npt.NDArray[np.int32]
) -> Ints:
    """Add up the weights of the words that an image has in common with others, (n,).

    ``table``, (k * k + 1,), is all 0 before and after; -1 stands for its last place.
    """
    known = words[words >= 0]
    table[known] = vocabulary.weights[known]
    common = table[others].sum(axis=1, dtype=np.int64)
    table[known] = 0
    return np.asarray(common)


def _largest(value: Floats, column: Ints, n: int) -> Ints:
    """Return the places of the ``n`` largest values above 0; of equal ones the first columns."""
    if len(value) <= n:
        return np.flatnonzero(value > 0)
    least = float(np.partition(value, len(value) - n)[len(value) - n])
    at = np.flatnonzero(value >= max(least, np.finfo(float).tiny))
    return np.asarray(at[np.lexsort([column[at], -value[at]])[:n]])


def _rare(index: _Index, vocabulary: Vocabulary, words: Words) -> sparse.csr_array:
    """Choose the rarest words of images, (n, N_KEYPOINTS): a sparse table of ones, (n, k * k)."""
    used = _used(words, vocabulary)
    counts = np.where(used, index.counts[words], np.iinfo(np.int64).max // words.shape[1])
    order = np.lexsort([words, counts], axis=1)
    words, used, counts = (np.take_along_axis(each, order, 1) for each in (words, used, counts))
    chosen = used & (np.cumsum(np.where(used, counts, 0), axis=1) <= MOST_POSTINGS)
    chosen[:, 0] |= used[:, 0]
    starts = np.concatenate([[0], np.cumsum(chosen.sum(axis=1))])
    ones = np.ones(starts[-1], np.int32)
    return sparse.csr_array((ones, words[chosen], starts), shape=(len(words), len(index.counts)))


_NOTHING = Proposals(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
