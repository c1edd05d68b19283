"""Write the original experiment's report, ``{productId: [productIds]}``, and other relations."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports import phrases
from dedup.reports.proofs import prefix_of
from dedup.runtime.files import write_json
from dedup.schemas import RELATIONS
from dedup.search.index import Index


class JsonReport:
    """Write ``duplicates.json``: for each product its duplicates.

    Where two catalogues were compared, ``matches.json`` lists the products of the other catalogue
    beside the user's own. Where a pair has another relation than the same image,
    ``relations.json`` lists the relation of every pair.
    """

    def write(self, findings: DetectionResult, index: Index, folder: Path) -> Path:
        """Write the pairs as a JSON object, each pair under both of its products.

        Only products that are paired directly are listed together, not members of a group that
        are joined through a third product. Keys and lists are sorted.

        Args:
            findings: the result, of which only the pairs are used.
            index: index whose manifest names a second catalogue, if there is one.
            folder: an existing folder.

        Returns:
            The path of ``duplicates.json``.
        """
        pairs = findings.pairs
        partners: dict[str, set[str]] = defaultdict(set)
        for a, b in zip(pairs["product_id_a"], pairs["product_id_b"], strict=True):
            partners[a].add(b)
            partners[b].add(a)
        path = folder / "duplicates.json"
        write_json({key: sorted(partners[key]) for key in sorted(partners)}, path)
        if (prefix := prefix_of(index.manifest)) is not None:
            write_json({"matches": _matches(pairs, prefix)}, folder / "matches.json")
        every = [*_pairs(pairs), *_pairs(findings.related)]
        if any(pair["relation"] != RELATIONS[0] for pair in every):
            every.sort(key=lambda pair: (pair["product_id_a"], pair["product_id_b"]))
            content = {"families": _families(findings), "pairs": every}
            write_json(content, folder / "relations.json")
        return path


def _pairs(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert pairs to plain values; a missing score is null."""
    names = ["product_id_a", "product_id_b", "relation", "score", "evidence"]
    rows = table[names].itertuples(index=False, name=None)
    pairs = [dict(zip(names, row, strict=True)) for row in rows]
    return [{**pair, "score": None if pd.isna(pair["score"]) else pair["score"]} for pair in pairs]


def _matches(pairs: pd.DataFrame, prefix: str) -> list[dict[str, Any]]:
    """List pairs across two catalogues, the other catalogue's ids first."""
    matches = []
    for pair, tier, distance in zip(_pairs(pairs), pairs["tier"], pairs["distance"], strict=True):
        ids = [pair["product_id_a"], pair["product_id_b"]]
        ids.sort(key=lambda key: not key.startswith(prefix))
        evidence = phrases.evidence(pair["evidence"], tier, distance)
        matches.append(
            {
                "theirs": ids[0], "yours": ids[1], "tier": tier, "distance": distance,
                "score": pair["score"], "evidence": evidence,
            }
        )  # fmt: skip
    return sorted(matches, key=lambda match: (match["theirs"], match["yours"]))


def _families(findings: DetectionResult) -> dict[str, dict[str, list[str]]]:
    """Collect product ids by family and colour."""
    families: dict[str, dict[str, list[str]]] = {}
    for row in findings.families.itertuples():
        family = families.setdefault(str(row.family_id), {})
        family.setdefault(str(row.variant_id), []).append(str(row.product_id))
    return families
