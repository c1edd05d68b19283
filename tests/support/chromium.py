"""Chromium, driven by Playwright; tests that need it are skipped where it is not there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.util import find_spec
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

needed = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]
"""Marks of tests in a browser."""

Page = Any


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def watched(page: Page, wrong: list[str]) -> Page:
    """Note in ``wrong`` scripts that fail, alerts, and what the page's policy forbids."""
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append("an alert"), dialog.dismiss()))
    page.on("console", lambda message: wrong.extend(
        [message.text] if "Content Security Policy" in message.text else []))  # fmt: skip
    return page


OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels by which a page is wider than its window."""


def serious(page: Page) -> list[str]:
    """What axe-core finds on the page that is serious or critical, with the first element of each.

    Its script is run by the debugger: the page's own policy would not load it.
    """
    if not page.evaluate("() => 'axe' in globalThis"):
        script = resources.files("axe_playwright_python") / "axe.min.js"
        page.evaluate(script.read_text("utf-8"))
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    assert found["passes"]
    return [
        f"{it['id']}: {it['nodes'][0]['html'][:200]}"
        for it in found["violations"]
        if it["impact"] in ("serious", "critical")
    ]
