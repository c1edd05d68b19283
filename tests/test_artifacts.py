"""What is written is what is read, at any moment; what is broken is named, and never run."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.artifacts import (
    FORMAT,
    GROUPS,
    IMAGES,
    INDEX_IMAGES,
    PAIRS,
    Index,
    Search,
    atomically,
    checkpoint_file,
    read_array,
    read_json,
    read_table,
    sha256_file,
    write_array,
    write_csv,
    write_json,
    write_table,
    write_text,
)
from dedup.errors import ArtifactError, CorruptError

ODD_IDS = [
    *("007", "1e5", "NA", "", "null", "None", "nan", "9007199254740993", "1.0", " a ", "a\tb"),
    *("a\nb", 'say "x"', "a,b", "裤", "e\u0301", "\u202ex", "=1+1", "-rf", "../../etc/x"),
]


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def scribble(file: Path) -> None:
    file.write_bytes(b"not what was written" * 100)


DAMAGES: list[Callable[[Path], None]] = [cut, empty, scribble]


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.evidence,)


def random_index(seed: int, n: int = 30) -> Index:
    """An index whose rows are random; about half of its pictures are ok."""
    rng = np.random.default_rng(seed)
    ok = rng.random(n) < 0.5
    n_vectors = max(1, int(ok.sum()) // 2)
    ids = rng.choice(ODD_IDS, n)
    images = pd.DataFrame(
        {
            "record": np.arange(n),
            "product_id": ids,
            "url": [f"/images/{number} å.jpg" for number in rng.integers(n, size=n)],
            "sha256_bytes": [rng.bytes(32).hex() for _ in range(n)],
            "sha256_pixels": [rng.bytes(32).hex() for _ in range(n)],
            "width": rng.integers(1, 5000, n, np.int32),
            "height": rng.integers(1, 5000, n, np.int32),
            "contrast": rng.random(n, np.float32),
            "status": np.where(ok, "ok", "failed"),
            "reason": np.where(ok, "", "http_404"),
            "detail": np.where(ok, "", "Not\nfound"),
            "vector": np.where(ok, rng.integers(n_vectors, size=n), -1),
            "cluster": np.where(ok, rng.integers(4, size=n), -1),
        }
    )
    return Index(
        images=images,
        vectors=rng.standard_normal((n_vectors, 8)).astype(np.float32),
        centroids=rng.standard_normal((4 + seed % 3, 8)).astype(np.float32),
        products=pd.DataFrame({"productId": ids, "title": rng.permutation(ids), "": "x"}),
        manifest={
            "id_column": "productId",
            "title_column": "title",
            "checkpoint": "best.ckpt",
            "checkpoint_sha256": "0" * 64,
            "store": "store",
            "reader": "pillow",
            "seed": seed,
            "é": [None, 1.5],
        },
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of an index."""
    random_index(1).save(tmp_path / "index")
    return tmp_path / "index"


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old")

    def write(part: Path) -> None:
        assert part.parent == path.parent
        part.write_text("ne")
        assert path.read_text() == "old"
        part.write_text("new")

    atomically(path, write)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "report.txt"
    if before is not None:
        path.write_text(before)

    def write(part: Path) -> None:
        part.write_text("half of")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        atomically(path, write)
    assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"

    def write(part: Path) -> None:
        write_text("inner", path)
        part.write_text("outer")

    atomically(path, write)
    assert path.read_text() == "outer"


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the first example of FIPS 180-2
    assert sha256_file(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_odd_ids_survive_every_format(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ODD_IDS, "007": ODD_IDS[::-1], "": ""})
    write_table(table, None, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), table)
    write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [list(table.columns), *table.to_numpy().tolist()]
    write_json({key: key for key in ODD_IDS}, tmp_path / "t.json")
    assert read_json(tmp_path / "t.json", "", "") == {key: key for key in ODD_IDS}


SCHEMAS = {"images": IMAGES, "index": INDEX_IMAGES, "pairs": PAIRS, "groups": GROUPS}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_table_has_exactly_the_columns_of_its_schema(tmp_path: Path, schema: pa.Schema) -> None:
    cells = {"string": "007", "bool": True}
    types = zip(schema.names, map(str, schema.types), strict=True)
    rows = pd.DataFrame({name: [cells.get(kind, 1)] * 3 for name, kind in types})
    shuffled = rows[schema.names[::-1]].assign(more=1).set_index(np.array([7, 3, 5]))
    write_table(shuffled, schema, tmp_path / "t.parquet")
    assert pq.read_schema(tmp_path / "t.parquet").equals(schema, check_metadata=True)
    assert len(read_table(tmp_path / "t.parquet")) == 3
    with pytest.raises(KeyError, match=schema.names[0]):
        write_table(rows.drop(columns=schema.names[0]), schema, tmp_path / "u.parquet")


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_table(PAIRS.empty_table().to_pandas(), PAIRS, tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet").columns) == PAIRS.names


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    images = random_index(1).images
    for name in ("a", "b"):
        write_table(images, INDEX_IMAGES, tmp_path / name)
        images = images.set_index(images.index[::-1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_table_is_corrupt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_table(pd.DataFrame({"id": ODD_IDS}), None, tmp_path / "t.parquet")
    damage(tmp_path / "t.parquet")
    with pytest.raises(CorruptError, match=r"t\.parquet"):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (0,), (2, 3, 20, 10)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_arrays_come_back_mapped_and_read_only(
    tmp_path: Path, shape: tuple[int, ...], dtype: type
) -> None:
    array: npt.NDArray[Any] = np.random.default_rng(0).integers(100, size=shape).astype(dtype)
    write_array(array, tmp_path / "a.npy")
    found = read_array(tmp_path / "a.npy")
    assert isinstance(found, np.memmap)
    assert found.dtype == dtype
    assert np.array_equal(found, array)
    assert not found.flags.writeable


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_array_is_corrupt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_array(np.arange(1000), tmp_path / "a.npy")
    damage(tmp_path / "a.npy")
    with pytest.raises(CorruptError, match=r"a\.npy"):
        read_array(tmp_path / "a.npy")


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    evidence = tmp_path / "it_ran"
    with pytest.raises(ValueError, match="allow_pickle"):
        write_array(np.array([Trap(evidence)]), tmp_path / "a.npy")
    np.save(tmp_path / "objects.npy", np.array([Trap(evidence)]), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Trap(evidence)))
    for name in ("objects.npy", "pickle.npy"):
        with pytest.raises(CorruptError, match=name):
            read_array(tmp_path / name)
    assert not evidence.exists()
    pickle.loads((tmp_path / "pickle.npy").read_bytes())
    assert evidence.exists(), "the trap does not work"


def test_json_is_indented_and_readable(tmp_path: Path) -> None:
    write_json({"007": ["裤", 1.5, None]}, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n "007": [\n  "裤",\n  1.5,\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"loss": float("nan")}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1', b"[1]", b"null", b"\xff\xfe", b"{'a': 1}"])
def test_broken_json_is_corrupt(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(CorruptError, match=r"a\.json .*: make it again"):
        read_json(tmp_path / "a.json", "an index", "make it again")


@pytest.mark.parametrize("seed", range(6))
def test_an_index_comes_back_equal(tmp_path: Path, seed: int) -> None:
    index = random_index(seed)
    index.save(tmp_path / "deep" / "index")
    found = Index.load(tmp_path / "deep" / "index")
    pd.testing.assert_frame_equal(found.images, index.images)
    pd.testing.assert_frame_equal(found.products, index.products)
    assert np.array_equal(found.vectors, index.vectors)
    assert np.array_equal(found.centroids, index.centroids)
    assert found.centroids.shape == (4 + seed % 3, 8)
    assert found.manifest == {"format": FORMAT, **index.manifest}
    assert found.thumbnails(["/images/1.jpg"]) == {}
    found.save(tmp_path / "copy")
    for file in (tmp_path / "copy").iterdir():
        assert file.read_bytes() == (tmp_path / "deep" / "index" / file.name).read_bytes()


def test_an_index_may_be_empty(tmp_path: Path) -> None:
    index = random_index(0, n=5)
    nothing = dataclasses.replace(index, images=index.images[:0], vectors=index.vectors[:0])
    nothing.save(tmp_path)
    assert Index.load(tmp_path).images.empty
    assert Index.load(tmp_path).vectors.shape == (0, 8)


def test_titles_are_by_product_id() -> None:
    index = random_index(3)
    titles = {}
    for row in index.products.to_dict("records"):
        if row["title"].strip():  # the smallest title of an id wins, in whatever row it stands
            held = titles.get(row["productId"], row["title"])
            titles[row["productId"]] = min(held, row["title"])
    assert index.titles(ODD_IDS) == titles
    assert index.titles(ODD_IDS[:3]) == {k: v for k, v in titles.items() if k in ODD_IDS[:3]}
    assert dataclasses.replace(index, manifest={"id_column": "productId"}).titles(ODD_IDS) == {}


def test_a_search_comes_back_equal(tmp_path: Path) -> None:
    near = pd.DataFrame({"pixels_a": ["0a"], "pixels_b": ["ff"], "distance": [0.1]})
    search = Search(near, pd.DataFrame({"sha256_pixels": ["0a", "ff"]}), {"threshold": 0.5})
    search.save(tmp_path)
    found = Search.load(tmp_path)
    pd.testing.assert_frame_equal(found.near, search.near)
    pd.testing.assert_frame_equal(found.compared, search.compared)
    assert found.facts == search.facts
    (tmp_path / "near.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"near\.parquet"):
        Search.load(tmp_path)
    with pytest.raises(ArtifactError, match="leave since out"):
        Search.load(tmp_path / "elsewhere")


FILES = ["manifest.json", "images.parquet", "vectors.npy", "centroids.npy", "products.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")) as caught:
        Index.load(saved)
    assert caught.type is ArtifactError
    with pytest.raises(ArtifactError, match=r"is not an index .* make one with cluster\.py"):
        Index.load(saved / "elsewhere")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_corrupt(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    with pytest.raises(CorruptError, match=name.replace(".", r"\.")):
        Index.load(saved)


@pytest.mark.parametrize("number", [0, FORMAT + 1, None, "1"])
def test_another_format_is_refused(saved: Path, number: object) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | {"format": number}))
    with pytest.raises(ArtifactError, match=f"of format {number}.*run cluster.py again") as caught:
        Index.load(saved)
    assert caught.type is ArtifactError


def test_vectors_that_are_too_few_do_not_fit(saved: Path) -> None:
    vectors = np.array(read_array(saved / "vectors.npy"))
    write_array(
        vectors[: read_table(saved / "images.parquet")["vector"].max()], saved / "vectors.npy"
    )
    with pytest.raises(CorruptError, match=r"run cluster\.py again"):
        Index.load(saved)


def test_centroids_that_are_too_few_do_not_fit(saved: Path) -> None:
    write_array(np.zeros((1, 8), np.float32), saved / "centroids.npy")
    with pytest.raises(CorruptError, match=r"centroids\.npy has 1: run cluster\.py again"):
        Index.load(saved)


def test_a_checkpoint_is_named_by_its_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ArtifactError, match=r"no checkpoint at .*best\.ckpt"):
        checkpoint_file(tmp_path / "run")
    file = tmp_path / "run" / "best.ckpt"
    file.write_bytes(b"weights")
    assert checkpoint_file(tmp_path / "run") == checkpoint_file(str(file)) == file
    with pytest.raises(ArtifactError, match=r"no checkpoint at .*last\.ckpt.*checkpoint=PATH"):
        checkpoint_file(tmp_path / "run" / "last.ckpt")


def test_an_index_knows_its_encoder(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        (tmp_path / f"{name}.ckpt").write_text(name)
    made_with = hashlib.sha256(b"mine").hexdigest()
    manifest = {"checkpoint": "runs/1/best.ckpt", "checkpoint_sha256": made_with}
    index = dataclasses.replace(random_index(0), manifest=manifest)
    index.check_encoder(tmp_path / "mine.ckpt")
    with pytest.raises(ArtifactError, match=f"runs/1/best.ckpt .sha256 {made_with[:12]}.*other"):
        index.check_encoder(str(tmp_path / "other.ckpt"))
    with pytest.raises(ArtifactError, match="no checkpoint at"):
        index.check_encoder(tmp_path / "none.ckpt")


@pytest.mark.parametrize("key", ["checkpoint", "store", "id_column"])
def test_an_index_that_lacks_a_fact_is_corrupt(saved: Path, key: str) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    del manifest[key]
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptError, match="no whole index"):
        Index.load(saved)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_array_headers_are_corrupt(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "a.npy"
    write_array(np.arange(12.0), file)
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    data[rng.integers(0, 60)] = rng.integers(0, 256)
    file.write_bytes(bytes(data) if seed % 8 else b"PK" + bytes(data))
    with contextlib.suppress(CorruptError):  # any other exception fails the test
        assert read_array(file).dtype != object
