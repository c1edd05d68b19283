"""The page in a real browser: keys, touch, undoing, failed saves, hostile text, contrast."""

import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dedup.review.decisions import Pair
from tests.support.chromium import OVERFLOW, Page, chromium, needed, serious, watched
from tests.support.reviews import Running, Shop, choice, memory

pytestmark = needed

Opened = Callable[..., tuple[Running, Page]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any) -> Iterator[Opened]:
    """Open the page on a shop; no script may fail, and no policy may be violated."""
    started: list[Running] = []
    pages: list[Page] = []
    wrong: list[str] = []

    def open_(shop: Shop | None = None, **options: Any) -> tuple[Running, Page]:
        running = Running((shop or Shop()).desk(memory()))
        started.append(running)
        page = browser.new_context(viewport={"width": 1440, "height": 900}, **options).new_page()
        pages.append(page)
        watched(page, wrong)
        page.goto(running.link())
        page.wait_for_selector("body[data-ready]")
        return running, page

    yield open_
    for page in pages:
        page.context.close()
    for running in started:
        running.stop()
    assert not wrong


def until(page: Page, is_true: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what the server does behind the page, which goes on meanwhile."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        page.wait_for_timeout(20)


def verdicts(running: Running) -> dict[Pair, str]:
    return {row.pair: row.verdict for row in running.desk.ledger.history.decisions()}


def shown(page: Page) -> list[str]:
    return list(page.locator(".group .id").all_inner_texts())


def test_a_group_by_keys(opened: Opened) -> None:
    running, page = opened()
    assert page.url == f"{running.origin}/"  # the token has left the address
    assert shown(page) == ["g1-a", "g1-b", "g1-c"]  # the largest first
    page.keyboard.press("ArrowRight")
    page.keyboard.press("4")
    assert shown(page) == ["g1-a", "g1-b"]
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    assert shown(page) == ["g0-a", "g0-b"]
    page.keyboard.press("3")
    page.keyboard.press("Space")
    page.get_by_text("Nothing is open").wait_for()
    until(page, lambda: len(verdicts(running)) == 3)
    assert verdicts(running) == {
        ("g1-a", "g1-c"): "different", ("g1-a", "g1-b"): "duplicate", ("g0-a", "g0-b"): "variant",
    }  # fmt: skip
    rows = {row.pair: row for row in running.desk.ledger.history.decisions()}
    assert rows["g1-a", "g1-b"].kept == "g1-b"
    assert all(row.took_ms >= 0 for row in rows.values())
    page.keyboard.press("z")
    until(page, lambda: ("g0-a", "g0-b") not in verdicts(running))
    until(page, lambda: len(shown(page)) == 2)
    assert shown(page) == ["g0-a", "g0-b"]


def test_a_group_by_mouse(opened: Opened) -> None:
    running, page = opened(Shop(sizes=(3, 2)))
    page.locator("[data-product=g0-c]").click()
    page.get_by_role("button", name="Take out").click()
    page.get_by_role("button", name="Same product").first.click()
    until(page, lambda: len(verdicts(running)) == 2)
    assert verdicts(running) == {("g0-a", "g0-c"): "different", ("g0-a", "g0-b"): "duplicate"}
    page.get_by_role("button", name="Undo").click()
    until(page, lambda: len(verdicts(running)) == 1)


def test_what_differs_is_marked(opened: Opened) -> None:
    _, page = opened(Shop(sizes=(2,), titles={"g0-a": "Blue coat", "g0-b": "Red coat"}))
    assert page.locator(".strip mark").first.inner_text() == "Red"
    assert "cropped to 90 %" in page.locator(".evidence").inner_text()
    page.wait_for_selector(".region")
    page.keyboard.press("f")
    assert page.locator("#viewer-label").inner_text() == "g0-b"
    page.keyboard.press("f")
    assert page.locator("#viewer-label").inner_text() == "g0-a"
    page.keyboard.press("+")
    before = page.locator(".stage img").nth(0).evaluate("image => image.style.transform")
    page.keyboard.press("d")
    after = page.locator(".stage img").nth(2).evaluate("image => image.style.transform")
    assert before == after == "scale(1.5)"
    width = "image => image.naturalWidth"
    until(page, lambda: page.locator(".stage img").nth(2).evaluate(width) > 0)
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_a_page_of_pairs_in_one_batch(opened: Opened) -> None:
    running, page = opened(Shop(sizes=[2] * 30))
    page.get_by_role("button", name="Page of pairs").click()
    assert page.locator(".pair").count() == 24
    page.keyboard.press("4")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    until(page, lambda: len(verdicts(running)) == 24)
    (batch,) = running.desk.ledger.history.batches.values()
    found = [row.verdict for row in batch]
    assert (found.count("different"), found.count("other_product")) == (1, 1)
    assert {row.source for row in batch} == {"page"}
    until(page, lambda: page.locator(".pair").count() == 6)
    page.keyboard.press("z")
    until(page, lambda: not verdicts(running))


def test_a_rule_in_the_browser(opened: Opened) -> None:
    running, page = opened(Shop(sizes=[2] * 40))
    page.get_by_role("button", name="Rules").click()
    page.get_by_role("button", name="Look at some").first.click()
    commit = page.get_by_role("button", name=re.compile("Same product: all 40"))
    assert commit.is_disabled()
    for card in page.locator(".pair").all():
        card.scroll_into_view_if_needed()
    until(page, lambda: commit.is_enabled())
    commit.click()
    until(page, lambda: "Z undoes them all" in page.locator("#said").inner_text())
    assert len(verdicts(running)) == 40
    page.keyboard.press("z")
    until(page, lambda: not verdicts(running))


def test_a_failed_save_brings_the_group_back(opened: Opened) -> None:
    running, page = opened(Shop(sizes=(2, 2)))
    bob = running.client("bob")
    bob.decide("bob", choice("g0-a", "g0-b", "different"))
    assert shown(page) == ["g0-a", "g0-b"]
    page.keyboard.press("1")
    page.wait_for_selector("#alert:not([hidden])")
    assert "bob said different" in page.locator("#alert").inner_text()
    assert shown(page) == ["g0-a", "g0-b"]
    assert "bob said" in page.locator(".conflict").inner_text()
    page.keyboard.press("1")  # on purpose
    until(page, lambda: verdicts(running).get(("g0-a", "g0-b")) == "duplicate")


def test_a_lost_connection_loses_and_doubles_nothing(opened: Opened) -> None:
    running, page = opened(Shop(sizes=[2] * 6))
    turns = itertools.count()

    def flaky(route: Any) -> None:
        turn = next(turns)
        if turn == 0:
            route.abort()
        elif turn == 1:
            route.fetch()  # the server has it, and its answer is lost
            route.abort()
        else:
            route.continue_()

    page.route("**/api/decisions", flaky)
    for _ in range(3):
        page.keyboard.press("1")
    until(page, lambda: len(verdicts(running)) == 3)
    assert len(running.desk.ledger.history) == 3
    assert not page.locator("#alert").is_visible()


HOSTILE = (
    "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "javascript:alert(1)",
    "\u202egnp.exe", '"><svg onload=alert(1)>', "{{7*7}}", "x" * 10_000, "裤\u0301\U0001f9e5",
)  # fmt: skip


def test_hostile_text_is_text(opened: Opened) -> None:
    names = {f"g{number}-b": text for number, text in enumerate(HOSTILE)}
    ids = {f"g{number}-a": f"{text[:80]}#{number}" for number, text in enumerate(HOSTILE)}
    images = {f"g{number}-b": text for number, text in enumerate(HOSTILE)}  # and their addresses
    shop = Shop(sizes=[2] * len(HOSTILE), titles=names, rename=ids, image_of=images)
    running, page = opened(shop)
    for view in ("Page of pairs", "Rules", "Decisions", "Groups"):
        page.get_by_role("button", name=view).click()
        page.wait_for_timeout(100)
    for _ in HOSTILE:
        page.keyboard.press("1")
    until(page, lambda: len(verdicts(running)) == len(HOSTILE))
    page.get_by_role("button", name="Decisions").click()
    page.wait_for_selector(".batches li")
    page.locator(".batches .link").first.click()
    page.wait_for_selector(".history")
    assert not page.locator("main script, main svg, main img[onerror]").count()


CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const light = (colour) => [0.2126, 0.7152, 0.0722]
    .reduce((sum, weight, at) => sum + weight * linear(colour[at] / 255), 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !node.checkVisibility() || node.closest(":disabled, script, .unseen")) continue;
    const both = [light(rgb(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${text.slice(0, 40)}`);
  }
  return poor;
}"""
"""Texts whose contrast with their ground is below 4.5, by the formula of WCAG 2."""

UNNAMED = """() => [...document.querySelectorAll("button, select, input, img, dialog")]
  .filter((node) => node.checkVisibility())
  .filter((node) => !node.hasAttribute("alt") && !node.hasAttribute("aria-label")
    && !node.hasAttribute("aria-labelledby") && !node.labels?.length && !node.textContent.trim())
  .map((node) => node.outerHTML.slice(0, 80))"""
"""Controls and images that a screen reader has no name for."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_view_can_be_read(scheme: str, width: int, opened: Opened) -> None:
    running, page = opened(Shop(sizes=(3, 2, 2)), color_scheme=scheme)
    running.client("bob").decide("x", choice("g0-a", "g0-b", "variant"))
    page.set_viewport_size({"width": width, "height": 844})
    for view in ("Groups", "Page of pairs", "Rules", "Decisions"):
        page.get_by_role("button", name=view).click()
        page.wait_for_timeout(250)
        assert page.evaluate(CONTRAST) == [], view
        assert page.evaluate(UNNAMED) == [], view
        assert serious(page) == [], view
        assert page.evaluate(OVERFLOW) <= 0, view
    page.get_by_role("button", name="Groups").click()
    for key, dialog in (("?", "#help"), ("f", "#viewer"), ("d", "#viewer")):
        page.keyboard.press(key)
        page.locator(dialog).wait_for()
        page.wait_for_timeout(250)
        assert serious(page) == [], key
        page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"


def test_the_next_image_is_there_at_once(opened: Opened) -> None:
    running, page = opened(Shop(sizes=[2] * 40))
    page.route("**/api/**", lambda route: (time.sleep(0.05), route.continue_()))
    page.wait_for_load_state("networkidle")
    for _ in range(10):
        page.keyboard.press("1")
        is_whole = "[...document.querySelectorAll('.frame img')].every((image) => image.complete)"
        assert page.evaluate(is_whole)
    until(page, lambda: len(verdicts(running)) == 10)
    assert len(running.desk.ledger.history) == 10
