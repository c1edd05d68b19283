"""Pictures whose embeddings lie within a distance of each other, inside a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
BLOCK = 1024
SLACK = 1e-9
"""Error of the expanded distance in float64, relative to the squared norms, rounded up far."""


class RadiusMatcher:
    """All pairs of one cluster at most ``threshold`` apart.

    Args:
        threshold: L2 distance, lower is closer. 0 matches nothing here: distances of floats
            cannot tell equal pictures, digests can (``exact_pairs``).
    """

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def match(self, vectors: npt.NDArray[np.float32], clusters: Ints) -> tuple[Ints, Ints, Floats]:
        """Compare inside every cluster.

        Args:
            vectors: (n, d) embeddings.
            clusters: (n,) their clusters; -1 is compared with nobody.

        Returns:
            Rows i < j and the distance of each pair, three arrays of one length.
        """
        found: list[tuple[Ints, Ints, Floats]] = []
        if self.threshold > 0:
            for members in _members(clusters):
                found.extend(self._within(vectors, members))
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        left, right, distance = (np.concatenate(column) for column in zip(*found, strict=True))
        return np.minimum(left, right), np.maximum(left, right), distance

    def search(
        self,
        query: npt.NDArray[np.float32],
        cluster: int,
        vectors: npt.NDArray[np.float32],
        clusters: Ints,
    ) -> tuple[Ints, Floats]:
        """Compare one embedding, (d,), with those of its cluster.

        Returns:
            Rows of ``vectors`` within the threshold, and their distances.
        """
        members = np.flatnonzero(clusters == cluster)
        distance = l2_distance(vectors[members], query)
        near = (distance <= self.threshold) & (self.threshold > 0)
        return members[near], distance[near]

    def _within(
        self, vectors: npt.NDArray[np.float32], members: Ints
    ) -> Iterator[tuple[Ints, Ints, Floats]]:
        inside = vectors[members].astype(np.float64)
        norms = (inside**2).sum(axis=1)
        for start in range(0, len(inside), BLOCK):
            block, rest = inside[start : start + BLOCK], inside[start:]
            squared = norms[start : start + BLOCK, None] + norms[start:] - 2 * block @ rest.T
            limit = self.threshold**2 + SLACK * (norms.max() + 1)
            i, j = np.nonzero(np.triu(squared <= limit, k=1))
            # The expanded form only proposes: it is off by up to 0.1 on equal vectors.
            distance = l2_distance(block[i], rest[j])
            near = distance <= self.threshold
            yield members[start + i[near]], members[start + j[near]], distance[near]


def l2_distance(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Floats:
    """L2 distance of rows, (n, d) and (n, d) or (d,), by the direct difference in float64."""
    difference = a.astype(np.float64) - b.astype(np.float64)
    distance: Floats = np.sqrt((difference**2).sum(axis=-1))
    return distance


def _members(clusters: Ints) -> Iterator[Ints]:
    order = np.argsort(clusters, kind="stable")
    starts = np.flatnonzero(np.diff(clusters[order], prepend=np.int64(-1)))
    for members in np.split(order, starts):
        if len(members) > 1 and clusters[members[0]] >= 0:
            yield members
