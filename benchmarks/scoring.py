"""Figures of a method on a benchmark: of its ranking, its decisions and its groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from labelled import ENDS, Bools, Floats, Labelled

from dedup.detection.grouping import Grouping
from dedup.runtime.metrics import (
    average_precision,
    bcubed,
    pair_scores,
    recall_at_precision,
    wilson,
)
from dedup.schemas import PAIRS

HEAD = (
    "| method | uAP | recall at P .90 | at P .99 | precision | recall | F1 | hard negatives taken "
    "| B-cubed F1 | largest group | seconds |\n|---|---|---|---|---|---|---|---|---|---|---|"
)

PRECISIONS = (0.99, 0.95, 0.9, 0.8, 0.5)
"""A baseline's threshold is that of the first that the calibration benchmark lets it reach."""


@dataclass(frozen=True)
class Decided:
    """What a method made of a benchmark.

    Attributes:
        name: of the method.
        scores: (n (n - 1) / 2,) of every pair, the higher the surer; -inf where it says nothing.
        taken: likewise, whether the pair is a duplicate by the frozen threshold.
        groups: ``product_id`` and ``group_id``.
        seconds: it took.
        ours: whether it is the recipe, not a baseline.
    """

    name: str
    scores: Floats
    taken: Bools
    groups: pd.DataFrame
    seconds: float
    ours: bool = False


@dataclass(frozen=True)
class Figures:
    """A line of the table; shares from 0 to 1."""

    name: str
    ours: bool
    uap: float
    recall_at_90: float
    recall_at_99: float
    precision: float
    recall: float
    f1: float
    n_right: int
    n_wrong: int
    n_true: int
    hard_taken: int
    n_hard: int
    bcubed_f1: float
    largest: int
    seconds: float

    @property
    def hard(self) -> str:
        """Hard negatives taken, in per cent and in pairs."""
        if not self.n_hard:
            return "-"
        return f"{100 * self.hard_taken / self.n_hard:.1f} % ({self.hard_taken:,})"

    @property
    def line(self) -> str:
        """In Markdown."""
        shares = (self.uap, self.recall_at_90, self.recall_at_99)
        decided = (self.precision, self.recall, self.f1)
        cells = [self.name, *map(figure, shares + decided), self.hard]
        cells += [figure(self.bcubed_f1), f"{self.largest:,}", f"{self.seconds:.0f}"]
        return f"| {' | '.join(cells)} |"


def frozen(scores: Floats, calibration: Labelled) -> tuple[float, float]:
    """The score that takes most true pairs of a calibration benchmark, and at what precision.

    That is the first of ``PRECISIONS`` that can be had at all; without any, nothing is taken.
    """
    said = calibration.scored & (scores > -np.inf)
    ranking = scores[said], calibration.is_match[said]
    for precision in PRECISIONS:
        recall, threshold = recall_at_precision(*ranking, precision, len(calibration.direct))
        if recall > 0:
            return threshold, precision
    return math.inf, math.nan


def decided(name: str, scores: Floats, threshold: float, of: Labelled, seconds: float) -> Decided:
    """A baseline's decisions at a threshold, its groups made as the entry points make them."""
    taken = scores >= threshold
    places = np.flatnonzero(taken)
    pairs = of.pairs(places).assign(distance=-scores[places], tier="near")
    pairs = pairs.sort_values(ENDS).reindex(columns=PAIRS.names, fill_value="")
    groups = Grouping()(pairs, of.stored.as_index)[["product_id", "group_id"]]
    return Decided(name, scores, taken, groups, seconds)


def figures(found: Decided, of: Labelled) -> Figures:
    """All figures of a method; originals and copies are to be found, all else that counts is not.

    Pairs that a method says nothing of come after all others, and are never reached.
    """
    said = of.scored & (found.scores > -np.inf)
    ranking = found.scores[said], of.is_match[said]
    n_true = len(of.direct)
    pairs = of.pairs(np.flatnonzero(found.taken & of.scored))
    score = pair_scores(pairs, of.pairs(of.direct["place"].to_numpy()))
    sizes = found.groups.groupby("group_id").size()
    return Figures(
        name=found.name,
        ours=found.ours,
        uap=average_precision(*ranking, n_true),
        recall_at_90=recall_at_precision(*ranking, 0.90, n_true)[0],
        recall_at_99=recall_at_precision(*ranking, 0.99, n_true)[0],
        precision=score.precision,
        recall=score.recall,
        f1=score.f1,
        n_right=score.n_found - score.n_wrong,
        n_wrong=score.n_wrong,
        n_true=n_true,
        hard_taken=int(found.taken[of.hard].sum()),
        n_hard=len(of.hard),
        bcubed_f1=bcubed(found.groups, of.truth, of.ids).f1,
        largest=int(sizes.max()) if len(sizes) else 1,
        seconds=found.seconds,
    )


def by_edit(methods: Sequence[Decided], of: Labelled) -> str:
    """The table of recalls by edit and, in brackets, by its strengths."""
    names = " | ".join(method.name for method in methods)
    lines = [f"| edit | strengths | pairs | {names} |", "|---" * (3 + len(methods)) + "|"]
    for edit, rows in of.direct.groupby("edit"):
        strengths = [(str(name), part["place"]) for name, part in rows.groupby("severity")]
        sizes = " + ".join(str(len(part)) for _, part in strengths)
        cells = [str(edit), ", ".join(name for name, _ in strengths), sizes]
        for method in methods:
            recall = figure(float(method.taken[rows["place"]].mean()))
            parts = ", ".join(figure(float(method.taken[part].mean())) for _, part in strengths)
            cells.append(f"{recall} ({parts})" if len(strengths) > 1 else recall)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def standing(all_figures: Sequence[Figures]) -> str:
    """How far the recipe is ahead of the best baseline, and its shares with their intervals."""
    lines = []
    for ours in (each for each in all_figures if each.ours):
        taken = ours.n_right + ours.n_wrong
        shares = [
            ("precision", ours.n_right, taken),
            ("recall", ours.n_right, ours.n_true),
            ("hard negatives taken", ours.hard_taken, ours.n_hard),
        ]
        lines.append(f"{ours.name}: " + "; ".join(interval(*each) for each in shares) + ".")
    lines += [
        ahead(all_figures, "uap", "uAP"),
        ahead(all_figures, "recall_at_99", "recall at precision .99"),
        spread([each for each in all_figures if each.ours and each.name != "bundled"]),
    ]
    return "\n\n".join(line for line in lines if line)


def ahead(all_figures: Sequence[Figures], name: str, said: str) -> str:
    """By how much the first run of the recipe is before, or behind, the best baseline."""
    ours = next((each for each in all_figures if each.ours), None)
    others = [each for each in all_figures if not each.ours]
    if ours is None or not others:
        return ""
    best = max(others, key=lambda each: float(getattr(each, name)))
    by = getattr(ours, name) - getattr(best, name)
    if not by:
        return f"{said}: {ours.name} is level with the best baseline, {best.name}."
    where = "ahead of" if by > 0 else "BEHIND"
    return f"{said}: {ours.name} is {where} the best baseline, {best.name}, by {figure(abs(by))}."


def spread(runs: Sequence[Figures]) -> str:
    """The smallest and largest figures of several trainings."""
    if len(runs) < 2:
        return ""
    names = {"uap": "uAP", "recall_at_99": "recall at P .99", "precision": "precision"}
    names |= {"recall": "recall", "bcubed_f1": "B-cubed F1"}
    ranges = []
    for name, said in names.items():
        values = [float(getattr(run, name)) for run in runs]
        ranges.append(f"{said} {figure(min(values))} to {figure(max(values))}")
    return f"Over {len(runs)} trainings: {', '.join(ranges)}."


def interval(name: str, part: int, whole: int) -> str:
    """A share with its 95 % interval by Wilson."""
    low, high = wilson(part, whole)
    return f"{name} {figure(share(part, whole))} ({figure(low)} to {figure(high)}, {part}/{whole})"


def figure(value: float) -> str:
    """Three decimals without the zero before them; a dash for a share of nothing."""
    if math.isnan(value):
        return "-"
    text = f"{value:.3f}"
    return text.removeprefix("0") if text.startswith("0.") else text


def share(part: float, whole: float) -> float:
    """A ratio, nan of nothing."""
    return part / whole if whole else math.nan
