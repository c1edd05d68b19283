"""Shards written by hand, and read back whatever became of their files."""

import hashlib
import io
import json
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import parse_checked
from dedup.runtime.files import array_header
from dedup.runtime.tables import read_table, write_table
from dedup.store.decode import decode
from dedup.store.shards import ENTRIES, OPEN_ARRAYS, PLACE, Loaded, Shards, described
from tests.conftest import DAMAGES, draw, encoded

Table = pd.DataFrame

ORDER = ["npy", "details.npy", "copy.parquet", "parquet", "json"]
"""In which a shard's files are written."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def one(seed: int | None) -> Loaded:
    entry: dict[str, Any] = dict.fromkeys(ENTRIES.names, "")
    entry |= {"url": f"/{seed}", "width": 30, "height": 40, "contrast": 1.0, "status": "ok"}
    if seed is None:
        return Loaded(entry | {"status": "failed"}, None)
    image = decode(encoded(draw(seed, (30, 40))))
    return Loaded(entry | {"sha256_pixels": sha256(image.pixels.tobytes())}, image)


def loaded(seeds: Sequence[int | None]) -> list[Loaded]:
    """An image for each seed, 30 pixels wide and 40 high; a failure where there is none."""
    return [one(seed) for seed in seeds]


def test_what_was_written_is_read_and_failures_take_no_room(tmp_path: Path) -> None:
    batches = [loaded([None, 1, None, 2]), loaded([None]), loaded([3])]
    shards = Shards(tmp_path)
    for number, batch in enumerate(batches):
        shards.write(number, batch)
    entries = shards.entries()
    assert entries["shard"].tolist() == [0, 0, 0, 0, 1, 2]
    assert entries["row"].tolist() == [-1, 0, -1, 1, -1, 0]
    assert entries.loc[entries["row"] < 0, "detail_length"].tolist() == [0, 0, 0]
    everyone = [row.image for batch in batches for row in batch]
    digests = [sha256(image.detail) if image else "" for image in everyone]
    assert entries["sha256_detail"].tolist() == digests
    places = entries[["shard", *PLACE]].to_numpy(int).tolist()
    for image, (shard, row, start, length) in zip(everyone, places, strict=True):
        if image is not None:
            assert np.array_equal(shards.pixels(shard, np.array([row])), [image.pixels])
            held = np.load(tmp_path / f"shard-{shard:05}.details.npy").tobytes()
            assert held[start : start + length] == image.detail
            assert shards.detail(shard, row).shape == (40, 30, 3)
    with pytest.raises(ArtifactError, match="lacks an image"):
        shards.detail(0, -1)


def test_an_empty_folder_has_no_entries(tmp_path: Path) -> None:
    assert Shards(tmp_path).entries().columns.tolist() == [*ENTRIES.names, "shard"]
    assert Shards(tmp_path / "nowhere").entries().empty


def with_cell(column: str, value: int) -> Callable[[Table], Table]:
    def change(table: Table) -> Table:
        table.loc[1, column] = value
        return table

    return change


CHANGES: dict[str, Callable[[Table], Table]] = {
    "a_start_before_the_first_byte": with_cell("detail_start", -1),
    "a_start_beyond_the_last_byte": with_cell("detail_start", 2**40),
    "the_start_of_another": with_cell("detail_start", 1),
    "a_negative_length": with_cell("detail_length", -5),
    "no_length": with_cell("detail_length", 0),
    "too_long": with_cell("detail_length", 2**31 - 1),
    "a_row_twice": with_cell("row", 0),
    "a_row_left_out": with_cell("row", 2),
    "a_row_too_few": lambda table: table.iloc[:1],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_places_that_cannot_be_are_refused(
    tmp_path: Path, change: Callable[[Table], Table]
) -> None:
    shards = Shards(tmp_path)
    shards.write(0, loaded([1, 2]))
    file = tmp_path / "shard-00000.parquet"
    write_table(change(read_table(file, ENTRIES)), ENTRIES, file)
    shards.seal(0)
    with pytest.raises(CorruptError, match=r"shard-00000.*check repair=true store\.path=\S"):
        Shards(tmp_path).detail(0, 1)


def test_a_table_without_details_is_refused(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    shards.write(0, loaded([1]))
    file = tmp_path / "shard-00000.parquet"
    read_table(file, ENTRIES).drop(columns=PLACE[1:]).to_parquet(file)
    shards.seal(0)
    for read in (Shards.entries, lambda shards: shards.detail(0, 0)):
        with pytest.raises(CorruptError, match=r"shard-00000\.parquet is not .* its columns"):
            read(Shards(tmp_path))


@pytest.fixture
def few_files() -> Iterator[None]:
    """No more than 160 open files in this process, as small systems have it."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("few_files")
def test_more_shards_are_read_than_files_can_be_open(tmp_path: Path) -> None:
    shards, batch = Shards(tmp_path), loaded([1])
    for number in range(n_shards := OPEN_ARRAYS + 20):
        shards.write(number, batch)
    for number in np.random.default_rng(0).permutation(n_shards).tolist():
        assert shards.pixels(number, np.array([0])).shape == (1, 3, 200, 100)
        assert shards.detail(number, 0).shape == (40, 30, 3)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three shards of two images and a failure each."""
    for number in range(3):
        Shards(tmp_path, described("pillow")).write(
            number, loaded([2 * number, None, 2 * number + 1])
        )
    return tmp_path


def test_a_seal_says_what_the_files_are(store: Path) -> None:
    for number in range(3):
        data = {ending: (store / f"shard-{number:05}.{ending}").read_bytes() for ending in ORDER}
        assert data["copy.parquet"] == data["parquet"]
        said = json.loads(data["json"])
        assert said["shard"] == number
        assert said["store"] == described("pillow")
        assert said["files"] == {
            ending: {"size": len(data[ending]), "sha256": sha256(data[ending])}
            for ending in ("npy", "details.npy", "parquet")
        }


def test_a_seal_confirms_itself(store: Path) -> None:
    data = (store / "shard-00001.json").read_bytes()
    assert parse_checked(data, 1) == Shards(store).sealed(1)
    assert parse_checked(data, 2) is None
    for at in range(len(data)):
        for flip in (1, 32):
            broken = bytearray(data)
            broken[at] ^= flip
            assert parse_checked(bytes(broken), 1) is None
        assert parse_checked(data[:at], 1) is None
    assert parse_checked(data + b"\n", 1) is None
    for other in (b"[]", b"null", b"{}", b'{"sha256": 1}', b"[" * 100_000, b"\xff"):
        assert parse_checked(other, 1) is None


@pytest.mark.parametrize("shape", [(0, 3, 200, 100), (0,), (1,), (7, 3, 2, 1), (1_234_567,)])
def test_the_header_of_an_array_is_that_of_numpy(shape: tuple[int, ...]) -> None:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, np.uint8))
    assert array_header(shape, np.uint8) + bytes(int(np.prod(shape))) == file.getvalue()


@pytest.mark.parametrize("n_written", range(6))
def test_a_shard_counts_once_its_table_is_confirmed(store: Path, n_written: int) -> None:
    for ending in ORDER[n_written:]:
        (store / f"shard-00002.{ending}").unlink()
    n_shards = 3 if n_written >= 4 else 2
    assert Shards(store).entries()["shard"].nunique() == n_shards
    before = Shards(store).entries()
    Shards(store, described("pillow")).write(2, loaded([4, None, 5]))
    pd.testing.assert_frame_equal(Shards(store).entries().iloc[: len(before)], before)
    assert len(Shards(store).entries()) == 9


def test_a_table_that_its_copy_denies_does_not_count(store: Path) -> None:
    (store / "shard-00002.json").unlink()
    shutil.copy(store / "shard-00001.copy.parquet", store / "shard-00002.copy.parquet")
    assert Shards(store).entries()["shard"].tolist() == [0, 0, 0, 1, 1, 1]


def test_a_hole_in_the_numbers_is_no_smaller_store(store: Path) -> None:
    for file in store.glob("shard-00001.*"):
        file.unlink()
    with pytest.raises(CorruptError, match=rf"shard-00001 is missing.*store\.path={store}"):
        Shards(store).entries()


@pytest.mark.parametrize("ending", ["npy", "details.npy", "parquet"])
def test_a_shard_without_one_of_its_files_is_refused(store: Path, ending: str) -> None:
    file = store / f"shard-00002.{ending}"
    file.unlink()
    with pytest.raises(CorruptError, match=rf"{file} is missing: run python -m dedup check"):
        Shards(store).entries()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", ["npy", "details.npy", "parquet", "json"])
def test_a_shard_with_a_damaged_file_is_refused(
    store: Path, ending: str, damage: Callable[[Path], None]
) -> None:
    damage(store / f"shard-00001.{ending}")
    with pytest.raises(CorruptError, match=rf"shard-00001\.{ending}.*check repair=true"):
        Shards(store).entries()


def test_a_flipped_bit_in_a_table_is_seen(store: Path) -> None:
    file = store / "shard-00001.parquet"
    data = file.read_bytes()
    for at in range(0, len(data), 97):
        file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(CorruptError, match=r"shard-00001\.parquet has SHA-256"):
            Shards(store).entries()


def test_a_detail_with_a_flipped_bit_is_refused(store: Path) -> None:
    file = store / "shard-00001.details.npy"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    assert Shards(store).detail(1, 0).shape == (40, 30, 3)
    with pytest.raises(CorruptError, match=r"details\.npy: detail 1 is broken: run python"):
        Shards(store).detail(1, 1)


def test_a_shard_may_be_empty(store: Path) -> None:
    Shards(store).write(1, [])
    entries = Shards(store).entries()
    assert entries["shard"].tolist() == [0, 0, 0, 2, 2, 2]
    assert entries.dtypes.astype(str)["row"] == "int64"
    assert Shards(store).size(1) == 0
