"""The page, read with the standard library's parser as a browser would."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dedup.errors import ConfigError
from dedup.reports.html import MAX_PRODUCTS, HtmlReport
from dedup.reports.preview_page import Tried, write
from tests.support.pages import (
    Node,
    address,
    fine,
    found,
    from_table,
    groups_of,
    index_of,
    nearest,
    pair,
    pairs_of,
    parse,
    plain,
    shown_by,
    small_shop,
    with_images,
)


def test_every_product_of_every_group_has_its_card(tmp_path: Path) -> None:
    path = HtmlReport().write(*small_shop(threshold=0.5), tmp_path)
    page = parse(path)
    assert path == tmp_path / "report.html"
    assert page.all("h1")[0].text == "2 groups, 5 products, 3 can be removed"
    assert [it.text for it in page.all("ul", "facts")[0].children] == [
        "7 products compared",
        "images at a distance of up to 0.5 count as duplicates",
        "3 images failed: 2 http_404, 1 truncated",
        "1 image skipped: 1 duplicate_row",
        "3 products without a readable image",
    ]
    cards = page.all("article", "group")
    ids = [[it.text for it in card.all("button", "id")] for card in cards]
    assert ids == [["A", "B", "C"], ["D", "E"]]
    assert [it.text for it in page.all("p", "title")] == ["Blue jacket", "Hat"]
    assert [it.text for it in page.all("p", "badges")] == [
        "keep ↗", "same bytes 0 ↗", "near 0.1235 ↗", "keep ↗", "near 0.5 ↗",
    ]  # fmt: skip
    assert [it.attributes["href"] for it in page.all("a")] == [address(key) for key in "ABCDE"]
    assert {it.attributes["rel"] for it in page.all("a")} == {"noreferrer noopener"}


def test_cards_carry_what_search_filter_and_sort_read(tmp_path: Path) -> None:
    page = parse(HtmlReport().write(*small_shop(), tmp_path))
    known = ["data-group", "data-size", "data-distance", "data-tiers"]
    assert [[it.attributes[key] for key in known] for it in page.all("article")] == [
        ["A", "3", "0.123456", "same_bytes near"],
        ["D", "2", "0.5", "near"],
    ]
    assert [it.text for it in page.all("label", "chip")] == ["same bytes 1", "near 2"]
    assert page.all("div", "tools")[0].attributes["hidden"] == ""
    assert page.all("div", "nothing")[0].all("p")[0].text == "No group matches."


def test_pairs_across_groups_prove_nothing_in_either(tmp_path: Path) -> None:
    pairs = pairs_of(
        pair("A", "B", 0.5, "near"), pair("B", "C"), pair("C", "D", 0.25, "near"), pair("C", "X")
    )
    findings = found(groups_of("AB", "DC"), pairs)
    page = parse(HtmlReport().write(findings, fine("ABCDX"), tmp_path))
    assert page.all("h1")[0].text == "2 groups, 4 products, 2 can be removed"
    badges = [it.text for it in page.all("p", "badges")]
    assert badges == ["keep ↗", "near 0.5 ↗", "keep ↗", "near 0.25 ↗"]
    assert [it.text for it in page.all("h2")] == ["Group A 2 products", "Group C 2 products"]
    assert not page.all("p", "note")


def test_largest_groups_come_first_and_the_rest_is_counted(tmp_path: Path) -> None:
    names = [[f"{n:02}a", f"{n:02}b", f"{n:02}c"][: 2 + n % 2] for n in range(20)]
    pairs = pairs_of(*(pair(ids[0], other) for ids in names for other in ids[1:]))
    index = fine(key for ids in names for key in ids)
    page = parse(HtmlReport(max_groups=12).write(found(groups_of(*names), pairs), index, tmp_path))
    shown = [it.attributes["data-group"] for it in page.all("article")]
    assert shown == [f"{n:02}a" for n in (*range(1, 20, 2), 0, 2)]
    assert page.all("h1")[0].text == "20 groups, 50 products, 30 can be removed"
    assert "8 more groups in groups.csv" in page.all("ul", "facts")[0].text
    assert "shows the largest groups; groups.csv has all 20." in page.all("p", "rest")[0].text


def test_a_page_may_show_no_group_at_all(tmp_path: Path) -> None:
    page = parse(HtmlReport(max_groups=0).write(*small_shop(), tmp_path))
    assert page.all("h1")[0].text == "2 groups, 5 products, 3 can be removed"
    assert (page.all("article"), "groups.csv has all 2" in page.text) == ([], True)


def test_a_negative_number_of_groups_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_groups is -1"):
        HtmlReport(max_groups=-1).write(*small_shop(), tmp_path)


def test_a_thousand_groups_fit(tmp_path: Path) -> None:
    names = [(f"{n:04}a", f"{n:04}b") for n in range(1001)]
    pairs = pairs_of(*(pair(a, b) for a, b in names))
    index = fine(key for ids in names for key in ids)
    page = parse(HtmlReport().write(found(groups_of(*names), pairs), index, tmp_path))
    assert page.all("h1")[0].text == "1,001 groups, 2,002 products, 1,001 can be removed"
    assert len(page.all("article")) == 1000
    assert "1 more group in groups.csv" in page.text


def test_a_huge_group_shows_its_first_products(tmp_path: Path) -> None:
    ids = [f"P{n:04}" for n in range(MAX_PRODUCTS + 1001)]
    pairs = pairs_of(*(pair(ids[0], other) for other in ids[1:]))
    page = parse(HtmlReport().write(found(groups_of(ids), pairs), fine(ids), tmp_path))
    assert [it.text for it in page.all("button", "id")] == ids[:MAX_PRODUCTS]
    assert page.all("article")[0].attributes["data-size"] == str(len(ids))
    assert "1,001 more products of this group: see groups.csv." in page.text


@pytest.mark.parametrize(
    ("ids", "threshold", "headline", "advice"),
    [
        ("AB", 0, "2 products", "only equal images count"),
        ("AB", 0.25, "2 products", "farther apart than 0.25"),
        ("AB", None, "2 products", "against=FOLDER"),
        ("A", 0, "1 product", "It takes two products"),
        ("", None, "0 products", "It takes two products"),
    ],
)
def test_nothing_found_says_what_to_try(
    tmp_path: Path, ids: str, threshold: float | None, headline: str, advice: str
) -> None:
    nothing = found(groups_of(), pairs_of(), threshold=threshold)
    page = parse(HtmlReport().write(nothing, fine(ids), tmp_path))
    assert page.all("h1")[0].text == f"No duplicates found among {headline}"
    assert advice in page.all("section", "next")[0].text
    assert not page.all("article")
    assert not page.all("div", "tools")


def test_a_product_joined_through_another_says_so_and_comes_last(tmp_path: Path) -> None:
    pairs = pairs_of(pair("A", "C", 0.25, "near"), pair("B", "C"))
    page = parse(HtmlReport().write(found(groups_of("ABC"), pairs), fine("ABC"), tmp_path))
    products = page.all("li", "product")
    assert [it.all("button", "id")[0].text for it in products] == ["A", "C", "B"]
    notes = [[note.text for note in it.all("p", "note")] for it in products]
    assert notes == [[], [], ["100 % sure", "through C"]]


def test_the_pair_with_the_kept_product_is_shown_even_if_another_is_surer(tmp_path: Path) -> None:
    pairs = pairs_of(
        pair("A", "B", 0.25, "near"), pair("A", "C", 0.5, "near"), pair("B", "C", 0.0, "same_url")
    )
    page = parse(HtmlReport().write(found(groups_of("ABC"), pairs), fine("ABC"), tmp_path))
    badges = [it.text for it in page.all("p", "badges")]
    assert badges == ["keep ↗", "near 0.25 ↗", "near 0.5 ↗"]


@pytest.mark.parametrize(
    ("distance", "shown"),
    [(0.0, "0"), (-0.0, "0"), (0.5, "0.5"), (1.23456, "1.235"), (1e-9, "1e-09"), (12.0, "12")],
)
def test_distances_have_four_digits(tmp_path: Path, distance: float, shown: str) -> None:
    pairs = pairs_of(pair("A", "B", distance, "near"))
    page = parse(HtmlReport().write(found(groups_of("AB"), pairs), fine("AB"), tmp_path))
    assert page.all("span", "distance")[0].text == shown


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style><!-- {{ 7 * 7 }} -->",
    "</p></li></article>",
]


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_text_stays_text(tmp_path: Path, evil: str) -> None:
    def page_of(key: str, link: str, reason: str) -> Node:
        pairs = pairs_of(("A", key, 0.0, "near", link, link), ("B", key, 0.0, "near", link, link))
        rows = [(one, link, "ok", "") for one in ("A", "B", key)]
        index = index_of([*rows, ("x", "", "failed", reason)], {"A": key, key: key})
        findings = found(groups_of(["A", "B", key]), pairs, threshold=key)
        return parse(HtmlReport().write(findings, index, tmp_path))

    def shape(node: Node) -> object:
        return node.tag, sorted(node.attributes), [shape(it) for it in node.children]

    page = page_of(evil, f"https://shop.example/{evil}", evil)
    assert shape(page) == shape(page_of("z", "https://shop.example/z", "z"))
    assert {it.text for it in page.all("p", "title")} == {" ".join(evil.split())}
    assert page.all("button", "id")[-2].text == evil
    assert page.all("a")[0].attributes["href"] == f"https://shop.example/{evil}"
    assert f"up to {evil} count" in page.text
    assert page.all("article")[0].attributes["data-group"] == evil


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert()", "java\nscript:1",
        "data:text/html,<script>alert(1)</script>", "file:///etc/passwd", "/a.jpg", "//x/a.jpg", "",
        "http:", "https://", "http://user:secret@x/a.jpg", "https://x\\@y/a.jpg", "http://x/a\nb",
        "http://x/\x1b", "http://x/\x9b", "http://x/\u202egpj.exe", "http://x/\u2028",
    ],
)  # fmt: skip
def test_only_plain_web_addresses_become_links(tmp_path: Path, url: str) -> None:
    pairs = pairs_of(("A", "B", 0.0, "same_url", url, url))
    index = index_of([("A", url, "ok", ""), ("B", url, "ok", "")])
    path = HtmlReport().write(found(groups_of("AB"), pairs), index, tmp_path)
    assert not parse(path).all("a")
    assert "secret" not in path.read_text(encoding="utf-8")


def test_the_policy_allows_the_inline_blocks_and_nothing_else(tmp_path: Path) -> None:
    table = {address("A"): plain("red"), address("B"): plain("blue")}
    page = parse(HtmlReport().write(*with_images(small_shop(), from_table(table)), tmp_path))
    policies = [it for it in page.all("meta") if "http-equiv" in it.attributes]
    assert [it.attributes["http-equiv"] for it in policies] == ["Content-Security-Policy"]
    rules = dict(it.split(" ", 1) for it in policies[0].attributes["content"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("script", "style"):
        (block,) = page.all(tag)
        digest = hashlib.sha256(block.own_text.encode()).digest()
        assert rules[f"{tag}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
        assert block.attributes == {}
    for node in page.all():
        assert not [name for name in node.attributes if name.startswith("on") or name == "style"]
        assert "src" not in node.attributes
        if node.tag not in ("a", "link", "image"):
            assert node.attributes.get("href", "#").startswith("#")
    assert {it.attributes["href"][:5] for it in page.all("image")} == {"data:"}


def test_images_are_encoded_anew_and_held_once(tmp_path: Path) -> None:
    photo = plain("red", (400, 800))
    photo.info["comment"] = b"secret place"
    table = {address("A"): photo, address("B"): photo.copy(), address("C"): plain("blue", (90, 30))}
    page = parse(HtmlReport().write(*with_images(small_shop(), from_table(table)), tmp_path))
    held = {it.attributes["id"]: it.attributes for it in page.all("image")}
    shown = shown_by(page)
    assert shown[0] == shown[1] != shown[2]
    assert shown[3:] == [[], []]
    assert len(held) == 2
    red, blue = (held[shown[n][0]] for n in (0, 2))
    assert (red["width"], red["height"]) == ("100", "200")
    assert blue["height"] == "200"
    assert int(blue["width"]) > 400
    assert nearest(red["href"], {"red": photo, "black": plain("black")}) == "red"
    data = base64.b64decode(red["href"].removeprefix("data:image/jpeg;base64,"))
    assert b"secret" not in data
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size) == ("JPEG", (110, 220))
    assert [it.text for it in page.all("div", "blank")] == ["No image", "No image"]


def test_every_image_is_asked_for_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def thumbnails(urls: Sequence[str]) -> dict[str, Image.Image]:
        asked.extend(urls)
        return {}

    names = [(f"{n:03}a", f"{n:03}b") for n in range(300)]
    shared = [(a, b, 0.0, "same_url", address(a), address(a)) for a, b in names]
    index = fine(key for ids in names for key in ids)
    tables = found(groups_of(*names), pairs_of(*shared)), index
    HtmlReport().write(*with_images(tables, thumbnails), tmp_path)
    assert asked == [address(a) for a, _ in names]


def test_a_product_shows_the_image_that_proves_it(tmp_path: Path) -> None:
    table = {url: plain(url) for url in ("red", "green", "blue", "white")}
    pairs = pairs_of(
        ("A", "B", 0.0, "same_url", "red", "red"), ("A", "C", 0.1, "near", "blue", "green")
    )
    rows = [("D", "gone", "failed", "http_404"), ("D", "white", "ok", ""), ("D", "red", "ok", "")]
    rows += [(key, "white", "ok", "") for key in "ABC"]
    tables = found(groups_of("ABCD"), pairs), index_of(rows)
    page = parse(HtmlReport().write(*with_images(tables, from_table(table)), tmp_path))
    seen = {it.attributes["id"]: nearest(it.attributes["href"], table) for it in page.all("image")}
    shown = [[seen[name] for name in names] for names in shown_by(page)]
    assert shown == [["red"], ["red"], ["green", "blue"], ["white"]]
    notes = [it.text for it in page.all("p", "note")]
    assert notes == ["100 % sure", "matches the small image, another image of A"]


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    table = {address("A"): plain("red"), address("B"): plain("blue")}
    pages = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        tables = with_images(small_shop(threshold=0.5), from_table(table))
        pages.append(HtmlReport().write(*tables, tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


ACTING = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def test_what_would_act_is_shown_and_its_id_is_known(tmp_path: Path) -> None:
    ids = ["A", "\x1b[2J\"'<&", "b\x9b\r\u202e", "c d\te\nf"]
    pairs = pairs_of(*(pair("A", key, 0.25, "near") for key in ids[1:]))
    index = index_of([(key, address(key), "ok", "") for key in ids], {"A": "red\x1b[31m\x85x"})
    page = parse(HtmlReport().write(found(groups_of(ids), pairs), index, tmp_path))
    buttons = {it.children[0].own_text: it.attributes.get("data-id") for it in page.all("button")
               if it.attributes.get("class") == "id"}  # fmt: skip
    assert buttons == {
        "A": None,
        "c d\te\nf": None,
        "\u241b[2J\"'<&": json.dumps(ids[1]),
        "b\ufffd\u240d\ufffd": json.dumps(ids[2]),
    }
    assert [it.text for it in page.all("p", "title")] == ["red\u241b[31m\ufffdx"]
    assert not ACTING.search((tmp_path / "report.html").read_bytes().decode())
    grey = np.full((20, 10, 3), 128, np.uint8)
    preview = write([Tried(key, grey, None, grey, 1.0) for key in ids], "none\x1b", tmp_path)
    assert not ACTING.search(preview.read_bytes().decode())
    heads = [it.own_text for it in parse(preview).all("bdi")]
    assert heads == ["A", "\u241b[2J\"'<&", "b\ufffd\u240d\ufffd", ids[3]]
