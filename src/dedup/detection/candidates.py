"""Choose candidates for copies; runs without torch.

Candidates are images with near embeddings, found by the matcher, and images with rare visual words
in common. Embeddings serve for goods without marks; words serve for parts and images inside images.
Each image has its own nearest ones by words. The limit of embeddings follows from a budget of
candidates for each image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.detection.blocks import Blocks
from dedup.runtime.digits import rounded_up
from dedup.runtime.parallel import in_order
from dedup.verification.visual_words import Vocabulary, Words, propose
from dedup.verification.word_neighbours import nearest

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

SAMPLE = 1000
"""Maximum number of images that the limits of a budget are measured on."""

FIGURES = 4
"""Number of significant digits of a chosen radius."""

MIN_WORDS = 0.02
"""Least similarity of words of a candidate: below it two images have nothing in common."""


class Candidates(NamedTuple):
    """Pairs of rows to be verified, sorted by both; arrays of one length.

    Attributes:
        left: (n,) int64.
        right: (n,) int64.
    """

    left: Ints
    right: Ints


def min_words(words: Words, per_image: float, seed: int = 0) -> float:
    """Choose the least similarity of words for an average number of candidates per image.

    It is measured on a sample of the images against all of them; a query is compared by it.
    """
    sample = _sample(len(words), seed)
    proposals = propose(words[sample], words, Vocabulary.load(), MIN_WORDS)
    left, right = sample[proposals.left], proposals.right
    is_pair = left != right
    similar = np.sort(proposals.similarity[is_pair])[::-1]
    wanted = int(per_image * len(sample) * 2)  # a pair is a candidate of both its images
    return float(similar[wanted]) if wanted < len(similar) else MIN_WORDS


def radius(
    vectors: Vectors, per_image: float, seed: int = 0, blocks: Blocks | None = None
) -> float:
    """Choose the largest distance for an average number of candidates per image.

    It is measured on a sample of the vectors, (n, d), against all of them, or those in its blocks.
    It is rounded up to ``FIGURES`` digits, so that it is no pair's very distance.
    """
    sample = _sample(len(vectors), seed)
    queries = np.asarray(vectors[sample], np.float64)
    n_kept = min(len(vectors) - 1, int(8 * per_image * 2) + 1)
    if n_kept < 1:
        return 0.0

    def near(start: int) -> Floats:
        block = queries[start : start + 64]
        squares = (
            (block**2).sum(axis=1)[:, None]
            - 2 * block @ np.asarray(vectors, np.float32).T
            + np.einsum("ij,ij->i", vectors, vectors)
        )
        rows = sample[start : start + 64]
        squares[np.arange(len(block)), rows] = np.inf
        if blocks is not None:
            squares[~blocks.with_all(rows)] = np.inf
        return np.asarray(np.partition(squares, n_kept - 1, axis=1)[:, :n_kept], np.float64)

    nearest = list(in_order(near, range(0, len(queries), 64)))  # a product's bits need one thread
    distances = np.sqrt(np.maximum(np.sort(np.concatenate(nearest).ravel()), 0))
    if blocks is not None:
        distances = distances[np.isfinite(distances)]
        if not len(distances):
            return 0.0
    wanted = min(int(per_image * len(sample) * 2), len(distances) - 1)
    return rounded_up(float(distances[wanted]), FIGURES)


def united(*parts: Candidates) -> Candidates:
    """Unite candidates, each once, the smaller row on the left."""
    left = np.concatenate([np.minimum(part.left, part.right) for part in parts])
    right = np.concatenate([np.maximum(part.left, part.right) for part in parts])
    pairs = np.unique(np.column_stack([left, right])[left != right], axis=0)
    return Candidates(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64))


def by_words(words: Words, queries: Ints | None, pool: Ints | None, per_image: float) -> Candidates:
    """Find the pairs of images of which one is among the nearest of the other by words.

    Args:
        words: (n, N_KEYPOINTS), of every image that may be compared. Of equally near images the
            first ones are taken.
        queries: rows that are compared with ``pool``; ``None`` for every two of ``pool``.
        pool: rows; ``None`` for all.
        per_image: number of nearest images of each image; see ``n_nearest``.
    """
    vocabulary, n = Vocabulary.load(), n_nearest(per_image)
    rows = np.arange(len(words)) if pool is None else pool
    if queries is None:
        pairs = nearest(words[rows], None, n, vocabulary, MIN_WORDS)
        return united(Candidates(rows[pairs.left], rows[pairs.right]))
    # An image on both sides is the nearest one of itself.
    pairs = nearest(words[queries], words[rows], n + 1, vocabulary, MIN_WORDS)
    return united(Candidates(queries[pairs.left], rows[pairs.right]))


def n_nearest(per_image: float) -> int:
    """Return the number of nearest images of each image for a number of candidates an image."""
    return max(1, round(per_image))


def _sample(n: int, seed: int) -> Ints:
    chosen: Ints = np.sort(np.random.default_rng(seed).permutation(n)[:SAMPLE]).astype(np.int64)
    return chosen
