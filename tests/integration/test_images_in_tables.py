"""The commands on a table that holds its images, from the index to the answer to a query."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import draw, encoded, run
from tests.search.test_build import save_encoder

EQUAL = ["matcher.threshold=0", "verifier=none"]
CLUSTER = ["checkpoint=encoder.ckpt", "clusterer.n_clusters=2"]
SOURCE = ["source=auto", "source.path=shop.parquet"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(folder: Path, numbers: list[int | None]) -> None:
    cells = [{"bytes": None if n is None else encoded(draw(n)), "path": None} for n in numbers]
    ids = [f"P{place}" for place in range(len(numbers))]
    table = pa.table({"productId": ids, "image": pa.array(cells, IMAGE)})
    pq.write_table(table, folder / "shop.parquet", row_group_size=2)


def lists(folder: Path) -> dict[str, list[str]]:
    """The duplicates of each product that has some, by the latest report."""
    text = (folder / "runs/detect/latest/duplicates.json").read_text(encoding="utf-8")
    return {key: ids for key, ids in json.loads(text).items() if ids}


def test_commands_read_images_from_a_table(tmp_path: Path) -> None:
    save_encoder(tmp_path / "encoder.ckpt", 0)
    write(tmp_path, [0, 1, 2, 0, None])
    done = run("cluster", *CLUSTER, *SOURCE, cwd=tmp_path)
    assert "images are read from column 'image', as source.image_column=image says" in done.stderr
    assert "failed:no_url" in done.stderr
    run("detect", *EQUAL, cwd=tmp_path)
    assert lists(tmp_path) == {"P0": ["P3"], "P3": ["P0"]}
    text = (tmp_path / "runs/detect/latest/duplicates.csv").read_text(encoding="utf-8")
    assert f"cell:{tmp_path}/shop.parquet#image/3" in text

    write(tmp_path, [0, 1, 2, 1, 5])
    done = run("detect", *EQUAL, *SOURCE, cwd=tmp_path)
    assert "shop.parquet has changed since the index was made, so it is read anew" in done.stderr
    assert lists(tmp_path) == {"P1": ["P3"], "P3": ["P1"]}
    done = run("cluster", "change=update", *SOURCE, cwd=tmp_path)
    assert "read 5 images of 5 products" in done.stderr

    (tmp_path / "photo.jpg").write_bytes(encoded(draw(2)))
    for query in ("photo.jpg", f"cell:{tmp_path}/shop.parquet#image/2"):
        done = run("detect", *EQUAL, f"query={query}", cwd=tmp_path)
        assert "P2" in done.stdout
