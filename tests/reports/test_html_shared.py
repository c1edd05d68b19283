"""The page on what proves nothing and on how the search went."""

import dataclasses
from pathlib import Path

import pytest

from dedup.detection.results import DetectionResult
from dedup.reports.html import MAX_SHARED, MAX_SHOWERS, HtmlReport
from dedup.reports.phrases import describe_search, percent
from tests.support.pages import (
    Node,
    fine,
    found,
    from_table,
    groups_of,
    nearest,
    pair,
    pairs_of,
    parse,
    plain,
    shared_of,
    small_shop,
    with_images,
)
from tests.support.searches import search_facts

Row = tuple[str, str, str, int, str]
SEARCH = {
    "threshold": 4.07,
    "lossless": True,
    "pictures": 2510,
    "comparisons": 151_203,
    "share": 151_203 / 3_148_795,
    "near_pairs": 12,
    "missed": 0,
    "missed_share": 0.0,
}


def showing(digest: str, n: int, reason: str, address: str = "") -> list[Row]:
    """The rows of an image that n products show."""
    return [(digest, f"{digest}{k:05}", address or f"{digest}.jpg", n, reason) for k in range(n)]


def page_on(rows: list[Row], tmp_path: Path, findings: DetectionResult | None = None) -> Node:
    """The page on a small shop whose products show these images too."""
    shop, index = small_shop()
    shared = dataclasses.replace(findings or shop, shared=shared_of(*rows))
    return parse(HtmlReport().write(shared, index, tmp_path))


def test_nothing_is_said_where_every_image_tells_something(tmp_path: Path) -> None:
    page = page_on([], tmp_path)
    assert not page.all("section")
    assert "nothing" not in page.all("header")[0].text


def test_each_image_has_a_card_with_its_products(tmp_path: Path) -> None:
    page = page_on([*showing("n", 5000, "shared"), *showing("w", 3, "flat")], tmp_path)
    (section,) = page.all("section", "silent")
    assert section.all("h2")[0].text == "Placeholder and blank images"
    assert [it.text for it in section.all("h3")] == ["used by 5,000 products", "used by 3 products"]
    first, second = section.all("li")
    assert [it.text for it in first.all("bdi")] == [f"n{k:05}" for k in range(MAX_SHOWERS)]
    assert "So many products show it" in first.text
    assert "4,980 more in shared.csv" in first.text
    assert [it.text for it in second.all("bdi")] == ["w00000", "w00001", "w00002"]
    assert "almost of one colour" in second.text
    assert "shared.csv" not in second.text
    assert (
        "2 placeholder or blank images of 5,003 products not compared" in page.all("header")[0].text
    )


def test_the_most_used_images_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    rows = [row for n in range(MAX_SHARED + 5, 0, -1) for row in showing(f"{n:03}_", n + 1, "flat")]
    page = page_on(rows, tmp_path)
    (section,) = page.all("section", "silent")
    counts = [f"used by {n + 1} products" for n in range(MAX_SHARED + 5, 5, -1)]
    assert [it.text for it in section.all("h3")] == counts
    assert section.all("p", "rest")[0].text == "5 more images in shared.csv."


def test_the_image_itself_is_shown_where_the_store_has_it(tmp_path: Path) -> None:
    table = {"n.jpg": plain("red"), "w.jpg": plain("white")}
    shop, index = with_images(small_shop(), from_table(table))
    rows = showing("n", 3, "shared") + showing("w", 2, "flat") + showing("x", 2, "flat")
    findings = dataclasses.replace(shop, shared=shared_of(*rows))
    page = parse(HtmlReport().write(findings, index, tmp_path))
    held = {f"#{it.attributes['id']}": it.attributes["href"] for it in page.all("image")}
    cards = page.all("section", "silent")[0].all("li")
    uses = [[it.attributes["href"] for it in card.all("use")] for card in cards]
    shown = [[nearest(held[name], table) for name in names] for names in uses]
    assert shown == [["n.jpg"], ["w.jpg"], []]
    assert [it.text for it in cards[2].all("div", "blank")] == ["No image"]


def test_images_that_prove_nothing_stand_alone_where_no_group_was_found(tmp_path: Path) -> None:
    nothing = found(groups_of(), pairs_of())
    page = page_on(showing("n", 200, "shared"), tmp_path, nothing)
    assert "placeholder or blank images below" in page.all("section", "next")[0].text
    assert page.all("section", "silent")[0].all("h3")[0].text == "used by 200 products"


@pytest.mark.parametrize("evil", ["<img src=x onerror=alert(1)>", '"><b>', "</section></main>"])
def test_hostile_ids_stay_text(tmp_path: Path, evil: str) -> None:
    page = page_on([("d", evil, evil, 2, "flat"), ("d", "z", evil, 2, "flat")], tmp_path)
    (section,) = page.all("section", "silent")
    assert [it.text for it in section.all("bdi")] == [evil, "z"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "2,510 images: 4.8 % of 3,148,795 pairs compared; no other pair can be "
             "within 4.07."),
        ({"lossless": False, "missed": 37.4, "missed_share": 0.05},
         "2,510 images: 4.8 % of 3,148,795 pairs compared; about 37 pairs within 4.07 "
         "(5 %) lie across cluster borders and were not compared."),
        ({"pictures": 3, "comparisons": 3, "share": 1.0}, "3 images: all 3 pairs compared."),
        ({"pictures": 5, "pairs": 6, "comparisons": 6}, "5 images: all 6 pairs compared."),
        ({"looked": True},
         "2,510 images: 4.8 % of 3,148,795 pairs compared; no other pair can be near "
         "enough to be a candidate."),
        ({"threshold": 0.0},
         "Nothing was compared by distance: at threshold 0 only equal images count."),
    ],
)  # fmt: skip
def test_the_page_says_how_the_search_went(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    search = search_facts(**{"looked": False, **SEARCH, **change})
    findings = dataclasses.replace(found(groups_of("AB"), pairs_of(pair("A", "B"))), search=search)
    page = parse(HtmlReport().write(findings, fine("AB"), tmp_path))
    assert page.all("p", "searched")[0].text == said
    assert describe_search(None) == ""


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1e-9, "under 0.01 %"), (0.0001, "0.01 %"), (0.04802, "4.8 %"), (0.05, "5 %"),
     (0.0994, "9.9 %"), (0.0996, "10 %"), (0.5, "50 %"), (1.0, "100 %")],
)  # fmt: skip
def test_shares_are_said_in_percent(share: float, shown: str) -> None:
    assert percent(share) == shown
