"""What a search made of a catalogue whose copies are known, and tables of many such searches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from bases import Bases
from edited import Product
from gallery import Mistake
from labelled import ENDS
from pipeline import sureness
from scoring import figure, share

from dedup.detection.results import DetectionResult
from dedup.runtime.metrics import recall_at_precision, wilson
from dedup.schemas import RELATIONS

HEAD = (
    "| base | n | share | edits | copies | looked at | threshold | reported | wrong | precision "
    "| expected | covers | recall | allowed | gap | seconds |\n" + "|---" * 16 + "|"
)
POOLED = (
    "| base | edits | share | runs | copies | reported | wrong | precision | expected "
    "| runs covered | recall | allowed | gap | to be looked at | copies of these "
    "| recall with them |\n" + "|---" * 16 + "|"
)
BY_EDIT = (
    "| edits | edit | copies | reported | or to be looked at | or verified |\n" + "|---" * 6 + "|"
)

RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"
REPORTED, BELOW, VERIFIED, UNSEEN = "reported", "to be looked at", "verified", "no candidate"
"""What became of a copy, the best first."""
SLACK = 1e-9
_, SAME_PRODUCT, *_ = RELATIONS

Fate = tuple[tuple[str, ...], str]
"""A copy's edits, and what became of it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A search's figures. Unknown pairs count in none of them.

    Attributes:
        base, n, share, edits, run: which catalogue it was; see ``shares.py``.
        asked: the precision.
        copies: true pairs.
        verified, verified_right: pairs that were verified, and the true ones of them.
        threshold: of the scores; nan where none was chosen.
        reported, wrong: near pairs that are reported, and the wrong ones of them.
        unknown: reported near pairs that nobody knows of.
        expected: precision, and the ends of its interval; None where no near pair is reported.
        found: true pairs reported, equal images too.
        allowed: true pairs above the best threshold of the asked precision.
        below, below_right: pairs to be looked at, and the true ones of them.
        seconds: the search took.
        wrong_pairs, missed: pairs reported wrongly, and copies that were not reported.
        fates: of the copies.
    """

    base: str
    n: int
    share: float
    edits: str
    run: int
    asked: float
    copies: int
    verified: int
    verified_right: int
    threshold: float
    reported: int
    wrong: int
    unknown: int
    expected: tuple[float, float, float] | None
    found: int
    allowed: int
    below: int
    below_right: int
    seconds: float
    wrong_pairs: list[Mistake] = field(repr=False)
    missed: list[Mistake] = field(repr=False)
    fates: list[Fate] = field(repr=False)

    @property
    def precision(self) -> float:
        """Measured, of near pairs; nan without any."""
        return share(self.reported - self.wrong, self.reported)

    @property
    def is_covered(self) -> bool | None:
        """Whether the measured precision lies in the expected interval; None without a pair."""
        if self.expected is None or not self.reported:
            return None
        _, low, high = self.expected
        return low - SLACK <= self.precision <= high + SLACK

    @property
    def figures(self) -> dict[str, Any]:
        """As plain JSON values, without the pairs."""
        lists = ("wrong_pairs", "missed", "fates")
        values = {name: value for name, value in vars(self).items() if name not in lists}
        return values | {"threshold": None if math.isnan(self.threshold) else self.threshold}

    @property
    def line(self) -> str:
        """In Markdown, below ``HEAD``."""
        recall, allowed = share(self.found, self.copies), share(self.allowed, self.copies)
        expected, covered = "-", {None: "-", True: "yes", False: "NO"}[self.is_covered]
        if self.expected is not None:
            value, low, high = map(figure, self.expected)
            expected = f"{value} ({low} to {high})"
        reported = f"{self.reported}" + (f" + {self.unknown} unknown" if self.unknown else "")
        cells = (
            self.base, f"{self.n:,}", f"{self.share:g}", self.edits, f"{self.copies:,}",
            f"{self.verified_right} of {self.verified:,}", f"{self.threshold:.4f}", reported,
            f"{self.wrong}", figure(self.precision), expected, covered, figure(recall),
            figure(allowed), f"{allowed - recall:+.3f}", f"{self.seconds:.0f}",
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def judged(
    result: DetectionResult, products: Mapping[str, Product], known: Bases, *,
    asked: float, seconds: float, base: str, n: int, share: float, edits: str, run: int,
) -> Outcome:  # fmt: skip
    """Compare a result with the truth.

    Args:
        result: of a search with an automatic threshold.
        products: of the catalogue, by id.
        known: what is known of pairs of keys.
        asked, seconds, base, n, share, edits, run: see ``Outcome``.
    """
    rows = ranked(result, products, known)
    right, wrong, near = (rows[name] for name in ("right", "wrong", "near"))
    taken, below, verified = (rows[name] for name in ("taken", "below", "verified"))
    n_true = len(true_pairs(products))
    counted = right | wrong
    recall, _ = recall_at_precision(rows["surety"][counted], right[counted], asked, n_true)
    fates = rows[right].set_index(ENDS)["fate"].to_dict()
    missed = [pair for pair in true_pairs(products) if fates.get(pair) != REPORTED]
    sureties = rows[right].set_index(ENDS)["surety"].to_dict()
    calibration = result.calibration
    return Outcome(
        base=base, n=n, share=share, edits=edits, run=run, asked=asked, seconds=seconds,
        copies=n_true,
        verified=int((verified & counted).sum()),
        verified_right=int((verified & right).sum()),
        threshold=math.nan if calibration is None else calibration.threshold,
        reported=int((taken & near & counted).sum()),
        wrong=int((taken & near & wrong).sum()),
        unknown=int((taken & near & ~counted).sum()),
        expected=None if calibration is None else calibration.expected_precision,
        found=int((taken & right).sum()),
        allowed=round(recall * n_true),
        below=int((below & counted).sum()),
        below_right=int((below & right).sum()),
        wrong_pairs=[
            mistake(pair, products, surety, True, evidence)
            for *pair, surety, evidence in rows.loc[
                taken & wrong, [*ENDS, "surety", "evidence"]
            ].itertuples(index=False)
        ],
        missed=[
            mistake(pair, products, sureties.get(pair, -math.inf), False, fates.get(pair, UNSEEN))
            for pair in missed
        ],
        fates=[
            (tuple(name for end in pair for name in products[end].edits), fates.get(pair, UNSEEN))
            for pair in true_pairs(products)
        ],
    )  # fmt: skip


def ranked(result: DetectionResult, products: Mapping[str, Product], known: Bases) -> pd.DataFrame:
    """All pairs that a search says something of.

    Returns:
        ``ENDS``, ``surety`` (the score; inf for equal images), ``evidence``, ``fate``, and flags:
        ``near``, ``taken`` (reported), ``verified``, ``below`` (the threshold: to be looked at),
        ``right`` and ``wrong``, of which an unknown pair is neither.
    """
    both = pd.concat([result.pairs, result.candidates], ignore_index=True)
    rows = both.assign(surety=sureness(both), near=both["tier"] == "near")
    rows = rows.sort_values("surety", ascending=False, kind="stable").drop_duplicates(ENDS)
    rows = rows.reset_index(drop=True)
    places = pd.MultiIndex.from_frame(rows[ENDS])
    looked = result.related[result.related["relation"] == SAME_PRODUCT]
    for name, part in (
        ("taken", result.pairs), ("verified", result.candidates), ("below", looked),
    ):  # fmt: skip
        rows[name] = places.isin(pd.MultiIndex.from_frame(part[ENDS]))
    keys = [[products[product_id].key for product_id in rows[end]] for end in ENDS]
    told = np.array([truth(one, other, known) for one, other in zip(*keys, strict=True)], object)
    rows["right"], rows["wrong"] = told == RIGHT, told == WRONG
    rows["fate"] = np.select([rows["taken"], rows["below"]], [REPORTED, BELOW], VERIFIED)
    return rows


def truth(one: str, other: str, known: Bases) -> str:
    """What a pair of products is, by what their images show."""
    if one == other:
        return RIGHT
    return UNKNOWN if known.unknown(one, other) else WRONG


def true_pairs(products: Mapping[str, Product]) -> list[tuple[str, str]]:
    """The pairs of products whose images show one thing, the smaller id first."""
    by_key: dict[str, list[str]] = {}
    for product_id in sorted(products):
        by_key.setdefault(products[product_id].key, []).append(product_id)
    return [pair for ids in by_key.values() for pair in combinations(ids, 2)]


def mistake(
    pair: Sequence[str], products: Mapping[str, Product], score: float, taken: bool, evidence: str
) -> Mistake:
    """A pair for a sheet of mistakes."""
    one, other = (products[product_id] for product_id in pair)
    shown = [f"{end.key[-8:]} {'+'.join(end.edits)}".strip() for end in (one, other)]
    return Mistake(
        (one.file, other.file), (pair[0], pair[1]), " | ".join(shown), score, taken, evidence
    )


def pooled(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines below ``POOLED``: each base, kind of edits and share, and all together."""

    def keys(one: Outcome) -> tuple[str, str, float]:
        return one.base, one.edits, one.share

    for key in dict.fromkeys(map(keys, outcomes)):
        base, edits, of_products = key
        yield _pooled(
            (base, edits, f"{of_products:g}"), [one for one in outcomes if keys(one) == key]
        )
    yield _pooled(("all", "all", "all"), outcomes)


def _pooled(names: Iterable[str], outcomes: Sequence[Outcome]) -> str:
    """One line: pairs of all runs together."""
    n = {
        name: sum(int(getattr(one, name)) for one in outcomes)
        for name in ("copies", "reported", "wrong", "found", "allowed", "below", "below_right")
    }
    right = n["reported"] - n["wrong"]
    low, high = wilson(right, n["reported"])
    stated = [one for one in outcomes if one.is_covered is not None]
    expected = sum(one.expected[0] * one.reported for one in stated if one.expected is not None)
    also = sum(fate in (REPORTED, BELOW) for one in outcomes for _, fate in one.fates)
    cells = (
        *names, f"{len(outcomes)}", f"{n['copies']:,}", f"{n['reported']:,}", f"{n['wrong']:,}",
        f"{figure(share(right, n['reported']))} ({figure(low)} to {figure(high)})",
        figure(share(expected, sum(one.reported for one in stated))),
        f"{sum(bool(one.is_covered) for one in stated)} of {len(stated)}",
        figure(share(n["found"], n["copies"])), figure(share(n["allowed"], n["copies"])),
        f"{share(n['allowed'] - n['found'], n['copies']):+.3f}",
        f"{n['below']:,}", f"{n['below_right']:,}", figure(share(also, n["copies"])),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def by_edit(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines below ``BY_EDIT``; a copy of several edits counts for each."""
    fates = pd.DataFrame(
        [
            (one.edits, edit, fate)
            for one in outcomes
            for edits, fate in one.fates
            for edit in edits
        ],
        columns=["edits", "edit", "fate"],
    )
    for (edits, edit), part in fates.groupby(["edits", "edit"])["fate"]:
        shares = [
            part.isin(good).mean()
            for good in ((REPORTED,), (REPORTED, BELOW), (REPORTED, BELOW, VERIFIED))
        ]
        cells = (str(edits), str(edit), f"{len(part):,}", *map(figure, shares))
        yield f"| {' | '.join(cells)} |"
