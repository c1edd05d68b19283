"""Catalogues without copies: photos, packshots made of them, other goods, and all of them mixed.

Every item of a base shows something else, as far as is known: ``Bases.unknown`` tells the pairs
that are to count neither as right nor as wrong.
"""

from __future__ import annotations

import csv
import io
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from kinds import Pair, listed
from PIL import Image
from relisted import images, opened

from dedup.augmentations import RgbImage, packshot
from dedup.runtime.parallel import in_order

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
from held_out import is_held_out

LEAST_SIDE, LEAST_STD = 60, 10.0
"""Pixels of the shorter side, and standard deviation of a channel, of goods that are taken."""
MOST_SIDE, QUALITY = 800, 92
"""Pixels of the longer side, and quality of the JPEG files, of goods and packshots."""
EQUAL_SIDE, EQUAL = 16, 2.0
"""Goods are one image where their grey thumbnails of that side differ by less, 0 to 255."""
NEAR_SIDE, NEAR = 64, 6.0
"""Nobody knows of goods whose RGB thumbnails of that side differ by less, 0 to 255."""
FILLERS = 40
"""So many images of each kind, a tenth at most, are for collages alone."""

Thumbnail = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """An image of a base.

    Attributes:
        key: what it shows: a photo's name without suffix, or that of goods with ``goods`` before
            it. A photo and its packshot have one key.
        kind: ``photos``, ``packshots`` or ``goods``.
        file: an image file, as a catalogue would have it.
    """

    key: str
    kind: str
    file: Path


@dataclass(frozen=True)
class Base:
    """Items to draw catalogues from.

    Attributes:
        name: of the base.
        items: no two of a key.
        fillers: items that no catalogue has, for collages.
    """

    name: str
    items: Sequence[Item]
    fillers: Sequence[Item]

    def drawn(self, n: int, rng: np.random.Generator) -> list[Item]:
        """Draw n items, or all where there are fewer.

        Of the kinds of a mixed base equally many are drawn, while they last.
        """
        kinds: dict[str, list[Item]] = {}
        for place in rng.permutation(len(self.items)):
            kinds.setdefault(self.items[place].kind, []).append(self.items[place])
        dealt = chain.from_iterable(zip_longest(*(kinds[name] for name in sorted(kinds))))
        return list(islice((item for item in dealt if item is not None), n))


@dataclass
class Bases:
    """All bases, made of folders of photos and of goods.

    Attributes:
        known: pairs of photos, by their names without suffix, that are no different products.
        files: of goods, by key.
    """

    known: set[Pair]
    files: dict[str, Path] = field(default_factory=dict)

    def unknown(self, one: str, other: str) -> bool:
        """Tell whether nobody knows what two keys are to each other."""
        if frozenset((one, other)) in self.known:
            return True
        if one not in self.files or other not in self.files:
            return False
        return difference(*(thumbnail(self.files[key], NEAR_SIDE) for key in (one, other))) < NEAR


def held_out_only(files: Iterable[Path], table: Path | None) -> list[Path]:
    """The photos whose sender is held out from fitting; all without a table.

    Args:
        files: photos.
        table: a CSV with ``file`` and ``sender_id``; a photo that it lacks is left out.
    """
    if table is None:
        return list(files)
    with table.open(newline="", encoding="utf-8") as rows:
        sender = {row["file"]: row["sender_id"] for row in csv.DictReader(rows)}
    return [file for file in files if file.name in sender and is_held_out(sender[file.name])]


def photos(folder: Path, held_out: Path | None, rng: np.random.Generator) -> list[Item]:
    """The photos of a folder in random order, where they lie; of equal names the first alone."""
    by_name = {file.stem: file for file in reversed(held_out_only(images(folder, set()), held_out))}
    found = [Item(name, "photos", file.resolve()) for name, file in sorted(by_name.items())]
    return [found[place] for place in rng.permutation(len(found))]


def packshots(items: Sequence[Item], out: Path) -> list[Item]:
    """Write the products of photos on white or nearly white ground, where one is found."""

    def made(item: Item) -> Item | None:
        rng = np.random.default_rng(zlib.crc32(item.key.encode()))
        file = once(out / f"{item.key}.jpg", lambda: packshot(opened(item.file), rng))
        return Item(item.key, "packshots", file) if file else None

    return [item for item in in_order(made, items) if item is not None]


def goods(
    folder: Path, held_out: bool, most: int, rng: np.random.Generator, out: Path
) -> list[Item]:
    """Write images of a folder on white, in random order; no two with equal thumbnails.

    Args:
        folder: searched for PNG and JPEG files to all depths.
        held_out: whether to take those alone whose names are held out from fitting.
        most: stop at so many.
        rng: of the order.
        out: the folder to write to.
    """
    files = [file for file in images(folder, set()) if not held_out or is_held_out(file.name)]
    shuffled = [files[place] for place in rng.permutation(len(files))]
    found: list[Item] = []
    kept = np.empty((most, EQUAL_SIDE * EQUAL_SIDE), np.int16)
    for file, image in in_order(lambda file: (file, usable(file)), shuffled):
        if len(found) == most:
            break
        if image is None:
            continue
        grey = Image.fromarray(image).convert("L").resize((EQUAL_SIDE, EQUAL_SIDE))
        small = np.asarray(grey, np.int16).ravel()
        if (np.abs(kept[: len(found)] - small).mean(axis=1) < EQUAL).any():
            continue
        kept[len(found)] = small
        name = f"{file.stem}-{zlib.crc32(str(file.relative_to(folder)).encode()):08x}"
        written = once(out / f"{name}.jpg", lambda image=image: image)
        if written is not None:
            found.append(Item(f"goods/{name}", "goods", written))
    return found


def usable(file: Path) -> RgbImage | None:
    """An image on white, reduced to ``MOST_SIDE``, or None where it is small, flat or no image."""
    try:
        with Image.open(file) as image:
            if min(image.size) < LEAST_SIDE:
                return None
        whole = Image.fromarray(opened(file))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        print(f"{file} is left out, for it cannot be read: {error}", file=sys.stderr)
        return None
    whole.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(whole)
    return pixels if pixels.std(axis=(0, 1)).max() >= LEAST_STD else None


def once(file: Path, make: Callable[[], RgbImage | None]) -> Path | None:
    """Write an image as JPEG unless the file is there; None where there is none to write."""
    if not file.exists():
        image = make()
        if image is None:
            return None
        replaced(file, image, QUALITY)
    return file


def replaced(file: Path, image: RgbImage, quality: int, comment: str = "") -> None:
    """Write a JPEG file in one step, so that a file that is there is whole."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, comment=comment.encode())
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_bytes(buffer.getvalue())
    part.replace(file)


@cache
def thumbnail(file: Path, side: int) -> Thumbnail:
    """An image squashed to a square, (side, side, 3)."""
    return np.asarray(Image.fromarray(opened(file)).resize((side, side)), np.uint8)


def difference(one: Thumbnail, other: Thumbnail) -> float:
    """The mean absolute difference of two thumbnails, 0 to 255."""
    return float(np.abs(one.astype(np.int16) - other).mean())


def made(
    folder: Path, goods_folder: Path | None, true_dups: Path | None, held_out: Path | None,
    names: Sequence[str], most: int, seed: int, work: Path,
) -> tuple[Bases, Iterator[Base]]:  # fmt: skip
    """Make the bases.

    Args:
        folder: the photos.
        goods_folder: other goods, or None.
        true_dups: a CSV of photos that are no different products: file_a, file_b.
        held_out: a CSV of senders: only images that the classifier is not fitted on are taken.
        names: of ``photos``, ``packshots``, ``goods`` and ``mixed``; in a mixed base each photo is
            as it is, or a packshot, and never both.
        most: goods at most, besides the fillers.
        seed: of every order.
        work: the folder to write to.

    Returns:
        What is known of pairs, and the bases in the order of the names, each made when it is
        asked for.
    """
    known = {frozenset(Path(name).stem for name in pair) for pair in listed(true_dups)}
    bases = Bases(known)
    user = photos(folder, held_out, np.random.default_rng([seed, 1]))

    @cache
    def part(name: str) -> tuple[list[Item], list[Item]]:
        if name == "goods":
            if goods_folder is None:
                return [], []
            rng = np.random.default_rng([seed, 2])
            items = goods(goods_folder, held_out is not None, most + FILLERS, rng, work / name)
            bases.files.update((item.key, item.file) for item in items)
            return parted(items)
        items, fillers = parted(user)
        if name == "photos":
            return items, fillers
        return packshots(items, work / name), packshots(fillers, work / name)

    def base(name: str) -> Base:
        if name != "mixed":
            return Base(name, *part(name))
        (user_photos, a), (on_white, b), (others, c) = map(part, ("photos", "packshots", "goods"))
        items = [item for item in user_photos if zlib.crc32(item.key.encode()) % 2]
        items += [item for item in on_white if not zlib.crc32(item.key.encode()) % 2]
        return Base(name, items + others, a + b + c)

    return bases, map(base, names)


def parted(items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """The items of a base, and its fillers."""
    n = min(FILLERS, len(items) // 10)
    return list(items[n:]), list(items[:n])
