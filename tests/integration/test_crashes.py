"""Every writer, stopped dead before each change that it makes to the disk: nothing is half there.

A writer runs in a child process that ends, without any clean-up, at its n-th opening of a file to
write, renaming or removal; for n = 0, 1, 2 ... until it gets through.
"""

import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dedup.cli.entrypoint import point_latest
from dedup.detection.detector import clustered_table
from dedup.detection.results import DetectionResult
from dedup.errors import ArtifactError, CorruptError
from dedup.reports.csv import CsvReport
from dedup.reports.json import JsonReport
from dedup.runtime.files import write_json
from dedup.runtime.tables import write_csv
from dedup.schemas import GROUPS, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.index import Index
from dedup.search.state import SearchState
from dedup.search.update import remove
from dedup.store.derived_arrays import DerivedArrays
from dedup.store.integrity import verify
from dedup.store.repair import repair, settle
from dedup.store.shards import Shards, described
from tests.conftest import draw, encoded
from tests.search.test_index import random_index, small_search
from tests.store.test_derived_arrays import MEANS
from tests.store.test_repair import Source, contents, flip, folder_in_memory, read

KILLED = 77
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


def gets_through(work: Callable[[], object], n_changes: int) -> bool:
    """Do some work in a child process that may change the disk so many times, and no more."""
    child = os.fork()
    if child == 0:
        _work_until_killed(work, n_changes)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED)
    return code == 0


def _work_until_killed(work: Callable[[], object], n_changes: int) -> None:
    left = n_changes

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if writes or event in CHANGES:
            if left == 0:
                os._exit(KILLED)
            left -= 1

    code = 1
    try:
        sys.addaudithook(watch)
        work()
        code = 0
    finally:
        if code:
            traceback.print_exc()
        os._exit(code)


def each_crash(
    before: Path, after: Path, work: Callable[[Path], object], least: int
) -> Iterator[Path]:
    """Copies of a folder in which the work was stopped, at each of its changes; then one done."""
    for n_changes in count():
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(before, after, symlinks=True)
        done = gets_through(lambda: work(after), n_changes)
        yield after
        if done:
            break
    assert n_changes >= least


def visible(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if not name.endswith(".part")}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def urls(tmp_path: Path) -> list[str]:
    """Eight images and one that is missing."""
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(draw(number, (30, 40))))
    return [str(tmp_path / f"{number}.jpg") for number in range(9)]


@pytest.fixture
def store(tmp_path: Path, urls: list[str]) -> Path:
    """Three shards of three."""
    folder = tmp_path / "store"
    folder.mkdir()
    write_json(described("pillow"), folder / "manifest.json")
    for shard in range(3):
        write_shard(folder, shard, urls)
    return folder


def write_shard(folder: Path, shard: int, urls: list[str]) -> None:
    loaded = [read(url) for url in urls[3 * shard : 3 * shard + 3]]
    Shards(folder, described("pillow")).write(shard, loaded)


@pytest.mark.parametrize("rest", [[], ["npy"], ["npy", "details.npy", "copy.parquet", "parquet"]])
def test_a_shard_is_there_or_not(
    store: Path, tmp_path: Path, urls: list[str], rest: list[str]
) -> None:
    whole, before = contents(store), tmp_path / "before"
    shutil.copytree(store, before)
    for file in before.glob("shard-00002.*"):
        file.unlink()
    for ending in rest:  # of another run that was cut off, with other images
        shutil.copy(store / f"shard-00000.{ending}", before / f"shard-00002.{ending}")
    if "parquet" in rest:
        flip(9)(before / "shard-00002.copy.parquet")
    seen = set()
    for folder in each_crash(before, tmp_path / "after", lambda at: write_shard(at, 2, urls), 15):
        entries = Shards(folder).entries()
        seen.add(len(entries))
        assert entries["url"].tolist() == urls[: len(entries)]
        settle(shards := Shards(folder, described("pillow")))
        if shards.committed() == [0, 1]:
            assert visible(folder).keys() == {n for n in whole if not n.startswith("shard-00002")}
            write_shard(folder, 2, urls)
        assert contents(folder) == whole
    assert seen == {6, 9}


def damage(folder: Path) -> None:
    """Break a bit of everything, each of which can be restored."""
    (folder / "manifest.json").unlink()
    flip(70_000)(folder / "shard-00000.npy")
    (folder / "shard-00001.parquet").unlink()
    (folder / "shard-00001.details.npy").unlink()
    flip(30)(folder / "shard-00002.json")
    (folder / "shard-00003.npy").write_bytes(b"half")


def mend(folder: Path) -> None:
    repair(Source(folder), verify(folder))


def mending(damaged: Path) -> Callable[[Path], object]:
    """What repairs copies of a damaged store."""
    damages = verify(damaged)
    return lambda folder: repair(Source(folder), damages)


def test_a_repair_can_be_killed(store: Path, tmp_path: Path) -> None:
    whole, before = contents(store), tmp_path / "before"
    damage(Path(shutil.copytree(store, before)))
    entries = Shards(store).entries()
    for folder in each_crash(before, tmp_path / "after", mending(before), 15):
        with suppress(CorruptError):
            pd.testing.assert_frame_equal(Shards(folder).entries(), entries)
        mend(folder)
        assert contents(folder) == whole
        assert verify(folder) == []


def test_a_repair_that_changes_rows_can_be_killed(
    store: Path, tmp_path: Path, urls: list[str]
) -> None:
    DerivedArrays(Shards(store)).write(MEANS, 1, np.zeros((3, 3)))
    Path(urls[4]).unlink()  # of the second shard; what was left of it is lost
    flip(70_000)(store / "shard-00001.npy")
    for ending in ("parquet", "copy.parquet"):
        (store / f"shard-00002.{ending}").unlink()
    unbroken = Path(shutil.copytree(store, tmp_path / "unbroken"))
    mend(unbroken)
    entries = Shards(unbroken).entries()
    assert entries["status"].tolist() == ["ok"] * 4 + ["failed", "ok"]
    for folder in each_crash(store, tmp_path / "after", mending(store), 40):
        Path(urls[3]).rename(tmp_path / "aside")  # rows that were whole are not read again
        mend(folder)
        (tmp_path / "aside").rename(urls[3])
        assert contents(folder) == contents(unbroken)
        assert verify(folder) == []
    pd.testing.assert_frame_equal(Shards(folder).entries(), entries)


def test_an_index_is_there_or_not(tmp_path: Path) -> None:
    index, before = random_index(1), tmp_path / "before"
    before.mkdir()
    for folder in each_crash(before, tmp_path / "after", index.save, 10):
        if not (folder / "manifest.json").exists():
            with pytest.raises(ArtifactError, match="is not an index"):
                Index.load(folder)
        else:
            found = Index.load(folder)
            pd.testing.assert_frame_equal(found.images, index.images, check_dtype=False)
            assert np.array_equal(found.vectors, index.vectors)
        index.save(folder)
        assert len(visible(folder)) == 5


def test_a_search_is_there_or_not(tmp_path: Path) -> None:
    search, before = small_search(), tmp_path / "before"
    before.mkdir()
    for folder in each_crash(before, tmp_path / "after", search.save, 5):
        if not (folder / "search.json").exists():
            with pytest.raises(ArtifactError, match="is not a search"):
                SearchState.load(folder)
        else:
            pd.testing.assert_frame_equal(SearchState.load(folder).near, search.near)


def update(folder: Path) -> None:
    """Take a product out of the latest index, as ``cluster.py change=remove`` does."""
    index = Index.load(folder / "latest")
    changed, run = remove(index, index.images["product_id"][0]), folder / "2"
    changed.save(run)
    write_csv(clustered_table(changed), run / "catalogue.csv")
    write_json({}, run / "run.json")
    point_latest(run, folder / "latest")


def test_the_latest_index_is_the_old_one_or_the_new(tmp_path: Path) -> None:
    before, undisturbed = tmp_path / "before", tmp_path / "undisturbed"
    ids = [f"P{number}" for number in range(30)]
    old = random_index(1)
    old = replace(
        old,
        images=old.images.assign(product_id=ids),
        products=old.products.assign(productId=ids),
    )
    old.save(before / "1")
    point_latest(before / "1", before / "latest")
    shutil.copytree(before, undisturbed, symlinks=True)
    update(undisturbed)
    seen = set()
    for folder in each_crash(before, tmp_path / "after", update, 15):
        found = Index.load(folder / "latest")
        seen.add(len(found.images))
        if len(found.images) == 30:
            update(folder)
        assert visible(folder / "2") == contents(undisturbed / "2")
        assert (folder / "latest").resolve() == folder / "2"
    assert seen == {30, 29}


def test_an_index_that_is_open_outlives_its_folder(tmp_path: Path) -> None:
    index = random_index(1)
    index.save(tmp_path / "index")
    found = Index.load(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    assert np.array_equal(found.vectors, index.vectors)
    with pytest.raises(ArtifactError, match="is not an index"):
        Index.load(tmp_path / "index")


def findings(partner: str) -> DetectionResult:
    row = ["A", partner, 0.0, "same_url", "u", "u", 1.0, "same address", "same image"]
    shared = pd.DataFrame([["0" * 64, "A", "u", 200, "shared"]], columns=SHARED.names)
    groups = pd.DataFrame(columns=GROUPS.names)
    return DetectionResult(pd.DataFrame([row], columns=PAIRS.names), groups, shared)


@pytest.mark.parametrize("report", [JsonReport(), CsvReport()])
def test_a_report_is_the_old_one_or_the_new(report: JsonReport | CsvReport, tmp_path: Path) -> None:
    none = np.zeros((0, 2), np.float32)
    index = Index(pd.DataFrame(columns=INDEX_IMAGES.names), none, none, pd.DataFrame())
    before, new = tmp_path / "before", tmp_path / "new"
    for folder, partner in ((before, "B"), (new, "C")):
        folder.mkdir()
        report.write(findings(partner), index, folder)
    allowed = contents(before).items() | contents(new).items()

    def work(folder: Path) -> Path:
        return report.write(findings("C"), index, folder)

    for folder in each_crash(before, tmp_path / "after", work, 2):
        assert visible(folder).keys() == contents(new).keys()
        assert visible(folder).items() <= allowed
        work(folder)
        assert visible(folder) == contents(new)
