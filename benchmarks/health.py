"""Measure the checks of image health on photos, on packshots made of them, and on spoilt copies.

Half of the photos are of senders that are not held out (``scripts/held_out.py``): the limits of
``detection.health`` were chosen on these, and are measured on the other half. A limit is the value
that 1 % of the photos as they are would fail, or of their packshots, whichever is more lenient.
"As they are" is taken for healthy, although some photos are blurred or dark by themselves: they
count as false alarms. AUC is of each check's value among the images as they are and their copies.

Copies are saved as JPEG of quality 90 after the edit. Packshots are what ``augmentations.packshot``
makes, on white, saved at quality 92. Copies "before cut-out" are spoilt before the product is put
on pure white: their ground is healthy, so only light inside the product's area can tell.

    python benchmarks/health.py --images images --table source_ids.csv --n 300
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from dedup.augmentations import RgbImage, foreground, packshot
from dedup.detection.health import HealthRules
from dedup.runtime.parallel import in_order
from dedup.store.decode import decode, decode_preview, decode_upright, resize_pillow
from dedup.store.measures import MEASURES, measure, measure_preview

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
from held_out import is_held_out

Edit = Callable[[RgbImage], RgbImage]
Floats = npt.NDArray[np.float64]

SIZES = ((400, 400), (1000, 1000), (2000, 2000), (4000, 3000))
"""Widths and heights in pixels that the time is measured at."""
LENIENT = 0.01
"""Share of the images as they are that fail a limit when it is chosen."""


class Check(NamedTuple):
    """A check and its copies: the value is worse the higher it is."""

    problem: str
    copies: str
    edit: Edit
    value: Callable[[pd.DataFrame, HealthRules], pd.Series[float]]
    quality: int = 90
    inside: bool = False  # spoilt before the product is cut out


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of photos")
    parser.add_argument("--table", type=Path, required=True, help="CSV: file, sender_id")
    parser.add_argument("--n", type=int, default=300, help="photos, in two halves")
    parser.add_argument("--skip", type=int, default=0, help="photos passed over in each half")
    return parser.parse_args()


def halves(folder: Path, table: Path, n: int, skip: int) -> tuple[list[Path], list[Path]]:
    """Draw n / 2 photos whose senders are not held out, and n / 2 whose are."""
    with table.open(newline="", encoding="utf-8") as rows:
        senders = {row["file"]: row["sender_id"] for row in csv.DictReader(rows)}
    files = sorted(senders, key=lambda name: hashlib.sha256(f"0{name}".encode()).hexdigest())
    sides: tuple[list[Path], list[Path]] = [], []
    for name in files:
        side = sides[is_held_out(senders[name])]
        if len(side) < n // 2 + skip:
            side.append(folder / name)
    return sides[0][skip:], sides[1][skip:]


def saved(image: RgbImage, quality: int) -> bytes:
    """A JPEG with chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def opened(data: bytes) -> RgbImage:
    """The pixels of a file."""
    return decode_upright(data)[1]


def exposed(stops: float) -> npt.NDArray[np.uint8]:
    """Table of sRGB levels with 2 ** stops of the light."""
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4) * 2**stops
    linear = linear.clip(0, 1)
    back = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (back * 255 + 0.5).astype(np.uint8)


def overexposed(image: RgbImage) -> RgbImage:
    """Light raised until half of the product is white, twice at least."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    product = foreground(image)
    middle = np.median(luma[product] if product.any() else luma)
    stops = next(s for s in np.arange(1, 12.5, 0.25) if exposed(s)[int(middle)] >= 250 or s >= 12)
    return exposed(stops)[image]


def hazed(image: RgbImage) -> RgbImage:
    """Three tenths of the contrast, around a light grey."""
    return (150 + (image.astype(np.float32) - 150) * 0.3 + 0.5).astype(np.uint8)


def blurred(sigma: float) -> Edit:
    """A Gaussian of so many pixels where the long side has 320."""
    return lambda image: np.asarray(
        cv2.GaussianBlur(image, (0, 0), sigma * max(image.shape[:2]) / 320), np.uint8
    )


def scaled(factor: float, back: bool = False) -> Edit:
    """Reduced; ``back`` enlarges it again to its size."""

    def edit(image: RgbImage) -> RgbImage:
        size = image.shape[1], image.shape[0]
        small = Image.fromarray(image).resize(
            (round(size[0] * factor), round(size[1] * factor)), Image.Resampling.LANCZOS
        )
        return np.asarray(small.resize(size, Image.Resampling.BICUBIC) if back else small)

    return edit


def recompressed(quality: int) -> Edit:
    """Saved strongly, and opened again."""
    return lambda image: opened(saved(image, quality))


def strip(image: RgbImage) -> RgbImage:
    """Its middle, four times as long as wide."""
    height, width = image.shape[:2]
    across = max(height, width) // 4
    if height >= width:
        left = (width - across) // 2
        return np.ascontiguousarray(image[:, left : left + across])
    return np.ascontiguousarray(image[(height - across) // 2 :][:across])


def side(of: pd.DataFrame, rules: HealthRules) -> pd.Series[float]:
    """The shorter side."""
    return -of[["width", "height"]].min(axis=1).astype(float)


def aspect(of: pd.DataFrame, rules: HealthRules) -> pd.Series[float]:
    """The longer side over the shorter."""
    return of[["width", "height"]].max(axis=1) / of[["width", "height"]].min(axis=1)


def dullness(of: pd.DataFrame, rules: HealthRules) -> pd.Series[float]:
    """How far the nearest limit of darkness is passed."""
    nearest = [of["light"] / rules.min_light, of["product_light"] / rules.min_product_light]
    return -pd.concat(nearest, axis=1).min(axis=1)


CHECKS = (
    Check("too_small", "half the size", scaled(0.5), side),
    Check("aspect", "strip of 1 : 4", strip, aspect),
    Check("blurred", "sigma 1 at 320 pixels", blurred(1), lambda of, _: -of["sharpness"]),
    Check("blurred", "sigma 2", blurred(2), lambda of, _: -of["sharpness"]),
    Check("dark", "an eighth of the light", lambda image: exposed(-3)[image], dullness),
    Check("bright", "half of the product white", overexposed, lambda of, _: of["clipped"]),
    Check("low_contrast", "three tenths of the contrast", hazed, lambda of, _: -of["range"]),
    Check("compressed", "quality 20", lambda image: image, lambda of, _: -of["quality"], 20),
    Check(
        "compressed", "20, saved again at 95", recompressed(20), lambda of, _: of["blockiness"], 95
    ),
)
HARDER = (
    Check("blurred", "sigma 0.7", blurred(0.7), lambda of, _: -of["sharpness"]),
    Check("blurred", "enlarged from a half", scaled(0.5, True), lambda of, _: -of["sharpness"]),
    Check("blurred", "enlarged from a third", scaled(1 / 3, True), lambda of, _: -of["sharpness"]),
    Check(
        "compressed", "30, saved again at 95", recompressed(30), lambda of, _: of["blockiness"], 95
    ),
    Check(
        "dark", "1/16 of it, before cut-out", lambda image: exposed(-4)[image], dullness, 90, True
    ),
    Check(
        "dark", "1/64 of it, before cut-out", lambda image: exposed(-6)[image], dullness, 90, True
    ),
    Check(
        "bright", "half white, before cut-out", overexposed, lambda of, _: of["clipped"], 90, True
    ),
    Check(
        "low_contrast", "hazed before cut-out", hazed, lambda of, _: -of["range"], 90, True
    ),
)  # fmt: skip


def facts(files: Sequence[bytes]) -> pd.DataFrame:
    """Sizes and measures of files, as the store would have them."""

    def one(data: bytes) -> list[float]:
        image = opened(data)
        small = resize_pillow(Image.fromarray(image))
        return [image.shape[1], image.shape[0], *measure(image, small, data)]

    table = pd.DataFrame(list(in_order(one, files)), columns=["width", "height", *MEASURES])
    return table.astype({"width": int, "height": int})


def facts_of_previews(files: Sequence[bytes]) -> pd.DataFrame:
    """The same where an earlier version read the images, and previews alone are left."""

    def one(data: bytes) -> list[float]:
        image = decode(data)
        return [image.width, image.height, *measure_preview(decode_preview(image.detail))]

    return pd.DataFrame(list(in_order(one, files)), columns=["width", "height", *MEASURES])


def cut_out(packs: Sequence[RgbImage], edit: Edit) -> list[RgbImage]:
    """Packshots whose product alone is edited."""

    def one(image: RgbImage) -> RgbImage:
        mask = cv2.GaussianBlur(foreground(image).astype(np.float32), (3, 3), 0)[..., None]
        return (edit(image) * mask + image * (1 - mask) + 0.5).astype(np.uint8)

    return list(in_order(one, packs))


def auc(healthy: Floats, spoilt: Floats) -> float:
    """Chance that a spoilt image has the higher value, ties half."""
    above = (spoilt[:, None] > healthy).mean()
    return float(above + (spoilt[:, None] == healthy).mean() / 2)


def share(of: pd.DataFrame, problem: str, rules: HealthRules) -> float:
    """Share of images that are judged to have a problem."""
    return float(np.mean([problem in names for names in rules.judge(of)[0]]))


def spoilt(check: Check, images: Sequence[RgbImage]) -> list[bytes]:
    """Files of the copies of a check."""
    edited = (
        cut_out(images, check.edit) if check.inside else list(in_order(check.edit, images))
    )  # fmt: skip
    return [saved(image, check.quality) for image in edited]


def row(
    check: Check,
    bases: Mapping[str, tuple[Sequence[RgbImage], pd.DataFrame]],
    rules: HealthRules,
    known: Callable[[Sequence[bytes]], pd.DataFrame] = facts,
) -> str:
    """A line of the table; photos have no cut-out.

    Args:
        check: the check and its copies.
        bases: images, and what is known of their files, by name.
        rules: the limits.
        known: tells what is known of the copies' files.
    """
    cells = [check.problem, check.copies]
    for name, (images, healthy) in bases.items():
        if check.inside and name == "photos":
            cells += ["-"] * 3
            continue
        copies = known(spoilt(check, images))
        values = [check.value(of, rules).to_numpy(float) for of in (healthy, copies)]
        cells.append(f"{auc(values[0], values[1]):.4f}")
        cells += [f"{share(of, check.problem, rules):.1%}" for of in (healthy, copies)]
    return "| " + " | ".join(cells) + " |"


def choices(bases: Mapping[str, pd.DataFrame]) -> str:
    """The limits that ``LENIENT`` of photos or of packshots fail, whichever is more lenient."""
    texts = []
    for name in ("sharpness", "light", "product_light", "range"):
        values = (of[name].quantile(LENIENT) for of in bases.values())
        texts.append(f"{name} {min(values):.2f}")
    for name in ("clipped", "blockiness"):
        values = (of[name].quantile(1 - LENIENT) for of in bases.values())
        texts.append(f"{name} {max(values):.2f}")
    return ", ".join(texts)


def packshots(photos: Sequence[RgbImage]) -> list[bytes]:
    """Files of packshots of the photos where a product is found."""
    made = (image for image in in_order(packshot, photos) if image is not None)
    return [saved(image, 92) for image in made]


def timing(image: RgbImage) -> str:
    """Milliseconds of CPU for an image of each size."""
    texts = []
    for width, height in SIZES:
        large = np.asarray(cv2.resize(image, (width, height)), np.uint8)
        small, data = resize_pillow(Image.fromarray(large)), saved(large, 90)
        measure(large, small, data)
        started = time.process_time()
        for _ in range(10):
            measure(large, small, data)
        texts.append(
            f"{width} x {height}: {(time.process_time() - started) * 100:.2f} ms"
        )  # fmt: skip
    return ", ".join(texts)


def main() -> None:
    """Print the tables."""
    cv2.setNumThreads(1)
    options = arguments()
    chosen, measured = (
        [path.read_bytes() for path in side]
        for side in halves(options.images, options.table, options.n, options.skip)
    )
    first = [opened(data) for data in chosen]
    on = {"photos": facts(chosen), "packshots": facts(packshots(first))}
    rules = HealthRules(min_side=300)
    print(f"limits chosen on {len(on['photos'])} photos and {len(on['packshots'])} packshots of "
          f"other senders: {choices(on)}")  # fmt: skip
    photos = [opened(data) for data in measured]
    packs = packshots(photos)
    files = {"photos": measured, "packshots": packs}
    images = {name: [opened(data) for data in some] for name, some in files.items()}
    bases = {name: (images[name], facts(some)) for name, some in files.items()}
    old = {name: (images[name], facts_of_previews(some)) for name, some in files.items()}
    print(f"limits measured: {rules}\n")
    print(f"| problem | copies | {len(photos)} photos, AUC | false alarms | caught "
          f"| {len(packs)} packshots, AUC | false alarms | caught |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    for check in (*CHECKS, *HARDER):
        print(row(check, bases, rules), flush=True)
    for check in CHECKS:
        if check.problem in ("blurred", "dark", "bright", "low_contrast"):
            previews = check._replace(copies=f"{check.copies}; previews alone")
            print(row(previews, old, rules, facts_of_previews), flush=True)
    for name, (_, healthy) in bases.items():
        judged = rules.judge(healthy)[0]
        unusable = float(np.mean([not rules.is_usable(names) for names in judged]))
        flawed = float(np.mean([bool(names) for names in judged]))
        print(f"\n{name} as they are: {unusable:.1%} unusable, {flawed:.1%} with a problem", end="")
    started = time.process_time()
    for data in measured:
        image = opened(data)
    decoding = time.process_time() - started
    smalls = [resize_pillow(Image.fromarray(image)) for image in photos]
    started = time.process_time()
    for image, small, data in zip(photos, smalls, measured, strict=True):
        measure(image, small, data)
    each = (time.process_time() - started) / len(photos) * 1e3
    print(f"\n\nCPU an image: {each:.2f} ms on these photos (their decoding to pixels "
          f"{decoding / len(photos) * 1e3:.2f} ms); {timing(photos[0])}")  # fmt: skip


if __name__ == "__main__":
    main()
