"""Access to the images of an index: previews, visual words and masks, by address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from dedup.errors import ArtifactError
from dedup.schemas import Image8
from dedup.store.derived_arrays import ArrayDerivation
from dedup.store.image_store import ImageStore
from dedup.store.measures import MEASURES
from dedup.verification.keypoints import (
    N_KEYPOINTS,
    PACKED,
    Keypoints,
    are_packed,
    find_keypoints,
    keypoint_settings,
    pack,
    unpack,
)
from dedup.verification.visual_words import VERSION, Vocabulary, Words

KEYPOINTS_VERSION = 1
"""Raised when ``keypoints.pack`` writes the same keypoints as other bytes."""


def _whole(image: Image8) -> None:
    return None


def _unmasked(urls: Sequence[str]) -> list[Image8 | None]:
    return [None for _ in urls]


def _not_found(urls: Sequence[str]) -> list[Keypoints | None]:
    return [None for _ in urls]


def _unmeasured(urls: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.full((len(urls), len(MEASURES)), np.nan)


class ImageAccess(NamedTuple):
    """Functions from addresses to the images of an index, and to values computed from them.

    Attributes:
        details: addresses to previews, each (h, w, 3) uint8 RGB, 320 on the long side at most.
        words: addresses to their visual words, (n, ``keypoints.N_KEYPOINTS``) int32.
        product: a preview to its mask, (h', w') uint8 squashed to any size, and the encoder's
            input, (3, 200, 100) uint8; ``None`` where that is the whole image.
        masks: addresses to masks, as ``product`` gives them; ``None`` where no product is known.
        derived: folder for computed rows, see ``dedup.store.derived``; ``None`` keeps none.
        measures: addresses to measures of health, (n, len(MEASURES)), see ``store.measures``.
        keypoints: addresses to keypoints of the previews; ``None`` where they are not kept.
    """

    details: Callable[[Sequence[str]], list[Image8]]
    words: Callable[[Sequence[str]], npt.NDArray[np.int32]]
    product: Callable[[Image8], tuple[Image8, Image8] | None] = _whole
    masks: Callable[[Sequence[str]], list[Image8 | None]] = _unmasked
    derived: Path | None = None
    measures: Callable[[Sequence[str]], npt.NDArray[np.float64]] = _unmeasured
    keypoints: Callable[[Sequence[str]], list[Keypoints | None]] = _not_found

    @classmethod
    def to(cls, store: ImageStore) -> Self:
        """Give access to the whole images of a store; computed rows are kept in its folder."""
        return cls(
            store.details,
            partial(words_of, store),
            derived=store.path,
            measures=store.measures,
            keypoints=partial(keypoints_of, store),
        )


def words_of(store: ImageStore, urls: Sequence[str]) -> Words:
    """Find the visual words of images, or read them where the store keeps them.

    Keypoints are found once: the store keeps them for the comparison of candidates.

    Returns:
        (n, N_KEYPOINTS) int32: each word of an image once, ascending; then -1 to the end.

    Raises:
        ArtifactError: the store lacks one of the images, or a file of a shard; or this copy of
            the package has no vocabulary.
        CorruptError: a shard cannot be read, or a preview in it is not whole.
    """
    vocabulary, kept = Vocabulary.load(), keypoint_derivation()
    store.prepare(kept, lambda image: pack(find_keypoints(image)), urls, "finding keypoints")

    def words(rows: npt.NDArray[np.uint8]) -> Words:
        return vocabulary.words(unpack(rows).descriptors)

    return store.derive(word_derivation(vocabulary), words, urls, "finding words", of=kept)


def keypoints_of(store: ImageStore, urls: Sequence[str]) -> list[Keypoints | None]:
    """Read the keypoints of images; ``None`` of an image whose keypoints the store does not keep.

    Raises:
        ArtifactError: the store lacks one of the images, or a file of a shard.
        CorruptError: a shard cannot be read.
    """
    kept = store.kept(keypoint_derivation(), urls)
    return [None if rows is None else unpack(rows) for rows in kept]


def keypoint_derivation() -> ArrayDerivation:
    """Name the keypoints of images: other settings or another OpenCV have another digest."""
    return ArrayDerivation(
        "keypoints", KEYPOINTS_VERSION, keypoint_settings(), np.uint8, PACKED, are_packed
    )


def word_derivation(vocabulary: Vocabulary) -> ArrayDerivation:
    """Name the words of a vocabulary: other keypoints or another codebook have another digest."""
    return ArrayDerivation(
        "words", VERSION, vocabulary.settings, np.int32, (N_KEYPOINTS,), vocabulary.knows
    )


def no_images(urls: Sequence[str]) -> Any:
    """Stand in for the images of an index without a store.

    Raises:
        ArtifactError: always.
    """
    raise ArtifactError("the index has no store attached: attach one to look at its images")
