"""The page on colour variants and on other photos of a product."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from dedup.detection.results import DetectionResult
from dedup.reports.html import HtmlReport
from dedup.reports.related import MAX_CARDS
from dedup.schemas import FAMILIES, PAIRS, SHARED_IMAGE
from tests.support.pages import Node, address, parse, small_shop

Related = tuple[str, str, float, str]


def related(*rows: Related) -> pd.DataFrame:
    full = [
        (a, b, 0.5, "near", address(a), address(b), score, f"{a} and {b}", called)
        for a, b, score, called in rows
    ]
    return pd.DataFrame(full, columns=PAIRS.names)


def page_on(
    tmp_path: Path, rows: list[Related], families: list[tuple[str, str, str]]
) -> tuple[Node, DetectionResult]:
    shop, index = small_shop()
    table = pd.DataFrame(families, columns=FAMILIES.names)
    findings = replace(shop, related=related(*rows), families=table)
    return parse(HtmlReport().write(findings, index, tmp_path)), findings


def test_each_colour_of_a_family_has_a_tile(tmp_path: Path) -> None:
    rows = [("B", "F", 0.875, "colour variant"), ("F", "G", 0.75, "colour variant")]
    families = [(key, "A", "A") for key in "ABC"] + [("F", "A", "F"), ("G", "A", "G")]
    page, _ = page_on(tmp_path, rows, families)
    (section,) = page.all("details", "kin")
    assert "open" not in section.attributes
    (card,) = section.all("article")
    assert "Family A" in card.text
    assert "5 products" in card.text
    tiles = card.all("li", "product")
    assert [tile.all("p", "ids")[0].text.strip() for tile in tiles] == ["A", "F", "G"]
    assert "Blue jacket" in tiles[0].text
    assert "and 2 duplicates of it" in tiles[0].text
    assert "88 % sure: B and F" in tiles[1].text
    assert "75 % sure: F and G" in tiles[2].text
    assert "5 products in 1 family of colour variants" in page.all("header")[0].text
    assert len(page.all("article", "group")) == 3, "two groups as before, and the family"


def test_other_photos_stand_side_by_side(tmp_path: Path) -> None:
    page, _ = page_on(tmp_path, [("F", "G", math.nan, "same product")], [])
    (section,) = page.all("details", "kin")
    assert "Below the threshold: to be looked at, 1 pair" in section.text
    tiles = section.all("li", "product")
    assert [tile.all("p", "ids")[0].text.strip() for tile in tiles] == ["F", "G"]
    assert "F and G" in tiles[1].text
    assert "sure" not in tiles[1].text


def test_products_that_share_a_secondary_image_have_a_section(tmp_path: Path) -> None:
    page, findings = page_on(tmp_path, [("F", "G", 1.0, SHARED_IMAGE)], [])
    (section,) = page.all("details", "kin")
    assert "Only a secondary image in common: 1 pair" in section.text
    tiles = section.all("li", "product")
    assert [tile.all("p", "ids")[0].text.strip() for tile in tiles] == ["F", "G"]
    findings.save(tmp_path)
    pd.testing.assert_frame_equal(DetectionResult.load(tmp_path).related, findings.related)


def test_other_photos_are_ranked_by_the_score_of_their_verification(tmp_path: Path) -> None:
    rows = [(a, "G", math.nan, "same product") for a in "BCF"]
    shop, index = small_shop()
    scores = [("B", "G", 0.25, ""), ("C", "G", 0.75, "same product"), ("F", "G", 0.5, "")]
    findings = replace(shop, related=related(*rows), candidates=related(*scores))
    (section,) = parse(HtmlReport().write(findings, index, tmp_path)).all("details", "kin")
    assert "Below the threshold: to be looked at, 3 pairs" in section.text
    assert "duplicates" not in section.text
    notes = [it.text for it in section.all("p", "evidence")]
    assert notes == ["75 % sure: C and G", "50 % sure: F and G", "25 % sure: B and G"]


def test_without_relations_nothing_is_said(tmp_path: Path) -> None:
    page, _ = page_on(tmp_path, [], [])
    assert not page.all("details", "kin")


def test_more_than_a_page_holds_is_counted(tmp_path: Path) -> None:
    rows = [(f"P{n:03}", f"Q{n:03}", 0.5, "colour variant") for n in range(MAX_CARDS + 3)]
    families = [(key, a, key) for a, b, *_ in rows for key in (a, b)]
    page, _ = page_on(tmp_path, rows, families)
    (section,) = page.all("details", "kin")
    assert len(section.all("article")) == MAX_CARDS
    assert "3 more families in related.csv" in section.text


@pytest.mark.parametrize("odd", ["<img src=x onerror=alert(1)>", '"><b>', "{{ 7 * 7 }}"])
def test_ids_and_evidence_stay_text(tmp_path: Path, odd: str) -> None:
    rows = [(odd, "z", 0.5, "colour variant"), (odd, "zz", math.nan, "same product")]
    page, _ = page_on(tmp_path, rows, [(odd, odd, odd), ("z", odd, "z")])
    first, second = page.all("details", "kin")
    for section in (first, second):
        assert odd in section.text
        assert not section.all("img")
        assert not section.all("b")


def test_a_variant_that_was_merged_is_marked_in_its_group(tmp_path: Path) -> None:
    shop, index = small_shop()
    pairs = shop.pairs.assign(relation=["same image", "colour variant", "same image"])
    page = parse(HtmlReport().write(replace(shop, pairs=pairs), index, tmp_path))
    marked = [it.text.strip() for it in page.all("span", "badge")]
    assert marked.count("colour variant") == 1


def test_images_without_a_product_are_counted(tmp_path: Path) -> None:
    findings, index = small_shop()
    for failed, said in ((2, True), (0, False)):
        index = replace(index, manifest={**index.manifest, "foreground": {"failed": failed}})
        page = parse(HtmlReport().write(findings, index, tmp_path))
        assert ("no product found in 2 images" in page.all("header")[0].text) == said


def test_a_pair_that_differs_in_a_detail_is_not_called_unsure(tmp_path: Path) -> None:
    page, _ = page_on(tmp_path, [("F", "G", 0.0015, "differs in a detail")], [])
    (section,) = page.all("details", "kin")
    assert "Equal but for a detail: 1 pair" in section.text
    assert "F and G" in section.text
    assert "% sure" not in section.text
