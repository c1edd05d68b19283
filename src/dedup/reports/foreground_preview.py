"""What a foreground finds in a catalogue's images, to be judged before it is used."""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from dedup.foregrounds import Mask
from dedup.foregrounds.masked_store import Framed
from dedup.reports.preview_page import Tried, overlaid, write
from dedup.runtime.files import write_json
from dedup.runtime.nouns import counted
from dedup.sources.catalogue import Catalogue
from dedup.store.decode import Pixels

log = logging.getLogger("dedup")

GRID = (240, 720)
"""Height and width of an image, its mask and its product in TensorBoard, in pixels."""


def preview(catalogue: Catalogue, framed: Framed, name: str, n: int, run_dir: Path) -> Path:
    """Find the products of images spread over a catalogue, and show them.

    These images alone are read. ``preview.html``, ``foreground.json`` and a grid for TensorBoard
    are written into ``run_dir``.

    Args:
        catalogue: what a source read.
        framed: finds products; its store keeps the images.
        name: of the foreground, for the page.
        n: images at most.
        run_dir: an existing folder.

    Returns:
        The page.

    Raises:
        SourceError: not one of the images could be read.
    """
    requests = catalogue.requests
    open_rows = requests[requests["status"] == ""].drop_duplicates("url")
    places = np.unique(np.linspace(0, max(0, len(open_rows) - 1), n).round().astype(int))
    asked = open_rows.iloc[places] if len(open_rows) else requests
    images = framed.store.ingest(dataclasses.replace(catalogue, requests=asked), run_dir)
    ok = images[images["status"] == "ok"].drop_duplicates("url")
    previews = framed.store.details(ok["url"].tolist())
    tried = [_try(framed, *one) for one in zip(ok["product_id"], previews, strict=True)]
    failed = sum(one.mask is None for one in tried)
    milliseconds = float(np.mean([one.milliseconds for one in tried]))
    facts = {"pictures": len(tried), "failed": failed, "ms_per_picture": round(milliseconds, 2)}
    write_json({**framed.facts, **facts}, run_dir / "foreground.json")
    log.info(
        "no product found in %d of %s; %.1f ms an image on one core",
        failed, counted(len(tried), "image"), milliseconds,
    )  # fmt: skip
    _to_tensorboard(tried, run_dir)
    return write(tried, name, run_dir)


def _try(framed: Framed, product_id: str, image: Pixels) -> Tried:
    begun = time.perf_counter()
    mask: Mask | None = framed.product.mask(image)
    milliseconds = 1000 * (time.perf_counter() - begun)
    if mask is None or not mask.any():
        return Tried(product_id, image, None, image, milliseconds)
    return Tried(product_id, image, mask, framed.product.shown(image, mask), milliseconds)


def _to_tensorboard(tried: list[Tried], run_dir: Path) -> None:
    """A grid: each image, its mask and its product in a row."""
    height, width = GRID
    rows = []
    for one in tried:
        row = Image.new("RGB", (width, height), "white")
        for place, part in enumerate((one.image, overlaid(one), one.product)):
            small = Image.fromarray(part)
            small.thumbnail((width // 3, height))
            row.paste(small, (place * width // 3, 0))
        rows.append(np.asarray(row))
    with SummaryWriter(str(run_dir)) as writer:
        writer.add_image("foreground", np.concatenate(rows), dataformats="HWC")
