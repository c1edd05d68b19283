"""A benchmark with a broad family of edits, of any images, in ``make_benchmark.py``'s form.

    python benchmarks/relisted.py IMAGES OUT --n 500 --seed 5 [--packshots]

Each of n originals gets copies with one edit of ``dedup.augmentations``, mild or strong, or with a
chain of two or three; and every other one, where it is colourful enough, a variant in another
colour, which is not a duplicate. ``--packshots`` cuts the products out and puts them on white
ground first. What stands beside an image in a collage comes from images that the catalogue does
not have. ``--generator PATH`` takes the edits of ``make_benchmark.py`` instead, for images that
are few.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import io
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from labelled import COLOURLESS
from numpy.random import Generator
from PIL import Image

from dedup.augmentations import EDITS, RgbImage, augment, edit, packshot
from dedup.runtime.tables import write_rows
from dedup.store.decode import to_rgb
from dedup.training.views import recoloured

QUALITY = 92
STRENGTHS = (0.5, 1.0)
CHAINS = 24
CHAIN_STRENGTH, CHAIN_LENGTH = 0.8, (2, 3)
MAX_FILLERS = 200
PNG = b"\x89PNG"
SUFFIXES = (".jpg", ".jpeg", ".png")

HEADS = {
    "products": "productId,title,imageUrlStr,categories",
    "truth_pairs": "productId_a,productId_b,edit,severity,kind",
    "hard_negatives": "productId_a,productId_b,type,degrees",
    "ignore_pairs": "productId_a,productId_b,why",
    "groups": "group_id,productId,role,edit,severity,image,source",
}


class Member(NamedTuple):
    """A product of a group: its id, and the edits that made it."""

    product_id: str
    edits: tuple[str, ...] = ()


class Copy(NamedTuple):
    """An edited image's file, and what was done."""

    data: bytes
    edit: str
    severity: str
    edits: tuple[str, ...]


@dataclass
class Folder:
    """A benchmark's folder while it is made."""

    path: Path
    seed: int
    tables: dict[str, list[Sequence[Any]]] = field(
        default_factory=lambda: {name: [] for name in HEADS}
    )

    def add(self, group: str, role: str, copy: Copy, source: Path) -> Member:
        """A product, and its image."""
        key = f"{self.seed}/{group}/{role}/{copy.edit}/{copy.severity}"
        name = hashlib.sha1(key.encode()).hexdigest()[:16]
        product_id = f"R{name[:13].upper()}"
        file = name + (".png" if copy.data.startswith(PNG) else ".jpg")
        (self.path / "images").mkdir(parents=True, exist_ok=True)
        (self.path / "images" / file).write_bytes(copy.data)
        self.tables["products"].append((product_id, f"Product {name[:5]}", f"images/{file}", "All"))
        row = (group, product_id, role, copy.edit, copy.severity, file, source.name)
        self.tables["groups"].append(row)
        return Member(product_id, copy.edits)

    def copied(self, original: Member, copies: Sequence[tuple[Member, Copy]]) -> None:
        """The pairs of an original and its copies."""
        for member, copy in copies:
            self.tables["truth_pairs"].append(
                (original.product_id, member.product_id, copy.edit, copy.severity, "direct")
            )
        for (one, _), (other, _) in combinations(copies, 2):
            self.tables["truth_pairs"].append((one.product_id, other.product_id, "", "", "closure"))

    def different(self, variant: Member, members: Sequence[Member]) -> None:
        """The pairs of a colour variant and those that have the first colour."""
        for member in members:
            pair = (variant.product_id, member.product_id)
            if set(member.edits) & set(COLOURLESS):
                self.tables["ignore_pairs"].append((*pair, "variant_vs_gray"))
            else:
                self.tables["hard_negatives"].append((*pair, "colour_variant", ""))

    def one_product(self, groups: Sequence[Sequence[Member]]) -> None:
        """Images of one product from several sides: nobody is to tell whether they match."""
        for these, those in combinations(groups, 2):
            for one, other in product(these, those):
                pair = (one.product_id, other.product_id)
                self.tables["ignore_pairs"].append((*pair, "other_view"))

    def write(self) -> Path:
        """Write the tables, the products in random order; the folder."""
        products = self.tables["products"]
        order = np.random.default_rng(self.seed).permutation(len(products))
        self.tables["products"] = [products[place] for place in order]
        for name, head in HEADS.items():
            write_rows(head.split(","), self.tables[name], self.path / f"{name}.csv")
        return self.path


@dataclass(frozen=True)
class Broad:
    """Copies with the edits of ``dedup.augmentations``.

    Args:
        fillers: images for collages; without any, edits that need one are left out.
        strengths: of single edits.
        chains: so many of the copies are chains, beside one for each edit and strength.
    """

    fillers: Sequence[RgbImage]
    strengths: Sequence[float] = STRENGTHS
    chains: int = CHAINS

    def cells(self) -> list[tuple[str, float]]:
        """Each edit and strength, and chains."""
        usable = [each.name for each in EDITS.values() if self.fillers or not each.needs_other]
        alone = [(name, strength) for name in usable for strength in self.strengths]
        return alone + [("chain", CHAIN_STRENGTH)] * self.chains

    def copy(self, image: RgbImage, cell: tuple[str, float], rng: Generator) -> Copy:
        """A copy of an image."""
        name, strength = cell
        if name == "chain":
            edited, edits = augment(image, rng, strength, CHAIN_LENGTH, others=self.fillers)
            return Copy(saved(edited), name, str(len(edits)), edits)
        other = self.fillers[int(rng.integers(len(self.fillers)))] if self.fillers else None
        return Copy(saved(edit(image, name, strength, rng, other)), name, str(strength), (name,))


@dataclass(frozen=True)
class Generated:
    """Copies with the edits of ``make_benchmark.py``.

    Args:
        path: of the script.
    """

    path: Path

    def cells(self) -> list[tuple[str, float]]:
        """Each edit and level."""
        edits = self._edits()
        return [(name, level) for name, (n, _) in edits.items() for level in range(1, n + 1)]

    def copy(self, image: RgbImage, cell: tuple[str, float], rng: Generator) -> Copy:
        """A copy of an image; a byte copy is one of its file as ``saved`` writes it."""
        import random

        name, level = cell
        draw = random.Random(int(rng.integers(2**32)))
        raw = saved(image), "jpg"
        data = self._edits()[name][1](Image.fromarray(image), int(level), draw, raw)[0]
        return Copy(data, name, str(level), (name,))

    def _edits(self) -> dict[str, Any]:
        spec = importlib.util.spec_from_file_location("make_benchmark", self.path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        edits: dict[str, Any] = module.EDITS
        return edits


def saved(image: RgbImage) -> bytes:
    """An image's file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def opened(file: Path) -> RgbImage:
    """An image's pixels."""
    with Image.open(file) as image:
        return np.asarray(to_rgb(image))


def images(folder: Path, left_out: set[str]) -> list[Path]:
    """All images below a folder, but some names, sorted."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    return [path for path in found if path.name not in left_out]


def originals(files: Iterator[Path], n: int, packshots: bool) -> list[tuple[Path, RgbImage]]:
    """The first n of the files that can be used."""
    chosen: list[tuple[Path, RgbImage]] = []
    while len(chosen) < n and (file := next(files, None)) is not None:
        image: RgbImage | None = opened(file)
        if packshots and image is not None:
            image = packshot(image)
        if image is not None:
            chosen.append((file, image))
    return chosen


def relisted(
    chosen: Sequence[tuple[Path, RgbImage]],
    out: Path,
    seed: int,
    edits: Broad | Generated,
    most_copies: int,
    product_of: Callable[[Path], Hashable] = str,
) -> Path:
    """Write a benchmark of originals with 1 to ``most_copies`` copies each.

    Originals of one product, as ``product_of`` tells from their paths, neither match nor differ.
    """
    rng = np.random.default_rng(seed)
    folder = Folder(out, seed)
    cells: list[tuple[str, float]] = []
    views: dict[Hashable, list[list[Member]]] = {}
    for number, (file, image) in enumerate(chosen):
        group = f"g{number:05}"
        original = folder.add(group, "original", Copy(saved(image), "", "", ()), file)
        copies: dict[tuple[str, str], tuple[Member, Copy]] = {}
        for _ in range(int(rng.integers(1, most_copies + 1))):
            if not cells:
                unmixed = edits.cells()
                cells = [unmixed[place] for place in rng.permutation(len(unmixed))]
            copy = edits.copy(image, cells.pop(), rng)
            if (copy.edit, copy.severity) not in copies:
                member = folder.add(group, "copy", copy, file)
                copies[copy.edit, copy.severity] = member, copy
        folder.copied(original, list(copies.values()))
        members = [original, *(member for member, _ in copies.values())]
        views.setdefault(product_of(file), []).append(members)
        variant = recoloured(image, rng) if number % 2 == 0 else None
        if variant is not None:
            made = Copy(saved(variant), "hue", "", ())
            other = folder.add(f"{group}v", "colour_variant", made, file)
            folder.different(other, members)
    for groups in views.values():
        folder.one_product(groups)
    return folder.write()


def of_groups(groups: Path, images: Path, out: Path) -> Path:
    """Write a benchmark of images as they are; all pairs of a group are true.

    Args:
        groups: a CSV with ``group_id`` and ``file``.
        images: where the files are.
        out: the folder to write.
    """
    folder = Folder(out, 0)
    by_group: dict[str, list[Member]] = {}
    with groups.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = images / row["file"]
            copy = Copy(path.read_bytes(), "", path.name, ())
            member = folder.add(row["group_id"], "original", copy, path)
            by_group.setdefault(row["group_id"], []).append(member)
    for members in by_group.values():
        for one, other in combinations(members, 2):
            folder.tables["truth_pairs"].append(
                (one.product_id, other.product_id, "real copy", "", "direct")
            )
    return folder.write()


def main() -> None:
    """Write a benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--copies", type=int, default=2, help="each original has 1 to so many")
    parser.add_argument("--packshots", action="store_true")
    parser.add_argument("--generator", type=Path)
    parser.add_argument(
        "--product-folders", action="store_true", help="a folder's images show one product"
    )
    parser.add_argument("--true-dups", type=Path, help="take only the first of each pair")
    options = parser.parse_args()
    second: set[str] = set()
    if options.true_dups:
        with options.true_dups.open(newline="", encoding="utf-8") as file:
            second = {row["file_b"] for row in csv.DictReader(file)}
    files = images(options.images, second)
    order = np.random.default_rng(options.seed).permutation(len(files))
    rest = iter([files[place] for place in order])
    chosen = originals(rest, options.n, options.packshots)
    fillers = [opened(file) for file, _ in zip(rest, range(MAX_FILLERS), strict=False)]
    edits = Generated(options.generator) if options.generator else Broad(fillers)
    by = (lambda file: file.parent) if options.product_folders else str
    out = relisted(chosen, options.out, options.seed, edits, options.copies, by)
    print(f"{len(chosen)} originals, {len(fillers)} other images for collages: {out}")


if __name__ == "__main__":
    main()
