"""Make an index of a catalogue, and change it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dedup.config.renames import renewed
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.pipeline.freshness import TABLE, describe_table
from dedup.pipeline.reading import read_images
from dedup.runtime.nouns import counted
from dedup.runtime.run_record import read_run
from dedup.search import origins
from dedup.search.clustering import Clusterer
from dedup.search.index import Index
from dedup.store.image_store import ImageStore

log = logging.getLogger("dedup")

MISSING = "missing.txt"
"""File in a run's folder: ids of the index's products that an updating table lacks, one a line."""

Settings = Mapping[str, Any]
"""A part's settings as plain values."""


@dataclasses.dataclass(frozen=True)
class Embedding:
    """Settings of the embedding step.

    Attributes:
        checkpoint: the encoder's file, its run folder or ``bundled``.
        batch_size: images in a batch.
        devices: torch's names of the devices, one process each.
    """

    checkpoint: str | Path
    batch_size: int
    devices: Sequence[str]


def make_index(
    source: origins.Source,
    images: ImageReader,
    embedding: Embedding,
    clusterer: Clusterer,
    run_dir: Path,
    manifest: Settings,
    known: Index | None = None,
) -> Index:
    """Embed and cluster a catalogue, and save the index in ``run_dir``.

    Args:
        source: reader of the catalogue.
        images: the store, perhaps behind a foreground.
        embedding: settings of the embedding step.
        clusterer: clusterer of the embeddings.
        run_dir: folder to save the index in.
        manifest: further entries of the manifest: ``source`` and ``recipe``.
        known: an earlier index by the same checkpoint and foreground, whose images are not embedded
            again.

    Raises:
        DedupError: the catalogue, the store or the checkpoint cannot be used.
    """
    _compare_foregrounds(images, Path(embedding.checkpoint))
    described = describe_table(source)  # before it is read: a later change is seen next time
    catalogue, table = read_images(source, images, run_dir)

    from dedup.search.build import build_index  # imports torch

    index = build_index(
        catalogue, table, images, embedding.checkpoint, clusterer, embedding.batch_size,
        embedding.devices, known,
    )  # fmt: skip
    index.manifest.update({**manifest, **described})
    _count_failed(index, run_dir)
    index.save(run_dir)
    return index


def add_products(
    index: Index,
    change: str,
    source: origins.Source,
    images: ImageReader,
    embedding: Embedding,
    run_dir: Path,
) -> Index:
    """Add a catalogue's products to an index, or update the index's products from it.

    Args:
        index: the index, which is not changed.
        change: ``add`` or ``update``.
        source: reader of the catalogue.
        images: the index's store and foreground, see ``open_images_of``.
        embedding: settings of the embedding step; the checkpoint is the index's.
        run_dir: folder for the list of failures.

    Raises:
        DedupError: the catalogue does not fit the index, or cannot be read.
    """
    described = describe_table(source)
    catalogue, table = read_images(source, images, run_dir)

    from dedup.search.update import add, update  # imports torch

    call = add if change == "add" else update
    known = set(index.images["product_id"]) - {""}
    missing = known - set(table["product_id"])
    if change == "update" and missing:
        _tell_missing(missing, len(known), run_dir)
    changed = call(index, catalogue, table, images, embedding.batch_size, embedding.devices)
    is_whole = change == "update" and not missing
    changed.manifest.pop(TABLE, None)
    changed.manifest.update(described if is_whole else {})
    return changed


def _tell_missing(missing: set[str], n_known: int, run_dir: Path) -> None:
    """Say which products of an index an updating table lacks, and write their ids to a file.

    A table with less than half of the index's products is taken for one of new rows alone.
    """
    text = "%s of the index not in this table %s in the index, such as %s"
    facts = (
        counted(len(missing), "product"), "stays" if len(missing) == 1 else "stay", min(missing),
    )  # fmt: skip
    if 2 * len(missing) > n_known:
        log.info(text, *facts)
        return
    unlisted = sorted(id_ for id_ in missing if "\n" in id_ or "\r" in id_)
    if unlisted:  # a line end inside of an id would make two ids of it
        log.warning(text + ": change=remove 'ids=[...]' removes products", *facts)
        return
    file = run_dir / MISSING
    file.write_text("".join(f"{id_}\n" for id_ in sorted(missing)), encoding="utf-8", newline="\n")
    log.warning(text + ": change=remove ids=%s removes %s", *facts, file,
                "it" if len(missing) == 1 else "them")  # fmt: skip


def save_changed(
    index: Index,
    before: Index,
    change: str,
    folder: Path,
    run_dir: Path,
    source: Mapping[str, Any] | None = None,
) -> Index:
    """Save a changed index, and log how many products were added, updated and removed.

    Args:
        index: the changed one.
        before: the index before the change.
        change: ``add``, ``update`` or ``remove``.
        folder: folder that the index was read from.
        run_dir: folder to save the index in.
        source: settings that the table was read with; those of ``before`` if ``None``.
    """
    read = before.manifest.get("source") if source is None else source
    known = dict(read) if isinstance(read, Mapping) else {}
    if source is None:  # products were removed, so the index is not that of a table any more
        index.manifest.pop(TABLE, None)
    index.manifest["source"] = {**known, "index": str(folder), "change": change}
    _count_failed(index, folder)
    index.save(run_dir)
    log_changes(before, index)
    return index


def log_changes(before: Index, index: Index) -> None:
    """Log how many products were added, updated and removed between two indexes."""
    from dedup.search.update import count_changes  # imports torch

    n_added, n_updated, n_removed = count_changes(before, index)
    added = counted(n_added, "product")
    log.info("%s added, %d updated, %d removed", added, n_updated, n_removed)


def _count_failed(index: Index, folder: Path) -> None:
    """Count the index's images without a found product in its manifest."""
    if index.shows:
        store = ImageStore(index.manifest["store"], index.manifest["reader"])
        framed = origins.framed(store, index.manifest["foreground"], origins.manifest_of(folder))
        embedded = index.images[index.images["vector"] >= 0]
        failed = framed.failed(embedded["url"].drop_duplicates().tolist())
        index.manifest["foreground"] = {**framed.facts, "failed": failed}


def _compare_foregrounds(images: ImageReader, checkpoint: Path) -> None:
    """Warn if an encoder was trained with another foreground."""
    run = checkpoint.parent / "run.json"
    if not run.is_file():
        return
    trained = renewed(read_run(run))
    shown = images.settings if isinstance(images, Framed) else {"part": None, "framing": None}
    before, now = trained.get("foreground"), shown["part"]
    if before != now or (now and trained.get("framing") != shown["framing"]):
        log.warning(
            "the encoder was trained with foreground=%s, but this index is made with "
            "foreground=%s: duplicates may be missed. Set foreground=%s with the same settings",
            origins.name_of(before), origins.name_of(now), origins.name_of(before),
        )  # fmt: skip
