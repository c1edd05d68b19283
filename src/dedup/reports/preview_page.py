"""Write a page of images with the products that a foreground finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dedup.reports.html import environment
from dedup.reports.thumbnails import HEIGHT, encode
from dedup.runtime.files import write_text
from dedup.runtime.printable import visible_page

TINT = (214, 0, 110)
"""Colour of the dimmed background, chosen because few products have it."""

_DIMMED = 0.65
"""Weight of that colour in the background."""


class Tried(NamedTuple):
    """An image, and the product that a foreground found in it.

    Attributes:
        product_id: id of the product.
        image: (h, w, 3) uint8 RGB.
        mask: (h', w') uint8, resized to any shape; ``None`` where the foreground found nothing.
        product: (_, _, 3) uint8 RGB, input of the encoder; the whole image without a mask.
        milliseconds: duration of the foreground.
    """

    product_id: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8] | None
    product: npt.NDArray[np.uint8]
    milliseconds: float


class _Card(NamedTuple):
    """An image on the page: label, data URI and width in CSS pixels of each part; area's share."""

    product_id: str
    parts: list[tuple[str, str, int]]
    area: float | None


def dim_background(tried: Tried) -> npt.NDArray[np.uint8]:
    """Dim the background of an image, (h, w, 3) uint8; without a mask the whole image."""
    height, width = tried.image.shape[:2]
    share = np.zeros((height, width))
    if tried.mask is not None:
        share = np.asarray(cv2.resize(tried.mask, (width, height)), np.float64) / 255
    dimmed = _DIMMED * np.array(TINT) + (1 - _DIMMED) * tried.image
    mixed = tried.image * share[..., None] + dimmed * (1 - share[..., None])
    return np.asarray(np.rint(mixed), np.uint8)


def write(tried: Sequence[Tried], name: str, folder: Path) -> Path:
    """Write ``preview.html``, a self-contained page that makes no network requests.

    Args:
        tried: images, at least one; the page shows those without a product first.
        name: name of the foreground.
        folder: an existing folder.

    Returns:
        The path of the page.
    """
    cards = sorted(map(_card, tried), key=lambda card: card.area is not None)
    page = (
        environment()
        .get_template("preview.html")
        .render(
            name=name,
            cards=cards,
            height=HEIGHT,
            failed=sum(card.area is None for card in cards),
            milliseconds=float(np.mean([each.milliseconds for each in tried])),
        )
    )
    write_text(visible_page(page), folder / "preview.html")
    return folder / "preview.html"


def _card(tried: Tried) -> _Card:
    parts = []
    for label, part in (
        ("picture", tried.image), ("found", dim_background(tried)), ("shown", tried.product),
    ):  # fmt: skip
        uri, width = encode(Image.fromarray(part))
        parts.append((label, uri, width))
    area = None if tried.mask is None else float((tried.mask > 127).mean())
    return _Card(tried.product_id, parts, area)
