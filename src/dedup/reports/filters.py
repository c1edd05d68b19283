"""Choose the groups of the page by the user's columns, such as the brand, and by the evidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dedup.reports.records import cells
from dedup.review.items import columns_named
from dedup.search.index import Index

MOST = 2000
"""Values of a column to choose from, the most frequent ones; the search finds the others."""
LONGEST = 80
"""Characters of a value that the page shows."""

REASONS = {
    "an equal image": "same (address|bytes|pixels)",
    "all images the same": "all images the same",
    "a shared secondary image": "a secondary image is shared",
    "no difference seen": "no difference seen",
    "small differences in pixels": "differences in pixels",
    "mirrored": "mirrored",
    "cropped": r"cropped to|of one in \d+ % of the other",
    "border or margin": "border added|margin added or cut off",
    "set in a larger image": "set in a larger image",
    "squeezed": "squeezed",
    "turned": "turned by",
    "without colour": "without colour",
    "other colours": "other colours",
    "another tone": "another tone",
    "recompressed": "recompressed",
    "less detail": "less detail",
    "something added on top": "something added on top",
    "a part differs": r"differs \(|parts differ",
    "confirmed by people": "confirmed",
}
"""Kinds of evidence, by the words that the evidence has."""


class Filter(NamedTuple):
    """A choice of groups.

    Attributes:
        name: of the column, or "reason".
        options: token, value and number of groups of each choice, the most frequent first.
        n_more: number of values that are left out.
    """

    name: str
    options: Sequence[tuple[str, str, int]]
    n_more: int


class Filters:
    """Filters of groups.

    Args:
        columns: names of columns; those that the table lacks are left out.
        index: index with the table.
    """

    def __init__(self, columns: Sequence[str], index: Index) -> None:
        known = [str(name) for name in index.products.columns]
        self._cells = {name: cells(name, index).to_dict() for name in columns_named(known, columns)}

    def of(
        self, members: Mapping[str, Sequence[str]], evidence: Mapping[str, Sequence[str]]
    ) -> tuple[list[Filter], dict[str, list[str]]]:
        """Make the filters of groups.

        Args:
            members: product ids by group.
            evidence: words of the pairs that prove each group.

        Returns:
            The filters that separate groups, and the tokens of each group.
        """
        tokens: dict[str, list[str]] = {group: [] for group in members}
        found: list[Filter] = []
        for name, cell in self._cells.items():
            values = {
                group: {str(cell[key]).strip() for key in ids if key in cell}
                for group, ids in members.items()
            }
            found.append(_filter(name, f"c{len(found)}", values, tokens))
        reasons = {group: {*_reasons(words)} for group, words in evidence.items()}
        found.append(_filter("reason", "r", reasons, tokens))
        return [one for one in found if _separates(one, len(members))], tokens


def _separates(one: Filter, n_groups: int) -> bool:
    """Tell whether a choice leaves some groups out."""
    return len(one.options) > 1 or (len(one.options) == 1 and one.options[0][2] < n_groups)


def _filter(
    name: str, prefix: str, values: Mapping[str, set[str]], tokens: dict[str, list[str]]
) -> Filter:
    """Make one filter, and add its tokens to those of the groups."""
    counts = Counter(value for some in values.values() for value in some)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    token = {value: f"{prefix}.{at}" for at, (value, _) in enumerate(ordered[:MOST])}
    for group, some in values.items():
        tokens[group] += sorted(token[value] for value in some if value in token)
    options = [(token[value], _short(value), n) for value, n in ordered[:MOST]]
    return Filter(name, options, len(ordered) - len(options))


def _short(value: str) -> str:
    text = " ".join(value.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _reasons(evidence: Sequence[str]) -> list[str]:
    """List the kinds of evidence; the name of a product before it has no say."""
    told = [re.sub(r"^.* is the copy: ", "", text, flags=re.DOTALL) for text in evidence]
    return [
        reason for reason, words in REASONS.items() if any(re.search(words, text) for text in told)
    ]
