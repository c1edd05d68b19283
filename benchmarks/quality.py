"""How well are re-listed images found? Every method on the same benchmark, in one table.

    python benchmarks/quality.py --generator make_benchmark.py --images images \
        --true-dups true_duplicates.csv --n 1000 --seed 1 --ours ours=runs/train/latest --out OUT

The benchmark is what ``make_benchmark.py`` writes, or any folder in its form (``--folder``, several
times), or real images (``--real DATA``). Originals and their copies are to be found; pairs of two
copies count for the groups alone. The thresholds of the baselines are those of precision .99 on
another benchmark, of photos that the first does not have (where it cannot be had at all, of the
next lower one); the recipe (``--ours``) chooses its own, without labels.

``--sizes 500,1000,2500 --precisions .95,.99`` prints instead what precision the recipe reaches of
what was asked for. Extra: ``bench``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import gallery
import labelled
import pipeline
import relisted
import scoring
import sizes
from baselines import Encoder, Method, from_packages, random_weights
from labelled import Labelled
from scoring import Decided, Figures

N_BEST = 3
ABO_COPIES = 16


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--generator", type=Path, required=True, help="make_benchmark.py")
    add("--images", type=Path, required=True, help="the images that it takes")
    add("--true-dups", type=Path, help="CSV of images that show one thing: file_a, file_b")
    add("--look-alikes", type=Path, help="CSV of images that look alike, as hard negatives")
    add("--n", type=int, default=1000, help="originals")
    add("--seed", type=int, default=1)
    add("--calibration", type=int, default=300, help="originals of the calibration benchmark")
    add("--folder", type=Path, action="append", default=[], help="a benchmark that is there")
    add("--real", type=Path, metavar="DATA", help="holds real_copies and abo_samples")
    add("--checkpoint", type=named, action="append", default=[], metavar="NAME=PATH")
    add("--ours", type=named, action="append", default=[], metavar="NAME=PATH")
    add("--bundled", action="store_true", help="also the weights that come with the package")
    add("--experiment", default="relisting", help="of the recipe; none for none")
    add("--override", action="append", default=[], help="a further setting of the recipe")
    add("--no-baselines", action="store_true")
    add("--sizes", type=lambda text: [int(part) for part in text.split(",")])
    add("--precisions", type=lambda text: [float(part) for part in text.split(",")],
        default=[0.95, 0.99])  # fmt: skip
    add("--out", type=Path, default=Path("quality"))
    return parser.parse_args()


def named(text: str) -> tuple[str, Path]:
    """``NAME=PATH``; the path may be ``bundled``."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text}: NAME=PATH")
    return name, Path(path) if path == "bundled" else Path(path).resolve()


def recipes(options: argparse.Namespace) -> list[pipeline.Pipeline]:
    """The recipe with each of its checkpoints."""
    experiment = None if options.experiment == "none" else options.experiment
    found = [pipeline.recipe(*one, options.override) for one in
             ((name, experiment, path) for name, path in options.ours)]  # fmt: skip
    return found + ([pipeline.bundled(options.override)] if options.bundled else [])


def generated(options: argparse.Namespace, n: int, seed: int, work: Path) -> Labelled:
    """The generator's benchmark of that size and seed."""
    out = options.out / f"bench-n{n}-seed{seed}"
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    labelled.generate(options.generator, options.images, out, n, seed, options.true_dups)
    return benchmark(options, out, work)


def benchmark(options: argparse.Namespace, folder: Path, work: Path) -> Labelled:
    """A benchmark's folder, with the pairs that are known of its sources."""
    place = Path(tempfile.mkdtemp(dir=work))
    return labelled.read(folder, place, options.true_dups, options.look_alikes)


def benchmarks(options: argparse.Namespace, work: Path) -> Iterator[tuple[str, Labelled]]:
    """Those that are asked for, by name."""
    for folder in options.folder:
        yield folder.name, benchmark(options, folder, work)
    if options.real:
        real = options.real / "real_copies"
        out = relisted.of_groups(real / "groups.csv", real / "images", work / "real_copies")
        yield "real_copies", benchmark(options, out, work)
        yield "abo_samples", benchmark(options, abo(options, work / "abo_samples"), work)
    if not options.folder and not options.real:
        name = f"n {options.n}, seed {options.seed}"
        yield name, generated(options, options.n, options.seed, work)


def abo(options: argparse.Namespace, out: Path) -> Path:
    """The shop images with the generator's edits; other views of a product do not count."""
    files = iter(relisted.images(options.real / "abo_samples", set()))
    chosen = relisted.originals(files, options.n, packshots=False)
    edits = relisted.Generated(options.generator)
    return relisted.relisted(chosen, out, options.seed, edits, ABO_COPIES, lambda file: file.parent)


def calibration(options: argparse.Namespace, of: Labelled, work: Path) -> Labelled:
    """A benchmark of photos that ``of`` does not have, to fit thresholds on."""
    place = Path(tempfile.mkdtemp(dir=work))
    rest = labelled.without(options.images, set(of.members["source"]), place / "rest")
    arguments = (rest, place / "bench", options.calibration, options.seed + 1000)
    folder = labelled.generate(options.generator, *arguments, options.true_dups)
    return labelled.read(folder, place)


def baselines(options: argparse.Namespace, of: Labelled, work: Path) -> Iterator[Decided]:
    """Every baseline's decisions, at the threshold that the calibration benchmark gives it."""
    known = calibration(options, of, work)
    methods: list[Method] = from_packages(known)
    methods += [random_weights(work)]
    methods += [Encoder(name, path) for name, path in options.checkpoint]
    for method in methods:
        begun = time.perf_counter()
        scores = method.scores(of)
        seconds = time.perf_counter() - begun
        threshold, precision = scoring.frozen(method.scores(known), known)
        name = method.name
        if precision != scoring.PRECISIONS[0]:
            name += f", frozen at P {scoring.figure(precision)}"
        yield scoring.decided(name, scores, threshold, of, seconds)


def report(options: argparse.Namespace, name: str, of: Labelled, work: Path) -> None:
    """Print a benchmark's tables, and write its gallery."""
    out = options.out / name.replace(",", "").replace(" ", "-")
    shutil.rmtree(out, ignore_errors=True)
    say(out, f"## {name}\n\n{facts(of)}\n\n{scoring.HEAD}")
    made: list[tuple[Decided, Figures]] = []
    runs = [(one.name, one(of, work / f"{out.name}-{one.name}")) for one in recipes(options)]
    ours = (Decided(n, r.scores, r.taken, r.groups, r.seconds, ours=True) for n, r in runs)
    others = [] if options.no_baselines else baselines(options, of, work)
    for decision in chain(ours, others):
        made.append((decision, scoring.figures(decision, of)))
        say(out, made[-1][1].line)
    say(out, f"\n{scoring.standing([figures for _, figures in made])}")
    say(out, f"\nRecall at the frozen threshold:\n\n{scoring.by_edit(shown(made), of)}")
    rows = [dataclasses.asdict(figures) for _, figures in made]
    (out / "figures.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for run_name, run in runs:
        lists = {"missed": gallery.missed(run, of), "false pairs": gallery.wrong(run, of)}
        print(f"\n{gallery.write(lists, out / run_name)}")


def facts(of: Labelled) -> str:
    """What the benchmark is; reads its images."""
    begun = time.perf_counter()
    _ = of.stored
    reading = time.perf_counter() - begun
    return (
        f"{len(of.members):,} products, {len(of.direct):,} pairs of an original and its copy, "
        f"{len(of.hard):,} hard negatives, {of.scored.sum():,} pairs that count. The encoders' "
        f"seconds begin with stored images (reading: {reading:.0f} s), all others with files."
    )


def shown(made: list[tuple[Decided, Figures]]) -> list[Decided]:
    """The recipe, and the baselines that rank best."""
    others = sorted((pair for pair in made if not pair[1].ours), key=lambda pair: -pair[1].uap)
    return [decision for decision, figures in made if figures.ours] + [
        decision for decision, _ in others[:N_BEST]
    ]


def say(out: Path, text: str) -> None:
    """Print, and keep in ``quality.md``."""
    print(text, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "quality.md").open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def main() -> None:
    """Print the tables."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=options.out)).resolve()
    begun = time.perf_counter()
    if options.sizes:
        print(sizes.HEAD, flush=True)
        catalogues = (generated(options, n, options.seed, work) for n in options.sizes)
        for line in sizes.lines(catalogues, options.precisions, recipes(options)[0], work):
            print(line, flush=True)
    else:
        for name, of in benchmarks(options, work):
            report(options, name, of, work)
    print(f"\n{(time.perf_counter() - begun) / 60:.1f} minutes in all")


if __name__ == "__main__":
    main()
