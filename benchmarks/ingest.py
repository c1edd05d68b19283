"""How fast do web addresses become images in a store? Side by side with img2dataset.

    python benchmarks/ingest.py IMAGES --img2dataset VENV/bin/img2dataset

Serves the images of a folder from memory by a process of its own, under as many addresses as are
asked for. Each tool is a whole process, from the list of addresses to files on disk; the pairs are
interleaved. img2dataset makes one JPEG of at most 320 pixels of each image; this project makes
the same JPEG, and 200 x 100 pixels besides, and three digests. Its limits, guards, child processes
for decoding and fsync are switched on, as they are by default.

img2dataset pins older packages, so it lives in a virtual environment of its own:
``python -m venv VENV && VENV/bin/pip install img2dataset``.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from serving import serving

from dedup.runtime.tables import write_rows

INGEST = """
import logging, sys
from pathlib import Path
from dedup.download.client import Fetcher
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore

table, folder = map(Path, sys.argv[1:])
store = ImageStore(folder, fetcher=Fetcher(allow_networks=["127.0.0.0/8"]))
images = store.ingest(CsvSource(str(table)).read(), table.parent)
print((images["status"] == "ok").sum())
"""


class Run(NamedTuple):
    """One tool on all addresses: seconds, its own CPU seconds, images that were read."""

    wall: float
    cpu: float
    ok: int


def timed(command: list[str], count: Callable[[str], int]) -> Run:
    """Run a command to its end."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(wall, cpu, count(done.stdout))


def ours(table: Path, folder: Path) -> Run:
    """This project."""
    return timed([sys.executable, "-c", INGEST, str(table), str(folder)], int)


def theirs(program: str, table: Path, folder: Path, threads: int) -> Run:
    """img2dataset, with the options that make the same JPEG."""
    command = [
        program, "--url_list", str(table), "--input_format", "csv", "--url_col", "imageUrlStr",
        "--output_folder", str(folder), "--output_format", "webdataset", "--image_size", "320",
        "--resize_mode", "keep_ratio_largest", "--resize_only_if_bigger", "True",
        "--encode_quality", "90", "--processes_count", str(os.cpu_count()),
        "--thread_count", str(threads), "--number_sample_per_shard", "1000",
        "--compute_hash", "sha256", "--enable_wandb", "False",
    ]  # fmt: skip

    def count(_: str) -> int:
        stats = [file.read_text() for file in folder.glob("*_stats.json")]
        return sum(int(text.split('"successes":')[1].split(",")[0]) for text in stats)

    return timed(command, count)


def main() -> None:
    """Print a line for each run, and the ratio of each pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("--img2dataset", required=True, help="its program")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=32, help="of each process of img2dataset")
    args = parser.parse_args()
    ratios, cpu_ratios = [], []
    print("| pair | tool | ok | seconds | images/s | CPU ms an image | ratio |")
    print("|---|---|---|---|---|---|---|")
    with serving(args.images) as address, tempfile.TemporaryDirectory() as name:
        table = Path(name) / "products.csv"
        rows = ((f"P{n}", "", f"{address}/{n}.jpg") for n in range(args.n))
        write_rows(("productId", "title", "imageUrlStr"), rows, table)
        for pair in range(args.pairs):
            runs: dict[str, Run] = {}
            for tool in ["ours", "img2dataset"][:: 1 if pair % 2 else -1]:
                folder = Path(name) / tool
                runs[tool] = (
                    ours(table, folder)
                    if tool == "ours"
                    else theirs(args.img2dataset, table, folder, args.threads)
                )
                shutil.rmtree(folder)
            ratios.append(runs["img2dataset"].wall / runs["ours"].wall)
            cpu_ratios.append(runs["img2dataset"].cpu / runs["ours"].cpu)
            for tool, run in sorted(runs.items()):
                ratio = f"{ratios[-1]:.2f}" if tool == "ours" else ""
                print(
                    f"| {pair + 1} | {tool} | {run.ok:,} | {run.wall:.1f} | "
                    f"{args.n / run.wall:.0f} | {1000 * run.cpu / args.n:.2f} | {ratio} |",
                    flush=True,
                )
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}")
    middle, lowest = statistics.median(cpu_ratios), min(cpu_ratios)
    print(f"of CPU: median ratio {middle:.2f}, lowest {lowest:.2f}")


if __name__ == "__main__":
    main()
