"""The whole path at several sizes: CPU a product by stage, peak memory, disk, recall and precision.

    python benchmarks/scale.py PHOTOS --sizes 500 2000 --out FOLDER
    python benchmarks/scale.py PHOTOS --sizes 500 --candidates 20000 346927 --out FOLDER

A catalogue has photos, each a product; where there are too few, quarters of photos, plain and
mirrored, are further products. One product in twenty is an edited copy of another one, and one in
fifty shows a drawn placeholder that was encoded anew in one of ten sizes and qualities. Each size
runs in a process of its own, so that its peak of memory is its own. ``--candidates`` takes the
words of the first size's photos, exchanges 70 % of each image's words for words of others, and
finds the nearest images of so many.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw

import dedup
from dedup.augmentations import augment
from dedup.detection.candidates import MIN_WORDS
from dedup.verification.visual_words import Vocabulary, Words
from dedup.verification.word_neighbours import nearest

COPIES, PLACEHOLDERS = 0.05, 0.02
N_NEAREST = 8
SEED = 0
KEPT_WORDS = 0.3
PLANTED = 0.02
"""Share of jittered images that share two fifths of their words with another one."""


def cpu() -> float:
    """Seconds of this process and of the children that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak() -> float:
    """Peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def products(photos: list[Path]) -> Iterator[Image.Image]:
    """Yield images that show different things: photos, then their quarters, plain and mirrored."""
    for photo in photos:
        yield Image.open(photo).convert("RGB")
    for mirrored in (False, True):
        for photo in photos:
            image = Image.open(photo).convert("RGB")
            across, down = image.width // 2, image.height // 2
            for x, y in ((0, 0), (across, 0), (0, down), (across, down)):
                part = image.crop((x, y, x + across, y + down))
                if mirrored:
                    part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                yield part


def placeholder() -> Image.Image:
    """Draw what a shop shows where it has no image."""
    image = Image.new("RGB", (400, 400), (238, 238, 238))
    draw = ImageDraw.Draw(image)
    draw.rectangle((120, 110, 280, 230), outline=(150, 150, 150), width=10)
    draw.ellipse((170, 140, 230, 200), outline=(150, 150, 150), width=8)
    draw.text((110, 270), "NO IMAGE AVAILABLE", fill=(120, 120, 120), font_size=18)
    return image


def make_catalogue(photos: list[Path], n: int, folder: Path) -> set[tuple[str, str]]:
    """Write images and ``products.csv``; return the pairs of products that are copies."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng, names = np.random.default_rng(SEED), []
    n_copies, n_blank = round(COPIES * n), round(PLACEHOLDERS * n)
    images = products(photos)

    def save(name: str, image: Image.Image, quality: int = 90) -> None:
        image.save(folder / "images" / f"{name}.jpg", quality=quality)
        names.append(name)

    for number in range(n - n_copies - n_blank):
        save(f"P{number:06}", next(images))
    true = set()
    for number in range(n_copies):
        name, other = (f"P{(number + shift) * 7 % (n // 2):06}" for shift in (0, 1))
        sources = [np.asarray(Image.open(folder / "images" / f"{it}.jpg")) for it in (name, other)]
        copy, _ = augment(sources[0], rng, 0.7, (1, 2), others=[sources[1]])
        save(f"Q{number:06}", Image.fromarray(copy))
        true.add((name, f"Q{number:06}"))
    for number in range(n_blank):
        size = 200 + 30 * (number % 10)
        save(f"R{number:06}", placeholder().resize((size, size)), 50 + 5 * (number % 10))
    order = rng.permutation(len(names))
    table = pd.DataFrame({"productId": [names[at] for at in order]})
    table["imageUrlStr"] = "images/" + table["productId"] + ".jpg"
    table.to_csv(folder / "products.csv", index=False)
    return true


def measure(photos: Path, n: int, folder: Path) -> dict[str, Any]:
    """Run the whole path on ``n`` products."""
    true = make_catalogue(sorted(photos.glob("*.jpg")), n, folder)
    facts: dict[str, Any] = {"products": n}
    steps = [time.perf_counter(), cpu()]

    def note(stage: str) -> None:
        facts[stage] = round(1000 * (cpu() - steps[1]) / n, 2)
        steps[1] = cpu()

    places = {"folder": folder / "index", "store": folder / "store"}
    index = dedup.build_index(folder / "products.csv", progress=False, **places)
    note("read and embed")
    shown = index.images[index.images["vector"] >= 0].drop_duplicates("vector")
    words = index.sight.words(shown["url"].tolist())
    note("keypoints and words")
    pairs = nearest(words, None, N_NEAREST, Vocabulary.load(), MIN_WORDS)
    note("nearest by words")
    facts["pairs by words"] = round(len(pairs.left) / n, 2)
    result = dedup.find_duplicates(index, progress=False)
    note("search, second look, recall")
    facts["candidates"] = round(len(result.candidates) / n, 2)
    facts["seconds"] = round(time.perf_counter() - steps[0], 1)
    facts["peak GiB"] = round(peak(), 2)
    used = sum(file.stat().st_size for file in (folder / "store").rglob("*") if file.is_file())
    facts["kB on disk"] = round(used / n / 1000, 1)
    return facts | score(result.pairs, true)


def score(found: pd.DataFrame, true: set[tuple[str, str]]) -> dict[str, Any]:
    """Count the copies among the pairs; two placeholders are left out."""
    ends = zip(found["product_id_a"], found["product_id_b"], strict=True)
    pairs = {(min(pair), max(pair)) for pair in ends}
    blank = {pair for pair in pairs if pair[0][0] == pair[1][0] == "R"}
    right = len(true & pairs)
    return {
        "recall": round(right / len(true), 4),
        "wrong": len(pairs - blank - true),
        "placeholder pairs": len(blank),
    }


def jittered(words: Words, n: int) -> Words:
    """Make the words of ``n`` images; the last ones share words with the first ones."""
    rng, made = np.random.default_rng(SEED), np.full((n, words.shape[1]), -1, np.int32)
    pool = words[words >= 0]

    def put(row: int, parts: list[npt.NDArray[np.int32]]) -> None:
        some = np.unique(np.concatenate(parts))[: made.shape[1]]
        made[row] = -1
        made[row, : len(some)] = some

    for row in range(n):
        own = words[rng.integers(len(words))]
        own = own[own >= 0]
        kept = own[rng.random(len(own)) < KEPT_WORDS]
        put(row, [kept, pool[rng.integers(len(pool), size=len(own) - len(kept))]])
    for row in range(round(PLANTED * n)):
        own, other = (made[at][made[at] >= 0] for at in (row, n - 1 - row))
        shared = rng.permutation(own)[: 2 * len(own) // 5]
        put(n - 1 - row, [shared, other[rng.random(len(other)) < 0.6]])
    return made


def measure_candidates(index: Path, n: int) -> dict[str, Any]:
    """Find the nearest images of ``n`` jittered ones."""
    opened = dedup.Index.load(index)
    shown = opened.images[opened.images["vector"] >= 0].drop_duplicates("vector")
    words = jittered(opened.sight.words(shown["url"].tolist()), n)
    start, before = time.perf_counter(), cpu()
    found = nearest(words, None, N_NEAREST, Vocabulary.load(), MIN_WORDS)
    seconds = time.perf_counter() - start
    pairs = set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    n_planted = round(PLANTED * n)
    return {
        "images": n,
        "CPU ms an image": round(1000 * (cpu() - before) / n, 2),
        "seconds": round(seconds, 1),
        "peak GiB": round(peak(), 2),
        "planted found": sum((row, n - 1 - row) in pairs for row in range(n_planted)) / n_planted,
    }


def apart(options: argparse.Namespace, *task: str) -> dict[str, Any]:
    """Run a task in a process of its own."""
    called = [sys.executable, __file__, str(options.photos), "--out", str(options.out), *task]
    done = subprocess.run(called, stdout=subprocess.PIPE, text=True, check=True)
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def main() -> None:
    """Print a table of the sizes, and a line for each number of candidates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="folder of JPEG files")
    parser.add_argument("--sizes", type=int, nargs="*", default=[500, 2000])
    parser.add_argument("--candidates", type=int, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True, help="folder for catalogues and stores")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--words", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.photos, options.one, options.out / str(options.one))))
        return
    if options.words:
        index = options.out / str(options.sizes[0]) / "index"
        print(json.dumps(measure_candidates(index, options.words)))
        return
    parts = [apart(options, "--one", str(n)) for n in options.sizes]
    if parts:
        print(pd.DataFrame(parts).T.to_string(header=False), flush=True)
    first = ["--sizes", str(options.sizes[0])]
    for n in options.candidates:
        print(apart(options, "--words", str(n), *first), flush=True)


if __name__ == "__main__":
    main()
