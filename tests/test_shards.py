"""Shards written by hand, and read back whatever stands in their tables."""

import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dedup.decode import decode
from dedup.errors import ArtifactError, CorruptError
from dedup.files import read_table, write_table
from dedup.shards import ENTRIES, OPEN_ARRAYS, PLACE, Loaded, Shards
from tests.conftest import draw, encoded

Table = pd.DataFrame


def entry(url: str) -> dict[str, Any]:
    texts: dict[str, Any] = dict.fromkeys(ENTRIES.names, "")
    return texts | {"url": url, "width": 30, "height": 40, "contrast": 1.0, "status": "ok"}


def loaded(seeds: Sequence[int | None]) -> list[Loaded]:
    """A picture for each seed, 30 pixels wide and 40 high; a failure where there is none."""
    return [
        Loaded(entry(f"/{seed}"), None if seed is None else decode(encoded(draw(seed, (30, 40)))))
        for seed in seeds
    ]


def test_what_was_written_is_read_and_failures_take_no_room(tmp_path: Path) -> None:
    batches = [loaded([None, 1, None, 2]), loaded([None]), loaded([3])]
    shards = Shards(tmp_path)
    for number, batch in enumerate(batches):
        shards.write(number, batch)
    entries = shards.entries()
    assert entries["shard"].tolist() == [0, 0, 0, 0, 1, 2]
    assert entries["row"].tolist() == [-1, 0, -1, 1, -1, 0]
    assert entries.loc[entries["row"] < 0, "detail_length"].tolist() == [0, 0, 0]
    everyone = [one for batch in batches for one in batch]
    places = entries[["shard", *PLACE]].to_numpy(int).tolist()
    for one, (shard, row, start, length) in zip(everyone, places, strict=True):
        if one.picture is not None:
            assert np.array_equal(shards.pixels(shard, np.array([row])), [one.picture.pixels])
            held = np.load(tmp_path / f"shard-{shard:05}.details.npy").tobytes()
            assert held[start : start + length] == one.picture.detail
            assert shards.detail(shard, row).shape == (40, 30, 3)
    with pytest.raises(ArtifactError, match="lacks a picture"):
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
    Shards(tmp_path).write(0, loaded([1, 2]))
    file = tmp_path / "shard-00000.parquet"
    write_table(change(read_table(file)), ENTRIES, file)
    with pytest.raises(CorruptError, match=r"shard-00000.*delete the store's folder"):
        Shards(tmp_path).detail(0, 1)


def test_a_table_without_details_is_refused(tmp_path: Path) -> None:
    Shards(tmp_path).write(0, loaded([1]))
    file = tmp_path / "shard-00000.parquet"
    read_table(file).drop(columns=PLACE[1:]).to_parquet(file)
    for read in (Shards.entries, lambda shards: shards.detail(0, 0)):
        with pytest.raises(CorruptError, match=r"shard-00000\.parquet is no table of a store"):
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
    for number in range(n_shards := 2 * OPEN_ARRAYS):
        shards.write(number, batch)
    for number in np.random.default_rng(0).permutation(n_shards).tolist():
        assert shards.pixels(number, np.array([0])).shape == (1, 3, 200, 100)
        assert shards.detail(number, 0).shape == (40, 30, 3)
