"""Choose candidates for copies; runs without torch.

Candidates are images with near embeddings, found by the matcher, and images with rare visual words
in common. Embeddings serve for goods without marks; words serve for parts and images inside images.
The limits of both follow from a budget of candidates for each image.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.detection.blocks import Blocks
from dedup.runtime.digits import rounded_up
from dedup.runtime.parallel import in_order
from dedup.verification.visual_words import Vocabulary, Words, propose

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


def min_words(words: Words, per_image: float, seed: int = 0, blocks: Blocks | None = None) -> float:
    """Choose the least similarity of words for an average number of candidates per image.

    It is measured on a sample of the images against all of them, or those in its blocks.
    """
    sample = _sample(len(words), seed)
    proposals = propose(words[sample], words, Vocabulary.load(), MIN_WORDS)
    left, right = sample[proposals.left], proposals.right
    is_pair = left != right
    if blocks is not None:
        is_pair &= blocks.together(left, right)
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


def by_words(
    words: Words, queries: Ints | None, pool: Ints | None, least: float, max_pairs: int
) -> Candidates:
    """Find pairs of images with words in common.

    Args:
        words: (n, N_KEYPOINTS), of every image that may be compared.
        queries: rows that are compared with ``pool``; ``None`` for every two rows.
        pool: rows; ``None`` for all.
        least: least similarity, more than 0.
        max_pairs: maximum number of pairs; more are an error.
    """
    vocabulary = Vocabulary.load()
    if queries is None:
        pairs = propose(words, None, vocabulary, least, max_pairs)
        return Candidates(pairs.left, pairs.right)
    rows = np.arange(len(words)) if pool is None else pool
    pairs = propose(words[queries], words[rows], vocabulary, least, max_pairs)
    return united(Candidates(queries[pairs.left], rows[pairs.right]))


def _sample(n: int, seed: int) -> Ints:
    chosen: Ints = np.sort(np.random.default_rng(seed).permutation(n)[:SAMPLE]).astype(np.int64)
    return chosen
