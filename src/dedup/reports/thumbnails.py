"""The images of a page: each encoded anew, and held once however many places show it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from dedup.schemas import Thumbnails

BATCH = 256
"""Images held in memory at once."""

SIZE = (660, 220)
"""Largest width and height of an embedded image, in pixels."""

HEIGHT = 200
"""Height at which every image is shown, in CSS pixels."""

WIDTHS = (64, 420)
"""Narrowest and widest that an image is shown, in CSS pixels."""


@dataclass(frozen=True)
class Thumbnail:
    """An image that the page holds once and shows under ``name``; sizes in CSS pixels."""

    name: str
    uri: str
    width: int
    height: int


def collect(addresses: Sequence[str], thumbnails: Thumbnails) -> dict[str, Thumbnail]:
    """Images by address; those that look the same are one ``Image``."""
    album: dict[str, Thumbnail] = {}
    known: dict[str, Thumbnail] = {}
    for start in range(0, len(addresses), BATCH):
        batch = addresses[start : start + BATCH]
        found = thumbnails(batch)
        for address in batch:
            if address in found:
                uri, width = encoded(found[address])
                name = f"p{len(known) + 1}"
                album[address] = known.setdefault(uri, Thumbnail(name, uri, width, HEIGHT))
    return album


def encoded(image: Image.Image) -> tuple[str, int]:
    """A JPEG data URI that carries pixels alone, and the width in CSS pixels to show it at."""
    small = image.convert("RGBA")
    small.thumbnail(SIZE, Image.Resampling.LANCZOS)
    clean = Image.new("RGB", small.size, "white")
    clean.paste(small, mask=small)
    buffer = io.BytesIO()
    clean.save(buffer, "JPEG", quality=80, optimize=True)
    narrowest, widest = WIDTHS
    width = min(max(round(HEIGHT * clean.width / clean.height), narrowest), widest)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), width
