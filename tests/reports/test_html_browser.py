"""The page in a real browser: pages of groups, filters, images that come later, the command."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from dedup.reports.html import PAGE, HtmlReport
from tests.support.chromium import OVERFLOW, Page, chromium, needed, serious, watched
from tests.support.pages import (
    Pair,
    Tables,
    fine,
    found,
    groups_of,
    pair,
    pairs_of,
    parse,
    plain,
    with_images,
)

pytestmark = needed

Opened = Callable[..., Page]
N = 2 * PAGE + 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Open a page from its file; no script may fail, and no policy may be violated."""
    pages: list[Page] = []
    wrong: list[str] = []

    def open_(path: Path, **options: Any) -> Page:
        page = watched(browser.new_context(**options).new_page(), wrong)
        pages.append(page)
        page.goto(path.as_uri())
        return page

    yield open_
    for page in pages:
        page.context.close()
    assert not wrong


def colour(number: int) -> str:
    return f"#{(number * 7919) % 0xFFFFFF:06x}"


def shop() -> Tables:
    """Groups of two; every third is of the brand Acme, the pairs are ever less sure."""
    names = [(f"{n:04}a", f"{n:04}b") for n in range(N)]
    near = {a + b: (1 - n / 1000, "mirrored" if n % 2 else "cropped to 90 % of the area")
            for n, (a, b) in enumerate(names)}  # fmt: skip
    rows: list[Pair] = [pair(a, b, n / 1000, "near") for n, (a, b) in enumerate(names)]
    table = pd.DataFrame(
        [(key, f"Coat {key}", f"Acme {'<b>' * (n == 3)}" if n % 3 == 0 else "")
         for n, ids in enumerate(names) for key in ids],
        columns=["sku", "name", "productBrand"],
    )  # fmt: skip
    index = replace(fine(key for ids in names for key in ids), products=table)
    tables = found(groups_of(*names), pairs_of(*rows, seen=near)), index

    def thumbnails(urls: Any) -> dict[str, Image.Image]:
        return {url: plain(colour(int(Path(url).stem[:4]))) for url in urls}

    return with_images(tables, thumbnails)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return HtmlReport().write(*shop(), tmp_path_factory.mktemp("a run"))


def ids(page: Page) -> list[str]:
    return list(page.locator("#groups > article .id").all_text_contents())


def expected(numbers: Any) -> list[str]:
    return [f"{n:04}{letter}" for n in numbers for letter in "ab"]


def test_pages_hold_every_group_once(path: Path, opened: Opened) -> None:
    page = opened(path)
    assert page.locator("#count").inner_text() == f"{N} groups"
    seen = ids(page)
    assert seen == expected(range(PAGE))
    assert page.locator("#previous").is_disabled()
    for start in (PAGE, 2 * PAGE):
        page.locator("#next").press("Enter")
        now = ids(page)
        assert now == expected(range(start, min(start + PAGE, N)))
        seen += now
    assert page.locator("#next").is_disabled()
    assert page.locator("#place").inner_text() == f"{2 * PAGE + 1} to {N} of {N}"
    assert seen == expected(range(N))
    page.locator("#previous").press("Enter")
    assert ids(page) == expected(range(PAGE, 2 * PAGE))


IMAGES = """() => [...document.querySelectorAll("#groups > article .image use")]
  .map((use) => document.querySelector(use.getAttribute("href"))?.getAttribute("href") ?? "")"""


def test_images_of_later_pages_come_when_they_are_shown(path: Path, opened: Opened) -> None:
    page = opened(path)
    stored = "document.querySelectorAll('#images image').length"
    assert page.evaluate(stored) == PAGE  # both products of a group show one image
    page.locator("#next").press("Enter")
    images = page.evaluate(IMAGES)
    assert len(images) == 2 * PAGE
    assert all(image.startswith("data:image/jpeg") for image in images)
    assert images[0] == images[1] != images[2]
    assert page.evaluate(stored) == 2 * PAGE


def test_the_filters_choose(path: Path, opened: Opened) -> None:
    page = opened(path)

    def shown() -> str:
        return str(page.locator("#count").inner_text())

    brand, reason = page.locator("[data-filter]").all()
    assert brand.get_attribute("aria-label") == "Only groups by productBrand"
    options = brand.locator("option").all_inner_texts()
    n_acme = len(range(0, N, 3))
    assert options == ["Any productBrand", f"Acme ({n_acme - 1})", "Acme <b> (1)"]
    brand.select_option(label="Acme <b> (1)")
    assert ids(page) == expected([3])
    assert shown() == f"1 of {N} groups fits"
    brand.select_option(index=1)
    reason.select_option(label=f"mirrored ({N // 2})")
    assert ids(page) == expected(n for n in range(9, N, 6))
    page.locator("#least").fill("80")
    page.locator("#most").fill("90")
    assert ids(page) == expected(n for n in range(9, N, 6) if 100 <= n <= 200)
    page.locator("#search").fill("coat 0111")
    assert ids(page) == expected([111])
    page.locator("#search").fill("coat 0112")
    assert page.locator("#nothing").is_visible()
    page.get_by_role("button", name="Show all groups").click()
    assert shown() == f"{N} groups"
    page.locator("#sort").select_option("unsure")
    assert ids(page)[:2] == expected([N - 1])


def test_odd_ids_of_later_pages_are_found_and_copied(tmp_path: Path, opened: Opened) -> None:
    odd = "z\x1b'\"</noscript><script>alert(1)</script>&amp;"
    names = [*((f"{n:04}a", f"{n:04}b") for n in range(PAGE)), (odd, f"{odd}2")]
    pairs = pairs_of(*(pair(a, b) for a, b in names))
    index = fine(key for some in names for key in some)
    page = opened(HtmlReport().write(found(groups_of(*names), pairs), index, tmp_path))
    assert len(ids(page)) == 2 * PAGE
    page.locator("#search").fill("</noscript><script>alert(1)")
    assert ids(page) == [odd.replace("\x1b", "\u241b"), f"{odd}2".replace("\x1b", "\u241b")]
    button = page.locator("#groups .id").first
    assert page.evaluate("(it) => JSON.parse(it.dataset.id)", button.element_handle()) == odd
    assert not page.locator("#groups script").count()


def test_without_scripts_every_group_is_there(path: Path, opened: Opened) -> None:
    page = opened(path, java_script_enabled=False)
    assert page.locator("article").count() == N
    assert page.locator(f"#group-{N}").is_visible()
    assert page.locator("image").count() == N
    assert [it.text for it in parse(path).all("button", "id")] == expected(range(N))


def test_a_print_has_every_group(path: Path, opened: Opened) -> None:
    page = opened(path)
    page.locator("#next").press("Enter")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert len(ids(page)) == 2 * N
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert ids(page) == expected(range(PAGE, 2 * PAGE))


@pytest.mark.parametrize("name", ["plain", "with a space", "it's"])
def test_the_command_names_the_folder_of_the_page(
    name: str, tmp_path: Path, opened: Opened
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    pairs = pairs_of(pair("A", "B"))
    page = opened(HtmlReport().write(found(groups_of("AB"), pairs), fine("AB"), folder))
    told = str(page.locator("#review code").inner_text())
    words = shlex.split(told)
    assert words[:2] == ["python", "review.py"]
    if name == "it's":  # no shell reads this alike: the reader has to name it
        assert words[2] == "findings=FOLDER"
        assert "folder of this page" in page.locator("#review").inner_text()
        return
    assert words[2:] in ([f"findings={folder}"], [f"findings='{folder}'"])
    assert page.locator("#review .where").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_can_be_read(scheme: str, width: int, path: Path, opened: Opened) -> None:
    page = opened(path, viewport={"width": width, "height": 844}, color_scheme=scheme)
    assert page.evaluate(OVERFLOW) <= 0
    assert serious(page) == []
    assert page.locator("#pager").is_visible()
