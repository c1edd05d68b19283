"""Distances and scores to what they mean, beside decimal arithmetic."""

from decimal import Decimal
from math import log10

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.runtime.digits import DIGITS, SUREST, rounded, rounded_up, score, share, units
from tests.support.effort import examples

lengths = st.floats(1e-6, 1e6)


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.lists(lengths, max_size=20))
def test_a_unit_is_a_power_of_ten_near_a_ten_thousandth_of_the_length(sizes: list[float]) -> None:
    vectors = np.array([[0.6 * size, 0.8 * size] for size in sizes], np.float64).reshape(-1, 2)
    found = units(vectors)
    assert found.shape == (len(sizes),)
    for unit, size in zip(found.tolist(), sizes, strict=True):
        assert log10(unit) == pytest.approx(round(log10(unit)))
        assert 0.99e-4 / 10**0.5 < unit / size < 1.01e-4 * 10**0.5


def test_unit_length_is_far_from_where_units_change() -> None:
    for size in (1 - 1e-4, 1, 1 + 1e-4, 10, 1000):
        assert units(np.array([[size]]))[0] == pytest.approx(10.0 ** (round(log10(size)) - DIGITS))
    assert units(np.zeros((1, 3)))[0] > 0  # and no division by zero


@settings(max_examples=examples(500), deadline=None, derandomize=True)
@given(st.floats(0, 1e6), st.integers(-12, 6))
def test_distances_become_the_nearest_decimal_numbers(distance: float, power: int) -> None:
    found = float(rounded(np.array([distance]), np.array([10.0**power]))[0])
    unit = Decimal(10) ** power
    assert abs(Decimal(found) - Decimal(distance)) <= unit / 2 + Decimal(distance) * Decimal(
        "1e-12"
    )
    if power < 0:  # as short as it can be written
        assert found == float(f"{found:.{-power}f}")
    else:
        assert found % 10**power == 0


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.floats(0.1, 2), st.floats(-1e-6, 1e-6))
def test_last_bits_do_not_show(distance: float, noise: float) -> None:
    unit = np.array([1e-4])
    steps = distance / 1e-4
    if abs(steps % 1 - 0.5) > 0.02:  # else the nearest number is another one
        here, there = np.array([distance]), np.array([distance + noise])
        assert rounded(here, unit)[0] == rounded(there, unit)[0]


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(st.floats(1e-9, 1e9), st.integers(1, 8))
def test_a_chosen_radius_is_rounded_up(value: float, figures: int) -> None:
    found = rounded_up(value, figures)
    assert value * (1 - 1e-12) <= found <= value * (1 + 1.01 * 10.0 ** (1 - figures))
    assert found == float(f"{found:.{figures - 1}e}")


def test_a_radius_of_nothing_stays() -> None:
    assert rounded_up(0.0, 4) == 0.0
    assert rounded_up(1.14551, 4) == 1.146
    assert rounded_up(1.146, 4) == 1.146


def test_scores_never_become_certain() -> None:
    found = score([-np.inf, 0, np.log(3), 40, np.inf, np.nan])
    assert found[:3].tolist() == [0, 0.5, 0.75]
    assert found[3] == found[4] == SUREST < 1
    assert np.isnan(found[5])
    assert share(1 / 3) == 0.333333
