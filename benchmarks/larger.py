"""Training on a store that does not fit into the memory: the same speed, and no more memory.

``train.py`` runs on 100,000 images, 6 GB of pixels, by turns as it is and in a control group
whose memory, files that it reads included, is limited. Needs root, for the group and to empty the
system's file cache before each run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dedup.runtime.files import write_json
from dedup.runtime.tables import write_rows
from dedup.sources.csv import CsvSource
from dedup.store.decode import Decoded
from dedup.store.image_store import ImageStore
from dedup.store.shards import ENTRIES, Loaded, Shards, described
from dedup.training.datamodule import CatalogueDataModule

ROOT = Path(__file__).parents[1]
GROUPS = Path("/sys/fs/cgroup")
SHARD = 512


def filled(photos: Path, folder: Path, n: int) -> Path:
    """A store of ``n`` distinct images made of some photos, and its CSV.

    An image is a photo, mirrored or not, moved by some pixels, with noise of its own.
    """
    source = ImageStore(folder / "photos")
    images = source.ingest(CsvSource(str(photos)).read(), folder)
    urls = images.loc[images["status"] == "ok", "url"].drop_duplicates().tolist()
    pixels = source.read(source.rows(urls))
    store = folder / "runs" / "store" / "pillow"
    store.mkdir(parents=True)
    write_json(described("pillow"), store / "manifest.json")
    shards, rng = Shards(store, described("pillow")), np.random.default_rng(0)
    names = [f"https://pictures.example/{number}.jpg" for number in range(n)]
    for shard, start in enumerate(range(0, n, SHARD)):
        loaded = []
        for number in range(start, min(start + SHARD, n)):
            image = pixels[number % len(pixels)][:, :, :: rng.choice([-1, 1])]
            image = np.roll(image, rng.integers(-8, 9, 2), axis=(1, 2))
            noise = rng.integers(0, 4, image.shape, np.uint8)
            image = np.ascontiguousarray(np.minimum(image, 252) + noise)
            entry = dict.fromkeys(ENTRIES.names, "")
            facts = {"url": names[number], "sha256_bytes": f"{number:064x}", "status": "ok",
                     "sha256_pixels": f"{number:064x}", "width": 100, "height": 200,
                     "contrast": 50.0}  # fmt: skip
            loaded.append(Loaded(entry | facts, Decoded(image, 100, 200, b"none")))
        shards.write(shard, loaded)
    table = folder / "products.csv"
    ids = [f"P{number}" for number in range(n)]
    write_rows(("productId", "imageUrlStr"), zip(ids, names, strict=True), table)
    return table


@contextmanager
def limited(n_bytes: int) -> Iterator[Path]:
    """A control group with so much memory, version 1 or 2; the file that takes processes in."""
    first = (GROUPS / "memory").is_dir()
    group = (GROUPS / "memory" if first else GROUPS) / f"dedup-{os.getpid()}"
    group.mkdir()
    try:
        limit = "memory.limit_in_bytes" if first else "memory.max"
        (group / limit).write_text(str(n_bytes))
        yield group / ("tasks" if first else "cgroup.procs")
    finally:
        group.rmdir()


def emptied() -> None:
    """Have the system forget the files that it read."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def started(command: list[str], work: Path, group: Path | None) -> tuple[str, float]:
    """Run a command, in a group if there is one; its output and its peak in MB."""
    emptied()
    inside = ["sh", "-c", f'echo $$ > {group} && exec "$@"', "sh", *command]
    child = subprocess.Popen(
        inside if group else command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{said[-2000:]}")
    return said, usage.ru_maxrss / 1024


def train(work: Path, steps: int, group: Path | None) -> tuple[float, float]:
    """``train.py`` for some steps: images per second of the median step, and its peak in MB."""
    command = [
        sys.executable, str(ROOT / "train.py"), "source=csv", "source.path=products.csv",
        f"trainer.max_steps={steps}", "+trainer.limit_val_batches=1",
        f"+trainer.val_check_interval={steps}", "trainer.gpus=0",
    ]  # fmt: skip
    _, peak = started(command, work, group)
    events = EventAccumulator(str(work / "runs" / "train" / "latest")).Reload()
    ends = [one.wall_time for one in events.Scalars("train/loss")]
    return 128 / float(np.median(np.diff(ends)[2:])), peak


def deal(work: Path, window: int, n_steps: int) -> None:
    """Deal batches as training does, without training; print images per second."""
    store = ImageStore(work / "runs" / "store" / "pillow")
    images = store.ingest(CsvSource(str(work / "products.csv")).read(), work)
    data = CatalogueDataModule(store, images, shuffle_window=window)
    data.setup()
    begun, n = time.perf_counter(), 0
    for step, batch in enumerate(data.train_dataloader()):
        n += len(batch)
        if step == n_steps:
            break
    print(n / (time.perf_counter() - begun))


def main() -> None:
    """Make the store and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path, help="a catalogue of photos")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deal", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.deal:
        deal(args.work, *args.deal)
        return
    with tempfile.TemporaryDirectory() as folder, limited(int(args.gib * 2**30)) as group:
        work = Path(folder)
        filled(args.csv.resolve(), work, args.n)
        gigabytes = args.n * 60_000 / 1e9
        print(f"{args.n:,} images, {gigabytes:.1f} GB of pixels, {args.steps} steps of 128, "
              f"{args.rounds} rounds in turn, the file cache emptied before each\n")  # fmt: skip
        runs = [(train(work, args.steps, None), train(work, args.steps, group))
                for _ in range(args.rounds)]  # fmt: skip
        free, bound = ([run[side][0] for run in runs] for side in (0, 1))
        ratio = [b / a for a, b in zip(free, bound, strict=True)]
        print("| memory | images/s | x unlimited | peak of the process, MB |\n|---|---|---|---|")
        for name, rates, side in (("unlimited", free, 0), (f"{args.gib:g} GiB", bound, 1)):
            times = f"{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"
            print(f"| {name} | {statistics.median(rates):.0f} | {times if side else 1} "
                  f"| {max(run[side][1] for run in runs):.0f} |")  # fmt: skip
        print("\n| shards shuffled together, dealt alone in the limited memory | images/s "
              "| x training |\n|---|---|---|")  # fmt: skip
        for window in (8, 32, 10**6):
            command = [sys.executable, __file__, str(args.csv), "--work", folder, "--deal"]
            said, _ = started([*command, str(window), "200"], work, group)
            rate = float(said.splitlines()[-1])
            name = f"{window}" if window < 10**6 else "all"
            print(f"| {name} | {rate:.0f} | {rate / statistics.median(bound):.1f} |", flush=True)


if __name__ == "__main__":
    main()
