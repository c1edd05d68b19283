"""Are different products that look alike taken for copies? For each kind of look-alikes.

    python benchmarks/kinds.py IMAGES --true-dups true_duplicates.csv --out kinds

For each kind of ``scripts/look_alikes.py``, a catalogue of photos, families of that kind and plain
copies is searched by ``dedup.find_duplicates``. Half of the copies are of members of families, and
count as members. A reported pair is wrong if both products are of one family, but do not come from
one image. Other unknown pairs stand in a column of their own, and pairs of ``--true-dups`` count
for nothing. The classifier is fitted on kinds that are ``fitted`` alone, with other seeds.
``--only-draw SHEET.png`` draws three families of each kind, ``SHEET_<kind>.png``, and searches
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from gallery import Mistake, sheet
from numpy.random import Generator
from PIL import Image
from relisted import images, opened

import dedup
from dedup.augmentations import RgbImage
from dedup.augmentations.overlay import draw_vivid_colour, resize
from dedup.runtime.tables import write_rows

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
from held_out import UNLISTED
from look_alikes import KINDS, Kind

PHOTOS_A_FAMILY = 12
"""So many photos, which no other family and not the catalogue has, are at each family's hand."""
QUALITIES = (85, 95)
WRONG_SHOWN = 40
PRECISION = 0.99
DRAWN, SIDE = 3, 240

HEAD = (
    "| kind | fitted | pairs reported | wrong pairs | wrong share | others "
    "| recall of planted copies | allowed | expected precision | measured |\n" + "|---" * 10 + "|"
)

Pair = frozenset[str]


def mirrored(image: RgbImage, rng: Generator) -> RgbImage:
    """Mirror it."""
    return np.asarray(cv2.flip(image, 1), np.uint8)


def cropped(image: RgbImage, rng: Generator) -> RgbImage:
    """Cut off a tenth of its height and width, somewhere."""
    high, wide = (round(0.9 * side) for side in image.shape[:2])
    top, left = (int(rng.integers(0, side - new + 1)) for side, new in
                 zip(image.shape[:2], (high, wide), strict=True))  # fmt: skip
    return image[top : top + high, left : left + wide].copy()


def framed(image: RgbImage, rng: Generator) -> RgbImage:
    """Put a frame of one colour around it."""
    rim = round(rng.uniform(0.03, 0.08) * max(image.shape[:2]))
    colour = draw_vivid_colour(rng)
    return np.asarray(
        cv2.copyMakeBorder(image, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=colour), np.uint8
    )


def grey(image: RgbImage, rng: Generator) -> RgbImage:
    """Take its colours."""
    flat = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(flat, cv2.COLOR_GRAY2RGB), np.uint8)


def brighter(image: RgbImage, rng: Generator) -> RgbImage:
    """Brighten it by 10 to 25 %."""
    return np.asarray(np.clip(image * rng.uniform(1.1, 1.25), 0, 255), np.uint8)


def smaller(image: RgbImage, rng: Generator) -> RgbImage:
    """Reduce it to 50 to 70 % of its size."""
    scale = rng.uniform(0.5, 0.7)
    return resize(image, image.shape[1] * scale, image.shape[0] * scale)


def badged(image: RgbImage, rng: Generator) -> RgbImage:
    """Put a round badge into a corner."""
    copy = image.copy()
    height, width = image.shape[:2]
    radius = round(rng.uniform(0.07, 0.1) * min(height, width))
    x, y = (int(rng.choice([1.3 * radius, side - 1.3 * radius])) for side in (width, height))
    cv2.circle(copy, (x, y), radius, draw_vivid_colour(rng), -1, cv2.LINE_AA)
    cv2.circle(copy, (x, y), round(0.8 * radius), (255, 255, 255), 2, cv2.LINE_AA)
    return copy


def warmer(image: RgbImage, rng: Generator) -> RgbImage:
    """Add red and take blue, by 6 to 12 %."""
    gain = rng.uniform(1.06, 1.12)
    return np.asarray(np.clip(image * np.array([gain, 1, 1 / gain]), 0, 255), np.uint8)


COPIES: dict[str, Callable[[RgbImage, Generator], RgbImage]] = {
    "mirrored": mirrored, "cropped": cropped, "framed": framed, "grey": grey,
    "brighter": brighter, "smaller": smaller, "badged": badged, "warmer": warmer,
}  # fmt: skip
_COLOURS = ("grey", "brighter", "warmer")
UNFAIR = {
    "mirrored": ("mirrored",), "packs": ("badged",), "flavours": _COLOURS,
    "neutral_variants": _COLOURS, "coloured_variants": _COLOURS,
}  # fmt: skip
"""By kind, the copies of a member that another member of its family may equal."""


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("images", type=Path, help="a folder of photos of different products")
    add("--true-dups", type=Path, help="CSV: file_a, file_b of photos that are no different ones")
    add("--families", type=int, default=25, help="of each kind")
    add("--copies", type=int, default=60, help="planted in each catalogue")
    add("--photos", type=int, default=1000, help="in each catalogue, the same in all")
    add("--seed", type=int, default=901)
    add("--out", type=Path, default=Path("kinds"), help="for sheets of wrong pairs")
    add("--kinds", type=chosen, default=list(KINDS.values()), help="names, with commas between")
    add("--only-draw", type=Path, metavar="SHEET.png", help="draw three families of each kind")
    return parser.parse_args()


def chosen(names: str) -> list[Kind]:
    """The kinds of some names."""
    unknown = [name for name in names.split(",") if name not in KINDS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no kind of look-alikes: choose of {', '.join(KINDS)}"
        )
    return [KINDS[name] for name in names.split(",")]


@dataclass
class Catalogue:
    """A catalogue while it is planted.

    Attributes:
        folder: for the images' files.
        rng: of ids and files.
        files: each product's file.
        origin: what each product is a copy of: its own id, or another.
        family: of the products that are members of one, or copies of such.
        photo: the names of photos, by product.
        planted: each planted copy: its id, and its original's.
        edit: what was done to each copy.
    """

    folder: Path
    rng: Generator
    files: dict[str, Path] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    family: dict[str, str] = field(default_factory=dict)
    photo: dict[str, str] = field(default_factory=dict)
    planted: list[tuple[str, str]] = field(default_factory=list)
    edit: dict[str, str] = field(default_factory=dict)

    def named(self) -> str:
        """A new id, which tells nothing."""
        while (product_id := f"P{self.rng.integers(10**9):09}") in self.files:
            pass
        return product_id

    def add(self, file: Path) -> str:
        """Add a product that is no copy; its id."""
        product_id = self.named()
        self.files[product_id], self.origin[product_id] = file, product_id
        return product_id

    def draw(self, image: RgbImage) -> str:
        """Write an image, and add it as a product that is no copy; its id."""
        return self.add(written(image, self.folder / f"{len(self.files):05}.jpg", self.rng))

    def copy(self, original: str, kind: str) -> None:
        """Plant a copy of a product, fair in a catalogue of this kind."""
        unfair = UNFAIR.get(kind, ()) if original in self.family else ()
        name = str(self.rng.choice([name for name in COPIES if name not in unfair]))
        product_id = self.draw(COPIES[name](opened(self.files[original]), self.rng))
        self.origin[product_id], self.edit[product_id] = self.origin[original], name
        if original in self.family:
            self.family[product_id] = self.family[original]
        self.planted.append((product_id, original))

    def write(self, path: Path) -> Path:
        """Write the products as CSV, in random order; the file."""
        ids = list(self.files)
        order = self.rng.permutation(len(ids))
        rows = [(ids[at], ids[at], self.files[ids[at]]) for at in order]
        write_rows(("productId", "title", "imageUrlStr"), rows, path)
        return path

    def called(self, pair: Pair, known: set[Pair]) -> str:
        """What a reported pair is in truth: ``copy``, ``wrong``, ``known`` or ``other``."""
        one, other = pair
        if self.origin[one] == self.origin[other]:
            return "copy"
        if one in self.family and self.family[one] == self.family.get(other):
            return "wrong"
        photos = {self.photo.get(self.origin[end], end) for end in pair}
        return "known" if frozenset(photos) in known else "other"

    def shown(self, product_id: str) -> str:
        """What a product is, in short."""
        of = self.family.get(product_id) or self.photo.get(self.origin[product_id], "")[:8]
        return f"{of} {self.edit.get(product_id, '')}".strip()


def written(image: RgbImage, file: Path, rng: Generator) -> Path:
    """Write a JPEG file of a quality that is drawn."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file, quality=int(rng.integers(QUALITIES[0], QUALITIES[1] + 1)))
    return file


def listed(table: Path | None) -> set[Pair]:
    """The pairs of photos of one product, by their names."""
    if table is None:
        return set()
    with table.open(newline="", encoding="utf-8") as file:
        pairs = {frozenset((row["file_a"], row["file_b"])) for row in csv.DictReader(file)}
    return pairs | {UNLISTED}


def of_kind(kind: Kind, seed: int) -> Generator:
    """The generator of a kind's families, whichever kinds are asked for besides."""
    return np.random.default_rng([seed, zlib.crc32(kind.name.encode())])


def families(kind: Kind, n: int, seed: int, rest: Sequence[Path]) -> Iterator[list[RgbImage]]:
    """Draw families, each with photos that no other has, where there are enough."""
    rng = of_kind(kind, seed)
    each = max(2, min(PHOTOS_A_FAMILY, len(rest) // n))
    for number in range(n):
        start = number * each % max(1, len(rest) - each + 1)
        yield kind.make(rng, [opened(file) for file in rest[start : start + each]])


def searched(
    kind: Kind, options: argparse.Namespace, photos: Sequence[Path], rest: Sequence[Path],
    known: set[Pair], work: Path,
) -> str:  # fmt: skip
    """Plant and search one kind's catalogue; its row of the table."""
    rng = np.random.default_rng([options.seed, zlib.crc32(kind.name.encode()), 1])
    catalogue = Catalogue(work / kind.name, rng)
    for file in photos:
        catalogue.photo[catalogue.add(file)] = file.with_suffix("").name
    for number, family in enumerate(families(kind, options.families, options.seed, rest)):
        for image in family:
            catalogue.family[catalogue.draw(image)] = f"family {number}"
    for pool, n in (
        (list(catalogue.family), options.copies - options.copies // 2),
        (list(catalogue.photo), options.copies // 2),
    ):
        for at in rng.permutation(len(pool))[:n]:
            catalogue.copy(pool[at], kind.name)
    table = catalogue.write(work / f"{kind.name}.csv")
    with contextlib.chdir(work):
        result = dedup.find_duplicates(
            table, encoder="bundled", precision=PRECISION, store=work / "store",
            id="productId", images="imageUrlStr", progress=False,
        )  # fmt: skip
    told: dict[str, list[Mistake]] = {name: [] for name in ("copy", "wrong", "known", "other")}
    for row in result.pairs.sort_values("score", ascending=False).to_dict("records"):
        ids = (str(row["product_id_a"]), str(row["product_id_b"]))
        files = (catalogue.files[ids[0]], catalogue.files[ids[1]])
        what = " | ".join(map(catalogue.shown, ids))
        told[catalogue.called(frozenset(ids), known)].append(
            Mistake(files, ids, what, float(row["score"]), True, str(row["evidence"]))
        )
    for name in ("wrong", "other"):
        if told[name]:
            sheet(told[name][:WRONG_SHOWN]).save(options.out / f"{kind.name}_{name}.png")
    found = {frozenset(each.ids) for each in told["copy"]}
    recall = [frozenset(pair) in found for pair in catalogue.planted]
    right, wrong, other = (len(told[name]) for name in ("copy", "wrong", "other"))
    expected = result.calibration.expected_precision if result.calibration else None
    counted = right + wrong + other
    cells = (
        kind.name, "yes" if kind.fitted else "no", str(counted), str(wrong),
        share(wrong, counted), str(other), share(sum(recall), len(recall)),
        f"{allowed(result.candidates, catalogue, known):.3f}",
        f"{expected[0]:.3f}" if expected else "-", share(right, counted),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def allowed(candidates: pd.DataFrame, catalogue: Catalogue, known: set[Pair]) -> float:
    """The recall of planted copies at the best threshold that keeps the asked precision."""
    planted = {frozenset(pair) for pair in catalogue.planted}
    ranked = candidates.sort_values("score", ascending=False, kind="stable")
    ends = zip(ranked["product_id_a"].map(str), ranked["product_id_b"].map(str), strict=True)
    told = [(frozenset(pair), catalogue.called(frozenset(pair), known)) for pair in ends]
    right, counted, found, best = 0, 0, 0, 0
    for at, (pair, called) in enumerate(told):
        right, counted = right + (called == "copy"), counted + (called != "known")
        found += pair in planted
        scores = ranked["score"].iloc[at : at + 2]
        is_end = len(scores) < 2 or scores.iloc[0] != scores.iloc[1]
        if is_end and right >= PRECISION * counted:
            best = found
    return best / max(len(planted), 1)


def share(part: int, whole: int) -> str:
    """A share with three decimals, or a dash of nothing."""
    return f"{part / whole:.3f}" if whole else "-"


def drawn(kind: Kind, seed: int, rest: Sequence[Path], path: Path) -> Path:
    """Draw families of a kind on a sheet, a row for each; its path."""
    canvas = Image.new("RGB", (6 * (SIDE + 4), DRAWN * (SIDE + 4)), "gray")
    for row, family in enumerate(families(kind, DRAWN, seed, rest)):
        for column, image in enumerate(family):
            small = Image.fromarray(image)
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            canvas.paste(small, (column * (SIDE + 4), row * (SIDE + 4)))
    sheet_of_kind = path.with_name(f"{path.stem}_{kind.name}.png")
    canvas.save(sheet_of_kind)
    return sheet_of_kind


def main() -> None:
    """Print the table, or draw the sheets."""
    options = arguments()
    known = {frozenset(Path(name).stem for name in pair) for pair in listed(options.true_dups)}
    files = images(options.images, set())
    order = np.random.default_rng(options.seed).permutation(len(files))
    photos = [files[place] for place in order[: options.photos]]
    listed_ones = frozenset().union(*known)
    rest = [
        files[place] for place in order[options.photos :] if files[place].stem not in listed_ones
    ]
    if len(rest) < 2:
        sys.exit(
            f"{options.images} has {len(files)} images, and the catalogue takes {len(photos)}: "
            f"give --photos {max(0, len(files) - PHOTOS_A_FAMILY)} or less, so that families of "
            "templates and prints have photos of their own"
        )
    if options.only_draw:
        options.only_draw.parent.mkdir(parents=True, exist_ok=True)
        for kind in options.kinds:
            print(drawn(kind, options.seed, rest, options.only_draw), flush=True)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=options.out)).resolve()
    try:
        rng = np.random.default_rng([options.seed, 2])
        again = [  # each in a folder of its own: names may be equal in several
            written(opened(file), work / "photos" / str(number) / f"{file.stem}.jpg", rng)
            for number, file in enumerate(photos)
        ]
        print(
            f"{len(photos)} photos, {options.families} families of each kind, {options.copies} "
            f"copies, seed {options.seed}\n\n{HEAD}", flush=True,
        )  # fmt: skip
        for kind in options.kinds:
            print(searched(kind, options, again, rest, known, work), flush=True)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
