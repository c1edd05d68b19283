"""Estimate the probability that a candidate is a copy from the catalogue's own candidates.

The classifier ranks pairs. How sure a score is depends on the catalogue: on the share of copies,
and on how much its products look alike. So the log odds of the candidates are taken as a mixture of
two kinds (Efron, Size, power and false discovery rates, 2007). Copies have the density that the
classifier gave held-out edited copies. Strangers above ``LEAST`` fall off as the tail of a normal
distribution does: the log of their density is a polynomial of degree two that never bends up. It is
fitted with the share of copies by expectation maximisation. Where few strangers are seen, what was
seen in other catalogues counts as ``PRIOR`` strangers. Copies may be harder or plainer than the
held-out ones: their density is shifted by the most plausible of ``SHIFTS``.

Families of look-alikes and single pairs are two populations, and one mixture of both would be wrong
for each (Efron, Simultaneous inference: when should hypothesis testing problems be combined?,
2008). So pairs whose images have a further relative, a variant or another size, are fitted apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup.detection.recalibration import Recalibration

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST = -2.2
"""Log odds, of a probability of a tenth, from which a pair tells of the share of copies."""

MOST = 14.0
"""Log odds above which a classifier says no more: those of the surest score."""

PRIOR = 40.0
"""Strangers that are counted besides, as held-out pairs have them."""

FEW = 5.0
"""The same of crowded pairs: families of one catalogue are alike, and not as those of others."""

FEWEST = 0.5
"""Copies, and strangers, that are counted besides where the share of copies is fitted: a catalogue
without any must not rule out the first one."""

UNSEEN = 3.0
"""Copies above a limit that may be unseen by chance where none is seen: 95 % of such catalogues
have fewer (Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, 1983)."""

SURER = 0.25
"""Least share of a catalogue's copies that are surer than the median held-out copy: half of them
would be, were all catalogues alike."""

CROWD = 1
"""Relatives of one image from which its pairs are crowded."""

SURE_COPY = 3.0
"""Log odds from which a variant or an image with another detail is no relative, but a copy."""

SLOWEST = 0.2
"""Least decay of strangers, per unit of log odds."""

Z = 1.96
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""

WIDTH = 0.6
"""Standard deviation of the kernel that smooths the density of copies."""

SHIFTS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)
"""Log odds by which copies of a catalogue may be harder than held-out ones; below 0 plainer. Harder
ones are bounded: a lump of doubtful pairs is rather of strangers than of copies that hard."""

USUAL_SHIFT = 0.5
"""Standard deviation of the shift, as far as one catalogue differs from another."""

ROUNDS = 200
NEWTON = 30

_GRID = np.linspace(LEAST, MOST, 325)
_EXCESS = _GRID - LEAST
_POWERS = np.stack([_EXCESS, _EXCESS**2])
_STEP = float(_EXCESS[1])


@dataclass(frozen=True)
class Mixture:
    """The share of copies and the decay of strangers in a catalogue.

    Attributes:
        copies: (m,) log odds that the classifier gave held-out copies, shifted.
        share: share of copies among the pairs above ``LEAST``, 0 to 1.
        decay: (2,) coefficients of the excess over ``LEAST`` and of its square in the negative log
            density of strangers.
        n_strangers: number of strangers that they were fitted on, with those counted besides.
        shift: log odds by which the copies were shifted down, one of ``SHIFTS``.
    """

    copies: Floats = field(repr=False, compare=False)
    share: float
    decay: tuple[float, float]
    n_strangers: float
    shift: float = 0.0

    @classmethod
    def fit(
        cls,
        log_odds: Floats,
        copies: Floats,
        strangers: Floats,
        n_held_out: float = PRIOR,
    ) -> Mixture:
        """Fit a mixture to the log odds, (n,), of all candidates of a catalogue.

        Args:
            log_odds: -inf where two images could not be compared.
            copies: see the attribute.
            strangers: (2,) mean excess over ``LEAST`` of held-out strangers above it, and the
                mean of its square.
            n_held_out: number of strangers that these means count as.

        Returns:
            The most plausible of the mixtures with one of ``SHIFTS`` each.
        """
        fits = [cls._of(log_odds, copies, strangers, n_held_out, shift) for shift in SHIFTS]
        doubts = 0.5 * (np.array(SHIFTS) / USUAL_SHIFT) ** 2
        return fits[int(np.argmax([fit._likelihood(log_odds) for fit in fits] - doubts))]

    @classmethod
    def _of(
        cls, log_odds: Floats, copies: Floats, strangers: Floats, n_held_out: float, shift: float
    ) -> Mixture:
        """Fit a mixture with copies that are shifted so far."""
        copies = copies - shift
        above = np.minimum(log_odds[log_odds > LEAST], MOST) - LEAST
        powers = np.stack([above, above**2])
        density = _density(copies, above + LEAST)
        most = _most_copies(copies, above + LEAST) / max(len(above), 1)
        share, n_strangers, is_copy = min(0.5, most), n_held_out, np.zeros(len(above))
        decay = _decay(strangers, np.array([1.0, 0.0]))
        for _ in range(ROUNDS):
            strange = (1 - share) * np.exp(-decay @ powers - _log_total(decay))
            known = share * density
            is_copy = known / np.maximum(known + strange, 1e-300)
            n_strangers = float((1 - is_copy).sum()) + n_held_out
            decay = _decay((powers @ (1 - is_copy) + n_held_out * strangers) / n_strangers, decay)
            n_copies = float(is_copy.sum()) + FEWEST
            before, share = share, min(n_copies / (len(above) + 2 * FEWEST), most)
            if abs(share - before) < 1e-9:
                break
        bend = max(float(decay[1] - _covariance(decay, n_strangers)[1, 1] ** 0.5), 0.0)
        slope = _slope(
            bend, float(powers[0] @ (1 - is_copy) + n_held_out * strangers[0]) / n_strangers
        )
        return cls(copies, share, (slope, bend), n_strangers, shift)

    def _likelihood(self, log_odds: Floats) -> float:
        """Compute the log likelihood of the log odds above ``LEAST``."""
        above = np.minimum(log_odds[log_odds > LEAST], MOST)
        excess, decay = above - LEAST, np.array(self.decay)
        strangers = np.exp(-decay @ np.stack([excess, excess**2]) - _log_total(decay))
        known = self.share * _density(self.copies, above)
        return float(np.log(np.maximum(known + (1 - self.share) * strangers, 1e-300)).sum())

    def log_odds(self, log_odds: npt.ArrayLike, deviations: float = 0.0) -> Floats:
        """Convert the classifier's log odds to those in this catalogue; they never fall.

        Args:
            log_odds: of any shape.
            deviations: standard errors by which the log density of strangers is lower.
        """
        asked = np.asarray(log_odds, np.float64)
        curve = self._curve if not deviations else self._ratio(deviations)
        inside = np.interp(np.clip(asked, LEAST, MOST), _GRID, curve)
        return np.asarray(inside + np.minimum(asked - LEAST, 0))

    @cached_property
    def _curve(self) -> Floats:
        return self._ratio(0.0)

    def _ratio(self, deviations: float) -> Floats:
        decay = np.array(self.decay)
        errors = self._errors(decay)
        # The mean of the density over its error, which is that of a log-normal variable.
        strangers = -decay @ _POWERS - _log_total(decay) + errors**2 / 2 - deviations * errors
        copies = np.log(np.maximum(_density(self.copies, _GRID), 1e-300))
        ratio = np.maximum.accumulate(copies - strangers)
        return np.asarray(ratio + np.log(self.share / (1 - self.share)))

    def _errors(self, decay: Floats) -> Floats:
        """Compute the standard error of the log density of strangers on the grid.

        It is that of the first coefficient; the second is chosen on the safe side already.
        """
        mean, spread = _moments(decay)
        return np.asarray(np.abs(_EXCESS - mean[0]) / np.sqrt(self.n_strangers * spread[0, 0]))


@dataclass(frozen=True)
class Strata:
    """The mixtures of pairs whose images have few other candidates, and of the crowded ones.

    Attributes:
        single: mixture of the pairs that are not crowded, see ``in_crowds``.
        crowded: mixture of the others.
        recalibration: what people's decisions make of the scores; ``None`` without.
    """

    single: Mixture
    crowded: Mixture
    recalibration: Recalibration | None = None

    @classmethod
    def fit(
        cls, log_odds: Floats, crowded: Mask, copies: Floats, strangers: Floats, look_alikes: Floats
    ) -> Strata:
        """Fit both mixtures; see ``Mixture.fit``.

        Args:
            log_odds: (n,) of all candidates.
            crowded: (n,) whether a pair is crowded, see ``in_crowds``.
            copies: as in ``Mixture.fit``.
            strangers: likewise.
            look_alikes: the same of held-out families of look-alikes, for the crowded pairs.
        """
        single = Mixture.fit(log_odds[~crowded], copies, strangers)
        return cls(single, Mixture.fit(log_odds[crowded], copies, look_alikes, FEW))

    def posterior(
        self, log_odds: Floats, crowded: Mask, categories: npt.ArrayLike | None = None
    ) -> Posterior:
        """Compute the log odds of pairs, (n,), in this catalogue.

        Args:
            log_odds: the classifier's.
            crowded: whether a pair is crowded, see ``in_crowds``.
            categories: of the pairs, for the recalibration; ``None`` for none.
        """
        posterior = Posterior(
            *(
                np.where(
                    crowded,
                    self.crowded.log_odds(log_odds, deviations),
                    self.single.log_odds(log_odds, deviations),
                )
                for deviations in (0.0, -Z, Z)
            )
        )
        if self.recalibration is None:
            return posterior
        return Posterior(*(self.recalibration(part, categories) for part in posterior))


class Posterior(NamedTuple):
    """Log odds, (n,) each, that pairs are copies in their catalogue.

    Attributes:
        expected: the mean.
        low: with a density of strangers that is ``Z`` standard errors higher.
        high: with one that is so much lower.
    """

    expected: Floats
    low: Floats
    high: Floats

    def of(self, rows: npt.NDArray[Any]) -> Posterior:
        """Take some of the pairs, by their places or a mask."""
        return Posterior(*(part[rows] for part in self))


def crowds(left: npt.ArrayLike, right: npt.ArrayLike, is_relative: Mask) -> frozenset[str]:
    """Name the images with ``CROWD`` relatives or more; arguments as of ``in_crowds``."""
    ends = np.concatenate([np.asarray(end, object)[is_relative] for end in (left, right)])
    counts = pd.Series(ends, dtype=object).value_counts()
    return frozenset(counts.index[counts >= CROWD])


def in_crowds(left: npt.ArrayLike, right: npt.ArrayLike, is_relative: Mask) -> Mask:
    """Tell which pairs have an image with ``CROWD`` relatives or more besides.

    Args:
        left: (n,) names of the pairs' first images.
        right: (n,) names of their second ones.
        is_relative: (n,) whether the images of a pair show variants, or differ in a detail.
    """
    ends = np.concatenate([np.asarray(left, object), np.asarray(right, object)])
    codes = pd.factorize(ends)[0].reshape(2, -1)
    counts = np.bincount(codes[:, is_relative].ravel(), minlength=int(codes.max(initial=0)) + 1)
    others = counts[codes].max(axis=0, initial=0) - is_relative
    return np.asarray(others >= CROWD)


def _most_copies(copies: Floats, above: Floats) -> float:
    """Bound the number of copies in a catalogue by the number of pairs above their median.

    A lump of pairs with nothing above it is none of copies, however badly strangers fit it.

    Args:
        copies: (m,) log odds of held-out copies, shifted.
        above: (n,) log odds of the catalogue's candidates above ``LEAST``.
    """
    n_surer = int((above >= np.median(copies)).sum()) if len(copies) else 0
    return float((n_surer + Z * np.sqrt(n_surer) + UNSEEN) / SURER)


def _log_total(decay: Floats) -> float:
    """Compute the log of the integral of the density of strangers, which makes it 1."""
    return float(np.log(np.exp(-decay @ _POWERS).sum() * _STEP))


def _moments(decay: Floats) -> tuple[Floats, Floats]:
    """Compute mean, (2,), and covariance, (2, 2), of the excess and its square."""
    weight = np.exp(-decay @ _POWERS)
    weight /= weight.sum()
    mean = _POWERS @ weight
    return mean, (_POWERS * weight) @ _POWERS.T - np.outer(mean, mean)


def _covariance(decay: Floats, n_strangers: float) -> Floats:
    """Compute the covariance of a decay, (2, 2), fitted on so many strangers."""
    return np.asarray(np.linalg.inv(n_strangers * (_moments(decay)[1] + 1e-6 * np.eye(2))))


def _slope(bend: float, wanted: float) -> float:
    """Find the first coefficient with the wanted mean of the excess, for a given second one."""
    slope = 1.0
    for _ in range(NEWTON):
        mean, spread = _moments(np.array([slope, bend]))
        step = float(np.clip((mean[0] - wanted) / spread[0, 0], -0.5, 0.5))
        slope = max(slope + step, SLOWEST)
    return slope


def _decay(wanted: Floats, start: Floats) -> Floats:
    """Find the decay, (2,), with the wanted means of the excess and its square, by Newton's method.

    It is the most likely one, within the bounds: the first at least ``SLOWEST`` and the second at
    least 0. Where the second would be less the tail is exponential.
    """
    decay = start
    for _ in range(NEWTON):
        mean, spread = _moments(decay)
        step = np.linalg.solve(spread + 1e-9 * np.eye(2), mean - wanted)
        step /= max(1.0, float(np.abs(step / [1.0, 0.25]).max()))
        moved = np.maximum(decay + step, [SLOWEST, 0.0])
        if moved[1] == 0.0:  # at the bound the first alone moves
            single = (mean[0] - wanted[0]) / spread[0, 0]
            moved[0] = max(decay[0] + float(np.clip(single, -0.5, 0.5)), SLOWEST)
        if float(np.abs(moved - decay).max()) < 1e-9:
            break
        decay = moved
    return decay


def _density(copies: Floats, at: Floats) -> Floats:
    """Estimate the density of copies, (n,), by a Gaussian kernel, between ``LEAST`` and ``MOST``.

    It is computed on the grid and interpolated, which is as good as the kernel is wide.
    """
    kept = np.minimum(copies[copies > LEAST], MOST)
    at = np.minimum(at, copies.max(initial=LEAST))  # a surer pair than any seen is no stranger one
    width = WIDTH * np.sqrt(2 * np.pi) * max(len(kept), 1)
    on_grid = np.exp(-0.5 * ((_GRID[:, None] - kept) / WIDTH) ** 2).sum(axis=1) / width
    return np.asarray(np.interp(at, _GRID, on_grid) + 1e-12)
