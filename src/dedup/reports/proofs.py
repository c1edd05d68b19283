"""Choose the pair that is the evidence of each product in its group, and count the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.review.standing import plain_column, plain_rows
from dedup.schemas import TIERS

SIDES = (["product_id_a", "product_id_b"], ["image_a", "image_b"])
FACTS = ["tier", "distance", "score", "evidence", "relation"]
NEAR = TIERS[-1]


class Outcome(NamedTuple):
    """Counts of a result.

    Attributes:
        n_groups: groups of duplicates.
        n_products: products in groups.
        n_spare: products in groups that are not kept.
        n_equal: products of ``n_spare`` with an image equal to another product's in the group.
        n_near: products of ``n_spare`` with near images alone.
    """

    n_groups: int
    n_products: int
    n_spare: int
    n_equal: int
    n_near: int


def surest_pairs(groups: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Choose for each product its pair with the kept product of its group, or its surest pair.

    Args:
        groups: schema ``GROUPS``.
        pairs: schema ``PAIRS``.

    Returns:
        A row for each product that has a pair inside its group: ``product_id``; ``other``, the
        other product; ``image`` and ``other_image``, addresses; ``direct``, whether the other
        product is kept; ``rank`` of the tier, 0 is surest; and the pair's own ``FACTS``.
    """
    group_of = dict(plain_rows(groups[["product_id", "group_id"]]))
    kept = set(plain_column(groups.loc[groups["kept"].astype(bool), "product_id"]))
    ends = plain_rows(pairs[SIDES[0]])
    homes = [(group_of.get(one), group_of.get(other)) for one, other in ends]
    inside = pairs[np.array([one is not None and one == other for one, other in homes], bool)]
    both = pd.concat(
        inside[[*ids, *images, *FACTS]].set_axis(
            ["product_id", "other", "image", "other_image", *FACTS], axis=1
        )
        for ids, images in (SIDES, [side[::-1] for side in SIDES])
    )
    both["score"] = both["score"].astype(float)
    both["direct"] = [other in kept for other in plain_column(both["other"])]
    both["rank"] = [TIERS.index(tier) for tier in plain_column(both["tier"])]
    by = ["direct", "rank", "score", "distance", "other"]
    ordered = both.sort_values(by, ascending=[False, True, False, True, True])
    return ordered.drop_duplicates("product_id")


def outcome(findings: DetectionResult) -> Outcome:
    """Count the groups and products of a result."""
    groups = findings.groups
    spare = groups[~groups["kept"].astype(bool)]
    proofs = surest_pairs(groups, findings.pairs)
    near = proofs.loc[proofs["tier"] == NEAR, "product_id"]
    n_near = int(spare["product_id"].isin(near).sum())
    n_groups = int(groups["group_id"].nunique())
    return Outcome(n_groups, len(groups), len(spare), len(spare) - n_near, n_near)


def prefix_of(manifest: Mapping[str, Any]) -> str | None:
    """Return the prefix of the other catalogue's ids; ``None`` for a single catalogue."""
    against = manifest.get("against")
    return None if against is None else str(against["prefix"])


def n_matched(findings: DetectionResult, prefix: str) -> int:
    """Count the products of the other catalogue that are in the user's own."""
    return int(findings.groups["product_id"].str.startswith(prefix).sum())
