"""Describe images by visual words, and propose pairs of images with rare words in common.

A visual word is a quantised keypoint descriptor (Sivic and Zisserman, Video Google, ICCV 2003). It
is a pair of codes from one codebook, one for each half of the descriptor (a product codebook:
Babenko and Lempitsky, The inverted multi-index, CVPR 2012). The second half is mirrored. So in the
mirrored image the two codes of a word change places, and mirrored copies are found without
mirrored images.

All sums are sums of whole numbers: words and similarities are the same in every batch, on any
number of threads and on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from scipy import sparse

from dedup.assets import FOLDER
from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.runtime.files import atomically, sort_metadata
from dedup.runtime.parallel import in_order
from dedup.runtime.shortages import pass_on
from dedup.verification.keypoints import (
    N_KEYPOINTS,
    Descriptors,
    RgbImage,
    find_keypoints,
    keypoint_settings,
    mirrored_descriptors,
    root,
)

BUNDLED_VOCABULARY = FOLDER / "vocabulary.safetensors"
"""The vocabulary that comes with the package."""

VERSION = 1
"""Raised when ``Vocabulary.words_in`` gives others for the same keypoints and vocabulary."""

GRID = 1024
"""Steps of a unit: centroids and descriptors are compared in whole numbers of 1 / ``GRID``."""

HALF = 64
"""Number of dimensions of half a descriptor."""

_WEIGHT_UNITS = 1 << 14
"""Steps of a unit in which squared weights are added up, as whole numbers."""

_MAX_IDF = 20.0
"""Largest idf, of 500 million images: above it an image's sums would not fit an int32."""

_ROWS, _COLUMNS = 256, 2048
"""Numbers of images of a block: the sums of a row with a block stay in a core's cache."""

Words = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Proposals(NamedTuple):
    """Pairs of images with words in common, sorted by both rows.

    Attributes:
        left: (n,) int64, rows of the left side.
        right: (n,) int64, rows of the right side.
        similarity: (n,) float64, 0 to 1, higher is closer.
    """

    left: Ints
    right: Ints
    similarity: Floats


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Codebook of visual words, and their weights.

    Attributes:
        centroids: (k, 64) float32, the codebook for both halves of a RootSIFT descriptor.
        idf: (k * k,) float32, 0 to 20: inverse document frequency of each word; 0 counts for
            nothing. A word and its mirror image, (i, j) and (j, i), have the same: else
            similarities would depend on the order of two images.
    """

    centroids: npt.NDArray[np.float32]
    idf: npt.NDArray[np.float32]

    @staticmethod
    def load() -> Vocabulary:
        """Read the vocabulary that comes with the package, once.

        Raises:
            ArtifactError: this copy of the package comes without.
            CorruptError: its file is damaged.
        """
        return _bundled()

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Read a vocabulary that ``save`` wrote.

        Raises:
            ArtifactError: there is none.
            CorruptError: it cannot be read, or is damaged.
        """
        if not path.is_file():
            raise ArtifactError(
                f"there is no vocabulary of visual words at {path}: install dedup anew"
            )
        try:
            return cls(**_read(path))
        except (SafetensorError, LookupError, OSError, TypeError, ValueError) as error:
            pass_on(error, path)
            raise CorruptError(
                f"{path} cannot be read as a vocabulary: {error}. Install dedup anew"
            ) from error

    def save(self, path: Path, **metadata: str) -> None:
        """Write the vocabulary in half precision as safetensors; same input, same bytes.

        Args:
            path: the file to write.
            metadata: further facts, such as the images and the command that it was made with.
        """
        arrays = {
            "centroids": self.centroids.astype(np.float16),
            "idf": self.idf.astype(np.float16),
        }
        header = {**metadata, "sha256": _digest(arrays, metadata)}
        data = sort_metadata(save(arrays, header))

        def write(part: Path) -> None:
            part.write_bytes(data)

        atomically(path, write)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all the numbers, as 64 hex digits."""
        return _digest({"centroids": self.centroids, "idf": self.idf}, {})

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides an image's words besides ``VERSION``: JSON for a ``Derivation``."""
        return {"vocabulary": self.digest, "grid": GRID, "keypoints": keypoint_settings()}

    @property
    def size(self) -> int:
        """Number of codes of a half; words are fewer than its square."""
        return len(self.centroids)

    def words(self, descriptors: Descriptors) -> Words:
        """Quantise an image's descriptors, (n, 128) uint8 with n at most ``N_KEYPOINTS``.

        Returns:
            (N_KEYPOINTS,) int32, each word once, ascending; then -1 to the end.
        """
        first, second = self._codes(descriptors), self._codes(mirrored_descriptors(descriptors))
        distinct = np.unique(first * self.size + second)
        words = np.full(N_KEYPOINTS, -1, np.int32)
        words[: len(distinct)] = distinct
        return words

    def words_in(self, image: RgbImage) -> Words:
        """Find the words of an image, (h, w, 3) uint8 RGB; as in ``words``."""
        return self.words(find_keypoints(image).descriptors)

    def knows(self, words: npt.NDArray[Any]) -> bool:
        """Tell whether words, of any shape, are all of this vocabulary, or -1."""
        low, high = words.min(initial=-1), words.max(initial=-1)
        return bool(low >= -1 and high < len(self.idf))

    def mirrored(self, words: Words) -> Words:
        """Mirror the words of images, of any shape; -1 stays. The result is not sorted."""
        first, second = np.divmod(words, np.int32(self.size))
        turned: Words = np.where(words < 0, words, second * np.int32(self.size) + first)
        return turned

    @cached_property
    def weights(self) -> npt.NDArray[np.int32]:
        """(k * k,) int32: what each word adds to a similarity, in whole units."""
        squares = np.square(np.clip(self.idf, 0, _MAX_IDF).astype(np.float64))
        weights: npt.NDArray[np.int32] = np.rint(squares * _WEIGHT_UNITS).astype(np.int32)
        return weights

    @cached_property
    def _book(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Centroids as columns, (64, k), and half their squares, (k,): whole numbers."""
        book = np.rint(self.centroids.astype(np.float64) * GRID)
        return book.T.astype(np.float32), (book**2).sum(axis=1).astype(np.float32) / 2

    def _codes(self, descriptors: Descriptors) -> Ints:
        """Find the nearest centroid of the first half of each descriptor, (n,); the first at a tie.

        A half is at most 1 long, so no sum exceeds ``GRID`` ** 2 by much: float32, which is exact
        for whole numbers up to 2 ** 24, adds them up without rounding in any order.
        """
        columns, squares = self._book
        halves = np.rint(root(descriptors)[:, :HALF] * GRID)
        nearest: Ints = np.argmax(halves @ columns - squares, axis=1)
        return nearest


def propose(
    words_a: Words,
    words_b: Words | None,
    vocabulary: Vocabulary,
    least: float,
    max_pairs: int = 50_000_000,
) -> Proposals:
    """Propose all pairs of images, mirrored or not, with similarity ``least`` or more.

    The similarity is the cosine of the images' words, each weighted by its idf and counted once.
    It is also taken of the left image's mirrored words, and the larger one counts. Images without a
    word in common, or with none at all, are never proposed.

    Args:
        words_a: (n, N_KEYPOINTS) int32, as ``Vocabulary.words`` gives them; likewise ``words_b``,
            (m, N_KEYPOINTS).
        words_b: None to compare ``words_a`` with itself: each pair once, ``left < right``.
        vocabulary: the one that the words are from.
        least: more than 0, 1 at most.
        max_pairs: maximum number of pairs.

    Raises:
        ConfigError: there are more than ``max_pairs`` pairs.
    """
    a, turned = _Side.of(words_a, vocabulary), _Side.of(vocabulary.mirrored(words_a), vocabulary)
    b = a if words_b is None else _Side.of(words_b, vocabulary)
    blocks = [b.block(start, vocabulary) for start in range(0, len(b.scale), _COLUMNS)]

    def compare(start: int) -> Proposals:
        rows = slice(start, start + _ROWS)
        parts = [_NOTHING]
        for block in blocks:
            if words_b is not None or block.start + _COLUMNS > start:
                parts += [_near(side, rows, block, least) for side in (a, turned)]
        return _tidy(parts, below=words_b is None)

    proposals, n_pairs = [_NOTHING], 0
    for part in in_order(compare, range(0, len(words_a), _ROWS)):
        proposals.append(part)
        n_pairs += len(part.left)
        if n_pairs > max_pairs:
            raise ConfigError(
                f"more than {max_pairs:,} pairs of images share visual words to {least:g}: "
                "ask for a higher similarity, or raise matcher.max_pairs"
            )
    return Proposals(*(np.concatenate(column) for column in zip(*proposals, strict=True)))


def similarities(words_a: Words, words_b: Words, vocabulary: Vocabulary) -> Floats:
    """Compute similarities, as in ``propose``, row by row: (n, N_KEYPOINTS) to (n,) float64."""
    a, b = _Side.of(words_a, vocabulary), _Side.of(words_b, vocabulary)
    turned = _Side.of(vocabulary.mirrored(words_a), vocabulary)
    weights = vocabulary.weights
    sums = [np.asarray(side.words.multiply(b.words) @ weights).ravel() for side in (a, turned)]
    return _cosines(np.maximum(*sums), a.scale, b.scale)


class _Block(NamedTuple):
    """Some images of a side, as columns.

    Attributes:
        words: (k * k, at most _COLUMNS) sparse int32, the weight of each word of each image.
        scale: of these images, see ``_Side``.
        start: the row of the first.
    """

    words: sparse.csr_array
    scale: Floats
    start: int


class _Side(NamedTuple):
    """Images to be compared, by their words with a weight above 0.

    Attributes:
        words: (n, k * k) sparse int32, 1 for each word of each.
        scale: (n,) float64, inverse of the length of each; 0 where that is 0.
    """

    words: sparse.csr_array
    scale: Floats

    @classmethod
    def of(cls, words: Words, vocabulary: Vocabulary) -> _Side:
        used = (words >= 0) & (vocabulary.weights[words] > 0)
        starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
        ones = np.ones(starts[-1], np.int32)
        shape = (len(words), vocabulary.size**2)
        table = sparse.csr_array((ones, words[used], starts), shape=shape)
        squares = table @ vocabulary.weights
        scale = np.zeros(len(words))
        np.divide(1, np.sqrt(squares), out=scale, where=squares > 0)
        return cls(table, scale)

    def block(self, start: int, vocabulary: Vocabulary) -> _Block:
        """Return a block of the images from ``start`` on."""
        rows = slice(start, start + _COLUMNS)
        words = self.words[rows].T.tocsr()
        words.data = np.repeat(vocabulary.weights, np.diff(words.indptr))
        return _Block(words, self.scale[rows], start)


_NOTHING = Proposals(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def _cosines(sums: npt.NDArray[np.int32], left: Floats, right: Floats) -> Floats:
    """Compute cosines from weights of common words and scales; symmetric in both images."""
    cosines: Floats = np.minimum(sums * (left * right), 1)
    return cosines


def _near(side: _Side, rows: slice, block: _Block, least: float) -> Proposals:
    """Find the near pairs of some rows of a side with a block."""
    sums, scale = side.words[rows] @ block.words, side.scale[rows]
    # Most have a word in common and few are near: a bound on the sum, a shade too low, is cheap.
    with np.errstate(divide="ignore"):
        lowest = (1 - 1e-9) * least / (scale * block.scale.max(initial=0))
    near = np.flatnonzero(sums.data >= np.repeat(lowest, np.diff(sums.indptr)))
    left, right = np.searchsorted(sums.indptr, near, "right") - 1, sums.indices[near]
    similarity = _cosines(sums.data[near], scale[left], block.scale[right])
    enough = similarity >= least
    left, right = left[enough] + np.int64(rows.start), right[enough] + np.int64(block.start)
    return Proposals(left, right, similarity[enough])


def _tidy(parts: list[Proposals], below: bool) -> Proposals:
    """Sort pairs by both rows, and keep each once with its larger similarity.

    With ``below``, only pairs with the smaller row on the left are kept.
    """
    left, right, similarity = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort([-similarity, right, left])
    left, right, similarity = left[order], right[order], similarity[order]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(left) != 0) | (np.diff(right) != 0)
    if below:
        first &= left < right
    return Proposals(left[first], right[first], similarity[first])


@cache
def _bundled() -> Vocabulary:
    return Vocabulary.read(BUNDLED_VOCABULARY)


def _read(path: Path) -> dict[str, Any]:
    """Read the arrays of a vocabulary's file, in single precision."""
    with safe_open(path, framework="np") as content:
        metadata, names = content.metadata() or {}, content.keys()
        arrays = {name: content.get_tensor(name) for name in names}
    if metadata.pop("sha256", None) != _digest(arrays, metadata):
        raise ValueError("it is not what was written")
    k = len(arrays["centroids"])
    if arrays["centroids"].shape != (k, HALF) or arrays["idf"].shape != (k * k,):
        raise ValueError("its shapes are not those of a vocabulary")
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def _digest(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> str:
    """Compute the SHA-256 of names, types, shapes, bytes and metadata."""
    names = sorted(arrays)
    shapes = [[name, str(arrays[name].dtype), list(arrays[name].shape)] for name in names]
    digest = hashlib.sha256(json.dumps([sorted(metadata.items()), shapes]).encode())
    for name in names:
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
