"""The steps of the commands, from a catalogue to an answer; the Python API takes the same ones."""

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


@dataclasses.dataclass(frozen=True)
class Embedding:
    """How images are embedded.

    Attributes:
        checkpoint: the encoder's file, its run folder or ``bundled``.
        batch_size: images read at once.
        devices: what embeds, as torch names it; a process for each.
    """

    checkpoint: str | Path
    batch_size: int
    devices: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How edited copies are drawn, which recall is estimated on.

    Attributes:
        checkpoint: the encoder; the one that the index names if ``None``.
        seed: draws images and edits.
    """

    checkpoint: str | Path | None
    seed: int


def open_images(store: ImageStore, foreground: Settings | None) -> ImageReader:
    """See a store through a foreground.

    Args:
        store: the store.
        foreground: ``part`` and ``framing`` as settings describe them; ``None`` for whole images.

    Raises:
        ArtifactError: the settings cannot be used.
    """
    if foreground is None:
        return store
    # As they will be read again from the index's manifest.
    record = Record("foreground= and framing=", "correct the settings")
    return Framed(store, origins.described(foreground, record), foreground)


def read_images(
    source: origins.Source, images: ImageReader, run_dir: Path
) -> tuple[Catalogue, pd.DataFrame]:
    """Read a catalogue, and every image that it asks for into the store.

    With a foreground, the products in the images are found as well, and ``foreground.json`` in
    ``run_dir`` says in how many there was none.

    Args:
        source: reads the catalogue.
        images: the store, perhaps seen through a foreground.
        run_dir: where failures are listed.

    Returns:
        The catalogue, and its images in the schema ``IMAGES``.

    Raises:
        SourceError: the catalogue, or every image of it, cannot be read.
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

    Where several processes train, the first alone reads them, and the others have no rows yet:
    ``CatalogueDataModule`` hands them over.
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
        source: reads the catalogue.
        images: the store, perhaps seen through a foreground.
        embedding: how images are embedded.
        clusterer: places embeddings in clusters.
        run_dir: where the index goes.
        manifest: what else the manifest says: ``source`` and ``recipe``.

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
    """Add a catalogue's products to an index, or update those that it names.

    Args:
        index: the index; it stays as it is.
        change: ``add`` or ``update``.
        source: reads the catalogue.
        images: the index's store as its encoder was shown it, see ``open_images_of``.
        embedding: how images are embedded; the checkpoint is the index's.
        run_dir: where failures are listed.

    Raises:
        DedupError: the catalogue does not fit the index, or cannot be read.
    """
    catalogue, table = read_images(source, images, run_dir)

    from dedup.search.update import add, update  # imports torch

    call = add if change == "add" else update
    return call(index, catalogue, table, images, embedding.batch_size, embedding.devices)


def save_changed(index: Index, before: Index, change: str, folder: Path, run_dir: Path) -> Index:
    """Save a changed index, and say how many products came, changed and went.

    Args:
        index: the changed one.
        before: what it was.
        change: ``add``, ``update`` or ``remove``.
        folder: where the index was read.
        run_dir: where it is saved.
    """
    from dedup.search.update import count_changes  # imports torch

    index.manifest["source"] = {"index": str(folder), "change": change}
    _count_failed(index, folder)
    index.save(run_dir)
    n_came, n_changed, n_went = count_changes(before, index)
    log.info("%d products came, %d changed, %d went", n_came, n_changed, n_went)
    return index


def open_images_of(index: Index, store: ImageStore, folder: Path) -> ImageReader:
    """See an index's store as its encoder was shown it.

    Args:
        index: the index.
        store: its store.
        folder: where the index was read.

    Raises:
        ArtifactError: the store is none, or images would look otherwise by now.
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
        folder: where it was read.
    """
    store = ImageStore(index.manifest["store"], index.manifest["reader"])
    sight = ImageAccess(store.details, store.words, derived=store.path)
    if index.shows:
        # A foreground is built where it is used alone.
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
        index: with its store attached, where a second look or an automatic threshold needs it.
        detection: how they are found.
        sampling: how edited copies are drawn.
        since: an earlier search to go on from.
        truth: a CSV of true pairs, two ids a row.

    Returns:
        The result, and the search for a later one to go on from.

    Raises:
        ConfigError: a setting does not fit the index.
        ArtifactError: ``since`` does not fit.
    """
    pairs = None if truth is None else read_truth(truth)
    result, search = detection(index, since)
    result = _calibrated(result, index, detection, sampling)
    return _measured(result, index, truth, pairs), search


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
        index: the operator's.
        other: another catalogue's, made with the same encoder.
        prefix: stands before the other's ids.
        detection: how they are found.
        sampling: how edited copies are drawn.
        truth: a CSV of true pairs, two ids a row.

    Returns:
        Both as one index, the result, and the search.

    Raises:
        ConfigError: a setting does not fit the indexes.
        ArtifactError: the indexes do not fit each other.
    """
    pairs = None if truth is None else read_truth(truth)
    both, others = merged(index, other, prefix)
    result, search = detection(both, others=others)
    result = _calibrated(result, index, detection, sampling)
    return both, _measured(result, both, truth, pairs), search


def _calibrated(
    result: DetectionResult, sampled: Index, detection: Detector, sampling: Sampling
) -> DetectionResult:
    """Add to the calibration what edited copies of an index's images say."""
    if not result.calibration:
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
    """Add to the calibration how a result compares with the truth, where there is one."""
    if pairs is None:
        return result
    measured = against_truth(result, index.images["product_id"], pairs)
    log.info("measured against %s: %s", truth, in_words(measured))
    calibration = {**result.calibration, "measured": {**measured, "truth": str(truth)}}
    return dataclasses.replace(result, calibration=calibration)


def answer(
    index: Index,
    addresses: Sequence[str],
    detection: Detector,
    fetcher: Fetcher,
    decoders: Decoders,
    checkpoint: str | Path | None = None,
) -> pd.DataFrame:
    """Find the products that show one of some images, see ``querying.Query``.

    Args:
        index: the index to ask, its store attached.
        addresses: the images, each a path or an http(s) address.
        detection: how near images are found and verified.
        fetcher: how images with a web address are fetched.
        decoders: decode the images; not entered yet.
        checkpoint: the encoder; the one that the index names if ``None``.

    Raises:
        SourceError: an image cannot be read.
        ArtifactError: the checkpoint is not the index's.
    """
    with decoders:
        decoders.begin(len(addresses))  # they start while the encoder loads

        from dedup.detection.query import Query  # imports torch

        query = Query(
            index, detection.matcher, checkpoint, detection.max_products, detection.min_contrast,
            detection.verifier, fetcher, decoders,
        )  # fmt: skip
        return query(addresses)


def _count_failed(index: Index, folder: Path) -> None:
    """Say in the manifest in how many of the index's images no product was found."""
    if index.shows:
        store = ImageStore(index.manifest["store"], index.manifest["reader"])
        framed = origins.framed(store, index.manifest["foreground"], origins.manifest_of(folder))
        shown = index.images[index.images["vector"] >= 0]
        failed = framed.failed(shown["url"].drop_duplicates().tolist())
        index.manifest["foreground"] = {**framed.facts, "failed": failed}


def _compare_foregrounds(images: ImageReader, checkpoint: Path) -> None:
    """Warn where an encoder was trained on images that looked otherwise."""
    run = checkpoint.parent / "run.json"
    if not run.is_file():
        return
    trained = renewed(read_run(run))
    shown = images.settings if isinstance(images, Framed) else {"part": None, "framing": None}
    before, now = trained.get("foreground"), shown["part"]
    if before != now or (now and trained.get("framing") != shown["framing"]):
        log.warning(
            "the encoder was trained with foreground=%s, and this index is made with "
            "foreground=%s: duplicates may be missed. Ask for foreground=%s with its settings",
            origins.name_of(before), origins.name_of(now), origins.name_of(before),
        )  # fmt: skip
