"""Ingest as a whole: order, stragglers, interruptions, full disks; nothing lost, nothing twice."""

import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.download.client import Fetcher
from dedup.download.hosts import Patience
from dedup.errors import StalledError
from dedup.runtime.progress import Tally
from dedup.sources.csv import CsvSource
from dedup.store.decode import decode
from dedup.store.image_store import ImageStore
from dedup.store.ingest import MAX_UNFINISHED, SMALL_REST, Ingest
from dedup.store.shards import Loaded
from tests.conftest import LOCAL, QuietHandler, draw, encoded, write_shop

Serve = Callable[..., str]

HASTY = Fetcher(
    allow_networks=["127.0.0.0/8"],
    patience=Patience(failures=3, pauses=(0.5, 1.0), down=5, backoff=0.01, max_backoff=0.1),
)
"""Gives a host up soon."""


@pytest.fixture(scope="module")
def drawn_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(30):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number, (40, 50))))
    return folder


class Slow(QuietHandler):
    """Shows images; those below ``/late`` only once they are released."""

    folder: Path
    released = threading.Event()

    def translate_path(self, path: str) -> str:
        if path.startswith("/late"):
            self.released.wait(20)
        return str(self.folder / path.rpartition("/")[2])


@pytest.fixture
def slow(drawn_images: Path, serve: Serve) -> Iterator[type[Slow]]:
    class Here(Slow):
        folder = drawn_images
        released = threading.Event()

    yield Here
    Here.released.set()


def collected(ingest: Ingest, urls: list[str]) -> tuple[list[list[Loaded]], list[Tally]]:
    kept: list[list[Loaded]] = []
    told: list[Tally] = []
    ingest(urls, kept.append, lambda tally: told.append(Tally(tally.done, tally.failed)))
    return kept, told


def test_rows_are_kept_in_order_and_all_of_them(drawn_images: Path) -> None:
    urls = [str(drawn_images / f"{number}.jpg") for number in (*range(30), 99)]
    kept, told = collected(Ingest(Fetcher(), shard_rows=8), urls)
    assert [len(rows) for rows in kept] == [8, 8, 8, 7]
    assert [row.entry["url"] for rows in kept for row in rows] == urls
    assert [row.image is None for rows in kept for row in rows] == [False] * 30 + [True]
    assert [tally.done for tally in told] == list(range(1, 32))
    assert told[-1].failed == 1


def test_rows_that_wait_do_not_hold_up_the_others(
    drawn_images: Path, slow: type[Slow], serve: Serve
) -> None:
    host = serve(handler=slow)
    local = [str(drawn_images / f"{n}.jpg") for n in range(30)]
    copies = drawn_images / "copies"
    copies.mkdir(exist_ok=True)
    for number in range(600):
        place = copies / f"{number}.jpg"
        if not place.exists():
            place.hardlink_to(local[number % 30])
    urls = [f"{host}/late/0.jpg", *(str(copies / f"{number}.jpg") for number in range(600))]
    kept: list[list[str]] = []

    def keep(rows: list[Loaded]) -> None:
        kept.append([row.entry["url"] for row in rows])
        slow.released.set()  # what was late comes only after others were kept

    Ingest(LOCAL, shard_rows=8)(urls, keep)
    flat = [url for rows in kept for url in rows]
    assert Counter(flat) == Counter(urls)
    assert urls[0] not in kept[0]


def test_robots_are_respected_when_asked(drawn_images: Path, serve: Serve) -> None:
    class Private(QuietHandler):
        def translate_path(self, path: str) -> str:
            return str(drawn_images / path.strip("/"))

        def end_headers(self) -> None:
            if self.path == "/1.jpg":
                self.send_header("X-Robots-Tag", "noai, noimageai")
            super().end_headers()

    host = serve(handler=Private)
    urls = [f"{host}/1.jpg", f"{host}/2.jpg"]
    polite = Fetcher(allow_networks=["127.0.0.0/8"], robots=["noai"])
    for fetcher, expected in ((LOCAL, ["ok", "ok"]), (polite, ["skipped", "ok"])):
        (rows,), _ = collected(Ingest(fetcher), urls)
        assert [row.entry["status"] for row in rows] == expected
    assert rows[0].entry["reason"] == "robots"


@pytest.mark.parametrize(
    ("retry", "again"),
    [
        (False, set()),
        (True, {"503", "404", "500"}),
        ("5xx", {"503", "500"}),
        (["http_404", "http_500"], {"404", "500"}),
        ("timeout,http_503", {"503"}),
    ],
)
def test_only_failures_of_the_reasons_asked_for_are_read_again(
    tmp_path: Path, drawn_images: Path, serve: Serve, retry: bool | str | list[str], again: set[str]
) -> None:
    asked: list[str] = []

    class Failing(QuietHandler):
        def answer(self) -> None:
            name = self.path.strip("/")
            asked.append(name)
            if name == "ok":
                body = (drawn_images / "0.jpg").read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            else:
                self.send_error(int(name))

        do_GET = answer  # noqa: N815

    host = serve(handler=Failing)
    names = ["ok", "404", "500", "503"]
    table = write_shop(tmp_path, [(name, f"{host}/{name}") for name in names])
    catalogue = CsvSource(str(table)).read()
    once = Fetcher(allow_networks=["127.0.0.0/8"], attempts=1)
    ImageStore(tmp_path / "store", fetcher=once).ingest(catalogue, tmp_path)
    assert sorted(asked) == sorted(names)
    asked.clear()
    ImageStore(tmp_path / "store", fetcher=once, retry=retry).ingest(catalogue, tmp_path)
    assert set(asked) == again
    assert len(asked) == len(again)


def test_the_list_of_failures_can_be_read_again(tmp_path: Path, drawn_images: Path) -> None:
    rows = [("007", "0.jpg"), ("NA", "gone.jpg"), (' a "b" ', "gone too.jpg"), ("", "1.jpg")]
    table = write_shop(tmp_path, rows)
    with table.open("a") as file:
        file.write("X,one,two,three\n")
    read = CsvSource(str(table), images_dir=str(drawn_images)).read()
    ImageStore(tmp_path / "store").ingest(read, tmp_path)
    again = CsvSource(str(tmp_path / "failures.csv"), images_dir=str(drawn_images)).read()
    assert again.products["productId"].tolist() == ["NA", ' a "b" ', "", "X"]
    assert again.requests["reason"].tolist() == ["", "", "no_id", "no_url"]
    assert list(again.products.columns)[:3] == ["productId", "title", "imageUrlStr"]
    copy = Path(drawn_images / "gone.jpg")
    copy.write_bytes((drawn_images / "3.jpg").read_bytes())
    try:
        images = ImageStore(tmp_path / "store").ingest(again, tmp_path)
    finally:
        copy.unlink()
    assert images["reason"].tolist() == ["", "not_found", "no_id", "no_url"]
    listed = pd.read_csv(tmp_path / "failures.csv", dtype=str, keep_default_na=False)
    assert listed.columns.tolist().count("failure_reason") == 1


SCRIPT = """
import sys
from pathlib import Path
from dedup.errors import DedupError
from dedup.download.client import Fetcher
from dedup.download.hosts import Patience
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore

table, folder = map(Path, sys.argv[1:])
fetcher = Fetcher(allow_networks=["127.0.0.0/8"])
store = ImageStore(folder, fetcher=fetcher, shard_rows=4)
try:
    store.ingest(CsvSource(str(table)).read(), table.parent)
except DedupError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def heeding() -> None:
    """Heed Ctrl-C, also where the tests run in the background and were told to ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(table: Path, store: Path, first: Callable[[], None] = heeding) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(table), str(store)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=first,
    )  # fmt: skip


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_what_it_read(
    tmp_path: Path, slow: type[Slow], serve: Serve, number: signal.Signals, code: int
) -> None:
    host = serve(handler=slow)
    rows = [(f"P{n}", f"{host}/{n}.jpg") for n in range(6)] + [("late", f"{host}/late/7.jpg")]
    table, folder = write_shop(tmp_path, rows), tmp_path / "store"
    with started(table, folder) as process:
        while not list(folder.glob("shard-00000.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(0.5)  # for the two beyond the first shard
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    kept = ImageStore(folder).entries
    assert sorted(kept.index) == sorted(url for product, url in rows if product != "late")
    slow.released.set()
    store = ImageStore(folder, fetcher=LOCAL, shard_rows=4)
    images = store.ingest(CsvSource(str(table)).read(), tmp_path)
    assert images["status"].eq("ok").all()
    whole = ImageStore(tmp_path / "whole", fetcher=LOCAL)
    whole.ingest(CsvSource(str(table)).read(), tmp_path)
    assert store.digest() == whole.digest()


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, drawn_images: Path) -> None:
    rows = [(f"P{n}", str(drawn_images / f"{n}.jpg")) for n in range(12)]
    table, folder = write_shop(drawn_images, rows), tmp_path / "store"

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with started(table, folder, first=small) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 6, said
    assert "the file exceeds the size limit" in said
    assert str(folder) in said
    assert "MB" in said
    assert not list(folder.glob(".*.part"))
    store = ImageStore(folder, shard_rows=4)
    assert store.ingest(CsvSource(str(table)).read(), tmp_path)["status"].eq("ok").all()


def test_no_network_stops_the_run_before_rows_are_burned(
    tmp_path: Path, drawn_images: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    rows = [(f"P{n}", str(drawn_images / f"{n}.jpg")) for n in range(4)]
    rows += [(f"N{n}", f"{nowhere}/{n}.jpg") for n in range(150)]
    store = ImageStore(tmp_path / "store", fetcher=HASTY)
    with pytest.raises(StalledError, match=r"127\.0\.0\.1.*same command goes on"):
        store.ingest(CsvSource(str(write_shop(drawn_images, rows))).read(), tmp_path)
    assert store.entries["status"].tolist() == ["ok"] * 4


def test_a_host_that_is_down_does_not_hide_that_others_answer(
    tmp_path: Path, drawn_images: Path, serve: Serve
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere, there = f"http://127.0.0.1:{closed.getsockname()[1]}", serve(drawn_images)
        rows = [(f"N{n}", f"{nowhere}/{n}.jpg") for n in range(MAX_UNFINISHED + 50)]
        rows += [(f"P{n}", f"{there}/{n % 30}.jpg?{n}") for n in range(SMALL_REST + 50)]
        store = ImageStore(tmp_path / "store", fetcher=HASTY)
        images = store.ingest(CsvSource(str(write_shop(tmp_path, rows))).read(), tmp_path)
    ended = Counter(zip(images["product_id"].str[0], images["status"], strict=True))
    assert ended == {("N", "failed"): MAX_UNFINISHED + 50, ("P", "ok"): SMALL_REST + 50}


def test_a_second_run_on_a_store_is_told_so(tmp_path: Path, slow: type[Slow], serve: Serve) -> None:
    host = serve(handler=slow)
    table = write_shop(tmp_path, [("P1", f"{host}/1.jpg"), ("late", f"{host}/late/2.jpg")])
    with started(table, tmp_path / "store") as first:
        while not (tmp_path / "store" / "manifest.json").exists():
            time.sleep(0.01)
        with started(table, tmp_path / "store") as second:
            _, said = second.communicate(timeout=60)
        assert second.returncode == 5, said
        assert str(first.pid) in said
        slow.released.set()
        _, said = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert (tmp_path / "store" / "shard-00000.json").exists()


def test_dozens_of_addresses_in_one_cell_take_few_turns(tmp_path: Path, drawn_images: Path) -> None:
    missing = [f"missing-{number}.jpg" for number in range(28)]
    good = [str(drawn_images / f"{number}.jpg") for number in range(2)]
    rows = [("P1", ";".join([*missing, good[0]])), ("P2", good[1]), ("P3", ";".join(missing))]
    table = write_shop(tmp_path, rows)
    source = CsvSource(str(table), images_dir="/")
    store = ImageStore(tmp_path / "store", workers=1)
    images = store.ingest(source.read(), tmp_path)
    assert images["status"].tolist() == ["ok", "ok", "failed"]
    assert images["url"].tolist() == [*good, f"/{missing[-1]}"]
    assert len(list((tmp_path / "store").glob("shard-*.json"))) < 15  # each turn writes one


def test_web_images_are_told_by_their_content(serve: Serve) -> None:
    bodies = {
        "/a.jpg?v=1": encoded(draw(1), "PNG"), "/image": encoded(draw(2)),
        "/b.html": encoded(draw(3), "WEBP"), "/c.jpg": encoded(draw(4), "AVIF"),
        "/d.png?w=300&h=400": encoded(draw(5), "TIFF"), "/e.jpg": b"<html>Log in</html>",
    }  # fmt: skip

    class Lying(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802
            is_page = self.path == "/e.jpg"
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg" if is_page else "text/html")
            self.send_header("Content-Length", str(len(bodies[self.path])))
            self.end_headers()
            self.wfile.write(bodies[self.path])

    at = serve(handler=Lying)
    kept, _ = collected(Ingest(LOCAL, workers=1), [f"{at}{path}" for path in bodies])
    found = [row for rows in kept for row in rows]
    assert [row.entry["reason"] for row in found] == [*[""] * 5, "format"]
    assert "'TIFF', 'AVIF'" in found[5].entry["version"]  # read again once more formats are
    for row, body in zip(found[:5], bodies.values(), strict=False):
        assert row.image is not None
        assert np.array_equal(row.image.pixels, decode(body).pixels)


def test_what_a_setting_refused_is_read_again_once_it_changes(
    tmp_path: Path, drawn_images: Path, serve: Serve
) -> None:
    base = serve(drawn_images)
    rows = [("A", f"{base}/0.jpg"), ("B", f"{base}/none.jpg"), ("C", f"{drawn_images}/1.jpg")]
    source = CsvSource(str(write_shop(tmp_path, rows)), images_dir=str(drawn_images))

    def reasons(fetcher: Fetcher) -> list[str]:
        store = ImageStore(tmp_path / "store", fetcher=fetcher)
        shown: list[str] = store.ingest(source.read(), tmp_path)["reason"].tolist()
        return [*shown, str(len(store.entries)), str(len(list(store.path.glob("shard-*.json"))))]

    blocked = ["blocked_address", "blocked_address", "", "3", "1"]
    assert reasons(Fetcher()) == blocked
    assert reasons(Fetcher()) == blocked
    assert reasons(LOCAL)[:3] == ["", "http_404", ""]
    assert reasons(Fetcher())[:3] == ["", "http_404", ""]
