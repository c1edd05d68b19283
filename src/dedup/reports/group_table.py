"""Make the table of groups: each product, the one that it duplicates, and the evidence."""

from __future__ import annotations

import pandas as pd

from dedup.reports import phrases
from dedup.reports.proofs import surest_pairs
from dedup.review.standing import plain_rows

GROUP_COLUMNS = ("product_id", "group_id", "kept", "duplicate_of", "score", "evidence")
"""Columns of ``groups.csv``, in this order; the user's own follow."""


def group_table(groups: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Make a row for each product of a group: the product that it duplicates, and the evidence.

    Args:
        groups: schema ``GROUPS``; further columns are ignored, rows keep their order.
        pairs: schema ``PAIRS``.

    Returns:
        ``GROUP_COLUMNS``. The score, 0 to 1, is that of the surest pair with the kept product, or
        else with another one of the group, which ``evidence`` then names. The kept product has
        neither: "" and NaN. The score is NaN without a verifier.
    """
    is_kept = groups["kept"].astype(bool)
    kept = groups[is_kept]
    kept_of = dict(zip(kept["group_id"], kept["product_id"], strict=True))
    proofs = surest_pairs(groups, pairs).set_index("product_id")
    ends = zip(proofs.index, proofs["other"], proofs["direct"], evidence_of(proofs), strict=True)
    texts = {
        key: text if direct else f"through {other}: {text}" for key, other, direct, text in ends
    }
    rows = list(zip(groups["product_id"], groups["group_id"], is_kept, strict=True))
    return pd.DataFrame(
        {
            "product_id": groups["product_id"],
            "group_id": groups["group_id"],
            "kept": is_kept,
            "duplicate_of": ["" if keep else kept_of.get(home, "") for _, home, keep in rows],
            "score": groups["product_id"].map(proofs["score"]).astype(float).mask(is_kept),
            "evidence": ["" if keep else texts.get(key, "") for key, _, keep in rows],
        },
        columns=list(GROUP_COLUMNS),
    )


def evidence_of(pairs: pd.DataFrame) -> list[str]:
    """Write the evidence of each pair, schema ``PAIRS``; without any, the distance."""
    return [phrases.evidence(*row) for row in plain_rows(pairs[["evidence", "tier", "distance"]])]
