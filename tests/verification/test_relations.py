"""What pairs are called, how they are grouped, and what the setting makes of them."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from dedup.detection.detector import Detector, merged
from dedup.detection.grouping import Grouping
from dedup.detection.results import DetectionResult
from dedup.schemas import GROUPS, NEAR, PAIRS
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState
from dedup.verification.colour import Colours
from dedup.verification.difference import Difference
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import (
    IGNORE,
    LIKE,
    MERGE,
    MERGED,
    N_INLIERS,
    NOTHING,
    SAME_IMAGE,
    SAME_PRODUCT,
    SEPARATE,
    SURE_VARIANT,
    VARIANT,
    WITHIN_PHOTO,
    decide_relations,
    relation,
    variant_families,
)
from tests.detection.test_comparison import IMAGES, NEAR_BY, ends, shop
from tests.verification.test_geometric import STRAIGHT

MODES = (SEPARATE, MERGE, IGNORE)


def detect(
    variants: str, names: list[str] | None = None, since: SearchState | None = None
) -> tuple[DetectionResult, SearchState]:
    matcher = RadiusSearch(NEAR_BY, variants=variants)
    return Detector(matcher, Grouping(), GeometricVerifier(0.5))(shop(names or list(IMAGES)), since)


@pytest.mark.parametrize(
    ("variant", "apart", "within", "inliers", "called"),
    [
        (SURE_VARIANT, 0.0, -1.0, 0, VARIANT),
        (SURE_VARIANT - 0.1, 50.0, 1.0, 0, NOTHING),
        (-9.0, LIKE, WITHIN_PHOTO, N_INLIERS, SAME_PRODUCT),
        (-9.0, LIKE, WITHIN_PHOTO, N_INLIERS - 1, NOTHING),
        (-9.0, LIKE + 0.1, WITHIN_PHOTO, N_INLIERS, NOTHING),
        (-9.0, LIKE, WITHIN_PHOTO - 0.1, N_INLIERS, NOTHING),
        (-9.0, LIKE, -1.0, N_INLIERS, NOTHING),
    ],
)
def test_each_condition_is_needed(
    variant: float, apart: float, within: float, inliers: int, called: str
) -> None:
    placed = STRAIGHT._replace(n_inliers=inliers)
    seen = Colours(apart, within, *[0.0] * 8)
    assert relation(placed, seen, variant, -5.0, Difference(), -5.0) == called


def test_the_likelier_of_copy_and_variant_counts() -> None:
    seen = Colours(9.0, 1.0, *[0.0] * 8)
    called = [relation(STRAIGHT, seen, 2.0, copy, Difference(), -5.0) for copy in (1.9, 2.1)]
    assert called == [VARIANT, NOTHING]


def called_slowly(
    seen: str, is_copy: bool, alike: float, variants: str, looked: bool
) -> tuple[str, bool]:
    """What one pair is called, and whether it is a duplicate."""
    if looked and seen == VARIANT and variants != IGNORE:
        return VARIANT, variants == MERGE and (is_copy or alike >= MERGED)
    if is_copy:
        return SAME_IMAGE, True
    return (SAME_PRODUCT if looked and seen == SAME_PRODUCT else NOTHING), False


@pytest.mark.parametrize("variants", MODES)
@pytest.mark.parametrize("looked", [True, False])
def test_pairs_are_called_as_one_by_one(variants: str, looked: bool) -> None:
    kinds = list(product(("", SAME_PRODUCT, VARIANT), (True, False), (MERGED, 0.75)))
    rows = [
        ("a", f"b{n}", 0.5, 0.25, "seen", seen, alike, 0.5)
        for n, (seen, _, alike) in enumerate(kinds)
    ]
    near = pd.DataFrame(rows, columns=NEAR.names).assign(reported=[kind[1] for kind in kinds])
    found = decide_relations(near, variants, looked)
    wanted = [called_slowly(*kind, variants, looked) for kind in kinds]
    assert list(zip(found["relation"], found["reported"], strict=True)) == wanted
    for name, surety, kind in zip(found["relation"], found["surety"], kinds, strict=True):
        expected = {VARIANT: kind[2], SAME_PRODUCT: np.nan}.get(name, 0.25)
        assert surety == pytest.approx(expected, nan_ok=True)
    assert decide_relations(near[:0], variants, looked).empty


def families_slowly(links: list[tuple[str, str]], group_of: dict[str, str]) -> set[frozenset[str]]:
    """Sets of products, by joining whatever touches."""
    found: list[set[str]] = []
    for a, b in links:
        if group_of.get(a, a) == group_of.get(b, b):
            continue
        joined = {key for end in (a, b) for key in group_of if group_of[key] == group_of.get(end)}
        joined |= {a, b}
        for other in [it for it in found if it & joined]:
            found.remove(other)
            joined |= other
        found.append(joined)
    return {frozenset(it) for it in found}


@pytest.mark.parametrize("seed", range(20))
def test_families_are_those_of_a_slow_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"P{n:02}" for n in range(30)]
    group_of = {name: f"P{int(rng.integers(4)) * 2:02}" for name in names[:10]}
    for name in set(group_of.values()):
        group_of[name] = name
    links = [tuple(sorted(rng.choice(names, 2, replace=False))) for _ in range(12)]
    variants = pd.DataFrame(links, columns=PAIRS.names[:2])
    groups = pd.DataFrame(
        [(key, name, key == name) for key, name in sorted(group_of.items())], columns=GROUPS.names
    )
    table = variant_families(variants.sample(frac=1, random_state=seed), groups)
    parts = {frozenset(rows["product_id"]) for _, rows in table.groupby("family_id")}
    assert parts == families_slowly(links, group_of)
    assert table["product_id"].is_unique
    assert (table.groupby("family_id")["product_id"].transform("min") == table["family_id"]).all()
    own = [group_of.get(key, key) for key in table["product_id"]]
    assert table["variant_id"].tolist() == own
    keys = ["family_id", "variant_id", "product_id"]
    pd.testing.assert_frame_equal(table, table.sort_values(keys, ignore_index=True))


def test_variants_stand_apart_are_merged_or_are_passed_over() -> None:
    found = {variants: detect(variants)[0] for variants in MODES}
    copy, variant = {("A", "A copy")}, {("B", "B blue")}
    assert {name: ends(it.pairs) for name, it in found.items()} == {
        SEPARATE: copy, MERGE: copy | variant, IGNORE: copy
    }  # fmt: skip
    assert {name: ends(it.related) for name, it in found.items()} == {
        SEPARATE: variant, MERGE: set(), IGNORE: set()
    }  # fmt: skip
    assert found[SEPARATE].families.to_numpy().tolist() == [
        ["B", "B", "B"],
        ["B blue", "B", "B blue"],
    ]
    assert set(found[SEPARATE].groups["product_id"]) == {"A", "A copy"}
    assert set(found[MERGE].groups["product_id"]) == {"A", "A copy", "B", "B blue"}
    assert len(found[MERGE].families) == len(found[IGNORE].families) == 0
    (pair,) = found[SEPARATE].related.to_dict("records")
    assert pair["relation"] == VARIANT
    assert pair["score"] > 0.5
    assert "other colours" in pair["evidence"]
    merged_pairs = found[MERGE].pairs.set_index("product_id_a")["relation"]
    assert merged_pairs.to_dict() == {"A": SAME_IMAGE, "B": VARIANT}


@pytest.mark.parametrize("variants", MODES)
def test_a_later_search_finds_what_one_search_does(variants: str) -> None:
    whole, _ = detect(variants)
    for left_out in ("B", "A copy"):
        fewer = [name for name in IMAGES if name != left_out]
        _, before = detect(SEPARATE, fewer)  # what is kept does not depend on the setting
        again, _ = detect(variants, since=before)
        for name in ("pairs", "related", "families", "groups"):
            pd.testing.assert_frame_equal(getattr(again, name), getattr(whole, name))


def test_variants_between_two_catalogues() -> None:
    both, theirs = merged(shop(["A", "B"]), shop(["B blue", "C"]), "B:")
    matcher = RadiusSearch(NEAR_BY)
    found, _ = Detector(matcher, Grouping(), GeometricVerifier(0.5))(both, others=theirs)
    assert found.pairs.empty
    assert ends(found.related) == {("B", "B:B blue")}


@pytest.mark.parametrize("variants", MODES)
def test_without_a_second_look_nothing_is_a_variant(variants: str) -> None:
    index = shop(list(IMAGES))
    found, _ = Detector(RadiusSearch(NEAR_BY, variants=variants), Grouping())(index)
    assert set(found.pairs["relation"]) == {SAME_IMAGE}
    assert found.related.empty
    assert found.families.empty


def test_a_pair_that_another_image_proves_is_no_variant() -> None:
    index = shop(["B", "B blue"])
    shared = index.images.assign(
        record=[0, 1], url="/B.png", vector=0, sha256_bytes="bB", sha256_pixels="pB"
    )
    images = pd.concat([index.images, shared], ignore_index=True)
    found, _ = Detector(RadiusSearch(NEAR_BY), Grouping(), GeometricVerifier(0.5))(
        replace(index, images=images)
    )
    assert found.pairs["relation"].tolist() == [SAME_IMAGE]
    assert found.related.empty
