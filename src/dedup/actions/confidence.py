"""Confidence sequences of a share in a finite population: valid whenever one stops.

The population has n pairs, some of them right, and a share of right ones that is wanted. Pairs are
drawn one after another, without replacement, each time with a probability in proportion to known
weights among the pairs that are left. An estimate of each pair's label, known beforehand, may be
wrong without harm, and narrows the interval where it is good.

- The bet of one draw is that of Waudby-Smith and Ramdas, Estimating means of bounded random
  variables by betting, JRSS B 2023, equation 20: capital grows by ``1 + bet (z - mean)``, where z
  is a bounded variable whose expected value is ``mean`` if the share that is bet against is true.
- The variable of a weighted draw without replacement, with an estimate of the label as a control
  variate, is that of Shekhar, Xu, Lipton, Liang and Ramdas, Risk-limiting financial audits via
  weighted sampling without replacement, UAI 2023, equations 3 and 8.
- The bets are fixed fractions of the largest bet that cannot lose all, and the capital is the mean
  over the fractions, as in Cover, Universal portfolios, 1991, and Orabona and Jun, Tight
  concentrations and confidence sequences from the regret of universal portfolio, 2021.

By Ville's inequality (Étude critique de la notion de collectif, 1939) capital of ``1 / risk`` is
reached by a true share with a probability of ``risk`` at most, at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RISK = 0.05
"""Probability that one end of a sequence is ever wrong."""

FRACTIONS = np.array([0.98, 0.9, 0.75, 0.6, 0.45, 0.33, 0.24, 0.17, 0.12, 0.08, 0.05])
"""Bets, as shares of the largest one."""

PRIOR = np.array([0.3, 0.16, *[0.06] * 9])
"""Share of the first capital that goes into each. The largest bets win while no label is wrong."""

STEPS = 1000
"""Shares that are tested: an end is rounded outwards to a multiple of 1 / STEPS."""


@dataclass(frozen=True)
class Draws:
    """Labelled draws from a population.

    Attributes:
        right: (m,) bool, labels in the order of the draws.
        weights: (m,) weights of the drawn pairs.
        guesses: (m,) estimates of their labels, 0 to 1.
        n: number of pairs in the population.
        weight: sum of their weights.
        guess: sum of their estimates.
        most_right: largest ``(1 - estimate) / weight`` of a pair.
        most_wrong: largest ``estimate / weight``.
    """

    right: npt.NDArray[np.bool_]
    weights: Floats
    guesses: Floats
    n: int
    weight: float
    guess: float
    most_right: float
    most_wrong: float

    @classmethod
    def of(
        cls,
        right: npt.ArrayLike,
        drawn: npt.NDArray[np.int64],
        weights: Floats,
        guesses: Floats,
    ) -> Draws:
        """Describe draws.

        Args:
            right: (m,) labels in the order of the draws.
            drawn: (m,) places of the drawn pairs, none twice.
            weights: (n,) of all pairs, above 0.
            guesses: (n,) estimates of all labels, 0 to 1.
        """
        return cls(
            np.asarray(right, bool), weights[drawn], guesses[drawn], len(weights),
            float(weights.sum()), float(guesses.sum()),
            float(((1 - guesses) / weights).max(initial=0)),
            float((guesses / weights).max(initial=0)),
        )  # fmt: skip

    def mirrored(self) -> Draws:
        """Take wrong for right, so that a lower end becomes an upper one."""
        return Draws(
            ~self.right, self.weights, 1 - self.guesses, self.n, self.weight, self.n - self.guess,
            self.most_wrong, self.most_right,
        )  # fmt: skip


def lower_ends(draws: Draws, risk: float = RISK) -> Floats:
    """Compute the lower end of the share of right pairs after each draw, (m,); it never falls.

    Args:
        draws: the draws.
        risk: probability that an end is above the true share, at any time.
    """
    n = draws.n
    right, before, guess, value, least = _terms(draws)
    ends = np.zeros(len(right))
    capital = np.repeat(np.log(PRIOR)[:, None], STEPS + 1, axis=1)
    shares = np.arange(STEPS + 1) * n / STEPS
    first, end = 0, 0.0
    for at in range(len(right)):
        mean = shares - before[at] - guess[at] - least[at]
        first = max(first, int(np.searchsorted(mean, 0, side="right")))  # no share below can be
        with np.errstate(divide="ignore"):
            gain = (value[at] - least[at]) / mean[first:]
            capital[:, first:] += np.log(1 + FRACTIONS[:, None] * (np.maximum(gain, 0) - 1))
        total = np.exp(np.minimum(capital[:, first:], 700)).sum(axis=0)
        first += int(np.argmin(np.append(total, 0) >= 1 / risk))  # a rejected share stays so
        end = max(end, (first - 1) / STEPS, (before[at] + right[at]) / n)
        ends[at] = end
    return ends


def capital_against(draws: Draws, share: float) -> Floats:
    """Compute the capital, 1 at first, of bets that the share of right pairs is above one, (m,)."""
    _, before, guess, value, least = _terms(draws)
    mean = share * draws.n - before - guess - least
    gain = np.where(mean > 0, np.maximum(value - least, 0) / np.where(mean > 0, mean, 1), np.inf)
    with np.errstate(divide="ignore"):
        steps = np.log(1 + FRACTIONS[:, None] * (gain - 1))
    capital = np.exp(np.minimum(np.log(PRIOR)[:, None] + np.cumsum(steps, axis=1), 700))
    return np.asarray(capital.sum(axis=0))


def _terms(draws: Draws) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Compute of each draw, in pairs: its label, the right ones before it, the estimates of those
    that are left, the variable that is bet on, and the least value that this can have.
    """

    def before(values: Floats) -> Floats:
        return np.concatenate([[0.0], np.cumsum(values)])[: len(values)]

    right = draws.right.astype(np.float64)
    left = np.maximum(draws.weight - before(draws.weights), draws.weights)
    value = left * (right - draws.guesses) / draws.weights
    return (
        right,
        before(right),
        draws.guess - before(draws.guesses),
        value,
        -left * draws.most_wrong,
    )


def upper_ends(draws: Draws, risk: float = RISK) -> Floats:
    """Compute the upper end after each draw, (m,); it never rises. See ``lower_ends``."""
    return 1 - lower_ends(draws.mirrored(), risk)
