"""Estimate recall with edited copies of catalogue images."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from PIL import Image

from dedup.augmentations import EDITS, RgbImage, augment
from dedup.detection.calibration import Calibration, expected_recall
from dedup.detection.candidates import MIN_WORDS, n_nearest
from dedup.detection.mixture import Mask, Strata
from dedup.detection.results import DetectionResult
from dedup.detection.verdicts import verdict_derivation
from dedup.runtime.digits import rounded, score, units
from dedup.runtime.parallel import in_order, one_thread
from dedup.runtime.progress import counting
from dedup.schemas import AUTO
from dedup.search.embedding import Embed
from dedup.search.index import Index
from dedup.search.state import SearchFacts
from dedup.store.decode import resizer
from dedup.store.derived import Derivation, DerivedRows
from dedup.store.placeholders import MaxProducts, without_placeholders
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import AlignedPair, GeometricVerifier, placements
from dedup.verification.visual_words import Vocabulary, similarities
from dedup.verification.word_neighbours import nearest_of

log = logging.getLogger("dedup")

Floats = npt.NDArray[np.float64]

SAMPLE = 250
"""Maximum number of edited images."""

STRENGTH = 0.7
N_EDITS = (1, 2)
"""Strength, and least and largest number of a copy's edits; see ``dedup.augmentations``."""

VERSION = 1
"""Version of edited copies: raised when ``dedup.augmentations`` makes others, or when their
comparison with the originals changes."""

COPIES = pa.schema(
    [
        ("key", pa.string()),  # see ``_keys``
        ("distance", pa.float64()),  # L2 of the embeddings of the image and its copy
        ("words", pa.float64()),  # similarity of their visual words, 0 to 1; null: no verifier
        ("log_odds", pa.float64()),  # that they are copies; null: no verifier
        ("edits", pa.string()),  # names, with commas between them
    ]
)
"""Schema of compared copies, kept for later runs, see ``dedup.store.derived``."""


class Copies(NamedTuple):
    """Edited copies of a catalogue's images, against their originals.

    Attributes:
        surety: (m,) float64: the score, or the negative distance; -inf where not found.
        chains: the edits of each copy, by name.
    """

    surety: Floats
    chains: Sequence[Sequence[str]]


class _Copy(NamedTuple):
    """An edited copy: the encoder's input, and its alignments with the original."""

    pixels: npt.NDArray[np.uint8]
    words: float
    looks: list[AlignedPair]
    edits: tuple[str, ...]


def with_recall(
    findings: DetectionResult,
    sampled: Index,
    verifier: GeometricVerifier | None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    max_products: MaxProducts = AUTO,
    min_contrast: float = 3.0,
    estimate_recall: bool = True,
) -> Calibration | None:
    """Add the recall of edited copies to the calibration of findings.

    Args:
        findings: of a search whose threshold was chosen.
        sampled: the index whose images are edited.
        verifier: the search's.
        checkpoint: the encoder; the one that the index names if ``None``.
        seed: draws images and edits.
        max_products: the search's.
        min_contrast: the search's.
        estimate_recall: ``False`` makes no copies, and leaves recall out.

    Returns:
        ``None`` where the threshold was given as a number.
    """
    calibration = findings.calibration
    if calibration is None or findings.search is None:
        return calibration
    if estimate_recall:
        copies = find_edited_copies(
            sampled, findings.search, verifier, calibration, checkpoint, seed, max_products,
            min_contrast,
        )  # fmt: skip
        recall = expected_recall(calibration, findings.candidates, copies.surety, copies.chains)
        calibration = replace(calibration, recall=recall)
    _log_expected(calibration)
    return calibration


def _log_expected(calibration: Calibration) -> None:
    """Log the threshold with the expected precision and recall; of nothing there is neither."""
    recall = calibration.recall and calibration.recall.expected_recall
    estimates = {"precision": calibration.expected_precision, "recall": recall}
    figures = ", ".join(
        f"{name} {estimate[0]:.3f} ({estimate[1]:.3f} to {estimate[2]:.3f})"
        for name, estimate in estimates.items()
        if estimate
    )
    log.info("%s=%.4g: expected %s", calibration.setting, calibration.threshold, figures)


@one_thread()
def find_edited_copies(
    index: Index,
    facts: SearchFacts,
    verifier: GeometricVerifier | None,
    calibration: Calibration | None,
    checkpoint: str | Path | None = None,
    seed: int = 0,
    max_products: MaxProducts = AUTO,
    min_contrast: float = 3.0,
) -> Copies:
    """Edit copies of some of an index's images, and compare them with their originals.

    A copy depends on its image, on another one that edits may paste beside it, and on the settings.
    Copies that an earlier run kept are not made again.

    Args:
        index: with its store attached.
        facts: of the search, with its limits.
        verifier: the search's; without one, surety is a negative distance.
        calibration: of this catalogue, which scores follow from; ``None`` for the classifier's own.
        checkpoint: the encoder; the one that the index names if ``None``.
        seed: draws images and edits.
        max_products: the search's: its placeholders are not drawn.
        min_contrast: likewise.

    Raises:
        ArtifactError: the checkpoint is missing, or not the one the index was made with.
    """
    checkpoint = checkpoint or index.manifest["checkpoint"]
    index.check_encoder(checkpoint)
    chosen = _sample(without_placeholders(index.images, max_products, min_contrast), seed)
    if not len(chosen):
        return Copies(np.empty(0), [])
    derivation = _derivation(index, verifier, seed)
    keys, kept_in = _keys(chosen, derivation), index.sight.derived
    folder = None if kept_in is None else kept_in / derivation.name
    with DerivedRows(folder, COPIES, _are_copies) as kept:
        known = kept.find(keys)
        new = np.flatnonzero(~pd.Index(keys).isin(known.index))
        if len(known):
            log.info("%d of %d edited images were compared before", len(keys) - len(new), len(keys))
        rows = _compared(index, chosen, new.tolist(), verifier, checkpoint, seed)
        rows.insert(0, "key", [keys[place] for place in new])
        kept.add(rows.itertuples(index=False, name=None))
    parts = [part for part in (known, rows.set_index("key")) if len(part)]
    compared = pd.concat(parts).loc[keys]
    crowds = frozenset[str]() if calibration is None else calibration.crowds
    crowded = chosen["sha256_pixels"].isin(crowds).to_numpy()
    strata = None if calibration is None else calibration.strata
    least = np.full(len(chosen), np.inf)
    if verifier is not None and facts.words is not None:
        shown = without_placeholders(index.images, max_products, min_contrast)
        least = np.maximum(facts.words, _least_words(index, shown, chosen, verifier))
    surety = _surety(compared, facts, least, verifier is not None, strata, crowded)
    return Copies(surety, _chains(compared))


def _sample(shown: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw some images by their digests.

    So the draw does not depend on the order of the catalogue's rows, and hardly changes with new
    images.
    """
    shown = shown.sort_values(["sha256_pixels", "url"]).drop_duplicates("vector")
    numbers = [_number(seed, digest) for digest in shown["sha256_pixels"]]
    return shown.iloc[np.argsort(np.array(numbers, np.uint64), kind="stable")[:SAMPLE]]


def _number(*parts: object) -> int:
    """Draw a number of 64 bits by plain values."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def _derivation(index: Index, verifier: GeometricVerifier | None, seed: int) -> Derivation:
    """Name copies and their comparisons by all that decides them besides the images."""
    manifest = index.manifest
    verdicts = verdict_derivation(verifier or GeometricVerifier(), manifest["reader"], index.shows)
    settings = {
        "numpy": np.__version__,
        "encoder": manifest["checkpoint_sha256"],
        "verdicts": verdicts.digest,
        "looked": verifier is not None,
        "words": Vocabulary.load().settings,
        "strength": STRENGTH,
        "n_edits": N_EDITS,
        "seed": seed,
    }
    return Derivation("recall", VERSION, settings)


def _keys(chosen: pd.DataFrame, derivation: Derivation) -> list[str]:
    """Compute the key of each copy: of its image, and of the one that edits may paste."""
    digests = (chosen["sha256_bytes"] + chosen["sha256_pixels"]).tolist()
    others = [*digests[1:], digests[0]]
    return [derivation.key(*pair) for pair in zip(digests, others, strict=True)]


def _compared(
    index: Index,
    chosen: pd.DataFrame,
    places: Sequence[int],
    verifier: GeometricVerifier | None,
    checkpoint: str | Path,
    seed: int,
) -> pd.DataFrame:
    """Make copies of the images at some places, and compare each with its original.

    Returns:
        The columns of ``COPIES`` but the key, a row for each place.
    """
    if not len(places):
        return pd.DataFrame(columns=COPIES.names[1:])
    urls, numbers = chosen["url"].tolist(), chosen["sha256_pixels"].tolist()
    make = _maker(index, verifier is not None)

    def make_copy(place: int) -> _Copy:
        other = urls[(place + 1) % len(urls)]
        images = index.sight.details([urls[place], other])
        return make(images[0], images[1], _number(seed, "edits", numbers[place]))

    copies = []
    label = f"estimating recall on {len(places)} edited images"
    with counting(label, len(places), "images") as count:
        for edited in in_order(make_copy, places):
            copies.append(edited)
            count()
    pixels = np.stack([copy.pixels for copy in copies])
    vectors = Embed(checkpoint)({"pixels": pixels})["embedding"].astype(np.float64)
    own = index.vectors[chosen["vector"].to_numpy()[list(places)]]
    unit = np.maximum(units(vectors), units(own))
    log_odds = np.full(len(copies), np.nan)
    if verifier is not None:
        verdicts = verifier.verdicts([copy.looks for copy in copies])
        log_odds[:] = [verdict.log_odds for verdict in verdicts]
    return pd.DataFrame(
        {
            "distance": rounded(np.linalg.norm(vectors - own, axis=1), unit),
            "words": [copy.words for copy in copies],
            "log_odds": log_odds,
            "edits": [",".join(copy.edits) for copy in copies],
        }
    )


def _maker(index: Index, looks: bool) -> Callable[[RgbImage, RgbImage, int], _Copy]:
    """Make a function of an image, another one and a random seed to an edited copy."""
    resize, product = resizer(index.manifest["reader"]), index.sight.product
    vocabulary = Vocabulary.load()

    def make(original: RgbImage, other: RgbImage, number: int) -> _Copy:
        rng = np.random.default_rng(number)
        copy, chain = augment(original, rng, STRENGTH, N_EDITS, others=[other])
        shown = product(copy)
        pixels = resize(Image.fromarray(copy)) if shown is None else shown[1]
        if not looks:
            return _Copy(pixels, np.nan, [], chain)
        ends = LocalFeatures.of(original), LocalFeatures.of(copy)
        words = [vocabulary.words(end.keypoints.descriptors)[None] for end in ends]
        similarity = similarities(words[0], words[1], vocabulary)
        return _Copy(pixels, float(similarity[0]), placements(*ends, plausible=True), chain)

    return make


def _least_words(
    index: Index, shown: pd.DataFrame, chosen: pd.DataFrame, verifier: GeometricVerifier
) -> Floats:
    """Compute the similarity of words, (n,), from which a copy is among an image's nearest.

    Args:
        index: with its store attached.
        shown: images that are compared.
        chosen: images that are copied.
        verifier: the search's.
    """
    others = shown.sort_values(["sha256_pixels", "url"]).drop_duplicates("vector")
    vocabulary, n = Vocabulary.load(), n_nearest(verifier.word_candidates)
    copied, all_words = (index.sight.words(some["url"].tolist()) for some in (chosen, others))
    found = nearest_of(copied, all_words, n + 1, vocabulary, MIN_WORDS)  # the first is itself
    rows = range(len(chosen))
    return np.array([_last(found.similarity[found.left == row], n + 1) for row in rows])


def _last(similarity: Floats, n: int) -> float:
    """Return the least of the ``n`` largest similarities; 0 where there are fewer."""
    return float(similarity.min()) if len(similarity) >= n else 0.0


def _surety(
    rows: pd.DataFrame,
    facts: SearchFacts,
    least: Floats,
    looks: bool,
    strata: Strata | None,
    crowded: Mask,
) -> Floats:
    """Compute the surety of each copy, see ``Copies``; -inf beyond the search's limits.

    A copy is as crowded as its original. ``least`` are the similarities of words from which the
    copies are among the nearest images of their originals.
    """
    distances = rows["distance"].to_numpy(np.float64)
    if not looks:
        return np.asarray(-distances)
    proposed = distances <= facts.threshold
    proposed |= rows["words"].to_numpy(np.float64) >= least
    log_odds = rows["log_odds"].to_numpy(np.float64)
    if strata is not None:
        log_odds = strata.posterior(log_odds, crowded).expected
    return np.asarray(np.where(proposed, score(log_odds), -np.inf))


def _chains(rows: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the edits of each copy, by name."""
    return [tuple(filter(None, names.split(","))) for names in rows["edits"]]


def _are_copies(rows: pd.DataFrame) -> bool:
    """Tell whether a run can have computed rows of ``COPIES``."""
    distance, words = rows["distance"].to_numpy(), rows["words"].to_numpy()
    log_odds = rows["log_odds"].to_numpy()
    return bool(
        (np.isfinite(distance) & (distance >= 0)).all()
        and (np.isnan(words) | ((words >= 0) & (words <= 1))).all()
        and (np.isnan(words) == np.isnan(log_odds)).all()
        and (log_odds[~np.isnan(log_odds)] < np.inf).all()
        and all(set(chain) <= EDITS.keys() for chain in _chains(rows))
    )
