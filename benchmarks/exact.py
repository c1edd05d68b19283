"""Are exact duplicates really exact? Plants copies in a catalogue and runs the command line on it.

    python benchmarks/exact.py --csv products.csv --checkpoint runs/train/latest

Of 2,000 products, 200 are byte copies of others under new names and 200 are re-hosted: decoded and
saved again as PNG. ``detect.py`` then runs at several batch sizes, each time with the rows in
another order, and should find these pairs, no other, and write the same reports. Beside it stand
the original's own rule, distance 0 between embeddings computed in float32, and equal perceptual
hashes, as imagehash (extra ``bench``) computes them.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Hashable, Sequence
from itertools import combinations
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from dedup.runtime.tables import write_rows

ROOT = Path(__file__).parents[1]
REPORTS = ("duplicates.json", "duplicates.csv", "report.html")
Pair = tuple[str, str]


def plant(source: Path, folder: Path, n_products: int, n_copies: int) -> tuple[Path, set[Pair]]:
    """Write a catalogue with copies; its path and the true pairs."""
    originals = image_files(source)
    distinct = {
        hashlib.sha256(path.read_bytes()).digest(): (name, path) for name, path in originals
    }
    kept = list(distinct.values())[: n_products - 2 * n_copies]
    images = folder / "images"
    images.mkdir()
    table, truth = [], set()
    for name, path in kept:
        shutil.copy(path, images / path.name)
        table.append((name, f"images/{path.name}"))
    for number, (name, path) in enumerate(random.Random(0).sample(kept, 2 * n_copies)):
        kind = "bytes" if number < n_copies else "rehosted"
        copy = images / f"{kind}-{number}.{'jpg' if kind == 'bytes' else 'png'}"
        if kind == "bytes":
            shutil.copy(path, copy)
        else:
            Image.open(path).convert("RGB").save(copy)
        table.append((f"{kind.upper()}{number}", f"images/{copy.name}"))
        truth.add(tuple(sorted((name, f"{kind.upper()}{number}"))))
    return write(table, folder / "products.csv"), truth


def image_files(path: Path) -> list[tuple[str, Path]]:
    """Ids and image files of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return [(r["productId"], path.parent / r["imageUrlStr"]) for r in csv.DictReader(file)]


def write(table: Sequence[tuple[str, str]], path: Path) -> Path:
    """Write a CSV of ids and addresses."""
    write_rows(("productId", "imageUrlStr"), table, path)
    return path


def shuffled(path: Path, seed: int) -> Path:
    """The same rows in another order, beside the file."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = lines[1:]
    random.Random(seed).shuffle(body)
    other = path.with_name(f"shuffled-{seed}.csv")
    other.write_text("".join([lines[0], *body]), encoding="utf-8")
    return other


def detect(path: Path, checkpoint: Path, batch_size: int, folder: Path) -> Path:
    """Run detect.py straight from the checkpoint; the folder of its reports."""
    runs = folder / f"runs-{batch_size}"
    command = [
        sys.executable, str(ROOT / "detect.py"), "source=csv", f"source.path={path}",
        f"checkpoint={checkpoint}", f"data.batch_size={batch_size}", f"runs={runs}",
        f"store.path={folder / 'store'}",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return runs / "detect" / "latest"


def found_pairs(report: Path) -> set[Pair]:
    """The pairs of a duplicates.json."""
    lists = json.loads((report / "duplicates.json").read_text(encoding="utf-8"))
    return {(a, b) for a, others in lists.items() for b in others if a < b}


def float_pairs(path: Path, checkpoint: Path, batch_size: int) -> set[Pair]:
    """The original's rule: products encoded in batches, equal where the distance is 0."""
    from dedup.search.embedding import Embed
    from dedup.store.decode import decode

    rows = image_files(path)
    pixels = np.stack([decode(image.read_bytes()).pixels for _, image in rows])
    embed = Embed(checkpoint)
    starts = range(0, len(rows), batch_size)
    vectors = np.concatenate(
        [embed({"pixels": pixels[start : start + batch_size]})["embedding"] for start in starts]
    )
    return equal_pairs(
        [(name, row.tobytes()) for (name, _), row in zip(rows, vectors, strict=True)]
    )


def hash_pairs(path: Path) -> set[Pair]:
    """Products with equal 64-bit perceptual hashes."""
    rows = image_files(path)
    return equal_pairs([(name, str(imagehash.phash(Image.open(file)))) for name, file in rows])


def equal_pairs(keys: Sequence[tuple[str, Hashable]]) -> set[Pair]:
    """Every two products with equal keys."""
    same: dict[Hashable, list[str]] = {}
    for name, key in keys:
        same.setdefault(key, []).append(name)
    return {pair for names in same.values() for pair in combinations(sorted(names), 2)}


def line(name: str, found: set[Pair], truth: set[Pair], digest: str) -> str:
    """One line of the table."""
    right = len(found & truth)
    precision = right / len(found) if found else 1.0
    return f"| {name} | {len(found)} | {right / len(truth):.3f} | {precision:.3f} | {digest} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--products", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=200)
    options = parser.parse_args()
    checkpoint = options.checkpoint.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path, truth = plant(options.csv, folder, options.products, options.copies)
        print(f"{options.products} products, {len(truth)} planted pairs\n")
        print("| method | pairs | recall | precision | reports (sha256) |\n|---|---|---|---|---|")
        for batch_size in (1, 7, 128):
            report = detect(shuffled(path, batch_size), checkpoint, batch_size, folder)
            content = b"".join((report / name).read_bytes() for name in REPORTS)
            digest = hashlib.sha256(content).hexdigest()[:12]
            name = f"detect.py, batch size {batch_size}, rows shuffled"
            print(line(name, found_pairs(report), truth, digest), flush=True)
        for batch_size in (7, 128):
            found = float_pairs(shuffled(path, batch_size), checkpoint, batch_size)
            name = f"distance 0 in float32, batch size {batch_size}, rows shuffled"
            print(line(name, found, truth, "-"), flush=True)
        print(line("equal pHash (imagehash)", hash_pairs(path), truth, "-"), flush=True)


if __name__ == "__main__":
    main()
