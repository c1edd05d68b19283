"""A second look at candidate pairs: the one image is laid over the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dedup.runtime.digits import score
from dedup.schemas import AUTO
from dedup.verification.alignment import Alignment, LocalFeatures, align, align_whole
from dedup.verification.appearance import Agreement, agree
from dedup.verification.classifier import CopyClassifier, colour_blind, features
from dedup.verification.colour import compare_colours
from dedup.verification.relations import N_INLIERS, NOTHING, VARIANT, relation

Floats = npt.NDArray[np.float64]

SURE_INLIERS = 15
"""Matches in agreement from which on the placement by keypoints is the only one looked at."""

SAME = "no edit seen"
"""What was done to one of two images where nothing was."""

MIN_STRUCTURE = 0.5
"""Agreement of structure from which on the products' colours are compared, whatever else."""


class AlignedPair(NamedTuple):
    """One way to lay an image over another, and what is then seen."""

    alignment: Alignment
    agreement: Agreement


class Verdict(NamedTuple):
    """What a second look at two images gave.

    Attributes:
        log_odds: how surely the one is a copy of the other, as log odds; -inf where they could not
            be laid over each other.
        placement: the best one.
        relation: what the two are to each other that need not be copies, see ``relations``.
        alike: log odds of a copy, were the colours equal; NaN where colours were not compared.
    """

    log_odds: float
    placement: AlignedPair | None
    relation: str = NOTHING
    alike: float = np.nan

    @property
    def score(self) -> float:
        """The same as a probability, 0 to 1, see ``rounding.score``."""
        return float(score(self.log_odds))

    @property
    def evidence(self) -> str:
        """What was seen, in words."""
        if self.placement is None:
            return ""
        said = in_words(self.placement)
        if self.relation != VARIANT:
            return said
        parts = [part for part in said.split(", ") if part not in ("other colours", SAME)]
        apart = self.placement.agreement.apart
        return ", ".join([*parts, f"other colours, {apart:.0f} CIEDE2000 apart"])


class GeometricVerifier:
    """Places one image in the other by keypoints, compares structure and colour, and judges.

    Args:
        min_score: least score of a pair that is reported, 0 to 1; ``auto`` for the one that gives
            ``matcher.precision``.
        word_candidates: images with visual words in common that are looked at, for each image
            on average.
        near_candidates: likewise near ones, where ``matcher.threshold`` is ``auto``.
        judge: from what is seen to log odds; the bundled one if ``None``.
    """

    def __init__(
        self,
        min_score: float | str = AUTO,
        word_candidates: float = 8.0,
        near_candidates: float = 4.0,
        judge: CopyClassifier | None = None,
    ) -> None:
        self.min_score = min_score
        self.word_candidates = word_candidates
        self.near_candidates = near_candidates
        self.judge = CopyClassifier.load() if judge is None else judge

    def __call__(
        self, pairs: Iterable[tuple[LocalFeatures, LocalFeatures]], colours: bool = True
    ) -> list[Verdict]:
        """Look at pairs of images; a verdict does not depend on the other pairs.

        Without ``colours`` nobody asks what pairs are that are no copies, which is faster.
        """
        return self.verdicts([placements(one, other, colours) for one, other in pairs])

    def verdicts(self, looks: Sequence[Sequence[AlignedPair]]) -> list[Verdict]:
        """The verdicts on pairs that were already laid over each other."""
        rows = [features(*placement) for look in looks for placement in look]
        log_odds = self.judge.log_odds(rows)
        alike = self.judge.log_odds([colour_blind(row) for row in rows])
        ends = np.cumsum([len(look) for look in looks])
        parts = (slice(end - len(look), end) for look, end in zip(looks, ends, strict=True))
        return [
            _verdict(look, log_odds[part], alike[part])
            for look, part in zip(looks, parts, strict=True)
        ]


def _verdict(look: Sequence[AlignedPair], log_odds: Floats, alike: Floats) -> Verdict:
    """The verdict on one pair, from the log odds of each placement."""
    if not look:
        return Verdict(-np.inf, None)
    best = int(np.argmax(log_odds))
    compared = [at for at, it in enumerate(look) if not np.isnan(it.agreement.apart)]
    if not compared:
        return Verdict(float(log_odds[best]), look[best])
    at = compared[0]
    called = relation(*look[at], float(alike[at]))
    shown = look[at if called == VARIANT else best]
    return Verdict(float(log_odds[best]), shown, called, float(alike[at]))


def placements(one: LocalFeatures, other: LocalFeatures, colours: bool = True) -> list[AlignedPair]:
    """The believable ways to lay one image over the other."""
    placed = align(one, other)
    found = [] if placed is None else [placed]
    if placed is None or placed.n_inliers < SURE_INLIERS:
        found += align_whole(one, other)
    seen = ((it, agree(one.image, other.image, it)) for it in found)
    looks = [AlignedPair(it, agreement) for it, agreement in seen if agreement is not None]
    return _with_colours(one, other, looks) if colours else looks


def _with_colours(
    one: LocalFeatures, other: LocalFeatures, looks: list[AlignedPair]
) -> list[AlignedPair]:
    """The same; where much agrees, with the products' colours in the best placement."""
    at = max(range(len(looks)), key=lambda at: looks[at].agreement.structure, default=0)
    if not looks:
        return looks
    placed, seen = looks[at]
    if seen.structure < MIN_STRUCTURE and placed.n_inliers < N_INLIERS:
        return looks
    colours = compare_colours(one, other, placed)
    if colours is None:
        return looks
    seen = seen._replace(apart=colours.apart, within=colours.within)
    return [*looks[:at], AlignedPair(placed, seen), *looks[at + 1 :]]


def in_words(placement: AlignedPair) -> str:
    """What was done to one of two images, such as "mirrored, cropped to 80 % of the area"."""
    placed, seen = placement
    said = ["mirrored"] if placed.mirrored else []
    if min(seen.cover_one, seen.cover_other) < 0.9:
        if max(seen.cover_one, seen.cover_other) > 0.9:
            said.append(
                f"cropped to {min(seen.cover_one, seen.cover_other):.0%}".replace(
                    "%", " % of the area"
                )
            )
        else:
            said.append(
                f"{seen.cover_one:.0%} of one in {seen.cover_other:.0%} of the other".replace(
                    "%", " %"
                )
            )
    large, small = placed.stretches
    if large > 1.12 * small:
        said.append("squeezed")
    if abs(placed.turn) > 1.5:
        said.append(f"turned by {abs(placed.turn):.0f}°")
    if seen.gray:
        said.append("without colour")
    elif seen.hue > 20 and seen.chroma > 6:
        said.append("other colours")
    if seen.shift > 4 or abs(np.log(max(seen.gain, 0.1))) > 0.2:
        said.append("another tone")
    if seen.same < 0.85:
        said.append("parts differ")
    return ", ".join(said) or SAME
