"""Find the duplicates in indexes, and the products that an image shows."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dedup.detection.detector import Detector, merged
from dedup.detection.ground_truth import against_truth, in_words, read_truth
from dedup.detection.results import DetectionResult
from dedup.download.client import Fetcher
from dedup.errors import ConfigError
from dedup.search.index import Index
from dedup.search.state import SearchState
from dedup.sources.cells import is_cell
from dedup.store.decode_pool import Decoders
from dedup.store.local_files import is_remote

log = logging.getLogger("dedup")

Settings = Mapping[str, Any]
"""A part's settings as plain values."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of the edited copies on which recall is estimated.

    Attributes:
        checkpoint: the encoder; the index's if ``None``.
        seed: seed of the drawn images and edits.
    """

    checkpoint: str | Path | None
    seed: int


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


def check_query(index: Index, addresses: Sequence[str]) -> None:
    """Check that a query names images, before any is read.

    Args:
        index: the index to search.
        addresses: the images, each a path or an http(s) address.

    Raises:
        ConfigError: no image is named, or a product instead of one.
    """
    if not addresses or "" in addresses:
        raise ConfigError("query= names no image: give the path or the address of one, or several")
    images = index.images
    for address in addresses:
        if is_remote(address) or is_cell(address) or Path(address).exists():
            continue
        own = images.loc[(images["product_id"] == address) & (images["status"] == "ok"), "url"]
        if len(own):
            raise ConfigError(
                f"query={address} is the id of a product, and query= takes images: name an image "
                f"of that product, {own.iloc[0]}"
            )


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
        ConfigError: an address is the id of a product, or empty.
        ArtifactError: the checkpoint is not the index's.
    """
    check_query(index, addresses)
    with decoders:
        decoders.begin(len(addresses))  # the processes start while the encoder loads

        from dedup.detection.query import Query  # imports torch

        query = Query(
            index, detection.matcher, checkpoint, detection.max_products, detection.min_contrast,
            detection.verifier, fetcher, decoders,
        )  # fmt: skip
        return query(addresses)


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
