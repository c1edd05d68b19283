"""What the console says at the end of a command."""

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dedup.detection.grouping import Grouping
from dedup.detection.results import DetectionResult
from dedup.reports.html import HtmlReport
from dedup.reports.json import JsonReport
from dedup.reports.text import format_duration, headline, report_findings, warnings
from dedup.search.index import Index
from tests.reports.test_certainty import CALIBRATION, calibrated
from tests.support.pages import fine, found, groups_of, index_of, pair, pairs_of, parse, small_shop
from tests.support.searches import search_facts


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder ``run`` with two reports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    for name in ("report.html", "groups.csv"):
        (tmp_path / "run" / name).touch()


def said(findings: DetectionResult, index: Index, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every line, the folder being ``run``."""
    with caplog.at_level(logging.INFO, "dedup"):
        report_findings(findings, index, Path.cwd() / "run", 270.4)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.usefixtures("run_folder")
def test_the_last_lines_say_what_was_found(caplog: pytest.LogCaptureFixture) -> None:
    findings, index = small_shop(threshold=1.2, looked=True)
    findings = calibrated(findings, CALIBRATION)
    assert said(findings, index, caplog) == [
        "2 groups, 5 products, 3 can be removed (1 equal, 2 near); expected precision 99.3 %, "
        "expected recall 90 %",
        "3 images failed: 2\N{NO-BREAK SPACE}http_404, 1\N{NO-BREAK SPACE}truncated",
        "1 image skipped: 1\N{NO-BREAK SPACE}duplicate_row",
        "3 products without a readable image",
        "it took 4 min 30 s; the reports are in run",
        "next: open run/report.html; run/groups.csv lists the product that each one duplicates; "
        "python review.py findings=run opens a page to decide on each group",
    ]


@pytest.mark.usefixtures("run_folder")
def test_nothing_found_is_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    nothing = found(groups_of(), pairs_of(), threshold=0)
    none_expected: dict[str, Any] = {**CALIBRATION, "expected_precision": None}
    del none_expected["n_copies"]
    nothing = calibrated(nothing, none_expected)
    assert said(nothing, fine("AB"), caplog) == [
        "No duplicates found among 2 products",
        "it took 4 min 30 s; the reports are in run",
        "next: open run/report.html for suggestions",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (7505, "2 h 5 min")],
)
def test_a_duration_is_said_in_two_units(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def test_too_high_a_threshold_is_doubted() -> None:
    findings, index = small_shop(threshold=0.5)
    (warning,) = warnings(findings, index)
    assert warning.startswith(
        "Groups of near images hold 5 products, 71 % of those compared, the largest 3: "
        "matcher.threshold=0.5 is probably too high."
    )
    assert not warnings(
        dataclasses.replace(findings, search=search_facts(threshold=0.0, looked=False)), index
    )
    looked = search_facts(threshold=1.2)
    assert not warnings(dataclasses.replace(findings, search=looked), index)


def test_a_low_recall_is_doubted_with_what_a_lower_precision_gives() -> None:
    curve = [
        {"threshold": 0.98, "precision": 0.99, "recall": 0.192},
        {"threshold": 0.66, "precision": 0.95, "recall": 0.86},
        {"threshold": 0.3, "precision": 0.95, "recall": 0.99},
    ]
    low = {**CALIBRATION, "expected_recall": [0.192, 0.1, 0.3], "curve": curve}
    findings, index = small_shop()
    (warning,) = warnings(calibrated(findings, low), index)
    assert warning == (
        "About 19 % of edited copies are expected to be found: matcher.precision=0.95 would find "
        "about 86 %. Pairs below the threshold: to be looked at, by their score in "
        "candidates.parquet"
    )


def test_two_catalogues_are_matched_and_ones_own_product_is_kept(tmp_path: Path) -> None:
    pairs = pairs_of(pair("A", "acme:1"), pair("B", "acme:0", 0.5, "near"))
    index = index_of([(key, key, "ok", "") for key in ("A", "B", "acme:0", "acme:1", "acme:2")])
    index.manifest["against"] = {"prefix": "acme:"}
    groups = Grouping(keep=[])(pairs, index)
    assert groups.loc[groups["kept"], "product_id"].tolist() == ["A", "B"]
    findings = found(groups, pairs)
    assert headline(findings, index) == ["2 of their 3 products are yours"]
    page = parse(HtmlReport().write(findings, index, tmp_path))
    assert page.all("h1")[0].text == "2 of their 3 products are yours"
    badges = [it.text.removesuffix(" ↗") for it in page.all("p", "badges")]
    assert badges == ["yours", "theirs same bytes 0", "yours", "theirs near 0.5"]
    JsonReport().write(findings, index, tmp_path)
    matches = pd.DataFrame(pd.read_json(tmp_path / "matches.json")["matches"].tolist())
    assert matches[["theirs", "yours"]].to_numpy().tolist() == [["acme:0", "B"], ["acme:1", "A"]]
    assert matches["evidence"].tolist() == ["near: distance 0.5", "same bytes"]


def details(*pairs: str) -> pd.DataFrame:
    """Related pairs of products with one letter, whose images differ in a detail."""
    return pairs_of(*(pair(*ends, 0.2, "near") for ends in pairs)).assign(
        relation="differs in a detail"
    )


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ((), ""),
        (("AB",), ""),
        (("AB", "CD"), ""),
        (("AF", "FG"), "1 family of look-alikes, 3 products: .* of A, F and G. "),
        (("DF", "EG", "HI"), "1 family of look-alikes, 3 products: .* of D, F and G. "),
        (("AB", "BC"), ""),  # one group of duplicates
        (("FG", "GH", "DI", "IJ", "JK"), "2 families of look-alikes, 7 products: .* of D, I and J"),
    ],
)
def test_families_of_look_alikes_are_named(pairs: tuple[str, ...], words: str) -> None:
    findings, index = small_shop(threshold=1.2, looked=True)
    told = warnings(dataclasses.replace(findings, related=details(*pairs)), index)
    assert bool(told) == bool(words)
    assert all(re.search(words, text) for text in told)
