"""The page on how sure it is: of each pair, and of all that was found."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from dedup.detection.calibration import Calibration
from dedup.detection.results import DetectionResult
from dedup.reports.html import HtmlReport
from dedup.reports.phrases import percent, sure
from tests.support.pages import (
    Node,
    fine,
    found,
    groups_of,
    index_of,
    pair,
    pairs_of,
    parse,
    small_shop,
)

CALIBRATION: dict[str, Any] = {
    "precision": 0.99,
    "setting": "verifier.min_score",
    "threshold": 0.62,
    "higher_is_surer": True,
    "expected_precision": [0.9931, 0.9846, 0.9976],
    "expected_recall": [0.9, 0.87, 0.925],
    "interval": 0.95,
    "n_copies": 600,
    "n_pairs": 2310,
    "measured": None,
    "recall_by_edit": {"crop": [0.95, 30], "zoom_out": [0.5, 1200], "blur": [0.95, 7], "x": [0, 0]},
    "curve": [
        {"threshold": 0.1, "precision": 0.5, "recall": 1.0},
        {"threshold": 0.9, "precision": 1.0, "recall": 0.2},
    ],
}
MEASURED = {
    "precision": 0.971, "recall": 0.5, "f1": 0.66, "n_true": 400, "n_found": 206, "n_wrong": 6,
    "bcubed_f1": 0.951, "truth": "pairs.csv",
}  # fmt: skip


def calibrated(findings: DetectionResult, known: dict[str, Any]) -> DetectionResult:
    """A result with what ``calibration.json`` has."""
    calibration = Calibration.from_dict(known)
    return dataclasses.replace(findings, calibration=calibration, measured=known["measured"])


def page_on(tmp_path: Path, nothing: bool = False, **change: object) -> Node:
    """The page on a small shop, calibrated like this."""
    findings, index = small_shop(threshold=0.5)
    if nothing:
        findings = found(groups_of(), pairs_of(), threshold=0.5)
    findings = calibrated(findings, CALIBRATION | change)
    return parse(HtmlReport().write(findings, index, tmp_path))


def said_on(page: Node) -> dict[str, str]:
    """The sentences of the section by what they are on."""
    (section,) = page.all("section", "certainty")
    terms, sentences = (section.all("dl")[0].all(tag) for tag in ("dt", "dd"))
    return {dt.text: dd.text for dt, dd in zip(terms, sentences, strict=True)}


@pytest.mark.parametrize(
    ("score", "said"),
    [(1.0, "100 % sure"), (0.9999, "over 99 % sure"), (0.995, "over 99 % sure"),
     (0.9949, "99 % sure"), (0.97, "97 % sure"), (0.29, "29 % sure"), (0.01, "1 % sure"),
     (0.0099, "under 1 % sure"), (0.0, "0 % sure"), (math.nan, "")],
)  # fmt: skip
def test_a_score_is_said_in_words(score: float, said: str) -> None:
    assert sure(score) == said


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.9, "90 %"), (0.9001, "90 %"), (0.988, "98.8 %"), (0.99, "99 %"), (0.99949, "99.9 %"),
     (0.9995, "over 99.9 %"), (1 - 1e-9, "over 99.9 %"), (1.0, "100 %")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_all(share: float, said: str) -> None:
    assert percent(share) == said


def test_each_pair_says_how_sure_it_is_and_why(tmp_path: Path) -> None:
    pairs = pairs_of(
        *(pair("A", other, 0.25, "near") for other in "BCDE"), pair("A", "F"),
        seen={"AB": (0.97, "mirrored, cropped to 80 %"), "AC": (0.7, ""), "AD": (math.nan, "odd")},
    )  # fmt: skip
    page = parse(HtmlReport().write(found(groups_of("ABCDEF"), pairs), fine("ABCDEF"), tmp_path))
    products = page.all("li", "product")
    said = {
        it.all("button", "id")[0].text: [note.text for note in it.all("p", "evidence")]
        for it in products
    }
    assert said == {
        "A": [], "F": ["100 % sure"], "B": ["97 % sure: mirrored, cropped to 80 %"],
        "C": ["70 % sure"], "D": ["odd"], "E": [],
    }  # fmt: skip
    assert list(said) == ["A", "F", "B", "C", "D", "E"]  # surest first, without a score last
    assert [it.text for it in products[1].all("p", "badges")] == ["same bytes 0 ↗"]


def test_the_pair_that_is_shown_is_the_surest_not_the_closest(tmp_path: Path) -> None:
    pairs = pairs_of(
        pair("A", "C", 0.1, "near"), pair("B", "C", 0.5, "near"), pair("C", "D", 0.3, "near"),
        seen={"AC": (0.6, "blurred"), "BC": (0.9, "turned"), "CD": (0.7, "smaller")},
    )  # fmt: skip
    findings = found(groups_of("ABCD"), pairs)
    page = parse(HtmlReport().write(findings, fine("ABCD"), tmp_path))
    notes = [[it.text for it in tile.all("p", "note")] for tile in page.all("li", "product")]
    assert notes == [
        [], ["60 % sure: blurred"], ["90 % sure: turned", "through C"],
        ["70 % sure: smaller", "through C"],
    ]  # fmt: skip


def test_groups_can_be_sorted_by_their_least_score_where_there_is_one(tmp_path: Path) -> None:
    groups, ends = groups_of("ABC", "DE", "FG"), [("A", "B"), ("A", "C"), ("D", "E"), ("F", "G")]
    seen = {"AB": (0.9, ""), "AC": (0.75, ""), "DE": (0.0, "")}
    pairs = pairs_of(*(pair(a, b, 0.5, "near") for a, b in ends), seen=seen)
    page = parse(HtmlReport().write(found(groups, pairs), fine("ABCDEFG"), tmp_path))
    scores = [it.attributes["data-score"] for it in page.all("article")]
    assert scores == ["0.75", "0.0", ""]
    choices = [it.attributes["value"] for it in page.all("option")]
    assert choices == ["largest", "closest", "farthest", "unsure", "id"]
    assert "how sure" in [it.text for it in page.all("dt")]
    plain = parse(HtmlReport().write(*small_shop(), tmp_path))
    choices = [it.attributes["value"] for it in plain.all("option")]
    assert choices[: choices.index("")] == ["largest", "closest", "farthest", "id"]  # then filters
    assert "how sure" not in [it.text for it in plain.all("dt")]


def test_without_calibration_nothing_is_said_of_it(tmp_path: Path) -> None:
    page = parse(HtmlReport().write(*small_shop(), tmp_path))
    assert not page.all("section")
    assert "#how-sure" not in [it.attributes["href"] for it in page.all("a")]


def test_the_page_says_what_to_expect(tmp_path: Path) -> None:
    page = page_on(tmp_path)
    assert said_on(page) == {
        "Wanted precision": "99 % (matcher.precision).",
        "Threshold": "Images that are not equal count as duplicates with a score of at least 0.62 "
        "(verifier.min_score).",
        "Expected precision": "99.3 % (98.5 % to 99.8 % with 95 % confidence) of the pairs "
        "found are duplicates; 2,310 candidate pairs.",
        "Expected recall": "90 % (87 % to 92.5 % with 95 % confidence) of 600 edited copies "
        "of this catalogue's own images are found.",
    }
    (link,) = page.all("ul", "facts")[0].all("a")
    assert link.text == "expected precision 99.3 %"
    (heading,) = page.all("section", "certainty")[0].all("h2")
    assert (heading.text, link.attributes["href"]) == ("How sure", f"#{heading.attributes['id']}")


def test_a_distance_counts_from_the_other_side(tmp_path: Path) -> None:
    page = page_on(tmp_path, setting="matcher.threshold", higher_is_surer=False)
    assert "with a distance of at most 0.62 (matcher.threshold)." in said_on(page)["Threshold"]
    assert "maximum distance of a duplicate" in page.all("svg", "plot")[0].text
    assert "minimum score of a duplicate" in page_on(tmp_path).all("svg", "plot")[0].text


def test_what_the_users_own_pairs_say_is_said_beside_it(tmp_path: Path) -> None:
    said = said_on(page_on(tmp_path, measured=MEASURED))
    assert len(said) == 7
    assert said["Measured precision"] == (
        "97.1 % of the 206 pairs found are in pairs.csv; 6 are not."
    )
    assert said["Measured recall"] == "50 % of the 400 pairs in pairs.csv were found."
    assert said["Measured F1"] == "0.66; B-cubed F1 of the groups 0.951."


def test_without_copies_there_is_no_recall_to_expect(tmp_path: Path) -> None:
    made = {"n_copies", "expected_recall", "recall_by_edit", "curve"}
    known = {key: value for key, value in CALIBRATION.items() if key not in made}
    findings, index = small_shop()
    findings = calibrated(findings, known)
    page = parse(HtmlReport().write(findings, index, tmp_path))
    assert list(said_on(page)) == ["Wanted precision", "Threshold", "Expected precision"]
    assert not page.all("svg", "plot")
    assert not page.all("table")


def test_edits_are_listed_worst_first(tmp_path: Path) -> None:
    (table,) = page_on(tmp_path).all("section", "certainty")[0].all("table")
    assert table.all("caption")[0].text == (
        "Share of edited copies that are found, by edit, lowest first, and the number tried"
    )
    rows = [[it.text for it in row.children] for row in table.all("tr")]
    assert rows == [
        ["zoomed out", "50 %", "of 1,200"], ["blurred", "95 %", "of 7"],
        ["cropped", "95 %", "of 30"],
    ]  # fmt: skip
    assert not page_on(tmp_path, recall_by_edit={}).all("table")


def test_the_plot_is_part_of_the_page_and_needs_nothing_else(tmp_path: Path) -> None:
    page = page_on(tmp_path)
    (svg,) = page.all("svg", "plot")
    assert {it.tag for it in svg.all()} <= {
        "title", "desc", "line", "text", "polyline", "circle", "path"
    }  # fmt: skip
    ids = [it.attributes["id"] for it in page.all() if "id" in it.attributes]
    assert len(set(ids)) == len(ids)
    assert not page_on(tmp_path, curve=[]).all("svg", "plot")


def test_where_nothing_was_found_a_lower_precision_is_advised(tmp_path: Path) -> None:
    page = page_on(tmp_path, nothing=True)
    advice = page.all("section", "next")[0].text
    assert "Lower matcher.precision, now 99 %, to find pairs that are less sure." in advice
    assert "Raise the threshold" not in advice
    assert said_on(page)["Wanted precision"] == "99 % (matcher.precision)."


def test_of_nothing_no_precision_is_expected(tmp_path: Path) -> None:
    page = page_on(tmp_path, nothing=True, expected_precision=None)
    assert said_on(page)["Found"] == "No near pair reaches the threshold; 2,310 candidate pairs."
    assert "expected precision" not in page.text


@pytest.mark.parametrize(
    "evil", ["<img src=x onerror=alert(1)>", '"><b>', "</dd></section></main>", "{{ 7 * 7 }}"]
)
def test_hostile_words_stay_text(tmp_path: Path, evil: str) -> None:
    def shape(node: Node) -> object:
        return node.tag, sorted(node.attributes), [shape(it) for it in node.children]

    def page_with(text: str) -> Node:
        pairs = pairs_of(pair("A", "B", 0.5, "near"), seen={"AB": (0.5, text)})
        calibration = CALIBRATION | {"measured": {**MEASURED, "truth": text}}
        calibration |= {"setting": text, "recall_by_edit": {text: [0.5, 3]}}
        findings = calibrated(found(groups_of("AB"), pairs), calibration)
        index = index_of([(key, "", "ok", "") for key in "AB"])
        return parse(HtmlReport().write(findings, index, tmp_path))

    page = page_with(evil)
    assert shape(page) == shape(page_with("z"))
    assert page.all("p", "evidence")[0].text == f"50 % sure: {evil}"
    assert evil in said_on(page)["Threshold"]
    assert evil in said_on(page)["Measured recall"]
    assert page.all("table")[0].all("th")[0].text == evil
