"""Classify aligned pairs as copies by gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dedup.assets import FOLDER
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.shortages import pass_on
from dedup.verification.alignment import Alignment
from dedup.verification.appearance import Agreement
from dedup.verification.colour import NOT_COMPARED, Colours
from dedup.verification.difference import Difference

BUNDLED = FOLDER / "judge.safetensors"

OF_VARIANTS = "variant_"
"""Beginning of the names of the arrays that tell colour variants."""

FEATURES = (
    "inliers", "ratio", "most", "least", "structure", "same", "textured", "whole", "hue",
    "coloured", "chroma", "worst_chroma", "tone", "gain", "shift", "gray", "stretch", "turn",
    "worst_tone", "tint", "worst_tint", *Difference._fields, *Colours._fields,
)  # fmt: skip
"""Features of the classifier, in this order; see ``features``."""

RISING = (
    "inliers", "ratio", "most", "least", "structure", "same", "whole", "rest", "repeated", "spread",
    "hull",
)  # fmt: skip
FALLING = (
    "hue", "chroma", "worst_chroma", "tone", "stretch", "worst_tone", "tint", "worst_tint",
    "tint_step", "mismatch", "mismatch_spot", "mismatch_rest",
)  # fmt: skip
"""Features in which the log odds never fall, or never rise."""

OF_DETAILS = (
    "parts", "area", "contrast", "both", "fill", "rim", "under", "step", "alike", "differing",
    "mismatch", "mismatch_spot", "mismatch_rest", "tinted", "tint_step",
)  # fmt: skip
"""Features of the regions that differ; all are 0 in images that are equal."""

Floats = npt.NDArray[np.float64]


def features(
    alignment: Alignment,
    agreement: Agreement,
    difference: Difference,
    colours: Colours | None = None,
) -> list[float]:
    """Compute the features of an aligned pair; swapping the images hardly changes them."""
    large, small = alignment.stretches
    return [
        float(np.log1p(alignment.n_inliers)),
        alignment.n_inliers / max(alignment.n_matches, 1),
        max(agreement.cover_one, agreement.cover_other),
        min(agreement.cover_one, agreement.cover_other),
        agreement.structure,
        agreement.same,
        agreement.textured,
        agreement.whole,
        agreement.hue,
        agreement.coloured,
        agreement.chroma,
        agreement.worst_chroma,
        agreement.tone,
        abs(float(np.log(np.clip(agreement.gain, 0.1, 10)))),
        agreement.shift,
        agreement.gray,
        float(np.log(large / max(small, 1e-6))),
        abs(alignment.turn),
        agreement.worst_tone,
        agreement.tint,
        agreement.worst_tint,
        *difference,
        *(colours or NOT_COMPARED),
    ]


def detail_blind(row: Sequence[float]) -> list[float]:
    """Set the features of what differs to those of images without a region that differs."""
    pairs = zip(FEATURES, row, strict=True)
    return [0.0 if name in OF_DETAILS else value for name, value in pairs]


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted decision trees: log odds are the base plus a leaf of every tree.

    Friedman, Greedy function approximation: a gradient boosting machine, 2001.

    Attributes:
        feature: (trees, nodes) int64, feature that a node compares; -1 for a leaf.
        threshold: (trees, nodes) float64; values up to it go left.
        left: (trees, nodes) int64, left child.
        right: (trees, nodes) int64, right child.
        value: (trees, nodes) float64, log odds of a leaf.
        base: log odds before any tree.
        names: names of the features, in the order of the columns.
    """

    feature: npt.NDArray[np.int64]
    threshold: Floats
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Floats
    base: float
    names: tuple[str, ...]

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], names: tuple[str, ...]) -> Trees:
        """Take trees from the arrays of a file.

        Raises:
            KeyError: an array is missing.
            IndexError: an array is empty.
            ValueError: an array has another shape, or a node lacks two children after it.
        """
        feature, left, right = (arrays[it].astype(np.int64) for it in ("feature", "left", "right"))
        threshold, value = (arrays[it].astype(np.float64) for it in ("threshold", "value"))
        inner, nodes = feature >= 0, np.arange(feature.shape[1])
        children = (left > nodes) & (right > nodes) & (left < len(nodes)) & (right < len(nodes))
        if not (children | ~inner).all() or feature.max() >= len(names):
            raise ValueError("a node lacks two children after it")
        return cls(feature, threshold, left, right, value, float(arrays["base"][0]), names)

    def log_odds(self, rows: Sequence[Sequence[float]]) -> Floats:
        """Compute the log odds, (n,), of rows of features, (n, len(names))."""
        table = np.asarray(rows, np.float64).reshape(len(rows), len(self.names))
        total = np.full(len(table), self.base)
        every = np.arange(len(table))
        for tree in range(len(self.feature)):
            node = np.zeros(len(table), np.int64)
            while (inner := self.feature[tree, node] >= 0).any():
                values = table[every, np.maximum(self.feature[tree, node], 0)]
                goes_left = values <= self.threshold[tree, node]
                step = np.where(goes_left, self.left[tree, node], self.right[tree, node])
                node = np.where(inner, step, node)
            total += self.value[tree, node]
        return total


@dataclass(frozen=True)
class CopyClassifier:
    """Classifier of aligned pairs, fitted by ``scripts/fit_classifier.py``.

    Attributes:
        copy: trees that tell copies from all other pairs.
        variant: trees that tell a product in two colours from all other pairs, copies among them.
        copies: (m,) float64, log odds of held-out copies, see ``dedup.detection.mixture``.
        strangers: (2,) float64, mean excess of held-out strangers and mean of its square, likewise.
        look_alikes: (2,) float64, the same of held-out families of look-alikes.
    """

    copy: Trees
    variant: Trees
    copies: Floats
    strangers: Floats
    look_alikes: Floats

    @classmethod
    @cache
    def load(cls, path: Path = BUNDLED) -> CopyClassifier:
        """Read the trees from a safetensors file.

        Raises:
            ArtifactError: the file is missing.
            CorruptError: the file is damaged.
        """
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: install the package again")
        try:
            arrays = load_file(path)
            tails = (
                arrays[name].astype(np.float64) for name in ("copies", "strangers", "look_alikes")
            )
            own = {
                name.removeprefix(OF_VARIANTS): array
                for name, array in arrays.items()
                if name.startswith(OF_VARIANTS)
            }
            trees = Trees.of(arrays, FEATURES), Trees.of(own, FEATURES)
            return cls(*trees, *tails)
        except (SafetensorError, KeyError, IndexError, OSError, ValueError) as error:
            pass_on(error, path)
            raise CorruptError(f"{path} is damaged: {error}. Install the package again") from error

    def log_odds(self, rows: Sequence[Sequence[float]]) -> Floats:
        """Compute the log odds, (n,), that rows of ``FEATURES`` are of copies."""
        return self.copy.log_odds(rows)

    def variant_log_odds(self, rows: Sequence[Sequence[float]]) -> Floats:
        """Compute the log odds, (n,), that rows of ``FEATURES`` are of colour variants."""
        return self.variant.log_odds(rows)
