"""Confidence sequences against the formulas written out, and against their law."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from dedup.actions.confidence import (
    FRACTIONS,
    PRIOR,
    RISK,
    STEPS,
    Draws,
    capital_against,
    lower_ends,
    upper_ends,
)

WEIGHTS = np.array([0.1, 0.4, 0.2, 0.3])
GUESSES = np.array([0.9, 0.2, 0.5, 0.99])
RIGHT = np.array([True, False, True, True])


def capital(order: Sequence[int], share: float) -> list[float]:
    """Capital that bets against a share after each draw, pair by pair."""
    left, n = set(range(len(RIGHT))), len(RIGHT)
    capitals = [float(part) for part in PRIOR]
    path = []
    for pair in order:
        total = sum(WEIGHTS[one] for one in left)
        chance = WEIGHTS[pair] / total
        z = (RIGHT[pair] - GUESSES[pair]) / n / chance
        known = sum(RIGHT[one] for one in set(range(n)) - left) / n
        mean = share - known - sum(GUESSES[one] for one in left) / n
        least = -max(GUESSES / WEIGHTS) * total / n
        for at, fraction in enumerate(FRACTIONS):
            bet = fraction / (mean - least)
            capitals[at] *= 1 + bet * (z - mean)
        path.append(sum(capitals))
        left.remove(pair)
    return path


def test_the_capital_against_the_true_share_stays_the_same_on_average() -> None:
    """A bet is fair: the mean over all orders, by their probabilities, is 1 after each draw."""
    mean = np.zeros(len(RIGHT) - 1)
    for order in itertools.permutations(range(len(RIGHT))):
        chance, left = 1.0, 1.0
        for pair in order:
            chance *= WEIGHTS[pair] / left
            left -= WEIGHTS[pair]
        mean += chance * np.array(capital(order[:-1], RIGHT.mean()))
    np.testing.assert_allclose(mean, 1, atol=1e-9)


def test_the_capital_is_the_one_written_out() -> None:
    order = np.array([2, 0, 3])
    draws = Draws.of(RIGHT[order], order, WEIGHTS, GUESSES)
    for share in (0.6, 0.75, 0.9):
        np.testing.assert_allclose(capital_against(draws, share), capital(order.tolist(), share))


def test_an_end_is_the_first_share_that_the_capital_does_not_rule_out() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        order = rng.permutation(len(RIGHT))[:3]
        risk = 0.8
        ends = lower_ends(Draws.of(RIGHT[order], order, WEIGHTS, GUESSES), risk)
        least = max(GUESSES / WEIGHTS)
        best = 0.0
        for at in range(3):
            drawn = order[: at + 1]
            n_right = RIGHT[drawn].sum()
            for step in range(STEPS + 1):
                share = step / STEPS
                path = capital(order[: at + 1], share)
                before = RIGHT[order[:at]].sum()
                total = WEIGHTS.sum() - WEIGHTS[order[:at]].sum()
                guess = GUESSES.sum() - GUESSES[order[:at]].sum()
                is_possible = share * 4 > before + guess - least * total
                if is_possible and max(path) < 1 / risk:
                    break
            best = max(best, (step - 1) / STEPS, n_right / 4)
            assert ends[at] == pytest.approx(best, abs=1.5 / STEPS)


def test_all_labels_leave_no_doubt() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(60) < 0.8
    weights, guesses = rng.random(60) + 0.1, rng.random(60)
    draws = Draws.of(right[::-1], np.arange(60)[::-1], weights, guesses)
    low, high = lower_ends(draws), upper_ends(draws)
    assert low[-1] == pytest.approx(right.mean(), abs=2 / STEPS)
    assert high[-1] == pytest.approx(right.mean(), abs=2 / STEPS)
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) <= 0).all()
    assert (low <= right.mean() + 1e-9).all()
    assert (high >= right.mean() - 1e-9).all()


def test_labels_without_an_error_prove_what_a_binomial_test_proves_a_little_later() -> None:
    """Of a large population, evenly drawn: (1 - p) ** n <= risk is the least that can be asked."""
    n = 100_000
    weights, none = np.full(n, 1 / n), np.zeros(n)
    draws = Draws.of(np.ones(600, bool), np.arange(600), weights, none)
    ends = lower_ends(draws)
    for count in (50, 300, 600):
        best = RISK ** (1 / count)
        assert best - 2.2 / count - 1 / STEPS < ends[count - 1] <= best
    assert math.isclose(upper_ends(draws)[-1], 1)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_ends_are_seldom_wrong_at_any_time(share: float) -> None:
    wrong = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        right = rng.random(300) < share
        guesses = np.where(right, 0.7, 0.6) if seed % 2 else np.where(right, 0.1, 0.9)  # bad ones
        weights = rng.random(300) + 0.2
        order = np.argsort(rng.exponential(size=300) / weights)[:120]
        ends = lower_ends(Draws.of(right[order], order, weights, guesses))
        wrong += bool((ends > right.mean() + 1e-9).any())
    assert wrong <= 10  # 5 are expected at most; 11 or more have a chance of a hundredth
