"""Thresholds chosen without labels, on simulated catalogues whose truth is known."""

from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.detection.calibration import (
    FLOOR,
    LENIENCY,
    Calibration,
    CurvePoint,
    Recall,
    calibrated,
    curve,
    expected_precision,
    expected_recall,
    of_report,
    precision_of,
    recall_of_copies,
)
from dedup.detection.comparison import decided
from dedup.detection.mixture import (
    CROWD,
    LEAST,
    SLOWEST,
    Mixture,
    Posterior,
    Strata,
    crowds,
    in_crowds,
)
from dedup.runtime.digits import score
from dedup.schemas import AUTO, NEAR, PAIRS
from dedup.search.radius import RadiusSearch
from dedup.search.state import SearchState
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.relations import VARIANT
from tests.support.effort import examples
from tests.support.searches import search_facts

Floats = npt.NDArray[np.float64]
FITTED = 0.3
"""Share of copies where the simulated judge was fitted."""


def test_the_expected_precision_is_of_all_reported_pairs() -> None:
    rows = [("same_bytes", 1.0)] * 8 + [("near", 0.9), ("near", 0.8)]
    pairs = pd.DataFrame(rows, columns=["tier", "score"])
    chosen = Calibration(
        setting="verifier.min_score", threshold=0.7, higher_is_surer=True, precision=0.8,
        expected_precision=(0.85, 0.5, 1.0), interval=0.95, n_pairs=9,
    )  # fmt: skip
    whole, equal = of_report(chosen, pairs), of_report(chosen, pairs[:8])
    assert whole is not None
    assert whole.expected_precision is not None
    value, low, high = whole.expected_precision
    assert value == pytest.approx((8 * 0.999 + 1.7) / 10, abs=1e-4)
    assert low < value < high
    assert equal == replace(chosen, expected_precision=None)
    assert of_report(None, pairs) is None


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def simulated(prior: float, n: int, seed: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """What a judge that was fitted at another share says of n pairs, and the truth.

    Its evidence is normal, 3 on the one side for copies and on the other for the rest: the log odds
    of a pair are then twice 3 times the evidence, plus those of the share.
    """
    rng = np.random.default_rng(seed)
    copies = rng.random(n) < prior
    evidence = rng.normal(np.where(copies, 3.0, -3.0), 1.8)
    return evidence * 6 / 1.8**2 + logit(FITTED), copies


HELD_OUT, TRUTH = simulated(FITTED, 20_000, 99)
COPIES = np.quantile(HELD_OUT[TRUTH], (np.arange(400) + 0.5) / 400)
EXCESS = HELD_OUT[~TRUTH & (HELD_OUT > LEAST)] - LEAST
STRANGERS = np.array([EXCESS.mean(), (EXCESS**2).mean()])
"""What the simulated judge knows of held-out pairs."""


def mixed(log_odds: Floats) -> Mixture:
    return Mixture.fit(log_odds, COPIES, STRANGERS)


def posterior(log_odds: Floats) -> Posterior:
    nobody = np.zeros(len(log_odds), bool)
    return Strata.fit(log_odds, nobody, COPIES, STRANGERS, STRANGERS).posterior(log_odds, nobody)


@pytest.mark.parametrize("prior", [0.5, 0.2, 0.05, 0.02])
def test_the_share_of_copies_is_found(prior: float) -> None:
    log_odds, copies = simulated(prior, 20_000, 0)
    found = mixed(log_odds)
    assert found.share == pytest.approx(copies[log_odds > LEAST].mean(), abs=0.05)
    unplaced = np.concatenate([log_odds, np.full(500, -np.inf)])
    assert mixed(unplaced).share == found.share


@pytest.mark.parametrize("values", [np.full(5, -np.inf), np.full(50_000, 20.0), np.empty(0)])
def test_a_mixture_of_one_kind(values: Floats) -> None:
    found = mixed(values)
    assert 0 < found.share < 1
    assert found.decay[0] >= SLOWEST
    assert found.decay[1] >= 0
    assert np.isfinite(found.log_odds(np.linspace(-20, 20, 50))).all()


def test_clear_strangers_say_nothing() -> None:
    log_odds, _ = simulated(0.1, 5000, 0)
    more = np.concatenate([log_odds, np.full(9000, LEAST - 1)])
    assert mixed(more) == mixed(log_odds)


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(st.lists(st.floats(-12, 20), max_size=30))
def test_a_surer_pair_stays_surer(values: list[float]) -> None:
    found = mixed(np.array(values, np.float64))
    asked = np.linspace(-15, 18, 300)
    assert (np.diff(found.log_odds(asked)) >= 0).all()
    assert found.log_odds(-np.inf) == -np.inf


@cache
def posterior_of_simulated(prior: float, seed: int) -> tuple[Posterior, npt.NDArray[np.bool_]]:
    """Simulate 4,000 pairs; the fit takes a while, and serves each asked precision."""
    log_odds, copies = simulated(prior, 4000, seed)
    return posterior(log_odds), copies


@pytest.mark.parametrize("prior", [0.5, 0.05, 0.01, 0.005])
@pytest.mark.parametrize("asked", [0.9, 0.97])
def test_reported_pairs_are_right_as_often_as_asked(prior: float, asked: float) -> None:
    n_right, n_reported, expectations = 0, 0, []
    for seed in range(40):
        told, copies = posterior_of_simulated(prior, seed)
        chosen = calibrated(told, asked)
        reported = score(told.expected) >= chosen.min_score
        n_right += int(copies[reported].sum())
        n_reported += int(reported.sum())
        expectations.append(chosen.precision[0])
    slack = 0.02 if prior > 0.01 else 0.045  # 20 or 40 copies tell little
    assert n_reported > 150
    assert n_right / n_reported > asked - slack
    assert min(expectations) >= asked
    assert n_right / n_reported - np.mean(expectations) < 0.03


def test_the_threshold_falls_with_the_precision_down_to_the_floor() -> None:
    log_odds, _ = simulated(0.2, 3000, 1)
    least = [calibrated(posterior(log_odds), asked).min_score for asked in (0.999, 0.99, 0.9, 0.6)]
    assert least == sorted(least, reverse=True)
    assert least[0] > least[-1] >= FLOOR
    for asked in (0.999, 0.98):
        assert calibrated(posterior(log_odds), asked).min_score >= 1 - LENIENCY * (1 - asked)


log_odds_of_pairs = st.lists(
    st.one_of(st.integers(-8, 12).map(float), st.floats(-12, 15), st.just(-np.inf)), max_size=40
)


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(log_odds_of_pairs, st.sampled_from([0.5, 0.8, 0.9, 0.97, 0.99, 0.999]))
def test_what_is_reported_keeps_what_is_promised(values: list[float], asked: float) -> None:
    """Also where scores are equal, and where no pair is sure enough."""
    log_odds = np.array(values, np.float64)
    chosen = calibrated(posterior(log_odds), asked)
    scores = score(posterior(log_odds).expected)
    taken = scores[scores >= chosen.min_score]
    floor = max(FLOOR, 1 - LENIENCY * (1 - asked))
    assert (taken >= floor).all()
    assert not len(taken) or taken.mean() >= asked - 1e-9
    reported = np.argsort(-log_odds, kind="stable")[: len(taken)]
    assert chosen.precision == precision_of(posterior(log_odds).of(reported))
    for least in scores[(scores < chosen.min_score) & (scores >= floor)]:
        assert scores[scores >= least].mean() < asked + 1e-9  # no more could be had


pairs_of_images = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 6), st.floats(-6, 6)), max_size=25
)


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(pairs_of_images)
def test_crowds_are_those_of_a_count(pairs: list[tuple[int, int, float]]) -> None:
    pairs = [(a, b, odds) for a, b, odds in pairs if a != b]
    left, right, odds = (np.array([pair[at] for pair in pairs]) for at in range(3))
    odds = odds.astype(np.float64)
    found = in_crowds(left.astype(str), right.astype(str), odds > LEAST)
    ends = [end for a, b, each in pairs if each > LEAST for end in (a, b)]
    many = {str(end) for end in ends if ends.count(end) >= CROWD}
    assert crowds(left.astype(str), right.astype(str), odds > LEAST) == many
    for at, (a, b, _) in enumerate(pairs):
        others = [
            sum(end in other[:2] for n, other in enumerate(pairs) if n != at and other[2] > LEAST)
            for end in (a, b)
        ]
        assert found[at] == (max(others) >= CROWD)


@pytest.mark.parametrize("harder", [-1.5, 0.0, 1.5])
def test_copies_may_be_harder_than_the_held_out_ones(harder: float) -> None:
    log_odds, is_copy = simulated(0.5, 3000, 4)
    moved = np.where(is_copy, log_odds - harder, log_odds)
    told = score(posterior(moved).expected)
    taken = told >= calibrated(posterior(moved), 0.99).min_score
    assert is_copy[taken].mean() >= 0.98
    assert mixed(moved).shift == pytest.approx(harder, abs=0.5)


@pytest.mark.parametrize("n", [100, 1000, 10000])
@pytest.mark.parametrize("at", [0.0, 1.0, 2.0, 3.0])
def test_a_lump_of_doubtful_pairs_is_not_of_copies(at: float, n: int) -> None:
    far = np.random.default_rng(0).normal(-6, 1.5, 5000)
    judge = GeometricVerifier().judge
    fit = Mixture.fit(np.append(far, np.full(n, at)), judge.copies, judge.strangers)
    assert score(fit.log_odds(at)) < FLOOR


def test_a_few_copies_do_not_move_the_density() -> None:
    few = np.array([1.0, 2.0, 2.5, -2.0, -2.1])
    assert Mixture.fit(few, COPIES, STRANGERS).shift == 0


def test_a_family_of_look_alikes_does_not_cost_the_others() -> None:
    log_odds, _ = simulated(0.02, 4000, 7)
    family = np.random.default_rng(0).normal(5, 3, 300)
    together = np.concatenate([log_odds, family])
    crowded = np.arange(len(together)) >= len(log_odds)
    strata = Strata.fit(together, crowded, COPIES, STRANGERS, STRANGERS)
    apart, alone = strata.posterior(together, crowded).of(~crowded), posterior(log_odds)
    assert apart.expected == pytest.approx(alone.expected)


def judged(mean: float, n: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(mean, 0.4, n)


def reported_of(near: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which near pairs a catalogue with single copies and strangers besides reports of these."""
    rng = np.random.default_rng(1)
    single = pd.DataFrame(
        {"log_odds": np.append(rng.normal(5, 1, 8), rng.exponential(0.8, 60) - 2.2)}
    )
    single = single.assign(pixels_a=[f"a{n}" for n in range(68)], relation="")
    single["pixels_b"] = [f"b{n}" for n in range(68)]
    table = pd.concat([near, single], ignore_index=True)
    odds = table["log_odds"].to_numpy()
    table = table.assign(distance=1.0, score=score(odds), evidence="", alike=0.5, copy_of=0.0)
    search = SearchState(table[NEAR.names], table[["pixels_a"]], search_facts())
    found, _ = decided(search, RadiusSearch(AUTO), GeometricVerifier())
    return found["reported"].to_numpy()[: len(near)]


@pytest.mark.parametrize("n", [4, 5, 6, 9, 12])
@pytest.mark.parametrize("mean", [5.0, 6.5, 7.5])
def test_a_group_of_copies_is_reported_however_large(n: int, mean: float) -> None:
    ends = list(combinations([f"g{number}" for number in range(n)], 2))
    near = pd.DataFrame(ends, columns=["pixels_a", "pixels_b"])
    assert reported_of(near.assign(log_odds=judged(mean, len(near)), relation="")).all()


def test_a_copy_of_one_of_several_colours_is_reported() -> None:
    rows = []
    for product in "pqrst":
        colours = [f"{product}{n}" for n in range(4)]
        rows += [(a, b, -4.0, VARIANT) for a, b in combinations(colours, 2)]
        rows += [(colour, f"{product} copy", -4.0, VARIANT) for colour in colours[1:]]
        rows.append((colours[0], f"{product} copy", 6.0, ""))
    near = pd.DataFrame(rows, columns=["pixels_a", "pixels_b", "log_odds", "relation"])
    assert reported_of(near)[near["relation"] == ""].all()


def test_one_more_likeness_in_a_small_family_is_no_sure_copy() -> None:
    colours = [f"p{n}" for n in range(7)]
    rows = [(a, b, -4.0, VARIANT) for a, b in combinations(colours, 2)]
    near = pd.DataFrame(rows, columns=["pixels_a", "pixels_b", "log_odds", "relation"])
    near.loc[3, "log_odds"] = 3.0
    assert not reported_of(near)[3]


def test_nothing_is_reported_of_nothing() -> None:
    chosen = calibrated(posterior(np.empty(0)), 0.99)
    assert chosen.precision == (1, 0, 1)


def test_the_interval_covers_the_share_of_right_pairs() -> None:
    rng = np.random.default_rng(0)
    scores = rng.beta(9, 1, 150)
    mean, low, high = expected_precision(scores)
    assert mean == pytest.approx(scores.mean())
    shares = (rng.random((2000, 150)) < scores).mean(axis=1)
    assert ((shares >= low) & (shares <= high)).mean() > 0.95
    assert 0 <= low < mean < high <= 1


def sample(seed: int) -> tuple[Floats, Floats, Floats]:
    """Sureties and probabilities of candidates, with ties, and sureties of copies."""
    rng = np.random.default_rng(seed)
    surety = rng.random(80).round(1)
    copies = rng.random(30)
    copies[:6] = -np.inf
    return surety, rng.random(80), copies


@pytest.mark.parametrize("seed", range(3))
def test_a_curve_beside_a_slow_loop(seed: int) -> None:
    surety, right, copies = sample(seed)
    points = curve(surety, right, copies, 40)
    assert 10 < len(points) <= 40
    for point in points:
        reported = right[surety >= point.threshold]
        precision = reported.mean() if len(reported) else 1
        assert point.precision == pytest.approx(precision, abs=1e-6)
        assert point.recall == pytest.approx((copies >= point.threshold).mean(), abs=1e-6)
    thresholds, recalls = (
        [getattr(point, name) for point in points] for name in ("threshold", "recall")
    )
    assert thresholds == sorted(thresholds)
    assert recalls == sorted(recalls, reverse=True)


def test_curves_of_little() -> None:
    none = np.empty(0)
    assert curve(none, none, none) == []
    assert curve(none, none, np.array([-np.inf])) == []
    (point,) = curve(np.array([0.5]), np.array([0.9]), none)
    assert point == CurvePoint(0.5, 0.9, 0)
    (alone,) = curve(none, none, np.array([0.5, -np.inf]))
    assert alone == CurvePoint(0.5, 1, 0.5)


def test_recall_of_copies_by_edit() -> None:
    surety = np.array([0.9, 0.2, -np.inf, 0.5])
    chains = [("mirror", "crop"), ("crop",), ("banner",), ("mirror",)]
    found = recall_of_copies(surety, chains, 0.5)
    recall, low, high = found.expected_recall
    assert recall == 0.5
    assert 0 < low < recall < high < 1
    assert found.recall_by_edit == {"mirror": (1, 2), "crop": (0.5, 2), "banner": (0, 1)}


def test_without_copies_nothing_is_known_of_recall() -> None:
    found = recall_of_copies(np.empty(0), [], 0.5)
    assert found == Recall(expected_recall=(0, 0, 1), recall_by_edit={})


@pytest.mark.parametrize(("key", "surer"), [("score", True), ("distance", False)])
def test_what_is_expected_in_the_settings_own_unit(key: str, surer: bool) -> None:
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame({"score": rng.random(50), "distance": rng.random(50)})
    candidates = pairs.reindex(columns=PAIRS.names)
    copies = rng.random(20) * (1 if surer else -1)
    chains = [("crop",)] * 20
    calibration = Calibration(
        setting="verifier.min_score", threshold=0.4, higher_is_surer=surer, precision=0.9,
        expected_precision=None, interval=0.95, n_pairs=50,
    )  # fmt: skip
    found = expected_recall(calibration, candidates, copies, chains)
    assert found.n_copies == 20
    hits = copies >= 0.4 if surer else -copies <= 0.4
    assert found.expected_recall[0] == pytest.approx(hits.mean())
    thresholds = [point.threshold for point in found.curve]
    assert thresholds == sorted(thresholds)
    for point in found.curve:
        values = pairs[key]
        taken = values >= point.threshold if surer else values <= point.threshold
        precision = pairs["score"][taken].mean() if taken.any() else 1
        assert point.precision == pytest.approx(precision, abs=1e-6)
