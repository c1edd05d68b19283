"""Say which pairs people decided on, and leave their groups out of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from dedup.detection.results import DetectionResult
from dedup.reports.proofs import SIDES, surest_pairs
from dedup.runtime.nouns import counted
from dedup.runtime.printable import visible

ENDS = SIDES[0]
SETTLED = ("decided", "follows")
MOST = 5
"""Reviewers whose names a sentence lists."""


def summary(findings: DetectionResult) -> str:
    """Count the pairs that people decided on, by reviewer, and those to be asked again."""
    table = findings.decided
    if not len(table):
        return ""
    settled = table[table["state"].isin(SETTLED)]
    states = table["state"].value_counts()
    texts = [f"{counted(len(settled), 'pair')} settled by people's decisions"]
    if len(settled):
        texts[0] += f" ({_by_whom(settled)})"
    if n := int(states.get("reopened", 0)):
        texts.append(f"{counted(n, 'pair')} to be asked again, as an image is new")
    if n := int(states.get("gone", 0)):
        texts.append(f"{counted(n, 'duplicate')} without the images that were looked at")
    return ", ".join(texts)


def _by_whom(settled: pd.DataFrame) -> str:
    """List the reviewers, those with most pairs first."""
    by: Mapping[Any, Any] = settled["reviewer"].value_counts().to_dict()
    names = sorted(by.items(), key=lambda item: (-item[1], item[0]))
    texts = [f"{visible(name)} {n:,}" for name, n in names[:MOST]]
    rest = len(names) - MOST
    return ", ".join([*texts, f"{rest} others"] if rest > 0 else texts)


def open_groups(findings: DetectionResult) -> pd.DataFrame:
    """Return the groups in which a pair is not settled, schema ``GROUPS``."""
    table, groups = findings.decided, findings.groups
    if not len(table) or not len(groups):
        return groups
    settled = set(table.loc[table["state"].isin(SETTLED), ENDS].itertuples(index=False, name=None))
    proofs = surest_pairs(groups, findings.pairs)
    ends = zip(proofs["product_id"], proofs["other"], strict=True)
    known = {key for key, other in ends if (min(key, other), max(key, other)) in settled}
    is_open = ~groups["product_id"].isin(known) & ~groups["kept"].astype(bool)
    chosen: pd.DataFrame = groups[groups["group_id"].isin(groups.loc[is_open, "group_id"])]
    return chosen
