"""Candidates for copies, and a second look at each of them; runs without torch.

Candidates are pictures with near embeddings, which the matcher finds, and pictures with rare visual
words in common: the embedding sees goods without marks, the words see parts and pictures inside
pictures. How far either goes follows from a budget of candidates for each picture.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.progress import track

from dedup.alignment import Seen
from dedup.artifacts import Sight
from dedup.parallel import in_order
from dedup.progress import console
from dedup.relations import SEPARATE, VARIANT, counted
from dedup.rounding import rounded_up
from dedup.verifiers.local import LocalVerifier, Placement, Verdict, placements
from dedup.words import Vocabulary, Words, propose

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

SAMPLE = 1000
"""Pictures that a budget's limits are measured on, at most."""

IN_MEMORY = 2000
"""Pictures that are kept in memory with their keypoints, some 0.3 MB each."""

FIGURES = 4
"""Of a radius that is chosen, from its first one that is not 0."""

LEAST_WORDS = 0.02
"""Similarity of words below which two pictures have nothing in common."""


class Candidates(NamedTuple):
    """Pairs of rows to be looked at, sorted by both; arrays of one length.

    Attributes:
        left: (n,) int64.
        right: (n,) int64.
    """

    left: Ints
    right: Ints


def least_words(words: Words, per_picture: float, seed: int = 0) -> float:
    """The similarity of words that gives so many candidates for each picture, on average.

    Measured on a sample of the pictures against all of them.
    """
    sample = _sample(len(words), seed)
    found = propose(words[sample], words, Vocabulary.load(), LEAST_WORDS)
    similar = np.sort(found.similarity[sample[found.left] != found.right])[::-1]
    wanted = int(per_picture * len(sample) * 2)  # a pair is a candidate of both its pictures
    return float(similar[wanted]) if wanted < len(similar) else LEAST_WORDS


def radius(vectors: Vectors, per_picture: float, seed: int = 0) -> float:
    """The distance that gives so many candidates for each picture, on average.

    Measured on a sample of the vectors, (n, d), against all of them; rounded up to ``FIGURES``
    figures, so that it is no pair's very distance.
    """
    sample = _sample(len(vectors), seed)
    asked = np.asarray(vectors[sample], np.float64)
    n_kept = min(len(vectors) - 1, int(8 * per_picture * 2) + 1)
    if n_kept < 1:
        return 0.0

    def near(start: int) -> Floats:
        block = asked[start : start + 64]
        squares = (
            (block**2).sum(axis=1)[:, None]
            - 2 * block @ np.asarray(vectors, np.float32).T
            + np.einsum("ij,ij->i", vectors, vectors)
        )
        squares[np.arange(len(block)), sample[start : start + 64]] = np.inf
        return np.asarray(np.partition(squares, n_kept - 1, axis=1)[:, :n_kept], np.float64)

    nearest = list(in_order(near, range(0, len(asked), 64)))  # a product's bits need one thread
    distances = np.sqrt(np.maximum(np.sort(np.concatenate(nearest).ravel()), 0))
    wanted = min(int(per_picture * len(sample) * 2), len(distances) - 1)
    return rounded_up(float(distances[wanted]), FIGURES)


def united(*parts: Candidates) -> Candidates:
    """The candidates of all parts, each once, the smaller row on the left."""
    left = np.concatenate([np.minimum(part.left, part.right) for part in parts])
    right = np.concatenate([np.maximum(part.left, part.right) for part in parts])
    pairs = np.unique(np.column_stack([left, right])[left != right], axis=0)
    return Candidates(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64))


def by_words(
    words: Words, asked: Ints | None, pool: Ints | None, least: float, max_pairs: int
) -> Candidates:
    """Pairs of pictures with words in common.

    Args:
        words: (n, N_KEYPOINTS), of every picture that may be compared.
        asked: rows that are compared with ``pool``; ``None`` for every two rows.
        pool: rows; ``None`` for all.
        least: similarity, more than 0.
        max_pairs: more pairs end the search with an error.
    """
    vocabulary = Vocabulary.load()
    if asked is None:
        found = propose(words, None, vocabulary, least, max_pairs)
        return Candidates(found.left, found.right)
    rows = np.arange(len(words)) if pool is None else pool
    found = propose(words[asked], words[rows], vocabulary, least, max_pairs)
    return united(Candidates(asked[found.left], rows[found.right]))


def look(
    candidates: Candidates,
    urls: npt.NDArray[np.object_],
    sight: Sight,
    verifier: LocalVerifier,
) -> list[Verdict]:
    """The verdict on each candidate.

    Which of two pictures is laid over the other follows from the rows: the left over the right.

    Args:
        candidates: rows of ``urls``, sorted.
        urls: an address of each picture.
        sight: gives the pictures.
        verifier: looks.
    """
    blocks = list(_blocks(candidates))
    kept: dict[int, Seen] = {}
    looks: list[list[Placement]] = []
    for block in track(blocks, "comparing candidates", console=console()):
        left, right = candidates.left[block], candidates.right[block]
        needed = np.unique(np.concatenate([left, right])).tolist()
        kept = {row: kept[row] for row in needed if row in kept}
        new = [row for row in needed if row not in kept]
        kept |= zip(new, _seen(new, urls, sight), strict=True)
        seen = kept

        def placed(pair: tuple[int, int], seen: dict[int, Seen] = seen) -> list[Placement]:
            return placements(seen[pair[0]], seen[pair[1]])

        looks += in_order(placed, zip(left.tolist(), right.tolist(), strict=True))
    return verifier.verdicts(looks)


def _seen(rows: Sequence[int], urls: npt.NDArray[np.object_], sight: Sight) -> Iterator[Seen]:
    return _looked_at(sight, [str(urls[row]) for row in rows])


def _looked_at(sight: Sight, urls: list[str]) -> Iterator[Seen]:
    pairs = zip(sight.details(urls), sight.masks(urls), strict=True)
    return in_order(lambda pair: Seen.of(*pair), pairs)


def _blocks(candidates: Candidates) -> Iterator[slice]:
    """Runs of candidates with no more pictures in them than are kept in memory."""
    start, rows = 0, set[int]()
    for place, pair in enumerate(zip(*candidates, strict=True)):
        if len(rows) > IN_MEMORY:
            yield slice(start, place)
            start, rows = place, set()
        rows |= {int(pair[0]), int(pair[1])}
    if start < len(candidates.left):
        yield slice(start, len(candidates.left))


def _sample(n: int, seed: int) -> Ints:
    chosen: Ints = np.sort(np.random.default_rng(seed).permutation(n)[:SAMPLE]).astype(np.int64)
    return chosen


class Copies(NamedTuple):
    """Copies of images that were asked about; arrays of one length, sorted by the first two.

    Attributes:
        left: the numbers of those asked about.
        right: the vectors of their copies.
        score: how sure, 0 to 1.
        evidence: what was seen, in words.
    """

    left: Ints
    right: Ints
    score: Floats
    evidence: npt.NDArray[np.object_]


class Look:
    """A second look at pictures that are asked about; made once for an index.

    Args:
        urls: (n,) an address of each vector's picture; of those that take part.
        vectors: (n,) the vectors' rows.
        sight: gives the pictures.
        verifier: looks.
        min_score: least score.
        variants: what colour variants are, see ``RadiusMatcher``.
    """

    def __init__(
        self,
        urls: Sequence[str],
        vectors: Ints,
        sight: Sight,
        verifier: LocalVerifier,
        min_score: float,
        variants: str = SEPARATE,
    ) -> None:
        self.vectors = vectors
        self.urls = dict(zip(vectors.tolist(), urls, strict=True))
        self.sight = sight
        self.verifier = verifier
        self.min_score = min_score
        self.variants = variants
        self.words = sight.words(list(urls))
        self.least = least_words(self.words, verifier.word_candidates)

    def __call__(self, seen: Sequence[Seen], near: Candidates) -> Copies:
        """Which of the index's pictures are copies of which that were asked about.

        Args:
            seen: those asked about.
            near: their numbers, and the vectors near them.
        """
        vocabulary = Vocabulary.load()
        words = np.stack([vocabulary.words(one.keypoints.descriptors) for one in seen])
        alike = propose(words, self.words, vocabulary, self.least)
        left = np.concatenate([near.left, alike.left])
        right = np.concatenate([near.right, self.vectors[alike.right]])
        pairs = np.unique(np.column_stack([left, right]), axis=0).astype(np.int64)
        images = list(_looked_at(self.sight, [self.urls[row] for row in pairs[:, 1].tolist()]))
        both = zip((seen[number] for number in pairs[:, 0].tolist()), images, strict=True)
        verdicts = self.verifier.verdicts(list(in_order(lambda pair: placements(*pair), both)))
        copies = np.array([it.score >= self.min_score for it in verdicts], bool)
        differs = np.array([it.relation == VARIANT for it in verdicts], bool)
        kept = np.flatnonzero(counted(copies, differs, self.variants))
        score = np.array([verdicts[at].score for at in kept], np.float64)
        evidence = np.array([verdicts[at].evidence for at in kept], object)
        return Copies(pairs[kept, 0], pairs[kept, 1], score, evidence)
