"""Read the images that the classifier is fitted on, as the store keeps them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from held_out import is_held_out
from numpy.random import Generator
from PIL import Image, UnidentifiedImageError

from dedup.augmentations import RgbImage
from dedup.runtime.parallel import in_order
from dedup.store.decode import decode, decode_preview

GOODS_SIDE = 600
"""Long side of an image of goods, in pixels."""


class Item(NamedTuple):
    """An image as the store keeps it, and whether it is held out."""

    name: str
    image: RgbImage
    held_out: bool


def photos_of(folder: Path, senders: Path | None) -> list[Item]:
    """Read the photos of a folder; those of senders that are held out are marked."""
    sender = {}
    if senders is not None:
        with senders.open(newline="", encoding="utf-8") as file:
            sender = {row["file"]: row["sender_id"] for row in csv.DictReader(file)}
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    found = in_order(lambda path: decode_preview(decode(path.read_bytes()).detail), files)
    return [
        Item(file.name, image, is_held_out(sender.get(file.name, file.name)))
        for file, image in zip(files, found, strict=True)
    ]


def goods_of(folder: Path, n: int, rng: Generator) -> list[Item]:
    """Draw images of goods from a folder, put on white ground; too small or plain ones are left."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    chosen = [files[place] for place in rng.permutation(len(files))[:n]]
    found = zip(chosen, in_order(on_white, chosen), strict=True)
    return [Item(file.name, image, is_held_out(file.name)) for file, image in found
            if image is not None]  # fmt: skip


def on_white(file: Path) -> RgbImage | None:
    """Put an image on a white square with a margin; ``None`` where there is little to see."""
    try:
        with Image.open(file) as opened:
            if max(opened.size) > 20 * GOODS_SIDE or min(opened.size) < GOODS_SIDE // 10:
                return None
            image = opened.convert("RGBA")
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None
    image.thumbnail((GOODS_SIDE, GOODS_SIDE))
    width, height = image.size
    side = int(1.12 * max(width, height))
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(image, ((side - width) // 2, (side - height) // 2))
    seen = as_stored(np.asarray(canvas.convert("RGB")), 90)
    return seen if seen.std() > 10 else None


def as_stored(image: RgbImage, quality: int) -> RgbImage:
    """Save an image as JPEG, and read it as the store keeps it: 320 pixels on its long side."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return decode_preview(decode(file.getvalue()).detail)


def quality_of(rng: Generator) -> int:
    """Draw the quality of a JPEG that a shop shows."""
    return int(rng.integers(60, 96))
