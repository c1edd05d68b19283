"""A small shop of drawn images, and a local server that shows it."""

import csv
import functools
import http.server
import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dedup.download.client import Fetcher
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from tests.support.zygote import ZYGOTE

ROOT = Path(__file__).parents[1]
SMALL = ["encoder.embedding_dim=8", "encoder.hidden_dim=16", "data.batch_size=8", "epochs=2"]

LOCAL = Fetcher(allow_networks=["127.0.0.0/8"])
"""Reaches the servers of the tests, which are on no public address."""

ODD_IDS = [
    *("007", "1e5", "NA", "", "null", "None", "nan", "9007199254740993", "1.0", " a ", "a\tb"),
    *("a\nb", 'say "x"', "a,b", "裤", "e\u0301", "\u202ex", "=1+1", "-rf", "../../etc/x"),
]

LONGEST = ["test_docs", "test_distributed", "test_entrypoints", "test_day_two", "test_masked_store"]
"""The longest files, longest first: one that began last would be waited for alone."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite that a shell runs in the background; commands would inherit it and obey no Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others in their order."""
    places = {stem: place for place, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_sessionfinish() -> None:
    """End the process that programs were forked from."""
    ZYGOTE.close()


def draw(seed: int, size: tuple[int, int] = (150, 200)) -> Image.Image:
    """An image like no other: a smooth random pattern, (width, height) in pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, file_format: str = "JPEG") -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    image.save(buffer, file_format)
    return buffer.getvalue()


def write_shop(folder: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """A CSV with the columns that the default configuration names; its path."""
    path = folder / "products.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["productId", "title", "imageUrlStr"])
        writer.writerows((product, f"Title of {product}", url) for product, url in rows)
    return path


def make_shop(folder: Path) -> Path:
    """A CSV of 24 products and their images; its path.

    P00-P19 have images of their own. P20 is a byte copy of P00, P21 a PNG copy of P01, P22 has
    the address of P02, and P23's image is missing.
    """
    images = folder / "images"
    images.mkdir()
    rows = []
    for number in range(20):
        (images / f"{number}.jpg").write_bytes(encoded(draw(number)))
        rows.append((f"P{number:02}", f"images/{number}.jpg"))
    (images / "copy.jpg").write_bytes((images / "0.jpg").read_bytes())
    (images / "copy.png").write_bytes(encoded(Image.open(images / "1.jpg"), "PNG"))
    rows += [
        ("P20", "images/copy.jpg"),
        ("P21", "images/copy.png"),
        ("P22", "images/2.jpg"),
        ("P23", "images/missing.jpg"),
    ]
    return write_shop(folder, rows)


def shuffled(table: Path, seed: int, name: str) -> Path:
    """The same CSV with its rows in another order, as ``name`` beside it; its path."""
    header, *rows = table.read_text().splitlines(keepends=True)
    random.Random(seed).shuffle(rows)
    path = table.with_name(name)
    path.write_text("".join([header, *rows]))
    return path


def cut(file: Path) -> None:
    """Lose the second half."""
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    """Lose every byte."""
    os.truncate(file, 0)


def scribble(file: Path) -> None:
    """Write something else over it."""
    file.write_bytes(b"not what was written" * 100)


DAMAGES: list[Callable[[Path], None]] = [cut, empty, scribble]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The CSV of ``make_shop``."""
    return make_shop(tmp_path)


@pytest.fixture
def catalogue(shop: Path) -> Catalogue:
    """The shop, read."""
    return CsvSource(str(shop)).read()


def python(
    *arguments: str, cwd: Path, process: bool = False, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python <arguments>``, forked from a process that has imported everything already.

    Args:
        arguments: a file, ``-m`` and a module, or ``-c`` and code, then the program's own.
        cwd: the folder to run it in.
        process: start a process anew: what it does when it starts is the subject.
        timeout: seconds until it is killed, and the test fails.
        environment: variables besides those of this process.
    """
    env = {**os.environ, **environment}
    if not process and ZYGOTE.serves(env):
        return ZYGOTE.run(arguments, cwd, env, timeout)
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout,
        env=env, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def run(
    command: str, *overrides: str, cwd: Path, code: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python <command>.py`` and check its exit code and that it shows no traceback."""
    done = python(str(ROOT / f"{command}.py"), *overrides, cwd=cwd, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a shop in ``products.csv``, and train, cluster and detect run in it once."""
    folder = tmp_path_factory.mktemp("shop")
    make_shop(folder)
    run("train", "source=csv", "source.path=products.csv", "trainer.gpus=1", *SMALL, cwd=folder)
    run("cluster", cwd=folder)
    run("detect", cwd=folder)
    return folder


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, without a line in the log for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """Lets many clients wait to be accepted, as servers on the web do."""

    request_queue_size = 256


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start servers on the loopback: ``serve(folder)`` gives the address of a folder.

    ``serve(handler=Handler)`` serves whatever a handler of ``http.server`` answers.
    """
    servers: list[Server] = []

    def start(folder: Path | None = None, handler: type | None = None) -> str:
        answer = handler or functools.partial(QuietHandler, directory=str(folder))
        server = Server(("127.0.0.1", 0), answer)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
