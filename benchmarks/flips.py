"""Is any changed byte of an index, a search or a run's results noticed?

    python benchmarks/flips.py --products 2000 --flips 1000

Makes an index, searches it and writes what ``detect.py`` writes. Then a byte of one file becomes
another, at a random place, again and again and in one file after the other. Of an index and a
search it must be noticed by what ``detect.py`` does with them; of a run's folder by
``python -m dedup check run=``, with the file's name and no other.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from loading import made

from dedup.detection.detector import Detector
from dedup.detection.grouping import Grouping
from dedup.detection.integrity import inspect_run
from dedup.errors import CorruptError
from dedup.reports.csv import CsvReport
from dedup.reports.json import JsonReport
from dedup.runtime.files import write_json
from dedup.runtime.run_record import write_run
from dedup.runtime.tables import write_table
from dedup.schemas import GROUPS, PAIRS
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState

THRESHOLD = 1.0


def prepare(folder: Path, n_products: int) -> None:
    """An index, a search of it, and a run's folder with results."""
    index = made(n_products, 64)
    noise = np.random.default_rng(1).normal(size=index.vectors[1::4].shape)
    index.vectors[1::4] = index.vectors[::4][: len(noise)] + noise.astype(np.float32) / 20
    findings, search = Detector(RadiusSearch(THRESHOLD), Grouping())(index)
    index.save(folder / "index")
    for name in ("search", "run"):
        (folder / name).mkdir()
    search.save(folder / "search")
    run = folder / "run"
    write_table(findings.pairs, PAIRS, run / "pairs.parquet")
    write_table(findings.groups, GROUPS, run / "groups.parquet")
    write_json({"threshold": THRESHOLD}, run / "calibration.json")
    for report in (JsonReport(), CsvReport()):
        report.write(findings, index, run)
    write_run({"version": "0", "metric": None}, run)


def flip(file: Path, chance: random.Random) -> None:
    """Make one byte of a file another."""
    data = bytearray(file.read_bytes())
    at = chance.randrange(len(data))
    data[at] = (data[at] + chance.randrange(1, 256)) % 256
    file.write_bytes(data)


def found_by_detect(file: Path) -> bool:
    """Whether reading what a file belongs to ends with its name."""
    try:
        if file.parent.name == "index":
            assert len(Index.load(file.parent).vectors)
        else:
            SearchState.load(file.parent)
    except CorruptError as error:
        return str(error).startswith(str(file))
    return False


def found_by_verify(file: Path) -> bool:
    """Whether this file, and no other, is called damaged."""
    return [damage.file for damage in inspect_run(file.parent)] == [file.name]


def flipped(
    files: list[Path], n_flips: int, found: Callable[[Path], bool], seed: int
) -> tuple[Counter[Path], Counter[Path]]:
    """How often each file was changed, and how often that was noticed."""
    chance, done, noticed = random.Random(seed), Counter[Path](), Counter[Path]()
    for number in range(n_flips):
        file = files[number % len(files)]
        before = file.read_bytes()
        flip(file, chance)
        done[file] += 1
        noticed[file] += found(file)
        file.write_bytes(before)
    return done, noticed


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, options.products)
        for names, found in ((("index", "search"), found_by_detect), (("run",), found_by_verify)):
            files = [file for name in names for file in sorted((folder / name).iterdir())]
            done, noticed = flipped(files, options.flips, found, options.seed)
            print("| file | bytes | flips | noticed |\n|---|---|---|---|")
            for file in files:
                cells = [f"{file.stat().st_size:,}", str(done[file]), str(noticed[file])]
                print(f"| {file.parent.name}/{file.name} | {' | '.join(cells)} |")
            print(f"| all | | {done.total():,} | {noticed.total():,} |\n")
        assert not any(inspect_run(folder / "run"))
        assert len(Index.load(folder / "index").vectors) == options.products
        SearchState.load(folder / "search")


if __name__ == "__main__":
    main()
