"""An index and a search are read as they were written; what is broken or foreign is named."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import parse_checked, write_checked
from dedup.runtime.files import write_json
from dedup.runtime.tables import write_table
from dedup.schemas import NEAR, PAIRS
from dedup.search.index import Index
from dedup.search.manifest import INDEX_FORMAT
from dedup.search.state import SearchState
from tests.conftest import DAMAGES, ODD_IDS
from tests.support.searches import FACTS, search_facts


def random_index(seed: int, n: int = 30) -> Index:
    """An index whose rows are random; about half of its images are ok."""
    rng = np.random.default_rng(seed)
    ok = rng.random(n) < 0.5
    n_vectors, vector = int(ok.sum() + 1) // 2, np.full(n, -1)
    vector[ok] = rng.permutation(np.arange(ok.sum()) % max(1, n_vectors))
    pixels = [rng.bytes(32).hex() for _ in range(n_vectors)]
    ids = rng.choice(ODD_IDS, n)
    images = pd.DataFrame(
        {
            "record": np.arange(n),
            "product_id": ids,
            "url": [f"/images/{number} å.jpg" for number in rng.integers(n, size=n)],
            "sha256_bytes": [rng.bytes(32).hex() for _ in range(n)],
            "sha256_pixels": [pixels[at] if at >= 0 else "" for at in vector],
            "width": rng.integers(1, 5000, n, np.int32),
            "height": rng.integers(1, 5000, n, np.int32),
            "contrast": rng.random(n, np.float32),
            "status": np.where(ok, "ok", "failed"),
            "reason": np.where(ok, "", "http_404"),
            "detail": np.where(ok, "", "Not\nfound"),
            "vector": vector,
            "cluster": np.append(rng.integers(4, size=n_vectors), -1)[vector],
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
    assert found.manifest == {"format": INDEX_FORMAT, **index.manifest}
    assert found.thumbnails(["/images/1.jpg"]) == {}
    found.save(tmp_path / "copy")
    for file in (tmp_path / "copy").iterdir():
        assert file.read_bytes() == (tmp_path / "deep" / "index" / file.name).read_bytes()


def test_an_index_may_be_empty(tmp_path: Path) -> None:
    index = random_index(0, n=5)
    nothing = dataclasses.replace(
        index, images=index.images[:0], vectors=index.vectors[:0], products=index.products[:0]
    )
    nothing.save(tmp_path)
    assert Index.load(tmp_path).images.empty
    assert Index.load(tmp_path).vectors.shape == (0, 8)


def test_titles_are_by_product_id() -> None:
    index = random_index(3)
    titles: dict[str, str] = {}
    for row in index.products.to_dict("records"):
        if row["title"].strip():  # the smallest title of an id wins, in whatever row it stands
            held = titles.get(row["productId"], row["title"])
            titles[row["productId"]] = min(held, row["title"])
    assert index.titles(ODD_IDS) == titles
    assert index.titles(ODD_IDS[:3]) == {k: v for k, v in titles.items() if k in ODD_IDS[:3]}
    assert dataclasses.replace(index, manifest={"id_column": "productId"}).titles(ODD_IDS) == {}


def small_search() -> SearchState:
    """A search of three images that found two pairs."""
    a, b, c = (letter * 64 for letter in "0ef")
    rows = [
        (a, b, 0.2, 0.0, "", "", np.nan, 0.0),
        (a, c, 0.1, 0.875, "mirrored, cropped to 80 %", "colour variant", 0.9, -0.5),
    ]
    near = pd.DataFrame(rows, columns=NEAR.names)
    return SearchState(near, pd.DataFrame({"sha256_pixels": [a, b, c]}), search_facts())


def test_a_search_of_an_earlier_version_may_call_an_image_a_picture(tmp_path: Path) -> None:
    search = small_search()
    near = search.near.assign(relation=["", "same picture"])
    dataclasses.replace(search, near=near).save(tmp_path)
    assert SearchState.load(tmp_path).near["relation"].tolist() == ["", "same image"]


def test_a_search_comes_back_equal(tmp_path: Path) -> None:
    search = small_search()
    search.save(tmp_path)
    found = SearchState.load(tmp_path)
    pd.testing.assert_frame_equal(found.near, search.near)
    pd.testing.assert_frame_equal(found.compared, search.compared)
    assert found.facts == search.facts
    (tmp_path / "near.parquet").unlink()
    with pytest.raises(ArtifactError, match=r"near\.parquet"):
        SearchState.load(tmp_path)
    with pytest.raises(ArtifactError, match="leave since out"):
        SearchState.load(tmp_path / "elsewhere")


def test_a_search_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    small_search().save(tmp_path)
    write_json(FACTS, tmp_path / "search.json")
    with pytest.raises(
        ArtifactError, match=r"search\.json was .* earlier version.*since"
    ) as caught:
        SearchState.load(tmp_path)
    assert caught.type is ArtifactError


def test_a_pair_without_a_score_is_written_as_null(tmp_path: Path) -> None:
    rows = [
        ("A", "B", 0.5, "near", "u", "v", np.nan, "", "same image"),
        ("A", "C", 0, "near", "u", "v", 0.5, "", "same image"),
    ]
    write_table(pd.DataFrame(rows, columns=PAIRS.names), PAIRS, tmp_path / "pairs.parquet")
    scores = pq.read_table(tmp_path / "pairs.parquet")["score"]
    assert scores.type == pa.float64()
    assert scores.to_pylist() == [None, 0.5]


FILES = ["manifest.json", "images.parquet", "vectors.npy", "centroids.npy", "products.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")) as caught:
        Index.load(saved)
    assert caught.type is ArtifactError
    with pytest.raises(
        ArtifactError, match=r"is not an index .*index=PATH, or make one with python cluster\.py"
    ):
        Index.load(saved / "elsewhere")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_corrupt(saved: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(saved / name)
    with pytest.raises(CorruptError, match=name.replace(".", r"\.")):
        Index.load(saved)


@pytest.mark.parametrize("number", [0, 4, INDEX_FORMAT + 1, None, "1", True, [5]])
@pytest.mark.parametrize("sealed", [True, False])
def test_another_format_is_refused(saved: Path, number: object, sealed: bool) -> None:
    content = parse_checked((saved / "manifest.json").read_bytes())
    assert content is not None
    content["format"] = number
    if sealed:
        write_checked(content, content["files"], saved / "manifest.json")
    else:  # as versions wrote it that knew no seals
        del content["files"]
        write_json(content, saved / "manifest.json")
    match = re.escape(
        f"of format {number}, and this version reads format 5: run python cluster.py again"
    )
    with pytest.raises(ArtifactError, match=match) as caught:
        Index.load(saved)
    assert caught.type is ArtifactError


def test_an_index_can_be_loaded_before_its_vectors_are_checked(saved: Path) -> None:
    data = bytearray((saved / "vectors.npy").read_bytes())
    data[-7] ^= 1
    (saved / "vectors.npy").write_bytes(data)
    index = Index.load(saved)
    seen = index.with_images(lambda urls: {}, index.sight)
    assert len(seen.images) == 30
    for one in (index, seen):
        for _ in range(2):
            with pytest.raises(
                CorruptError, match=r"vectors\.npy is not what was written, its SHA"
            ):
                one.vectors.sum()
        with pytest.raises(CorruptError, match=r"vectors\.npy"):
            dataclasses.replace(one, manifest={})


def test_a_fork_checks_the_vectors_itself(saved: Path) -> None:
    index = Index.load(saved)
    child = os.fork()
    if child == 0:
        os._exit(0 if index.vectors.shape[1] == 8 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_checkpoint_is_named_by_its_file_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ArtifactError, match=r"no checkpoint at .*best\.ckpt"):
        checkpoint_file(tmp_path / "run")
    file = tmp_path / "run" / "best.ckpt"
    file.write_bytes(b"weights")
    assert checkpoint_file(tmp_path / "run") == checkpoint_file(str(file)) == file
    with pytest.raises(ArtifactError, match=r"last\.ckpt: .*encoder=bundled.*checkpoint=PATH"):
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


@pytest.mark.parametrize("n_images", [0, 1, 5])
def test_an_index_may_hold_no_image_that_is_ok(tmp_path: Path, n_images: int) -> None:
    index = random_index(0, n=5)
    failed = {"status": "failed", "vector": -1, "cluster": -1, "sha256_pixels": ""}
    images = index.images.assign(**failed)
    images.loc[: n_images - 1, "sha256_bytes"] = ""
    dataclasses.replace(index, images=images, vectors=index.vectors[:0]).save(tmp_path)
    found = Index.load(tmp_path)
    pd.testing.assert_frame_equal(found.images, images)
    assert found.vectors.shape == (0, 8)


@pytest.mark.parametrize("n_images", [0, 1])
def test_a_search_may_find_nothing(tmp_path: Path, n_images: int) -> None:
    near, compared = small_search().near[:0], small_search().compared[:n_images]
    facts = search_facts(near_pairs=0, pictures=n_images, words=None)
    SearchState(near, compared, facts).save(tmp_path)
    found = SearchState.load(tmp_path)
    pd.testing.assert_frame_equal(found.near, near)
    pd.testing.assert_frame_equal(found.compared, compared)
    assert found.facts == facts
