"""Sketches against the distances that they stand for."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import CorruptError
from dedup.search.bounds import Frame, mirrored, principal_axes, sample_of, sketch, terms
from tests.support.effort import examples

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


def unit(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = rng.normal(size=(n, d))
    rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return rows


def far(rng: np.random.Generator, n: int, d: int) -> Floats:
    """Close together and far from the origin, where float32 has few digits left."""
    rows = float(rng.choice([0.1, 10])) * rng.normal(size=(n, d))
    return rows + 10.0 ** int(rng.integers(4, 8))


def scales(rng: np.random.Generator, n: int, d: int) -> Floats:
    """From almost vanishing to almost overflowing."""
    rows = rng.normal(size=(n, d))
    rows *= 10.0 ** rng.integers(-30, 31, (n, 1))
    return rows


def sparse(rng: np.random.Generator, n: int, d: int) -> Floats:
    return rng.normal(size=(n, d)) * (rng.random((n, d)) < 2 / d)


def plane(rng: np.random.Generator, n: int, d: int) -> Floats:
    """A sketch keeps all of these, so that the norm of the rest is nothing but rounding."""
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d))


def lattice(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = rng.integers(-2, 3, (n, d)).astype(np.float64)
    rows *= rng.choice([1, 0.1, 1e-20, 1e20])
    return rows


def outlier(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = rng.normal(size=(n, d))
    rows[0] = 1e30
    return rows


def denormal(rng: np.random.Generator, n: int, d: int) -> Floats:
    rows = rng.integers(-3, 4, (n, d)).astype(np.float64)
    rows *= 2.0**-149
    return rows


def constant(rng: np.random.Generator, n: int, d: int) -> Floats:
    return np.full((n, d), float(rng.choice([0.0, 3.0, -3e38])))


KINDS = [unit, far, scales, sparse, plane, lattice, outlier, denormal, constant]


@st.composite
def vector_sets(draw: st.DrawFn) -> Vectors:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, 60)), draw(st.sampled_from([1, 2, 3, 20, 70]))
    vectors: Vectors = draw(st.sampled_from(KINDS))(rng, n, d).astype(np.float32)
    return vectors


def framed(vectors: Vectors) -> tuple[Frame, Floats]:
    frame = Frame.of(vectors, sample_of(vectors))
    return frame, frame.place(vectors)


def distances(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Floats:
    """All distances, by the direct difference in float64."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    return np.array([np.sqrt(((row - right) ** 2).sum(axis=1)) for row in left])


def sketched(vectors: Vectors, n_axes: int) -> tuple[Frame, Floats, Vectors]:
    frame, placed = framed(vectors)
    return frame, placed, sketch(placed, principal_axes(placed, min(n_axes, vectors.shape[1])))


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(vector_sets())
def test_a_frame_holds_all_vectors_within_its_unit(vectors: Vectors) -> None:
    frame, placed = framed(vectors)
    assert placed.dtype == np.float64
    assert math.frexp(frame.scale)[0] == 0.5  # a power of two
    assert np.sqrt((placed**2).sum(axis=1)).max() <= 1 + 1e-12
    back = placed / frame.scale + frame.origin
    largest = np.abs(vectors.astype(np.float64)).max()
    np.testing.assert_allclose(back, vectors, rtol=0, atol=1e-15 * largest)


def test_a_frame_starts_at_the_mean_and_wastes_little() -> None:
    vectors = np.array([[1, 0], [3, 0], [2, 3]], np.float32)
    frame, placed = framed(vectors)
    np.testing.assert_allclose(frame.origin, [2, 1])
    np.testing.assert_allclose(placed.mean(axis=0), 0, atol=1e-16)
    assert np.sqrt((placed**2).sum(axis=1)).max() > 1 / 8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    vectors = np.zeros((5, 3), np.float32)
    vectors[4, 1] = bad
    with pytest.raises(CorruptError, match=r"not finite.*run python cluster\.py again"):
        Frame.of(vectors, np.zeros((1, 3)))


def test_no_vectors_have_a_frame() -> None:
    frame, placed = framed(np.empty((0, 4), np.float32))
    assert frame.scale == 1
    assert placed.shape == (0, 4)


@pytest.mark.parametrize(("n", "size", "expected"), [(5, 8, 5), (8, 8, 8), (9, 8, 5), (80, 8, 8)])
def test_a_sample_is_spread_evenly(n: int, size: int, expected: int) -> None:
    rows = np.arange(n, dtype=np.float32)[:, None]
    sample = sample_of(rows, size)
    assert sample.shape == (expected, 1)
    assert sample.dtype == np.float64
    assert len(np.unique(np.diff(sample[:, 0]))) == 1


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(vector_sets(), st.integers(1, 30))
def test_axes_are_orthonormal(vectors: Vectors, n_axes: int) -> None:
    _, placed = framed(vectors)
    n_axes = min(n_axes, placed.shape[1])
    axes = principal_axes(placed, n_axes)
    assert axes.shape == (placed.shape[1], n_axes)
    np.testing.assert_allclose(axes.T @ axes, np.eye(n_axes), rtol=0, atol=1e-13)


def test_the_first_axes_hold_what_the_best_ones_hold() -> None:
    rng = np.random.default_rng(0)
    placed = rng.normal(size=(500, 60)) * 0.8 ** np.arange(60)
    held = ((placed @ principal_axes(placed, 10)) ** 2).sum(axis=0)
    best = np.linalg.svd(placed, compute_uv=False)[:10] ** 2
    assert (np.diff(held) <= 0).all()
    assert held.sum() <= best.sum() * (1 + 1e-12)
    assert held.sum() > 0.99 * best.sum()


@settings(max_examples=examples(60), deadline=None, derandomize=True)
@given(vector_sets(), st.sampled_from([1, 13, 61]))
def test_sketches_are_never_farther_apart_than_vectors(vectors: Vectors, n_axes: int) -> None:
    _, placed, short = sketched(vectors, n_axes)
    assert short.dtype == np.float32
    assert short.shape == (len(vectors), min(n_axes, vectors.shape[1]) + 1)
    norms = np.sqrt((placed**2).sum(axis=1))
    rounding = 2.0**-21 * (norms[:, None] + norms)
    assert (distances(short, short) <= distances(placed, placed) + rounding).all()
    kept = np.sqrt((short.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(kept, norms, rtol=1e-6, atol=1e-40)


@settings(max_examples=examples(120), deadline=None, derandomize=True)
@given(vector_sets(), st.sampled_from([1, 13, 61]), st.data())
def test_every_pair_within_the_threshold_is_proposed(
    vectors: Vectors, n_axes: int, data: st.DataObject
) -> None:
    frame, _, short = sketched(vectors, n_axes)
    true = distances(vectors, vectors)  # of the vectors themselves, so that placing is judged too
    known = np.unique(true)
    threshold = data.draw(
        st.sampled_from([1e-300, 1e-12, 1.0])
        | st.integers(0, len(known) - 1).map(lambda place: float(known[place]))
    )
    rows = terms(short, min(threshold * frame.scale, 4.0))
    assert rows.dtype == np.float32
    within = true <= threshold
    assert (rows @ mirrored(rows).T)[within].min(initial=0) >= 0
    # The bound holds in whatever order a product is summed.
    for order in (slice(None), slice(None, None, -1)):
        summed = np.zeros_like(true, dtype=np.float32)
        for left, right in zip(rows.T[order], mirrored(rows).T[order], strict=True):
            summed += np.outer(left, right)
        assert summed[within].min(initial=0) >= 0


@pytest.mark.parametrize("threshold", [0.05, 0.3])
def test_few_others_are_proposed(threshold: float) -> None:
    vectors = np.random.default_rng(1).normal(size=(300, 12)).astype(np.float32)
    _, placed, short = sketched(vectors, 13)
    rows = terms(short, threshold)
    proposed = rows @ mirrored(rows).T >= 0
    assert not proposed[distances(placed, placed) > 1.01 * threshold + 0.005].any()


@pytest.mark.parametrize("size", [1e-19, 1e-22, 1e-24, 1e-40])
def test_squares_that_vanish_lose_nothing(size: float) -> None:
    """The products of such numbers have few digits left in float32, or none."""
    short = (size * np.random.default_rng(2).normal(size=(200, 14))).astype(np.float32)
    rows = terms(short, 1e-300)
    assert ((rows * mirrored(rows)).sum(axis=1) >= 0).all()  # each with itself


def test_the_right_hand_side_exchanges_the_last_two_columns() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(2, 6)
    before = rows.copy()
    np.testing.assert_array_equal(mirrored(rows)[0], [0, 1, 2, 3, 5, 4])
    np.testing.assert_array_equal(mirrored(mirrored(rows)), rows)
    np.testing.assert_array_equal(rows, before)
