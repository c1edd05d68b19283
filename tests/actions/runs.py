"""Detect runs of a few products, made as tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from dedup.actions.runs import DetectRun
from dedup.detection.calibration import Calibration
from dedup.detection.grouping import ENDS, _by_kept, _table
from dedup.detection.results import DetectionResult
from dedup.schemas import FAMILIES, GROUPS, PAIRS, SHARED
from dedup.search.state import SearchFacts

Pair = tuple[str, str, str, float, str]
"""Ids, tier, score and relation."""

SEARCHED = SearchFacts(
    asked="auto", threshold=0.7, looked=True, lossless=True, n_images=4, n_comparisons=6,
    share=1.0, n_near_pairs=2, missed=0, missed_share=0, checkpoint_sha256="0" * 64,
)  # fmt: skip


def digest(text: str) -> str:
    """A digest of an image's pixels."""
    return hashlib.sha256(text.encode()).hexdigest()


def pair_table(pairs: Sequence[Pair], url: Mapping[str, str]) -> pd.DataFrame:
    """Pairs in the schema ``PAIRS``, shown by the first image of each product."""
    rows = [
        (a, b, 0.0 if tier != "near" else 0.5, tier, url[a], url[b], score, "", relation)
        for a, b, tier, score, relation in pairs
    ]
    return pd.DataFrame(rows, columns=PAIRS.names).sort_values(ENDS).reset_index(drop=True)


def pair(a: str, b: str, tier: str = "near", score: float = 0.99, relation: str = "same image"
) -> Pair:  # fmt: skip
    """A pair of products; equal pixels have the score 1."""
    return min(a, b), max(a, b), tier, score if tier == "near" else 1.0, relation


def make_run(
    pairs: Sequence[Pair],
    products: Mapping[str, Sequence[str]],
    *,
    candidates: Sequence[Pair] = (),
    kept: Sequence[str] = (),
    shared: Sequence[str] = (),
    threshold: float = 0.9,
    settings: Mapping[str, str] | None = None,
    made: str = "2026-11-01T00:00:00Z",
) -> DetectRun:
    """A run that reports these pairs.

    Args:
        pairs: what is reported.
        products: names of the images of each product.
        candidates: pairs that were compared and not reported.
        kept: products that are kept before all others; then the smaller id.
        shared: names of images that are placeholders.
        threshold: the score from which a pair is reported.
        settings: settings that decide which pairs are found.
        made: time of the run.
    """
    images = pd.DataFrame(
        [(key, f"{key}/{name}.jpg", digest(name)) for key, names in products.items()
         for name in names],
        columns=["product_id", "url", "sha256_pixels"],
    )  # fmt: skip
    url = dict(zip(images["product_id"][::-1], images["url"][::-1], strict=True))
    reported = pair_table(pairs, url)
    calibration = Calibration(
        setting="verifier.min_score", threshold=threshold, higher_is_surer=True, precision=0.99,
        expected_precision=None, interval=0.9, n_pairs=len(pairs),
    )  # fmt: skip
    rows = [(digest(name), "P", "x", 99, "shared") for name in shared]
    result = DetectionResult(
        pairs=reported,
        groups=groups_of(reported, kept),
        shared=pd.DataFrame(rows, columns=SHARED.names),
        search=SEARCHED,
        calibration=calibration,
        candidates=pair_table(candidates, url),
    )
    return DetectRun("run", made, result, images, settings=settings or {"encoder": "e1"})


def shop_run(
    table: pd.DataFrame, pairs: Sequence[Pair], families: Mapping[str, str] | None = None,
    kept: Sequence[str] = (),
) -> DetectRun:  # fmt: skip
    """A run on a user's table with the column ``id``.

    Args:
        table: the user's table.
        pairs: what is reported.
        families: family of each product that is a variant.
        kept: products that are kept before all others.
    """
    run = make_run(pairs, {key: [key] for key in table["id"]}, kept=kept)
    rows = [(key, family, key) for key, family in (families or {}).items()]
    result = replace(run.result, families=pd.DataFrame(rows, columns=FAMILIES.names))
    manifest = {"id_column": "id", "url_column": "image_link"}
    return replace(run, result=result, products=table, manifest=manifest)


def groups_of(pairs: pd.DataFrame, kept: Sequence[str] = ()) -> pd.DataFrame:
    """Group pairs with the product's own algorithm; some products are kept before others."""
    if not len(pairs):
        return pd.DataFrame(columns=GROUPS.names)
    codes, ids = pd.factorize(pairs[ENDS].to_numpy().ravel(), sort=True)
    first = sorted(range(len(ids)), key=lambda n: (ids[n] not in kept, n))
    place = pd.Series(range(len(ids)), index=first).sort_index().to_numpy()
    left, right = codes.reshape(-1, 2).T
    zeros = pd.Series(0, index=range(len(pairs))).to_numpy()
    member, keeps = _by_kept(left, right, zeros, pairs["distance"].to_numpy(), place)
    return _table(member, keeps, ids)
