"""Second looks at drawn images that were edited, and what is said of them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dedup.verification.alignment import Alignment, LocalFeatures
from dedup.verification.appearance import Agreement
from dedup.verification.classifier import FEATURES, CopyClassifier, Trees
from dedup.verification.difference import Difference
from dedup.verification.geometric import (
    SHARED_PART,
    AlignedPair,
    GeometricVerifier,
    Verdict,
    in_words,
    placements,
)
from dedup.verification.keypoints import RgbImage
from dedup.verification.relations import NOTHING, SAME_PRODUCT, VARIANT
from dedup.verification.traces import FRAME, GROUND
from tests.conftest import draw
from tests.verification.test_keypoints import patches

SAME = Agreement(
    cover_one=1.0, cover_other=1.0, structure=1.0, same=1.0, textured=0.9, whole=1.0, hue=0.0,
    coloured=0.5, chroma=0.0, worst_chroma=0.0, tone=0.0, gain=1.0, shift=0.0, gray=0.0,
    worst_tone=0.0, tint=0.0, worst_tint=0.0, difference=0.0,
)  # fmt: skip
STRAIGHT = Alignment(np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, 50, 40)


def by_structure() -> CopyClassifier:
    """A judge of one tree: log odds 3 where structure is above a half, -2 elsewhere.

    Every pair is a colour variant with log odds -1.
    """
    trees = Trees(
        feature=np.array([[FEATURES.index("structure"), -1, -1]]),
        threshold=np.array([[0.5, 0, 0]]),
        left=np.array([[1, 0, 0]]),
        right=np.array([[2, 0, 0]]),
        value=np.array([[0, -2.0, 3.0]]),
        base=0.0,
        names=FEATURES,
    )
    return CopyClassifier(
        copy=trees,
        variant=replace(trees, value=np.full((1, 3), -1.0)),
        copies=np.array([2.0, 4.0, 6.0]),
        strangers=np.array([1.0, 2.0]),
        look_alikes=np.array([2.0, 6.0]),
    )


def flipped(image: RgbImage) -> RgbImage:
    return np.ascontiguousarray(image[:, ::-1])


def look(one: RgbImage, other: RgbImage, verifier: GeometricVerifier) -> Verdict:
    (verdict,) = verifier([(LocalFeatures.of(one), LocalFeatures.of(other))])
    return verdict


@pytest.mark.parametrize("seed", range(3))
def test_an_edited_copy_is_found_and_another_image_is_not(seed: int) -> None:
    verifier = GeometricVerifier(judge=by_structure())
    image = patches(seed, (160, 200))
    copy = flipped(image)[10:150, 20:180].copy()
    found = look(image, copy, verifier)
    assert found.log_odds == 3
    assert found.placement is not None
    assert found.placement.alignment.mirrored
    assert found.evidence.startswith("mirrored, cropped to ")
    other = look(image, patches(seed + 50, (160, 200)), verifier)
    assert other.log_odds < 0
    assert look(image, image, verifier).evidence == "no difference seen"


def in_other_hues(image: RgbImage, degrees: int) -> RgbImage:
    """Turn the hues, and keep the lightness; pale, so that all hues can be shown."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    turn = np.exp(1j * np.radians(degrees)) * (lab[..., 1] + 1j * lab[..., 2]) * 0.4
    lab[..., 0] = 30 + 0.4 * lab[..., 0]
    lab[..., 1], lab[..., 2] = turn.real, turn.imag
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray((np.clip(rgb, 0, 1) * 255).round(), np.uint8)


@pytest.mark.parametrize(
    ("degrees", "called"), [(0, ""), (10, ""), (120, VARIANT), (180, VARIANT), (240, VARIANT)]
)
def test_an_image_in_other_hues_is_a_variant_however_much_it_is_a_copy(
    degrees: int, called: str
) -> None:
    image = patches(5, (160, 200))
    judge = GeometricVerifier(judge=by_structure())
    found = look(in_other_hues(image, 0), in_other_hues(image, degrees), judge)
    assert found.log_odds == 3
    assert (found.relation == VARIANT) == (called == VARIANT)
    assert found.alike == (3 if called else -1)


def before(product: RgbImage, ground: RgbImage, at: tuple[int, int]) -> LocalFeatures:
    """A product somewhere on a ground, with the mask of it."""
    image, mask = ground.copy(), np.zeros(ground.shape[:2], np.uint8)
    place = tuple(slice(start, start + n) for start, n in zip(at, product.shape, strict=False))
    image[place], mask[place] = product, 255
    return LocalFeatures.of(image, mask)


def test_one_product_before_two_grounds_is_one_product() -> None:
    verifier, size = GeometricVerifier(judge=by_structure()), (240, 240)
    product, other = patches(1, (120, 110)), patches(2, (120, 110))
    grounds = patches(3, size), patches(4, size)
    first, again = before(product, grounds[0], (40, 60)), before(product, grounds[1], (80, 90))
    beside = before(other, grounds[0], (40, 60))
    found, nothing = verifier([(first, again), (first, beside)])
    assert found.relation == SAME_PRODUCT
    assert nothing.relation == NOTHING


def test_images_without_keypoints_are_laid_from_border_to_border() -> None:
    image = np.asarray(draw(3, (120, 160)))
    framed = np.pad(image, ((20, 20), (10, 30), (0, 0)), constant_values=255)
    found = placements(LocalFeatures.of(image), LocalFeatures.of(framed))
    assert found
    assert max(it.agreement.structure for it in found) > 0.8


def test_what_cannot_be_placed_is_no_copy() -> None:
    flat = np.full((90, 90, 3), 255, np.uint8)
    verdict = look(flat, patches(0, (90, 90)), GeometricVerifier())
    assert verdict == Verdict(-np.inf, None)
    assert verdict.score == 0
    assert verdict.evidence == ""
    assert GeometricVerifier()([]) == []


def test_the_surest_placement_counts() -> None:
    low = AlignedPair(STRAIGHT, SAME._replace(structure=0.1), Difference(), None)
    high = AlignedPair(STRAIGHT._replace(mirrored=True), SAME, Difference(), None)
    verifier = GeometricVerifier(judge=by_structure())
    verdicts = verifier.verdicts([[low, high], [], [low]])
    assert [it.log_odds for it in verdicts] == [3, -np.inf, -2]
    assert [it.placement for it in verdicts] == [high, None, low]
    assert verdicts[0].score == pytest.approx(1 / (1 + np.exp(-3)))


def test_what_shows_little_of_both_is_no_copy() -> None:
    verifier = GeometricVerifier(judge=by_structure())
    little = SAME._replace(cover_one=0.39, cover_other=0.2)
    enough = SAME._replace(cover_one=0.2, cover_other=0.4)
    pairs = [[AlignedPair(STRAIGHT, seen, Difference(), None)] for seen in (little, enough)]
    assert [it.log_odds for it in verifier.verdicts(pairs)] == [SHARED_PART, 3]


def test_a_verdict_does_not_depend_on_the_other_pairs() -> None:
    seen = [LocalFeatures.of(patches(seed, (100, 140))) for seed in range(2)]
    seen.append(LocalFeatures.of(patches(0, (100, 140))[5:, 9:].copy()))
    pairs = [(one, other) for one in seen for other in seen]
    verifier = GeometricVerifier()
    together = [it.log_odds for it in verifier(pairs)]
    alone = [verifier([pair])[0].log_odds for pair in pairs]
    assert together == alone == [it.log_odds for it in verifier(iter(pairs))]


def turned(degrees: float, across: float = 1.0) -> Alignment:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return STRAIGHT._replace(matrix=np.column_stack([turn @ np.diag([across, 1]), [0, 0]]))


@pytest.mark.parametrize(
    ("placed", "seen", "words"),
    [
        (STRAIGHT, {}, "no difference seen"),
        (
            STRAIGHT,
            {"difference": 3.14},
            "the same image, small differences in pixels: mean 3.1 of 255",
        ),
        (
            STRAIGHT,
            {"difference": 0.01},
            "the same image, small differences in pixels: mean under 0.1 of 255",
        ),
        (STRAIGHT, {"difference": 9.0}, "the same image, differences in pixels: mean 9.0 of 255"),
        (
            STRAIGHT,
            {"cover_one": 0.95, "difference": 2.0},
            "almost the whole image, small differences in pixels: mean 2.0 of 255",
        ),
        (STRAIGHT, {"blocky": 0.3, "difference": 3.0}, "recompressed"),
        (STRAIGHT, {"cover_one": 0.64, "band": FRAME}, "border added, 36 % of the area"),
        (
            STRAIGHT,
            {"cover_other": 0.8, "band": GROUND},
            "plain margin added or cut off, 20 % of the area",
        ),
        (STRAIGHT._replace(mirrored=True), {}, "mirrored"),
        (STRAIGHT, {"cover_one": 0.8}, "cropped to 80 % of the area"),
        (STRAIGHT, {"cover_other": 0.25}, "cropped to 25 % of the area"),
        (STRAIGHT, {"cover_one": 0.8, "cover_other": 0.5}, "80 % of one in 50 % of the other"),
        (turned(-12), {}, "turned by 12°"),
        (turned(0, 0.7), {}, "squeezed"),
        (STRAIGHT, {"gray": 1.0, "hue": 90.0}, "without colour"),
        (STRAIGHT, {"hue": 40.0, "chroma": 9.0}, "other colours"),
        (STRAIGHT, {"shift": 9.0}, "another tone"),
        (STRAIGHT, {"gain": 0.6}, "another tone"),
        (STRAIGHT, {"gain": -0.5}, "another tone"),
        (STRAIGHT, {"same": 0.6}, "parts differ"),
        (STRAIGHT._replace(mirrored=True), {"same": 0.6}, "mirrored, parts differ"),
    ],
)
def test_what_was_done_is_said(placed: Alignment, seen: dict[str, float], words: str) -> None:
    assert in_words(AlignedPair(placed, SAME._replace(**seen), Difference(), None)) == words
