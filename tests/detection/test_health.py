"""Verdicts on images: each problem at its limit, reasons in words, and laws of limits and order."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.detection.health import PROFILES, HealthRules, unusable_products
from dedup.errors import ArtifactError, ConfigError
from dedup.schemas import HEALTH, INDEX_IMAGES, PROBLEMS, SHARED
from dedup.search.image_access import ImageAccess, no_images
from dedup.search.index import Index
from dedup.store.measures import MEASURES

FINE = {
    "width": 800, "height": 1000, "bytes": 2e5, "format": 0, "quality": 90, "blockiness": 1,
    "sharpness": 1.3, "light": 240, "product_light": 180, "clipped": 0.02, "range": 150,
}  # fmt: skip

CASES: list[tuple[dict[str, float], str, str]] = [
    ({}, "", ""),
    ({"width": 500, "height": 500}, "", ""),
    ({"width": 499, "height": 900}, "too_small", "499 x 900 pixels, at least 500 x 500 (google"),
    ({"width": 8000, "height": 8000}, "", ""),
    ({"width": 8000, "height": 8001}, "too_large", "64.0 megapixels, at most 64"),
    ({"bytes": 16e6}, "", ""),
    ({"bytes": 17.25e6}, "too_large", "17.2 MB, at most 16"),
    ({"width": 600, "height": 1800}, "", ""),
    ({"width": 1900, "height": 600}, "aspect", "1900 x 600 pixels, one side at most 3 times"),
    ({"sharpness": 0.54}, "", ""),
    ({"sharpness": 0.31}, "blurred", "blurred: sharpness 0.31, at least 0.54"),
    ({"light": 90, "product_light": 60}, "dark", "too dark: its brightest parts reach 90 of 255"),
    ({"product_light": 8}, "dark", "the product is too dark: it reaches 8 of 255, at least 15"),
    ({"product_light": 30}, "", ""),
    ({"clipped": 0.62}, "bright", "too bright: 62% of the product's area is white, at most 25%"),
    ({"range": 40}, "low_contrast", "light spans 40 of 255 levels, at least 60"),
    ({"quality": 12}, "compressed", "strongly compressed: JPEG quality 12, at least 25"),
    ({"quality": np.nan, "blockiness": 7}, "compressed", "blocks of strong compression: 7.0"),
    (dict.fromkeys(MEASURES, np.nan), "", ""),
    ({"sharpness": 0.3, "range": 9, "width": 90}, "too_small blurred aspect low_contrast", ""),
]


@pytest.mark.parametrize(("change", "problems", "reason"), CASES)
def test_problems_and_their_reasons(change: dict[str, float], problems: str, reason: str) -> None:
    names, texts = HealthRules().judge(pd.DataFrame([FINE | change]))
    assert names == [problems.split()]
    assert len(texts[0]) == len(names[0])
    assert reason in "; ".join(texts[0])
    assert HealthRules().is_usable(names[0]) == (
        not {"too_small", "too_large", "blurred", "dark", "bright"} & {*problems.split()}
    )


@pytest.mark.parametrize(
    ("rules", "side", "problems"),
    [
        ({"profile": "google_best"}, 1499, ["too_small"]),
        ({"profile": "google_best"}, 1500, []),
        ({"profile": "any"}, 1, []),
        ({"profile": "google_best", "min_side": 10}, 10, []),
        ({"min_side": 700}, 600, ["too_small"]),
        ({"max_megapixels": 0.1}, 600, ["too_large"]),
        ({"max_megabytes": 0.1}, 600, ["too_large"]),
    ],
)
def test_a_profile_holds_where_nothing_else_is_set(
    rules: dict[str, Any], side: int, problems: list[str]
) -> None:
    facts = pd.DataFrame([FINE | {"width": side, "height": side}])
    assert HealthRules(**rules).judge(facts)[0] == [problems]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"profile": "amazon"}, "health.profile=amazon: expected one of google_2027, google_best"),
        ({"unusable": ["ugly"]}, "there is no problem ugly, expected some of unreadable"),
    ],
)
def test_unknown_names_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        HealthRules(**rules)


@pytest.mark.parametrize("unusable", ["blurred", ["blurred", "aspect"], [], None])
def test_the_user_says_what_makes_an_image_unusable(unusable: Any) -> None:
    rules = HealthRules(unusable=unusable)
    assert rules.is_usable(["dark"])
    assert rules.is_usable(["blurred"]) == (not unusable)


LIMITS = {
    "max_aspect": 1.0, "min_sharpness": -0.1, "min_light": -10.0, "min_product_light": -10.0,
    "max_clipped": 0.1, "min_range": -10.0, "max_blockiness": 1.0, "min_quality": -5.0,
}  # fmt: skip
"""Limits with a step to a more lenient one."""


@given(st.sampled_from(sorted(LIMITS)), st.integers(1, 20), st.integers(0, 99))
def test_a_more_lenient_limit_never_adds_a_problem(name: str, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    facts = pd.DataFrame(
        {key: rng.uniform(0, 2 * max(value, 0.5), 20) for key, value in FINE.items()}
    )
    strict = HealthRules()
    lenient = HealthRules(**{name: getattr(strict, name) + steps * LIMITS[name]})
    for before, after in zip(strict.judge(facts)[0], lenient.judge(facts)[0], strict=True):
        assert {*after} <= {*before}
        assert before == sorted(before, key=PROBLEMS.index)


def index_of(*rows: tuple[str, str, str], measures: dict[str, dict[str, float]]) -> Index:
    """An index of (product, image, status); an image has contents of its own."""
    images = pd.DataFrame(list(rows), columns=["product_id", "url", "status"])
    ok = images["status"] == "ok"
    images["record"] = range(len(images))
    images["sha256_pixels"] = images["url"].where(ok, "")
    images["reason"] = np.where(ok, "", "not_found")
    images["contrast"] = np.where(ok, 50.0, 0.0)
    for name in ("width", "height"):
        images[name] = np.where(ok, 800, 0).astype(np.int32)

    def measured(urls: Any) -> Any:
        rows = [[(FINE | measures.get(url, {}))[name] for name in MEASURES] for url in urls]
        return np.array(rows, float).reshape(len(urls), len(MEASURES))

    empty = np.zeros((0, 2), np.float32)
    sight = ImageAccess(no_images, no_images, measures=measured)
    table = images.reindex(columns=INDEX_IMAGES.names)
    return Index(table, empty, empty, pd.DataFrame(), sight=sight)


ROWS = (
    ("B", "b.jpg", "ok"), ("A", "dark.jpg", "ok"), ("A", "a.jpg", "ok"), ("C", "dark.jpg", "ok"),
    ("C", "c.jpg", "failed"), ("D", "every.jpg", "ok"), ("B", "every.jpg", "ok"),
    ("E", "e.jpg", "skipped"), ("", "f.jpg", "failed"), ("B", "b.jpg", "ok"),
)  # fmt: skip
DARK = {"dark.jpg": {"light": 40.0}}
SHARED_ROWS = pd.DataFrame([("every.jpg", "D", "every.jpg", 2, "shared")], columns=SHARED.names)


def test_every_product_and_image_has_one_row() -> None:
    health = HealthRules()(index_of(*ROWS, measures=DARK), SHARED_ROWS)
    assert list(health) == HEALTH.names
    rows = health[["product_id", "image", "problems", "usable"]].to_numpy().tolist()
    assert rows == [
        ["A", "a.jpg", "", True],
        ["A", "dark.jpg", "dark", False],
        ["B", "b.jpg", "", True],
        ["B", "every.jpg", "placeholder", False],
        ["C", "c.jpg", "unreadable", False],
        ["C", "dark.jpg", "dark", False],
        ["D", "every.jpg", "placeholder", False],
    ]
    assert unusable_products(health)["product_id"].unique().tolist() == ["C", "D"]
    reasons = dict(zip(health["image"], health["reasons"], strict=True))
    assert reasons["c.jpg"] == "it could not be read: not_found"
    assert reasons["every.jpg"] == "a placeholder: so many products show it"


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_images_does_not_matter(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(ROWS))
    mixed = index_of(*(ROWS[place] for place in order), measures=DARK)
    expected = HealthRules()(index_of(*ROWS, measures=DARK), SHARED_ROWS)
    pd.testing.assert_frame_equal(HealthRules()(mixed, SHARED_ROWS), expected)


def test_without_the_store_sizes_alone_are_judged(caplog: pytest.LogCaptureFixture) -> None:
    index = index_of(*ROWS, measures=DARK)

    def gone(urls: Any) -> Any:
        raise ArtifactError("there is no store")

    alone = index.with_images(index.thumbnails, index.sight._replace(measures=gone))
    health = HealthRules(profile="google_best")(alone, SHARED_ROWS)
    assert "judged by their sizes alone: there is no store" in caplog.text
    assert health.loc[health["image"] == "dark.jpg", "problems"].unique().tolist() == ["too_small"]
    assert (health["bytes"] == -1).all()
    assert health["sharpness"].isna().all()


def test_no_images_are_no_rows() -> None:
    health = HealthRules()(index_of(measures={}), pd.DataFrame(columns=SHARED.names))
    assert len(health) == 0
    assert list(health) == HEALTH.names
    assert len(unusable_products(health)) == 0


def test_profiles_are_what_they_are_named_after() -> None:
    assert PROFILES["google_2027"] == (500, 64, 16)
    assert PROFILES["google_best"] == (1500, 64, 16)
