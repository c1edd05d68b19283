"""How well do foregrounds find what somebody wears, and how fast?

    python benchmarks/foregrounds.py --street segmentation [--sheet sheet.jpg]

``--street`` holds street photos, ``images/NAME.jpg``, their labels, ``masks/NAME.png``, and what
kind each label is, ``labels.csv`` (background, body, worn). Each foreground is compared with the
person (body and worn) and with what is worn alone. A mask that fails counts as the whole image.
u2netp is there where the extra ``onnx`` is. One core: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from dedup.foregrounds import Mask
from dedup.foregrounds.grabcut import GrabCut
from dedup.foregrounds.lab_otsu import LabOtsu
from dedup.foregrounds.onnx import Onnx
from dedup.foregrounds.skin_aware import SkinAware
from dedup.store.decode import decode, decode_preview

Bools = npt.NDArray[np.bool_]
RgbImage = npt.NDArray[np.uint8]
Finds = Callable[[RgbImage], Mask | None]

HEAD = """\
| foreground | person, IoU mean | median | worn, IoU mean | median | failed | ms an image |
|---|---|---|---|---|---|---|"""
SHEET_HEIGHT, SHEET_ROWS = 200, 12


class Street(NamedTuple):
    """A photo as the store keeps its detail, and where its person and what is worn are, (h, w)."""

    image: RgbImage
    person: Bools
    worn: Bools


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--street", type=Path, required=True)
    parser.add_argument("--n", type=int, help="photos, all without")
    parser.add_argument("--rounds", type=int, default=1, help="the best time of so many counts")
    parser.add_argument("--sheet", type=Path, help="write images and masks side by side")
    return parser.parse_args()


def streets(folder: Path, n: int | None) -> list[Street]:
    """The photos of a folder, by name."""
    labels = pd.read_csv(folder / "labels.csv", keep_default_na=False)
    kinds = np.full(256, "background", object)
    kinds[labels["value"]] = labels["kind"]
    found = []
    for file in sorted((folder / "images").glob("*.jpg"))[:n]:
        image = decode_preview(decode(file.read_bytes()).detail)
        mask = Image.open(folder / "masks" / f"{file.stem}.png")
        size = image.shape[1], image.shape[0]
        kind = kinds[np.asarray(mask.resize(size, Image.Resampling.NEAREST))]
        found.append(Street(image, kind != "background", kind == "worn"))
    return found


def middle(image: RgbImage) -> Mask:
    """What a box in the middle would be: the baseline."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[round(0.1 * height) : round(0.95 * height), round(0.3 * width) : round(0.7 * width)] = 255
    return mask


def everything(image: RgbImage) -> Mask:
    """No foreground at all."""
    return np.full(image.shape[:2], 255, np.uint8)


def foregrounds() -> Iterator[tuple[str, Finds]]:
    """Those that are there, by name."""
    yield "none", everything
    yield "box in the middle", middle
    yield "lab_otsu", LabOtsu()
    yield "grabcut", GrabCut()
    yield "skin_aware", SkinAware()
    if importlib.util.find_spec("rembg") and importlib.util.find_spec("onnxruntime"):
        yield "onnx (u2netp)", Onnx()
        yield "skin_aware, person by u2netp", SkinAware(person=Onnx())


def agreement(mask: Mask | None, truth: Bools) -> float:
    """Intersection over union, 0 to 1; no mask is the whole image."""
    found = np.ones_like(truth) if mask is None else mask > 127
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def line(
    name: str, find: Finds, photos: list[Street], rounds: int
) -> tuple[str, list[Mask | None]]:
    """A row of the table, and the masks."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        masks = [find(photo.image) for photo in photos]
        best = min(best, time.perf_counter() - begun)
    person = [agreement(m, photo.person) for m, photo in zip(masks, photos, strict=True)]
    worn = [agreement(m, photo.worn) for m, photo in zip(masks, photos, strict=True)]
    figures = [f"{f(v):.3f}" for v in (person, worn) for f in (np.mean, np.median)]
    failed = sum(mask is None for mask in masks)
    cells = [name, *figures, str(failed), f"{1000 * best / len(photos):.1f}"]
    return f"| {' | '.join(cells)} |", masks


def shown(image: RgbImage, mask: Mask | None) -> RgbImage:
    """An image with the ground dimmed to red; all of it grey where the mask failed."""
    share = np.zeros(image.shape[:2]) if mask is None else mask / 255
    ground = np.array([190, 190, 190] if mask is None else [220, 40, 60]) * 0.65 + 0.35 * image
    over = image * share[..., None] + ground * (1 - share[..., None])
    scale = SHEET_HEIGHT / len(image)
    size = max(1, round(image.shape[1] * scale)), SHEET_HEIGHT
    return np.asarray(cv2.resize(over.astype(np.uint8), size), np.uint8)


def sheet(photos: list[Street], masks: dict[str, list[Mask | None]], file: Path) -> None:
    """Write some photos, their truth and each foreground's mask, a photo a row."""
    rows = []
    for at in np.linspace(0, len(photos) - 1, SHEET_ROWS).astype(int):
        photo = photos[at]
        truths = [np.where(truth, 255, 0).astype(np.uint8) for truth in photo[1:]]
        columns = [everything(photo.image), *truths, *(found[at] for found in masks.values())]
        row = np.hstack([shown(photo.image, mask) for mask in columns])
        rows.append(row)
    widest = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, widest - row.shape[1]), (0, 0))) for row in rows]
    Image.fromarray(np.vstack(padded)).save(file, quality=85)


def main() -> None:
    """Print the table."""
    options = arguments()
    photos = streets(options.street, options.n)
    print(f"{len(photos)} photos\n\n{HEAD}")
    masks = {}
    for name, find in foregrounds():
        row, masks[name] = line(name, find, photos, options.rounds)
        print(row, flush=True)
    if options.sheet:
        del masks["none"]
        sheet(photos, masks, options.sheet)
        print(f"\n{options.sheet}: image, person, worn, {', '.join(masks)}")


if __name__ == "__main__":
    main()
