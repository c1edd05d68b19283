"""The original experiment's report: ``{productId: [productIds]}``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from dedup.artifacts import Findings, Index
from dedup.files import write_json


class JsonReport:
    """Writes ``duplicates.json``: for each product the products that show its picture."""

    def write(self, findings: Findings, index: Index, folder: Path) -> Path:
        """Write the pairs as a JSON object, each pair under both of its products.

        Only products that are paired directly are listed together: the members of a group that are
        joined through a third product are not. Keys and lists are sorted.

        Args:
            findings: what was found; its pairs alone are used.
            index: not used.
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
        return path
