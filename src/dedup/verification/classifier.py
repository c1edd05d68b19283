"""Classify aligned pairs as copies by gradient-boosted trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dedup.assets import FOLDER
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.shortages import pass_on
from dedup.verification.alignment import Alignment
from dedup.verification.appearance import Agreement
from dedup.verification.difference import Difference

BUNDLED = FOLDER / "judge.safetensors"

FEATURES = (
    "inliers", "ratio", "most", "least", "structure", "same", "textured", "whole", "hue",
    "coloured", "chroma", "worst_chroma", "tone", "gain", "shift", "gray", "stretch", "turn",
    "worst_tone", "tint", "worst_tint", *Difference._fields,
)  # fmt: skip
"""Features of the classifier, in this order; see ``features``."""

RISING = (
    "inliers", "ratio", "most", "least", "structure", "same", "whole", "rest", "repeated", "spread",
    "hull",
)  # fmt: skip
FALLING = (
    "hue", "chroma", "worst_chroma", "tone", "stretch", "worst_tone", "tint", "worst_tint",
    "tint_step",
)  # fmt: skip
"""Features in which the log odds never fall, or never rise."""

OF_COLOURS = (
    "hue", "chroma", "worst_chroma", "tone", "gain", "shift", "gray", "worst_tone", "tint",
    "worst_tint", "tinted", "tint_step", "pale", "vivid",
)  # fmt: skip
"""Features of the difference of colours; all are 0 for equal colours."""

OF_DETAILS = (
    "parts", "area", "contrast", "both", "fill", "rim", "under", "step", "alike", "differing",
    "tinted", "tint_step",
)  # fmt: skip
"""Features of the regions that differ; all are 0 where none does."""

Floats = npt.NDArray[np.float64]


def features(alignment: Alignment, agreement: Agreement, difference: Difference) -> list[float]:
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
    ]


def colour_blind(row: Sequence[float]) -> list[float]:
    """Set the features of colour to those of equal colours."""
    return _without(row, OF_COLOURS)


def detail_blind(row: Sequence[float]) -> list[float]:
    """Set the features of what differs to those of images without a region that differs."""
    return _without(row, OF_DETAILS)


def _without(row: Sequence[float], names: Sequence[str]) -> list[float]:
    pairs = zip(FEATURES, row, strict=True)
    return [0.0 if name in names else value for name, value in pairs]


@dataclass(frozen=True)
class CopyClassifier:
    """Gradient-boosted decision trees: log odds are the base plus a leaf of every tree.

    Friedman, Greedy function approximation: a gradient boosting machine, 2001. Fitted by
    ``scripts/fit_classifier.py`` and stored as plain arrays.

    Attributes:
        feature: (trees, nodes) int64, feature that a node compares; -1 for a leaf.
        threshold: (trees, nodes) float64; values up to it go left.
        left: (trees, nodes) int64, left child.
        right: (trees, nodes) int64, right child.
        value: (trees, nodes) float64, log odds of a leaf.
        base: log odds before any tree.
        copies: (m,) float64, log odds of held-out copies, see ``dedup.detection.mixture``.
        strangers: (2,) float64, mean excess of held-out strangers and mean of its square, likewise.
    """

    feature: npt.NDArray[np.int64]
    threshold: Floats
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Floats
    base: float
    copies: Floats
    strangers: Floats

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
            feature, left, right = (
                arrays[name].astype(np.int64) for name in ("feature", "left", "right")
            )
            threshold, value = (arrays[name].astype(np.float64) for name in ("threshold", "value"))
            base = float(arrays["base"][0])
            copies, strangers = (
                arrays[name].astype(np.float64) for name in ("copies", "strangers")
            )
            inner, nodes = feature >= 0, np.arange(feature.shape[1])
            children = (left > nodes) & (right > nodes) & (left < len(nodes)) & (right < len(nodes))
            if not (children | ~inner).all() or feature.max() >= len(FEATURES):
                raise ValueError("a node lacks two children after it")
            return cls(feature, threshold, left, right, value, base, copies, strangers)
        except (SafetensorError, KeyError, IndexError, OSError, ValueError) as error:
            pass_on(error, path)
            raise CorruptError(f"{path} is damaged: {error}. Install the package again") from error

    def log_odds(self, rows: Sequence[Sequence[float]]) -> Floats:
        """Compute the log odds, (n,), that rows of features, (n, 41), are of copies."""
        table = np.asarray(rows, np.float64).reshape(len(rows), len(FEATURES))
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
