"""What people are told of the health of images: on the console, in health.csv and on the page."""

import csv
import dataclasses
import logging
from pathlib import Path

import pandas as pd
import pytest

from dedup.detection.results import DetectionResult
from dedup.reports import health
from dedup.reports.csv import CsvReport
from dedup.reports.html import MAX_UNFIT, HtmlReport
from dedup.reports.text import report_findings
from dedup.schemas import HEALTH, PROBLEMS
from dedup.search.index import Index
from tests.support.pages import from_table, parse, plain, small_shop, with_images

Row = tuple[str, str, str, str, bool]  # product, image, problems, reasons, usable

ROWS: list[Row] = [
    ("A", "a.jpg", "", "", True),
    ("B", "b.jpg", "too_small aspect", "90 x 400 pixels; too long", False),
    ("C", "c.jpg", "blurred", "=blurred", False),
    ("C", "d.jpg", "aspect", "too long", True),
    ("=D", "e.jpg", "blurred", "blurred: <b>sharpness</b> 0.31", False),
    ("=D", "f.jpg", "dark low_contrast", "too dark", False),
]


def table(rows: list[Row]) -> pd.DataFrame:
    """The schema ``HEALTH`` of some rows."""
    columns = ["product_id", "image", "problems", "reasons", "usable"]
    made = pd.DataFrame(rows, columns=columns).astype({"usable": bool})
    numbers = {"width": 90, "height": 400, "bytes": 1234, "format": "JPEG", "sha256_pixels": ""}
    return made.assign(**numbers).reindex(columns=HEALTH.names)


def shop(rows: list[Row]) -> tuple[DetectionResult, Index]:
    findings, index = small_shop()
    return dataclasses.replace(findings, health=table(rows)), index


def test_every_problem_has_a_word() -> None:
    assert tuple(health.WORDS) == tuple(sorted(health.WORDS, key=PROBLEMS.index)) == PROBLEMS


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], ""),
        (ROWS[:1], ""),
        (ROWS[:2], "1 of 2 products has no usable image: 1 too small"),
        (ROWS, "2 of 4 products have no usable image: 1 too small, 1 blurred"),
    ],
)
def test_the_last_lines_number_products_without_a_usable_image(
    rows: list[Row], text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    findings, index = shop(rows)
    text += " (health.csv names each image; health.profile= sets the sizes)" if text else ""
    assert health.summary(findings) == text
    with caplog.at_level(logging.INFO, "dedup"):
        report_findings(findings, index, tmp_path, 2)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "usable" in line] == [text] * bool(text)


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


@pytest.mark.parametrize("formulas", ["keep", "escape"])
def test_the_table_has_the_images_with_a_problem(tmp_path: Path, formulas: str) -> None:
    CsvReport(formulas).write(*shop(ROWS), tmp_path)
    header, *rows = read(tmp_path / "health.csv")
    assert header == list(health.COLUMNS)
    sign = "'" if formulas == "escape" else ""
    assert [row[:6] for row in rows] == [
        ["B", "b.jpg", "b.jpg", "False", "too_small aspect", "90 x 400 pixels; too long"],
        ["C", "c.jpg", "c.jpg", "False", "blurred", f"{sign}=blurred"],
        ["C", "d.jpg", "d.jpg", "True", "aspect", "too long"],
        [f"{sign}=D", "e.jpg", "e.jpg", "False", "blurred", "blurred: <b>sharpness</b> 0.31"],
        [f"{sign}=D", "f.jpg", "f.jpg", "False", "dark low_contrast", "too dark"],
    ]
    assert {tuple(row[6:]) for row in rows} == {("90", "400", "1234", "JPEG")}


def test_without_problems_nothing_is_written(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    for folder, rows in ((before, []), (after, ROWS[:1])):
        folder.mkdir()
        for report in (CsvReport(), HtmlReport()):
            report.write(*shop(rows), folder)
    assert not (after / "health.csv").exists()
    assert (before / "report.html").read_bytes() == (after / "report.html").read_bytes()


def test_the_page_shows_products_without_a_usable_image(tmp_path: Path) -> None:
    images = from_table({"b.jpg": plain("red"), "e.jpg": plain("blue")})
    page = parse(HtmlReport().write(*with_images(shop(ROWS), images), tmp_path))
    (section,) = [one for one in page.all("details") if "Image health" in one.text]
    assert "2 products without a usable image" in section.text
    for text in (
        "too small: 1 image of 1 product", "blurred: 2 images of 2 products",
        "low in contrast: 1 image of 1 product", "too long: 2 images of 2 products",
        "blurred: <b>sharpness</b> 0.31",
    ):  # fmt: skip
        assert text in section.text
    assert [node.text for node in section.all("p", "ids")] == ["B", "=D"]
    assert len(section.all("svg")) == 2


def test_a_page_shows_some_of_many(tmp_path: Path) -> None:
    rows: list[Row] = [
        (f"P{n:03}", f"{n}.jpg", "dark", "too dark", False) for n in range(MAX_UNFIT + 5)
    ]
    page = parse(HtmlReport().write(*shop(rows), tmp_path))
    (section,) = [one for one in page.all("details") if "Image health" in one.text]
    assert len(section.all("article")) == MAX_UNFIT
    assert "5 more products in health.csv" in section.text
