"""Pairs of products to groups, and which product of a group is kept."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup.artifacts import GROUPS, PAIRS, TIERS

ENDS = ["product_id_a", "product_id_b"]


def best_pairs(candidates: pd.DataFrame) -> pd.DataFrame:
    """Each two products once, by their surest tier and then their smallest distance.

    Args:
        candidates: columns of ``PAIRS``, in any order, two products perhaps more than once.

    Returns:
        Schema ``PAIRS``, sorted by both ids.
    """
    rank = candidates["tier"].map({tier: place for place, tier in enumerate(TIERS)})
    by = [*ENDS, "rank", "distance", "image_a", "image_b"]
    ranked = candidates.assign(rank=rank).sort_values(by).drop_duplicates(ENDS)
    pairs: pd.DataFrame = ranked[PAIRS.names].reset_index(drop=True)
    return pairs


def group(pairs: pd.DataFrame) -> pd.DataFrame:
    """Connected components; the smallest product id of each is the one kept.

    Args:
        pairs: schema ``PAIRS``.

    Returns:
        Schema ``GROUPS``.
    """
    codes, ids = pd.factorize(pairs[ENDS].to_numpy().ravel(), sort=True)
    left, right = codes.reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs)), (left, right)), shape=(len(ids), len(ids)))
    _, component = connected_components(links, directed=False)
    # Ids are sorted, so components in order of appearance are in order of their smallest id.
    number = pd.factorize(component)[0]
    groups = pd.DataFrame(
        {"product_id": ids, "group_id": number + 1, "kept": ~pd.Series(number).duplicated()},
        columns=GROUPS.names,
    )
    return groups.sort_values(["group_id", "product_id"], ignore_index=True)
