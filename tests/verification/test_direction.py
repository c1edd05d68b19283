"""Which of two drawn images is the copy, on either side, by each kind of edit."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dedup.augmentations import edit
from dedup.detection.detector import Detector
from dedup.detection.grouping import Grouping
from dedup.runtime.checksums import file_facts, write_checked
from dedup.runtime.tables import write_table
from dedup.schemas import NEAR
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState
from dedup.verification.alignment import LocalFeatures
from dedup.verification.direction import told
from dedup.verification.geometric import GeometricVerifier, Verdict
from dedup.verification.keypoints import RgbImage
from tests.detection.test_comparison import NEAR_BY, shop


def photo(seed: int) -> RgbImage:
    """Shapes with soft edges and fine stripes on a ground that changes slowly."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 200, (5, 4, 3)).astype(np.float32)
    image = cv2.resize(coarse, (240, 300), interpolation=cv2.INTER_CUBIC)
    for _ in range(14):
        centre, axes = rng.integers([10, 10], [230, 290]), rng.integers(12, 60, 2)
        colour = [float(level) for level in rng.integers(0, 255, 3)]
        angle = float(rng.uniform(0, 180))
        cv2.ellipse(
            image, tuple(map(int, centre)), tuple(map(int, axes)), angle, 0, 360, colour, -1
        )
    for x in range(20, 220, 6):
        cv2.line(image, (x, 120), (x + 20, 200), [float(v) for v in rng.integers(0, 255, 3)], 1)
    smooth = cv2.GaussianBlur(image, (0, 0), 0.8)
    return np.clip(smooth, 0, 255).astype(np.uint8)


def verdict(left: RgbImage, right: RgbImage) -> Verdict:
    (found,) = GeometricVerifier()([(LocalFeatures.of(left), LocalFeatures.of(right))])
    return found


EDITED = {
    "crop": "cropped to", "border": "", "zoom_out": "", "sticker": "", "gray": "without colour",
    "blur": "less detail", "screenshot": "set in a larger image",
}  # fmt: skip


@pytest.mark.parametrize("name", EDITED)
def test_the_edited_image_is_the_copy_on_either_side(name: str) -> None:
    right = wrong = named = 0
    for seed in range(3):
        image, other = photo(seed), photo(seed + 50)
        copy = edit(image, name, 0.7, np.random.default_rng(seed), other)
        on_right, on_left = verdict(image, copy), verdict(copy, image)
        values = [on_right.copy_of, -on_left.copy_of]
        right, wrong = right + (min(values) > 0), wrong + (min(values) < 0)
        named += EDITED[name] in on_right.evidence and EDITED[name] in on_left.evidence
    assert wrong == 0
    assert right >= 2
    assert named >= 2


@pytest.mark.parametrize("name", ["mirror", "brightness", "white_balance"])
def test_edits_without_a_trace_say_nothing(name: str) -> None:
    for seed in range(2):
        image = photo(seed)
        assert verdict(image, edit(image, name, 0.6, np.random.default_rng(seed))).copy_of == 0
    assert verdict(image, image).copy_of == 0


def test_evidence_names_the_side() -> None:
    assert told(-0.5, "A", "B", "mirrored") == "A is the copy: mirrored"
    assert told(0.5, "A", "B", "mirrored") == "B is the copy: mirrored"
    assert told(0, "A", "B", "mirrored") == told(np.nan, "A", "B", "mirrored") == "mirrored"


@pytest.mark.parametrize("names", [["A", "A copy", "C"], ["A copy", "A", "C"]])
def test_a_search_that_goes_on_keeps_the_same_product(names: list[str]) -> None:
    detector = Detector(RadiusSearch(NEAR_BY), Grouping(), GeometricVerifier(0.5))
    fresh, search = detector(shop(names))
    assert fresh.groups.loc[fresh.groups["kept"], "product_id"].tolist() == ["A"]
    assert fresh.pairs["evidence"].tolist()[0].startswith("A copy is the copy: mirrored")
    _, before = detector(shop(names[:2]))
    again, _ = detector(shop(names), since=before)
    pd.testing.assert_frame_equal(again.groups, fresh.groups)
    pd.testing.assert_frame_equal(again.pairs, fresh.pairs)
    assert set(search.near["copy_of"]) != {0.0}


def test_a_search_of_an_earlier_version_tells_no_copy(tmp_path: Path) -> None:
    detector = Detector(RadiusSearch(NEAR_BY), Grouping(), GeometricVerifier(0.5))
    _, search = detector(shop(["A", "A copy"]))
    index = shop(["A", "A copy"])
    pixels = index.images["sha256_pixels"].map(lambda name: name.encode().hex().ljust(64, "0"))
    named = dict(zip(index.images["sha256_pixels"], pixels, strict=True))
    ends = {end: search.near[end].map(named) for end in ("pixels_a", "pixels_b")}
    compared = pd.DataFrame({"sha256_pixels": sorted(pixels)})
    facts = dataclasses.replace(search.facts, checkpoint_sha256="0" * 64)
    state = SearchState(search.near.assign(**ends), compared, facts)
    state.save(tmp_path)
    old = pa.schema([field for field in NEAR if field.name != "copy_of"])
    write_table(state.near, old, tmp_path / "near.parquet")
    names = ("near.parquet", "compared.parquet")
    rows = {"near.parquet": len(state.near), "compared.parquet": len(compared)}
    files = {name: file_facts(tmp_path / name, rows=rows[name]) for name in names}
    write_checked(facts.to_dict(), files, tmp_path / "search.json")
    assert SearchState.load(tmp_path).near["copy_of"].tolist() == [0.0] * len(state.near)
