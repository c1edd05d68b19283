"""Time and memory of a plan of many groups, and of the difference of two runs with many pairs.

    python benchmarks/actions.py

Two detect runs are written to disk as ``detect.py`` writes them: an index's tables, pairs, groups
and candidates. Each figure is of a process of its own, from the folders on disk to the files of
the report.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from dedup.actions.decisions import read_decisions
from dedup.actions.diff import difference
from dedup.actions.diff_report import write_difference
from dedup.actions.plan import Planner
from dedup.actions.plan_report import write_plan
from dedup.actions.runs import read_detect_run
from dedup.detection.results import DetectionResult
from dedup.schemas import FAMILIES, GROUPS, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.index import Index
from dedup.search.state import SearchFacts

FACTS = SearchFacts(
    asked="auto", threshold=0.7, looked=True, lossless=True, n_images=2, n_comparisons=1,
    share=1.0, n_near_pairs=1, missed=0, missed_share=0, checkpoint_sha256="0" * 64,
)  # fmt: skip


def main() -> None:
    """Print a line for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=100_000, help="groups to plan")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="pairs of each run to compare")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawn runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_own_process(draw_plan, folder, options.groups, options.seed)
        print(in_own_process(plan, folder, options.groups, options.seed), flush=True)
        in_own_process(draw_runs, folder, options.pairs, options.seed)
        print(in_own_process(diff, folder, options.pairs, options.seed), flush=True)


def in_own_process(work: Callable[[Path, int, int], str], *arguments: object) -> str:
    """Call a function in a fresh process, so that its peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (work, *arguments))


def measured(work: Callable[[Path, int, int], str], *arguments: object) -> str:
    """Add the seconds and the peak of memory to what a function says."""
    started = time.monotonic()
    text = work(*arguments)  # type: ignore[arg-type]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = time.monotonic() - started
    cpu = usage.ru_utime + usage.ru_stime  # other programs may hold the processor meanwhile
    return f"{text}: {seconds:.1f} s ({cpu:.1f} s of CPU), {usage.ru_maxrss / 2**20:.2f} GiB"


def digests(numbers: np.ndarray) -> list[str]:
    """Digests of images, told apart by their numbers."""
    return [f"{number:064x}" for number in numbers.tolist()]


def save_run(
    folder: Path, products: pd.DataFrame, image: np.ndarray, pairs: pd.DataFrame,
    groups: pd.DataFrame, candidates: pd.DataFrame, shared: pd.DataFrame,
) -> None:  # fmt: skip
    """Write an index and a result.

    Args:
        folder: folder of the runs ``index`` and ``detect``.
        products: the user's table; ``id`` is the product.
        image: number of each product's image.
        pairs: schema ``PAIRS``.
        groups: schema ``GROUPS``.
        candidates: schema ``PAIRS``.
        shared: schema ``SHARED``.
    """
    n = len(products)
    texts = digests(image)
    _, vector = np.unique(image, return_inverse=True)
    images = pd.DataFrame(
        {
            "record": np.arange(n), "product_id": products["id"], "url": urls(products["id"]),
            "sha256_bytes": texts, "sha256_pixels": texts, "width": 500, "height": 500,
            "contrast": 50.0, "status": "ok", "reason": "", "detail": "", "vector": vector,
            "cluster": 0,
        }
    )[INDEX_IMAGES.names]  # fmt: skip
    manifest = {
        "checkpoint": "e.ckpt", "checkpoint_sha256": "0" * 64, "store": "store",
        "reader": "pillow", "id_column": "id", "title_column": "title", "url_column": "image_link",
    }  # fmt: skip
    vectors = np.zeros((int(vector.max()) + 1, 1), np.float32)
    Index(images, vectors, np.zeros((1, 1), np.float32), products, manifest).save(folder / "index")
    families = pd.DataFrame(columns=FAMILIES.names)
    result = DetectionResult(pairs, groups, shared, FACTS, candidates=candidates, families=families)
    result.save(folder / "detect", folder / "index")


def urls(ids: pd.Series) -> list[str]:
    """Addresses of the products' images."""
    return [f"https://images.example/{key}.jpg" for key in ids]


def pairs_of(a: np.ndarray, b: np.ndarray, tier: np.ndarray, score: np.ndarray) -> pd.DataFrame:
    """Pairs in the schema ``PAIRS``, sorted, of ids as texts with a < b."""
    table = pd.DataFrame({"product_id_a": a, "product_id_b": b, "tier": tier, "score": score})
    table = table.drop_duplicates(["product_id_a", "product_id_b"])
    table = table.sort_values(["product_id_a", "product_id_b"]).reset_index(drop=True)
    is_near = table["tier"] == "near"
    return table.assign(
        distance=np.where(is_near, 0.5, 0.0), image_a=urls(table["product_id_a"]),
        image_b=urls(table["product_id_b"]), evidence="", relation="same image",
        score=np.where(is_near, table["score"], 1.0),
    )[PAIRS.names]  # fmt: skip


def ids_of(numbers: np.ndarray) -> np.ndarray:
    """Ids that sort as their numbers do."""
    return np.array([f"P{number:08}" for number in numbers.tolist()], object)


def draw_plan(folder: Path, n_groups: int, seed: int) -> str:
    """Write a run with groups of two to four products, and decisions on a third of them."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 5, n_groups)
    group = np.repeat(np.arange(n_groups), sizes)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    number = np.arange(len(group))
    ids = ids_of(number)
    is_decided = rng.random(n_groups) < 1 / 3
    brand = np.where(rng.random(len(ids)) < 0.02, "Umbra", "Acme").astype(object)
    products = pd.DataFrame(
        {
            "id": ids, "title": [f"Title of {key}" for key in ids], "brand": brand,
            "price": [f"{10 + value:.2f} EUR" for value in (group % 50).tolist()],
            "size": "M", "gtin": "", "tags": [f"t{value}" for value in (number % 7).tolist()],
            "link": [f"https://shop.example/products/{key}" for key in ids],
            "image_link": urls(pd.Series(ids)),
        }
    ).astype(str)  # fmt: skip
    members = number[number != first]
    tier = np.where(is_decided[group[members]], "near", "same_pixels")
    pairs = pairs_of(ids[first[members]], ids[members], tier, np.full(len(members), 0.99))
    groups = pd.DataFrame({"product_id": ids, "group_id": ids[first], "kept": number == first})
    empty, shared = pairs.iloc[:0], pd.DataFrame(columns=SHARED.names)
    save_run(folder / "plan", products, group, pairs, groups[GROUPS.names], empty, shared)
    near = pairs[pairs["tier"] == "near"]
    lines = (
        json.dumps({"left_id": a, "right_id": b, "verdict": "duplicate", "kept_id": None,
                    "made_at": "2026-11-01T00:00:00Z", "undoes": None})
        for a, b in zip(near["product_id_a"], near["product_id_b"], strict=True)
    )  # fmt: skip
    (folder / "decisions.jsonl").write_text("\n".join(lines) + "\n")
    return "drawn"


def plan(folder: Path, n_groups: int, seed: int) -> str:
    """Plan all groups, with redirects for all shops and what kept products gain."""
    planner = Planner(
        folder / "decisions.jsonl", ["same_pixels"], columns=["union:tags"], url_column="link"
    )
    made = planner(read_detect_run(folder / "plan" / "detect"))
    out = folder / "out"
    out.mkdir()
    write_plan(made, {}, out)
    return f"plan of {n_groups:,} groups ({made.sentence()})"


def draw_runs(folder: Path, n_pairs: int, seed: int) -> str:
    """Write two runs: products came and left, images changed, and scores and tiers did."""
    rng = np.random.default_rng(seed)
    n = n_pairs // 2
    a = rng.integers(0, n, 2 * n_pairs)
    b = a + rng.integers(1, 40, 2 * n_pairs)
    _, chosen = np.unique(a * 64 + b - a, return_index=True)
    a, b = a[chosen], b[chosen]
    tier = np.where(rng.random(len(a)) < 0.3, "same_pixels", "near")
    score = np.round(rng.uniform(0.8, 1, len(a)), 6)
    number = np.arange(n + 40)
    for name, absent, threshold in (("old", 0, 0.9), ("new", 1, 0.91)):
        is_here = number % 20 != absent
        ids = ids_of(number)
        image = np.where((number % 15 == 3) & (name == "new"), number + 10 * n, number)
        is_pair = is_here[a] & is_here[b]
        flips = (a % 50 == 7) & (name == "new")
        table = pairs_of(
            ids[a[is_pair]], ids[b[is_pair]], np.where(flips, "same_pixels", tier)[is_pair],
            score[is_pair],
        )  # fmt: skip
        reported = table[table["score"] >= threshold].reset_index(drop=True)
        below = table[table["score"] < threshold].reset_index(drop=True)
        first = reported.drop_duplicates("product_id_b")
        home = dict(zip(first["product_id_b"], first["product_id_a"], strict=True))
        roots = first[~first["product_id_a"].isin(home)]
        groups = pd.concat(
            [
                pd.DataFrame({"product_id": roots["product_id_a"].unique()}).assign(
                    group_id=lambda rows: rows["product_id"], kept=True
                ),
                pd.DataFrame(
                    {
                        "product_id": roots["product_id_b"],
                        "group_id": roots["product_id_a"],
                        "kept": False,
                    }
                ),
            ]
        ).sort_values(["group_id", "product_id"])
        products = pd.DataFrame({"id": ids[is_here], "title": "", "image_link": ""}).astype(str)
        shared = pd.DataFrame(columns=SHARED.names)
        save_run(folder / name, products, image[is_here], reported, groups[GROUPS.names], below,
                 shared)  # fmt: skip
    return "drawn"


def diff(folder: Path, n_pairs: int, seed: int) -> str:
    """Compare both runs, and write all files."""
    runs = [read_detect_run(folder / name / "detect") for name in ("old", "new")]
    found = difference(runs[0], runs[1], read_decisions(None))
    out = folder / "diff"
    out.mkdir()
    write_difference(found, out)
    return f"difference of {found.n_old:,} and {found.n_new:,} pairs ({found.counts()})"


if __name__ == "__main__":
    main()
