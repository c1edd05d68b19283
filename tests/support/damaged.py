"""An index, a search and a run's results that are whole, what detect.py does, and damages."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dedup.detection.detector import Detector
from dedup.detection.grouping import Grouping
from dedup.reports.csv import CsvReport
from dedup.reports.json import JsonReport
from dedup.runtime.checksums import FILES, file_facts, parse_checked, write_checked
from dedup.runtime.files import write_json
from dedup.runtime.run_record import write_run
from dedup.runtime.tables import write_table
from dedup.schemas import GROUPS, PAIRS
from dedup.search.clustering import nearest_centroids
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState

Change = Callable[[Path], object]

N_PRODUCTS, N_VECTORS, THRESHOLD = 60, 48, 1.2
SEALED = {"index": "manifest.json", "search": "search.json", "run": "run.json"}


def small_index() -> Index:
    """60 products with an image each: 48 that differ, 6 shown twice, 6 that failed."""
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(N_VECTORS, 8)).astype(np.float32)
    vectors[1::4] = vectors[::4] + rng.normal(size=(12, 8)).astype(np.float32) / 5
    centroids = vectors[[0, 16, 32]].copy()
    pixels = sorted(rng.bytes(32).hex() for _ in range(N_VECTORS))
    vector = rng.permutation([*range(N_VECTORS), *range(6), *[-1] * 6])
    ok = vector >= 0
    ids = [f"P{number:03}" for number in range(N_PRODUCTS)]
    images = pd.DataFrame(
        {
            "record": np.arange(N_PRODUCTS),
            "product_id": ids,
            "url": [f"/pictures/{one}.jpg" for one in ids],
            "sha256_bytes": [rng.bytes(32).hex() for _ in ids],
            "sha256_pixels": [pixels[at] if at >= 0 else "" for at in vector],
            "width": 640, "height": np.where(ok, 480, 0), "contrast": np.where(ok, 50, 0),
            "status": np.where(ok, "ok", "failed"),
            "reason": np.where(ok, "", "truncated"),
            "detail": "",
            "vector": vector,
            "cluster": np.append(nearest_centroids(vectors, centroids), -1)[vector],
        }
    )  # fmt: skip
    products = pd.DataFrame({"id": ids, "title": [f"Title of {one}" for one in ids]})
    manifest = {
        "version": "0", "checkpoint": "best.ckpt", "checkpoint_sha256": "c" * 64,
        "store": "store", "reader": "pillow", "id_column": "id", "title_column": "title",
    }  # fmt: skip
    return Index(images, vectors, centroids, products, manifest)


def make_world(folder: Path) -> Path:
    """An index, a search of it, and the folder of a run with results; their folder."""
    index = small_index()
    findings, search = Detector(RadiusSearch(THRESHOLD), Grouping())(index)
    assert len(search.near) > 10
    index.save(folder / "index")
    for name in ("search", "run"):
        (folder / name).mkdir()
    search.save(folder / "search")
    run = folder / "run"
    write_table(findings.pairs, PAIRS, run / "pairs.parquet")
    write_table(findings.groups, GROUPS, run / "groups.parquet")
    write_json({"threshold": 0.5, "setting": "matcher.threshold"}, run / "calibration.json")
    for report in (JsonReport(), CsvReport()):
        report.write(findings, index, run)
    write_run({"version": "0", "metric": None, "source": {"path": "products.csv"}}, run)
    return folder


def reported(world: Path, out: Path) -> None:
    """What detect.py does with an index, going on from a search."""
    index, since = Index.load(world / "index"), SearchState.load(world / "search")
    findings, _ = Detector(RadiusSearch(THRESHOLD), Grouping())(index, since)
    out.mkdir()
    for report in (JsonReport(), CsvReport()):
        report.write(findings, index, out)


def reseal(folder: Path, change: Callable[[dict[str, Any]], object] = len) -> None:
    """Write a folder's seal anew, so that all digests are right again, after a change to it."""
    file = next(folder / name for name in SEALED.values() if (folder / name).is_file())
    said = parse_checked(file.read_bytes())
    assert said is not None
    for name, one in said[FILES].items():
        more = {"rows": pq.read_metadata(folder / name).num_rows} if "rows" in one else {}
        said[FILES][name] = file_facts(folder / name, **more)
    change(said)
    write_checked(said, said[FILES], file)


def edit(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change a Parquet table, whatever that makes of it."""
    pq.write_table(change(pq.read_table(file)), file)


def put(name: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    """Put a value into a cell; the column keeps its type."""

    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index(name)
        cells = table[name].to_pylist()
        cells[row] = value
        return table.set_column(at, table.field(at), pa.array(cells, table.field(at).type))

    return change


def column(name: str, cells: Callable[[list[Any]], Any]) -> Callable[[pa.Table], pa.Table]:
    """Put something in place of a column's cells; it brings its own type if it is an array."""

    def change(table: pa.Table) -> pa.Table:
        at, found = table.column_names.index(name), cells(table[name].to_pylist())
        if not isinstance(found, (pa.Array, pa.ChunkedArray)):
            found = pa.array(found, table.field(at).type)
        return table.set_column(at, name, found)

    return change


def shifted(name: str) -> Callable[[pa.Table], pa.Table]:
    """Move a column's cells on by a row."""
    return column(name, lambda cells: [cells[-1], *cells[:-1]])


def array(file: Path, change: Callable[[npt.NDArray[Any]], Any]) -> None:
    """Change an array, whatever that makes of it."""
    changed = change(np.load(file))
    with file.open("wb") as opened:
        np.save(opened, changed, allow_pickle=True)


def zero(rows: slice) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any]]:
    """Zeros in some rows."""

    def change(found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found[rows] = 0
        return found

    return change


def text(file: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text that must be there."""
    found = file.read_text(encoding="utf-8")
    assert old in found
    file.write_text(found.replace(old, new, 1), encoding="utf-8")


def said(file: Path, changes: Mapping[str, Any]) -> None:
    """Change what a JSON file says, and leave its seal."""
    write_json(json.loads(file.read_text()) | dict(changes), file)


def flip(file: Path, at: int, bits: int) -> None:
    """Change some bits of the byte at a place."""
    data = bytearray(file.read_bytes())
    data[at % len(data)] ^= bits
    file.write_bytes(data)


def lengthen(file: Path) -> None:
    """A byte more."""
    os.truncate(file, file.stat().st_size + 1)
