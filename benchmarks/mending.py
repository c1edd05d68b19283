"""Is every damage to a store found, and put right? Bytes flipped and files deleted, then mended.

python benchmarks/mending.py N_DAMAGES IMAGES [--images 5000] [--shard-rows 64] [--seed 0]

Some damages are done one at a time, the others many at once. Four of five are a flip of one bit at
a random byte of the store; of the rest, half flip one in a random file, half delete a random file.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dedup.sources.folder import FolderSource
from dedup.store.image_store import ImageStore
from dedup.store.integrity import verify
from dedup.store.repair import repair

AT_ONCE = 50
"""Damages in a round of many."""
ONE_AT_A_TIME = 20
"""One of so many damages is done alone."""


@dataclass
class Row:
    """One line of the table; times in seconds.

    Attributes:
        damages: done.
        found: of these, in files that ``verify`` named.
        repaired: of these, in files that are now byte for byte as before.
        lost: of these, in shards of which two of seal, table and copy were hit.
        touched: files that nothing had happened to, and that were written.
    """

    damages: int = 0
    found: int = 0
    repaired: int = 0
    lost: int = 0
    touched: int = 0
    verifying: float = 0.0
    repairing: float = 0.0
    read: int = 0


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n_damages", type=int)
    parser.add_argument("images", type=Path)
    parser.add_argument("--n-images", type=int, default=5000)
    parser.add_argument("--shard-rows", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        pixels, whole = Path(folder) / "pictures", Path(folder) / "whole"
        make_images(options.images, options.n_images, pixels)
        start = time.perf_counter()
        store = ImageStore(whole, shard_rows=options.shard_rows)
        images = store.ingest(FolderSource(str(pixels)).read(), Path(folder))
        seconds = time.perf_counter() - start
        size = sum(len_of(file) for file in files_of(whole))
        print(f"{len(images)} images, {len(files_of(whole))} files, {size / 1e6:.0f} MB, "
              f"read in {seconds:.0f} s\n")  # fmt: skip
        print("| damages | number | found | repaired | in lost shards | other files touched | "
              "verify GB/s | repair s |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
        n_alone = options.n_damages // ONE_AT_A_TIME
        alone = [round_of(whole, 1, rng) for _ in range(n_alone)]
        show("one at a time", alone)
        many, left = [], options.n_damages - n_alone
        while left:
            many.append(round_of(whole, min(left, AT_ONCE), rng))
            left -= many[-1].damages
        show(f"{AT_ONCE} at once", many)


def make_images(images: Path, n: int, folder: Path) -> None:
    """So many distinct images: those there are, and then the same with a number drawn on each."""
    folder.mkdir()
    files = sorted(path for path in images.iterdir() if path.suffix in (".jpg", ".png"))
    for number in range(n):
        source = files[number % len(files)]
        if number < len(files):
            shutil.copy(source, folder / f"{number:06}{source.suffix}")
        else:
            with Image.open(source) as image:
                pixels = image.convert("RGB")
            ImageDraw.Draw(pixels).text((8, 8), f"{number}", fill="red", font_size=40)
            pixels.save(folder / f"{number:06}.jpg", quality=90)


def files_of(store: Path) -> list[Path]:
    """The files of a store, without its lock."""
    return sorted(file for file in store.iterdir() if file.name != "lock")


def len_of(file: Path) -> int:
    """A file's size in bytes."""
    return file.stat().st_size


def round_of(whole: Path, n: int, rng: np.random.Generator) -> Row:
    """Damage a copy of a store, find it and put it right."""
    store = Path(shutil.copytree(whole, whole.with_name("damaged")))
    try:
        damaged = [do_damage(store, rng) for _ in range(n)]
        before = {file.name: stamp(file) for file in files_of(store)}
        row = Row(damages=n, read=sum(map(len_of, files_of(store))))
        start = time.perf_counter()
        damages = verify(store)
        row.verifying = time.perf_counter() - start
        named = {damage.file for damage in damages}
        row.found = sum(name in named for name in damaged)
        start = time.perf_counter()
        mended = repair(ImageStore(store), damages)
        row.repairing = time.perf_counter() - start
        lost = tuple(f"shard-{shard:05}." for shard in mended.emptied)
        row.lost = sum(name.startswith(lost) for name in damaged) if lost else 0
        row.repaired = sum(same(whole, store, name) for name in damaged)
        row.touched = sum(
            before[file.name] != stamp(file)
            for file in files_of(store)
            if file.name not in damaged and not (lost and file.name.startswith(lost))
        )
        assert verify(store) == []
        return row
    finally:
        shutil.rmtree(store)


def do_damage(store: Path, rng: np.random.Generator) -> str:
    """Flip a bit of a store's file, or delete one; its name."""
    files = files_of(store)
    sizes = np.array([len_of(file) for file in files])
    kind = rng.random()
    file = files[rng.choice(len(files), p=sizes / sizes.sum() if kind < 0.8 else None)]
    if kind >= 0.9:
        file.unlink()
        return file.name
    with file.open("r+b") as content:
        at = int(rng.integers(len_of(file)))
        content.seek(at)
        byte = content.read(1)[0]
        content.seek(at)
        content.write(bytes([byte ^ 1 << int(rng.integers(8))]))
    return file.name


def stamp(file: Path) -> tuple[int, int]:
    """What changes when a file is written."""
    return file.stat().st_ino, file.stat().st_mtime_ns


def same(one: Path, other: Path, name: str) -> bool:
    """Whether two folders hold the same bytes under a name."""
    file = other / name
    return file.is_file() and file.read_bytes() == (one / name).read_bytes()


def show(name: str, rows: list[Row]) -> None:
    """Print the sum of some rounds."""
    if rows:
        total = Row(*(sum(getattr(row, one.name) for row in rows) for one in fields(Row)))
        rate = total.read / total.verifying / 1e9
        print(f"| {name} | {total.damages} | {total.found} | {total.repaired} | {total.lost} | "
              f"{total.touched} | {rate:.2f} | {total.repairing:.1f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
