"""Match the groups of two runs by the products that they share."""

from __future__ import annotations

from collections import Counter, defaultdict

import pandas as pd

from dedup.schemas import GROUP_CHANGES

GROUP_KINDS = ("new", "gone", "grown", "shrunk", "split", "merged", "kept_changed")
"""Ways in which a group differs from that of an earlier run."""


def group_changes(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Match groups by the largest number of shared products, and say how they changed.

    Each group is matched once at most. A group of the new run without a match that shares products
    with an old group is a part of it (``split``); likewise an old one without a match was
    ``merged`` into a new one.

    Args:
        old: schema ``GROUPS``.
        new: schema ``GROUPS``.

    Returns:
        Schema ``GROUP_CHANGES``: groups that differ.
    """
    sides = [_Side(table) for table in (old, new)]
    shared = _shared(*sides)
    partners = _matched(shared)
    to_new: dict[str, list[str]] = defaultdict(list)
    to_old: dict[str, list[str]] = defaultdict(list)
    for before, after in sorted(shared):
        to_new[before].append(after)
        to_old[after].append(before)
    rows = []
    for before, after in partners.items():
        kinds = _kinds(before, after, sides, shared[before, after])
        kinds += ["split"] * (len(to_new[before]) > 1) + ["merged"] * (len(to_old[after]) > 1)
        rows.append((before, after, kinds))
    taken = set(partners.values())
    rows += [
        (_largest(to_old[after], after, shared, 0), after, ["split"] if to_old[after] else ["new"])
        for after in sides[1].size if after not in taken
    ]  # fmt: skip
    rows += [
        (before, _largest(to_new[before], before, shared, 1),
         ["merged"] if to_new[before] else ["gone"])
        for before in sides[0].size if before not in partners
    ]  # fmt: skip
    return _table(rows, sides, shared)


class _Side:
    """The groups of one run, with their sizes and kept products."""

    def __init__(self, groups: pd.DataFrame) -> None:
        self.groups = groups
        self.size = dict(sorted(Counter(groups["group_id"].tolist()).items()))
        kept = groups[groups["kept"].astype(bool)]
        self.kept = dict(zip(kept["group_id"], kept["product_id"], strict=True))


def _shared(old: _Side, new: _Side) -> dict[tuple[str, str], int]:
    """Count the shared products of each old and new group that share any."""
    both = old.groups.merge(new.groups, on="product_id", suffixes=("_old", "_new"))
    return Counter(zip(both["group_id_old"], both["group_id_new"], strict=True))


def _matched(shared: dict[tuple[str, str], int]) -> dict[str, str]:
    """Match old groups with new ones, the most shared products first; ids decide a draw."""
    matched: dict[str, str] = {}
    taken: set[str] = set()
    # Sorted pairs of ids: the same matches when the two runs change places.
    for before, after in sorted(shared, key=lambda each: (-shared[each], sorted(each))):
        if before not in matched and after not in taken:
            matched[before] = after
            taken.add(after)
    return matched


def _kinds(before: str, after: str, sides: list[_Side], n_shared: int) -> list[str]:
    old, new = sides
    kinds = ["grown"] * (new.size[after] > n_shared) + ["shrunk"] * (old.size[before] > n_shared)
    return kinds + ["kept_changed"] * (old.kept[before] != new.kept[after])


def _largest(others: list[str], own: str, shared: dict[tuple[str, str], int], place: int) -> str:
    """Name the group that shares most products with a group; "" if none does."""
    key = (lambda each: (each, own)) if place == 0 else (lambda each: (own, each))
    return min(others, key=lambda each: (-shared[key(each)], each), default="")


def _table(
    rows: list[tuple[str, str, list[str]]],
    sides: list[_Side],
    shared: dict[tuple[str, str], int],
) -> pd.DataFrame:
    old, new = sides
    records = [
        (
            before, after, " ".join(kind for kind in GROUP_KINDS if kind in kinds),
            old.size.get(before, 0), new.size.get(after, 0), shared.get((before, after), 0),
            old.kept.get(before, ""), new.kept.get(after, ""),
        )
        for before, after, kinds in sorted(rows)
        if kinds
    ]  # fmt: skip
    return pd.DataFrame(records, columns=GROUP_CHANGES.names)
