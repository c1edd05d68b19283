"""What a stop costs training: kills at any moment, damaged checkpoints, and the time of a save.

    python benchmarks/resuming.py [kills] [damage] [saving] [--n 20]

All of them by default. Each prints a table and whether it is as it must be; exit code 1 if not.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dedup.config.instances import ROOT
from dedup.encoders.checkpoint import describe, read
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import CorruptError
from dedup.training.checkpoints import BEST, LAST, PREVIOUS, CheckpointFiles
from dedup.training.resume import checkpoint_to_resume

SMALL = ["source=sample", "source.n_products=60", "encoder.embedding_dim=8", "epochs=3",
         "encoder.hidden_dim=64", "data.batch_size=8", "trainer.accelerator=cpu",
         "trainer.enable_progress_bar=false", "callbacks.last.every_minutes=0"]  # fmt: skip
LIMIT = 2.0
"""How much longer a save may take than a plain one."""


def start(work: Path, runs: str, *overrides: str) -> subprocess.Popen[bytes]:
    """Train, with a save after each step."""
    command = [sys.executable, str(ROOT / "train.py"), *SMALL, f"runs={runs}",
               "store.path=store", "source.folder=pictures", *overrides]  # fmt: skip
    return subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait until it is done, well."""
    said = process.communicate()[1].decode()
    if process.returncode:
        sys.exit(said)


def first_save(runs: Path, process: subprocess.Popen[bytes]) -> Path:
    """The folder of the only run, once it has a checkpoint."""
    while process.poll() is None:
        if found := list(runs.glob("train/2*/last.ckpt")):
            return found[0].parent
        time.sleep(0.002)
    sys.exit(f"it ended before its first save: {process.communicate()[1].decode()}")


def same(one: Path, other: Path, name: str) -> bool:
    """Whether two runs' checkpoints of a name have the same weights and the same score."""
    a, b = read(one / name), read(other / name)
    mine, theirs = a["state_dict"], b["state_dict"]
    equal = all(torch.equal(mine[weight], theirs[weight]) for weight in theirs)
    return equal and a.get("best") == b.get("best")


def losses(*runs: Path) -> list[tuple[int, float]]:
    """``val/loss`` of runs that went on from each other: of each, what came before the next."""
    logged: list[tuple[int, float]] = []
    for run in reversed(runs):
        events = EventAccumulator(str(run)).Reload()
        if "val/loss" in events.Tags()["scalars"]:
            mine = [(event.step, event.value) for event in events.Scalars("val/loss")]
            logged = [one for one in mine if not logged or one[0] < logged[0][0]] + logged
    return logged


def saves(file: Path, n: int, process: subprocess.Popen[bytes]) -> float:
    """Wait for so many further saves, if there are; the seconds that each took."""
    seen, begin = {file.stat().st_mtime_ns}, time.perf_counter()
    while len(seen) <= n and process.poll() is None and not file.with_name("run.json").exists():
        seen.add(file.stat().st_mtime_ns)
        time.sleep(0.001)
    return (time.perf_counter() - begin) / max(1, len(seen) - 1)


def kills(work: Path, n: int) -> bool:
    """Kill a run at any moment after its first save, and go on with ``resume=auto``."""
    process = start(work, "whole")
    whole = first_save(work / "whole", process)
    seconds = saves(whole / LAST, 20, process)
    finish(process)
    expected, drawn = losses(whole), random.Random(0)
    print("| kill | in a save | goes on from step | at the end: weights | best.ckpt | val/loss |")
    print("|---|---|---|---|---|---|")
    good = 0
    for number in range(n):
        runs = f"killed{number}"
        process = start(work, runs)
        killed = first_save(work / runs, process)
        saves(killed / LAST, drawn.randrange(20), process)
        time.sleep(drawn.uniform(0, seconds))
        process.kill()
        process.communicate()
        in_a_save = bool(list(killed.glob(".*.ckpt.*.part")))
        step = read(killed / LAST)["global_step"]
        over = (killed / "run.json").exists()
        if not over:
            finish(start(work, runs, "resume=auto"))
        ended = (work / runs / "train" / "latest").resolve()
        found = [same(ended, whole, LAST), same(ended, whole, BEST),
                 losses(killed, *([] if over else [ended])) == expected,
                 not list((work / runs).rglob("*.part"))]  # fmt: skip
        good += all(found)
        words = ["equal" if one else "DIFFERENT" for one in found]
        print(f"| {number + 1} | {'yes' if in_a_save else 'no'} | "
              f"{step}{' (over)' if over else ''} | {words[0]} | {words[1]} | {words[2]} |",
              flush=True)  # fmt: skip
    print(f"\n{good} of {n} ended as the run that was never stopped", flush=True)
    return good == n


def checkpoint(encoder: torch.nn.Module, fill: float) -> dict[str, Any]:
    """What is saved of an encoder in training: its weights and Adam's two moments."""
    weights = {f"encoder.{name}": value.detach() for name, value in encoder.state_dict().items()}
    moments = {
        i: {"exp_avg": torch.full_like(value, fill), "exp_avg_sq": torch.full_like(value, fill)}
        for i, value in enumerate(weights.values())
    }
    return {"encoder": describe(encoder), "state_dict": weights, "fill": fill,
            "optimizer_states": [{"state": moments, "param_groups": []}]}  # fmt: skip


def regions(file: Path) -> dict[str, tuple[int, int]]:
    """Where what lies in a checkpoint, as (first, beyond the last)."""
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive, file.open("rb") as data:
        table = archive.infolist()[0]
        weights = max(archive.infolist(), key=lambda info: info.file_size)
        data.seek(weights.header_offset)
        header = data.read(30)
        padding = weights.header_offset + 30 + int.from_bytes(header[26:28], "little")
        first = padding + int.from_bytes(header[28:30], "little")
        return {
            "header": (0, 30 + len(table.filename)),
            "table of contents": (table.header_offset + 64, table.header_offset + table.file_size),
            "padding": (padding, first),
            "weights": (first, first + weights.file_size),
            "central directory": (archive.start_dir, size - 93),
            "end and comment": (size - 93, size),
        }


def damage(work: Path, n: int) -> bool:
    """Cut checkpoints off and flip bits of them; the one before is taken, or none."""
    encoder = ConvAutoencoder(embedding_dim=4, hidden_dim=2, channels=(2, 2))
    files, last, previous = CheckpointFiles(), work / LAST, work / PREVIOUS
    for fill in (1.0, 2.0):
        files.save_checkpoint(checkpoint(encoder, fill), last, {"previous": PREVIOUS})
    whole, drawn = last.read_bytes(), random.Random(0)
    said = io.StringIO()
    logging.getLogger("dedup").addHandler(logging.StreamHandler(said))
    logging.getLogger("dedup").propagate = False
    places = regions(last)
    print("| region | bytes | damaged | the one before is taken | both named | garbage |")
    print("|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for number, (name, (low, high)) in enumerate(places.items()):
        share = [50 // len(places) + (number < 50 % len(places))] * 2
        count: Counter[str] = Counter()
        for kind, times in zip(("cut", "flip"), share, strict=True):
            for _ in range(times):
                place = drawn.randrange(low, high)
                damaged = bytearray(whole)
                damaged[place] ^= 1 << drawn.randrange(8)
                last.write_bytes(whole[:place] if kind == "cut" else damaged)
                said.truncate(0)
                taken = checkpoint_to_resume(str(work), work, encoder)
                count["damaged"] += 1
                count["taken"] += taken == previous and read(previous)["fill"] == 1.0
                count["named"] += str(last) in said.getvalue() and str(previous) in said.getvalue()
                try:
                    files.load_checkpoint(last)
                    count["garbage"] += 1
                except CorruptError:
                    pass
        total += count
        print(f"| {name} | {high - low} | {count['damaged']} | {count['taken']} | "
              f"{count['named']} | {count['garbage']} |")  # fmt: skip
    for file in (last, previous):
        file.write_bytes(whole[:-1])
    try:
        checkpoint_to_resume(str(work), work, encoder)
        code = 0
    except CorruptError as error:
        code = error.exit_code
    print(f"\nboth damaged: exit code {code}")
    return total["taken"] == total["named"] == total["damaged"] and code == 4


def saving(work: Path, n: int) -> bool:
    """The time of a save of the original's network, in training."""
    content = checkpoint(ConvAutoencoder(), 0.5)
    file = work / LAST

    def plain() -> None:
        torch.save(content, file)

    def synced() -> None:
        with file.open("wb") as opened:
            torch.save(content, opened)
            opened.flush()
            os.fsync(opened.fileno())

    ways: dict[str, Callable[[], object]] = {
        "torch.save": plain,
        "torch.save and fsync": synced,
        "Lightning's": lambda: TorchCheckpointIO().save_checkpoint(content, file),
        "ours: sealed, synced, two kept": lambda: CheckpointFiles().save_checkpoint(
            content, file, {"previous": PREVIOUS}
        ),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            os.sync()
            begin = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - begin)
    begin = time.perf_counter()
    read(file)
    reading = time.perf_counter() - begin
    print(f"{file.stat().st_size / 1e6:.0f} MB\n")
    print("| save | median s | least s |\n|---|---|---|")
    for name, seconds in taken.items():
        print(f"| {name} | {sorted(seconds)[2]:.2f} | {min(seconds):.2f} |")
    print(f"\nread and verified in {reading:.2f} s")
    ours, other = (sorted(taken[name])[2] for name in (list(ways)[-1], "torch.save and fsync"))
    return ours <= LIMIT * other


def main() -> None:
    """Run what is asked for."""
    parts: dict[str, Callable[[Path, int], bool]] = {
        part.__name__: part for part in (kills, damage, saving)
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all by default")
    parser.add_argument("--n", type=int, default=20, help="kills")
    args = parser.parse_args()
    wrong = []
    for name in args.parts or parts:
        print(f"\n### {name}\n", flush=True)
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as work:
            if not parts[name](Path(work), args.n):
                wrong.append(name)
    sys.exit(f"not as it must be: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
