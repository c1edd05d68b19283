"""Recalibrate scores by people's decisions: a slope, an offset, and offsets of categories.

The log odds of a pair become ``slope * log odds + offset`` (Platt, Probabilistic outputs for
support vector machines, 1999), with a normal prior that leaves them as they are. A reviewer errs
with a known probability, so that one wrong label does not move the sure pairs (Bootkrajang and
Kabán, Label-noise robust logistic regression and its applications, ECML 2012).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.errors import ArtifactError, ConfigError, CorruptError
from dedup.runtime.checksums import read_checked
from dedup.runtime.invocation import command

Floats = npt.NDArray[np.float64]

CALIBRATION = "calibration.json"
"""File of a calibration by decisions."""

MIN_LABELS = 20
"""Labels from which a category gets an offset of its own."""

SLOPE_SPREAD, OFFSET_SPREAD, CATEGORY_SPREAD = 0.25, 2.0, 1.0
"""Standard deviations of the prior: of the slope around 1, and of the offsets around 0."""

ROUNDS = 50
"""Steps of Newton's method at most; some 6 are needed."""


@dataclass(frozen=True)
class Recalibration:
    """What people's decisions make of the scores of a catalogue.

    Attributes:
        slope: factor of the log odds.
        offset: added to them.
        column: column of the user's table that names a product's category; "" for none.
        offsets: added besides, by category.
        n_labels: number of decisions that they were fitted on.
        error: probability that a label is wrong.
        verdicts: digest of the classifier whose scores these are; "" where unknown.
    """

    slope: float = 1.0
    offset: float = 0.0
    column: str = ""
    offsets: Mapping[str, float] = field(default_factory=dict)
    n_labels: int = 0
    error: float = 0.0
    verdicts: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "offsets": dict(self.offsets)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Take what ``to_dict`` gave.

        Raises:
            ValueError: it is something else.
        """
        kinds = {"slope": float, "offset": float, "column": str, "offsets": dict, "n_labels": int,
                 "error": float, "verdicts": str}  # fmt: skip
        if {name: type(value) for name, value in values.items()} != kinds:
            raise ValueError("its fields are not those of a recalibration")
        numbers = [values["slope"], values["offset"], values["error"], *values["offsets"].values()]
        if not all(isinstance(one, float) and np.isfinite(one) for one in numbers):
            raise ValueError("a value is no finite number")
        if values["slope"] <= 0 or not 0 <= values["error"] < 0.5:
            raise ValueError("its slope or its share of errors is impossible")
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file of a calibration, or that in a folder.

        Raises:
            ArtifactError: the file is missing, or no calibration by decisions.
            CorruptError: it is damaged.
        """
        file = path / CALIBRATION if path.is_dir() else path
        advice = f"make one with {command('calibrate')}, or leave calibration= out"
        content = read_checked(file, "a calibration", advice)
        if "recalibration" not in content:
            raise ArtifactError(f"{file} is no calibration by decisions: {advice}")
        try:
            return cls.from_dict(content["recalibration"])
        except (TypeError, ValueError, AttributeError) as error:
            raise CorruptError(f"{file} is damaged ({error}): {advice}") from error

    def check(self, verdicts: str | None) -> None:
        """Check that the scores of a search are those that this was fitted on.

        Args:
            verdicts: digest of the search's classifier.

        Raises:
            ArtifactError: they are others.
        """
        if self.verdicts and self.verdicts != verdicts:
            raise ArtifactError(
                "calibration= was fitted on the scores of another classifier, reader or foreground:"
                f" leave it out, or decide on a run of these settings and run "
                f"{command('calibrate')} again"
            )

    @classmethod
    def fit(
        cls,
        log_odds: Floats,
        right: npt.NDArray[np.bool_],
        error: float = 0.0,
        column: str = "",
        categories: Sequence[str] | None = None,
    ) -> Self:
        """Fit the most plausible values.

        How the pairs were chosen does not matter as long as it was by what is known here, their log
        odds and their categories.

        Args:
            log_odds: (n,) of the labelled pairs, finite.
            right: (n,) labels.
            error: probability that a label is wrong, less than a half.
            column: see the attribute.
            categories: (n,) of the pairs; "" for none. Those with fewer than ``MIN_LABELS`` get no
                offset of their own.
        """
        given = np.asarray(categories if categories is not None else [""] * len(right), object)
        names, counts = np.unique(given.astype(str), return_counts=True)
        own = [name for name, n in zip(names, counts, strict=True) if name and n >= MIN_LABELS]
        one_hot = [(given == name).astype(np.float64) for name in own]
        design = np.stack([log_odds, np.ones(len(right)), *one_hot], axis=1)
        spread = np.array([SLOPE_SPREAD, OFFSET_SPREAD, *[CATEGORY_SPREAD] * len(own)])
        usual = np.array([1.0, *[0.0] * (1 + len(own))])
        values = _most_plausible(design, right.astype(np.float64), error, usual, spread)
        slope, offset, *rest = (round(float(value), 6) for value in values)
        offsets = dict(zip(own, rest, strict=True))
        return cls(max(slope, 0.05), offset, column if own else "", offsets, len(right), error)

    def __call__(self, log_odds: Floats, categories: npt.ArrayLike | None = None) -> Floats:
        """Recalibrate log odds, (n,); equal to or less than another's stays so in a category."""
        changed = np.asarray(self.slope * log_odds + self.offset, np.float64)
        if self.offsets and categories is not None:
            named = np.asarray(categories, object).tolist()
            changed = changed + np.array([self.offsets.get(name, 0.0) for name in named])
        return np.asarray(changed, np.float64)

    def undone(self, log_odds: Floats, categories: Sequence[str]) -> Floats:
        """Return the log odds, (n,), before the recalibration."""
        added = np.array([self.offsets.get(name, 0.0) for name in categories], np.float64)
        return np.asarray((log_odds - self.offset - added) / self.slope, np.float64)


def categories_of(products: pd.DataFrame, id_column: str, column: str) -> dict[str, str]:
    """Return the category of each product: a cell of its first row, without case and blanks.

    Raises:
        ConfigError: the table has no such column.
    """
    if column not in products.columns:
        raise ConfigError(
            f"the table has no column {column} for the categories of a calibration. It has "
            + ", ".join(map(str, products.columns))
        )
    first = products.drop_duplicates(id_column)
    cells = first[column].astype(str).str.strip().str.casefold()
    return dict(zip(first[id_column].astype(str), cells, strict=True))


def of_pairs(
    category: Mapping[str, str], left: Sequence[str], right: Sequence[str]
) -> npt.NDArray[np.object_]:
    """Return the category of pairs, (n,): that of both their ends, or "" where they differ."""
    ends = ((category.get(one, ""), category.get(other, "")) for one, other
            in zip(left, right, strict=True))  # fmt: skip
    return np.array([one if one == other else "" for one, other in ends], object)


def _most_plausible(
    design: Floats, right: Floats, error: float, usual: Floats, spread: Floats
) -> Floats:
    """Maximise the likelihood of labels times the prior, by Fisher's scoring with halved steps."""
    values, precision = usual.copy(), 1 / spread**2

    def penalty(values: Floats) -> float:
        chance = error + (1 - 2 * error) * _logistic(design @ values)
        chance = np.clip(chance, 1e-12, 1 - 1e-12)
        likelihood = right @ np.log(chance) + (1 - right) @ np.log(1 - chance)
        return float(0.5 * ((values - usual) ** 2 * precision).sum() - likelihood)

    now = penalty(values)
    for _ in range(ROUNDS):
        share = _logistic(design @ values)
        chance = np.clip(error + (1 - 2 * error) * share, 1e-12, 1 - 1e-12)
        slope = (1 - 2 * error) * share * (1 - share)
        gradient = design.T @ ((right - chance) * slope / (chance * (1 - chance)))
        gradient -= (values - usual) * precision
        weight = slope**2 / (chance * (1 - chance))
        step = np.linalg.solve(design.T @ (design * weight[:, None]) + np.diag(precision), gradient)
        size = 1.0
        while (later := penalty(values + size * step)) > now and size > 1e-6:
            size /= 2
        if size <= 1e-6 or now - later < 1e-10:
            break
        values, now = values + size * step, later
    return values


def _logistic(value: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))
