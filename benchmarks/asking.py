"""How long a question takes, and what an image that takes minutes to decode does to it.

    python benchmarks/asking.py --before ../an_earlier_checkout

The usual question: a photo of 12 megapixels against an index of some images, by the command,
start and all; in turns with those of an earlier checkout. The slow ones: a progressive JPEG with
20,000 scans, as a file and from a web address, with the limits as they are by default.
"""

from __future__ import annotations

import argparse
import http.server
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dedup.runtime.tables import write_rows

ROOT = Path(__file__).parents[1]
N_IMAGES, N_SCANS = 60, 20_000
INDEX = ["encoder=bundled", "index=runs/cluster/latest", "runs=asked"]


class Asked(NamedTuple):
    """What a question came to: seconds, those of processors, exit code, and the last line said."""

    seconds: float
    cpu: float
    code: int
    said: str


def drawn(number: int, size: tuple[int, int]) -> bytes:
    """A JPEG of a smooth random pattern."""
    noise = np.random.default_rng(number).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def slow(n_scans: int) -> bytes:
    """A progressive JPEG of one colour, whose last scan is repeated."""
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 2000), (200, 30, 90)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start, end = data.rindex(b"\xff\xda"), len(data) - 2
    return data[:end] + n_scans * data[start:end] + data[end:]


def run(checkout: Path, command: str, *settings: str, cwd: Path, patience: float = 600) -> Asked:
    """Run a command of a checkout; ``timeout`` where it takes longer than one has patience for."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(
        [sys.executable, str(checkout / f"{command}.py"), *settings], cwd=cwd,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
    )  # fmt: skip
    try:
        _, said = child.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return Asked(patience, patience, -1, "still at work, killed")
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Asked(
        seconds,
        cpu,
        child.returncode,
        said.strip().rpartition("\n")[2].partition("ERROR")[2].strip(),
    )


def make(folder: Path) -> None:
    """A catalogue, its index, and the images to ask about."""
    rows = []
    for number in range(N_IMAGES):
        (folder / f"{number}.jpg").write_bytes(drawn(number, (300, 400)))
        rows.append((f"P{number}", f"{number}.jpg"))
    write_rows(("productId", "imageUrlStr"), rows, folder / "products.csv")
    (folder / "photo.jpg").write_bytes(drawn(N_IMAGES, (3000, 4000)))
    (folder / "slow.jpg").write_bytes(slow(N_SCANS))
    made = run(ROOT, "cluster", "encoder=bundled", "source.path=products.csv", cwd=folder)
    assert made.code == 0, made.said


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="an earlier checkout")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--patience", type=float, default=120, help="seconds for a slow image")
    options = parser.parse_args()
    checkouts = {"now": ROOT} | ({"before": options.before.resolve()} if options.before else {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        all_asked: dict[str, list[Asked]] = {version: [] for version in checkouts}
        for pair in range(options.pairs + 1):
            for version in list(checkouts)[:: 1 if pair % 2 else -1]:
                asked = run(checkouts[version], "detect", *INDEX, "query=photo.jpg", cwd=folder)
                assert asked.code == 0, asked.said
                all_asked[version] += [asked] if pair else []  # the first fills caches
        print(
            "| a photo of 12 megapixels | seconds, median | least | CPU seconds, median | least |"
        )
        print("|---|---|---|---|---|")
        for version, found in all_asked.items():
            sides = [sorted(one.seconds for one in found), sorted(one.cpu for one in found)]
            cells = [f"{take(side):.2f}" for side in sides for take in (statistics.median, min)]
            print(f"| {version} | {' | '.join(cells)} |")
        handler = partial(http.server.SimpleHTTPRequestHandler, directory=name)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/slow.jpg"
            size = (folder / "slow.jpg").stat().st_size
            print(
                f"\n| {N_SCANS:,} scans in {size:,} bytes | version | seconds | exit code | said |"
            )
            print("|---|---|---|---|---|")
            for version, checkout in checkouts.items():
                for place, query in (("file", "slow.jpg"), ("address", address)):
                    asked = run(checkout, "detect", *INDEX, f"query={query}",
                                "fetch.allow_networks=[127.0.0.0/8]", cwd=folder,
                                patience=options.patience)  # fmt: skip
                    said = asked.said.replace(address, "http://.../slow.jpg")
                    print(f"| {place} | {version} | {asked.seconds:.1f} | {asked.code} | {said} |")
            server.shutdown()


if __name__ == "__main__":
    main()
