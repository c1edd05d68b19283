"""Compare an index's images, and decide the pairs to report; runs without torch."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.blocks import Blocks
from dedup.detection.calibration import Calibration, calibrated, precision_of
from dedup.detection.candidates import MIN_WORDS, Candidates, by_words, radius, united
from dedup.detection.mixture import SURE_COPY, Strata, crowds, in_crowds
from dedup.detection.recalibration import Recalibration, of_pairs
from dedup.detection.verdicts import known_or_looked_at, verdict_derivation
from dedup.runtime.digits import rounded, rounded_up, score, share, units
from dedup.runtime.nouns import counted
from dedup.schemas import AUTO, NEAR
from dedup.search.index import Index
from dedup.search.radius import Matches, RadiusSearch, l2_distance, ordered
from dedup.search.state import SearchFacts, SearchState
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import DETAIL, VARIANT

log = logging.getLogger("dedup")

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]

FIGURES = 6
"""Number of significant digits of a threshold that is chosen by distance."""


@dataclass(frozen=True)
class Scope:
    """Scope of the comparisons.

    Attributes:
        clusters: (n_vectors,) of each vector in the pool, -1 for the others.
        queries: query vectors, compared with the pool; ``None`` for every two of the pool.
        n_all: number of pairs in the scope.
        before: pairs of an earlier search, schema ``NEAR``, with near embeddings or not.
        is_continued: whether all pairs of the pool count that are not of ``queries`` too.
        n_before: number of its comparisons, of images that are still there, at most.
        n_settled: number of pairs in the scope that it leaves no more to be compared.
    """

    clusters: Ints
    queries: Ints | None
    n_all: int
    before: pd.DataFrame
    n_before: int = 0
    n_settled: int = 0
    is_continued: bool = False


class Limits(NamedTuple):
    """Limits of candidates.

    Attributes:
        threshold: largest distance of near embeddings.
        words: least similarity of visual words of the nearest images; ``None`` where words make
            no candidates.
    """

    threshold: float
    words: float | None


@dataclass(frozen=True)
class Comparison:
    """Search of an index's images.

    Args:
        index: the index.
        images: rows of ``index.images``, without those left out.
        matcher: finds near embeddings.
        verifier: if given, verifies near images, and images with visual words in common.
        blocks: if given, limit comparisons to vectors of one block.
        block_by: the column of the blocks.
    """

    index: Index
    images: pd.DataFrame
    matcher: RadiusSearch
    verifier: GeometricVerifier | None
    blocks: Blocks | None = None
    block_by: str | None = None

    def search(self, since: SearchState | None, others: Collection[str] | None) -> SearchState:
        """Find images near each other, with scores where a verifier compares them.

        Args:
            since: an earlier search to continue.
            others: ids of products; only pairs of one of these and one of the rest are taken.
        """
        first = self.images.sort_values(["vector", "url"]).drop_duplicates("vector")
        rows, digests = first["vector"].to_numpy(), first["sha256_pixels"].to_numpy()
        names, urls = (np.full(len(self.index.vectors), "", object) for _ in range(2))
        names[rows], urls[rows] = digests, first["url"].to_numpy()
        scope = self._scope(rows, digests, since, others)
        limits = self._limits(rows, since)
        matcher = self.matcher.at(limits.threshold)
        matches, missed = self._near(matcher, scope, rows)
        near = self._looked_at(matches, scope, limits, first, urls, names)
        # Queries in the pool meet each other twice, and an image may be in two blocks.
        n_new = min(matches.comparisons, scope.n_all - scope.n_settled)
        n_comparisons = scope.n_before + n_new
        facts = SearchFacts(
            asked=self.matcher.threshold,
            threshold=limits.threshold,
            looked=self._judged is not None,
            words=limits.words,
            lossless=matcher.lossless,
            n_images=len(rows),
            n_comparisons=n_comparisons,
            n_pairs=scope.n_all,
            share=share(n_comparisons / max(scope.n_all, 1)),
            n_near_pairs=len(near),
            missed=missed,
            missed_share=share(missed / max(missed + len(near), 1)),
            checkpoint_sha256=self.index.manifest["checkpoint_sha256"],
            block_by=self.block_by,
            against=True if others is not None else None,
            verdicts=self.verdicts,
        )
        compared = pd.DataFrame({"sha256_pixels": np.sort(digests)})
        return SearchState(near.sort_values(NEAR.names[:2], ignore_index=True), compared, facts)

    @property
    def verdicts(self) -> str | None:
        """Digest of all that decides a verdict besides the images; ``None`` without verdicts."""
        if self._judged is None:
            return None
        reader, foreground = self.index.manifest["reader"], self.index.shows
        return verdict_derivation(self._judged, reader, foreground).digest

    @property
    def _judged(self) -> GeometricVerifier | None:
        """The verifier, or the default one where a threshold is to be chosen."""
        if self.verifier is None and self.matcher.threshold == AUTO:
            return GeometricVerifier()
        return self.verifier

    def _scope(
        self, rows: Ints, digests: Names, since: SearchState | None, others: Collection[str] | None
    ) -> Scope:
        clusters = clusters_of_vectors(self.images, len(self.index.vectors))
        none = pd.DataFrame(columns=NEAR.names)
        if others is not None:
            is_other = self.images["product_id"].isin(list(others))
            queries = np.sort(self.images.loc[is_other, "vector"].unique())
            pool = self.images.loc[~is_other, "vector"].unique()
            clusters[np.setdiff1d(rows, pool)] = -1
            return Scope(clusters, queries, self._n_pairs(clusters, queries, rows), none)
        n_all = self._n_pairs(clusters, None, rows)
        # A product's cell may have changed since: all is searched again, and verdicts are kept.
        if since is None or self.blocks is not None:
            return Scope(clusters, None, n_all, none)
        was_compared = np.isin(digests, since.compared["sha256_pixels"])
        n = counted(len(rows), "image")
        log.info("compared before: %d of %s", was_compared.sum(), n)
        before = since.near
        if self._judged is None:
            before = before[before["distance"] <= self.matcher.threshold]
        old = digests[was_compared]
        before = before[before["pixels_a"].isin(old) & before["pixels_b"].isin(old)]
        n_settled = len(old) * (len(old) - 1) // 2
        n_before = min(since.facts.n_comparisons, n_settled)  # other images may be gone since
        new = rows[~was_compared]
        return Scope(clusters, new, n_all, before, n_before, n_settled, is_continued=True)

    def _limits(self, rows: Ints, since: SearchState | None) -> Limits:
        """Choose the limits of candidates, or take those of an earlier search."""
        setting, words = self.matcher.threshold, None if self.verifier is None else MIN_WORDS
        if since is not None:
            threshold = since.facts.threshold if isinstance(setting, str) else setting
            return Limits(threshold, words)
        blocks = None if self.blocks is None else self.blocks.at(rows)
        if isinstance(setting, str):
            n_near = (self._judged or GeometricVerifier()).near_candidates
            threshold = radius(self.index.vectors[rows], n_near, blocks=blocks)
            log.info("candidates lie within %.4g of each other", threshold)
        else:
            threshold = setting
        return Limits(threshold, words)

    def _n_pairs(self, clusters: Ints, queries: Ints | None, rows: Ints) -> int:
        """Count the pairs of images in a scope."""
        sizes = (
            (None if some is None else len(some), int((clusters[pool] >= 0).sum()))
            for some, pool in self._tasks(queries, rows)
        )
        return sum(n * (n - 1) // 2 if some is None else some * n for some, n in sizes)

    def _tasks(self, queries: Ints | None, rows: Ints) -> Iterator[tuple[Ints | None, Ints]]:
        """Yield queries and pools of comparisons, see ``Blocks.tasks``."""
        return iter([(queries, rows)]) if self.blocks is None else self.blocks.tasks(rows, queries)

    def _near(self, matcher: RadiusSearch, scope: Scope, rows: Ints) -> tuple[Matches, float]:
        """Find vectors within the threshold, and estimate the number of missed pairs."""
        if self.blocks is None:
            return _search(matcher, self.index, scope.clusters, scope.queries)
        parts, missed = [Matches(*(np.empty(0, np.int64),) * 2, np.empty(0), 0)], 0.0
        for queries, pool in self._tasks(scope.queries, rows):
            members = pool[scope.clusters[pool] >= 0]
            n_queries = len(members) - 1 if queries is None else len(queries)
            if not len(members) or n_queries < 1:
                continue
            part, lost = _search(matcher, self.index, scope.clusters, queries, members)
            parts.append(part)
            missed += lost
        left, right, distance = (
            np.concatenate([part[column] for part in parts]) for column in range(3)
        )
        comparisons = sum(part.comparisons for part in parts)
        return ordered(Matches(left, right, distance, comparisons)), missed

    def _looked_at(
        self,
        matches: Matches,
        scope: Scope,
        limits: Limits,
        first: pd.DataFrame,
        urls: Names,
        names: Names,
    ) -> pd.DataFrame:
        """Make a table of near pairs; with a verifier, of every candidate with its score."""
        verifier, rows = self._judged, first["vector"].to_numpy()
        if verifier is None:
            found = _named(matches.left, matches.right, matches.distance, names)
            return _joined(scope.before, found)
        candidates, before = Candidates(matches.left, matches.right), scope.before
        if self.verifier is not None:
            alike = self._by_words(scope, self.verifier.word_candidates, rows, urls, names)
            candidates = united(candidates, alike)
            before = _still_near(before, limits.threshold, alike, names)
        candidates = _without(candidates, before, names)
        # By digest, so that a verdict does not depend on an image's place in the index.
        swap = names[candidates.left] > names[candidates.right]
        left = np.where(swap, candidates.right, candidates.left)
        right = np.where(swap, candidates.left, candidates.right)
        log.info("%s for %s", counted(len(left), "candidate"), counted(len(rows), "image"))
        files = np.full(len(self.index.vectors), "", object)
        files[rows] = (first["sha256_bytes"] + first["sha256_pixels"]).to_numpy(object)
        reader, foreground = self.index.manifest["reader"], self.index.shows
        derivation = verdict_derivation(verifier, reader, foreground)
        distances = self._distances(left, right)
        verdicts = known_or_looked_at(
            Candidates(left, right), derivation, files, urls, self.index.sight, verifier,
            distances <= limits.threshold,
        )  # fmt: skip
        near = _named(left, right, distances, names)
        near = near.assign(**{name: verdicts[name].to_numpy() for name in verdicts.columns})
        return _joined(before, near)

    def _by_words(
        self, scope: Scope, per_image: float, rows: Ints, urls: Names, names: Names
    ) -> Candidates:
        """Find candidates by words: of all images, as a new image may be nearer than an old one."""
        rows = rows[np.argsort(names[rows])]  # by digest, whatever the order of the catalogue
        words = self.index.sight.words(list(urls[rows]))
        place = np.full(len(self.index.vectors), -1, np.int64)
        place[rows] = np.arange(len(rows))
        parts = []
        some = None if scope.is_continued else scope.queries
        for queries, members in self._tasks(some, np.sort(rows)):
            pool = np.sort(place[members[scope.clusters[members] >= 0]])
            asked = None if queries is None else np.sort(place[queries])
            matches = by_words(words, asked, pool, per_image)
            parts.append(Candidates(rows[matches.left], rows[matches.right]))
        return united(*parts)

    def _distances(self, left: Ints, right: Ints) -> Floats:
        vectors, parts = self.index.vectors, [np.empty(0)]
        for at in range(0, len(left), 4096):
            parts.append(l2_distance(vectors[left[at : at + 4096]], vectors[right[at : at + 4096]]))
        return np.concatenate(parts)


def _joined(before: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Join two tables of pairs; the columns of an empty one have no types."""
    parts = [part for part in (before, found) if len(part)]
    return pd.concat(parts) if parts else found


def _pairs(left: Names, right: Names) -> pd.MultiIndex:
    """Name pairs of images by their digests, the smaller one first."""
    swap = left > right
    return pd.MultiIndex.from_arrays([np.where(swap, right, left), np.where(swap, left, right)])


def _still_near(
    before: pd.DataFrame, threshold: float, by_words: Candidates, names: Names
) -> pd.DataFrame:
    """Keep the pairs of an earlier search that this one would compare too."""
    ends = [before[name].to_numpy(object) for name in NEAR.names[:2]]
    is_near = _pairs(*ends).isin(_pairs(names[by_words.left], names[by_words.right]))
    return before[is_near | (before["distance"] <= threshold).to_numpy()]


def _without(candidates: Candidates, before: pd.DataFrame, names: Names) -> Candidates:
    """Leave out the candidates that an earlier search compared."""
    if not len(before):
        return candidates
    ends = [before[name].to_numpy(object) for name in NEAR.names[:2]]
    pairs = _pairs(names[candidates.left], names[candidates.right])
    is_new = ~pairs.isin(_pairs(*ends))
    return Candidates(candidates.left[is_new], candidates.right[is_new])


def _search(
    matcher: RadiusSearch,
    index: Index,
    clusters: Ints,
    queries: Ints | None,
    members: Ints | None = None,
) -> tuple[Matches, float]:
    """Find vectors near each other, or near queries, and estimate the number of missed pairs.

    Args:
        matcher: at a threshold that is a number.
        index: with the vectors.
        clusters: (n_vectors,) of each vector in the pool, -1 for the others.
        queries: query vectors; ``None`` for every two of the pool.
        members: the pool; ``None`` for all vectors with a cluster.
    """
    vectors, centroids = index.vectors, index.centroids
    if members is not None:
        used, clusters = np.unique(clusters[members], return_inverse=True)
        vectors, centroids = vectors[members], centroids[used]
    prepared = matcher.prepare(vectors, clusters, centroids)
    if queries is None:
        matches = prepared.pairs()
        missed = 0.0 if matcher.lossless else prepared.missed(matches)
    else:
        matches, missed = prepared.search(index.vectors[queries]), 0.0
        matches = matches._replace(left=queries[matches.left])
    if members is not None:
        right = members[matches.right]
        matches = matches._replace(left=members[matches.left] if queries is None else matches.left)
        matches = matches._replace(right=right)
    return (matches if queries is None else ordered(matches)), missed


def decided(
    search: SearchState,
    matcher: RadiusSearch,
    verifier: GeometricVerifier | None,
    recalibration: Recalibration | None = None,
    category: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, Calibration | None]:
    """Decide the pairs to report by given thresholds, or by one chosen for the asked precision.

    Args:
        search: the comparisons.
        matcher: its settings.
        verifier: its settings; ``None`` without one.
        recalibration: what people's decisions make of the scores; ``None`` without.
        category: of each image by digest, for the recalibration.

    Returns:
        The pairs of ``search.near`` with their scores in this catalogue and the column
        ``reported``; and the calibration, ``None`` where numbers were given.
    """
    near, auto = search.near, AUTO in (matcher.threshold, getattr(verifier, "min_score", None))
    if not search.facts.looked:
        return near.assign(reported=True), None
    judge = (verifier or GeometricVerifier()).judge
    scores = near["score"].to_numpy(np.float64)
    with np.errstate(divide="ignore"):
        log_odds = np.log(scores) - np.log1p(-scores)
    is_relative = near["relation"].isin([VARIANT, DETAIL]).to_numpy() & (log_odds < SURE_COPY)
    left, right = (near[end] for end in NEAR.names[:2])
    crowded = in_crowds(left, right, is_relative)
    strata = Strata.fit(log_odds, crowded, judge.copies, judge.strangers, judge.look_alikes)
    strata = replace(strata, recalibration=recalibration)
    categories = None if category is None else of_pairs(category, left.tolist(), right.tolist())
    posterior = strata.posterior(log_odds, crowded, categories)
    in_catalogue = score(posterior.expected)
    if verifier is None:
        threshold = _farthest(near["distance"].to_numpy(), in_catalogue, matcher.precision)
        reported = near["distance"].to_numpy() <= threshold
        precision = precision_of(posterior.of(reported))
        setting = "matcher.threshold"
    elif verifier.min_score != AUTO:
        return near.assign(reported=scores >= float(verifier.min_score)), None
    else:
        chosen = calibrated(posterior, matcher.precision)
        threshold, precision = chosen.min_score, chosen.precision
        reported, setting = in_catalogue >= threshold, "verifier.min_score"
    value, low, high = map(share, precision)
    calibration = Calibration(
        setting=setting,
        threshold=threshold,
        higher_is_surer=verifier is not None,
        precision=matcher.precision,
        expected_precision=(value, low, high) if reported.any() else None,
        interval=0.95,
        n_pairs=len(near),
        recalibration=recalibration,
        strata=strata,
        crowds=crowds(left, right, is_relative),
    )
    return near.assign(score=in_catalogue, reported=reported), calibration if auto else None


def meant(near: pd.DataFrame, index: Index) -> Floats:
    """Round the distances of near pairs, schema ``NEAR``, to meaningful digits; see ``digits``."""
    named = pd.unique(near[NEAR.names[:2]].to_numpy(object).ravel())
    shown = index.images[index.images["vector"] >= 0].drop_duplicates("vector")
    shown = shown[shown["sha256_pixels"].isin(named)]
    unit = pd.Series(units(index.vectors[shown["vector"]]), index=shown["sha256_pixels"])
    ends = [near[end].map(unit).to_numpy(np.float64) for end in NEAR.names[:2]]
    return rounded(near["distance"].to_numpy(np.float64), np.maximum(*ends))


def _farthest(distance: npt.NDArray[Any], scores: npt.NDArray[Any], precision: float) -> float:
    """Choose the largest distance at which the expected precision is the asked one."""
    order = np.argsort(distance, kind="stable")
    means = np.cumsum(scores[order]) / np.arange(1, len(order) + 1)
    last = np.append(np.diff(distance[order]) > 0, True) if len(order) else np.empty(0, bool)
    good = np.flatnonzero((means >= precision) & last)
    if not len(good):
        return 0.0
    return rounded_up(float(distance[order[good[-1]]]), FIGURES)


def clusters_of_vectors(images: pd.DataFrame, n_vectors: int) -> Ints:
    """Return the cluster of each vector, (n_vectors,); -1 where no image of the index has it."""
    clusters = np.full(n_vectors, -1, np.int64)
    shown = images[images["vector"] >= 0]
    clusters[shown["vector"]] = shown["cluster"]
    return clusters


def _named(left: Ints, right: Ints, distance: npt.NDArray[Any], names: Names) -> pd.DataFrame:
    """Name pairs of vectors by their images' digests, the smaller digest first."""
    a, b = names[left], names[right]
    swap = a > b
    ends = {"pixels_a": np.where(swap, b, a), "pixels_b": np.where(swap, a, b)}
    unseen = {"score": np.nan, "evidence": "", "relation": "", "alike": np.nan, "copy_of": 0.0}
    table = {**ends, "distance": distance, **unseen}
    return pd.DataFrame(table, columns=NEAR.names)
