"""A page of images, of what a foreground finds in them, and of what encoders are shown then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from dedup.reports.html import environment
from dedup.reports.thumbnails import HEIGHT, encoded
from dedup.runtime.files import write_text
from dedup.runtime.printable import visible_page

TINT = (214, 0, 110)
"""What the ground is dimmed with: seldom a product's colour."""

_DIMMED = 0.65


class Tried(NamedTuple):
    """An image, and what a foreground made of it.

    Attributes:
        product_id: whose it is.
        image: (h, w, 3) uint8 RGB.
        mask: (h', w') uint8, the mask squashed to any size; ``None`` where the foreground failed.
        product: (_, _, 3) uint8 RGB, what is shown; the whole image where it failed.
        milliseconds: that it took.
    """

    product_id: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8] | None
    product: npt.NDArray[np.uint8]
    milliseconds: float


class _Card(NamedTuple):
    """An image as the page shows it: data URIs, widths in CSS pixels, share of the area."""

    product_id: str
    parts: list[tuple[str, str, int]]
    area: float | None


def overlaid(one: Tried) -> npt.NDArray[np.uint8]:
    """An image with all that is no product dimmed: (h, w, 3) uint8; all of it without a mask."""
    height, width = one.image.shape[:2]
    share = np.zeros((height, width))
    if one.mask is not None:
        share = np.asarray(cv2.resize(one.mask, (width, height)), np.float64) / 255
    dimmed = _DIMMED * np.array(TINT) + (1 - _DIMMED) * one.image
    mixed = one.image * share[..., None] + dimmed * (1 - share[..., None])
    return np.asarray(np.rint(mixed), np.uint8)


def write(tried: Sequence[Tried], name: str, folder: Path) -> Path:
    """Write ``preview.html``, which holds all it needs and asks the network for nothing.

    Args:
        tried: at least one image; those that failed come first.
        name: of the foreground.
        folder: an existing folder.

    Returns:
        The page.
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
            milliseconds=float(np.mean([one.milliseconds for one in tried])),
        )
    )
    write_text(visible_page(page), folder / "preview.html")
    return folder / "preview.html"


def _card(one: Tried) -> _Card:
    parts = []
    for label, part in (
        ("picture", one.image), ("found", overlaid(one)), ("shown", one.product),
    ):  # fmt: skip
        uri, width = encoded(Image.fromarray(part))
        parts.append((label, uri, width))
    area = None if one.mask is None else float((one.mask > 127).mean())
    return _Card(one.product_id, parts, area)
