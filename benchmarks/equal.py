"""Whether the reports are the same byte for byte, whatever threads, batches and orders of rows.

Each row is a run of detect.py from the images on: it embeds, clusters, searches and reports.

    python benchmarks/equal.py --products 400 --threads 1 2 4 --csv products.csv
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from dedup.sources.sample import draw_catalogue

ROOT = Path(__file__).parents[1]
REPORTS = ("duplicates.csv", "duplicates.json", "report.html")
SETTINGS = {
    "encoder=bundled": ["encoder=bundled"],
    "encoder=bundled verifier=none matcher.threshold=0.5": [
        "encoder=bundled", "verifier=none", "matcher.threshold=0.5",
    ],
}  # fmt: skip


def shuffled(table: Path, n: int, seed: int, target: Path) -> Path:
    """The first records of a CSV in another order."""
    with table.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    rows = rows[:n]
    random.Random(seed).shuffle(rows)
    with target.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return target


def reports(
    table: Path, images: Path, work: Path, settings: list[str], threads: int, batch: int, cbwr: str
) -> str:
    """The digest of each report of one run, 12 hex digits each."""
    before = set(work.glob("runs/detect/*"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    if cbwr:
        environment["MKL_CBWR"] = cbwr
    subprocess.run(
        [sys.executable, str(ROOT / "detect.py"), *settings, f"source.path={table}",
         f"source.images_dir={images}", f"data.batch_size={batch}"],
        cwd=work, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip
    latest = work / "runs" / "detect" / "latest"
    (folder,) = set(work.glob("runs/detect/*")) - before - {latest}
    return " ".join(hashlib.sha256((folder / it).read_bytes()).hexdigest()[:12] for it in REPORTS)


def main() -> None:
    """Print a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=400)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batches", type=int, nargs="+", default=[7, 128])
    parser.add_argument("--pairs", nargs="+", help="threads:batch, instead of every combination")
    parser.add_argument("--cbwr", default="", help="MKL_CBWR of these runs")
    parser.add_argument("--csv", type=Path, help="a catalogue; a drawn one without")
    args = parser.parse_args()
    print(f"| settings | threads | batch size | rows | {' | '.join(REPORTS)} |\n{'|---' * 7}|")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        table = args.csv.resolve() if args.csv else work / "sample" / "products.csv"
        if args.csv is None:
            table.parent.mkdir()
            draw_catalogue(table.parent, args.products, 0)
        seen: dict[str, set[str]] = {name: set() for name in SETTINGS}
        every = [(t, b) for t in args.threads for b in args.batches]
        if args.pairs:
            every = [(int(t), int(b)) for t, b in (pair.split(":") for pair in args.pairs)]
        for seed, (threads, batch) in enumerate(every):
            rows = shuffled(table, args.products, seed, work / f"rows-{seed}.csv")
            for name, settings in SETTINGS.items():
                found = reports(rows, table.parent, work, settings, threads, batch, args.cbwr)
                seen[name].add(found)
                print(f"| {name} | {threads} | {batch} | shuffled | {found.replace(' ', ' | ')} |",
                      flush=True)  # fmt: skip
    print(f"\ndifferent reports: {', '.join(str(len(each)) for each in seen.values())}")


if __name__ == "__main__":
    main()
