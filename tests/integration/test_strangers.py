"""Catalogues, images and stores made by somebody hostile, as the commands take them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from dedup.runtime.tables import write_rows
from dedup.sources.csv import CsvSource
from tests.conftest import ROOT, QuietHandler, Server, draw, encoded
from tests.search.test_build import save_encoder
from tests.support.commands import Ended, run_all
from tests.support.pages import parse
from tests.support.slow import many_scans

FORGED = "12:00:00 INFO    all is well"
EVIL = [
    *("\x1b[2J\x1b[31mred", "\x9b31mred", "\x1b]0;title\x07", "over\rwritten", "\x08\x08\x7f"),
    *(f"line\n{FORGED}", "tab\there", "\x85next\u2028line\u2029", "\u202egpj.exe\u2066", "\0x"),
]  # fmt: skip
"""Ids and titles. An id with a NUL is refused as ``bad_id``."""
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
TURNED = "images/\u202egpj.jpg"
COLUMNS = ["productId", "title", "imageUrlStr"]
PLAIN = {"checkpoint": "encoder.ckpt", "clusterer.n_clusters": "2"}
SLOW = "store.decode_timeout=0.5"


def overrides(*more: str, **settings: str) -> list[str]:
    return [*(f"{name}={value}" for name, value in {**PLAIN, **settings}.items()), *more]


def make_catalogue(folder: Path) -> list[list[str]]:
    """Pairs of products with equal images, and one whose image is missing; the rows."""
    images = folder / "images"
    images.mkdir()
    rows = []
    for number, evil in enumerate(EVIL):
        (images / f"{number}.jpg").write_bytes(encoded(draw(number)))
        rows += [[f"{evil}{n}", f"Title {evil}", f"images/{number}.jpg"] for n in "ab"]
    (folder / TURNED).write_bytes(encoded(draw(50)))
    rows.append(["turned", "=1+1", TURNED])
    rows.append([f"{EVIL[0]}c", EVIL[5], "images/\u202emissing.jpg"])
    write_rows(COLUMNS, rows, folder / "products.csv")
    folder = folder / "folder"
    folder.mkdir()
    for number, evil in enumerate(EVIL[:-1]):
        (folder / f"{evil}.jpg").write_bytes(encoded(draw(number)))
    (folder / "=1+1.jpg").write_bytes(encoded(draw(51)))
    (folder / "=2.jpg").write_bytes(b"no image")
    return rows


class Shop:
    """A folder in which the commands were run, what they said, and the catalogue's rows."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.rows = make_catalogue(folder)
        save_encoder(folder / "encoder.ckpt", 0)
        (folder / "slow.jpg").write_bytes(many_scans(20_000))
        (folder / "\x1b[2J.jpg").write_bytes(b"no image")
        (folder / "ids.txt").write_text(f"{EVIL[0]}x\n\u202egone\n")
        self.slow = {"file": "slow.jpg", "web": f"{address}/slow.jpg"}
        ask = ["detect", "index=runs/cluster/latest", "runs=asked"]
        commands = {
            "cluster": ["cluster", *overrides("source=csv", "source.path=products.csv")],
            "detect": ["detect", "matcher.threshold=0.0001"],
            "query": [*ask, f"query='{TURNED}'", "matcher.threshold=1e6"],
            "unreadable": [*ask, "query='\x1b[2J.jpg'"],
            "unknown": ["cluster", "change=remove", "ids=ids.txt", "runs=asked",
                        "index=runs/cluster/latest"],
            "file": [*ask, "query=slow.jpg", SLOW],
            "web": [*ask, f"query=['{TURNED}','{address}/slow.jpg']", SLOW,
                    "fetch.allow_networks=[127.0.0.0/8]"],
            "folder": ["cluster", *overrides("source=folder", "source.path=folder", runs="other"),
                       "csv.formulas=escape"],
        }  # fmt: skip
        done = run_all(list(commands.values()), folder)
        self.said = dict(zip(commands, done, strict=True))

    def run(self, *commands: list[str]) -> list[Ended]:
        return run_all(commands, self.folder)

    @property
    def latest(self) -> Path:
        return self.folder / "runs" / "detect" / "latest"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("strangers")
    server = Server(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield Shop(folder, f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()


def test_every_command_ends_as_it_should(shop: Shop) -> None:
    codes = {name: ended.code for name, ended in shop.said.items()}
    refused = dict.fromkeys(("unreadable", "unknown", "file", "web"), 2)
    assert codes == dict.fromkeys(codes, 0) | refused, shop.said


def test_nothing_acts_on_a_terminal(shop: Shop) -> None:
    for name, ended in shop.said.items():
        for said in (ended.out, ended.err):
            assert not ACTING.search(said), (name, said)
    logs = [*shop.folder.glob("*/*/2*/*.log")]
    assert len(logs) >= len(shop.said)
    for log in logs:
        assert not ACTING.search(log.read_text(encoding="utf-8"))


def test_no_line_of_a_log_is_forged(shop: Shop) -> None:
    for ended in shop.said.values():
        assert FORGED not in ended.err.splitlines()
    message = shop.said["unreadable"].err
    assert r"the image \x1b[2J.jpg cannot be read: format" in message
    assert "'\\x1b[2J\\x1b[31mredx', '\\u202egone'" in shop.said["unknown"].err


def test_an_answer_is_the_same_json(shop: Shop) -> None:
    said = shop.said["query"].out
    answers = json.loads(said)
    expected = {row[0] for row in shop.rows if "\0" not in row[0]} - {f"{EVIL[0]}c"}
    assert {answer["product_id"] for answer in answers} == expected
    assert {answer["query_image"] for answer in answers} == {TURNED}
    assert r'"\u001b[2J\u001b[31mreda"' in said
    assert r'"\u202egpj.exe\u2066a"' in said
    assert f'"{EVIL[6]}a"'.replace("\t", r"\t") in said


def test_files_that_programs_read_hold_every_id_as_it_is(shop: Shop) -> None:
    cluster = shop.folder / "runs" / "cluster" / "latest"
    catalogue = CsvSource(str(cluster / "catalogue.csv"), images_dir=str(shop.folder)).read()
    assert catalogue.products[COLUMNS].to_numpy().tolist() == shop.rows
    failures = CsvSource(str(cluster / "failures.csv"), images_dir=str(shop.folder)).read()
    bad = [row for row in shop.rows if "\0" in row[0] or "missing" in row[2]]
    assert failures.products[COLUMNS].to_numpy().tolist() == bad
    pairs = [sorted((f"{evil}a", f"{evil}b")) for evil in EVIL[:-1]]
    listed = json.loads((shop.latest / "duplicates.json").read_text("utf-8"))
    assert listed == {key: [other] for a, b in pairs for key, other in ((a, b), (b, a))}
    table = pd.read_csv(shop.latest / "duplicates.csv", dtype=str, na_filter=False)
    assert sorted(table[["product_id_a", "product_id_b"]].to_numpy().tolist()) == sorted(pairs)


def test_a_page_shows_what_would_act_and_knows_the_id(shop: Shop) -> None:
    path = shop.latest / "report.html"
    assert not ACTING.search(path.read_text("utf-8"))
    buttons = parse(path).all("button", "id")
    known = [
        json.loads(it.attributes["data-id"]) if "data-id" in it.attributes
        else it.children[0].own_text
        for it in buttons
    ]  # fmt: skip
    assert sorted(known) == sorted(f"{evil}{n}" for evil in EVIL[:-1] for n in "ab")
    assert {it.own_text for it in parse(path).all("p", "title")} >= {f"Title {EVIL[6]}"}
    shown = {it.text for it in buttons}
    assert "\u241b[2J\u241b[31mreda" in shown
    assert "\ufffdgpj.exe\ufffda" in shown
    assert "\u2408\u2408\u2421a" in shown


def test_a_spreadsheet_runs_nothing_where_that_is_asked_for(shop: Shop) -> None:
    latest = shop.folder / "other" / "cluster" / "latest"
    ids = set(pd.read_csv(latest / "catalogue.csv", dtype=str, na_filter=False)["product_id"])
    assert ids == {f"{evil}.jpg" for evil in EVIL[:-1]} | {"'=1+1.jpg", "'=2.jpg"}
    failures = pd.read_csv(latest / "failures.csv", dtype=str, na_filter=False)
    assert failures["product_id"].tolist() == ["'=2.jpg"]


@pytest.mark.parametrize("place", ["file", "web"])
def test_a_slow_image_is_told_in_one_sentence(shop: Shop, place: str) -> None:
    ended = shop.said[place]
    assert ended.out == ""
    said = [line for line in ended.err.splitlines() if " ERROR " in line]
    assert [line[17:] for line in said] == [
        f"the image {shop.slow[place]} cannot be read: decoder_timeout: took more than 0.5 s"
    ]


def test_verify_names_addresses_and_obeys_none(shop: Shop) -> None:
    store = shop.folder / "passed on"
    shutil.copytree(shop.folder / "other" / "store" / "pillow", store)
    details = store / "shard-00000.details.npy"
    data = bytearray(details.read_bytes())
    data[len(data) // 2 :: 1000] = bytes(len(data[len(data) // 2 :: 1000]))
    details.write_bytes(data)
    (ended,) = shop.run(["verify", "store.path=passed on", "runs=verified"])
    assert ended.code == 4
    assert not ACTING.search(ended.out + ended.err)
    assert ended.out.count("\n") == 1
    assert "shard-00000.details.npy: " in ended.out


def children_of(pid: int) -> list[int]:
    """Processes that a process started and that are not gone."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # gone by now
            continue
        found += [int(stat.parent.name)] if parent == pid else []
    return found


def seconds_of(pid: int) -> float:
    """Of the processor, that a process has used; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_question_that_is_broken_off_leaves_no_process(shop: Shop) -> None:
    asking = subprocess.Popen(
        [sys.executable, str(ROOT / "detect.py"), "index=runs/cluster/latest", "runs=broken",
         "query=slow.jpg", "store.decode_timeout=600"],
        cwd=shop.folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with asking:
        deadline, children = time.monotonic() + 120, list[int]()
        while not any(seconds_of(child) > 0.8 for child in children):  # at work on the image
            assert time.monotonic() < deadline
            assert asking.poll() is None
            time.sleep(0.05)
            children = children_of(asking.pid)
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=120)
    assert asking.returncode == 130
    assert "stopped: " in said
    assert "Traceback" not in said
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
