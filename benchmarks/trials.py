"""What detect and cluster do when they are killed, run twice at once, or lose a folder.

    python benchmarks/trials.py [detect] [update] [together] [store] [index] [--n 10]

All of them by default, on 120 drawn products. Prints a line for each: what was done, and what was
seen; exit code 1 if that is not as it must be.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dedup.config.instances import ROOT
from dedup.sources.sample import draw_catalogue

REPORTS = ["duplicates.json", "duplicates.csv", "report.html"]
INDEX = ["images.parquet", "vectors.npy", "centroids.npy", "products.parquet", "catalogue.csv"]
DETECT = ["detect", "encoder=bundled", "source.path=../shop/products.csv"]
CLUSTER = ["cluster", "encoder=bundled", "source.path=../shop/products.csv"]
UPDATE = ["cluster", "change=update", "encoder=bundled", "source.path=../shop/changed.csv"]
BAD = ("Traceback", "Logging error", "Exception ignored")


class Trials:
    """A shop, and a folder to try things in: always the same, since an index names its store.

    Args:
        work: a folder of its own.
        n: moments at which a run is disturbed.
    """

    def __init__(self, work: Path, n: int) -> None:
        self.work = work
        self.n = n
        self.wrong = 0
        self.here = work / "here"
        draw_catalogue(work / "shop", 120, 0)
        change(work / "shop")

    def anew(self, like: Path | None = None) -> Path:
        """The folder, empty or with the runs that were kept."""
        shutil.rmtree(self.here, ignore_errors=True)
        if like is None:
            self.here.mkdir()
        else:
            shutil.copytree(like, self.here, symlinks=True)
        return self.here

    def keep(self) -> Path:
        """A copy of the folder."""
        return Path(shutil.copytree(self.here, tempfile.mkdtemp(dir=self.work), symlinks=True,
                                    dirs_exist_ok=True))  # fmt: skip

    def made(self) -> Path:
        """The runs of a cluster and a detect, kept."""
        finished(self.anew(), CLUSTER)
        finished(self.here, ["detect"])
        return self.keep()

    def line(self, done: str, seen: str, right: bool) -> None:
        """Print a line of the table."""
        self.wrong += not right
        print(f"| {done} | {seen} | {'yes' if right else 'NO'} |", flush=True)


def change(shop: Path) -> None:
    """A second table beside the first: some images exchanged, and some products that are new."""
    with (shop / "products.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    product, image = header.index("productId"), header.index("imageUrlStr")
    changed = [list(row) for row in rows[20:50]]
    for row, other in zip(changed[:20], rows[80:100], strict=True):
        row[image] = other[image]
    for number, row in enumerate(changed[20:]):
        row[product] = f"NEW{number}"
    with (shop / "changed.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *changed])


@contextmanager
def started(folder: Path, command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A command on its way."""
    script, *settings = command
    asked = [sys.executable, str(ROOT / f"{script}.py"), *settings]
    with subprocess.Popen(
        asked, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def finished(folder: Path, command: Sequence[str]) -> float:
    """Run a command that must succeed; the seconds that it took."""
    begun = time.monotonic()
    with started(folder, command) as process:
        _, said = process.communicate()
    if process.returncode or any(word in said for word in BAD):
        sys.exit(f"{command} ended with {process.returncode}:\n{said[-3000:]}")
    return time.monotonic() - begun


def moments(seconds: float, n: int) -> list[float]:
    """So many moments, spread over a run."""
    return [seconds * (number + 0.5) / n for number in range(n)]


def whole(folder: Path, kind: str) -> bool:
    """Whether ``latest`` is there not at all, or a run that finished."""
    latest = folder / "runs" / kind / "latest"
    return not latest.is_symlink() or (latest / "run.json").is_file()


def equal(one: Path, other: Path, kind: str, names: Sequence[str]) -> bool:
    """Whether two latest runs hold the same bytes."""
    here, there = (folder / "runs" / kind / "latest" for folder in (one, other))
    return all((here / name).read_bytes() == (there / name).read_bytes() for name in names)


def left(folder: Path, kind: str) -> list[str]:
    """What is half written in the latest run, in the store, and beside ``latest``."""
    runs = folder / "runs"
    places = [*(runs / kind / "latest").glob(".*"), *(runs / kind).glob(".*")]
    places += runs.glob("store/*/.*")
    return [place.name for place in places if place.name != ".hydra"]


def kills(trials: Trials, command: Sequence[str], like: Path | None, names: Sequence[str]) -> None:
    """Kill a command at moments spread over it; then the same command again."""
    kind, seconds = command[0], finished(trials.anew(like), command)
    undisturbed, counts = trials.keep(), Counter[str]()
    for moment in moments(seconds, trials.n):
        folder, over = trials.anew(like), threading.Event()
        torn: list[bool] = []

        def watch(folder: Path = folder, over: threading.Event = over, torn: list[bool] = torn):
            while not over.wait(0.005):
                torn.append(not whole(folder, kind))

        watcher = threading.Thread(target=watch)
        watcher.start()
        with started(folder, command) as process:
            time.sleep(moment)
            counts["killed"] += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.communicate()
        finished(folder, command)
        over.set()
        watcher.join()
        counts["whole"] += not any(torn) and whole(folder, kind)
        counts["equal"] += equal(folder, undisturbed, kind, names)
        counts["clean"] += not left(folder, kind)
    n = trials.n
    trials.line(
        f"SIGKILL at {n} moments of `{' '.join(command[:2])}` ({seconds:.0f} s), then again",
        f"{counts['killed']} killed; `latest` whole at every look {counts['whole']} of {n}; "
        f"{len(names)} files byte-equal to an undisturbed run's {counts['equal']}; nothing half "
        f"written in the new run, the store, or beside `latest` {counts['clean']}",
        counts["whole"] == counts["equal"] == counts["clean"] == n,
    )


def detect(trials: Trials) -> None:
    """Kill detect, with an index to make first."""
    kills(trials, DETECT, None, REPORTS)


def update(trials: Trials) -> None:
    """Kill an update of an index."""
    kills(trials, UPDATE, trials.made(), INDEX)


def together(trials: Trials) -> None:
    """Two of one command at once, with one store and one ``latest``."""
    made = trials.made()
    for command, names, like in (
        (["detect"], REPORTS, made),
        (CLUSTER, INDEX, None),
        ([*CLUSTER, "store.wait=true"], INDEX, None),
    ):
        codes: Counter[int] = Counter()
        n_whole = n_equal = n_clean = n_bad = 0
        rounds = max(1, trials.n // 3)
        for _ in range(rounds):
            folder = trials.anew(like)
            with started(folder, command) as one, started(folder, command) as other:
                said = [process.communicate()[1] for process in (one, other)]
            codes.update(process.returncode for process in (one, other))
            n_bad += any(word in text for text in said for word in BAD)
            n_whole += whole(folder, command[0])
            n_equal += equal(folder, made, command[0], names)
            n_clean += not left(folder, command[0])
        shown = ", ".join(f"{count} x {code}" for code, count in sorted(codes.items()))
        trials.line(
            f"two `{' '.join(command)}` at once, {rounds} times",
            f"exit codes {shown}; `latest` whole {n_whole}; files equal to one run's {n_equal}; "
            f"nothing half written {n_clean}",
            n_whole == n_equal == n_clean == rounds and not n_bad and set(codes) <= {0, 5},
        )


def lost(trials: Trials, command: Sequence[str], like: Path | None, place: str, how: str) -> None:
    """Move a folder away, or delete it, at moments spread over a command."""
    kind, seconds = command[0], finished(trials.anew(like), command)
    undisturbed, names = trials.keep(), REPORTS if kind == "detect" else INDEX
    codes: Counter[str] = Counter()
    right, sentences = True, set()
    for moment in moments(seconds, trials.n):
        folder = trials.anew(like)
        before = [*(folder / "runs" / kind).glob("latest")]
        with started(folder, command) as process:
            time.sleep(moment)
            taken = (folder / place).resolve()
            if taken.is_dir() and how == "moved":
                taken.rename(folder / "away")
            elif taken.is_dir():
                shutil.rmtree(taken, ignore_errors=True)
            _, said = process.communicate()
        code = process.returncode
        # What was found does not rest on the store; a report without images has to say so.
        told = "no images are shown: the store" in said
        same = not code and equal(folder, undisturbed, kind, names[:2] if told else names)
        codes["0 with a warning"] += told
        codes["0, another report" if not code and not same else f"{code}"] += not told
        errors = [line for line in said.splitlines() if " ERROR " in line]
        right &= code in (0, 2, 4, 6) and not any(word in said for word in BAD)
        right &= len(errors) == 1 if code else same
        right &= whole(folder, kind) or (not code and bool(before))
        sentences |= {line.split(" ERROR ")[1].strip().replace(str(folder), ".")[:150]
                      for line in errors}  # fmt: skip
        if not right:
            print(f"{moment:.1f} s: {code}\n{said[-3000:]}", file=sys.stderr)
    shown = ", ".join(f"{count} x {code}" for code, count in sorted(codes.items()) if count)
    examples = "; ".join(f'"{one}"' for one in sorted(sentences)[:2])
    trials.line(
        f"{place} {how} at {trials.n} moments of `{' '.join(command[:2])}`",
        f"exit codes {shown}" + (f"; one sentence each: {examples}" if examples else ""),
        right,
    )


def store(trials: Trials) -> None:
    """The store moved or deleted in the middle of cluster and of detect."""
    made = trials.made()
    for how in ("moved", "deleted"):
        lost(trials, CLUSTER, None, "runs/store/pillow", how)
        lost(trials, ["detect"], made, "runs/store/pillow", how)


def index(trials: Trials) -> None:
    """The folder of the index deleted in the middle of detect and of an update."""
    lost(trials, ["detect"], trials.made(), "runs/cluster/latest", "deleted")


PARTS: dict[str, Callable[[Trials], None]] = {
    part.__name__: part for part in (detect, update, together, store, index)
}


def main() -> None:
    """Try what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--n", type=int, default=10, help="moments of a run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        trials = Trials(Path(work), args.n)
        print("| done | seen | as it must be |\n|---|---|---|")
        for part in args.parts or PARTS:
            PARTS[part](trials)
    sys.exit(f"{trials.wrong} lines are not as they must be" if trials.wrong else 0)


if __name__ == "__main__":
    main()
