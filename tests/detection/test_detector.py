"""Detection on whole indexes, beside slow loops over products."""

from collections.abc import Collection
from dataclasses import replace
from itertools import combinations
from math import log10
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.detection.detector import Detector, merged
from dedup.detection.grouping import Grouping
from dedup.errors import ArtifactError, ConfigError
from dedup.schemas import INDEX_IMAGES
from dedup.search.clustering import nearest_centroids
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch, l2_distance
from tests.support.effort import examples
from tests.support.galleries import Agreement, slowly

MANIFEST = {"id_column": "id", "title_column": None, "checkpoint_sha256": "c", "checkpoint": "x",
            "store": "s", "reader": "pillow"}  # fmt: skip
TEXTS = ["product_id", "url", "sha256_bytes", "sha256_pixels", "status", "reason", "detail"]


def make_index(pixels: dict[str, list[int]], seed: int = 0, dim: int = 4) -> Index:
    """Products with images; image n has the same vector in every index of this seed."""
    rows = [(key, number) for key, numbers in pixels.items() for number in numbers]
    numbers = sorted({number for _, number in rows})
    vectors = np.array(
        [np.random.default_rng([seed, number]).normal(size=dim) for number in numbers], np.float32
    ).reshape(-1, dim)
    centroids = np.random.default_rng(seed).normal(size=(3, dim)).astype(np.float32)
    labels = nearest_centroids(vectors, centroids)
    vector = [numbers.index(number) for _, number in rows]
    images = pd.DataFrame(
        {
            "record": [list(pixels).index(key) for key, _ in rows],
            "product_id": [key for key, _ in rows],
            "url": [f"/{key}/{number}.jpg" for key, number in rows],
            "sha256_bytes": [f"b{number}" for _, number in rows],
            "sha256_pixels": [f"p{number:06}" for _, number in rows],
            "width": 9, "height": 9, "contrast": 30.0, "status": "ok", "reason": "", "detail": "",
            "vector": np.array(vector, np.int64),
            "cluster": labels[vector] if vector else np.empty(0, np.int64),
        },
        columns=INDEX_IMAGES.names,
    )  # fmt: skip
    images = images.astype(dict.fromkeys(TEXTS, "str"))  # where there are no rows
    brands = [f"brand {number % 3}" for number in range(len(pixels))]
    products = pd.DataFrame({"id": list(pixels), "brand": brands}, dtype=str)
    return Index(images, vectors, centroids, products, dict(MANIFEST))


def slow_pairs(
    index: Index, threshold: float, others: Collection[str] | None = None
) -> dict[tuple[str, str], float]:
    """Distance of each pair of products, by looking at every two images."""
    gaps: list[tuple[Agreement, float]] = []
    copies = []
    names = ["product_id", "sha256_pixels", "vector"]
    rows = list(index.images[names].itertuples(index=False, name=None))
    for (a, one, v), (b, two, w) in combinations(rows, 2):
        gap = 0.0 if v == w else float(l2_distance(index.vectors[v], index.vectors[w]))
        is_across = others is None or (a in others) != (b in others)
        if gap > threshold or not (v == w or is_across):
            continue
        copies.append((one, two))
        if a != b:
            ends, digests = ((a, b), (one, two)) if a < b else ((b, a), (two, one))
            meant = round(gap, 4 - round(log10(longest(index.vectors[[v, w]]))))
            gaps.append((Agreement(ends, digests), meant))
    stay = set(slowly(index.images, [agreement for agreement, _ in gaps], copies).pairs)
    found: dict[tuple[str, str], float] = {}
    for agreement, gap in gaps:
        if agreement in stay:
            found[agreement.ends] = min(found.get(agreement.ends, np.inf), gap)
    return found


def longest(vectors: npt.NDArray[np.float32]) -> float:
    return max(float(np.linalg.norm(vector.astype(float))) for vector in vectors)


def as_dict(pairs: pd.DataFrame) -> dict[tuple[str, str], float]:
    ends = zip(pairs["product_id_a"], pairs["product_id_b"], strict=True)
    return dict(zip(ends, pairs["distance"], strict=True))


def detection(
    threshold: float = 1.0, max_products: int = 100, block_by: str | None = None
) -> Detector:
    return Detector(
        RadiusSearch(threshold), Grouping(), max_products=max_products, block_by=block_by
    )


catalogues = st.dictionaries(
    st.sampled_from([f"P{number}" for number in range(14)]),
    st.lists(st.integers(0, 20), min_size=1, max_size=3, unique=True),
    max_size=12,
)
thresholds = st.sampled_from([0.0, 0.5, 1.0, 2.0, 9.0])


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(catalogues, thresholds)
def test_pairs_are_those_of_a_slow_loop(images: dict[str, list[int]], threshold: float) -> None:
    index = make_index(images)
    findings, search = detection(threshold)(index)
    assert as_dict(findings.pairs) == slow_pairs(index, threshold)
    assert set(findings.pairs["tier"]) <= {"same_bytes", "near"}
    assert ((findings.pairs["distance"] == 0) == (findings.pairs["tier"] == "same_bytes")).all()
    shown = set(zip(index.images["product_id"], index.images["url"], strict=True))
    for row in findings.pairs.itertuples():
        assert {(row.product_id_a, row.image_a), (row.product_id_b, row.image_b)} <= shown
    assert search.facts.n_images == len(index.vectors)


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(catalogues, thresholds, st.randoms(use_true_random=False))
def test_row_order_changes_nothing(
    images: dict[str, list[int]], threshold: float, random: object
) -> None:
    index = make_index(images)
    place = np.random.default_rng(hash(str(images)) % 2**32).permutation(len(images))
    order = np.argsort(place[index.images["record"]], kind="stable")
    shuffled = Index(
        index.images.iloc[order], index.vectors, index.centroids, index.products, index.manifest
    )
    (one, first), (two, second) = detection(threshold)(index), detection(threshold)(shuffled)
    for table in ("pairs", "groups", "shared", "related"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(two, table))
    assert first.facts == second.facts
    pd.testing.assert_frame_equal(first.near, second.near)


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(catalogues, catalogues, thresholds, thresholds)
def test_going_on_from_an_earlier_search_changes_nothing(
    before: dict[str, list[int]], now: dict[str, list[int]], threshold: float, lower: float
) -> None:
    threshold, lower = max(threshold, lower), min(threshold, lower)
    _, since = detection(threshold)(make_index(before))
    index = make_index(now)
    fresh, search = detection(lower)(index)
    gone_on, searched = detection(lower)(index, since)
    pd.testing.assert_frame_equal(gone_on.pairs, fresh.pairs)
    for table in ("groups", "shared", "related"):
        pd.testing.assert_frame_equal(getattr(gone_on, table), getattr(fresh, table))
    pd.testing.assert_frame_equal(searched.near, search.near, check_dtype=False)
    pd.testing.assert_frame_equal(searched.compared, search.compared)
    for facts in (search.facts, searched.facts):  # images that are gone since count no more
        assert facts.n_pairs is not None
        assert facts.n_near_pairs <= facts.n_comparisons <= facts.n_pairs
        assert facts.share <= 1


def test_what_is_a_placeholder_by_auto_follows_the_products_of_now() -> None:
    """One image of 11 products is a placeholder in a small shop, and none in a larger one."""
    logo = {f"P{number:03}": [999] for number in range(11)}
    small = logo | {f"Q{number:03}": [number] for number in range(100)}
    large = small | {f"R{number:03}": [200 + number] for number in range(109)}
    find = Detector(RadiusSearch(0.0), Grouping())
    for before, now, n_pairs in ((small, large, 55), (large, small, 0)):
        _, since = find(make_index(before))
        fresh, _ = find(make_index(now))
        gone_on, _ = find(make_index(now), since)
        assert len(fresh.pairs) == n_pairs
        assert len(fresh.shared) == (0 if n_pairs else 11)
        for table in ("pairs", "groups", "shared"):
            pd.testing.assert_frame_equal(getattr(gone_on, table), getattr(fresh, table))


def test_nothing_is_compared_twice() -> None:
    index = make_index({f"P{number}": [number] for number in range(40)})
    _, since = detection(1.0)(index)
    _, again = detection(1.0)(index, since)
    assert again.facts == since.facts


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(catalogues, catalogues, thresholds)
def test_two_catalogues_are_compared_with_each_other_alone(
    ours: dict[str, list[int]], theirs: dict[str, list[int]], threshold: float
) -> None:
    both, others = merged(make_index(ours), make_index(theirs), "B:")
    assert others == {f"B:{key}" for key in theirs}
    joined = make_index(ours | {f"B:{key}": numbers for key, numbers in theirs.items()})
    findings, _ = detection(threshold)(both, others=others)
    joined_images = {key: set(numbers) for key, numbers in ours.items()}
    joined_images |= {f"B:{key}": set(numbers) for key, numbers in theirs.items()}
    expected = {
        ends: gap
        for ends, gap in slow_pairs(joined, threshold, others).items()
        if (ends[0] in others) != (ends[1] in others)
    }
    found = as_dict(findings.pairs)
    assert found.items() <= expected.items()
    assert all(
        len(joined_images[a] | joined_images[b]) > 1 for a, b in expected.keys() - found.keys()
    )
    assert list(both.products["id"]) == [*ours, *(f"B:{key}" for key in theirs)]


def test_a_search_between_catalogues_is_no_search_of_one() -> None:
    index, other = make_index({"P1": [1], "P2": [1]}), make_index({"P3": [1]})
    both, others = merged(index, other, "B:")
    _, between = detection(0.5)(both, others=others)
    with pytest.raises(ArtifactError, match="between two catalogues"):
        detection(0.5)(index, between)


def test_two_catalogues_that_do_not_fit() -> None:
    index = make_index({"P1": [1], "B:2": [2]})
    with pytest.raises(ConfigError, match="'B:2' starts with it"):
        merged(index, make_index({"P1": [1]}), "B:")
    other = make_index({"P1": [1]})
    other.manifest["checkpoint_sha256"] = "another"
    with pytest.raises(ArtifactError, match="another checkpoint"):
        merged(index, other, "C:")


def test_only_products_of_one_block_are_paired() -> None:
    index = make_index({f"P{number}": [1, number] for number in range(9)})
    findings, _ = detection(9.0, block_by="brand")(index)
    brand = dict(zip(index.products["id"], index.products["brand"], strict=True))
    expected = {ends for ends in slow_pairs(index, 9.0) if brand[ends[0]] == brand[ends[1]]}
    assert set(as_dict(findings.pairs)) == expected
    assert len(expected) == 9
    apart = make_index({f"P{number}": [number] for number in range(9)})
    _, search = detection(9.0, block_by="brand")(apart)
    assert search.facts.n_comparisons == 9  # three brands of three products, not 36 pairs
    assert search.facts.share == 1
    with pytest.raises(ConfigError, match=r"block_by=colour.*It has id, brand"):
        detection(block_by="colour")(index)


def test_products_without_a_block_are_counted_and_records_without_an_id_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = make_index({"A": [1], "B": [2], "C": [3]})
    products = index.products.assign(brand=["x", "", "x"])
    nameless = pd.concat([products, products.tail(1).assign(id="", brand="")], ignore_index=True)
    with caplog.at_level("INFO", "dedup"):
        detection(9.0, block_by="brand")(replace(index, products=nameless))
    assert "1 of 3 products have no brand" in caplog.text


@settings(max_examples=25, deadline=None, derandomize=True)
@given(catalogues, st.lists(st.sampled_from(["x", "y", " "]), min_size=12, max_size=12), st.data())
def test_blocks_beside_a_slow_loop(
    images: dict[str, list[int]], brands: list[str], data: st.DataObject
) -> None:
    index = make_index(images)
    brands = brands[: len(index.products)]
    index = replace(index, products=index.products.assign(brand=brands))
    brand = {key: cell.strip() for key, cell in zip(images, brands, strict=True)}
    others = data.draw(st.none() | st.sets(st.sampled_from(sorted(images) or ["P"])))
    findings, search = detection(2.0, block_by="brand")(index, others=others)
    expected = {
        (a, b)
        for a, b in slow_pairs(index, 2.0)
        if (brand[a] == brand[b] or "" in (brand[a], brand[b]))
        and (others is None or (a in others) != (b in others))
    }
    assert set(as_dict(findings.pairs)) == expected
    n_all = len(index.vectors) * (len(index.vectors) - 1) // 2
    if others is None and " " not in brands:
        assert search.facts.n_comparisons <= 2 * n_all  # an image may be in both blocks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint_sha256": "d"}, "another checkpoint"),
        ({"threshold": 0.5}, "threshold 0.5"),
        ({"lossless": False}, "lossless=False"),
    ],
)
def test_an_earlier_search_that_does_not_fit(change: dict[str, Any], message: str) -> None:
    index = make_index({"P1": [1], "P2": [2]})
    _, since = detection(1.0)(index)
    since = replace(since, facts=replace(since.facts, **change))
    with pytest.raises(ArtifactError, match=message):
        detection(1.0)(index, since)


def test_placeholders_cost_nothing_and_change_nothing() -> None:
    """5 % of 100,000 products show one image, and a few a flat one: output stays O(n)."""
    n, n_placeholders = 100_000, 5_000
    rng = np.random.default_rng(0)
    # Every tenth product shows the image of another one; vectors of 300 pairs are close.
    image = np.arange(n)
    image[::10] = rng.integers(0, n, len(image[::10]))
    vectors = rng.normal(size=(n + 2, 8)).astype(np.float32) * 10
    close = np.arange(1, 600, 2)
    vectors[close] = vectors[close - 1] + 0.001
    index = bulk(image, vectors, np.full(n, 40.0))
    holders = rng.choice(n, n_placeholders, replace=False)
    shown = image.copy()
    shown[holders[:4_990]] = n  # "no image available"
    shown[holders[4_990:]] = n + 1  # white
    contrast = np.where(shown == n + 1, 0.4, 40.0)
    find = detection(0.05, max_products=100)
    before, _ = find(index)
    after, _ = find(bulk(shown, vectors, contrast))
    held = {f"P{number:06}" for number in holders}
    others = ~before.pairs["product_id_a"].isin(held) & ~before.pairs["product_id_b"].isin(held)
    pd.testing.assert_frame_equal(before.pairs[others].reset_index(drop=True), after.pairs)
    assert len(before.pairs) > 9_000
    assert after.shared["reason"].value_counts().to_dict() == {"shared": 4_990, "flat": 10}
    assert after.shared["n_products"].unique().tolist() == [4_990, 10]
    assert set(after.shared["product_id"]) == held


def bulk(image: np.ndarray, vectors: np.ndarray, contrast: np.ndarray) -> Index:
    """An index of one image a product, by the image's number."""
    n = len(image)
    ids = [f"P{number:06}" for number in range(n)]
    centroids = vectors[:50]
    images = pd.DataFrame(
        {
            "record": np.arange(n), "product_id": ids, "url": [f"/{key}.jpg" for key in ids],
            "sha256_bytes": [f"b{number}" for number in image],
            "sha256_pixels": [f"p{number:06}" for number in image],
            "width": 9, "height": 9, "contrast": contrast.astype(np.float32), "status": "ok",
            "reason": "", "detail": "", "vector": image,
            "cluster": nearest_centroids(vectors, centroids)[image],
        },
        columns=INDEX_IMAGES.names,
    )  # fmt: skip
    return Index(images, vectors, centroids, pd.DataFrame({"id": ids}), dict(MANIFEST))
