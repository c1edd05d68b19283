"""The exact tier against a slow loop."""

import numpy as np
import pandas as pd

from dedup.detection.exact import exact_pairs
from dedup.detection.grouping import best_pairs
from dedup.schemas import IMAGES, PAIRS

IN_WORDS = {
    "same_url": "same address", "same_bytes": "same bytes", "same_pixels": "same pixels"
}  # fmt: skip


def random_images(seed: int, n: int = 60) -> pd.DataFrame:
    """Images where addresses, bytes and pixels coincide now and then, consistently."""
    rng = np.random.default_rng(seed)
    url = rng.integers(0, 30, n)
    content = url // 2  # several addresses hold the same bytes
    pixels = content // 2  # several bytes decode to the same pixels
    status = np.where(pixels % 5 == 0, "failed", "ok")
    return pd.DataFrame(
        {
            "record": np.arange(n),
            "product_id": [f"P{number}" for number in rng.integers(0, 25, n)],
            "url": [f"u{number}" for number in url],
            "sha256_bytes": [f"b{number}" for number in content],
            "sha256_pixels": [f"p{number}" for number in pixels],
            "width": 1, "height": 1, "contrast": 30.0, "status": status, "reason": "", "detail": "",
        },
        columns=IMAGES.names,
    )  # fmt: skip


def slow_pairs(images: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The surest tier of every two products, by comparing every two images."""
    rank = ["same_pixels", "same_bytes", "same_url"]
    best: dict[tuple[str, str], str] = {}
    rows = images[images["status"] == "ok"].to_dict("records")
    for a in rows:
        for b in rows:
            if a["product_id"] >= b["product_id"] or a["sha256_pixels"] != b["sha256_pixels"]:
                continue
            tier = "same_url" if a["url"] == b["url"] else "same_pixels"
            if tier == "same_pixels" and a["sha256_bytes"] == b["sha256_bytes"]:
                tier = "same_bytes"
            key = (a["product_id"], b["product_id"])
            best[key] = max(best.get(key, tier), tier, key=rank.index)
    return best


def test_pairs_and_tiers_are_those_of_a_slow_loop() -> None:
    for seed in range(20):
        images = random_images(seed)
        pairs = best_pairs(exact_pairs(images))
        ends = zip(pairs["product_id_a"], pairs["product_id_b"], strict=True)
        found = dict(zip(ends, pairs["tier"], strict=True))
        assert found == slow_pairs(images)
        assert (pairs["distance"] == 0).all()
        assert (pairs["score"] == 1).all()
        assert pairs["evidence"].tolist() == [IN_WORDS[tier] for tier in pairs["tier"]]


def test_the_evidence_is_a_image_of_each_product() -> None:
    images = random_images(1)
    shown = set(zip(images["product_id"], images["url"], strict=True))
    pairs = best_pairs(exact_pairs(images))
    for end in ("a", "b"):
        assert set(zip(pairs[f"product_id_{end}"], pairs[f"image_{end}"], strict=True)) <= shown


def test_row_order_does_not_matter() -> None:
    images = random_images(2)
    shuffled = images.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(
        best_pairs(exact_pairs(images)), best_pairs(exact_pairs(shuffled))
    )


def test_no_candidate_is_listed_in_vain() -> None:
    images = random_images(3).drop_duplicates(["product_id", "sha256_pixels"])
    pairs = exact_pairs(images)
    assert pairs.columns.sort_values().tolist() == sorted(PAIRS.names)
    assert (pairs["product_id_a"] < pairs["product_id_b"]).all()
    ok = images[images["status"] == "ok"]
    sizes = ok.groupby("sha256_pixels").size()
    assert len(pairs) == (sizes * (sizes - 1) // 2).sum()


def test_one_product_with_equal_images_is_no_pair() -> None:
    assert exact_pairs(random_images(4).assign(product_id="P1", status="ok")).empty


def test_no_images_no_pairs() -> None:
    assert best_pairs(exact_pairs(random_images(0)[:0])).empty
