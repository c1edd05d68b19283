"""A product's colours under another light, and in another colour."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000

from dedup.augmentations import edit
from dedup.augmentations.background import coverage
from dedup.verification.alignment import Alignment, Seen
from dedup.verification.colour import compare_colours
from dedup.verification.keypoints import Picture
from dedup.verification.relations import APART, LIKE, WITHIN
from tests.conftest import draw

PLACED = Alignment(np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, 50, 40)
INSIDE = (slice(20, 140), slice(30, 130))


def product(seed: int) -> Picture:
    """A patterned product of strong colours on a grey ground, (160, 160, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.full((160, 160, 3), 180, np.uint8)
    picture[INSIDE] = np.asarray(draw(seed, (100, 120)))
    hue = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)
    hue[INSIDE][..., 0] = hue[INSIDE][..., 0] // 8 + np.uint8(rng.integers(256))
    hue[INSIDE][..., 1] = 150
    coloured = np.asarray(cv2.cvtColor(hue, cv2.COLOR_HSV2RGB_FULL), np.uint8)
    return np.asarray(np.where(mask(picture)[..., None] > 0, coloured, picture), np.uint8)


def mask(picture: Picture) -> Picture:
    """Where ``product`` put it."""
    found = np.zeros(picture.shape[:2], np.uint8)
    found[INSIDE] = 255
    return found


def turned(picture: Picture, degrees: float) -> Picture:
    """The product in another hue, the ground as it is."""
    hue, saturation, value = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL))
    other = cv2.merge([hue + np.uint8(degrees / 360 * 256), saturation, value])
    return np.asarray(cv2.cvtColor(other, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def seen(picture: Picture) -> Seen:
    return Seen.of(picture, mask(picture))


def apart(one: Picture, other: Picture, look: Callable[[Picture], Seen] = seen) -> float:
    found = compare_colours(look(one), look(other), PLACED)
    assert found is not None
    return found.apart


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_another_hue_is_another_colour(seed: int, degrees: int) -> None:
    picture = product(seed)
    found = compare_colours(seen(picture), seen(turned(picture, degrees)), PLACED)
    assert found is not None
    assert found.apart >= APART
    assert found.within >= WITHIN


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(
    "name", ["white_balance", "brightness", "gamma", "saturation", "fade", "haze", "gray", "sepia"]
)
def test_another_light_is_not(name: str, strength: float) -> None:
    for seed in range(3):
        picture = product(seed)
        lit = edit(picture, name, strength, np.random.default_rng(seed))
        assert apart(picture, lit) <= LIKE
        assert apart(lit, picture) <= LIKE


@pytest.mark.parametrize("gains", [(1.25, 1, 0.8), (0.8, 1, 1.25)])
def test_nor_is_a_lamp_though_its_light_differs_more(gains: tuple[float, float, float]) -> None:
    picture = product(1)
    lit = np.clip(picture * np.array(gains) * 0.8, 0, 255).astype(np.uint8)
    labs = [
        cv2.cvtColor(it.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[INSIDE]
        for it in (picture, lit)
    ]
    assert deltaE_ciede2000(*labs).mean() > 2 * APART
    assert apart(picture, lit) <= LIKE


def test_a_variant_in_another_light_is_still_one() -> None:
    picture = product(2)
    variant = edit(turned(picture, 120), "brightness", 0.7, np.random.default_rng(0))
    assert apart(picture, variant) >= APART


def test_the_ground_does_not_count() -> None:
    picture = product(0)
    other = np.where(mask(picture)[..., None] > 0, picture, np.uint8([40, 160, 60]))
    assert apart(picture, np.asarray(other, np.uint8)) <= 1
    everything = np.full((8, 8), 255, np.uint8)
    whole = apart(picture, turned(picture, 180), lambda it: Seen.of(it, everything))
    assert whole < apart(picture, turned(picture, 180))


@pytest.mark.parametrize("part", [np.s_[:, :], INSIDE])
def test_without_a_mask_the_product_is_looked_for_or_the_middle_is_taken(
    part: tuple[slice, slice],
) -> None:
    picture = product(0)
    one, other = (np.ascontiguousarray(it[part]) for it in (picture, turned(picture, 180)))
    assert (coverage(one) is None) == (part is INSIDE)
    assert apart(one, other, Seen.of) >= APART


def test_of_a_mirrored_picture_the_mask_is_mirrored_too() -> None:
    picture = product(0)
    picture[:, 80:] = picture[:, :80]
    left = np.zeros((160, 160), np.uint8)
    left[:, :70] = 255  # not up to the edge, which is blurred
    other = turned(picture, 180)
    other[:, :80] = picture[:, :80]
    one = Seen.of(np.ascontiguousarray(picture[:, ::-1]), np.ascontiguousarray(left[:, ::-1]))
    found = compare_colours(one, Seen.of(other, left), PLACED._replace(mirrored=True))
    assert found is not None
    assert found.apart < 0.1


def test_products_that_do_not_overlap_say_nothing() -> None:
    picture = seen(product(0))
    aside = PLACED._replace(matrix=np.array([[1.0, 0, 155], [0, 1.0, 0]]))
    assert compare_colours(picture, picture, aside) is None


def test_flat_pictures_are_compared_without_complaint() -> None:
    flat = np.full((90, 90, 3), 120, np.uint8)
    found = compare_colours(Seen.of(flat), Seen.of(flat), PLACED)
    assert found is not None
    assert found.apart < 0.01
    assert np.isnan(found.within)
