"""Preview a foreground on a catalogue's images, before it is used."""

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
from dedup.reports.preview_page import Tried, dim_background, write
from dedup.runtime.files import write_json
from dedup.runtime.nouns import counted
from dedup.sources.catalogue import Catalogue
from dedup.store.decode import Pixels

log = logging.getLogger("dedup")

GRID = (240, 720)
"""Height and width of an image, its mask and its product in TensorBoard, in pixels."""


def preview(catalogue: Catalogue, framed: Framed, name: str, n: int, run_dir: Path) -> Path:
    """Find the products in images spread over a catalogue, and show them.

    Only these images are read. The function writes ``preview.html``, ``foreground.json`` and a
    grid for TensorBoard into ``run_dir``.

    Args:
        catalogue: catalogue that a source read.
        framed: foreground, with the store that keeps the images.
        name: name of the foreground, for the page.
        n: number of images, at most.
        run_dir: an existing folder.

    Returns:
        The path of the page.

    Raises:
        SourceError: none of the images could be read.
    """
    requests = catalogue.requests
    open_rows = requests[requests["status"] == ""].drop_duplicates("url")
    places = np.unique(np.linspace(0, max(0, len(open_rows) - 1), n).round().astype(int))
    chosen = open_rows.iloc[places] if len(open_rows) else requests
    images = framed.store.ingest(dataclasses.replace(catalogue, requests=chosen), run_dir)
    ok = images[images["status"] == "ok"].drop_duplicates("url")
    previews = framed.store.details(ok["url"].tolist())
    tried = [_try(framed, *each) for each in zip(ok["product_id"], previews, strict=True)]
    failed = sum(each.mask is None for each in tried)
    milliseconds = float(np.mean([each.milliseconds for each in tried]))
    facts = {"pictures": len(tried), "failed": failed, "ms_per_picture": round(milliseconds, 2)}
    write_json({**framed.facts, **facts}, run_dir / "foreground.json")
    log.info(
        "no product found in %d of %s; %.1f ms an image on one core",
        failed, counted(len(tried), "image"), milliseconds,
    )  # fmt: skip
    _to_tensorboard(tried, run_dir)
    return write(tried, name, run_dir)


def _try(framed: Framed, product_id: str, image: Pixels) -> Tried:
    start = time.perf_counter()
    mask: Mask | None = framed.product.mask(image)
    milliseconds = 1000 * (time.perf_counter() - start)
    if mask is None or not mask.any():
        return Tried(product_id, image, None, image, milliseconds)
    return Tried(product_id, image, mask, framed.product.shown(image, mask), milliseconds)


def _to_tensorboard(tried: list[Tried], run_dir: Path) -> None:
    """Write a grid for TensorBoard: a row for each image, with its mask and its product."""
    height, width = GRID
    rows = []
    for each in tried:
        row = Image.new("RGB", (width, height), "white")
        for place, part in enumerate((each.image, dim_background(each), each.product)):
            small = Image.fromarray(part)
            small.thumbnail((width // 3, height))
            row.paste(small, (place * width // 3, 0))
        rows.append(np.asarray(row))
    with SummaryWriter(str(run_dir)) as writer:
        writer.add_image("foreground", np.concatenate(rows), dataformats="HWC")
