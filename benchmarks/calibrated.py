"""What an audit by simulated reviewers proves, with how many labels, and what decisions correct.

    python benchmarks/calibrated.py

Catalogues are drawn from the bundled classifier: copies have the log odds of its held-out copies,
strangers fall off as its held-out strangers do. The search calibrates itself on each catalogue as
``detect.py`` does. A reviewer gives the true label, but for a share of errors.

- ends: how often a stated lower end was above the true share after any number of labels.
- labels: how many labels an audit needs for the width that uniform draws from the same pairs have.
  Uniform draws have confidence sequences of the same kind, and know no scores.
- correction: a catalogue with other shares of copies than the scores were made for. Half of the
  labels are drawn by chance, a quarter lies at the threshold, a quarter is of any kind; after each
  third the scores are recalibrated. Stated is the true precision at the threshold chosen then.
"""

from __future__ import annotations

import argparse

import numpy as np

from dedup.actions.calibrator import log_odds
from dedup.actions.confidence import RISK, capital_against
from dedup.actions.measurement import Labels, Sample, draws_of, interval_ends
from dedup.detection.calibration import calibrated, of_scores
from dedup.detection.mixture import _GRID, _POWERS, LEAST, Mixture, _decay
from dedup.detection.recalibration import Recalibration
from dedup.review.audit import MIN_SCORE, Frame
from dedup.runtime.digits import score
from dedup.verification.classifier import CopyClassifier

JUDGE = CopyClassifier.load()
ERRORS = (0.0, 0.02)
ROUNDS = 3


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--uniform", type=int, default=600, help="labels of uniform draws")
    parser.add_argument("--widths", type=int, default=12, help="catalogues for the widths")
    parser.add_argument("--corrections", type=int, default=60, help="repetitions of corrections")
    parser.add_argument("--intervals", type=int, default=10, help="catalogues for mean intervals")
    parser.add_argument("--copies", type=int, default=2000)
    parser.add_argument("--only", choices=TABLES, action="append", help="print this table alone")
    options = parser.parse_args()
    for name in options.only or TABLES:
        TABLES[name](options)


def ends(options: argparse.Namespace) -> None:
    """Print how often a stated lower end was wrong."""
    print("| precision asked | errors | lower end of precision ever wrong | of recall | "
          "mean interval of precision after 50, 100, 300 labels |")  # fmt: skip
    print("|---|---|---|---|---|")
    for asked in (0.95, 0.99):
        for row in ends_rows(asked, options):
            print(row, flush=True)


def widths(options: argparse.Namespace) -> None:
    """Print the labels for equal widths."""
    print("\n| precision asked | figure | labels, uniform | width | labels, audit | share |")
    print("|---|---|---|---|---|---|")
    for asked in (0.95, 0.99):
        for row in width_rows(asked, options):
            print(row, flush=True)


def corrections(options: argparse.Namespace) -> None:
    """Print what decisions make of scores for other shares of copies."""
    print("\n| copies | precision asked | errors | before | after: mean, spread | within .01 |")
    print("|---|---|---|---|---|---|")
    for share in (10.0, 0.1):
        for asked in (0.95, 0.99):
            for error in (0.0, 0.02):
                print(correction_row(share, asked, error, options), flush=True)


def catalogue(rng: np.random.Generator, n_copies: int, n_strangers: int):
    """Draw log odds of the classifier above ``LEAST``, and whether a pair is a copy."""
    copies = rng.choice(JUDGE.copies, n_copies) + rng.normal(0, 0.3, n_copies)
    copies = copies[copies > LEAST]
    decay = _decay(JUDGE.strangers, np.array([1.0, 0.0]))
    weight = np.exp(-decay @ _POWERS)
    strangers = rng.choice(_GRID, n_strangers, p=weight / weight.sum())
    odds = np.concatenate([copies, strangers])
    return odds, np.arange(len(odds)) < len(copies)


def run(rng: np.random.Generator, asked: float, options: argparse.Namespace):
    """Search a catalogue: scores, truth, and which pairs are reported, of the audit's frame."""
    odds, truth = catalogue(rng, options.copies, options.copies)
    fitted = Mixture.fit(odds, JUDGE.copies, JUDGE.strangers)
    own = fitted.log_odds(odds)
    scores = score(own)
    reported = scores >= calibrated(of_scores(own), asked).min_score
    inside = reported | (scores >= MIN_SCORE)
    return scores[inside], truth[inside], reported[inside]


def names(n: int) -> list[tuple[str, str]]:
    """Name pairs."""
    return [(f"a{number}", f"b{number}") for number in range(n)]


def sample_of(frame: Frame, labels: np.ndarray, n: int) -> Sample:
    """Label the first n draws."""
    drawn = frame.order[:n]
    return Sample(frame, drawn, labels[drawn], np.zeros(len(drawn), bool), 0, 0)


def labelled(rng: np.random.Generator, truth: np.ndarray, error: float) -> np.ndarray:
    """The labels of a reviewer who errs."""
    return truth ^ (rng.random(len(truth)) < error)


def sequences(sample: Sample, reported: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ends of precision by labels of reported pairs, and of recall by all labels."""
    own, others = sample.within(reported), sample.within(~reported)
    precision = interval_ends(own, reported)
    low, high = interval_ends(own, reported, RISK / 2)
    low_missed, high_missed = interval_ends(others, ~reported, RISK / 2)
    is_own = reported[sample.drawn]
    at, at_missed = np.cumsum(is_own), np.cumsum(~is_own)
    n, n_others = reported.sum(), (~reported).sum()

    def from_start(ends: np.ndarray, first: float, at: np.ndarray) -> np.ndarray:
        return np.concatenate([[first], ends])[at]

    found = n * from_start(low, 0, at), n * from_start(high, 1, at)
    missed = (n_others * from_start(low_missed, 0, at_missed),
              n_others * from_start(high_missed, 1, at_missed))  # fmt: skip
    recall_low = found[0] / np.maximum(found[0] + missed[1], 1e-9)
    recall_high = found[1] / np.maximum(found[1] + missed[0], 1e-9)
    return *precision, recall_low, recall_high


def ends_rows(asked: float, options: argparse.Namespace) -> list[str]:
    """Count the runs in which a lower end was wrong at any time.

    An end is above the true share only if the capital against that share has reached ``1 / RISK``.
    Recall's lower end is wrong only if that of the reported pairs is, or the upper end of the
    others, each at half the risk.
    """
    wrong = {error: np.zeros(2) for error in ERRORS}
    shown: dict[float, list[list[float]]] = {error: [] for error in ERRORS}
    for number in range(options.repetitions):
        rng = np.random.default_rng(number)
        scores, truth, reported = run(rng, asked, options)
        frame = Frame.of(names(len(scores)), scores, reported, f"run {number}")
        for error in ERRORS:
            sample = sample_of(frame, labelled(rng, truth, error), options.labels)
            own, others = sample.within(reported), sample.within(~reported)
            one = draws_of(own, reported, own.right)
            other = draws_of(others, ~reported, others.right).mirrored()
            above = capital_against(one, truth[reported].mean()).max()
            below = capital_against(other, 1 - truth[~reported].mean()).max()
            is_wrong = above >= 1 / RISK, max(above, below) >= 2 / RISK
            wrong[error] += np.array(is_wrong)
            if number < options.intervals:
                low, high = interval_ends(own, reported)
                places = [min(at, len(low)) - 1 for at in (50, 100, 300)]
                shown[error].append([end for at in places for end in (low[at], high[at])])
    rows, n = [], options.repetitions
    for error in ERRORS:
        ends = np.mean(shown[error], axis=0).reshape(-1, 2)
        text = ", ".join(f"{low:.3f}-{high:.3f}" for low, high in ends)
        of_precision, of_recall = wrong[error] / n
        rows.append(f"| {asked} | {error:g} | {of_precision:.3f} | {of_recall:.3f} | {text} |")
    return rows


def width_rows(asked: float, options: argparse.Namespace) -> list[str]:
    """Compare the labels for equal widths, medians over catalogues, of precision and of recall."""
    audit: dict[str, list[np.ndarray]] = {"precision": [], "recall": []}
    even: dict[str, list[np.ndarray]] = {"precision": [], "recall": []}
    for number in range(options.widths):
        rng = np.random.default_rng(10_000 + number)
        scores, truth, reported = run(rng, asked, options)
        frame = Frame.of(names(len(scores)), scores, reported, f"run {number}")
        n = len(scores)
        blind = Frame(frame.pairs, np.full(n, 0.5), reported, np.full(n, 1 / n), rng.permutation(n))
        for into, one in ((audit, frame), (even, blind)):
            _, _, low, high = sequences(sample_of(one, truth, options.uniform), reported)
            into["recall"].append(by_labels(high - low, options.uniform))
            n_drawn = 1 + int(np.searchsorted(np.cumsum(reported[one.order]), options.uniform))
            own = sample_of(one, truth, n_drawn).within(reported)
            low, high = interval_ends(own, reported)
            into["precision"].append(by_labels(high - low, options.uniform))
    rows = []
    for figure in audit:
        ours, uniform = np.median(audit[figure], axis=0), np.median(even[figure], axis=0)
        for n in (200, 300, 450, 600):
            reached = np.flatnonzero(ours <= uniform[n - 1])
            needed = int(reached[0]) + 1 if len(reached) else options.uniform
            rows.append(f"| {asked} | {figure} | {n} | {uniform[n - 1]:.3f} | {needed} | "
                        f"{needed / n:.2f} |")  # fmt: skip
    return rows


def by_labels(widths: np.ndarray, n: int) -> np.ndarray:
    """Repeat the last width up to n labels."""
    return np.concatenate([widths, np.full(max(n - len(widths), 0), widths[-1])])[:n]


def correction_row(share: float, asked: float, error: float, options: argparse.Namespace) -> str:
    """Recalibrate catalogues with other shares of copies than the scores were made for."""
    before, after = [], []
    for number in range(options.corrections):
        rng = np.random.default_rng(20_000 + number)
        usual, _ = catalogue(rng, options.copies, 2 * options.copies)
        fitted = Mixture.fit(usual, JUDGE.copies, JUDGE.strangers)
        n_copies = round(5 * options.copies * share / (share + 2))
        odds, truth = catalogue(rng, n_copies, 5 * options.copies - n_copies)
        one, other = corrected(rng, fitted.log_odds(odds), truth, asked, error, options.labels)
        before.append(one)
        after.append(other)
    good = np.abs(np.array(after) - asked) <= 0.01
    return (
        f"| x {share:g} | {asked} | {error:g} | {np.mean(before):.3f} | {np.nanmean(after):.4f}, "
        f"{np.nanstd(after):.4f} | {good.mean():.2f} |"
    )


def corrected(rng, own, truth, asked, error, n_labels) -> tuple[float, float]:
    """Return the true precision before and after a calibration by decisions."""
    scores = score(own)
    own = log_odds(scores)
    threshold = calibrated(of_scores(own), asked).min_score
    reported = scores >= threshold
    inside = np.flatnonzero(reported | (scores >= MIN_SCORE))
    frame = Frame.of(names(len(inside)), scores[inside], reported[inside], str(rng.random()))
    labels = labelled(rng, truth, error)
    again = labelled(rng, truth, error)
    audit = inside[frame.order[: n_labels // 2]]
    twice = [("duplicate" if labels[at] else "different", "duplicate" if again[at] else "different")
             for at in audit[9::10]]  # fmt: skip
    given = Labels({}, frozenset(), twice).error()
    known, recalibration, limit = np.empty(0, np.int64), Recalibration(), threshold
    for turn in range(ROUNDS):
        step = slice(turn * len(audit) // ROUNDS, (turn + 1) * len(audit) // ROUNDS)
        known = np.union1d(known, audit[step])
        free = np.setdiff1d(inside, known)
        odds = recalibration(own[free])
        near = free[np.argsort(np.abs(odds - np.log(limit / (1 - limit))), kind="stable")]
        known = np.union1d(known, near[: n_labels // 4 // ROUNDS])
        free = np.setdiff1d(inside, known)
        known = np.union1d(known, rng.permutation(free)[: n_labels // 4 // ROUNDS])
        recalibration = Recalibration.fit(own[known], labels[known], given)
        limit = calibrated(of_scores(recalibration(own)), asked).min_score
    kept = score(recalibration(own)) >= limit
    return float(truth[reported].mean()), float(truth[kept].mean()) if kept.any() else np.nan


TABLES = {"ends": ends, "labels": widths, "correction": corrections}

if __name__ == "__main__":
    main()
