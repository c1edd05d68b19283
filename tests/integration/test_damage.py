"""No damage to an index, a search or a run's results goes unnoticed, and none becomes a report."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dedup.detection.integrity import inspect_index, inspect_run, inspect_search
from dedup.errors import ArtifactError, CorruptError
from tests.conftest import DAMAGES, run
from tests.support.damaged import (
    Change,
    array,
    column,
    edit,
    flip,
    lengthen,
    make_world,
    put,
    reported,
    said,
    shifted,
    text,
    zero,
)

INSPECT = {"index": inspect_index, "search": inspect_search, "run": inspect_run}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that is whole."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "world"))


def of_array(change: Callable[[Any], Any]) -> Change:
    return lambda file: array(file, change)


def of_table(change: Callable[[Any], Any]) -> Change:
    return lambda file: edit(file, change)


def of_text(old: str, new: str) -> Change:
    return lambda file: text(file, old, new)


def swapped(found: Any) -> Any:
    found[[0, 1]] = found[[1, 0]]
    return found


def without_last_line(file: Path) -> None:
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def exchanged(with_: str) -> Change:
    return lambda file: shutil.copy(file.with_name(with_), file)


def unsealed(file: Path) -> None:
    content = json.loads(file.read_text())
    del content["sha256"]
    file.write_text(json.dumps(content, indent=1) + "\n")


ONE_DIGEST = column("sha256_pixels", lambda cells: ["0" * 64 for _ in cells])
OF: dict[str, dict[str, Change]] = {
    "index/vectors.npy": {
        "zeros_in_the_second_half": of_array(zero(slice(24, None))),
        "ten_zero_rows": of_array(zero(slice(5, 15))),
        "rows_reversed": of_array(lambda found: found[::-1]),
        "a_column_shifted": of_array(lambda found: np.roll(found, 1, axis=1)),
        "rows_missing": of_array(lambda found: found[:40]),
        "a_row_twice": of_array(lambda found: found[[*range(48), 0]]),
        "two_rows_exchanged": of_array(swapped),
        "all_doubled": of_array(lambda found: found * 2),
        "not_finite": of_array(lambda found: found * np.nan),
        "double_precision": of_array(lambda found: found.astype(np.float64)),
        "half_precision": of_array(lambda found: found.astype(np.float16)),
        "turned": of_array(lambda found: np.asfortranarray(found)),
        "pickled": of_array(lambda found: found.astype(object)),
        "those_of_centroids": exchanged("centroids.npy"),
    },
    "index/centroids.npy": {
        "zeros": of_array(zero(slice(None))),
        "rows_reversed": of_array(lambda found: found[::-1]),
        "rows_missing": of_array(lambda found: found[:1]),
        "those_of_vectors": exchanged("vectors.npy"),
    },
    "index/images.parquet": {
        "rows_reversed": of_table(lambda table: table.take([*range(len(table))][::-1])),
        "rows_missing": of_table(lambda table: table[:30]),
        "owners_shifted": of_table(shifted("product_id")),
        "vectors_shifted": of_table(shifted("vector")),
        "addresses_shifted": of_table(shifted("url")),
        "one_digest_everywhere": of_table(ONE_DIGEST),
        "one_contrast_everywhere": of_table(column("contrast", lambda cells: [0] * len(cells))),
        "an_id_changed": of_table(put("product_id", 3, "P999")),
        "vectors_as_text": of_table(column("vector", lambda cells: pa.array(map(str, cells)))),
        "a_column_less": of_table(lambda table: table.drop_columns(["reason"])),
        "packed_otherwise": of_table(lambda table: table),
        "those_of_products": exchanged("products.parquet"),
    },
    "index/products.parquet": {
        "titles_shifted": of_table(shifted("title")),
        "rows_missing": of_table(lambda table: table[:30]),
        "those_of_images": exchanged("images.parquet"),
    },
    "index/manifest.json": {
        "another_checkpoint": lambda file: said(file, {"checkpoint_sha256": "d" * 64}),
        "another_store": lambda file: said(file, {"store": "elsewhere"}),
        "a_number_for_the_store": lambda file: said(file, {"store": 7}),
        "an_unknown_title": lambda file: said(file, {"title_column": "name"}),
        "an_earlier_format": of_text('"format": 5', '"format": 4'),
        "no_seal": unsealed,
        "a_digit": of_text('"size": ', '"size": 1'),
        "the_name_of_the_seal": of_text('"sha256": "', '"sha255": "'),
        "a_space": of_text("{", "{ "),
        "other_line_ends": lambda file: file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n")),
        "a_mark_before": lambda file: file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes()),
        "a_key_twice": of_text('"reader"', '"reader": "skimage",\n "reader"'),
        "a_line_less": without_last_line,
    },
    "search/near.parquet": {
        "cut_to_five_rows": of_table(lambda table: table[:5]),
        "distances_zero": of_table(column("distance", lambda cells: [0.0] * len(cells))),
        "a_pair_changed": of_table(put("pixels_b", 0, "f" * 64)),
        "scores": of_table(column("score", lambda cells: [1.0] * len(cells))),
        "those_of_compared": exchanged("compared.parquet"),
    },
    "search/compared.parquet": {
        "rows_missing": of_table(lambda table: table[:20]),
        "no_rows": of_table(lambda table: table[:0]),
        "a_picture_more": of_table(lambda table: pa.concat_tables([table, table[:1]])),
    },
    "search/search.json": {
        "a_lower_threshold": of_text('"threshold": 1.2', '"threshold": 1.1'),
        "more_pictures": of_text('"pictures": 4', '"pictures": 5'),
        "fewer_pairs": lambda file: said(file, {"near_pairs": 5}),
        "not_lossless": of_text('"lossless": true', '"lossless": false'),
        "no_seal": unsealed,
    },
    "run/duplicates.csv": {"a_line_less": without_last_line, "an_id": of_text("P0", "P1")},
    "run/duplicates.json": {"an_id": of_text("P0", "P1"), "empty": of_text("{", "{}")},
    "run/pairs.parquet": {"rows_missing": of_table(lambda table: table[:1])},
    "run/groups.parquet": {
        "all_kept": of_table(column("kept", lambda cells: [True] * len(cells)))
    },
    "run/calibration.json": {"another_threshold": of_text("0.5", "0.6")},
    "run/run.json": {
        "another_source": of_text("products.csv", "procucts.csv"),
        "no_seal": unsealed,
        "the_name_of_the_files": of_text('"files"', '"fires"'),
    },
}  # fmt: skip
EVERY = [
    *("index/vectors.npy", "index/centroids.npy", "index/images.parquet", "index/products.parquet"),
    *("index/manifest.json", "search/near.parquet", "search/compared.parquet"),
    *("search/search.json", "run/duplicates.csv", "run/pairs.parquet", "run/run.json"),
]
CASES = [
    *((file, name, change) for file, changes in OF.items() for name, change in changes.items()),
    *((file, change.__name__, change) for file in EVERY for change in [*DAMAGES, lengthen]),
    *((file, "missing", Path.unlink) for file in EVERY if file != "run/run.json"),
]


def test_what_is_whole_is_reported(whole: Path, tmp_path: Path) -> None:
    reported(whole, tmp_path / "out")
    found = (tmp_path / "out" / "duplicates.json").read_bytes()
    assert len(json.loads(found)) > 20
    assert found == (whole / "run" / "duplicates.json").read_bytes()
    for name, inspect in INSPECT.items():
        assert inspect(whole / name) == []
    assert len(CASES) >= 100


@pytest.mark.parametrize(
    ("file", "change"), [(f, c) for f, _, c in CASES], ids=[f"{f}-{n}" for f, n, _ in CASES]
)
def test_no_damage_goes_unnoticed(world: Path, tmp_path: Path, file: str, change: Change) -> None:
    before = (world / file).read_bytes()
    change(world / file)
    assert not (world / file).exists() or (world / file).read_bytes() != before
    folder, _, name = file.partition("/")
    if folder == "run":
        (found,) = inspect_run(world / "run")
        assert (found.file, found.kind in ("changed", "missing")) == (name, True)
        return
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")) as caught:
        reported(world, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    missing = not (world / file).exists()
    assert caught.type is (ArtifactError if missing else CorruptError)
    advice = "cluster.py" if folder == "index" else "leave since out"
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)
    if missing and name.endswith(".json"):
        return  # no index, no search
    (found,) = INSPECT[folder](world / folder)
    assert (found.file, found.kind) == (name, "missing" if missing else "changed")


def test_no_flipped_bit_goes_unnoticed(world: Path, tmp_path: Path) -> None:
    chance = random.Random(13)
    files = sorted(file for file in world.rglob("*") if file.is_file())
    for number in range(8 * len(files)):
        file = files[number % len(files)]
        before = file.read_bytes()
        flip(file, chance.randrange(len(before)), 1 << chance.randrange(8))
        folder, name = file.parent.name, file.name.replace(".", r"\.")
        if folder == "run":
            assert [one.file for one in inspect_run(file.parent)] == [file.name]
        else:
            with pytest.raises(CorruptError, match=name):
                reported(world, tmp_path / "out")
        file.write_bytes(before)
    reported(world, tmp_path / "out")


@pytest.mark.parametrize("file", ["index/vectors.npy", "search/near.parquet"])
def test_detect_stops_with_exit_code_4(world: Path, tmp_path: Path, file: str) -> None:
    flip(world / file, 200, 1)
    asked = [f"index={world / 'index'}", f"since={world / 'search'}", "report=[json]"]
    done = run("detect", *asked, "matcher.threshold=1.2", cwd=tmp_path, code=4)
    assert f"{world / file} is not what was written" in done.stderr
    assert not [*tmp_path.glob("runs/detect/*/*.json")]
    assert not (tmp_path / "runs" / "detect" / "latest").exists()
