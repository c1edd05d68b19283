"""What does a row of a table cost, in seconds and in memory? Each source, in a process of its own.

    python benchmarks/rows.py --folder FOLDER

Draws catalogues with ids, titles, categories and one to three web addresses of images a product, in
each format. A process of its own imports the package, and then reads one: its peak before is what
the libraries take. Times are of the processor, as other programs may run; the law compares the
least of several rounds. Tables stay in the folder, which takes 3 GB for a million rows.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq

READ = """
import hashlib, json, sys, time
from pathlib import Path
import pandas, pyarrow.parquet
from dedup.config.instances import build, default_settings
import dedup.sources.auto, dedup.sources.jsonl, dedup.sources.magento, dedup.sources.parquet
import dedup.sources.shopify

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

part, path, with_digest = sys.argv[1:]
source = build({**default_settings("source", part), "path": path})
before, wall, cpu = peak(), time.perf_counter(), time.process_time()
catalogue = source.read()
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
found = {"before": before, "peak": peak(), "wall": wall, "cpu": cpu}
found |= {"products": len(catalogue.products), "digest": ""}
found["open"] = int((catalogue.requests["status"] == "").sum())
if with_digest == "yes":
    digest = hashlib.sha256()
    for row in catalogue.requests.itertuples(index=False):
        digest.update(repr([*row[:3], list(row[3]), *row[4:]]).encode())
    for row in catalogue.products.itertuples(index=False):
        digest.update(repr(row).encode())
    found["digest"] = digest.hexdigest()[:12]
print(json.dumps(found))
"""
SIZES = (10_000, 100_000, 1_000_000)
HOST = "https://cdn.example.com/media/catalog"
WORDS = (
    "cotton linen wool silk denim slim relaxed classic printed striped floral pleated hooded long "
    "short sleeve crew neck shirt dress skirt jacket coat trousers jeans sweater blouse cardigan "
    "women men kids black white navy red olive beige grey pack of two with pockets and belt"
)
CATEGORIES = [
    f"Clothing>{who}'s>{what}>{kind}"
    for who in ("Women", "Men", "Kids")
    for what in ("Tops", "Trousers", "Dresses", "Outerwear")
    for kind in ("Casual", "Formal", "Sports")
]


class Product(NamedTuple):
    """A product as a shop has it."""

    key: str
    title: str
    category: str
    urls: list[str]


def products(n: int) -> Iterator[Product]:
    """Draw products; the first of them are the same for each n."""
    draw, words = random.Random(0), WORDS.split()
    for number in range(n):
        title = " ".join(draw.choices(words, k=draw.randint(4, 9))).capitalize()
        code = f"{draw.getrandbits(32):08x}"
        urls = [f"{HOST}/{code}_{one}.jpg" for one in range(1, draw.randint(1, 3) + 1)]
        yield Product(f"P{number:07}", title, draw.choice(CATEGORIES), urls)


Rows = Iterable[list[str]]


def write_table(path: Path, header: list[str], rows: Rows, delimiter: str = ",") -> None:
    """Write a table of text."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)


def as_csv(path: Path, n: int) -> None:
    """Addresses in one cell, separated by semicolons."""
    header = ["productId", "title", "categories", "imageUrlStr"]
    rows = ([one.key, one.title, one.category, ";".join(one.urls)] for one in products(n))
    write_table(path, header, rows, "\t" if path.suffix == ".tsv" else ",")


def as_parquet(path: Path, n: int) -> None:
    """Addresses as a list."""
    text = pa.string()
    kinds = [("productId", text), ("title", text), ("categories", text)]
    schema = pa.schema([*kinds, ("imageUrlStr", pa.list_(text))])
    with pq.ParquetWriter(path, schema) as writer:
        chunk: list[Product] = []
        for one in products(n):
            chunk.append(one)
            if len(chunk) == 100_000:
                writer.write_table(pa.table([*zip(*chunk, strict=True)], schema=schema))
                chunk = []
        if chunk:
            writer.write_table(pa.table([*zip(*chunk, strict=True)], schema=schema))


def as_jsonl(path: Path, n: int) -> None:
    """An object on a line."""
    with path.open("w", encoding="utf-8") as file:
        for key, title, category, urls in products(n):
            row = {"productId": key, "title": title, "categories": category, "imageUrlStr": urls}
            file.write(json.dumps(row) + "\n")


def as_feed(path: Path, n: int) -> None:
    """An RSS feed of Google Merchant."""
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0"?>\n<rss xmlns:g="http://base.google.com/ns/1.0" ')
        file.write('version="2.0"><channel><title>Shop</title>\n')
        for key, title, category, urls in products(n):
            names = ["g:image_link", *["g:additional_image_link"] * (len(urls) - 1)]
            images = "".join(f"<{a}>{b}</{a}>" for a, b in zip(names, urls, strict=True))
            file.write(f"<item><g:id>{key}</g:id><title>{title}</title>{images}")
            file.write(f"<g:product_type>{escape(category)}</g:product_type></item>\n")
        file.write("</channel></rss>\n")


def as_merchant_table(path: Path, n: int) -> None:
    """A table with tabs of Google Merchant."""
    header = ["id", "title", "product_type", "image_link", "additional_image_link"]
    rows = (
        [one.key, one.title, one.category, one.urls[0], ",".join(one.urls[1:])]
        for one in products(n)
    )
    write_table(path, header, rows, "\t")


def as_shopify(path: Path, n: int) -> None:
    """A row for each image; only the first of a product has more than its handle."""
    header = ["Handle", "Title", "Product Category", "Image Src", "Image Position"]

    def rows() -> Iterator[list[str]]:
        for one in products(n):
            facts = [one.title, one.category]
            for place, url in enumerate(one.urls, 1):
                yield [one.key, *(facts if place == 1 else ["", ""]), url, str(place)]

    write_table(path, header, (row for row, _ in zip(rows(), range(n), strict=False)))


def as_woocommerce(path: Path, n: int) -> None:
    """Addresses separated by commas and blanks."""
    header = ["ID", "Type", "SKU", "Name", "Categories", "Parent", "Images"]
    rows = (
        [one.key[1:].lstrip("0") or "0", "simple", one.key, one.title, one.category, "",
         ", ".join(one.urls)]
        for one in products(n)
    )  # fmt: skip
    write_table(path, header, rows)


def as_magento(path: Path, n: int) -> None:
    """Two columns of addresses."""
    header = ["sku", "name", "categories", "base_image", "additional_images"]
    rows = (
        [one.key, one.title, one.category, one.urls[0], ",".join(one.urls[1:])]
        for one in products(n)
    )
    write_table(path, header, rows)


class Format(NamedTuple):
    """A format: the source that reads it, the ending of its file, and what writes it."""

    part: str
    ending: str
    write: Callable[[Path, int], None]


FORMATS = {
    "csv": Format("csv", "csv", as_csv),
    "tsv": Format("tsv", "tsv", as_csv),
    "parquet": Format("parquet", "parquet", as_parquet),
    "jsonl": Format("jsonl", "jsonl", as_jsonl),
    "merchant, XML": Format("merchant", "xml", as_feed),
    "merchant, tabs": Format("merchant", "txt", as_merchant_table),
    "shopify": Format("shopify", "csv", as_shopify),
    "woocommerce": Format("woocommerce", "csv", as_woocommerce),
    "magento": Format("magento", "csv", as_magento),
}


def read(part: str, path: Path, with_digest: bool) -> dict[str, float]:
    """Read a table in a process of its own."""
    command = [sys.executable, "-c", READ, part, str(path), "yes" if with_digest else "no"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=FORMATS, default=[*FORMATS])
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--rounds", type=int, default=3, help="of all sizes but the largest")
    parser.add_argument("--digests", action="store_true", help="of what is read")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    print("| source | rows | to read | s | CPU s | us a row | libraries, MiB | peak, MiB | "
          + ("digest | " if options.digests else "") + "row / row before |")  # fmt: skip
    print("|---" * (10 if options.digests else 9) + "|")
    for name in options.only:
        part, ending, write = FORMATS[name]
        before = 0.0
        for n in options.sizes:
            path = options.folder / f"{name.replace(', ', '-')}-{n}.{ending}"
            if not path.exists():
                write(path, n)
            rounds = options.rounds if n < max(options.sizes) or len(options.sizes) == 1 else 1
            found = [read(part, path, options.digests) for _ in range(rounds)]
            each = min(one["cpu"] for one in found) / n * 1e6
            cells = [name, f"{n:,}", f"{found[0]['open']:,}"]
            cells += [f"{min(one['wall'] for one in found):.1f}", f"{each * n / 1e6:.1f}"]
            cells += [f"{each:.1f}", f"{statistics.median(one['before'] for one in found):.0f}"]
            cells += [f"{max(one['peak'] for one in found):.0f}"]
            cells += [str(found[0]["digest"])] if options.digests else []
            cells += [f"{each / before:.2f}" if before else ""]
            print(f"| {' | '.join(cells)} |", flush=True)
            before = each


if __name__ == "__main__":
    main()
