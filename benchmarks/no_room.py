"""What each command does without room, without the right to write, and short of memory.

    python benchmarks/no_room.py [--parts disk readonly memory inches] [--verbose]

Disks are real ones: a tmpfs of the size that is wanted, mounted in a namespace of its own, as root
or where users may make namespaces; elsewhere files are kept from growing (``ulimit -f``). Each
trial starts from the same folder of runs. Prints a table; exit code 1 if a line is not as it must
be.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dedup.config.instances import ROOT
from dedup.sources.sample import draw_catalogue

SMALL = ["encoder.embedding_dim=8", "encoder.hidden_dim=16", "data.batch_size=16", "epochs=2",
         "trainer.accelerator=cpu"]  # fmt: skip
OF_TABLE = ["source=csv", "source.path=../shop/products.csv"]
COMMANDS = {  # each in the folder that holds the disk
    "train": ["train.py", *OF_TABLE, *SMALL],
    "train -m": ["train.py", "-m", *OF_TABLE, *SMALL, "epochs=1", "seed=1,2"],
    "cluster": ["cluster.py"],
    "cluster, new store": ["cluster.py", "store.path=disk/new"],
    "detect": ["detect.py"],
    "detect query=": ["detect.py", "query=../shop/query.jpg"],
    "check": ["check"],
}
KINDS = {"check": "verify"}
"""Folder of the runs of a command that has another name."""
REPORTS = ["duplicates.json", "duplicates.csv", "report.html"]
SHARES = [0.0, 0.3, 0.6, 0.9]
"""Of the room, or of the address space, that the command takes where there is enough."""
INCHES = range(0, 124, 4)
"""KB that are left."""
PAGE = 4096
NOISE = ("Traceback", "Logging error", "Exception ignored", "Error executing job", "terminate ")


class Outcome(NamedTuple):
    """How a command ended, and what it left."""

    code: int
    said: list[str]
    wrong: list[str]


@dataclass
class Disk:
    """A folder with so much room.

    Args:
        path: where it is, or is mounted.
        mounted: whether it is a disk of its own.
    """

    path: Path
    mounted: bool
    limit: int | None = field(default=None)
    """Bytes that a file may grow to, where it is not."""

    def leave(self, n_bytes: int | None) -> None:
        """Have so many bytes left, in whole pages; ``None`` for as many as there are."""
        if self.mounted:
            size = "50%" if n_bytes is None else str(used(self.path) + n_bytes // PAGE * PAGE)
            self._remount(f"rw,size={size}")
        else:
            self.limit = n_bytes

    def forbid(self) -> None:
        """Let nobody write."""
        self._remount("ro")

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)


def used(disk: Path) -> int:
    """Bytes that are taken on a disk."""
    facts = os.statvfs(disk)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


class Bench:
    """A shop, its runs, and a disk to try them on.

    Args:
        work: a folder of its own.
        disk: in it.
        commands: those that are tried.
        verbose: print what was said.
    """

    def __init__(self, work: Path, disk: Disk, commands: Sequence[str], verbose: bool) -> None:
        self.work = work
        self.commands = commands
        self.disk = disk
        self.verbose = verbose
        self.wrong = 0
        shop = work.parent / "shop"
        draw_catalogue(shop, 60, 0)
        shutil.copy(min((shop / "images").iterdir()), shop / "query.jpg")
        for name in ("train", "cluster", "detect", "check"):
            self.check(self.run(COMMANDS[name]))
        self.base = work.parent / "base"
        shutil.copytree(self.runs, self.base, symlinks=True)

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.disk.path / "runs"

    def run(
        self, command: Sequence[str], memory: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user does."""
        script, *others = command
        how = ["-m", "dedup", script] if script == "check" else [str(ROOT / script)]

        def narrowed() -> None:
            if memory is not None:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
            if self.disk.limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.disk.limit, self.disk.limit))

        return subprocess.run(
            [sys.executable, *how, *others, "runs=disk/runs"], cwd=self.work, text=True,
            capture_output=True, preexec_fn=narrowed, timeout=300,
        )  # fmt: skip

    def check(self, done: subprocess.CompletedProcess[str]) -> None:
        """Stop where a command did not succeed that must."""
        if done.returncode:
            sys.exit(f"{done.args} ended with {done.returncode}:\n{done.stderr[-3000:]}")

    def anew(self) -> None:
        """Put the disk back to what it was before any trial."""
        self.disk.leave(None)
        for entry in self.disk.path.iterdir():
            shutil.rmtree(entry)
        shutil.copytree(self.base, self.runs, symlinks=True)

    def need(self, name: str) -> int:
        """Bytes that a command adds to the disk."""
        self.anew()
        before = used(self.disk.path)
        self.check(self.run(COMMANDS[name]))
        if self.disk.mounted:
            return used(self.disk.path) - before
        new = set(self.runs.glob("*/2*/*")) - {self.runs / it for it in relative(self.base)}
        return max(file.stat().st_size for file in new if file.is_file())

    def memory(self, name: str) -> int:
        """Bytes of address space that a command takes at its most."""
        self.anew()
        script, *others = COMMANDS[name]
        how = ["-m", "dedup", script] if script == "check" else [str(ROOT / script)]
        peak = 0
        with subprocess.Popen(
            [sys.executable, *how, *others, "runs=disk/runs"], cwd=self.work,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            while process.poll() is None:
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                found = re.search(r"VmPeak:\s+(\d+)", status)
                peak = max(peak, 1024 * int(found[1])) if found else peak
                time.sleep(0.02)
        return peak

    def outcome(self, name: str, memory: int | None = None) -> Outcome:
        """Run a command, and look at what it said and left."""
        done = self.run(COMMANDS[name], memory)
        said = sentences(done.stderr)
        wrong = [word for word in NOISE if word in done.stderr]
        if done.returncode not in (0, 2, 6):
            wrong.append(f"exit code {done.returncode}")
        sweep = "-m" in COMMANDS[name]
        if done.returncode and (not said if sweep else len(said) != 1):
            wrong.append(f"{len(said)} sentences")
        # A failed run does not end a sweep: the best of the others becomes the latest.
        may_move = sweep or done.returncode == 0
        wrong += self.half_done(may_move, KINDS.get(name, COMMANDS[name][0].removesuffix(".py")))
        if self.verbose or wrong:
            print(f"\n{name}: {done.returncode} {wrong}\n{done.stderr[-3000:]}", file=sys.stderr)
        return Outcome(done.returncode, said, wrong)

    def half_done(self, may_move: bool, command: str) -> Iterator[str]:
        """What a command left that is not as it was, and not whole."""
        for kind in ("train", "cluster", "detect", "verify"):
            latest, before = self.runs / kind / "latest", self.base / kind / "latest"
            if not (latest / "run.json").is_file():
                yield f"{kind}/latest is not whole"
            if latest.readlink() != before.readlink() and not (may_move and kind == command):
                yield f"{kind}/latest was moved"
        for file in self.disk.path.rglob(".*"):
            if file.name != ".hydra":
                yield f"{file.relative_to(self.disk.path)} is left"
        for file in relative(self.base):
            if not file.is_symlink() and not (self.runs / file).exists():
                yield f"{file} is gone"

    def again(self, name: str) -> list[str]:
        """Run the command once more, with room."""
        self.disk.leave(None)
        self.check(self.run(COMMANDS[name]))
        if name != "detect":
            return []
        latest, before = self.runs / "detect" / "latest", self.base / "detect" / "latest"
        return [
            f"another {report}"
            for report in REPORTS
            if (latest / report).read_bytes() != (before / report).read_bytes()
        ]

    def line(self, name: str, what: str, outcomes: Sequence[Outcome], after: str) -> None:
        """Print a line of the table."""
        wrong = sorted({one for outcome in outcomes for one in outcome.wrong})
        self.wrong += bool(wrong)
        codes = ", ".join(str(outcome.code) for outcome in outcomes)
        said = ", ".join(str(len(outcome.said)) for outcome in outcomes)
        print(f"| {name} | {what} | {codes} | {said} | {'; '.join(wrong) or 'whole'} | {after} |")
        sys.stdout.flush()


def relative(folder: Path) -> list[Path]:
    """All that lies in a folder, as paths from there."""
    return [entry.relative_to(folder) for entry in folder.rglob("*")]


def sentences(stderr: str) -> list[str]:
    """The messages of a command that are neither information nor a warning nor a bar."""
    lines = [line for line in stderr.splitlines() if line.strip() and "━" not in line]
    return [line for line in lines if not re.match(r"\d\d:\d\d:\d\d (INFO|WARNING)", line)]


def disk(bench: Bench) -> None:
    """Four sizes of a full disk for each command."""
    for name in bench.commands:
        need = bench.need(name)
        outcomes, after = [], []
        left = [int(share * need) // PAGE * PAGE for share in SHARES]
        for n_bytes in left:
            bench.anew()
            bench.disk.leave(n_bytes)
            outcomes.append(bench.outcome(name))
            after += bench.again(name)
        sizes = ", ".join(f"{n_bytes / 1024:,.0f}" for n_bytes in left)
        what = f"{sizes} of {need / 1024:,.0f} KB left"
        bench.line(name, what, outcomes, "; ".join(after) or "done")


def readonly(bench: Bench) -> None:
    """A disk that can only be read."""
    for name in bench.commands:
        bench.anew()
        bench.disk.forbid()
        outcome = bench.outcome(name)
        bench.line(name, "read-only", [outcome], "; ".join(bench.again(name)) or "done")


def memory(bench: Bench) -> None:
    """Four sizes of memory for each command."""
    for name in bench.commands:
        peak = bench.memory(name)
        sizes = [int(peak * share) >> 20 << 20 for share in (0.2, 0.4, 0.6, 0.8)]
        outcomes, after = [], []
        for n_bytes in sizes:
            bench.anew()
            outcomes.append(bench.outcome(name, n_bytes))
            after += bench.again(name)
        shown = ", ".join(f"{n_bytes >> 20:,}" for n_bytes in sizes)
        what = f"{shown} of {peak >> 20:,} MiB of addresses"
        bench.line(name, what, outcomes, "; ".join(after) or "done")


def inches(bench: Bench) -> None:
    """A disk that is full at every place in a run of detect."""
    outcomes, after = [], []
    for kilobytes in INCHES:
        bench.anew()
        bench.disk.leave(kilobytes * 1024)
        outcomes.append(bench.outcome("detect"))
        after += bench.again("detect")
    what = f"{INCHES[0]} to {INCHES[-1]} KB left, every {INCHES.step}"
    bench.line("detect", what, outcomes, "; ".join(after) or "done")


PARTS: dict[str, Callable[[Bench], None]] = {
    part.__name__: part for part in (disk, inches, readonly, memory)
}


def alone() -> bool:
    """Whether disks may be mounted here; what is started then has a namespace of its own."""
    if "--mounted" in sys.argv:
        return True
    for how in (["unshare", "-m"], ["unshare", "-rm"]):
        with tempfile.TemporaryDirectory() as trial:
            tried = [*how, "mount", "-t", "tmpfs", "trial", trial]
            if shutil.which("unshare") and not subprocess.run(tried, stderr=-3).returncode:
                os.execvp(how[0], [*how, sys.executable, *sys.argv, "--mounted"])
    return False


def main() -> None:
    """Try what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS])
    parser.add_argument("--commands", nargs="+", choices=[*COMMANDS], default=[*COMMANDS])
    parser.add_argument("--verbose", action="store_true", help="print all that was said")
    parser.add_argument("--mounted", action="store_true", help=argparse.SUPPRESS)
    mounted, args = alone(), parser.parse_args()
    if not mounted:
        print("no disk can be mounted here: files are kept from growing, and no disk is read-only")
        args.parts = [part for part in args.parts if part not in ("readonly", "inches")]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work"
        (work / "disk").mkdir(parents=True)
        if mounted:
            mount = ["mount", "-t", "tmpfs", "-o", "size=50%", "disk", str(work / "disk")]
            subprocess.run(mount, check=True)
        try:
            bench = Bench(work, Disk(work / "disk", mounted), args.commands, args.verbose)
            print("| command | condition | exit code | sentences | left | then again |")
            print("|---|---|---|---|---|---|")
            for part in args.parts:
                PARTS[part](bench)
        finally:
            if mounted:
                subprocess.run(["umount", "-l", str(work / "disk")], check=True)
    sys.exit(f"{bench.wrong} lines are not as they must be" if bench.wrong else 0)


if __name__ == "__main__":
    main()
