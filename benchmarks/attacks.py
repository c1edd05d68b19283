"""Attacks on a catalogue's reader, at full size: what was done, and what was seen.

    python benchmarks/attacks.py [--only names] [--only bombs] ...

All trials by default, each a function below. Nothing leaves this machine: servers are on the
loopback, and names are resolved in a network of their own. Exit code 1 if anything is not as it
must be.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from bombs import BOMBS
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from serving import counts, serving

ROOT = Path(__file__).parents[1]
COLUMNS = ["productId", "title", "imageUrlStr"]
ATTACKED = [sys.executable, str(ROOT / "benchmarks" / "attacked.py")]


class Ran(NamedTuple):
    """What a command did.

    Attributes:
        code: its exit code.
        seconds: how long it took.
        peak: the most memory that it had, in MB.
        said: its last line.
    """

    code: int
    seconds: float
    peak: float
    said: str


def ran(command: Sequence[str], cwd: Path) -> Ran:
    """Run a command of the project."""
    start = time.perf_counter()
    with (cwd / "said.txt").open("w+") as said:
        process = subprocess.Popen(command, cwd=cwd, stdout=said, stderr=said, env=surroundings())
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().strip().splitlines() or [""]
    seconds = time.perf_counter() - start
    return Ran(process.returncode, seconds, used.ru_maxrss / 1024, lines[-1])


def surroundings() -> dict[str, str]:
    """Where a command finds the project, its tests and these benchmarks."""
    places = [ROOT / "src", ROOT, ROOT / "benchmarks"]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}


def write(folder: Path, rows: Iterable[tuple[str, str]]) -> Path:
    """A CSV of ids and addresses; its path."""
    path = folder / "products.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((product, f"Title {product}", url) for product, url in rows)
    return path


def image(seed: int) -> Image.Image:
    """An image like no other, of 150 x 200."""
    noise = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((150, 200), Image.Resampling.BICUBIC)


def command(table: Path, folder: Path, **settings: object) -> list[str]:
    """What reads a table's images into a store, and says what it took."""
    return [*ATTACKED, "ingest", str(table), str(folder), json.dumps(settings)]


def explain_shortage(command: Sequence[str]) -> Any:
    """What a command of ``attacked.py`` said."""
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings())
    if done.returncode:
        sys.exit(f"it ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)


def ingested(table: Path, folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """What an ingest said, and its images."""
    said, file = explain_shortage(command(table, folder)), folder / "images.parquet"
    return said, pd.read_parquet(file) if file.is_file() else pd.DataFrame()


def reasons(images: pd.DataFrame) -> list[str]:
    """Of each row, ``ok`` or why not."""
    return [
        reason or status for status, reason in zip(images["status"], images["reason"], strict=True)
    ]


def head(*names: str) -> None:
    """The first lines of a table."""
    print("| " + " | ".join(names) + " |\n" + "|---" * len(names) + "|", flush=True)


def row(*cells: object) -> None:
    """A line of it."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def names(work: Path) -> bool:
    """Names that lead inside, asked for by two runs, through the system's own resolver."""
    from tests.support.nameserver import ATTACKS, REBOUND, setup

    network = setup(work)
    if not network:
        print("not tried: this machine gives nobody a network of its own")
        return True
    good = {f"good {n}": f"http://public.test/drawn?{n}" for n in range(100)}
    tables = [
        {name: f"http://{name}/drawn?{turn}" for name in [*ATTACKS, *REBOUND]} for turn in "12"
    ]
    tables.append({"closed": "https://closed.test/"})
    tables.append({f"hanging {n}": f"http://hanging-{n}.test/drawn" for n in range(300)})
    commands = []
    for turn, rows in enumerate(tables):
        folder = work / str(turn)
        folder.mkdir()
        hanging = "hanging 0" in rows
        asked = {"timeout": 4, "attempts": 2} if hanging else {}
        beside = {} if hanging else good
        commands.append(command(write(folder, [*rows.items(), *beside.items()]), folder, **asked))
    said = explain_shortage([*network, *ATTACKED, "serve", json.dumps(commands)])
    files = [work / str(turn) / "images.parquet" for turn in range(3)]
    images = [pd.read_parquet(file) for file in files]
    return _names_told(
        said, [dict(zip(it["product_id"], reasons(it), strict=True)) for it in images]
    )


def _names_told(said: list[Any], found: list[dict[str, str]]) -> bool:
    """Print what became of names; whether it is as it must be."""
    from tests.support.nameserver import ATTACKS, REBOUND

    asked, came, begun, runs = said
    wanted = {name: (must, must) for name, (_, must) in ATTACKS.items()}
    wanted |= dict.fromkeys(REBOUND, ("ok", "blocked_address"))
    head("name", "must be", "first run", "second run")
    right = True
    for name, must in wanted.items():
        row(name, ", then ".join(dict.fromkeys(must)), found[0][name], found[1][name])
        right &= all(found[turn][name] in must[turn].split(" or ") for turn in (0, 1))
    hanging = runs[3]["said"].partition(": See")[0].partition(". See")[0]
    good = sum(it[f"good {n}"] == "ok" for it in found[:3] for n in range(100))
    public = ("9.9.", "2600::", "::ffff:9.9.", "64:ff9b::8")
    inside = [address for address in came if not address.startswith(public)]
    print(
        f"\n4,000 addresses where nobody listens: {found[2]['closed']} in "
        f"{runs[2]['seconds']:.0f} s. 300 names that hang: {hanging}, in "
        f"{runs[3]['seconds']:.0f} s, at most {runs[3]['threads']} threads. In the four runs "
        f"{asked:,} questions and {begun:,} connections begun, those to the name service "
        f"included; {len(came)} came to a server, {len(inside)} of them inside. "
        f"{good} of 300 good rows ok."
    )
    return right and not inside and good == 300


def bombs(work: Path) -> bool:
    """Images made to exhaust a decoder, each beside 20 good ones, from a CSV into a store."""
    head("picture", "KB", "became", "others ok", "s", "parent's CPU s", "parent MB", "child MB")
    right = True
    for number, (name, bomb) in enumerate(BOMBS.items()):
        folder = work / str(number)
        folder.mkdir()
        (folder / "bomb").write_bytes(bomb.make())
        for n in range(20):
            image(n).save(folder / f"{n}.jpg")
        rows = [(f"G{n}", f"{n}.jpg") for n in range(20)]
        table = write(folder, [*rows[:10], ("bomb", "bomb"), *rows[10:]])
        took, images = ingested(table, folder)
        became = dict(zip(images["product_id"], reasons(images), strict=True))
        good = sum(became[product] == "ok" for product, _ in rows)
        size = (folder / "bomb").stat().st_size / 1000
        row(
            name, f"{size:,.1f}", became["bomb"], f"{good} of 20", f"{took['seconds']:.1f}",
            f"{took['cpu']:.1f}", f"{took['peak']:.0f}", f"{took['child']:.0f}",
        )  # fmt: skip
        right &= good == 20 and became["bomb"] in bomb.expected.split()
    return right


def address(work: Path, n: int = 1_000_000) -> bool:
    """A million products with one address, beside two with images of their own."""
    (work / "images").mkdir()
    for seed in range(3):
        image(seed).save(work / "images" / f"{seed}.jpg")
    with serving(work / "images") as at:
        products = [(f"P{i}", f"{at}/1.jpg") for i in range(n)]
        write(work, [*products, ("Q0", f"{at}/0.jpg"), ("Q2", f"{at}/2.jpg")])
        asked = [
            "encoder=bundled",
            "source.path=products.csv",
            "fetch.allow_networks=[127.0.0.0/8]",
        ]
        clustered = ran([sys.executable, str(ROOT / "cluster.py"), "source=csv", *asked], work)
        fetched = counts(at)["/1.jpg"]
    found = ran([sys.executable, str(ROOT / "detect.py")], work)
    return _told(work, f"{n:,} of one address", clustered, found, f"{fetched} fetch", n)


def equal(work: Path, n: int = 5000) -> bool:
    """Thousands of products with equal images at addresses of their own."""
    right = True
    for kind in ("bytes", "pixels"):
        folder = work / kind
        (folder / "images").mkdir(parents=True)
        for i in range(n):
            note = PngInfo()
            if kind == "pixels":
                note.add_text("number", str(i))
            image(1).save(folder / "images" / f"{i}.png", pnginfo=note, compress_level=1)
        write(folder, ((f"P{i}", f"images/{i}.png") for i in range(n)))
        asked = ["source=csv", "source.path=products.csv", "encoder=bundled"]
        clustered = ran([sys.executable, str(ROOT / "cluster.py"), *asked], folder)
        again = ["encoder=bundled", "index=runs/cluster/latest"]
        found = ran([sys.executable, str(ROOT / "detect.py"), *again], folder)
        right &= _told(folder, f"{n:,} of equal {kind}", clustered, found, f"{n:,} files", n)
    return right


def _told(work: Path, what: str, clustered: Ran, found: Ran, read: str, n: int) -> bool:
    """Print what cluster and detect did; whether all are shared and none is paired."""
    head("products", "command", "exit code", "s", "MB", "seen")
    seconds, peak = f"{clustered.seconds:.0f}", f"{clustered.peak:.0f}"
    row(what, "cluster.py", clustered.code, seconds, peak, read)
    latest = work / "runs" / "detect" / "latest"
    sizes = {}
    for name in ("pairs", "candidates", "shared") if found.code == 0 else ():
        table = pd.read_parquet(latest / f"{name}.parquet")
        ends = table.filter(like="product_id")  # two others may be looked at
        sizes[name] = int(ends.apply(lambda ids: ids.str.startswith("P")).any(axis=1).sum())
    seen = ", ".join(f"{size:,} {name}" for name, size in sizes.items())
    row(what, "detect.py", found.code, f"{found.seconds:.0f}", f"{found.peak:.0f}", seen)
    print()
    return sizes == {"pairs": 0, "candidates": 0, "shared": n}


def cells(work: Path) -> bool:
    """Tables that are small and become large, from a CSV into a store."""
    head("table", "MB", "became", "s", "MB of memory")
    right = True
    for number, (name, table) in enumerate(tables().items()):
        folder = work / str(number)
        folder.mkdir()
        image(1).save(folder / "good.jpg")
        path = folder / "products.csv"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(table.parts)
        took, images = ingested(path, folder)
        ends = Counter(reasons(images) if len(images) else [])
        became = ", ".join(f"{count:,} {end}" for end, count in ends.most_common())
        said = took["said"].replace(str(path), "").partition(": ")[2].strip(": ")
        size, seconds = f"{path.stat().st_size / 1e6:.1f}", f"{took['seconds']:.1f}"
        row(name, size, became or f"refused: {said}", seconds, f"{took['peak']:.0f}")
        right &= (dict(ends) or {"refused": 1}) == table.expected
    return right


class Table(NamedTuple):
    """The text of a CSV in parts, and how many of its rows must become what."""

    parts: Iterable[str]
    expected: dict[str, int]


def tables() -> dict[str, Table]:
    """Hostile tables by what they are; each has one good record."""
    start, good, words = ",".join(COLUMNS) + "\n", "P1,One,good.jpg\n", "x" * 130_000
    wide = ",".join([*COLUMNS, *(f"c{n}" for n in range(9_997))])
    full = [wide, "\n", good.strip() + "," * 9_997 + "\n"]
    missing = ";".join(f"{n:x}.jpg" for n in range(15_000))
    many, refused = 10**6, {"refused": 1}

    def of(*records: str, **ends: int) -> Table:
        return Table([start, good, *records], {"ok": 1, **ends})

    return {
        "one record": of(),
        "100,000 columns": Table([wide, *(f",d{n}" for n in range(90_000)), "\n", good], refused),
        "10,000 columns": Table(full, {"ok": 1}),
        "1,000,000 blank lines": of("\n" * many, blank_row=many),
        "1,000,000 records of commas": of(",,\n" * many, blank_row=many),
        "1,000,000 blank lines under 10,000 columns": Table([*full, "\n" * many], refused),
        "20 cells of 16 MB": of(
            *(f"H{n},{words * 128},a.jpg\n" for n in range(20)), field_too_long=20
        ),
        "100 ids of 130 KB at one address": of(
            *(f"{n}{words},One,good.jpg\n" for n in range(100)), bad_id=100
        ),
        "15,000 addresses in a cell, nothing there": of(f"P2,Two,{missing}\n", not_found=1),
        "100,000 records with broken quotes": of(
            '"a"b,Two,good.jpg\n' * 100_000, bad_quotes=100_000
        ),
        "a quote that never ends, 100 MB": Table(
            [start, good, '"', "P2,Two,good.jpg\n" * 6_000_000], refused
        ),
        "10,000 lists in a cell, in each other": of(f'P2,Two,"{"[" * 10_000}"\n', bad_url=1),
    }


def parquet(work: Path) -> bool:
    """Parquet files that deceive, read as they come and with what is expected in mind."""
    from parquets import DAMAGED

    print("Read by a process with 2 GiB of address space. In bold: no error of Parquet's.\n")
    head("file", "KB", "as it comes", "s", "MB", "columns and rows known", "s", "MB")
    for number, (name, make) in enumerate(DAMAGED.items()):
        path = work / f"{number}.parquet"
        make(path)
        seen = []
        for how in ("plain", "checked"):
            limited = ["prlimit", f"--as={2**31}", *ATTACKED, "read", str(path), how]
            done = subprocess.run(limited, capture_output=True, text=True, env=surroundings())
            died = [f"**died: {done.returncode}**", 0, 0]
            came, seconds, peak = died if done.returncode else json.loads(done.stdout)
            seen += [came, f"{seconds:.1f}", f"{peak:.0f}"]
        row(name, f"{path.stat().st_size / 1000:,.1f}", *seen)
        path.unlink()
        if (work / f"{number}.parquet.called").exists():
            print("\nCODE OF THE FILE WAS RUN")
            return False
    return True


def main() -> None:
    """Run what is asked for."""
    trials: dict[str, Callable[[Path], bool]] = {
        trial.__name__: trial for trial in (names, bombs, address, equal, cells, parquet)
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=trials, help="all by default")
    args = parser.parse_args()
    sys.path.append(str(ROOT))
    wrong = []
    for name in args.only or trials:
        print(f"\n### {name}\n", flush=True)
        with tempfile.TemporaryDirectory() as work:
            if not trials[name](Path(work)):
                wrong.append(name)
    sys.exit(f"not as it must be: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
