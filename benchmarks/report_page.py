"""Measure how report.html opens in Chromium: the first groups painted, pages, search, filters.

    python benchmarks/report_page.py --groups 10000

Images are drawn, and about as large as a shop's previews. The page is opened from a file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from dedup.detection.results import DetectionResult
from dedup.reports.html import HtmlReport
from dedup.schemas import GROUPS, INDEX_IMAGES, PAIRS, SHARED, Image8
from dedup.search.index import Index

TITLE = "blue linen coat with a hood and two pockets, regular fit, made in Portugal"


@cache
def base(number: int) -> Image8:
    """Draw an image as large as those of the page: forms and fine grain."""
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    smooth = np.array(coarse.resize((165, 220), Image.Resampling.BICUBIC), np.int16)
    grain = draw.normal(0, 6, smooth.shape).astype(np.int16)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def drawn(urls: Sequence[str]) -> dict[str, Image.Image]:
    """Return an image for each address, no two alike."""
    images = {}
    for url in urls:
        group, _, member = url.partition("-")
        shift = int(group) // 64
        turned = np.roll(base(int(group) % 64), (shift, int(member)), axis=(0, 1))
        images[url] = Image.fromarray(turned)
    return images


def shop(n_groups: int) -> tuple[DetectionResult, Index]:
    """Make groups of 2 or 3 products."""
    ids = [[f"{n}-{k}" for k in range(2 + (n % 4 == 0))] for n in range(n_groups)]
    groups = [(key, some[0], key == some[0]) for some in ids for key in some]
    pairs = [
        (some[0], key, 0.3, "near", some[0], key, 0.7 + 0.3 * (n % 100) / 101,
         f"cropped to {80 + n % 20} % of the area" if n % 3 else "mirrored", "same image")
        for n, some in enumerate(ids)
        for key in some[1:]
    ]  # fmt: skip
    products = [key for some in ids for key in some]
    table = pd.DataFrame(
        {
            "id": products,
            "title": [f"{TITLE[5 * (at % 3) :]} {key}" for at, key in enumerate(products)],
            "brand": [f"Brand {at % 400}" for at in range(len(products))],
            "category": [f"Category {at % 60}" for at in range(len(products))],
        }
    )
    images = pd.DataFrame(
        {"product_id": products, "url": products, "status": "ok", "reason": ""}
    ).reindex(columns=INDEX_IMAGES.names)
    none = np.zeros((0, 2), np.float32)
    manifest = {"id_column": "id", "title_column": "title"}
    result = DetectionResult(
        groups=pd.DataFrame(groups, columns=GROUPS.names).sort_values(["group_id", "product_id"]),
        pairs=pd.DataFrame(sorted(pairs), columns=PAIRS.names),
        shared=pd.DataFrame(columns=SHARED.names),
    )
    return result, Index(images, none, none, table, manifest, thumbnails=drawn)


PAINTED = """() => new Promise((done) => {
  const look = () => {
    const tools = document.getElementById("tools");
    if (tools && !tools.hidden && document.querySelector("#groups > article .image use")) {
      requestAnimationFrame(() => setTimeout(() => done(performance.now())));
    } else requestAnimationFrame(look);
  };
  look();
})"""

STEP = """async () => {{
  const start = performance.now();
  {change};
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}}"""

FIRST = "performance.getEntriesByName('first-contentful-paint')[0].startTime"

STEPS = {
    "next page": "document.getElementById('next').click()",
    "search": "const it = document.getElementById('search'); it.value = '77-1'; "
    "it.dispatchEvent(new Event('input'))",
    "brand": "const it = document.querySelector('[data-filter]'); it.selectedIndex = 3; "
    "it.dispatchEvent(new Event('change'))",
    "sort": "const it = document.getElementById('sort'); it.value = 'unsure'; "
    "it.dispatchEvent(new Event('change'))",
}


def main() -> None:
    """Write a page, open it, and print what takes how long."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--groups", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--keep", type=Path, help="write the page into this folder, and leave it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        started, used = time.perf_counter(), time.process_time()
        folder = options.keep or Path(name)
        path = HtmlReport(max_groups=options.groups).write(*shop(options.groups), folder)
        seconds, used = time.perf_counter() - started, time.process_time() - used
        size = path.stat().st_size / 1e6
        print(f"{options.groups:,} groups: {size:.0f} MB, written in {seconds:.0f} s "
              f"({used:.0f} s of CPU time)")  # fmt: skip
        found: dict[str, list[float]] = {}
        for _ in range(options.repeats):
            browser = playwright.chromium.launch(
                executable_path=options.chromium, args=["--no-sandbox"]
            )
            measure(browser.new_page(viewport={"width": 1440, "height": 900}), path, found)
            browser.close()
        for step, times in found.items():
            print(f"{step}: median {statistics.median(times):.0f} ms, most {max(times):.0f} ms")


def measure(page: Any, path: Path, found: dict[str, list[float]]) -> None:
    """Open the page in a new browser, and note the milliseconds of each step."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def note(step: str, milliseconds: float) -> None:
        found.setdefault(step, []).append(milliseconds)

    def used() -> float:
        metrics = devtools.send("Performance.getMetrics")["metrics"]
        return 1000 * {it["name"]: it["value"] for it in metrics}["TaskDuration"]

    page.goto(path.as_uri(), wait_until="commit")
    note("first groups painted, search ready", page.evaluate(PAINTED))
    note("... CPU time of the page's thread until then", used())
    note("... first contents painted", page.evaluate(FIRST))
    page.wait_for_load_state("load")
    note("whole file read", page.evaluate("performance.now()"))
    note("... CPU time of the page's thread for it", used())
    for step, change in STEPS.items():
        note(step, page.evaluate(STEP.format(change=change)))


if __name__ == "__main__":
    main()
