"""Relations of two images besides copies: colour variants, details, other photos of a product.

The verifier gives every candidate a score. A pair that is no copy may still show a product that
was photographed again, or a product in two colours. The effect of the thresholds is measured by
``benchmarks/variants.py``.
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
from dedup.verification.colour import Colours
from dedup.verification.difference import Difference

SAME_IMAGE, SAME_PRODUCT, DETAIL, VARIANT = RELATIONS
NOTHING = ""

SEPARATE, MERGE, IGNORE = "separate", "merge", "ignore"
"""Values of ``matcher.variants``."""

SURE = 1.5
"""Minimum log odds that images are copies but for a detail."""

SURE_VARIANT = 0.5
"""Minimum log odds that images show one product in two colours."""

TURNED = 40.0
"""Degrees of hue by which no light turns the colours of an image: of 1,678 held-out copies, in any
light, .4 % were turned so far, and of 200 images whose hues were turned 90 %."""

STRONG = 6.0
"""Difference of colour, in CIELAB units, from which a turned hue is seen."""

COLOURFUL = 0.1
"""Share of the overlap that is coloured in both images, from which a hue is told."""

MERGED = 0.9
"""Minimum probability of a variant that ``MERGE`` takes for a duplicate: of the others one in
some ten is another product."""

LEAST_DETAIL = 0.0005
"""Share of the overlap from which a region that differs is a detail."""

MOST_DETAIL = 0.1
"""The same of the largest detail: what is larger is another product on one ground."""

N_INLIERS = 15
"""Minimum inliers of another photo of a product."""

WITHIN_PHOTO = 0.55
"""Minimum share of the product's structure that is the same in another photo."""

LIKE = 4.0
"""Maximum CIEDE2000 of two photos of a product."""

N_AGREEING = 90
"""Minimum inliers of another photo of a product in a third look, see ``third_look``. This limit and
the next were chosen by ``benchmarks/rephotographed.py``."""

LIKE_AGREEING = 5.5
"""Maximum CIEDE2000 of two photos in a third look: folds have shadows of their own."""


def relation(
    alignment: Alignment,
    colours: Colours,
    variant: float,
    copy: float,
    difference: Difference,
    but: float,
) -> str:
    """Classify the relation of two images that need not be copies.

    Args:
        alignment: alignment of the images.
        colours: comparison of the product's colours.
        variant: log odds that they show one product in two colours.
        copy: log odds that they are copies.
        difference: what differs in the images.
        but: log odds that they are copies if that is ignored.

    Returns:
        ``VARIANT``, ``DETAIL``, ``SAME_PRODUCT`` or ``NOTHING``.
    """
    if variant >= max(SURE_VARIANT, copy):
        return VARIANT
    if but >= SURE and LEAST_DETAIL <= difference.area <= MOST_DETAIL:
        return DETAIL
    is_like = colours.within >= WITHIN_PHOTO and colours.apart <= LIKE
    return SAME_PRODUCT if alignment.n_inliers >= N_INLIERS and is_like else NOTHING


def is_turned(agreement: Agreement) -> bool:
    """Tell whether two images of one structure have other hues: then they are no copies."""
    is_seen = agreement.chroma > STRONG and agreement.coloured >= COLOURFUL
    return is_seen and agreement.hue > TURNED


def is_other_photo(n_inliers: int, apart: float) -> bool:
    """Tell by a third look whether two images are photos of one product.

    Folds and another ground may leave little structure in common, so it is not asked for. The
    keypoints were found in grey levels, so the colours are.

    Args:
        n_inliers: number of inliers on the product.
        apart: CIEDE2000 of the product's colours, as in ``colour.Colours``.
    """
    return n_inliers >= N_AGREEING and apart <= LIKE_AGREEING


def decide_relations(near: pd.DataFrame, variants: str, looked: bool) -> pd.DataFrame:
    """Decide the relation of each near pair, and whether it is reported as a duplicate.

    A variant is not reported, whatever its score, unless variants are ignored, or merged and it is
    a sure one.

    Args:
        near: schema ``NEAR`` with the column ``reported``.
        variants: ``separate``, ``merge`` or ``ignore``.
        looked: whether a verifier decides; without it, distances decide, and there are no
            variants.

    Returns:
        The table with final ``reported`` and ``relation``, and a further column, ``surety``: the
        score of the relation.
    """
    relations = near["relation"] if looked else pd.Series(NOTHING, near.index)
    differs = (relations == VARIANT) & (variants != IGNORE)
    reported = counted(near["reported"], differs, near["alike"] >= MERGED, variants)
    final = relations.where(relations.isin([SAME_PRODUCT, DETAIL]), NOTHING)
    final = final.mask(near["reported"], SAME_IMAGE).mask(differs, VARIANT)
    surety = near["score"].mask(final == SAME_PRODUCT, np.nan).mask(differs, near["alike"])
    return near.assign(reported=reported, relation=final, surety=surety)


def counted(copies: Any, differs: Any, sure: Any, variants: str) -> Any:
    """Select the duplicates among copies, pairs that differ in colour, and sure ones of these."""
    if variants == IGNORE:
        return copies
    return (copies | (differs & sure)) if variants == MERGE else copies & ~differs


def variant_families(variants: pd.DataFrame, groups: pd.DataFrame) -> pd.DataFrame:
    """Join variants into families, by connected components.

    All products of a group of duplicates have the same colour.

    Args:
        variants: pairs, columns of ``PAIRS``.
        groups: schema ``GROUPS``.

    Returns:
        Schema ``FAMILIES``; a family's id is its smallest product id.
    """
    group_of = dict(zip(groups["product_id"], groups["group_id"], strict=True))
    products = (variants["product_id_a"], variants["product_id_b"])
    a, b = (np.array([group_of.get(key, key) for key in ids], object) for ids in products)
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
    members_of: pd.DataFrame = table.sort_values(order, ignore_index=True)[FAMILIES.names]
    return members_of
