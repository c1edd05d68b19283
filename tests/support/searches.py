"""Facts of searches that were not made."""

from typing import Any

from dedup.search.state import SearchFacts

FACTS: dict[str, Any] = {
    "asked": "auto", "threshold": 0.5, "looked": True, "words": 0.25, "lossless": True,
    "pictures": 3, "comparisons": 3, "share": 1.0, "near_pairs": 2, "missed": 0.0,
    "missed_share": 0.0, "checkpoint_sha256": "0" * 64,
}  # fmt: skip
"""Of a search with a verifier, as its file has them."""


def search_facts(**change: object) -> SearchFacts:
    """``FACTS`` but for some."""
    return SearchFacts.from_dict(FACTS | change)
