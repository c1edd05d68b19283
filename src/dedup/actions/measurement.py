"""Measure precision and recall by an audit's labels; see ``review.audit`` and ``confidence``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dedup.actions.confidence import RISK, Draws, lower_ends, upper_ends
from dedup.detection.results import DetectionResult
from dedup.review.audit import EXACT, MIN_SCORE, Frame, label, second_opinions
from dedup.review.decisions import DUPLICATE, Pair
from dedup.review.history import History
from dedup.review.ledger import Ledger
from dedup.review.standing import Catalogue, Evidence, was_there

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ENDS = ["product_id_a", "product_id_b"]

MAX_MORE = 2000
"""Further draws that ``labels_needed`` looks at."""


def frame_of(result: DetectionResult, run: str) -> Frame:
    """List the pairs that an audit draws from: those reported, and candidates that may be right.

    Args:
        result: of a detect run.
        run: its name, which seeds the draws.
    """
    reported, others = result.pairs, result.candidates
    score = reported["score"].to_numpy(np.float64)
    score = np.where(reported["tier"].to_numpy() == "near", score, EXACT)
    keys: list[Pair] = list(zip(*(reported[end].tolist() for end in ENDS), strict=True))
    known = set(keys)
    rows = zip(*(others[name].tolist() for name in (*ENDS, "score")), strict=True)
    more = [row for row in rows if row[2] >= MIN_SCORE and row[:2] not in known]
    keys += [(left, right) for left, right, _ in more]
    scores = np.concatenate([score, np.array([row[2] for row in more], np.float64)])
    return Frame.of(keys, scores, np.arange(len(keys)) < len(reported), run)


@dataclass(frozen=True)
class Labels:
    """People's labels of pairs whose images are still those that were decided on.

    Attributes:
        verdicts: by pair.
        blind: pairs whose verdict follows from decisions that were made without the score.
        twice: the two last verdicts of pairs that two people decided on without it.
    """

    verdicts: Mapping[Pair, str]
    blind: frozenset[Pair]
    twice: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, ledger: Ledger, catalogue: Catalogue, result: DetectionResult) -> Labels:
        """Read the labels of a run's pairs, reported or not."""
        verdicts, blind, twice = dict[Pair, str](), set[Pair](), list[tuple[str, str]]()
        history = ledger.history
        for table in (result.candidates, result.pairs):
            for one in catalogue.evidence(table):
                if one.pair in verdicts or not _is_known(history, one.pair):
                    continue
                if not (verdict := _label(ledger, one)):
                    continue
                verdicts[one.pair] = verdict
                if all(row.context.get("blind") for row in history.follows(one.pair)):
                    blind.add(one.pair)
                if (both := second_opinions(history, one.pair)) is not None:
                    twice.append((both[0].verdict, both[1].verdict))
        return cls(verdicts, frozenset(blind), twice)

    def error(self) -> float:
        """Estimate the probability that a label is wrong by those who labelled twice.

        Two labels differ where one of them is wrong; half a case in a hundred pairs is counted
        besides, so that a few pairs that agree do not promise that nobody errs.
        """
        differ = sum((one == DUPLICATE) != (other == DUPLICATE) for one, other in self.twice)
        return min(0.25, (differ / 2 + 0.5) / (len(self.twice) + 100))

    def kappa(self) -> float | None:
        """Compute the agreement of two people beyond chance; ``None`` where it is not defined.

        Cohen, A coefficient of agreement for nominal scales, 1960.
        """
        if not self.twice:
            return None
        one, other = (np.array([pair[at] == DUPLICATE for pair in self.twice]) for at in (0, 1))
        by_chance = one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean())
        if by_chance == 1:
            return None
        return float(((one == other).mean() - by_chance) / (1 - by_chance))


def _is_known(history: History, pair: Pair) -> bool:
    return history.knows(pair[0]) and history.knows(pair[1])


def _label(ledger: Ledger, evidence: Evidence) -> str:
    rows = ledger.history.follows(evidence.pair)
    if not rows or not was_there(evidence, rows, ledger.images):
        return ""
    return label(ledger.history, evidence.pair)


@dataclass(frozen=True)
class Sample:
    """The draws of an audit that are labelled: all up to the first that is not.

    Attributes:
        frame: what was drawn from.
        drawn: (m,) places of the drawn pairs.
        right: (m,) whether a pair was labelled as a duplicate.
        unsure: (m,) whether the reviewer was not sure: wrong in a lower end, right in an upper one.
        n_waiting: labelled draws after the first that is not labelled.
        n_blind: labels that were given without the score.
    """

    frame: Frame
    drawn: Ints
    right: Bools
    unsure: Bools
    n_waiting: int
    n_blind: int

    @classmethod
    def of(cls, frame: Frame, labels: Labels) -> Sample:
        """Take the labelled draws of a frame."""
        verdicts = [labels.verdicts.get(frame.pairs[at], "") for at in frame.order.tolist()]
        n = next((at for at, verdict in enumerate(verdicts) if not verdict), len(verdicts))
        right = np.array([verdict == DUPLICATE for verdict in verdicts[:n]], bool)
        unsure = np.array([verdict == "unsure" for verdict in verdicts[:n]], bool)
        drawn = frame.order[:n]
        n_blind = sum(frame.pairs[at] in labels.blind for at in drawn.tolist())
        return cls(frame, drawn, right, unsure, sum(map(bool, verdicts[n:])), n_blind)

    def within(self, part: Bools) -> Sample:
        """Take the draws of a part of the frame, which are draws of that part by themselves."""
        inside = part[self.drawn]
        return Sample(self.frame, self.drawn[inside], self.right[inside], self.unsure[inside], 0, 0)


@dataclass(frozen=True)
class Interval:
    """The share of right pairs as it was measured, each end sure to ``1 - RISK``.

    Attributes:
        low: lower end.
        high: upper end.
        n_labels: labels that it follows from.
        n_wrong: those of pairs that are no duplicates, or that the reviewer was not sure of.
    """

    low: float
    high: float
    n_labels: int
    n_wrong: int


def share_right(sample: Sample, part: Bools, risk: float = RISK) -> Interval:
    """Measure the share of right pairs in a part of the frame.

    Args:
        sample: the audit.
        part: (n,) bool, the part, not empty.
        risk: probability that one end is ever wrong.
    """
    own = sample.within(part)
    if not len(own.drawn):
        return Interval(0.0, 1.0, 0, 0)
    low, high = (ends[-1] for ends in interval_ends(own, part, risk))
    low, high = min(low, high), max(low, high)  # they cross if one is wrong: state the wider
    return Interval(float(low), float(high), len(own.drawn), int((~own.right).sum()))


def interval_ends(own: Sample, part: Bools, risk: float = RISK) -> tuple[Floats, Floats]:
    """Compute the ends of the share of right pairs after each draw of a part, (m,) each.

    Args:
        own: draws of the part alone, see ``Sample.within``.
        part: (n,) bool, the part.
        risk: as in ``share_right``.
    """
    low = lower_ends(draws_of(own, part, own.right), risk)
    return low, upper_ends(draws_of(own, part, own.right | own.unsure), risk)


def recall(sample: Sample) -> Interval:
    """Measure the share of the duplicates in the frame that the run reports.

    Each end follows from an end of the reported pairs and one of the others, at half the risk each.
    """
    reported = sample.frame.reported
    if not (~reported).any():
        return Interval(1.0, 1.0, len(sample.drawn), 0)
    if not reported.any():
        return Interval(0.0, 1.0, len(sample.drawn), 0)
    own, others = (share_right(sample, part, RISK / 2) for part in (reported, ~reported))
    n, n_others = int(reported.sum()), int((~reported).sum())

    def share(found: float, missed: float) -> float:
        return n * found / (n * found + n_others * missed) if found + missed else 1.0

    n_missed = int(sample.within(~reported).right.sum())
    return Interval(
        share(own.low, others.high) if own.low else 0.0, share(own.high, others.low),
        len(sample.drawn), n_missed,
    )  # fmt: skip


def labels_needed(sample: Sample, part: Bools, wanted: float) -> int | None:
    """Count the labels of a part that prove a share of right pairs, if all of them are right.

    They are the next ones of the audit. ``None``: even ``MAX_MORE`` of them do not.
    """
    own = sample.within(part)
    order = sample.frame.order
    inside = order[part[order]][: len(own.drawn) + MAX_MORE]
    right = np.ones(len(inside), bool)
    right[: len(own.drawn)] = own.right
    longer = Sample(sample.frame, inside, right, ~right, 0, 0)
    ends = lower_ends(draws_of(longer, part, right))
    proved = np.flatnonzero(ends >= wanted)
    return max(0, int(proved[0]) + 1 - len(own.drawn)) if len(proved) else None


def draws_of(sample: Sample, part: Bools, right: Bools) -> Draws:
    """Describe the draws of a part for a confidence sequence."""
    place = np.cumsum(part) - 1
    frame = sample.frame
    return Draws.of(right, place[sample.drawn], frame.weights[part], frame.scores[part])
