"""Steps of the commands and of the Python API, with explicit arguments."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.config.parts import Record
from dedup.config.renames import renewed
from dedup.detection.detector import Detector, merged
from dedup.detection.ground_truth import against_truth, in_words, read_truth
from dedup.detection.results import DetectionResult
from dedup.download.client import Fetcher
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.files import write_json
from dedup.runtime.nouns import counted
from dedup.runtime.processes import is_first
from dedup.runtime.run_record import read_run
from dedup.schemas import IMAGES
from dedup.search import origins
from dedup.search.clustering import Clusterer
from dedup.search.image_access import ImageAccess
from dedup.search.index import Index
from dedup.search.state import SearchState
from dedup.sources.catalogue import Catalogue
from dedup.store.decode_pool import Decoders
from dedup.store.image_store import ImageStore

log = logging.getLogger("dedup")

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


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of the edited copies on which recall is estimated.

    Attributes:
        checkpoint: the encoder; the index's if ``None``.
        seed: seed of the drawn images and edits.
    """

    checkpoint: str | Path | None
    seed: int


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


def make_index(
    source: origins.Source,
    images: ImageReader,
    embedding: Embedding,
    clusterer: Clusterer,
    run_dir: Path,
    manifest: Settings,
) -> Index:
    """Embed and cluster a catalogue, and save the index in ``run_dir``.

    Args:
        source: reader of the catalogue.
        images: the store, perhaps behind a foreground.
        embedding: settings of the embedding step.
        clusterer: clusterer of the embeddings.
        run_dir: folder to save the index in.
        manifest: further entries of the manifest: ``source`` and ``recipe``.

    Raises:
        DedupError: the catalogue, the store or the checkpoint cannot be used.
    """
    _compare_foregrounds(images, Path(embedding.checkpoint))
    catalogue, table = read_images(source, images, run_dir)

    from dedup.search.build import build_index  # imports torch

    index = build_index(
        catalogue, table, images, embedding.checkpoint, clusterer, embedding.batch_size,
        embedding.devices,
    )  # fmt: skip
    index.manifest.update(manifest)
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
    catalogue, table = read_images(source, images, run_dir)

    from dedup.search.update import add, update  # imports torch

    call = add if change == "add" else update
    missing = set(index.images["product_id"]) - set(table["product_id"]) - {""}
    if change == "update" and missing:
        log.warning(
            "%s of the index %s not in this table and stay in the index, such as %s: "
            "change=remove ids=FILE removes products",
            counted(len(missing), "product"), "is" if len(missing) == 1 else "are", min(missing),
        )  # fmt: skip
    return call(index, catalogue, table, images, embedding.batch_size, embedding.devices)


def save_changed(index: Index, before: Index, change: str, folder: Path, run_dir: Path) -> Index:
    """Save a changed index, and log how many products were added, updated and removed.

    Args:
        index: the changed one.
        before: the index before the change.
        change: ``add``, ``update`` or ``remove``.
        folder: folder that the index was read from.
        run_dir: folder to save the index in.
    """
    from dedup.search.update import count_changes  # imports torch

    index.manifest["source"] = {"index": str(folder), "change": change}
    _count_failed(index, folder)
    index.save(run_dir)
    n_added, n_updated, n_removed = count_changes(before, index)
    log.info("%d products added, %d updated, %d removed", n_added, n_updated, n_removed)
    return index


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
    """Attach an index's store to it.

    Args:
        index: the index.
        folder: folder that the index was read from.
    """
    store = ImageStore(index.manifest["store"], index.manifest["reader"])
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


def detect(
    index: Index,
    detection: Detector,
    sampling: Sampling,
    since: SearchState | None = None,
    truth: Path | None = None,
) -> tuple[DetectionResult, SearchState]:
    """Find the duplicates in an index.

    Args:
        index: the index, its store attached if verification or an automatic threshold needs it.
        detection: the detector.
        sampling: settings of the edited copies.
        since: state of an earlier search, whose comparisons are not repeated.
        truth: CSV file of true pairs, two ids a row.

    Returns:
        The result, and the state for a later search.

    Raises:
        ConfigError: a setting does not fit the index.
        ArtifactError: ``since`` does not fit the index or the settings.
    """
    pairs = None if truth is None else read_truth(truth)
    result, state = detection(index, since)
    result = _calibrated(result, index, detection, sampling)
    return _measured(result, index, truth, pairs), state


def detect_between(
    index: Index,
    other: Index,
    prefix: str,
    detection: Detector,
    sampling: Sampling,
    truth: Path | None = None,
) -> tuple[Index, DetectionResult, SearchState]:
    """Find the pairs of a product of one index and a product of another.

    Args:
        index: index of the user's own catalogue.
        other: index of another catalogue, made with the same encoder.
        prefix: text before the other catalogue's ids.
        detection: the detector.
        sampling: settings of the edited copies.
        truth: CSV file of true pairs, two ids a row.

    Returns:
        Both catalogues as one index, the result, and the state for a later search.

    Raises:
        ConfigError: a setting does not fit the indexes.
        ArtifactError: the indexes do not fit each other.
    """
    pairs = None if truth is None else read_truth(truth)
    both, others = merged(index, other, prefix)
    result, state = detection(both, others=others)
    result = _calibrated(result, index, detection, sampling)
    return both, _measured(result, both, truth, pairs), state


def _calibrated(
    result: DetectionResult, sampled: Index, detection: Detector, sampling: Sampling
) -> DetectionResult:
    """Add the recall on edited copies of an index's images to the calibration."""
    if result.calibration is None:
        return result
    from dedup.detection.recall import with_recall  # imports torch

    calibration = with_recall(
        result, sampled, detection.verifier, sampling.checkpoint, sampling.seed,
        detection.max_products, detection.min_contrast, detection.estimate_recall,
    )  # fmt: skip
    return dataclasses.replace(result, calibration=calibration)


def _measured(
    result: DetectionResult, index: Index, truth: Path | None, pairs: pd.DataFrame | None
) -> DetectionResult:
    """Compare a result with the truth, where there is one."""
    if pairs is None:
        return result
    measured = against_truth(result, index.images["product_id"], pairs)
    log.info("measured against %s: %s", truth, in_words(measured))
    return dataclasses.replace(result, measured={**measured, "truth": str(truth)})


def answer(
    index: Index,
    addresses: Sequence[str],
    detection: Detector,
    fetcher: Fetcher,
    decoders: Decoders,
    checkpoint: str | Path | None = None,
) -> pd.DataFrame:
    """Find the products that show the given images, see ``detection.query.Query``.

    Args:
        index: the index to search, its store attached.
        addresses: the images, each a path or an http(s) address.
        detection: the detector, whose matcher and verifier are used.
        fetcher: client for images with a web address.
        decoders: processes that decode the images; started and stopped here.
        checkpoint: the encoder; the index's if ``None``.

    Raises:
        SourceError: an image cannot be read.
        ArtifactError: the checkpoint is not the index's.
    """
    with decoders:
        decoders.begin(len(addresses))  # the processes start while the encoder loads

        from dedup.detection.query import Query  # imports torch

        query = Query(
            index, detection.matcher, checkpoint, detection.max_products, detection.min_contrast,
            detection.verifier, fetcher, decoders,
        )  # fmt: skip
        return query(addresses)


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
