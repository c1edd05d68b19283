"""What finds duplicates besides the recipe: each scores every two images of a benchmark."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
import pdqhash
from labelled import Floats, Labelled
from PIL import Image
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from dedup.runtime.parallel import in_order
from dedup.search.build import build_index
from dedup.search.clustering import Clusterer
from dedup.store.decode import decode, to_rgb

Result = TypeVar("Result")
SIDE = 32


class Method(Protocol):
    """A way to tell how alike two images are."""

    @property
    def name(self) -> str:
        """As it stands in the table."""

    def scores(self, labelled: Labelled) -> Floats:
        """(n (n - 1) / 2,) of every pair, the higher the more alike; -inf is not at all."""


@dataclass(frozen=True)
class Equal:
    """Images with equal keys are alike, others are not."""

    name: str
    key: Callable[[Path], Hashable]

    def scores(self, labelled: Labelled) -> Floats:
        """1 or -inf."""
        codes = pd.factorize(pd.Series(each(self.key, labelled.files), dtype=object))[0]
        unlike = pdist(codes[:, None].astype(np.float64)) > 0
        return np.where(unlike, -np.inf, 1.0)


@dataclass(frozen=True)
class Distance:
    """Images are as alike as their rows of numbers are near, in a metric of ``pdist``."""

    name: str
    row: Callable[[Path], npt.NDArray[Any]]
    metric: str = "euclidean"

    def scores(self, labelled: Labelled) -> Floats:
        """The distances, negated."""
        rows = np.stack(each(self.row, labelled.files)).astype(np.float64)
        return negated(rows, self.metric)


@dataclass(frozen=True)
class Components:
    """Distance of the pixels' main components, which other images tell.

    Args:
        fitted_on: a benchmark that shares no image with those to be scored.
        n: components, fewer where there are fewer images.
    """

    fitted_on: Labelled
    n: int = 256

    @property
    def name(self) -> str:
        """Says how many components there are."""
        return f"PCA-{self._n()} of {SIDE}x{SIDE} pixels"

    def scores(self, labelled: Labelled) -> Floats:
        """The distances, negated."""
        known = np.stack(each(pixels, self.fitted_on.files)).astype(np.float64)
        components = PCA(self._n(), random_state=0).fit(known)
        return negated(components.transform(np.stack(each(pixels, labelled.files))))

    def _n(self) -> int:
        return min(self.n, len(self.fitted_on.files) - 1)


@dataclass(frozen=True)
class Encoder:
    """Distance of the embeddings by one of this repository's encoders."""

    name: str
    checkpoint: Path

    def scores(self, labelled: Labelled) -> Floats:
        """The distances, negated."""
        stored = labelled.stored
        kmeans = partial(KMeans, init="random", n_init=1, max_iter=10, random_state=0)
        index = build_index(*stored, self.checkpoint, Clusterer(kmeans))
        vector = index.images.drop_duplicates("product_id").set_index("product_id")["vector"]
        return negated(index.vectors[vector.loc[labelled.ids].to_numpy()].astype(np.float64))


def each(work: Callable[[Path], Result], files: Sequence[Path]) -> list[Result]:
    """Of every file, on all cores."""
    return list(in_order(work, files))


def negated(rows: Floats, metric: str = "euclidean") -> Floats:
    """The distances of every two rows, by direct differences in float64, negated."""
    scores: Floats = -pdist(rows, metric)
    return scores


def content(file: Path) -> Hashable:
    """Equal for equal bytes."""
    return hashlib.sha256(file.read_bytes()).digest()


def stored_pixels(file: Path) -> Hashable:
    """Equal for equal pixels at 200 x 100, as the store keeps them."""
    return hashlib.sha256(decode(file.read_bytes()).pixels.tobytes()).digest()


def image(file: Path) -> Image.Image:
    """An image as RGB."""
    with Image.open(file) as image:
        return to_rgb(image)


def pixels(file: Path) -> npt.NDArray[Any]:
    """The image's 32 x 32 averages, (3072,), 0 to 1."""
    small = image(file).resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / 255


def phash(file: Path) -> npt.NDArray[Any]:
    """64 bits of the lowest frequencies."""
    return np.asarray(imagehash.phash(image(file)).hash).ravel()


def dhash(file: Path) -> npt.NDArray[Any]:
    """64 bits of the differences of neighbours."""
    return np.asarray(imagehash.dhash(image(file)).hash).ravel()


def pdq(file: Path) -> npt.NDArray[Any]:
    """The 256 bits of Facebook's PDQ."""
    return np.asarray(pdqhash.compute(np.asarray(image(file)))[0])


def from_packages(calibration: Labelled) -> list[Method]:
    """Those that need nothing of this repository's training."""
    return [
        Equal("equal bytes", content),
        Equal("equal pixels, 200x100", stored_pixels),
        Distance("pHash, 64 bit (imagehash)", phash, "cityblock"),
        Distance("dHash, 64 bit (imagehash)", dhash, "cityblock"),
        Distance("PDQ, 256 bit (pdqhash)", pdq, "cityblock"),
        Distance(f"{SIDE}x{SIDE} RGB pixels", pixels),
        Components(calibration),
    ]


def random_weights(folder: Path) -> Encoder:
    """The original's encoder as it is before training."""
    import torch

    from dedup.encoders.checkpoint import save_safetensors
    from dedup.encoders.conv import ConvAutoencoder

    torch.manual_seed(0)
    save_safetensors(ConvAutoencoder(), folder / "random.safetensors")
    return Encoder("conv, random weights", folder / "random.safetensors")
