"""What does it cost to confirm an index while it is loaded?

    python benchmarks/loading.py --images 346927 --rounds 21

Makes an index with addresses, titles and digests as shops have them, once as it was written before
files had digests (Arrow's default settings, no seal) and once as it is written now. Then, in turns
within one process: the old files as they were read before, without any check; ``Index.load``; and
both with the beginning of a search behind them, which finds the pairs with equal pixels and then
goes over all vectors. The files are in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dedup.detection.exact import exact_pairs
from dedup.schemas import INDEX_IMAGES
from dedup.search.index import Index
from dedup.store.placeholders import without_placeholders

TABLES = ("images", "products")
ARRAYS = ("vectors", "centroids")
WORDS = [
    *("women", "men", "kids", "summer", "winter", "cotton", "linen", "casual", "dress", "shirt"),
    *("blouse", "jacket", "trousers", "skirt", "loose", "slim", "print", "stripe", "long", "short"),
    *("sleeve", "vintage", "elegant", "black", "white", "red", "blue", "green", "plus", "size"),
    *("floral", "lace", "v-neck", "hooded", "button", "pocket", "party", "office", "new", "2024"),
]


class Took(NamedTuple):
    """Seconds by the clock, and of all processors together."""

    wall: float
    cpu: float


def digests(rng: np.random.Generator, n: int) -> list[str]:
    """Some SHA-256."""
    text = rng.bytes(32 * n).hex()
    return [text[64 * at : 64 * at + 64] for at in range(n)]


def made(n: int, dim: int, seed: int = 0) -> Index:
    """An index of n distinct images; one in fifty is shown twice, one in fifty failed."""
    rng = np.random.default_rng(seed)
    pixels = sorted(digests(rng, n))
    vector = np.concatenate([np.arange(n), rng.integers(0, n, n // 50), np.full(n // 50, -1)])
    vector = rng.permutation(vector)
    ids = [str(10**12 + 7919 * at) for at in range(len(vector))]
    ok = vector >= 0
    urls = [
        f"https://img{at % 8}.example.com/catalogue/{one[-4:]}/{one}_{rng.integers(10**9)}_main.jpg"
        for at, one in enumerate(ids)
    ]
    images = pd.DataFrame(
        {
            "record": np.arange(len(vector)),
            "product_id": ids,
            "url": urls,
            "sha256_bytes": [one if had else "" for one, had in zip(
                digests(rng, len(vector)), ok, strict=True)],
            "sha256_pixels": [pixels[at] if at >= 0 else "" for at in vector],
            "width": np.where(ok, rng.integers(200, 2000, len(vector)), 0),
            "height": np.where(ok, rng.integers(200, 2000, len(vector)), 0),
            "contrast": np.where(ok, 100 * rng.random(len(vector)), 0),
            "status": np.where(ok, "ok", "failed"),
            "reason": np.where(ok, "", "http_404"),
            "detail": np.where(ok, "", "the server answered 404"),
            "vector": vector,
            "cluster": np.append(rng.integers(0, 295, n), -1)[vector],
        }
    )  # fmt: skip
    products = pd.DataFrame(
        {
            "productId": ids,
            "title": [" ".join(rng.choice(WORDS, 9)) for _ in ids],
            "imageUrlStr": urls,
            "price": [f"{price:.2f}" for price in 100 * rng.random(len(ids))],
            "categories": rng.choice(WORDS, len(ids)),
        }
    )
    manifest = {
        "checkpoint": "best.ckpt", "checkpoint_sha256": "0" * 64, "store": "store",
        "reader": "pillow", "id_column": "productId", "title_column": "title",
    }  # fmt: skip
    vectors, centroids = (rng.standard_normal((k, dim), np.float32) for k in (n, 295))
    return Index(images, vectors, centroids, products, manifest)


def written_before(index: Index, folder: Path) -> None:
    """The files of an index as they were before they had digests."""
    folder.mkdir()
    for name in TABLES:
        table = getattr(index, name)
        text = pa.schema([(column, pa.string()) for column in table.columns])
        schema = INDEX_IMAGES if name == "images" else text
        pq.write_table(
            pa.Table.from_pandas(table, schema, preserve_index=False).replace_schema_metadata(None),
            folder / f"{name}.parquet",
        )
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(index, name))
    (folder / "manifest.json").write_text(json.dumps(index.manifest))


def read_before(folder: Path) -> Index:
    """Read them as they were read then: nothing is compared but two numbers."""
    manifest = json.loads((folder / "manifest.json").read_text())
    images = pq.read_table(folder / "images.parquet").to_pandas()
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="r")
    centroids = np.lib.format.open_memmap(folder / "centroids.npy", mode="r")
    assert images["vector"].max() < len(vectors)
    assert images["cluster"].max() < len(centroids)
    products = pq.read_table(folder / "products.parquet").to_pandas()
    return Index(images, vectors, centroids, products, manifest)


def begun(index: Index) -> float:
    """The beginning of a search."""
    n_pairs = len(exact_pairs(without_placeholders(index.images)))
    vectors: npt.NDArray[np.float32] = index.vectors
    sums = [float(vectors[at : at + 8192].sum()) for at in range(0, len(vectors), 8192)]
    return n_pairs + sum(sums)


def timed(work: Callable[[], object]) -> Took:
    """How long some work takes. What it leaves running in other threads counts as CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    took = Took(time.perf_counter() - wall, time.process_time() - cpu)
    if isinstance(found, Index):
        assert len(found.vectors)  # not in the next one's time
    return took


def line(name: str, before: Sequence[Took], after: Sequence[Took]) -> str:
    """One line of the table."""
    cells = [name]
    for took in (before, after):
        cells.append(f"{1000 * statistics.median(one.wall for one in took):.0f}")
    ratios = [two.wall / one.wall for one, two in zip(before, after, strict=True)]
    least = [min(one.wall for one in took) for took in (before, after)]
    cells += [f"{statistics.median(ratios):.2f}", f"{least[1] / least[0]:.2f}"]
    cells.append(
        f"{statistics.median(b.cpu for b in after) / statistics.median(a.cpu for a in before):.2f}"
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=346_927)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--folder", type=Path, help="where the index is made; it stays there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        old, new = folder / "before", folder / "after"
        if not old.is_dir():
            index = made(options.images, options.dim)
            index.save(new)
            written_before(index, old)
            del index
        works: dict[str, Callable[[], object]] = {
            "read before": lambda: read_before(old),
            "load": lambda: Index.load(new),
            "confirmed": lambda: Index.load(new).vectors,
            "begun before": lambda: begun(read_before(old)),
            "begun": lambda: begun(Index.load(new)),
        }
        took: dict[str, list[Took]] = {name: [] for name in works}
        for number in range(options.rounds + 1):
            for name, work in works.items():
                one = timed(work)
                if number:  # the first round fills the cache
                    took[name].append(one)
        size = sum(file.stat().st_size for file in new.iterdir()) / 1e6
    print(f"{options.images:,} x {options.dim}, {size:.0f} MB, {options.rounds} rounds\n")
    print("| | before, ms | now, ms | ratio, median | ratio, least | ratio of CPU time |")
    print("|---|---|---|---|---|---|")
    print(line("load", took["read before"], took["load"]))
    print(line("load, every vector confirmed", took["read before"], took["confirmed"]))
    print(line("load and begin a search", took["begun before"], took["begun"]))


if __name__ == "__main__":
    main()
