"""Does a report keep the asked precision, however rare copies are in the catalogue?

    python benchmarks/shares.py IMAGES --true-dups true_duplicates.csv [--goods FOLDER] \
        [--held-out source_ids.csv] --out OUT

A catalogue has n different products, and besides them copies of a share of these, each product's
one at most: share .5 of n 500 is 250 copies, 750 products in all. The products are photos (of
IMAGES), packshots made of them, goods on white (of ``--goods``), or ``mixed``, of all three alike.
A copy is edited plainly, as in ``kinds.py``, or strongly, by ``dedup.augmentations.augment``, and
saved as JPEG of quality 60 to 95.

A pair of a product and its copy is right. The pairs of ``--true-dups`` and those of nearly equal
goods are unknown: they count for nothing. All others are wrong. Every run draws other products;
its catalogue is read once, and its shares copy different products as far as there are enough.
``--held-out`` takes only images that ``scripts/fit_classifier.py`` is not fitted on.

``expected`` is what the run says of the precision of its near pairs, and it covers where the
measured precision lies in that interval. ``allowed`` is the recall of the best threshold that has
the asked precision, chosen by the truth. ``gap`` is what the choice of the threshold costs.
``looked at`` has the true copies among the pairs that were verified, of how many.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bases
import gallery
import numpy as np
import pandas as pd
from bases import Base, Bases
from edited import PLAIN, STRONG, Copies, Product
from outcomes import BY_EDIT, HEAD, POOLED, Outcome, by_edit, judged, pooled

import dedup
from dedup import pipeline
from dedup.api.arguments import configured, detection_of
from dedup.detection.results import DetectionResult
from dedup.runtime.progress import hidden

BASES = ("photos", "packshots", "goods", "mixed")
SHOWN = 40


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", type=Path, help="a folder of photos of different products")
    add("--goods", type=Path, help="a folder of images of other goods, searched to all depths")
    add("--true-dups", type=Path, help="CSV: file_a, file_b of photos that are no different ones")
    add("--held-out", type=Path, metavar="CSV", help="file, sender_id: those not fitted on alone")
    add("--bases", type=several(str, BASES), default=list(BASES), help="with commas between")
    add("--sizes", type=several(int), default=[500, 2000], help="products besides the copies")
    add("--shares", type=several(float), default=[0.5, 0.05, 0.01, 0.005])
    add("--edits", type=several(str, (PLAIN, STRONG)), default=[PLAIN, STRONG])
    add("--runs", type=int, default=3, help="each draws other products and copies")
    add("--precision", type=float, default=0.99, help="that is asked for")
    add("--seed", type=int, default=71)
    add("--out", type=Path, default=Path("shares"), help="for the tables and sheets of mistakes")
    add("--keep", action="store_true", help="keep images and verdicts in OUT for the next command")
    options = parser.parse_args()
    if not all(0 < share <= 1 for share in options.shares):
        parser.error("--shares: a share is more than 0 and at most 1, for a product has one copy")
    if not all(size >= 2 for size in options.sizes):
        parser.error("--sizes: a catalogue has 2 products at least")
    return options


def several(kind: Callable[[str], Any], known: Sequence[str] = ()) -> Callable[[str], list[Any]]:
    """A reader of values with commas between, each one of those known, if any are."""

    def read(text: str) -> list[Any]:
        try:
            values = [kind(part.strip()) for part in text.split(",")]
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
        for value in values:
            if known and value not in known:
                raise argparse.ArgumentTypeError(f"{value!r} is none of {', '.join(known)}")
        return values

    return read


@dataclass(frozen=True)
class Benchmark:
    """What is the same for all catalogues.

    Args:
        work: a folder for what is written.
        known: what is known of pairs.
        copies: makes edited copies.
        options: of the command.
    """

    work: Path
    known: Bases
    copies: Copies
    options: argparse.Namespace

    def runs(self, base: Base) -> Iterator[Outcome]:
        """Search all catalogues of a base."""
        for n in sorted({min(size, len(base.items)) for size in self.options.sizes}):
            for run in range(self.options.runs):
                yield from self.catalogues(base, n, run)

    def catalogues(self, base: Base, n: int, run: int) -> Iterator[Outcome]:
        """Search one draw of n products, with each kind and share of copies."""
        rng = np.random.default_rng([self.options.seed, zlib.crc32(base.name.encode()), n, run])
        items = base.drawn(n, rng)
        ids = [f"P{number:09}" for number in rng.choice(10**9, 2 * len(items), replace=False)]
        products = {
            product_id: Product(item.key, item.file)
            for product_id, item in zip(ids, items, strict=False)
        }
        folder = self.work / "indexes" / f"{base.name}-{n}-{run}"
        shutil.rmtree(folder, ignore_errors=True)
        index = dedup.build_index(
            table(products), folder=folder / "base", encoder="bundled", store=self.work / "store",
            id="id", images="image", images_dir="/", progress=False,
        )  # fmt: skip
        for edits in self.options.edits:
            order = rng.permutation(len(items))
            for share in self.options.shares:
                begun = time.perf_counter()
                n_copies = max(1, round(share * n))
                chosen = [items[place] for place in order[:n_copies]]
                order = np.roll(order, -n_copies)  # the next share copies other products
                copies = dict(zip(ids[n:], self.copies(base, chosen, edits, run), strict=False))
                larger = dedup.update_index(
                    index, table(copies), folder=folder / f"{edits}-{share}", images_dir="/",
                    progress=False,
                )  # fmt: skip
                result = searched(larger, self.options.precision)
                yield judged(
                    result, products | copies, self.known, base=base.name, n=n, share=share,
                    edits=edits, run=run, asked=self.options.precision,
                    seconds=time.perf_counter() - begun,
                )  # fmt: skip
        shutil.rmtree(folder)


def table(products: dict[str, Product]) -> pd.DataFrame:
    """Products as a catalogue."""
    rows = [(name, name, str(product.file)) for name, product in products.items()]
    return pd.DataFrame(rows, columns=["id", "title", "image"])


def searched(index: dedup.Index, precision: float) -> DetectionResult:
    """What ``dedup.find_duplicates`` finds; without its estimate of recall, which takes longer."""
    settings = {"matcher.precision": precision, "detection.estimate_recall": False}
    cfg = configured(index.manifest["checkpoint"], settings)
    detection = detection_of(cfg, index, settings)
    with hidden():
        return pipeline.detect(index, detection, pipeline.Sampling(None, cfg.seed))[0]


def sheets(outcomes: Sequence[Outcome], out: Path) -> list[Path]:
    """Write the worst mistakes of each base: pairs reported wrongly, and copies not reported."""
    written = []
    for base in sorted({outcome.base for outcome in outcomes}):
        of_base = [outcome for outcome in outcomes if outcome.base == base]
        wrong = [mistake for outcome in of_base for mistake in outcome.wrong_pairs]
        missed = [mistake for outcome in of_base for mistake in outcome.missed]
        for name, mistakes in (
            ("wrong", sorted(wrong, key=lambda each: -each.score)),
            ("missed", sorted(missed, key=lambda each: each.score)),
        ):
            once = list({each.files: each for each in mistakes}.values())[:SHOWN]
            if once:
                written.append(out / f"{name}_{base}.png")
                gallery.sheet(once).save(written[-1])
    return written


def main() -> None:
    """Print the tables, and write them and the sheets."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    sources = f"{options.images.resolve()} {options.goods} {options.held_out} {options.seed}"
    work = options.out.resolve() / f"work-{zlib.crc32(sources.encode()):08x}"
    begun = time.perf_counter()
    try:
        known, all_bases = bases.made(
            options.images, options.goods, options.true_dups, options.held_out, options.bases,
            2 * max(options.sizes), options.seed, work,
        )  # fmt: skip
        benchmark = Benchmark(work, known, Copies(work / "copies", options.seed), options)
        outcomes: list[Outcome] = []
        print(HEAD, flush=True)
        for base in all_bases:
            if len(base.items) < 2:
                print(f"{base.name}: {len(base.items)} images, left out", file=sys.stderr)
                continue
            for outcome in benchmark.runs(base):
                outcomes.append(outcome)
                print(outcome.line, flush=True)
        if not outcomes:
            sys.exit("no base has 2 images: name folders with more of them")
        tables = [
            "\n".join([HEAD, *(outcome.line for outcome in outcomes)]),
            "\n".join([POOLED, *pooled(outcomes)]),
            "\n".join([BY_EDIT, *by_edit(outcomes)]),
        ]
        print("\n" + "\n\n".join(tables[1:]))
        (options.out / "shares.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
        rows = [outcome.figures for outcome in outcomes]
        (options.out / "shares.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
        print("\n" + "\n".join(map(str, sheets(outcomes, options.out))))
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    print(f"\n{(time.perf_counter() - begun) / 60:.1f} minutes in all")


if __name__ == "__main__":
    main()
