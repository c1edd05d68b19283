"""Encode the images of a page; each is stored once, however many places show it."""

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
"""Maximum width and height of an embedded image, in pixels."""

HEIGHT = 200
"""Height of every image on the page, in CSS pixels."""

WIDTHS = (64, 420)
"""Minimum and maximum width of an image on the page, in CSS pixels."""


@dataclass(frozen=True)
class Thumbnail:
    """An image that the page stores once and shows by ``name``; sizes in CSS pixels."""

    name: str
    uri: str
    width: int
    height: int


def collect(addresses: Sequence[str], thumbnails: Thumbnails) -> dict[str, Thumbnail]:
    """Encode images by address; images with equal bytes share a ``Thumbnail``."""
    by_address: dict[str, Thumbnail] = {}
    by_uri: dict[str, Thumbnail] = {}
    for start in range(0, len(addresses), BATCH):
        batch = addresses[start : start + BATCH]
        images = thumbnails(batch)
        for address in batch:
            if address in images:
                uri, width = encode(images[address])
                name = f"p{len(by_uri) + 1}"
                by_address[address] = by_uri.setdefault(uri, Thumbnail(name, uri, width, HEIGHT))
    return by_address


def encode(image: Image.Image) -> tuple[str, int]:
    """Encode an image as a JPEG data URI without metadata; with its width in CSS pixels."""
    small = image.convert("RGBA")
    small.thumbnail(SIZE, Image.Resampling.LANCZOS)
    clean = Image.new("RGB", small.size, "white")
    clean.paste(small, mask=small)
    buffer = io.BytesIO()
    clean.save(buffer, "JPEG", quality=80, optimize=True)
    min_width, max_width = WIDTHS
    width = min(max(round(HEIGHT * clean.width / clean.height), min_width), max_width)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode(), width
