"""A run that was killed while it filled a store ends, when repeated, like one that was not."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from tests.conftest import LOCAL, write_shop
from tests.store.test_image_store import Serve, contents, noting

INGEST = """
import sys
from pathlib import Path
from dedup.download.client import Fetcher
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore

table, folder = map(Path, sys.argv[1:])
fetcher = Fetcher(allow_networks=["127.0.0.0/8"])
store = ImageStore(folder, fetcher=fetcher, workers=2, shard_rows=4)
store.ingest(CsvSource(str(table)).read(), table.parent)
"""


@dataclass
class Gate:
    """Lets the images of the first four shards through, slowly, and the others when released."""

    asked: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def __call__(self, name: str) -> None:
        self.asked.append(name)
        time.sleep(0.005)
        if name in HELD:
            self.released.wait(20)


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    while not reached():
        assert process.poll() is None, "it ended before the moment to kill it"
        time.sleep(0.001)


HELD = {*(f"{number}.jpg" for number in range(16, 20)), "gone.jpg", "copy.png", "copy.jpg"}
MOMENTS = ["3.jpg", "shard-00001.npy", "shard-00002.details.npy", "shard-00003.parquet"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_like_one_that_was_not(
    shop: Path, tmp_path: Path, serve: Serve, moment: str
) -> None:
    gate = Gate()
    address = serve(handler=noting(shop.parent / "images", gate))
    names = [*(f"{number}.jpg" for number in range(20)), "gone.jpg", "copy.png", "copy.jpg"]
    rows = [(f"P{number}", f"{address}/{name}") for number, name in enumerate(names)]
    table, killed, whole = write_shop(tmp_path, rows), tmp_path / "killed", tmp_path / "whole"
    arguments = [sys.executable, "-c", INGEST, str(table), str(killed)]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: moment in gate.asked or (killed / moment).exists(), process)
        process.kill()
    assert len(list(killed.glob("shard-*.json"))) < 6
    gate.released.set()
    catalogue = CsvSource(str(table)).read()
    stores = [ImageStore(f, fetcher=LOCAL, workers=2, shard_rows=4) for f in (killed, whole)]
    again, clean = (store.ingest(catalogue, tmp_path) for store in stores)
    pd.testing.assert_frame_equal(again, clean)
    assert stores[0].digest() == stores[1].digest()
    assert contents(killed) == contents(whole)
