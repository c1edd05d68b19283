"""Group products under people's decisions: some are one product, and some are surely not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.review.standing import Links

Ints = npt.NDArray[np.int64]
Edge = tuple[int, float, int, int]
"""Rank of the tier, distance, and two nodes: smaller is surer."""


class Nodes(NamedTuple):
    """Products joined to nodes by decisions.

    Attributes:
        of_product: node of each product.
        members: products of each node.
        head: the product that each node would keep.
        place: rank of each node by the rules; 0 is kept before all others.
        apart: for each node the nodes that it is surely not.
    """

    of_product: Sequence[int]
    members: Sequence[Sequence[int]]
    head: Sequence[int]
    place: Sequence[int]
    apart: Mapping[int, set[int]]

    @classmethod
    def of(cls, ids: Sequence[str], place: Ints, links: Links) -> Nodes:
        """Join products.

        Args:
            ids: the products.
            place: (n,) their ranks by the rules.
            links: decisions, also on products that are not in ``ids``.
        """
        code = {key: number for number, key in enumerate(ids)}
        for key in (key for pair in links.same for key in pair):
            code.setdefault(key, len(code))
        union = Union(len(code))
        for one, other in links.same:
            union.join(code[one], code[other])
        inside: dict[int, list[int]] = defaultdict(list)
        for number in range(len(ids)):
            inside[union.root(number)].append(number)
        roots = list(inside)
        node = {root: number for number, root in enumerate(roots)}
        of_product = [node[union.root(number)] for number in range(len(ids))]
        members = [inside[root] for root in roots]
        chosen: dict[int, int] = {}
        for key in links.kept:
            if code.get(key, len(ids)) < len(ids):
                chosen.setdefault(of_product[code[key]], code[key])
        head = [
            chosen.get(number, min(some, key=lambda one: place[one]))
            for number, some in enumerate(members)
        ]
        apart: dict[int, set[int]] = defaultdict(set)
        for one, other in links.apart:
            roots_of = [union.root(code[key]) for key in (one, other) if key in code]
            if len(roots_of) == 2 and {*roots_of} <= node.keys():
                left, right = (node[root] for root in roots_of)
                if left != right:
                    apart[left].add(right)
                    apart[right].add(left)
        best = [min(int(place[one]) for one in some) for some in members]
        return cls(of_product, members, head, best, apart)


def grouped(
    left: Ints,
    right: Ints,
    rank: Ints,
    distance: npt.NDArray[np.float64],
    nodes: Nodes,
    linkage: str,
) -> tuple[Ints, Ints]:
    """Group products; the arguments are those of ``grouping``, and nodes stay whole.

    Without links the groups are those of ``grouping``.

    Returns:
        Members and the kept product of each, two arrays of one length.
    """
    edges: dict[tuple[int, int], Edge] = {}
    of = nodes.of_product
    for a, b, r, d in zip(
        left.tolist(), right.tolist(), rank.tolist(), distance.tolist(), strict=True
    ):
        one, other = sorted((of[a], of[b]))
        if one != other and other not in nodes.apart.get(one, ()):
            edge = (r, d, one, other)
            edges[one, other] = min(edges.get((one, other), edge), edge)
    join = _join_any if linkage == "single" else _join_kept
    home = join(list(edges.values()), nodes)
    for number, some in enumerate(nodes.members):
        if len(some) > 1:
            home.setdefault(number, number)
    rows = [
        (member, nodes.head[kept]) for node, kept in home.items() for member in nodes.members[node]
    ]
    table = np.array(rows, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _join_any(edges: Sequence[Edge], nodes: Nodes) -> dict[int, int]:
    """Join nodes by edges, the surest first, unless that joins two that are apart."""
    union = Union(len(nodes.members))
    inside = {number: {number} for number in range(len(nodes.members))}
    for _, _, one, other in sorted(edges):
        roots = union.root(one), union.root(other)
        if roots[0] == roots[1] or _are_apart(inside[roots[0]], inside[roots[1]], nodes):
            continue
        both = inside.pop(roots[0]) | inside.pop(roots[1])
        inside[union.join(*roots)] = both
    home: dict[int, int] = {}
    for some in inside.values():
        if len(some) > 1:
            kept = min(some, key=lambda node: nodes.place[node])
            home |= dict.fromkeys(some, kept)
    return home


def _join_kept(edges: Sequence[Edge], nodes: Nodes) -> dict[int, int]:
    """Join each node with the closest kept node that it has an edge with."""
    partners: dict[int, list[tuple[int, float, int]]] = defaultdict(list)
    for rank, distance, one, other in edges:
        partners[one].append((rank, distance, other))
        partners[other].append((rank, distance, one))
    kept: set[int] = set()
    for node in sorted(partners, key=lambda node: nodes.place[node]):
        if not any(other in kept for _, _, other in partners[node]):
            kept.add(node)
    wishes = sorted(
        (rank, distance, nodes.place[other], nodes.place[node], node, other)
        for node in partners.keys() - kept
        for rank, distance, other in partners[node]
        if other in kept
    )
    home: dict[int, int] = {}
    inside = {node: {node} for node in kept}
    for *_, node, other in wishes:
        if node not in home and not _are_apart({node}, inside[other], nodes):
            home[node] = other
            inside[other].add(node)
    return home | {other: other for other in set(home.values())}


def _are_apart(left: Iterable[int], right: set[int], nodes: Nodes) -> bool:
    return any(nodes.apart.get(one, set()) & right for one in left)


class Union:
    """Sets of numbers that are joined (union-find).

    Args:
        n: the numbers 0 to n - 1, each a set of its own.
    """

    def __init__(self, n: int) -> None:
        self._above = list(range(n))

    def root(self, one: int) -> int:
        """Return the number that stands for the set of another."""
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def join(self, one: int, other: int) -> int:
        """Join two sets; return what stands for both."""
        low, high = sorted((self.root(one), self.root(other)))
        self._above[high] = low
        return low
