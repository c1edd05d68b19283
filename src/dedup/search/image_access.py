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
from dedup.verification.keypoints import N_KEYPOINTS
from dedup.verification.visual_words import VERSION, Vocabulary, Words


def _whole(image: Image8) -> None:
    return None


def _unmasked(urls: Sequence[str]) -> list[Image8 | None]:
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
    """

    details: Callable[[Sequence[str]], list[Image8]]
    words: Callable[[Sequence[str]], npt.NDArray[np.int32]]
    product: Callable[[Image8], tuple[Image8, Image8] | None] = _whole
    masks: Callable[[Sequence[str]], list[Image8 | None]] = _unmasked
    derived: Path | None = None
    measures: Callable[[Sequence[str]], npt.NDArray[np.float64]] = _unmeasured

    @classmethod
    def to(cls, store: ImageStore) -> Self:
        """Give access to the whole images of a store; computed rows are kept in its folder."""
        return cls(
            store.details,
            partial(words_of, store),
            derived=store.path,
            measures=store.measures,
        )


def words_of(store: ImageStore, urls: Sequence[str]) -> Words:
    """Find the visual words of images, or read them where the store keeps them.

    Returns:
        (n, N_KEYPOINTS) int32: each word of an image once, ascending; then -1 to the end.

    Raises:
        ArtifactError: the store lacks one of the images, or a file of a shard; or this copy of
            the package has no vocabulary.
        CorruptError: a shard cannot be read, or a preview in it is not whole.
    """
    vocabulary = Vocabulary.load()
    return store.derive(word_derivation(vocabulary), vocabulary.words_in, urls, "finding keypoints")


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
