"""Groups against a slow union, and the rules for pairs."""

import numpy as np
import pandas as pd

from dedup.artifacts import GROUPS, PAIRS
from dedup.grouping import best_pairs, group


def pairs_of(ends: list[tuple[str, str]]) -> pd.DataFrame:
    """Pairs that join these products."""
    rows = [(a, b, 0.0, "near", f"{a}.jpg", f"{b}.jpg") for a, b in ends]
    return pd.DataFrame(rows, columns=PAIRS.names)


def test_groups_are_those_of_a_slow_union() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        numbers = rng.integers(0, 40, (rng.integers(1, 30), 2))
        ends = [(f"P{min(n):02}", f"P{max(n):02}") for n in numbers.tolist() if n[0] != n[1]]
        sets = [{product} for product in {product for pair in ends for product in pair}]
        for a, b in ends:
            joined = [one for one in sets if a in one or b in one]
            sets = [one for one in sets if one not in joined] + [set().union(*joined)]
        groups = group(best_pairs(pairs_of(ends)))
        found = groups.groupby("group_id")["product_id"].apply(set).tolist()
        assert sorted(map(sorted, found)) == sorted(map(sorted, sets))
        kept = groups[groups["kept"]]
        assert kept["product_id"].tolist() == [min(one) for one in found]
        assert groups["group_id"].drop_duplicates().tolist() == list(range(1, len(sets) + 1))
        assert kept["product_id"].is_monotonic_increasing


def test_no_pairs_no_groups() -> None:
    groups = group(pairs_of([]))
    assert groups.empty
    assert groups.columns.tolist() == GROUPS.names


def test_the_surest_tier_then_the_smallest_distance_is_kept() -> None:
    rows = [
        ("A", "B", 0.5, "near", "1", "2"),
        ("A", "B", 0.0, "same_pixels", "3", "4"),
        ("A", "C", 0.4, "near", "5", "6"),
        ("A", "C", 0.3, "near", "7", "8"),
    ]
    candidates = pd.DataFrame(rows, columns=PAIRS.names)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        pairs = best_pairs(candidates.iloc[order])
        assert pairs.to_numpy().tolist() == [list(rows[1]), list(rows[3])]
