"""How fast are all pairs within a threshold found, and are they all? The search against its peers.

    python benchmarks/borders.py ... --out real.npz
    python benchmarks/search.py [--real real.npz] [--sizes 50000,200000,346927] [--scratch DIR]
    python benchmarks/search.py [--real real.npz] --big [--big-sizes 1000000,10000000]

The catalogues are (a) clusters with planted copies and (b), with ``--real``, real embeddings
jittered to the size, at the thresholds of precision .99 and .90. Each method runs in a process of
its own, on the same number of threads, warm, with the vectors mapped from one file; its seconds
hold all that it does from those vectors to the pairs. Where it would take too long, a random sample
of the queries is run and the time of searching scaled, marked ``~`` (4,096 for Flat: with 512 it
takes twice as long a query). Pairs are compared with ours. Peers decide in float32: where they
differ within 0.1 % of the threshold they are excused. Peak memory is the process's, and of it what
is not pages of mapped files.

``--big`` runs ours alone, on vectors that are really read from disk, beside a sample of Flat; then
1,000 queries, one at a time, against as many vectors as the first size.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from catalogues import Catalogue, clustered, forget, kinds

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Spec = dict[str, Any]
"""What a process is asked: method, vectors, threshold, threads and what else the method needs."""
Answer = dict[str, Any]

FLAT_ALL, FLAT_QUERIES = 60_000, 4_096
IVF_ALL, IVF_QUERIES = 200_000, 16_384
SKLEARN_QUERIES = 2_048
N_SINGLE = 1_000
FLAT_BLOCK = 1_000_000
WARM_UP = 2_000
EXCUSED = 1e-3
"""Of the threshold: what float32 may decide otherwise."""
HEAD = (
    "| data | n | method | seconds | x Flat | pairs | recall | peak MiB (own) | share of N² |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
SINGLE_HEAD = (
    "| data | n | p50 ms | p99 ms | copies found | seconds before |\n|---|---|---|---|---|---|"
)


class Measure:
    """Seconds by part and peak memory of a method, up to the last call that names a part.

    Attributes:
        seconds: by part; a part may come more than once.
        peak: MiB of the process.
        own: MiB of it that are not pages of files, sampled.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak = self.own = self.sampled = 0
        self.last = time.perf_counter()

    def watch(self) -> Measure:
        """Sample memory until the end of the process."""
        threading.Thread(target=self._sample, daemon=True).start()
        return self

    def __call__(self, part: str = "") -> None:
        """What was done since the last call is this part, or none that counts."""
        now = time.perf_counter()
        if part:
            self.seconds[part] = self.seconds.get(part, 0.0) + now - self.last
            self.peak = mebibytes("VmHWM")
            self.own = max(self.sampled, mebibytes("RssAnon"))
        self.last = time.perf_counter()

    def _sample(self) -> None:
        while True:
            self.sampled = max(self.sampled, mebibytes("RssAnon"))
            time.sleep(0.05)


def mebibytes(name: str) -> int:
    """A figure of /proc/self/status: unlike ``getrusage``, this process's alone."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{name}:")[1].split()[0]) // 1024


def prepared(vectors: Array, threshold: float, clock: Measure) -> Any:
    """Vectors that our search can be asked about."""
    from sklearn.cluster import KMeans

    from dedup.search.clustering import Clusterer
    from dedup.search.radius import RadiusSearch

    estimator = partial(KMeans, init="random", n_init=1, max_iter=10, random_state=0)
    labels, centroids = Clusterer(estimator).fit_predict(vectors)
    clock("cluster")
    ready = RadiusSearch(threshold).prepare(vectors, labels, centroids)
    clock("prepare")
    return ready


def ours(vectors: Array, queries: Ints, spec: Spec, clock: Measure) -> tuple[Ints, Answer]:
    """The lossless search, clustering included; all rows are its queries."""
    found = prepared(vectors, spec["threshold"], clock).pairs()
    clock("pairs")
    return found.left * len(vectors) + found.right, {"comparisons": found.comparisons}


def flat(vectors: Array, queries: Ints, spec: Spec, clock: Measure) -> tuple[Ints, Answer]:
    """FAISS IndexFlatL2, a million rows at a time, so that it holds a copy of so many."""
    faiss = loaded_faiss(spec)
    asked, parts = vectors[queries], []
    for start in range(0, len(vectors), FLAT_BLOCK):
        index = faiss.IndexFlatL2(vectors.shape[1])
        index.add(vectors[start : start + FLAT_BLOCK])
        clock("add")
        limits, _, near = index.range_search(asked, spec["threshold"] ** 2)
        clock("search")
        parts.append(keys(queries, np.diff(limits.astype(np.int64)), near + start, len(vectors)))
        clock()
    return np.concatenate(parts), {}


def ivf(vectors: Array, queries: Ints, spec: Spec, clock: Measure) -> tuple[Ints, Answer]:
    """FAISS IndexIVFFlat with sqrt(n) lists, trained on the sample that FAISS takes."""
    faiss = loaded_faiss(spec)
    dimension = vectors.shape[1]
    quantizer = faiss.IndexFlatL2(dimension)
    index = faiss.IndexIVFFlat(quantizer, dimension, round(math.sqrt(len(vectors))))
    index.train(vectors)
    clock("train")
    index.add(vectors)
    clock("add")
    index.nprobe = spec["nprobe"]
    limits, _, near = index.range_search(vectors[queries], spec["threshold"] ** 2)
    clock("search")
    return keys(queries, np.diff(limits.astype(np.int64)), near, len(vectors)), {}


def sklearn(vectors: Array, queries: Ints, spec: Spec, clock: Measure) -> tuple[Ints, Answer]:
    """scikit-learn's brute-force radius neighbours."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(algorithm="brute", radius=spec["threshold"], n_jobs=spec["threads"])
    index.fit(vectors)
    clock("fit")
    near = index.radius_neighbors(vectors[queries], return_distance=False)
    clock("search")
    counts = np.array([len(row) for row in near])
    return keys(queries, counts, np.concatenate(near), len(vectors)), {}


METHODS = {"ours": ours, "flat": flat, "ivf": ivf, "sklearn": sklearn}


def loaded_faiss(spec: Spec) -> Any:
    """FAISS on the number of threads that is asked for; it brings no types."""
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(spec["threads"])
    return faiss


def keys(queries: Ints, counts: Ints, near: Ints, n: int) -> Ints:
    """Pairs as numbers, smaller row x n + larger row, each once, no row with itself."""
    asked = np.repeat(queries, counts)
    low, high = np.minimum(asked, near), np.maximum(asked, near)
    return np.unique((low * n + high)[low < high])


def measured(spec: Spec) -> Answer:
    """Run a method and compare its pairs with ours, which come first and are kept in a file."""
    method = METHODS[spec["method"]]
    vectors = np.load(spec["vectors"], mmap_mode="r")
    n = len(vectors)
    method(vectors[:WARM_UP], np.arange(min(n, 256)), spec, Measure())
    queries = np.arange(n)
    if n > spec["n_queries"]:
        chosen = np.random.default_rng(1).choice(n, spec["n_queries"], replace=False)
        queries = np.sort(chosen)
    clock = Measure().watch()
    found, more = method(vectors, queries, spec, clock)
    parts = clock.seconds
    if "search" in parts:
        parts["search"] *= n / len(queries)
    if spec["method"] == "ours":
        np.save(spec["found"], found)
    elif Path(spec["found"]).exists():
        more = compared(vectors, queries, found, spec)
    answer = {"n_queries": len(queries), "parts": parts, "seconds": sum(parts.values())}
    return {**answer, "pairs": len(found), "peak": clock.peak, "own": clock.own, **more}


def compared(vectors: Array, queries: Ints, found: Ints, spec: Spec) -> Answer:
    """How many of our pairs of these queries a method lacks, and which it alone has."""
    n = len(vectors)
    truth = np.load(spec["found"])
    asked = np.zeros(n, bool)
    asked[queries] = True
    truth = truth[asked[truth // n] | asked[truth % n]]
    lacking, alone = np.setdiff1d(truth, found), np.setdiff1d(found, truth)
    n_excused = excused(vectors, np.concatenate([lacking, alone]), spec["threshold"])
    return {
        "recall": 1 - len(lacking) / max(len(truth), 1),
        "excused": n_excused,
        "wrong": len(lacking) + len(alone) - n_excused,
    }


def excused(vectors: Array, pairs: Ints, threshold: float) -> int:
    """How many pairs lie so close to the threshold that float32 cannot tell."""
    count = 0
    for start in range(0, len(pairs), 4096):
        left, right = np.divmod(pairs[start : start + 4096], len(vectors))
        off = abs(l2(vectors[left], vectors[right]) - threshold)
        count += int((off <= EXCUSED * threshold).sum())
    return count


def l2(a: Array, b: Array) -> Array:
    """Distances of rows in float64."""
    distance: Array = np.linalg.norm(a.astype(np.float64) - b, axis=1)
    return distance


def latency(spec: Spec) -> Answer:
    """Milliseconds of queries, one at a time; the first of them warm up and are asked twice."""
    vectors = np.load(spec["vectors"], mmap_mode="r")
    with np.load(spec["queries"]) as file:
        queries, source = file["queries"], file["source"]
    prepared(vectors[:WARM_UP], spec["threshold"], Measure())
    clock = Measure()
    ready = prepared(vectors, spec["threshold"], clock)
    for one in range(min(50, len(queries))):
        ready.search(queries[one : one + 1])
    clock("first 50 queries")
    near = (source >= 0) & (l2(vectors[source], queries) <= spec["threshold"])
    times, n_found = [], 0
    for one in range(len(queries)):
        start = time.perf_counter()
        found = ready.search(queries[one : one + 1])
        times.append(1000 * (time.perf_counter() - start))
        n_found += int(near[one] and source[one] in found.right)
    p50, p99 = np.percentile(times, [50, 99])
    return {"parts": clock.seconds, "p50": p50, "p99": p99, "copies": f"{n_found} of {near.sum()}"}


def ask(spec: Spec) -> Answer:
    """Run a method in a process of its own; its answer, or how it ended."""
    command = [sys.executable, str(Path(__file__).resolve()), "--answer", json.dumps(spec)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(spec["threads"])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return {"failed": last or f"exit status {done.returncode}"}
    result: Answer = json.loads(done.stdout.strip().rpartition("\n")[2])
    return result


def questions(n: int, big: bool) -> Iterator[tuple[str, Spec]]:
    """The methods, with their names, ours first and Flat second."""
    yield "ours", {"method": "ours", "n_queries": n}
    few = n if n <= FLAT_ALL else FLAT_QUERIES
    yield "FAISS Flat", {"method": "flat", "n_queries": few}
    for nprobe in () if big else (1, 16):
        some = n if n <= IVF_ALL else IVF_QUERIES
        yield f"FAISS IVF, nprobe {nprobe}", {"method": "ivf", "nprobe": nprobe, "n_queries": some}
    if not big:
        yield "scikit-learn", {"method": "sklearn", "n_queries": SKLEARN_QUERIES}


def row(name: str, n: int, method: str, result: Answer, flat_seconds: float) -> str:
    """One line of the table."""
    if "failed" in result:
        return f"| {name} | {n:,} | {method} | failed: {result['failed']} | | | | | |"
    sampled = result["n_queries"] < n
    seconds = f"{'~' if sampled else ''}{result['seconds']:.2f} ({spelt(result['parts'])})"
    pairs = f"{result['pairs']:,}" + (f" of {result['n_queries']:,} queries" if sampled else "")
    recall, share = "", ""
    if "recall" in result:
        same = f", {result['wrong']:,} differ" if result["wrong"] else ", same pairs"
        recall = f"{result['recall']:.4f}{same}, {result['excused']} excused"
    if "comparisons" in result:
        share = f"{result['comparisons'] / (n * (n - 1) / 2):.3%}"
    factor = f"{flat_seconds / result['seconds']:.2f}"
    memory = f"{result['peak']:,} ({result['own']:,})"
    cells = [name, f"{n:,}", method, seconds, factor, pairs, recall, memory, share]
    return f"| {' | '.join(cells)} |"


def spelt(parts: dict[str, float]) -> str:
    """Parts and their seconds."""
    return ", ".join(f"{part} {seconds:.2f}" for part, seconds in parts.items())


def table(name: str, path: Path, threshold: float, threads: int, big: bool) -> float:
    """Print a table's lines for one catalogue; our seconds."""
    n = len(np.load(path, mmap_mode="r"))
    found = path.with_name("found.npy")
    spec = {"vectors": str(path), "found": str(found), "threshold": threshold, "threads": threads}
    results = {}
    for method, question in questions(n, big):
        if big:
            forget(path)
        results[method] = ask({**spec, **question})
    flat_seconds = results["FAISS Flat"].get("seconds", math.nan)
    for method, result in results.items():
        print(row(name, n, method, result, flat_seconds), flush=True)
    found.unlink(missing_ok=True)
    return float(results["ours"].get("seconds", math.nan))


def asked_singly(name: str, path: Path, kind: Catalogue, threshold: float, threads: int) -> str:
    """The line of 1,000 queries, one at a time."""
    queries, source = kind.queries(np.load(path, mmap_mode="r"), N_SINGLE)
    file = path.with_name("queries.npz")
    np.savez(file, queries=queries, source=source)
    spec = {"method": "latency", "vectors": str(path), "queries": str(file)}
    result = ask({**spec, "threshold": threshold, "threads": threads})
    if "failed" in result:
        return f"| {name} | {kind.n:,} | failed: {result['failed']} | | | |"
    cells = [name, f"{kind.n:,}", f"{result['p50']:.2f}", f"{result['p99']:.2f}"]
    return f"| {' | '.join(cells)} | {result['copies']} | {spelt(result['parts'])} |"


def compare(options: argparse.Namespace, scratch: Path) -> None:
    """All methods on all catalogues, at the usual sizes."""
    print(HEAD)
    for name, make, thresholds in kinds(options.real):
        for n in options.sizes:
            path = make(n).write(scratch / "vectors.npy")
            for limit, threshold in thresholds.items():
                table(f"{name}, {limit}", path, threshold, options.threads, big=False)


def compare_big(options: argparse.Namespace, scratch: Path) -> None:
    """Ours beside Flat at large sizes, then single queries."""
    print(HEAD)
    path, seconds = scratch / "vectors.npy", []
    for n in options.big_sizes:
        clustered(n).write(path)
        seconds.append(table("(a) clusters, t 1", path, 1.0, options.threads, big=True))
    for (n, took), (more, took_more) in pairwise(zip(options.big_sizes, seconds, strict=True)):
        print(f"\n{more / n:.3g} x the rows take {took_more / took:.3g} x the seconds")
    print(f"\n{SINGLE_HEAD}")
    for name, make, thresholds in kinds(options.real):
        kind = make(options.big_sizes[0])
        kind.write(path)
        for limit, threshold in thresholds.items():
            line = asked_singly(f"{name}, {limit}", path, kind, threshold, options.threads)
            print(line, flush=True)


def main() -> None:
    """Print the tables."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path)
    parser.add_argument("--sizes", type=numbers, default=[50_000, 200_000, 346_927])
    parser.add_argument("--big", action="store_true")
    parser.add_argument("--big-sizes", type=numbers, default=[1_000_000, 10_000_000])
    parser.add_argument("--scratch", type=Path, help="a folder with room for the vectors")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--answer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        spec: Spec = json.loads(options.answer)
        print(json.dumps((latency if spec["method"] == "latency" else measured)(spec)))
        return
    packages = ("numpy", "faiss-cpu", "scikit-learn")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    print(f"{options.threads} threads, {versions}\n")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        (compare_big if options.big else compare)(options, Path(folder))


if __name__ == "__main__":
    main()
