"""Verify candidate pairs: align two images, compare them, and classify them as copies or not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from dedup.errors import ConfigError
from dedup.runtime.digits import score
from dedup.runtime.parallel import in_order
from dedup.schemas import AUTO
from dedup.verification.alignment import Alignment, LocalFeatures, align, align_whole
from dedup.verification.appearance import WHOLE, Agreement, agree
from dedup.verification.classifier import (
    CopyClassifier,
    detail_blind,
    features,
)
from dedup.verification.colour import Colours, compare_colours
from dedup.verification.difference import Difference, Region, differ, difference_in_words
from dedup.verification.direction import ADDED, SET_IN, directed
from dedup.verification.relations import (
    N_AGREEING,
    N_INLIERS,
    NOTHING,
    SAME_PRODUCT,
    VARIANT,
    is_other_photo,
    is_turned,
    relation,
)
from dedup.verification.traces import BLOCKY, FRAME, GROUND, differences_in_words

Floats = npt.NDArray[np.float64]

SURE_INLIERS = 15
"""Inliers from which the alignment by keypoints is trusted alone. Goods without marks have fewer,
and are aligned by their borders too."""

SAME = "no difference seen"
"""Evidence of a pair whose compared pixels are equal."""

OTHER_COLOURS = "other colours"

NONE, XFEAT = "none", "xfeat"
"""Values of ``verifier.third_look``."""

ALMOST = 0.97
"""Share of an image, shown by both, from which nothing was cut off or added."""

MIN_STRUCTURE = 0.5
"""Agreement of structure from which two images are compared on, however few the inliers."""

ASKED = -4.0
"""Log odds, of a probability of .018, from which the copy is told from the original."""

LEAST_COVER = 0.4
"""Share of at least one image that a copy shows of the other. None of 6,717 edited copies showed
less than .5: what shares less is a corner of one room, or two collages with one filler."""

SHARED_PART = -4.0
"""Maximum log odds of a pair that shares less."""


class AlignedPair(NamedTuple):
    """An alignment of two images, their agreement under it, and what differs.

    Attributes:
        alignment: alignment of the left image with the right one.
        agreement: measures over the whole overlap.
        difference: measures of the regions that differ.
        region: the strongest of them, in the right image; ``None`` where none differs.
        colours: comparison of the product's colours; ``None`` where they were not compared.
    """

    alignment: Alignment
    agreement: Agreement
    difference: Difference
    region: Region | None
    colours: Colours | None = None


class Verdict(NamedTuple):
    """Result of the verification of two images.

    Attributes:
        log_odds: log odds that the images are copies; -inf where they could not be aligned.
        placement: the best alignment.
        relation: relation of two images that need not be copies, see ``relations``.
        alike: log odds that the images show one product in two colours; NaN where colours were not
            compared.
    """

    log_odds: float
    placement: AlignedPair | None
    relation: str = NOTHING
    alike: float = np.nan

    @property
    def score(self) -> float:
        """Probability that the images are copies, 0 to 1, see ``digits.score``."""
        return float(score(self.log_odds))

    @property
    def copy_of(self) -> float:
        """Which image is the copy, -1 (left) to 1 (right); 0 where unknown; see ``direction``."""
        if self.placement is None or self.relation == VARIANT:
            return 0.0
        return self.placement.agreement.copy_of

    @property
    def evidence(self) -> str:
        """Evidence in words, such as "mirrored, without colour"."""
        if self.placement is None:
            return ""
        colours = self.placement.colours
        if self.relation != VARIANT or colours is None:
            return in_words(self.placement)
        parts = [word for word in _edits(self.placement) if word != OTHER_COLOURS]
        return ", ".join([*parts, f"{OTHER_COLOURS}, {_apart(colours)}"])


def _apart(colours: Colours) -> str:
    """Say how far the products' mean colours lie apart: "lightness by 34 of 100, hue by 5"."""
    hue = float(np.sqrt(max(colours.moved**2 - colours.lighter**2, 0)))
    return f"lightness by {colours.lighter:.0f} of 100, hue by {hue:.0f}"


class LooksAgain(Protocol):
    """What ``third_look.ThirdLook`` is to the verifier."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides an alignment besides the images, as plain JSON values."""

    def __call__(
        self, pairs: Sequence[tuple[LocalFeatures, LocalFeatures]]
    ) -> list[Alignment | None]:
        """Align the products of pairs."""


class GeometricVerifier:
    """Verify pairs by keypoint alignment (RootSIFT, RANSAC), appearance, and a classifier.

    Args:
        min_score: minimum score of a reported pair, 0 to 1; ``auto`` chooses the score that gives
            ``matcher.precision``.
        word_candidates: nearest images by visual words that each image is compared with.
        near_candidates: candidates with near embeddings, a mean number for each image, for
            ``matcher.threshold=auto``.
        judge: classifier of the compared pairs; the bundled one if ``None``.
        third_look: ``none`` or ``xfeat``, see ``look_again``.

    Raises:
        ConfigError: ``third_look`` is another word, or its extra is not installed.
        ArtifactError: its weights are not the expected ones.
    """

    def __init__(
        self,
        min_score: float | str = AUTO,
        word_candidates: float = 8.0,
        near_candidates: float = 4.0,
        judge: CopyClassifier | None = None,
        third_look: str = NONE,
    ) -> None:
        self.min_score = min_score
        self.word_candidates = word_candidates
        self.near_candidates = near_candidates
        self.judge = CopyClassifier.load() if judge is None else judge
        self.third = _third_look(third_look)

    def __call__(self, pairs: Iterable[tuple[LocalFeatures, LocalFeatures]]) -> list[Verdict]:
        """Verify pairs of images; a verdict does not depend on the other pairs."""
        both = list(pairs)
        looks = [placements(left, right, plausible=True) for left, right in both]
        return directed_verdicts(both, self.verdicts(looks))

    def verdicts(self, pairs: Sequence[Sequence[AlignedPair]]) -> list[Verdict]:
        """Classify pairs that are aligned already; each pair has its possible alignments."""
        placed = [aligned for pair in pairs for aligned in pair]
        rows = [features(*aligned[:3], aligned.colours) for aligned in placed]
        but = [detail_blind(row) for row in rows]
        # At once: a walk through the trees takes about as long for many rows as for few.
        log_odds, of_but = self.judge.log_odds([*rows, *but]).reshape(2, -1)
        covers = [max(it.agreement.cover_one, it.agreement.cover_other) for it in placed]
        shares_part = np.array(covers) < LEAST_COVER
        for odds in (log_odds, of_but):
            odds[shares_part] = np.minimum(odds[shares_part], SHARED_PART)
        compared = np.array([aligned.colours is not None for aligned in placed], bool)
        variant = np.full(len(rows), np.nan)
        variant[compared] = self.judge.variant_log_odds(
            [row for row, it in zip(rows, placed, strict=True) if it.colours is not None]
        )
        ends = np.cumsum([len(pair) for pair in pairs])
        parts = (slice(end - len(pair), end) for pair, end in zip(pairs, ends, strict=True))
        return [
            _verdict(pair, log_odds[part], variant[part], of_but[part])
            for pair, part in zip(pairs, parts, strict=True)
        ]

    def look_again(
        self, pairs: Sequence[tuple[LocalFeatures, LocalFeatures]], verdicts: Sequence[Verdict]
    ) -> list[Verdict]:
        """Look a third time at pairs without a relation: is it another photo of the product?

        The score stays. Without a third look the verdicts stay as they are.

        Args:
            pairs: pairs of images.
            verdicts: their verdicts.
        """
        decided = list(verdicts)
        if self.third is None:
            return decided
        places = [at for at, verdict in enumerate(decided) if verdict.relation == NOTHING]
        alignments = self.third([pairs[at] for at in places])
        for at, alignment in zip(places, alignments, strict=True):
            if alignment is not None and _shows_one_product(*pairs[at], alignment):
                decided[at] = decided[at]._replace(relation=SAME_PRODUCT)
        return decided


def _third_look(name: str) -> LooksAgain | None:
    if name == NONE:
        return None
    if name != XFEAT:
        raise ConfigError(f"verifier.third_look={name} is unknown: use {NONE} or {XFEAT}")
    from dedup.verification.third_look import ThirdLook  # torch takes seconds to import

    return ThirdLook()


def _shows_one_product(left: LocalFeatures, right: LocalFeatures, alignment: Alignment) -> bool:
    """Tell whether an alignment of a third look shows one product; colours last, as they cost."""
    if alignment.n_inliers < N_AGREEING:
        return False
    colours = compare_colours(left, right, alignment)
    return colours is not None and is_other_photo(alignment.n_inliers, colours.apart)


def _verdict(
    pair: Sequence[AlignedPair], log_odds: Floats, variant: Floats, but: Floats
) -> Verdict:
    """Decide on a pair from the log odds of each of its alignments."""
    if not pair:
        return Verdict(-np.inf, None)
    best = int(np.argmax(log_odds))
    for at, aligned in enumerate(pair):
        if aligned.colours is not None:
            if is_turned(aligned.agreement):  # the other colours are sure, and all else is a copy's
                variant[at] = max(variant[at], log_odds[at])
            label = relation(
                aligned.alignment, aligned.colours, float(variant[at]), float(log_odds[at]),
                aligned.difference, float(but[at]),
            )  # fmt: skip
            shown = pair[at if label == VARIANT else best]
            return Verdict(float(log_odds[best]), shown, label, float(variant[at]))
    return Verdict(float(log_odds[best]), pair[best])


def directed_verdicts(
    pairs: Sequence[tuple[LocalFeatures, LocalFeatures]], verdicts: Sequence[Verdict]
) -> list[Verdict]:
    """Tell in each verdict on a pair which of its images is the copy.

    Pairs that are no copies (below ``ASKED``) and have no relation are not asked.
    """
    jobs = zip(pairs, verdicts, strict=True)
    return list(in_order(lambda job: _directed(*job[0], job[1]), jobs))


def _directed(left: LocalFeatures, right: LocalFeatures, verdict: Verdict) -> Verdict:
    shown = verdict.placement
    if shown is None or (verdict.log_odds < ASKED and verdict.relation == NOTHING):
        return verdict
    agreement = directed(left, right, shown.alignment, shown.agreement)
    return verdict._replace(placement=shown._replace(agreement=agreement))


def placements(
    left: LocalFeatures, right: LocalFeatures, plausible: bool = False
) -> list[AlignedPair]:
    """Find the alignments of two images, and compare the images under each.

    The products' colours are compared under the best one.

    Args:
        left: features of the image that is laid over the other.
        right: features of the other image.
        plausible: whether to leave out alignments with few inliers and little structure in common.
            They have no relation, as colours are not compared under them, and are no copies: of
            550 edited copies, alignments with so few inliers had a structure of .6 or more, and of
            900 candidates, those with less structure had log odds of -4.4 at most.
    """
    by_keypoints = align(left, right)
    alignments = [] if by_keypoints is None else [by_keypoints]
    if by_keypoints is None or by_keypoints.n_inliers < SURE_INLIERS:
        alignments += align_whole(left, right)
    compared = (
        (each, agree(left.image, right.image, each, _least_structure(each) if plausible else -1.0))
        for each in alignments
    )
    pairs = [
        AlignedPair(each, agreement, *differ(left, right, each))
        for each, agreement in compared
        if agreement is not None
    ]
    return _with_colours(left, right, pairs)


def _least_structure(alignment: Alignment) -> float:
    """Return the agreement of structure from which images are compared on."""
    return MIN_STRUCTURE if alignment.n_inliers < N_INLIERS else -1.0


def _with_colours(
    left: LocalFeatures, right: LocalFeatures, pairs: list[AlignedPair]
) -> list[AlignedPair]:
    """Compare the products' colours under the best alignment, if that is good enough."""
    at = max(range(len(pairs)), key=lambda at: pairs[at].agreement.structure, default=0)
    if not pairs:
        return pairs
    alignment, agreement, *_ = pairs[at]
    if agreement.structure < _least_structure(alignment):
        return pairs
    colours = compare_colours(left, right, alignment)
    return [*pairs[:at], pairs[at]._replace(colours=colours), *pairs[at + 1 :]]


def in_words(pair: AlignedPair) -> str:
    """Describe the edits seen in a pair, such as "mirrored, cropped to 80 % of the area".

    Without an edit that has a name, the difference of the pixels is said; ``SAME`` is said of equal
    pixels alone.
    """
    return ", ".join(_edits(pair)) or _differences(pair.agreement)


def _edits(pair: AlignedPair) -> list[str]:
    """Name the edits seen in a pair."""
    alignment, seen, *_ = pair
    words = ["mirrored"] if alignment.mirrored else []
    if min(seen.cover_one, seen.cover_other) < WHOLE:
        crop = _crop_in_words(seen.cover_one, seen.cover_other, seen.band)
        words.append(crop.replace("cropped to", f"{SET_IN},") if seen.trait == SET_IN else crop)
    large, small = alignment.stretches
    if large > 1.12 * small:
        words.append("squeezed")
    if abs(alignment.turn) > 1.5:
        words.append(f"turned by {abs(alignment.turn):.0f}°")
    if seen.gray:
        words.append("without colour")
    elif seen.hue > 20 and seen.chroma > 6:
        words.append(OTHER_COLOURS)
    if seen.shift > 4 or abs(np.log(max(seen.gain, 0.1))) > 0.2:
        words.append("another tone")
    if seen.blocky > BLOCKY:
        words.append("recompressed")
    if differs := difference_in_words(pair.difference, pair.region):
        words.append(differs)
    elif seen.same < 0.85:
        words.append("parts differ")
    return words + [trait for trait in ADDED if trait == seen.trait and trait not in words]


def _differences(seen: Agreement) -> str:
    """Describe a pair without an edit that has a name."""
    is_whole = min(seen.cover_one, seen.cover_other) >= ALMOST
    if is_whole and seen.difference == 0:
        return SAME
    shown = "the same image" if is_whole else "almost the whole image"
    return f"{shown}, {differences_in_words(seen.difference)}"


def _crop_in_words(left: float, right: float, band: float) -> str:
    """Describe the shares, 0 to 1, of two images that overlap."""
    least = min(left, right)
    if max(left, right) <= WHOLE:
        text = f"{left:.0%} of one in {right:.0%} of the other"
    elif band == FRAME:
        text = f"border added, {1 - least:.0%} of the area"
    elif band == GROUND:
        text = f"plain margin added or cut off, {1 - least:.0%} of the area"
    else:
        text = f"cropped to {least:.0%} of the area"
    return text.replace("%", " %")
