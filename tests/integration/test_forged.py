"""What no command writes is refused though its digests are right: a stranger's, or a fault's."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.detection.integrity import inspect_index, inspect_run, inspect_search
from dedup.errors import ArtifactError, CorruptError
from dedup.schemas import INDEX_IMAGES
from dedup.search.index import Index
from dedup.search.state import SearchState
from tests.search.test_index import small_search
from tests.support.damaged import (
    Change,
    array,
    column,
    edit,
    make_world,
    put,
    reported,
    reseal,
    shifted,
)

Said = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world, and in ``looked`` a search that looked twice."""
    folder = make_world(tmp_path_factory.mktemp("world"))
    (folder / "looked").mkdir()
    small_search().save(folder / "looked")
    return folder


@pytest.fixture
def world(whole: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(whole, tmp_path / "world"))


def typed(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return column(name, lambda cells: pa.array(cells).cast(kind))


def described(table: pa.Table) -> pa.Table:
    """What pandas would make an index of."""
    return table.replace_schema_metadata({"pandas": '{"index_columns": ["record"]}'})


def tagged(table: pa.Table) -> pa.Table:
    """A column of a type that Arrow is told to extend."""
    field = pa.field("url", pa.string(), metadata={"ARROW:extension:name": "any.name"})
    at = table.column_names.index("url")
    return table.set_column(at, field, table["url"])


def not_utf8(table: pa.Table) -> pa.Table:
    cells = pa.array([b"\xff\xfe" for _ in range(len(table))], pa.binary())
    text = pa.StringArray.from_buffers(len(cells), *cells.buffers()[1:])
    return table.set_column(table.column_names.index("url"), "url", text)


def of_images(change: Callable[[pa.Table], pa.Table]) -> Change:
    return lambda world: edit(world / "index" / "images.parquet", change)


def of_products(change: Callable[[pa.Table], pa.Table]) -> Change:
    return lambda world: edit(world / "index" / "products.parquet", change)


def of_near(change: Callable[[pa.Table], pa.Table], folder: str = "search") -> Change:
    return lambda world: edit(world / folder / "near.parquet", change)


def of_compared(change: Callable[[pa.Table], pa.Table]) -> Change:
    return lambda world: edit(world / "search" / "compared.parquet", change)


def of_vectors(change: Callable[[Any], Any]) -> Change:
    return lambda world: array(world / "index" / "vectors.npy", change)


def of_centroids(change: Callable[[Any], Any]) -> Change:
    return lambda world: array(world / "index" / "centroids.npy", change)


def one(found: Any, value: float) -> Any:
    found[3, 2] = value
    return found


def odd_header(world: Path) -> None:
    """Numbers that begin at no multiple of four bytes."""
    file = world / "index" / "vectors.npy"
    data = file.read_bytes()
    file.write_bytes(data[:8] + (119).to_bytes(2, "little") + data[10:127] + b" \n" + data[128:])


IMAGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "vectors_as_text": column("vector", lambda cells: pa.array(map(str, cells))),
    "vectors_as_floats": typed("vector", pa.float64()),
    "vectors_of_32_bits": typed("vector", pa.int32()),
    "vectors_without_sign": column("vector", lambda cells: pa.array(
        [2**64 - 1 if at < 0 else at for at in cells], pa.uint64())),
    "an_overflowing_vector": put("vector", 0, 2**63 - 1),
    "a_vector_too_low": put("vector", 0, -2),
    "a_vector_too_high": put("vector", 0, 48),
    "no_vector": put("vector", 0, None),
    "a_record_below": put("record", 0, -1),
    "a_record_beyond": put("record", 0, 60),
    "records_shifted": shifted("record"),
    "a_cluster_beyond": put("cluster", 0, 3),
    "a_cluster_too_low": put("cluster", 0, -7),
    "clusters_as_times": typed("cluster", pa.timestamp("ns")),
    "addresses_as_bytes": typed("url", pa.binary()),
    "addresses_as_large_text": typed("url", pa.large_string()),
    "addresses_in_a_dictionary": column("url", lambda cells: pa.array(cells).dictionary_encode()),
    "no_address": put("url", 0, None),
    "addresses_that_are_no_text": not_utf8,
    "a_list_of_addresses": column("url", lambda cells: pa.array([[cell] for cell in cells])),
    "owners_shifted": shifted("product_id"),
    "owners_as_numbers": column("product_id", lambda cells: pa.array([int(c[1:]) for c in cells])),
    "an_unknown_status": put("status", 0, "good"),
    "all_ok": column("status", lambda cells: ["ok" for _ in cells]),
    "all_failed": column("status", lambda cells: ["failed" for _ in cells]),
    "statuses_as_numbers": column("status", lambda cells: pa.array([1 for _ in cells])),
    "a_contrast_below": put("contrast", 0, -0.5),
    "a_contrast_beyond": put("contrast", 0, 128),
    "no_contrast": put("contrast", 0, None),
    "a_contrast_not_finite": put("contrast", 0, float("nan")),
    "a_width_below": put("width", 0, -1),
    "one_digest_everywhere": column("sha256_pixels", lambda cells: ["0" * 64 for _ in cells]),
    "no_digests": column("sha256_pixels", lambda cells: ["" for _ in cells]),
    "short_digests": column("sha256_pixels", lambda cells: [cell[:63] for cell in cells]),
    "digests_in_capitals": column("sha256_bytes", lambda cells: [cell.upper() for cell in cells]),
    "digests_of_other_letters": column("sha256_bytes", lambda cells: ["g" * 64 for _ in cells]),
    "digests_shifted": shifted("sha256_pixels"),
    "rows_missing": lambda table: table[:30],
    "no_rows": lambda table: table[:0],
    "a_column_more": lambda table: table.append_column("more", table["record"]),
    "a_column_less": lambda table: table.drop_columns(["reason"]),
    "a_column_twice": lambda table: table.append_column("url", table["url"]),
    "columns_in_another_order": lambda table: table.select(table.column_names[::-1]),
    "said_to_pandas": described,
    "said_to_arrow": tagged,
}  # fmt: skip
PRODUCTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "numbers": column("title", lambda cells: pa.array(range(len(cells)))),
    "no_cell": put("title", 0, None),
    "no_ids": lambda table: table.drop_columns(["id"]),
    "ids_shifted": shifted("id"),
    "a_column_twice": lambda table: table.append_column("id", table["id"]),
    "rows_missing": lambda table: table[:30],
    "rows_more": lambda table: pa.concat_tables([table, table]),
    "no_columns": lambda table: table.select([]),
}
VECTORS: dict[str, Callable[[Any], Any]] = {
    "rows_missing": lambda found: found[:40],
    "rows_more": lambda found: found[[*range(48), 0]],
    "in_a_row": lambda found: found.ravel(),
    "in_a_cube": lambda found: found.reshape(48, 4, 2),
    "double_precision": lambda found: found.astype(np.float64),
    "whole_numbers": lambda found: found.astype(np.int32),
    "the_other_end_first": lambda found: found.astype(">f4"),
    "turned": np.asfortranarray,
    "objects": lambda found: found.astype(object),
    "not_a_number": lambda found: one(found, np.nan),
    "infinite": lambda found: one(found, -np.inf),
    "narrower": lambda found: np.ascontiguousarray(found[:, :5]),
}
CENTROIDS: dict[str, Callable[[Any], Any]] = {
    "rows_missing": lambda found: found[:1],
    "narrower": lambda found: np.ascontiguousarray(found[:, :7]),
    "not_a_number": lambda found: one(found[[0, 1, 2, 2]], np.nan),
    "half_precision": lambda found: found.astype(np.float16),
}
MANIFEST: dict[str, Said] = {
    "a_number_for_the_store": {"store": 7},
    "no_store": {"store": None},
    "an_empty_store": {"store": ""},
    "a_list_for_the_reader": {"reader": ["pillow"]},
    "no_checkpoint": {"checkpoint": None},
    "a_checkpoint_that_ends_early": {"checkpoint": "a\0b"},
    "a_short_digest": {"checkpoint_sha256": "ab"},
    "a_number_for_the_digest": {"checkpoint_sha256": 0},
    "an_unknown_id": {"id_column": "sku"},
    "a_number_for_the_id": {"id_column": 0},
    "an_unknown_title": {"title_column": "name"},
    "a_number_for_the_title": {"title_column": 1},
    "a_list_for_the_title": {"title_column": ["title"]},
    "a_text_for_the_foreground": {"foreground": "grabcut"},
    "no_foreground": {"foreground": None},
    "a_foreground_without_parts": {"foreground": {"digest": "ab"}},
    "a_foreground_with_a_list": {"foreground": {"part": [], "framing": {}, "digest": "ab"}},
    "a_foreground_that_failed_often": {
        "foreground": {"part": {}, "framing": {}, "digest": "ab", "failed": "all"}
    },
}


def listed(change: Callable[[Said], object]) -> Callable[[Said], object]:
    """Change what a seal says of files."""
    return lambda content: change(content["files"])


FILES: dict[str, Callable[[Said], object]] = {
    "no_files": lambda content: content.update(files={}),
    "a_list_of_files": lambda content: content.update(files=["images.parquet"]),
    "a_file_more": listed(lambda files: files.update({"../x": files["vectors.npy"]})),
    "a_file_less": listed(lambda files: files.pop("vectors.npy")),
    "a_file_that_is_a_text": listed(lambda files: files.update({"vectors.npy": "0" * 64})),
    "a_size_below": listed(lambda files: files["vectors.npy"].update(size=-1)),
    "a_size_that_is_a_text": listed(lambda files: files["vectors.npy"].update(size="1664")),
    "a_size_that_is_true": listed(lambda files: files["vectors.npy"].update(size=True)),
    "a_digest_that_is_a_number": listed(lambda files: files["vectors.npy"].update(sha256=0)),
    "rows_that_are_a_text": listed(lambda files: files["images.parquet"].update(rows="60")),
    "no_rows": listed(lambda files: files["images.parquet"].pop("rows")),
    "too_many_rows": listed(lambda files: files["images.parquet"].update(rows=10**12)),
    "too_many_products": listed(lambda files: files["products.parquet"].update(rows=61)),
}
OTHER_ROWS = listed(lambda files: files["images.parquet"].update(rows=61))
NEAR: dict[str, Callable[[pa.Table], pa.Table]] = {
    "exchanged_ends": lambda table: table.rename_columns(
        ["pixels_b", "pixels_a", *table.column_names[2:]]).select(table.column_names),
    "one_picture_twice": column("pixels_b", lambda cells: ["f" * 64 for _ in cells]),
    "not_compared": put("pixels_a", 0, "0" * 64),
    "no_digest": put("pixels_a", 0, "0"),
    "rows_reversed": lambda table: table.take([*range(len(table))][::-1]),
    "a_row_twice": lambda table: table.take([0, *range(len(table))]),
    "a_distance_below": put("distance", 0, -1.0),
    "no_distance": put("distance", 0, None),
    "an_infinite_distance": put("distance", 0, float("inf")),
    "distances_as_text": column("distance", lambda cells: pa.array(map(str, cells))),
    "scores_of_32_bits": typed("score", pa.float32()),
    "a_score_without_a_look": put("score", 0, 0.5),
    "an_unknown_relation": put("relation", 0, "same shop"),
    "no_relation": put("relation", 0, None),
    "no_evidence": put("evidence", 0, None),
    "a_copy_beyond": put("copy_of", 0, -1.5),
    "no_copy": put("copy_of", 0, None),
    "cut_to_five_rows": lambda table: table[:5],
}  # fmt: skip
LOOKED: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a_score_beyond": put("score", 0, 1.5),
    "a_score_below": put("score", 0, -0.5),
    "no_score": put("score", 0, None),
    "a_likeness_beyond": put("alike", 1, 2.0),
    "an_infinite_likeness": put("alike", 1, float("inf")),
}
COMPARED: dict[str, Callable[[pa.Table], pa.Table]] = {
    "rows_missing": lambda table: table[:20],
    "rows_reversed": lambda table: table.take([*range(len(table))][::-1]),
    "numbers": column("sha256_pixels", lambda cells: pa.array(range(len(cells)))),
    "no_digest": put("sha256_pixels", 0, "0" * 63),
    "none": put("sha256_pixels", 0, None),
}
FACTS: dict[str, Said] = {
    "fewer_pairs": {"near_pairs": 5},
    "more_pictures": {"pictures": 49},
    "a_text_for_the_threshold": {"threshold": "far"},
    "a_threshold_below": {"threshold": -1, "asked": -1},
    "another_threshold": {"threshold": 2.5},
    "a_list_asked_for": {"asked": [1.2]},
    "a_number_for_looked": {"looked": 0},
    "a_text_for_lossless": {"lossless": "yes"},
    "half_a_comparison": {"comparisons": 0.5},
    "a_text_for_the_comparisons": {"comparisons": "7"},
    "a_share_that_is_none": {"share": None},
    "missed_below": {"missed": -1},
    "more_missed_than_all": {"missed_share": 1.5},
    "no_digest": {"checkpoint_sha256": "c"},
    "a_fact_more": {"more": 1},
    "words_as_a_text": {"words": "many"},
}


def updated(changes: Said) -> Callable[[Said], object]:
    return lambda content: content.update(changes)


CASES: list[tuple[str, str, Change, Callable[[Said], object]]] = [
    *(("index/images.parquet", name, of_images(it), len) for name, it in IMAGES.items()),
    *(("index/products.parquet", name, of_products(it), len) for name, it in PRODUCTS.items()),
    *(("index/vectors.npy", name, of_vectors(it), len) for name, it in VECTORS.items()),
    ("index/vectors.npy", "an_odd_header", odd_header, len),
    *(("index/centroids.npy", name, of_centroids(it), len) for name, it in CENTROIDS.items()),
    *(("index/manifest.json", name, Path.exists, updated(it)) for name, it in MANIFEST.items()),
    *(("index/manifest.json", name, Path.exists, it) for name, it in FILES.items()),
    ("index/images.parquet", "other_rows", Path.exists, OTHER_ROWS),
    *(("search/near.parquet", name, of_near(it), len) for name, it in NEAR.items()),
    *(("looked/near.parquet", name, of_near(it, "looked"), len) for name, it in LOOKED.items()),
    *(("search/compared.parquet", name, of_compared(it), len) for name, it in COMPARED.items()),
    *(("search/search.json", name, Path.exists, updated(it)) for name, it in FACTS.items()),
    ("search/search.json", "a_fact_less", Path.exists, lambda content: content.pop("missed")),
]


def load(folder: Path) -> object:
    """What is to be read of a folder, all of it."""
    return Index.load(folder).vectors if folder.name == "index" else SearchState.load(folder)


@pytest.mark.parametrize(
    ("file", "change", "say"),
    [(file, change, say) for file, _, change, say in CASES],
    ids=[f"{file}-{name}" for file, name, *_ in CASES],
)
def test_what_cannot_be_is_refused(
    world: Path, tmp_path: Path, file: str, change: Change, say: Callable[[Said], object]
) -> None:
    folder, _, name = file.partition("/")
    change(world)
    reseal(world / folder, say)
    with pytest.raises(CorruptError, match=name.replace(".", r"\.")) as caught:
        load(world / folder)
    advice = "run python cluster.py again" if folder == "index" else "leave since out"
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)
    inspect = inspect_index if folder == "index" else inspect_search
    assert [one.kind for one in inspect(world / folder)] in (["impossible"], ["changed"])
    if folder != "looked":
        with pytest.raises(CorruptError):
            reported(world, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_the_seals_of_tests_are_good(whole: Path, world: Path, tmp_path: Path) -> None:
    for folder in ("index", "search", "looked"):
        reseal(world / folder)
        load(world / folder)
        for file in (world / folder).iterdir():
            assert file.read_bytes() == (whole / folder / file.name).read_bytes()
    edit(world / "index" / "images.parquet", put("width", 0, 641))  # which may be
    reseal(world / "index")
    reported(world, tmp_path / "out")
    assert len(CASES) > 100


@pytest.mark.parametrize(
    "files",
    [
        ["pairs.parquet"],
        {"../index/vectors.npy": {"size": 1, "sha256": "0" * 64}},
        {"/etc/passwd": {"size": 1, "sha256": "0" * 64}},
        {"": {"size": 1, "sha256": "0" * 64}},
        {"a\x1b[2J": {"size": 1, "sha256": "0" * 64}},
        {"pairs.parquet": {"size": "1", "sha256": "0" * 64}},
        {"pairs.parquet": {"size": 1, "sha256": 0}},
        {"pairs.parquet": None},
    ],
)
def test_a_run_lists_files_of_its_own_alone(world: Path, files: Any) -> None:
    reseal(world / "run", lambda content: content.update(files=files))
    (found,) = inspect_run(world / "run")
    assert (found.file, found.kind) == ("run.json", "changed")
    assert "\x1b" not in found.detail


def test_a_table_with_other_rows_is_refused_before_it_is_unpacked(world: Path) -> None:
    file, rows = world / "index" / "images.parquet", 400_000
    table = pq.read_table(file)
    many = {name: pa.repeat(table[name][0], rows) for name in table.column_names}
    pq.write_table(pa.table(many, INDEX_IMAGES), file)
    del many
    reseal(world / "index", lambda content: content["files"]["images.parquet"].update(rows=60))
    pool = pa.default_memory_pool()
    highest = pool.max_memory()
    with pytest.raises(CorruptError, match=r"images\.parquet .* it has 400000 rows, not 60"):
        Index.load(world / "index")
    assert pool.max_memory() == highest


def test_a_folder_without_an_index_or_a_run_is_named(tmp_path: Path) -> None:
    for inspect, what in (
        (inspect_index, "an index"),
        (inspect_search, "a search"),
        (inspect_run, "a finished run"),
    ):
        with pytest.raises(ArtifactError, match=f"{tmp_path} is not {what}") as caught:
            inspect(tmp_path)
        assert caught.type is ArtifactError
