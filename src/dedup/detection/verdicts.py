"""Verify candidates for copies, and keep the verdicts; without a third look, without torch.

``known_or_looked_at`` serves the pairs of a catalogue, and ``Look`` the images of a query.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from dedup.detection.candidates import Candidates, Floats, Ints, min_words
from dedup.runtime.digits import SUREST, score
from dedup.runtime.parallel import in_order
from dedup.runtime.progress import counting
from dedup.schemas import RELATIONS
from dedup.search.image_access import ImageAccess
from dedup.store.derived import Derivation, DerivedRows
from dedup.verification.alignment import LocalFeatures
from dedup.verification.direction import told
from dedup.verification.geometric import (
    AlignedPair,
    GeometricVerifier,
    Verdict,
    directed_verdicts,
    placements,
)
from dedup.verification.keypoints import keypoint_settings
from dedup.verification.relations import MERGE, MERGED, NOTHING, SEPARATE, VARIANT, counted
from dedup.verification.visual_words import Vocabulary, propose

log = logging.getLogger("dedup")

Bools = npt.NDArray[np.bool_]

IN_MEMORY = 2000
"""Maximum number of images in memory with their keypoints, some 0.3 MB each."""

KEPT = 512
"""Maximum number of images that later queries find in memory: some 150 MB."""

STEP = 128
"""Number of candidates verified at a time: about a second of work on 2 cores."""

VERSION = 9
"""Version of verdicts: raised when the same two images get another one."""

THIRD = "third look"
"""Part of the key of a verdict that had, or could have had, a third look."""

MAX_EVIDENCE = 500
"""Maximum length of evidence; the verifier's texts are far shorter."""

VERDICTS = pa.schema(
    [
        ("key", pa.string()),  # see ``verdict_keys``
        ("score", pa.float64()),  # this and the others as in ``schemas.NEAR``
        ("evidence", pa.string()),
        ("relation", pa.string()),
        ("alike", pa.float64()),
        ("copy_of", pa.float64()),
    ]
)
"""Schema of verdicts that are kept for later runs, see ``dedup.store.derived``."""


def look(
    candidates: Candidates,
    urls: npt.NDArray[np.object_],
    sight: ImageAccess,
    verifier: GeometricVerifier,
    near: Bools,
) -> Iterator[list[Verdict]]:
    """Verify each candidate, and yield the verdicts in order, ``STEP`` at a time.

    The left image is laid over the right one.

    Args:
        candidates: rows of ``urls``, sorted.
        urls: an address of each image.
        sight: gives the images.
        verifier: compares them.
        near: of each candidate, whether it may get a third look.
    """
    kept: dict[int, LocalFeatures] = {}
    with counting("comparing candidates", len(candidates.left), "pairs") as count:
        for block in _blocks(candidates):
            is_near = near[block]
            pairs = list(zip(candidates.left[block], candidates.right[block], strict=True))
            needed = {row for pair in pairs for row in pair}
            kept = {row: features for row, features in kept.items() if row in needed}
            for start in range(0, len(pairs), STEP):
                step, looks = pairs[start : start + STEP], []
                new = sorted({row for pair in step for row in pair} - kept.keys())
                kept |= zip(new, _seen(new, urls, sight), strict=True)
                for placed in in_order(_placer(kept), step):
                    looks.append(placed)
                    count()
                ends = [(kept[left], kept[right]) for left, right in step]
                verdicts = directed_verdicts(ends, verifier.verdicts(looks))
                again = np.flatnonzero(is_near[start : start + STEP]).tolist()
                third = verifier.look_again(
                    [ends[at] for at in again], [verdicts[at] for at in again]
                )
                for at, verdict in zip(again, third, strict=True):
                    verdicts[at] = verdict
                yield verdicts


def known_or_looked_at(
    candidates: Candidates,
    derivation: Derivation,
    digests: npt.NDArray[np.object_],
    urls: npt.NDArray[np.object_],
    sight: ImageAccess,
    verifier: GeometricVerifier,
    near: Bools,
) -> pd.DataFrame:
    """Verify candidates, or read their verdicts where an earlier run kept them.

    Args:
        candidates: rows of ``urls``, sorted.
        derivation: names the verdicts, see ``verdict_derivation``.
        digests: of each image, as it was read and as it is stored.
        urls: an address of each image.
        sight: gives the images, and the folder for verdicts.
        verifier: compares them.
        near: of each candidate, whether its embeddings are near, so that it may get a third look.

    Returns:
        The columns of ``VERDICTS`` but the key, a row for each candidate.
    """
    near = near & (verifier.third is not None)
    keys = verdict_keys(candidates, digests, derivation, near)
    folder = None if sight.derived is None else sight.derived / derivation.name
    with DerivedRows(folder, VERDICTS, _are_verdicts) as kept:
        known = kept.find(keys)
        is_new = ~pd.Index(keys).isin(known.index)
        if len(known):
            log.info("%d of %d candidates were compared before", (~is_new).sum(), len(keys))
        new = np.flatnonzero(is_new)
        chosen, rows = Candidates(candidates.left[new], candidates.right[new]), list[_Row]()
        for verdicts in look(chosen, urls, sight, verifier, near[new]):
            places = new[len(rows) :][: len(verdicts)].tolist()
            pairs = zip(places, verdicts, strict=True)
            some = [_row(keys[place], verdict) for place, verdict in pairs]
            kept.add(some)
            rows += some
    computed = pd.DataFrame(rows, columns=VERDICTS.names).set_index("key")
    parts = [part for part in (known, computed) if len(part)] or [computed]
    return pd.concat(parts).loc[list(keys)].reset_index(drop=True)


_Row = tuple[str, float, str, str, float, float]


def _row(key: str, verdict: Verdict) -> _Row:
    """Write a verdict in the columns of ``VERDICTS``."""
    alike = float(score(verdict.alike))
    return key, verdict.score, verdict.evidence, verdict.relation, alike, verdict.copy_of


def verdict_keys(
    candidates: Candidates,
    digests: npt.NDArray[np.object_],
    derivation: Derivation,
    near: Bools,
) -> list[str]:
    """Compute the key of each candidate's verdict.

    Args:
        candidates: rows of ``digests``.
        digests: of each image, as it was read and as it is stored.
        derivation: see ``verdict_derivation``.
        near: of each candidate, whether it may get a third look: another verdict then.
    """
    pairs = zip(digests[candidates.left], digests[candidates.right], near, strict=True)
    return [
        derivation.key(*pair, THIRD) if again else derivation.key(*pair) for *pair, again in pairs
    ]


def verdict_derivation(verifier: GeometricVerifier, reader: str, foreground: str) -> Derivation:
    """Name verdicts by all that decides them besides the images.

    Args:
        verifier: compares them.
        reader: resizes the images.
        foreground: digest of how their products are found, "" where they are not.
    """
    classifier, digest = verifier.judge, hashlib.sha256()
    for trees in (classifier.copy, classifier.variant):
        for array in (trees.feature, trees.threshold, trees.left, trees.right, trees.value):
            digest.update(np.ascontiguousarray(array).tobytes())
    settings = {
        "verifier": f"{type(verifier).__module__}.{type(verifier).__qualname__}",
        "classifier": [digest.hexdigest(), classifier.copy.base, classifier.variant.base],
        "keypoints": keypoint_settings(),
        "opencv": cv2.__version__,
        "reader": reader,
        "foreground": foreground,
    }
    if verifier.third is not None:  # left out without, so that earlier verdicts stay known
        settings["third_look"] = verifier.third.identity
    return Derivation("verdicts", VERSION, settings)


def _are_verdicts(rows: pd.DataFrame) -> bool:
    """Tell whether a run can have computed rows of ``VERDICTS``."""
    right, alike = rows["score"].to_numpy(), rows["alike"].to_numpy()
    return bool(
        ((right >= 0) & (right <= SUREST)).all()
        and (np.isnan(alike) | ((alike >= 0) & (alike <= SUREST))).all()
        and (rows["copy_of"].abs() <= 1).all()
        and rows["relation"].isin([NOTHING, *RELATIONS]).all()
        and (rows["evidence"].str.len() <= MAX_EVIDENCE).all()
    )


def _placer(seen: dict[int, LocalFeatures]) -> Callable[[tuple[int, int]], list[AlignedPair]]:
    return lambda pair: placements(seen[pair[0]], seen[pair[1]], plausible=True)


def _seen(
    rows: Sequence[int], urls: npt.NDArray[np.object_], sight: ImageAccess
) -> Iterator[LocalFeatures]:
    return _looked_at(sight, [str(urls[row]) for row in rows])


def _looked_at(sight: ImageAccess, urls: list[str]) -> Iterator[LocalFeatures]:
    images = zip(sight.details(urls), sight.masks(urls), sight.keypoints(urls), strict=True)
    return in_order(lambda image: LocalFeatures.of(*image), images)


def _blocks(candidates: Candidates) -> Iterator[slice]:
    """Yield runs of candidates with no more images than fit in memory."""
    start, rows = 0, set[int]()
    for place, pair in enumerate(zip(*candidates, strict=True)):
        if len(rows) > IN_MEMORY:
            yield slice(start, place)
            start, rows = place, set()
        rows |= {int(pair[0]), int(pair[1])}
    if start < len(candidates.left):
        yield slice(start, len(candidates.left))


class Copies(NamedTuple):
    """Copies of query images; arrays of one length, sorted by the first two.

    Attributes:
        left: numbers of the queries.
        right: vectors of their copies.
        score: probability of a copy, 0 to 1.
        evidence: the verifier's evidence, in words.
    """

    left: Ints
    right: Ints
    score: Floats
    evidence: npt.NDArray[np.object_]


def _of_query(verdict: Verdict) -> str:
    """Write the evidence of a query, the left image, and a product's image."""
    return told(verdict.copy_of, "the query", "the product's image", verdict.evidence)


class Look:
    """Verifies query images against an index; made once for an index.

    Later queries find the images that were compared last in memory. Several threads may ask.

    Args:
        urls: (n,) an address of each vector's image, without those left out.
        vectors: (n,) rows of the vectors.
        sight: gives the images.
        verifier: compares them.
        min_score: least score of a copy.
        variants: treatment of colour variants, see ``RadiusSearch``.
    """

    def __init__(
        self,
        urls: Sequence[str],
        vectors: Ints,
        sight: ImageAccess,
        verifier: GeometricVerifier,
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
        self.least = min_words(self.words, verifier.word_candidates)
        self._kept: dict[int, LocalFeatures] = {}
        self._lock = Lock()

    def __call__(self, seen: Sequence[LocalFeatures], near: Candidates) -> Copies:
        """Find the index's copies of query images.

        Args:
            seen: local features of the queries.
            near: numbers of the queries, and the vectors near them.
        """
        vocabulary = Vocabulary.load()
        words = np.stack([vocabulary.words(query.keypoints.descriptors) for query in seen])
        proposed = propose(words, self.words, vocabulary, self.least)
        left = np.concatenate([near.left, proposed.left])
        right = np.concatenate([near.right, self.vectors[proposed.right]])
        pairs = np.unique(np.column_stack([left, right]), axis=0).astype(np.int64)
        images = self._seen(np.unique(pairs[:, 1]).tolist())
        both = [(seen[number], images[row]) for number, row in pairs.tolist()]
        aligned = in_order(lambda pair: placements(*pair, plausible=True), both)
        verdicts = directed_verdicts(both, self.verifier.verdicts(list(aligned)))
        is_copy = np.array([verdict.score >= self.min_score for verdict in verdicts], bool)
        is_variant = np.array([verdict.relation == VARIANT for verdict in verdicts], bool)
        alike = score(np.array([verdict.alike for verdict in verdicts], np.float64))
        kept = np.flatnonzero(counted(is_copy, is_variant, alike >= MERGED, self.variants))
        scores = np.array([verdict.score for verdict in verdicts], np.float64)
        if self.variants == MERGE:
            scores = np.where(is_variant, alike, scores)
        evidence = np.array([_of_query(verdicts[row]) for row in kept], object)
        return Copies(pairs[kept, 0], pairs[kept, 1], scores[kept], evidence)

    def _seen(self, rows: Sequence[int]) -> dict[int, LocalFeatures]:
        """Return the local features of vectors' images, each computed once or found in memory."""
        with self._lock:
            found = {row: self._kept[row] for row in rows if row in self._kept}
        new = [row for row in rows if row not in found]
        computed = _looked_at(self.sight, [self.urls[row] for row in new])
        found |= zip(new, computed, strict=True)
        with self._lock:
            for row, features in found.items():  # those of this query become the newest
                self._kept.pop(row, None)
                self._kept[row] = features
            for row in list(self._kept)[: max(len(self._kept) - KEPT, 0)]:
                del self._kept[row]
        return found
