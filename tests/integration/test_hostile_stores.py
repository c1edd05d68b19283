"""Stores that somebody passed on: no link is followed, nothing is swept that is not a store's."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup.config.instances import build
from dedup.errors import ArtifactError, DedupError
from dedup.runtime.files import json_text, locked
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from dedup.store.integrity import manifest, verify
from dedup.store.repair import repair
from dedup.store.shards import described
from tests.conftest import make_shop
from tests.support.passed_on import CANARY, contents

Change = Callable[[Path, Path], object]
SECRET = "${oc.env:CANARY}"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Catalogue]:
    """A store of a shop's 23 images in shards of 8, and the shop's catalogue."""
    folder = tmp_path_factory.mktemp("honest")
    catalogue = CsvSource(str(make_shop(folder))).read()
    ImageStore(folder / "store", shard_rows=8).ingest(catalogue, folder)
    return folder / "store", catalogue


@pytest.fixture
def places(
    honest: tuple[Path, Catalogue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Path]]:
    """A copy of the store, and a home that has to stay as it is."""
    monkeypatch.setenv("CANARY", CANARY)
    home = tmp_path / "home"
    (home / "papers").mkdir(parents=True)
    for name in ("precious.txt", "shard-00000.npy", ".thesis.ab12.part", "papers/one"):
        (home / name).write_text("years of work")
    shutil.copytree(honest[0], tmp_path / "store")
    before = contents(home, without=tmp_path / "store")
    yield tmp_path / "store", home
    assert contents(home, without=tmp_path / "store") == before


def link(name: str, to: str) -> Change:
    """A file of the store is a link into the home."""

    def change(store: Path, home: Path) -> None:
        (store / name).unlink(missing_ok=True)
        (store / name).symlink_to(home / to)

    return change


def sealed_anew(change: Callable[[dict[str, Any]], object]) -> Change:
    """A seal says something else, and carries the right digest of itself."""

    def forge(store: Path, _: Path) -> None:
        file = store / "shard-00000.json"
        said = json.loads(file.read_text())
        del said["sha256"]
        change(said)
        digest = hashlib.sha256(json_text(said).encode()).hexdigest()
        file.write_text(json_text({**said, "sha256": digest}))

    return forge


def climbing(said: dict[str, Any]) -> None:
    """Names of files that lead out of the store."""
    said["files"]["x/../../home/precious.txt"] = {"size": 13, "sha256": "0" * 64}


def staged(name: str) -> Change:
    """What a repair leaves holds something of the person's."""

    def change(store: Path, _: Path) -> None:
        (store / ".mending" / name).mkdir(parents=True)

    return change


def says(**entries: Any) -> Change:
    """The manifest and every seal say something else of the store."""

    def change(store: Path, _: Path) -> None:
        said = described("pillow") | entries
        (store / "manifest.json").write_text(json_text(said))
        for number in range(3):
            (store / f"shard-0000{number}.json").unlink()

    return change


def pipe(store: Path, _: Path) -> None:
    """A file that would be waited for without end."""
    (store / "shard-00001.details.npy").unlink()
    os.mkfifo(store / "shard-00001.details.npy")


WRITE = {"_target_": "dedup.runtime.files.write_text", "text": "gone", "path": "home/precious.txt"}

STORES: dict[str, Change] = {
    "a lock that leads away": link("lock", "precious.txt"),
    "a lock that leads to nothing": link("lock", "absent.txt"),
    "a repair that leads away": link(".mending", "papers"),
    "a repair that leads to nothing": link(".mending", "absent"),
    "a repair of a file": link(".mending", "precious.txt"),
    "a repair of other files": staged("papers"),
    "a repair of folders": staged("shard-00000.npy"),
    "a manifest that leads away": link("manifest.json", "precious.txt"),
    "seals that lead away": sealed_anew(climbing),
    "seals without files": sealed_anew(lambda said: said.update(files={})),
    "seals with files of no type": sealed_anew(lambda said: said.update(files=["npy"])),
    "seals without sizes": sealed_anew(lambda said: said["files"].update(npy=3)),
    "seals of a text": sealed_anew(lambda said: said.update(store="pillow")),
    "a reader to build": says(reader=WRITE),
    "a reader of a secret": says(reader=SECRET),
    "a reader in a list": says(reader=["pillow"]),
    "another reader": says(reader="skimage"),
    "another format": says(format={"_target_": "os.system"}),
    "a shape to build": says(image_shape=WRITE),
    "pixels that lead away": link("shard-00000.npy", "precious.txt"),
    "a table that leads away": link("shard-00000.parquet", "precious.txt"),
    "a pipe": pipe,
}


def use(store: Path, catalogue: Catalogue, report_dir: Path) -> None:
    """Write to a store, and read what it holds."""
    images = ImageStore(store, shard_rows=8)
    images.ingest(catalogue, report_dir)
    urls = images.entries.index[images.entries["status"] == "ok"].tolist()
    images.details(urls)
    images.read(images.rows(urls))


def mend(store: Path) -> None:
    """Repair a store as ``verify repair=true`` does."""
    said = manifest(store) or described("pillow")
    node = {"_target_": "dedup.store.image_store.ImageStore", "path": str(store)}
    repair(build(node, reader=said["reader"]), verify(store))
    assert verify(store) == []


@pytest.mark.parametrize("case", STORES)
def test_a_forged_store_is_refused_where_it_is_written_to(
    places: tuple[Path, Path], honest: tuple[Path, Catalogue], case: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store, home = places
    STORES[case](store, home)
    with pytest.raises(ArtifactError) as caught:
        use(store, honest[1], tmp_path)
    assert str(store) in str(caught.value)
    assert CANARY not in "".join([str(caught.value), *capfd.readouterr()])


MENDED = {
    "a manifest that leads away", "seals that lead away", "seals without files", "a pipe",
    "seals with files of no type", "seals without sizes", "seals of a text",
    "pixels that lead away", "a table that leads away", "another reader",
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(MENDED))
def test_a_repair_puts_right_what_it_can(
    places: tuple[Path, Path], honest: tuple[Path, Catalogue], case: str, tmp_path: Path
) -> None:
    STORES[case](*places)
    mend(places[0])
    said = manifest(places[0])
    assert said is not None
    reader = said["reader"]
    assert reader == ("skimage" if case == "another reader" else "pillow")
    mended, whole = ImageStore(places[0], shard_rows=8, reader=reader), ImageStore(honest[0])
    mended.ingest(honest[1], tmp_path)  # reads again what could not be kept
    fine = whole.entries.index[whole.entries["status"] == "ok"].tolist()
    assert len(fine) == 22
    assert sorted(mended.entries.index[mended.entries["status"] == "ok"]) == sorted(fine)
    pixels, expected = mended.read(mended.rows(fine)), whole.read(whole.rows(fine))
    assert np.abs(pixels.astype(int) - expected).mean() < (2 if reader == "skimage" else 1e-9)


@pytest.mark.parametrize("case", sorted({*STORES} - MENDED))
def test_a_repair_refuses_all_else(places: tuple[Path, Path], case: str) -> None:
    STORES[case](*places)
    with pytest.raises(DedupError) as caught:
        mend(places[0])
    assert str(places[0]) in str(caught.value)


def test_a_folder_that_is_no_store_is_not_swept(
    places: tuple[Path, Path], honest: tuple[Path, Catalogue], tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    mine = (".thesis.ab12.part", ".shard-notes.ab12.part", "paper.txt", ".manifest.json.part")
    for name in mine:
        (folder / name).write_text("years of work")
    (folder / ".manifest.json.0123abcd.part").write_text("a killed run's")
    ImageStore(folder, shard_rows=8).ingest(honest[1], tmp_path)
    assert all((folder / name).read_text() == "years of work" for name in mine)
    assert not (folder / ".manifest.json.0123abcd.part").exists()
    assert verify(folder) == []


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("years of work")
    (tmp_path / "lock").symlink_to("precious.txt")
    with pytest.raises(ArtifactError, match=r"lock is a symbolic link"), locked(tmp_path):
        pass
    assert (tmp_path / "precious.txt").read_text() == "years of work"


def test_an_honest_store_is_read_and_mended(
    places: tuple[Path, Path], honest: tuple[Path, Catalogue], tmp_path: Path
) -> None:
    store, _ = places
    with (store / "shard-00000.npy").open("r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    mend(store)
    images = ImageStore(store, shard_rows=8).ingest(honest[1], tmp_path)
    assert images["status"].eq("ok").sum() == 23
