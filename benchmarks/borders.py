"""Does the search lose a pair across the borders of clusters? Compares it with brute force.

    python benchmarks/borders.py --checkpoint runs/train/latest --csv products.csv --benchmark DIR

``DIR`` holds images with known copies: ``products.csv``, ``truth_pairs.csv`` and
``ignore_pairs.csv``. On them the thresholds are set, at which so and so many of all pairs within
the threshold are true. Then the images of both catalogues are searched together, as embeddings
of the autoencoder and as 32 x 32 pixels: brute force by direct differences in float64, the lossless
search, and the search inside clusters alone.

``--out FILE.npz`` keeps embeddings, displacements of edited copies and thresholds, for
``benchmarks/search.py --real FILE.npz``.
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans

from dedup.search.clustering import Clusterer
from dedup.search.embedding import Embed
from dedup.search.radius import RadiusSearch
from dedup.store.decode import decode

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

PRECISIONS = (0.99, 0.9, 0.5, 0.1)
SIDE = 32
HEAD = (
    "| embedding | precision | threshold | clusters | pairs | same as brute force "
    "| share compared | lost inside clusters |\n|---|---|---|---|---|---|---|---|"
)


class Benchmark(NamedTuple):
    """Images with known copies."""

    pixels: Array  # (n, 3, 200, 100) uint8
    truth: Ints  # (p, 2) rows, each pair's smaller first
    ignored: Ints  # likewise
    edits: Ints  # (e, 2): an original and its edited copy

    @classmethod
    def read(cls, folder: Path) -> Benchmark:
        """Read what ``make_benchmark.py`` wrote."""
        place = {row["productId"]: i for i, row in enumerate(rows(folder / "products.csv"))}

        def pairs(table: list[dict[str, str]]) -> Ints:
            found = [(place[row["productId_a"]], place[row["productId_b"]]) for row in table]
            return np.array(found, np.int64).reshape(-1, 2)

        truth = rows(folder / "truth_pairs.csv")
        return cls(
            images(folder / "products.csv"),
            np.sort(pairs(truth)),
            np.sort(pairs(rows(folder / "ignore_pairs.csv"))),
            pairs([row for row in truth if row["kind"] == "direct"]),
        )


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images(path: Path) -> Array:
    """The decoded images of a catalogue, (n, 3, 200, 100) uint8."""
    files = [path.parent / row["imageUrlStr"] for row in rows(path)]
    return np.stack([decode(file.read_bytes()).pixels for file in files])


def embedded(pixels: Array, checkpoint: Path) -> dict[str, Vectors]:
    """The two embeddings of images, (n, d) each, by name."""
    embed = Embed(checkpoint)
    return {"autoencoder": embed({"pixels": pixels})["embedding"], "pixels": small(pixels)}


def small(pixels: Array) -> Vectors:
    """Images as 32 x 32 averages of their areas, (n, 3072), from 0 to 1."""
    n, channels, height, width = pixels.shape
    down, across = area_weights(height), area_weights(width)
    averages = [down @ image.astype(np.float64) @ across.T / 255 for image in pixels]
    return np.array(averages, np.float32).reshape(n, channels * SIDE**2)


def area_weights(size: int) -> Floats:
    """What share of each output pixel every input pixel covers, (32, size); rows add up to 1."""
    edges = np.linspace(0, size, SIDE + 1)
    covered = np.clip(edges[:, None] - np.arange(size), 0, 1)
    weights: Floats = np.diff(covered, axis=0) * SIDE / size
    return weights


def condensed(pairs: Ints, n: int) -> Ints:
    """Places of pairs, (p, 2) with the smaller first, among the n (n - 1) / 2 of ``pdist``."""
    i, j = pairs.T
    places: Ints = i * (2 * n - i - 3) // 2 + j - 1
    return places


def thresholds(vectors: Vectors, benchmark: Benchmark) -> list[float]:
    """The largest thresholds at the precisions, a hair above the distance of the last pair."""
    n = len(vectors)
    distance = pdist(vectors.astype(np.float64))
    true, scored = np.zeros(len(distance), bool), np.ones(len(distance), bool)
    true[condensed(benchmark.truth, n)] = True
    scored[condensed(benchmark.ignored, n)] = False
    distance, true = distance[scored], true[scored]
    order = np.argsort(distance)
    distance, true = distance[order], true[order]
    precision = np.cumsum(true) / np.arange(1, len(true) + 1)
    ends = np.append(np.diff(distance) > 0, False)  # equal distances stand or fall together
    found = []
    for wanted in PRECISIONS:
        last = np.flatnonzero((precision >= wanted) & ends)[-1]
        gap = distance[last + 1] - distance[last]
        found.append(float(distance[last] + min(gap / 2, 1e-6 * distance[last])))
    return found


def searched(
    vectors: Vectors, threshold: float, n_clusters: int | None, lossless: bool
) -> tuple[Ints, int, int]:
    """Pairs as places among all, (p,); comparisons; clusters."""
    estimator = partial(KMeans, init="random", n_init=1, max_iter=10, random_state=0)
    labels, centroids = Clusterer(estimator, n_clusters).fit_predict(vectors)
    matcher = RadiusSearch(threshold, lossless=lossless)
    found = matcher.prepare(vectors, labels, centroids).pairs()
    pairs = condensed(np.column_stack([found.left, found.right]), len(vectors))
    return np.sort(pairs), found.comparisons, len(centroids)


def line(
    name: str, distance: Floats, vectors: Vectors, setting: tuple[float, float, int | None]
) -> str:
    """One line of the table; a setting is a precision, its threshold and a number of clusters."""
    precision, threshold, n_clusters = setting
    truth = np.flatnonzero(distance <= threshold)
    found, compared, k = searched(vectors, threshold, n_clusters, lossless=True)
    inside, _, _ = searched(vectors, threshold, n_clusters, lossless=False)
    equal = "yes" if np.array_equal(found, truth) else "**NO**"
    lost = len(np.setdiff1d(truth, inside))
    return (
        f"| {name} | {precision:.2f} | {threshold:.4g} | {k} | {len(truth):,} | {equal} "
        f"| {compared / len(distance):.1%} | {lost:,} ({lost / max(len(truth), 1):.1%}) |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--benchmark", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    benchmark = Benchmark.read(options.benchmark)
    shop = embedded(images(options.csv), options.checkpoint)
    known = embedded(benchmark.pixels, options.checkpoint)
    kept: dict[str, Any] = {"precisions": np.array(PRECISIONS)}
    n_shop, n_known = len(shop["pixels"]), len(benchmark.pixels)
    print(f"{n_shop:,} images and {n_known:,} with {len(benchmark.truth):,} true pairs\n\n{HEAD}")
    for name, vectors in shop.items():
        limits = thresholds(known[name], benchmark)
        original, copy = known[name][benchmark.edits.T]
        kept |= {f"{name}_vectors": vectors, f"{name}_edits": copy - original}
        kept |= {f"{name}_thresholds": np.array(limits)}
        both = np.concatenate([vectors, known[name]])
        distance = pdist(both.astype(np.float64))
        for precision, limit in zip(PRECISIONS, limits, strict=True):
            for n_clusters in (None, 200):
                setting = (precision, limit, n_clusters)
                print(line(name, distance, both, setting), flush=True)
    if options.out:
        np.savez(options.out, **kept)


if __name__ == "__main__":
    main()
