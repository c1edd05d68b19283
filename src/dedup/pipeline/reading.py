"""Read catalogues and their images: from a source into a store, and from an index's store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.config.parts import Record
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.files import write_json
from dedup.runtime.processes import is_first
from dedup.schemas import IMAGES
from dedup.search import origins
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue
from dedup.store.image_store import ImageStore

Settings = Mapping[str, Any]
"""A part's settings as plain values."""


def open_images(store: ImageStore, foreground: Settings | None) -> ImageReader:
    """Open a store, through a foreground if one is given.

    Args:
        store: the store.
        foreground: settings ``part`` and ``framing``; ``None`` for whole images.

    Raises:
        ArtifactError: the settings cannot be used.
    """
    if foreground is None:
        return store
    # The index's manifest will be read in the same way.
    record = Record("foreground= and framing=", "correct the settings")
    return Framed(store, origins.described(foreground, record), foreground)


def open_images_of(index: Index, store: ImageStore, folder: Path) -> ImageReader:
    """Open an index's store through the index's foreground, if it has one.

    Args:
        index: the index.
        store: the index's store.
        folder: folder that the index was read from.

    Raises:
        ArtifactError: the store is missing, or its images would look different now.
    """
    record = origins.manifest_of(folder)
    origins.check_store(index, record)
    if index.shows:
        return origins.framed(store, index.manifest["foreground"], record)
    return store


def with_images(index: Index, folder: Path) -> Index:
    """Attach an index's store to it, with the images that the index was made of.

    Args:
        index: the index.
        folder: folder that the index was read from.
    """
    store = ImageStore(index.manifest["store"], index.manifest["reader"])
    store.hold(index.images)
    sight = ImageAccess.to(store)
    if index.shows:
        # Built at its first use: a foreground may load a model.
        record = origins.manifest_of(folder)
        framed = cache(lambda: origins.framed(store, index.manifest["foreground"], record))
        sight = sight._replace(
            product=lambda image: framed().found_in(image),
            masks=lambda urls: framed().masks(urls),
        )
    return index.with_images(store.thumbnails, sight)


def read_images(
    source: origins.Source, images: ImageReader, run_dir: Path
) -> tuple[Catalogue, pd.DataFrame]:
    """Read a catalogue, and all of its images into the store.

    With a foreground, the products in the images are found as well. ``foreground.json`` in
    ``run_dir`` then counts the images without a product.

    Args:
        source: reader of the catalogue.
        images: the store, perhaps behind a foreground.
        run_dir: folder for the list of failures.

    Returns:
        The catalogue, and its images in the schema ``IMAGES``.

    Raises:
        SourceError: the catalogue, or each of its images, cannot be read.
        ArtifactError: the store belongs to another reader or format.
        LockedError: another run writes into the store.
    """
    catalogue = source.read()
    store = images.store if isinstance(images, Framed) else images
    table = store.ingest(catalogue, run_dir)
    if isinstance(images, Framed):
        urls = table.loc[table["status"] == "ok", "url"].drop_duplicates().tolist()
        write_json({**images.facts, **images.prepare(urls)}, run_dir / "foreground.json")
    return catalogue, table


def read_training_images(
    source: origins.Source, images: ImageReader, run_dir: Path
) -> pd.DataFrame:
    """Read the images to train on, in the schema ``IMAGES``.

    Of several training processes only the first reads them. The others get no rows here, and
    receive them from ``CatalogueDataModule``.
    """
    if is_first():
        return read_images(source, images, run_dir)[1]
    return pd.DataFrame(columns=IMAGES.names)
