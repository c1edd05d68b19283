"""Products with several images, judged by all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dedup.detection.detector import Detector
from dedup.detection.grouping import Grouping
from dedup.detection.query import Query
from dedup.detection.results import DetectionResult
from dedup.schemas import SHARED_IMAGE
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.sources.csv import CsvSource
from tests.conftest import draw, encoded, write_shop
from tests.detection.test_detector import make_index
from tests.search.test_build import index_of, save_encoder
from tests.support.galleries import Agreement, slowly

CHART, NOTE = 900, 901


def own(n: int, *beside: int, first: int = 0) -> dict[str, list[int]]:
    """Products with an own image, and further ones that all show."""
    return {f"P{number:03}": [number, *beside] for number in range(first, first + n)}


def detected(index: Index, **settings: Any) -> DetectionResult:
    return Detector(RadiusSearch(0.0), Grouping(), max_products=100, **settings)(index)[0]


def ends(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["product_id_a"], table["product_id_b"], strict=True))


def copied(index: Index, number: int) -> Index:
    """Each product shows a recompressed copy of an image: other pixels, nearly the same vector."""
    images, vectors = index.images.copy(), index.vectors
    rows = images.index[images["sha256_pixels"] == f"p{number:06}"]
    places = [*range(len(vectors)), *images.loc[rows[1:], "vector"]]
    for n, row in enumerate(rows[1:]):
        images.loc[row, "sha256_pixels"] = f"q{n:06}"
        images.loc[row, "sha256_bytes"] = f"c{n:06}"
        images.loc[row, "vector"] = len(vectors) + n
    moved = vectors[places].copy()
    moved[len(vectors) :] += 1e-4 * np.arange(1, len(rows))[:, None]
    return Index(images, moved, index.centroids, index.products, index.manifest)


@pytest.mark.parametrize("beside", [(CHART,), (CHART, NOTE)])
def test_a_size_chart_beside_own_photos_is_no_evidence(beside: tuple[int, ...]) -> None:
    found = detected(make_index(own(30, *beside)))
    assert found.pairs.empty
    assert found.related.empty
    assert found.shared["sha256_pixels"].tolist() == sorted(f"p{n:06}" for n in beside * 30)
    assert set(found.shared["reason"]) == {"shared"}
    assert set(found.shared["n_products"]) == {30}


@pytest.mark.parametrize("n", [3, 30])
def test_copies_of_a_size_chart_are_no_evidence_either(n: int) -> None:
    index = copied(make_index(own(n, CHART), dim=16), CHART)
    find = Detector(RadiusSearch(0.05), Grouping())
    found, _ = find(index)
    assert found.pairs.empty
    assert found.shared["sha256_pixels"].tolist() == [f"p{CHART:06}"] * n
    assert found.shared["product_id"].tolist() == [f"P{number:03}" for number in range(n)]
    part = index.images["record"] < n // 2
    products = index.products.iloc[: n // 2]
    earlier = Index(index.images[part], index.vectors, index.centroids, products, index.manifest)
    gone_on, _ = find(index, find(earlier)[1])
    for table in ("pairs", "related", "shared", "groups"):
        pd.testing.assert_frame_equal(getattr(gone_on, table), getattr(found, table))


def test_duplicates_among_products_with_a_size_chart_are_found() -> None:
    twice = {"X": [500, CHART], "Y": [500, CHART], "Z": [500, CHART]}
    found = detected(make_index(own(20, CHART) | twice))
    assert ends(found.pairs) == [("X", "Y"), ("X", "Z"), ("Y", "Z")]
    assert set(found.pairs["evidence"]) == {"same bytes; all images the same"}
    assert found.shared["n_products"].tolist() == [23] * 23


def test_a_shared_image_is_evidence_for_the_two_whose_main_image_it_is() -> None:
    chain = {f"P{k}": [k, k % 6 + 1] for k in range(1, 7)} | {"P7": [1, 4], "P8": [9]}
    found = detected(make_index(chain))
    pairs = dict(zip(ends(found.pairs), found.pairs["evidence"], strict=True))
    assert pairs[("P1", "P7")] == "same bytes; the main image is the same"
    assert ("P1", "P6") not in pairs
    assert ("P3", "P4") not in pairs
    three = {name: [CHART, 70 + n] for n, name in enumerate("XYZ")}
    assert detected(make_index(own(9, CHART) | three)).pairs.empty


@pytest.mark.parametrize(
    ("x", "y", "words", "is_pair"),
    [
        ([1, 2, 3], [1, 2, 3], "all images the same", True),
        ([1, 2], [2, 1], "all images the same", True),
        ([1, 2, 3], [1, 4], "the main image is the same", True),
        ([1], [1, 4], "the main image is the same", True),
        ([1, 2], [3, 1], "a secondary image is shared", True),  # the main image of one
        ([1, 2, 3], [4, 2, 3], "a secondary image is shared", True),  # most are the same
        ([1, 9], [2, 9], "a secondary image is shared", False),
        ([1, 2, 8, 9], [3, 4, 8, 9], "a secondary image is shared", False),
        ([1], [1], "", True),
    ],
)
def test_a_pair_is_judged_by_both_galleries(
    x: list[int], y: list[int], words: str, is_pair: bool
) -> None:
    found = detected(make_index({"X": x, "Y": y} | own(3, first=50)))
    table, other = (found.pairs, found.related) if is_pair else (found.related, found.pairs)
    assert ends(table) == [("X", "Y")]
    assert other.empty
    assert table["evidence"].tolist() == ["same bytes" + ("; " if words else "") + words]
    assert table["relation"].tolist() == ["same image" if is_pair else SHARED_IMAGE]
    assert len(found.groups) == (2 if is_pair else 0)


def test_the_main_image_of_several_rows_is_unknown() -> None:
    index = make_index({"X": [1, 9], "Y": [2, 9]})
    images = index.images.assign(record=range(4))
    products = index.products.iloc[[0, 0, 1, 1]].reset_index(drop=True)
    found = detected(Index(images, index.vectors, index.centroids, products, index.manifest))
    assert found.pairs["evidence"].tolist() == ["same bytes; an image is the same"]


def test_a_main_image_that_could_not_be_read_makes_no_other_one_the_main() -> None:
    index = make_index({"X": [7, 1, 9], "Y": [8, 2, 9]})
    unread = index.images["sha256_pixels"].isin(["p000007", "p000008"])
    images = index.images.assign(
        status=np.where(unread, "failed", "ok"), vector=index.images["vector"].mask(unread, -1)
    )
    found = detected(Index(images, index.vectors, index.centroids, index.products, index.manifest))
    assert found.pairs.empty
    assert ends(found.related) == [("X", "Y")]


@pytest.mark.parametrize("seed", range(40))
def test_judgements_are_those_of_slow_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_shared = int(rng.integers(1, 6))
    pixels: dict[str, list[int]] = {}
    for number in range(int(rng.integers(3, 11))):
        some = [100 + int(n) for n in rng.choice(n_shared, rng.integers(0, n_shared + 1), False)]
        mine = [number] if rng.random() < 0.8 else []
        shown = [*mine, *some] or [number]
        pixels[f"P{number:03}"] = shown if rng.random() < 0.8 else shown[::-1]
    index = make_index(pixels)
    images = index.images[["product_id", "sha256_pixels"]]
    rows = sorted(images.itertuples(index=False, name=None))
    agreements = [
        Agreement((a, b), (one, two))
        for n, (a, one) in enumerate(rows) for b, two in rows[n + 1 :] if one == two and a != b
    ]  # fmt: skip
    slow = slowly(index.images, agreements, [])
    found = detected(index)
    assert set(ends(found.pairs)) == {each.ends for each in slow.pairs}
    assert set(ends(found.related)) == {each.ends for each in slow.related}
    assert set(found.shared["sha256_pixels"]) == slow.shared
    for table in (found.pairs, found.related):
        for pair, text in zip(ends(table), table["evidence"], strict=True):
            assert text == "; ".join(filter(None, ["same bytes", slow.words[pair]]))


def test_auto_is_the_rule_of_a_search_of_the_index(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(encoded(draw(0, (30, 40)), "PNG"))
    checkpoint = save_encoder(tmp_path / "encoder.ckpt", 0)
    shop = write_shop(tmp_path, [(f"P{number:02}", "logo.png") for number in range(12)])
    index = index_of(CsvSource(str(shop)).read(), checkpoint)
    found, _ = Detector(RadiusSearch(0.0), Grouping())(index)
    assert found.shared["n_products"].tolist() == [12] * 12
    query = Query(index, RadiusSearch(1e6))
    answer = query(str(tmp_path / "logo.png"))
    assert answer["product_id"].tolist() == [f"P{number:02}" for number in range(10)]
    assert query.clusters.tolist() == [-1], "a placeholder is near to nothing"


def test_a_photo_of_three_products_is_no_placeholder_for_their_health() -> None:
    index = make_index(own(3, CHART) | own(40, first=3))
    result = detected(index)
    assert result.shared["n_products"].tolist() == [3, 3, 3]
    assert not result.health["problems"].str.contains("placeholder").any()
