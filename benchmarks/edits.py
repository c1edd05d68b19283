"""Which edits does a report find, at which strength?

    python benchmarks/edits.py IMAGES --true-dups true_duplicates.csv [--held-out source_ids.csv]

Two benchmarks of n originals, ``wide`` of photos and ``white`` of their packshots: each edit of
``dedup.augmentations`` at strengths .33, .66 and 1 makes ``--least`` copies or more, and every
other original has a variant in another colour, which is no copy. ``detect.py encoder=bundled``
searches them, with an automatic threshold. The first table has the figures of ``quality.py``; the
second the recall at that threshold by edit and strength, the edits first whose middle strength is
found least, and the average precision (AP) of an edit's copies, ranked with all pairs that are
none. ``--held-out`` takes only images that ``scripts/fit_classifier.py`` is not fitted on.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gallery
import labelled
import numpy as np
import pipeline
import scoring
from bases import packshots, parted, photos
from kinds import listed
from labelled import Bools, Labelled
from pipeline import Found
from relisted import Broad, opened, relisted
from scoring import Decided, figure

from dedup.runtime.metrics import average_precision

STRENGTHS = (0.33, 0.66, 1.0)
MIDDLE = 1
"""Place of the strength whose recall the table is sorted by."""
SPARE = 2
"""Copies of each edit at each strength besides those asked for, as the number drawn differs."""
SHOWN = 40
HEAD = "| edit | copies at .33, .66, 1 | recall at .33 | at .66 | at 1 | AP |\n" + "|---" * 6 + "|"


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", type=Path, help="a folder of photos of different products")
    add("--true-dups", type=Path, help="CSV: file_a, file_b; only the first of each pair is taken")
    add("--held-out", type=Path, metavar="CSV", help="file, sender_id: those not fitted on alone")
    add("--sets", choices=("wide", "white"), nargs="+", default=["wide", "white"])
    add("--n", type=int, default=300, help="originals")
    add("--least", type=int, default=8, help="copies of each edit at each strength")
    add("--seed", type=int, default=72)
    add("--precision", type=float, default=0.99, help="that is asked for")
    add("--out", type=Path, default=Path("edits"), help="for the tables and sheets of mistakes")
    return parser.parse_args()


def benchmark(name: str, options: argparse.Namespace, work: Path) -> Labelled:
    """Write a benchmark with the copies asked for of each edit and strength, or a few more."""
    user = photos(options.images, options.held_out, np.random.default_rng(options.seed))
    second = {max(pair) for pair in listed(options.true_dups)}
    items, others = parted([item for item in user if item.file.name not in second])
    if name == "white":
        items, others = (packshots(part, work / "packshots") for part in (items, others))
    chosen = [(item.file, opened(item.file)) for item in items[: options.n]]
    if not chosen:
        sys.exit(f"{options.images} has no image for {name}: name a folder with more photos")
    edits = Broad([opened(item.file) for item in others], STRENGTHS, chains=0)
    n_copies = (options.least + SPARE) * len(edits.cells())  # these are dealt in turn
    most = max(1, math.ceil(2 * n_copies / len(chosen)) - 1)  # an original has 1 to most copies
    folder = relisted(chosen, work / name, options.seed, edits, most)
    return labelled.read(folder, work / f"{name}-store")


def found(of: Labelled, precision: float, work: Path) -> Found:
    """Search it with the recipe of the package; nothing but its estimate of recall is left out."""
    settings = [f"matcher.precision={precision}", "detection.estimate_recall=false"]
    return pipeline.bundled(settings)(of, work)


def by_edit(run: Found, of: Labelled) -> Iterator[str]:
    """Lines below ``HEAD``, the edits that are found least first."""
    is_match = of.is_match
    said = of.scored & (run.scores > -np.inf)
    lines: list[tuple[float, str]] = []
    for edit, rows in of.direct.groupby("edit"):
        by_strength = {
            str(strength): run.taken[rows.loc[rows["severity"] == str(strength), "place"]]
            for strength in STRENGTHS
        }
        own = np.zeros(len(is_match), bool)
        own[rows["place"]] = True
        ranking = said & (own | ~is_match)
        precision = average_precision(run.scores[ranking], own[ranking], len(rows))
        shares = [recall(taken) for taken in by_strength.values()]
        sizes = " + ".join(str(len(taken)) for taken in by_strength.values())
        cells = (str(edit), sizes, *map(figure, shares), figure(precision))
        lines.append((shares[MIDDLE], f"| {' | '.join(cells)} |"))
    yield from (line for _, line in sorted(lines))


def recall(taken: Bools) -> float:
    """The share of pairs that are reported; nan of none."""
    return float(taken.mean()) if len(taken) else math.nan


def report(name: str, options: argparse.Namespace, work: Path) -> str:
    """Search a benchmark; its tables. Writes its sheets of mistakes."""
    of = benchmark(name, options, work)
    run = found(of, options.precision, work / f"{name}-run")
    got = scoring.figures(Decided("bundled", run.scores, run.taken, run.groups, run.seconds), of)
    chosen, n_taken = run.calibration, got.n_right + got.n_wrong
    stated = chosen.get("expected_precision")
    expected = "no near pair" if stated is None else "{:.3f} ({:.3f} to {:.3f})".format(*stated)
    parts = [
        f"## {name}",
        f"{len(of.members):,} products, {len(of.direct):,} pairs of an original and its copy, "
        f"{len(of.hard):,} colour variants' pairs. Asked precision {figure(options.precision)}, "
        f"threshold {chosen.get('threshold', math.nan):.4f}: expected precision {expected}, "
        f"measured {scoring.interval('', got.n_right, n_taken).strip()}.",
        f"{scoring.HEAD}\n{got.line}",
        "\n".join([HEAD, *by_edit(run, of)]),
    ]
    mistakes = {"missed": gallery.missed(run, of, SHOWN), "wrong": gallery.wrong(run, of, SHOWN)}
    for kind, pairs in mistakes.items():
        if pairs:
            gallery.sheet(pairs).save(options.out / f"{kind}_{name}.png")
    return "\n\n".join(parts)


def main() -> None:
    """Print the tables, and write them to ``edits.md``."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=options.out)).resolve()
    begun = time.perf_counter()
    try:
        texts = []
        for name in options.sets:
            texts.append(report(name, options, work))
            print(f"{texts[-1]}\n", flush=True)
        (options.out / "edits.md").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(work)
    print(f"{(time.perf_counter() - begun) / 60:.1f} minutes in all")


if __name__ == "__main__":
    main()
