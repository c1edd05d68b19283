"""What the ingest does when hosts, images, processes and disks misbehave, at full size.

    python benchmarks/faults.py IMAGES [hostile] [retries] [kills] [memory] [caps]

All of them by default. Each starts a server in another process, reads through the store's own code
in a process of its own, and prints a table and whether it is as it must be; exit code 1 if not.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image
from serving import counts, serving

from dedup.runtime.tables import write_rows

INGEST = """
import json, resource, sys, time
from pathlib import Path
from dedup.errors import DedupError
from dedup.download.client import Fetcher
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore

table, folder, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
fetcher = Fetcher(**{"allow_networks": ["127.0.0.0/8"], **settings.get("fetch", {})})
store = ImageStore(folder, fetcher=fetcher, **settings.get("store", {}))
start = time.perf_counter()
try:
    images = store.ingest(CsvSource(str(table)).read(), folder.parent)
except DedupError as error:
    sys.exit(f"{type(error).__name__}: {error}")
seconds = time.perf_counter() - start
images.to_parquet(folder.parent / "images.parquet")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"digest": store.digest(), "seconds": seconds, "MB": peak}))
"""


class Row(NamedTuple):
    """A row of a CSV, and what must become of it: "ok", or a status and a reason."""

    product: str
    address: str
    expected: str


class Told(NamedTuple):
    """What an ingest told at its end."""

    digest: str
    seconds: float
    peak: float
    images: pd.DataFrame


def write(table: Path, rows: Sequence[Row]) -> None:
    """A CSV of these rows."""
    head = ("productId", "title", "imageUrlStr")
    write_rows(head, ((row.product, "", row.address) for row in rows), table)


def command(table: Path, folder: Path, settings: Mapping[str, object]) -> list[str]:
    """What reads a table's images into a store."""
    return [sys.executable, "-c", INGEST, str(table), str(folder), json.dumps(settings)]


def ingest(table: Path, folder: Path, **settings: object) -> Told:
    """Read a table's images into a store, by a process of its own."""
    done = subprocess.run(command(table, folder, settings), capture_output=True, text=True)
    if done.returncode or "Traceback" in done.stderr:
        sys.exit(f"the ingest ended with {done.returncode}:\n{done.stderr[-3000:]}")
    told = json.loads(done.stdout)
    images = pd.read_parquet(folder.parent / "images.parquet")
    return Told(told["digest"], told["seconds"], told["MB"], images)


def image(size: tuple[int, int], mode: str = "RGB", kind: str = "PNG") -> bytes:
    """A blank image."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


FILES = {
    "huge.png": image((13_000, 13_000), "1"),
    "thin.png": image((20_000, 60)),
    "text.jpg": b"this is no image at all",
    "page.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "post.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "none.jpg": b"",
    "cut.png": image((300, 300))[:-40],
    "tiff.jpg": image((30, 30), kind="TIFF"),
}
KINDS: dict[str, str] = {  # what an address looks like, and what becomes of it
    "{at}/status/404/999/{n}.jpg": "failed:http_404",
    "{at}/status/410/999/{n}.jpg": "failed:http_410",
    "{at}/status/403/999/{n}.jpg": "failed:http_403",
    "{at}/status/204/999/{n}.jpg": "failed:http_204",
    "{at}/status/503/1/{n}.jpg": "ok",
    "{at}/status/503/999/{n}.jpg": "failed:http_503",
    "{at}/cut/1/{n}.jpg": "ok",
    "{at}/page/{n}.jpg": "failed:format",
    "{at}/file/text.jpg?{n}": "failed:format",
    "{at}/file/page.svg?{n}": "failed:format",
    "{at}/file/post.eps?{n}": "failed:format",
    "{at}/file/tiff.jpg?{n}": "ok",
    "{at}/file/none.jpg?{n}": "failed:empty",
    "{at}/file/cut.png?{n}": "failed:truncated",
    "{at}/file/huge.png?{n}": "failed:too_many_pixels",
    "{at}/file/thin.png?{n}": "failed:aspect",
    "{at}/to/http%3A%2F%2F10.0.0.1%2F{n}.jpg": "failed:blocked_address",
    "{at}/to/ftp%3A%2F%2F127.0.0.1%2F{n}.jpg": "failed:redirect",
    "http://10.1.2.3/{n}.jpg": "failed:blocked_address",
    "http://169.254.169.254/{n}": "failed:blocked_address",
    "http://[::ffff:10.0.0.1]/{n}.jpg": "failed:blocked_address",
    "http://8.8.8.8:22/{n}.jpg": "failed:port",
    "ftp://shop.example/{n}.jpg": "failed:scheme",
    "data:image/png;base64,{n}": "failed:scheme",
    "javascript:alert({n})": "failed:scheme",
    "/etc/passwd?{n}": "failed:outside_folder",
    "../../{n}.jpg": "failed:outside_folder",
    "missing/{n}.jpg": "failed:not_found",
    "http:///{n}.jpg": "failed:bad_url",
    "http://a b/{n}.jpg": "failed:bad_url",
    "": "failed:no_url",
}


def hostile_rows(address: str, n: int) -> list[Row]:
    """Half good rows, half of all kinds of bad ones, shuffled."""
    rows = [Row(f"G{i}", f"{address}/{i}.jpg", "ok") for i in range(n // 2)]
    kinds = list(KINDS.items())
    for i in range(n - len(rows)):
        address_of, expected = kinds[i % len(kinds)]
        rows.append(Row(f"B{i}", address_of.format(at=address, n=i), expected))
    random.Random(0).shuffle(rows)
    return rows


def hostile(images: Path, work: Path) -> bool:
    """10,000 rows, half of them bad in 31 ways: one outcome each, as expected."""
    with serving(images, FILES) as address:
        rows = hostile_rows(address, 10_000)
        write(work / "products.csv", rows)
        told = ingest(work / "products.csv", work / "store", fetch={"attempts": 3, "max_wait": 1})
    found = dict(zip(told.images["product_id"], _outcomes(told.images), strict=True))
    table: dict[str, Counter[str]] = {row.expected: Counter() for row in rows}
    for row in rows:
        table[row.expected][found.get(row.product, "lost")] += 1
    print("| must be | rows | became |\n|---|---|---|")
    for expected, became in sorted(table.items()):
        shown = ", ".join(f"{count:,} {outcome}" for outcome, count in became.most_common())
        print(f"| {expected} | {became.total():,} | {shown} |")
    statuses = told.images["status"].value_counts()
    print(
        f"\n{statuses.to_dict()}, {len(told.images):,} of {len(rows):,} rows, {told.seconds:.0f} s"
    )
    right = all(set(became) == {expected} for expected, became in table.items())
    return right and len(told.images) == len(rows) == statuses.sum()


def _outcomes(images: pd.DataFrame) -> list[str]:
    return [
        status if status == "ok" else f"{status}:{reason}"
        for status, reason in zip(images["status"], images["reason"], strict=True)
    ]


def retries(images: Path, work: Path) -> bool:
    """1 % 404, 5 % time-outs, 20 % flapping 503: all that can be had is had."""
    rng, rows = random.Random(1), []
    with serving(images) as address:
        for i in range(10_000):
            kind = rng.random()
            if kind < 0.01:
                rows.append(Row(f"P{i}", f"{address}/status/404/999/{i}.jpg", "failed:http_404"))
            elif kind < 0.06:
                rows.append(Row(f"P{i}", f"{address}/hang/1/{i}.jpg", "ok"))
            elif kind < 0.26:
                rows.append(Row(f"P{i}", f"{address}/status/503/{1 + i % 2}/{i}.jpg", "ok"))
            else:
                rows.append(Row(f"P{i}", f"{address}/{i}.jpg", "ok"))
        write(work / "products.csv", rows)
        told = ingest(work / "products.csv", work / "store", fetch={"idle_timeout": 2})
        asked = counts(address)
    found = dict(zip(told.images["product_id"], _outcomes(told.images), strict=True))
    retriable = [row for row in rows if row.expected == "ok"]
    n_ok = sum(found[row.product] == "ok" for row in retriable)
    gone = [path for path in asked if path.startswith("/status/404")]
    requests = Counter(asked[path] for path in gone)
    print(f"| retriable rows | ok | share | 404s | requests to each | seconds |\n{'|---' * 6}|")
    print(
        f"| {len(retriable):,} | {n_ok:,} | {n_ok / len(retriable):.4f} | {len(gone)} | "
        f"{dict(requests)} | {told.seconds:.0f} |"
    )
    return n_ok >= 0.999 * len(retriable) and set(requests) == {1}


def kills(images: Path, work: Path, n: int = 100) -> bool:
    """Kill an ingest at random moments, again and again: always the same store in the end."""
    rng, rows = random.Random(2), 4000  # more than may be fetched again
    digests: Counter[str] = Counter()
    again: list[int] = []
    with serving(images) as address:
        table = work / "products.csv"
        write(table, [Row(f"P{i}", f"{address}/{i}.jpg", "ok") for i in range(rows)])
        clean = ingest(table, work / "clean" / "store")
        for number in range(n):
            folder = work / f"killed-{number}" / "store"
            folder.parent.mkdir()
            before = counts(address)
            with subprocess.Popen(
                command(table, folder, {}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process:
                time.sleep(rng.uniform(1.0, 1.5 + clean.seconds))
                process.send_signal(signal.SIGKILL)
            told = ingest(table, folder)
            digests[told.digest] += 1
            again.append((counts(address) - before).total() - 1 - rows)
    print(f"| kills | stores like the clean one | most fetched again | median |\n{'|---' * 4}|")
    print(f"| {n} | {digests[clean.digest]} | {max(again)} | {sorted(again)[n // 2]} |")
    return digests == {clean.digest: n} and max(again) <= 2000


def memory(images: Path, work: Path) -> bool:
    """The peak of ten times as many rows."""
    peaks = {}
    with serving(images) as address:
        for n in (10_000, 100_000):
            folder = work / str(n)
            folder.mkdir()
            rows = [Row(f"P{i}", f"{address}/{i % 500}.jpg?{i}", "ok") for i in range(n)]
            write(folder / "products.csv", rows)
            told = ingest(folder / "products.csv", folder / "store")
            peaks[n] = told.peak
            print(f"{n:,} rows: peak {told.peak:.0f} MB, {n / told.seconds:.0f} rows/s", flush=True)
    ratio = peaks[100_000] / peaks[10_000]
    print(f"ratio {ratio:.3f}")
    return ratio <= 1.1


def caps(images: Path, work: Path) -> bool:
    """Attacks beside 200 good rows: what they cost in time and memory."""
    settings = {"timeout": 5, "idle_timeout": 3, "attempts": 1}
    attacks = {
        "none": (["{at}/{n}.jpg"], "ok"),
        "13,000 x 13,000 PNG": (["{at}/file/huge.png?{n}"], "failed:too_many_pixels"),
        "gzip bomb, 1 GB": (["{at}/bomb/{n}.jpg"], "failed:bomb"),
        "endless body": (["{at}/endless/{n}.jpg"], "failed:too_large"),
        "a byte a second, on all connections": (["{at}/drip/{n}.jpg"] * 64, "failed:timeout"),
    }
    peaks = []
    print("| attack | rows | outcome | others ok | seconds | peak MB |\n|---|---|---|---|---|---|")
    good = True
    with serving(images, FILES) as address:
        for name, (addresses, expected) in attacks.items():
            folder = work / name.partition(" ")[0].replace(",", "")
            folder.mkdir()
            rows = [
                Row(f"A{n}", one.format(at=address, n=n), "") for n, one in enumerate(addresses)
            ]
            rows += [Row(f"G{n}", f"{address}/{n}.jpg", "ok") for n in range(200)]
            write(folder / "products.csv", rows)
            told = ingest(folder / "products.csv", folder / "store", fetch=settings)
            attack = told.images["product_id"].str.startswith("A")
            outcome = Counter(_outcomes(told.images[attack]))
            n_good = (told.images[~attack]["status"] == "ok").sum()
            print(
                f"| {name} | {len(addresses)} | {dict(outcome)} | {n_good} of 200 | "
                f"{told.seconds:.1f} | {told.peak:.0f} |",
                flush=True,
            )
            peaks.append(told.peak)
            good &= bool(n_good == 200) and outcome == {expected: len(addresses)}
    return good and max(peaks) <= peaks[0] + 64  # MB: what one attack may cost


def main() -> None:
    """Run what is asked for."""
    parts: dict[str, Callable[[Path, Path], bool]] = {
        part.__name__: part for part in (hostile, retries, caps, memory, kills)
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("parts", nargs="*", choices=[*parts, []], help="all by default")
    args = parser.parse_args()
    wrong = []
    for name in args.parts or parts:
        print(f"\n### {name}\n", flush=True)
        with tempfile.TemporaryDirectory() as work:
            if not parts[name](args.images, Path(work)):
                wrong.append(name)
    sys.exit(f"not as it must be: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
