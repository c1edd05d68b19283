"""Detect runs as they lie on the disk."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.actions.diff import difference
from dedup.actions.runs import changed_settings, read_detect_run
from dedup.detection.results import DetectionResult
from dedup.errors import ArtifactError
from dedup.runtime.run_record import write_run
from dedup.schemas import FAMILIES, GROUPS, HEALTH, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.index import Index
from tests.actions.runs import SEARCHED, digest, pair, pair_table

MANIFEST = {
    "checkpoint": "e.ckpt", "checkpoint_sha256": "0" * 64, "store": "store", "reader": "pillow",
    "id_column": "id", "title_column": None, "url_column": "image",
}  # fmt: skip


def save(folder: Path, pairs: pd.DataFrame, **more: object) -> Path:
    """A run and its index of the products A and B; the second image of B failed."""
    rows = [(0, "A", "a.jpg", "ok"), (1, "B", "b.jpg", "ok"), (1, "B", "c.jpg", "failed")]
    images = pd.DataFrame(rows, columns=["record", "product_id", "url", "status"]).assign(
        sha256_bytes=digest("x"), sha256_pixels=digest("x"), width=9, height=9, contrast=9.0,
        reason="", detail="", vector=[0, 0, -1], cluster=[0, 0, -1],
    )[INDEX_IMAGES.names]  # fmt: skip
    products = pd.DataFrame({"id": ["A", "B"], "image": ["a.jpg", "b.jpg"]})
    vectors = np.zeros((1, 2), np.float32)
    Index(images, vectors, vectors, products, dict(MANIFEST)).save(folder / "index")
    empty = [pd.DataFrame(columns=schema.names) for schema in (GROUPS, SHARED, PAIRS, FAMILIES)]
    result = DetectionResult(pairs, *empty[:2], search=SEARCHED, candidates=empty[2],
                             related=empty[2], families=empty[3])  # fmt: skip
    replace(result, **more).save(folder / "run", folder / "index")  # type: ignore[arg-type]
    return folder / "run"


def test_runs_without_pairs_can_be_compared(tmp_path: Path) -> None:
    none = pd.DataFrame(columns=PAIRS.names)
    one = pair_table([pair("A", "B")], {"A": "a.jpg", "B": "b.jpg"})
    runs = [read_detect_run(save(tmp_path / str(n), table)) for n, table in enumerate((none, one))]
    for old, new, expected in ((0, 0, ""), (0, 1, "new"), (1, 0, "gone"), (1, 1, "")):
        found = difference(runs[old], runs[new])
        assert " ".join(found.pairs["state"]) == expected
        assert found.n_same == (old and new)
    assert runs[0].images["sha256_pixels"].tolist() == [digest("x"), digest("x"), ""]


def test_the_time_of_a_run_is_that_of_its_folder(tmp_path: Path) -> None:
    folder = save(tmp_path, pd.DataFrame(columns=PAIRS.names))
    moved = folder.rename(tmp_path / "2026-11-23_06-00-00-000000")
    (tmp_path / "latest").symlink_to(moved)
    run = read_detect_run(tmp_path / "latest")
    assert run.made.startswith("2026-11-2")
    assert run.name == str(moved)
    assert read_detect_run(moved).made == run.made


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    none = pd.DataFrame(columns=PAIRS.names)
    runs = []
    for name, precision in (("one", 0.99), ("other", 0.9)):
        folder = save(tmp_path / name, none)
        write_run({"version": "1", "matcher": {"precision": precision}, "runs": name}, folder)
        runs.append(read_detect_run(folder))
    assert changed_settings(*runs) == [("matcher.precision", "0.99", "0.9")]


def test_a_run_whose_index_is_gone(tmp_path: Path) -> None:
    none = pd.DataFrame(columns=PAIRS.names)
    folder = save(tmp_path, none)
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(ArtifactError, match=r"nothing tells which products there were: run python"):
        read_detect_run(folder)
    row = {"product_id": "A", "image": "a.jpg", "sha256_pixels": digest("x"), "usable": True}
    texts = dict.fromkeys(("format", "problems", "reasons"), "")
    health = pd.DataFrame([row | texts], columns=HEALTH.names)
    health[["width", "height", "bytes"]] = 9
    run = read_detect_run(save(tmp_path, none, health=health))
    assert len(run.products) == 2
    shutil.rmtree(tmp_path / "index")
    run = read_detect_run(folder)
    assert run.images.to_numpy().tolist() == [["A", "a.jpg", digest("x")]]
    assert not len(run.products)


def test_a_run_of_two_catalogues_is_refused(tmp_path: Path) -> None:
    none = pd.DataFrame(columns=PAIRS.names)
    folder = save(tmp_path, none, search=replace(SEARCHED, against=True))
    assert json.loads((folder / "result.json").read_text())["search"]["against"]
    with pytest.raises(ArtifactError, match="compares two catalogues"):
        read_detect_run(folder)
