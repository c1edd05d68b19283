"""Stores with bytes flipped, cut off, added and lost: each is found, and comes back as it was."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import ArtifactError, CorruptError, ImageError, LockedError
from dedup.runtime.files import locked, write_json
from dedup.runtime.tables import read_table
from dedup.store.decode import decode
from dedup.store.derived_arrays import DerivedArrays
from dedup.store.integrity import Damage, manifest, verify
from dedup.store.local_files import read_file, version
from dedup.store.repair import repair, settle
from dedup.store.shards import ENTRIES, FORMAT, Loaded, Shards, described
from tests.conftest import draw, encoded
from tests.store.test_derived_arrays import MEANS
from tests.store.test_shards import ORDER, sha256
from tests.support.effort import examples

N_IMAGES, SHARD_ROWS = 40, 12
MISSING = "missing.jpg"


@dataclass
class Source:
    """Images in files, read one by one; notes which."""

    path: Path
    reader: str = "pillow"
    asked: list[str] = field(default_factory=list)

    def read_anew(self, urls: Sequence[str]) -> Iterator[Loaded]:
        self.asked.extend(urls)
        return map(read, urls)


def read(url: str) -> Loaded:
    entry: dict[str, Any] = dict.fromkeys(ENTRIES.names, "")
    entry |= {"url": url, "version": version(url), "width": 0, "height": 0, "contrast": 0.0}
    try:
        data = read_file(url, 10**7)
        entry["sha256_bytes"] = sha256(data)
        image = decode(data)
    except ImageError as error:
        return Loaded(entry | {"status": "failed", "reason": error.reason}, None)
    entry |= {"sha256_pixels": sha256(image.pixels.tobytes()), "status": "ok"}
    return Loaded(entry | {"width": image.width, "height": image.height}, image)


def make_store(folder: Path, urls: Sequence[str]) -> None:
    folder.mkdir()
    shards = Shards(folder, described("pillow"))
    write_json(described("pillow"), folder / "manifest.json")
    for number, start in enumerate(range(0, len(urls), SHARD_ROWS)):
        shards.write(number, [read(url) for url in urls[start : start + SHARD_ROWS]])
    (folder / "lock").touch()


@dataclass(frozen=True)
class Whole:
    """A store of four shards that nothing happened to, and where its images are."""

    path: Path
    urls: list[str]
    bytes: dict[str, bytes]


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A folder that is gone afterwards; where the system has such, one in which fsync is quick."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "lock"}


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    with folder_in_memory() as folder:
        urls = [str(folder / f"{number}.jpg") for number in range(N_IMAGES)]
        for number, url in enumerate(urls):
            Path(url).write_bytes(encoded(draw(number, (60, 80))))
        urls.insert(15, str(folder / MISSING))
        make_store(folder / "store", urls)
        yield Whole(folder / "store", urls, contents(folder / "store"))


@pytest.fixture
def store(whole: Whole) -> Iterator[Path]:
    """A copy of the whole store, to be damaged."""
    with folder_in_memory() as folder:
        yield Path(shutil.copytree(whole.path, folder / "store"))


def kinds(damages: Iterable[Damage]) -> dict[str, str]:
    return {damage.file: damage.kind for damage in damages}


def flip(at: int, bits: int = 1) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[at % len(data)] ^= bits
        file.write_bytes(data)

    return change


def cut_at(at: int) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, at % file.stat().st_size)


def append(data: bytes) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        file.write_bytes(file.read_bytes() + data)

    return change


def insert(at: int) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        data = file.read_bytes()
        at_most = at % len(data)
        file.write_bytes(data[:at_most] + b"\0" + data[at_most:])

    return change


def test_a_whole_store_has_no_damage(whole: Whole) -> None:
    assert verify(whole.path) == []
    assert len(whole.bytes) == 1 + 4 * 5


CHANGES: dict[str, Callable[[Path], None]] = {
    "first": flip(0), "second": flip(9, 128), "middle": flip(-2000, 16), "last": flip(-1),
    "cut": cut_at(-1), "cut_short": cut_at(100), "emptied": cut_at(0), "longer": append(b"\0"),
    "inserted": insert(300), "deleted": Path.unlink,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_each_file_alone_is_found_and_restored(
    whole: Whole, store: Path, change: Callable[[Path], None]
) -> None:
    for name in [*(f"shard-00002.{ending}" for ending in ORDER), "manifest.json"]:
        before = {file: file.stat() for file in store.iterdir() if file.name != "lock"}
        change(store / name)
        damages = verify(store)
        assert kinds(damages) == {name: "missing" if change is Path.unlink else "changed"}
        source = Source(store)
        mended = repair(source, damages)
        assert contents(store) == whole.bytes
        assert mended.changed == []
        assert mended.emptied == []
        assert mended.restored == source.asked == [u for one in damages for u in one.addresses]
        for file, stat in before.items():
            if file.name != name:
                assert file.stat().st_mtime_ns == stat.st_mtime_ns, file
                assert file.stat().st_ino == stat.st_ino, file


def test_of_pixels_and_details_it_is_known_whose_they_are(whole: Whole, store: Path) -> None:
    table = read_table(store / "shard-00001.parquet", ENTRIES)
    assert (table["row"] < 0).sum() == 1
    for place, row in table[table["row"] >= 0].set_index("row").iterrows():
        for name, at in (
            ("npy", 128 + 60_000 * int(str(place)) + 777),
            ("details.npy", 128 + row["detail_start"]),
        ):
            flip(at)(store / f"shard-00001.{name}")
            (damage,) = verify(store)
            assert damage.addresses == (row["url"],)
            shutil.copy(whole.path / damage.file, store / damage.file)


@st.composite
def damage(draw_from: st.DrawFn) -> tuple[int, str, Callable[[Path], None]]:
    shard = draw_from(st.integers(0, 3))
    ending = draw_from(st.sampled_from(ORDER))
    at = draw_from(st.integers(0, 10**6))
    bits = draw_from(st.integers(1, 255))
    ways = [flip(at, bits), flip(at, bits), cut_at(at), append(bytes([bits])), insert(at)]
    return shard, ending, draw_from(st.sampled_from([*ways, Path.unlink]))


@settings(max_examples=examples(40), deadline=None, derandomize=True)
@given(st.lists(damage(), min_size=1, max_size=12, unique_by=lambda one: one[:2]))
def test_many_at_once_come_back(whole: Whole, damages: list[Any]) -> None:
    folder = whole.path.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole.path, folder)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    touched = {f"shard-{shard:05}.{ending}" for shard, ending, _ in damages}
    for shard, ending, change in damages:
        change(folder / f"shard-{shard:05}.{ending}")
    found = verify(folder)
    lost = {shard for shard in range(4) if is_lost(shard, touched)}
    assert touched <= {*kinds(found)} | {name for name in touched if not (folder / name).exists()}
    assert {*kinds(found)} <= touched | names_of(lost)
    mended = repair(Source(folder), found)
    assert {*mended.emptied} <= lost
    assert mended.changed == []
    assert verify(folder) == []
    after = contents(folder)
    assert {name: data for name, data in after.items() if name not in names_of(lost)} == {
        name: data for name, data in whole.bytes.items() if name not in names_of(lost)
    }
    for name in before.keys() - touched - names_of(lost) - {"lock"}:
        assert (folder / name).stat().st_mtime_ns == before[name]


def names_of(lost: set[int]) -> set[str]:
    return {f"shard-{shard:05}.{ending}" for shard in lost for ending in ORDER}


def is_lost(shard: int, touched: set[str]) -> bool:
    """Whether too few of a seal, a table and its copy are untouched for two to agree."""
    witnesses = {f"shard-{shard:05}.{ending}" for ending in ("json", "parquet", "copy.parquet")}
    return len(witnesses & touched) > 1


def test_a_seal_that_is_broken_elsewhere_still_confirms_a_table(whole: Whole, store: Path) -> None:
    seal, table = store / "shard-00001.json", store / "shard-00001.parquet"
    flip(1)(seal)
    flip(100)(table)
    damages = verify(store)
    assert kinds(damages) == {seal.name: "changed", table.name: "changed"}
    repair(Source(store), damages)
    assert contents(store) == whole.bytes


def test_lost_tables_leave_an_empty_shard_and_say_so(whole: Whole, store: Path) -> None:
    for ending in ("parquet", "copy.parquet"):
        flip(50)(store / f"shard-00001.{ending}")
    with pytest.raises(CorruptError, match=r"shard-00001\.parquet has SHA-256"):
        Shards(store).entries()
    mended = repair(Source(store), verify(store))
    assert (mended.restored, mended.changed, mended.emptied) == ([], [], [1])
    assert verify(store) == []
    assert Shards(store).entries()["url"].tolist() == whole.urls[:12] + whole.urls[24:]


def test_a_shard_that_is_gone_is_no_hole_after_a_repair(whole: Whole, store: Path) -> None:
    for file in store.glob("shard-00000.*"):
        file.unlink()
    damages = verify(store)
    assert kinds(damages) == dict.fromkeys((f"shard-00000.{ending}" for ending in ORDER), "missing")
    assert repair(Source(store), damages).emptied == [0]
    assert Shards(store).entries()["url"].tolist() == whole.urls[12:]


@pytest.fixture
def moved(whole: Whole, tmp_path: Path) -> tuple[Path, list[str]]:
    """A store of its own images, which may change."""
    urls = [str(tmp_path / Path(url).name) for url in whole.urls]
    for old, new in zip(whole.urls, urls, strict=True):
        if MISSING not in old:
            shutil.copy(old, new)
    make_store(tmp_path / "moved", urls)
    return tmp_path / "moved", urls


def test_what_reads_otherwise_now_is_a_new_reading(moved: tuple[Path, list[str]]) -> None:
    store, urls = moved
    before = Shards(store).entries().set_index("url")
    others = {file: file.stat().st_mtime_ns for file in store.glob("shard-0000[023].*")}
    pixels = Shards(store).pixels(1, np.arange(11))
    Path(urls[13]).unlink()
    Path(urls[17]).write_bytes(encoded(draw(99, (60, 80))))
    for row in (1, 4, 6):  # of urls 13, 17 and 19: the failure at 15 has no row
        flip(200 + row * 60_000)(store / "shard-00001.npy")
    flip(-5)(store / "shard-00001.details.npy")
    source = Source(store)
    mended = repair(source, verify(store))
    assert source.asked == [urls[13], urls[17], urls[19], urls[23]]
    assert mended.changed == [urls[13], urls[17]]
    assert mended.restored == [urls[19], urls[23]]
    assert verify(store) == []
    shards = Shards(store)
    after = shards.entries().set_index("url")
    assert after.index.tolist() == urls
    assert [*after.loc[urls[13], ["status", "reason", "row"]]] == ["failed", "not_found", -1]
    now = decode(encoded(draw(99, (60, 80))))
    assert after.loc[urls[17], "sha256_detail"] == sha256(now.detail)
    same = [url for url in urls if url not in mended.changed]
    columns = [name for name in before.columns if name not in ("row", "detail_start")]
    assert after.loc[same, columns].equals(before.loc[same, columns])
    pixels[4] = now.pixels
    assert np.array_equal(shards.pixels(1, np.arange(10)), np.delete(pixels, 1, axis=0))
    assert shards.detail(1, 3).shape == (80, 60, 3)
    assert all(file.stat().st_mtime_ns == time for file, time in others.items())
    assert manifest(store) == described("pillow")


def test_what_cannot_be_read_at_all_fails_and_keeps_the_others(
    moved: tuple[Path, list[str]],
) -> None:
    store, urls = moved
    for url in urls:
        Path(url).unlink(missing_ok=True)
    (store / "shard-00002.npy").unlink()
    repair(Source(store), verify(store))
    assert verify(store) == []
    statuses = Shards(store).entries()["status"]
    assert statuses.eq("failed").tolist() == [n == 15 or 24 <= n < 36 for n in range(41)]


def test_left_over_files_are_swept_and_a_lost_seal_is_made(whole: Whole, store: Path) -> None:
    (store / "shard-00003.json").unlink()
    for name in ("shard-00004.npy", "shard-00004.copy.parquet", ".shard-00005.npy.0a.part"):
        (store / name).write_bytes(b"half")
    damages = verify(store)
    assert {kind for _, kind in kinds(damages).items()} == {"missing", "extra"}
    assert len(damages) == 4
    with locked(store):
        settle(Shards(store, described("pillow")))
    assert contents(store) == whole.bytes
    assert verify(store) == []


def test_a_seal_is_not_made_for_what_is_broken(store: Path) -> None:
    (store / "shard-00003.json").unlink()
    flip(70_000)(store / "shard-00003.npy")
    settle(Shards(store, described("pillow")))
    assert kinds(verify(store)) == {"shard-00003.json": "missing", "shard-00003.npy": "changed"}


def test_a_broken_array_is_found_and_dropped(whole: Whole, store: Path) -> None:
    arrays = DerivedArrays(Shards(store))
    for shard in (0, 2):
        arrays.write(MEANS, shard, np.zeros((12, 3)))
    assert verify(store) == []
    file = next(store.glob("shard-00002.means-*"))
    flip(-50)(file)
    damages = verify(store)
    assert damages == [Damage(2, file.name, "changed")]
    repair(Source(store), damages)
    assert not file.exists()
    assert next(store.glob("shard-00000.means-*")).exists()
    assert verify(store) == []


def test_without_manifest_and_seals_a_store_is_still_mended(whole: Whole, store: Path) -> None:
    (store / "manifest.json").unlink()
    for file in store.glob("*.json"):
        file.write_text("{}")
    assert manifest(store) is None
    repair(Source(store), verify(store))
    assert contents(store) == whole.bytes


def test_only_a_store_of_this_version_is_looked_at(tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ArtifactError, match="is not a store"):
            verify(folder)
        assert not (tmp_path / "nowhere").exists()
    old = described("pillow") | {"format": FORMAT + 1}
    write_json(old, tmp_path / "manifest.json")
    (tmp_path / "shard-00000.parquet").write_bytes(b"of another time")
    for look in (verify, lambda path: repair(Source(path), [])):
        with pytest.raises(ArtifactError, match=f"made with format={FORMAT + 1}"):
            look(tmp_path)
    assert (tmp_path / "shard-00000.parquet").exists()


def test_a_store_is_mended_by_one_alone(store: Path) -> None:
    with locked(store), pytest.raises(LockedError, match=rf"process {os.getpid()} writes into"):
        repair(Source(store), [])
    with locked(store):
        pass
