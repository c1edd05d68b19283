"""What two images are to each other, and which pairs are reported as what.

A second look gives every candidate a verdict: how surely it is a copy. Where it is none, the two
may still show one product photographed again, or one product in two colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup.schemas import FAMILIES, RELATIONS
from dedup.verification.alignment import Alignment
from dedup.verification.appearance import Agreement

SAME_IMAGE, SAME_PRODUCT, VARIANT = RELATIONS
NOTHING = ""

SEPARATE, MERGE, IGNORE = "separate", "merge", "ignore"
"""What ``matcher.variants`` may be."""

SURE = 3.0
"""Least log odds that two images are copies, were their colours set aside, of a variant."""

APART = 4.0
"""Least CIEDE2000, on the product after the best common light, of a variant; see ``colours``."""

WITHIN = 0.75
"""Least share of the product's structure that is the same, of a variant."""

N_INLIERS = 15
"""Least keypoints in agreement on another photo of one product."""

WITHIN_PHOTO = 0.55
"""Least share of the product's structure that is the same, on such a photo."""

LIKE = 4.0
"""Most CIEDE2000 between the two photos of one product."""


def relation(placed: Alignment, seen: Agreement, alike: float) -> str:
    """What two images are to each other that need not be copies.

    Args:
        placed: how the one lies over the other.
        seen: what is then seen, with ``apart`` and ``within``.
        alike: log odds that they are copies, colours set aside.

    Returns:
        ``VARIANT``, ``SAME_PRODUCT`` or ``NOTHING``; NaN of ``seen`` fulfils no condition.
    """
    if alike >= SURE and seen.apart >= APART and seen.within >= WITHIN:
        return VARIANT
    again = placed.n_inliers >= N_INLIERS and seen.within >= WITHIN_PHOTO and seen.apart <= LIKE
    return SAME_PRODUCT if again else NOTHING


def settled(near: pd.DataFrame, variants: str, looked: bool) -> pd.DataFrame:
    """What each near pair is called, and whether it counts as a duplicate.

    A variant is none, however sure the judge is, unless variants are merged or not looked for.

    Args:
        near: schema ``NEAR`` with the column ``reported``.
        variants: ``separate``, ``merge`` or ``ignore``.
        looked: whether a verifier decides; without, distances do, and nothing is a variant.

    Returns:
        The same with ``reported`` and ``relation`` settled, and one more column, ``surety``: the
        score of what it is called.
    """
    seen = near["relation"] if looked else pd.Series(NOTHING, near.index)
    differs = (seen == VARIANT) & (variants != IGNORE)
    reported = counted(near["reported"], differs, variants)
    called = seen.where(seen == SAME_PRODUCT, NOTHING)
    called = called.mask(near["reported"], SAME_IMAGE).mask(differs, VARIANT)
    surety = near["score"].mask(called == SAME_PRODUCT, np.nan).mask(differs, near["alike"])
    return near.assign(reported=reported, relation=called, surety=surety)


def counted(copies: Any, differs: Any, variants: str) -> Any:
    """Which pairs are duplicates, of those that are copies and those that differ in colour."""
    if variants == IGNORE:
        return copies
    return (copies | differs) if variants == MERGE else copies & ~differs


def families(variants: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Products that are one but for their colours.

    Whatever is linked through any number of variant pairs is one family; the products of a group
    of duplicates have one colour.

    Args:
        variants: pairs, columns of ``PAIRS``.
        groups: schema ``GROUPS``.

    Returns:
        Schema ``FAMILIES``; a family's id is its smallest product id.
    """
    group_of = dict(zip(groups["product_id"], groups["group_id"], strict=True))
    ends = (variants["product_id_a"], variants["product_id_b"])
    a, b = (np.array([group_of.get(key, key) for key in end], object) for end in ends)
    a, b = a[a != b], b[a != b]
    codes, names = pd.factorize(np.concatenate([a, b]), sort=True)
    left, right = codes.reshape(2, -1)
    links = coo_array((np.ones(len(left)), (left, right)), shape=(len(names), len(names)))
    place = connected_components(links, directed=False)[1] if len(names) else np.empty(0, int)
    colours = pd.DataFrame({"variant_id": names, "place": place})
    members = groups[["product_id", "group_id"]].set_axis(["product_id", "variant_id"], axis=1)
    single = pd.DataFrame({"product_id": names, "variant_id": names})
    single = single[~single["variant_id"].isin(members["variant_id"])]
    table = pd.concat([members, single]).merge(colours, on="variant_id")
    table["family_id"] = table.groupby("place")["product_id"].transform("min")
    order = ["family_id", "variant_id", "product_id"]
    found: pd.DataFrame = table.sort_values(order, ignore_index=True)[FAMILIES.names]
    return found
