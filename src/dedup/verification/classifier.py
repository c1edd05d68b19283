"""From what is seen in two images to how surely the one is a copy of the other."""

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

BUNDLED = FOLDER / "judge.safetensors"

FEATURES = (
    "inliers", "ratio", "most", "least", "structure", "same", "textured", "whole", "hue",
    "coloured", "chroma", "worst_chroma", "tone", "gain", "shift", "gray", "stretch", "turn",
    "worst_tone", "tint", "worst_tint",
)  # fmt: skip
"""What the judge looks at, in this order; see ``features``."""

RISING = ("inliers", "ratio", "most", "least", "structure", "same", "whole")
FALLING = ("hue", "chroma", "worst_chroma", "tone", "stretch", "worst_tone", "tint", "worst_tint")
"""Features of which more can only make the judge surer, or less sure."""

OF_COLOURS = (
    "hue", "chroma", "worst_chroma", "tone", "gain", "shift", "gray", "worst_tone", "tint",
    "worst_tint",
)  # fmt: skip
"""Features that say how colours differ; all are 0 where they do not."""

Floats = npt.NDArray[np.float64]


def features(placed: Alignment, seen: Agreement) -> list[float]:
    """What the judge looks at, of one placement; the order of the two images hardly matters."""
    large, small = placed.stretches
    return [
        float(np.log1p(placed.n_inliers)),
        placed.n_inliers / max(placed.n_matches, 1),
        max(seen.cover_one, seen.cover_other),
        min(seen.cover_one, seen.cover_other),
        seen.structure,
        seen.same,
        seen.textured,
        seen.whole,
        seen.hue,
        seen.coloured,
        seen.chroma,
        seen.worst_chroma,
        seen.tone,
        abs(float(np.log(np.clip(seen.gain, 0.1, 10)))),
        seen.shift,
        seen.gray,
        float(np.log(large / max(small, 1e-6))),
        abs(placed.turn),
        seen.worst_tone,
        seen.tint,
        seen.worst_tint,
    ]


def colour_blind(row: Sequence[float]) -> list[float]:
    """The same features, were the colours equal."""
    pairs = zip(FEATURES, row, strict=True)
    return [0.0 if name in OF_COLOURS else value for name, value in pairs]


@dataclass(frozen=True)
class CopyClassifier:
    """Boosted decision trees: log odds are the base plus one leaf of every tree.

    Friedman, Greedy function approximation: a gradient boosting machine, 2001. Fitted by
    ``scripts/fit_classifier.py`` and kept as plain arrays.

    Attributes:
        feature: (trees, nodes) int64, what a node looks at; -1 for a leaf.
        threshold: (trees, nodes) float64; at most so much goes left.
        left: (trees, nodes) int64.
        right: (trees, nodes) int64.
        value: (trees, nodes) float64, of a leaf.
        base: log odds to begin with.
        fitted_share: share of copies among the doubtful pairs or better, see ``calibration``, that
            it was tried on.
    """

    feature: npt.NDArray[np.int64]
    threshold: Floats
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Floats
    base: float
    fitted_share: float

    @classmethod
    @cache
    def load(cls, path: Path = BUNDLED) -> CopyClassifier:
        """Read the trees.

        Raises:
            ArtifactError: there are none.
            CorruptError: they cannot be read.
        """
        if not path.is_file():
            raise ArtifactError(f"{path} is missing: install the package again")
        try:
            arrays = load_file(path)
            feature, left, right = (
                arrays[name].astype(np.int64) for name in ("feature", "left", "right")
            )
            threshold, value = (arrays[name].astype(np.float64) for name in ("threshold", "value"))
            base, share = (float(arrays[name][0]) for name in ("base", "fitted_share"))
            inner, nodes = feature >= 0, np.arange(feature.shape[1])
            children = (left > nodes) & (right > nodes) & (left < len(nodes)) & (right < len(nodes))
            if not (children | ~inner).all() or feature.max() >= len(FEATURES):
                raise ValueError("a node without two children that follow it")
            return cls(feature, threshold, left, right, value, base, share)
        except (SafetensorError, KeyError, IndexError, OSError, ValueError) as error:
            pass_on(error, path)
            raise CorruptError(
                f"{path} cannot be read ({error}): install the package again"
            ) from error

    def log_odds(self, rows: Sequence[Sequence[float]]) -> Floats:
        """Log odds that each row of features, (n, 21), is of a copy; (n,)."""
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
