"""A product's colours under another light, and in another colour."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000

from dedup.augmentations import edit
from dedup.augmentations.background import coverage
from dedup.verification.alignment import Alignment, LocalFeatures
from dedup.verification.colour import Colours, compare_colours
from dedup.verification.keypoints import RgbImage
from dedup.verification.relations import LIKE
from tests.conftest import draw

APART = 4.0
"""CIEDE2000 by which two colours of these products differ, at least."""

PLACED = Alignment(np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, 50, 40)
INSIDE = (slice(20, 140), slice(30, 130))


def product(seed: int) -> RgbImage:
    """A patterned product of strong colours on a grey ground, (160, 160, 3)."""
    rng = np.random.default_rng(seed)
    image = np.full((160, 160, 3), 180, np.uint8)
    image[INSIDE] = np.asarray(draw(seed, (100, 120)))
    hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hue[INSIDE][..., 0] = hue[INSIDE][..., 0] // 8 + np.uint8(rng.integers(256))
    hue[INSIDE][..., 1] = 150
    coloured = np.asarray(cv2.cvtColor(hue, cv2.COLOR_HSV2RGB_FULL), np.uint8)
    return np.asarray(np.where(mask(image)[..., None] > 0, coloured, image), np.uint8)


def mask(image: RgbImage) -> RgbImage:
    """Where ``product`` put it."""
    found = np.zeros(image.shape[:2], np.uint8)
    found[INSIDE] = 255
    return found


def turned(image: RgbImage, degrees: float) -> RgbImage:
    """The product in another hue, the ground as it is."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    other = cv2.merge([hue + np.uint8(degrees / 360 * 256), saturation, value])
    return np.asarray(cv2.cvtColor(other, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def seen(image: RgbImage) -> LocalFeatures:
    return LocalFeatures.of(image, mask(image))


def apart(
    one: RgbImage, other: RgbImage, look: Callable[[RgbImage], LocalFeatures] = seen
) -> float:
    found = compare_colours(look(one), look(other), PLACED)
    assert found is not None
    return found.apart


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_another_hue_is_another_colour(seed: int, degrees: int) -> None:
    image = product(seed)
    found = compare_colours(seen(image), seen(turned(image, degrees)), PLACED)
    assert found is not None
    assert found.apart >= APART
    assert found.within >= 0.75


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize(
    "name", ["white_balance", "brightness", "gamma", "saturation", "fade", "haze", "gray", "sepia"]
)
def test_another_light_is_not(name: str, strength: float) -> None:
    for seed in range(3):
        image = product(seed)
        lit = edit(image, name, strength, np.random.default_rng(seed))
        assert apart(image, lit) <= LIKE
        assert apart(lit, image) <= LIKE


@pytest.mark.parametrize("gains", [(1.25, 1, 0.8), (0.8, 1, 1.25)])
def test_nor_is_a_lamp_though_its_light_differs_more(gains: tuple[float, float, float]) -> None:
    image = product(1)
    lit = np.clip(image * np.array(gains) * 0.8, 0, 255).astype(np.uint8)
    labs = [
        cv2.cvtColor(it.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[INSIDE] for it in (image, lit)
    ]
    assert deltaE_ciede2000(*labs).mean() > 2 * APART
    assert apart(image, lit) <= LIKE


def test_a_variant_in_another_light_is_still_one() -> None:
    image = product(2)
    variant = edit(turned(image, 120), "brightness", 0.7, np.random.default_rng(0))
    assert apart(image, variant) >= APART


def faded(image: RgbImage, low: int, where: RgbImage) -> RgbImage:
    """The image with its blacks lifted to ``low``, in a part of it."""
    lifted = low + image.astype(np.float32) * (255 - low) / 255
    return np.where(where[..., None] > 0, lifted, image).astype(np.uint8)


def measured(one: RgbImage, other: RgbImage) -> Colours:
    found = compare_colours(seen(one), seen(other), PLACED)
    assert found is not None
    assert np.isfinite(found).all()
    return found


@pytest.mark.parametrize("seed", range(3))
def test_between_black_and_grey_the_ground_tells(seed: int) -> None:
    image = product(seed) // 4
    image[mask(image) == 0] = (150, 140, 120)
    everywhere = np.full((160, 160), 255, np.uint8)
    copy, variant = faded(image, 90, everywhere), faded(image, 90, mask(image))
    by_light, by_dye = measured(image, copy), measured(image, variant)
    assert by_light.apart <= LIKE
    assert by_dye.apart <= LIKE  # a rule fits both
    assert by_light.moved == pytest.approx(by_dye.moved, abs=0.5)
    assert by_light.lighter == pytest.approx(by_dye.lighter, abs=0.5)
    assert by_light.ground > 10
    assert by_dye.ground < 1
    assert by_dye.lit == pytest.approx(by_dye.moved, abs=0.5)
    assert by_light.folds < 0
    assert measured(copy, image) == pytest.approx(by_light, abs=6)
    assert measured(copy, image).folds == pytest.approx(by_light.folds, abs=0.02)
    lamp = np.clip(image * 1.5, 0, 255).astype(np.uint8)
    assert measured(image, lamp).lit < 2 < measured(image, lamp).moved
    assert measured(image, lamp).folds > 0


def test_without_a_ground_nothing_is_said_of_it() -> None:
    image = np.ascontiguousarray(product(1)[INSIDE])
    whole = LocalFeatures.of(image, np.full(image.shape[:2], 255, np.uint8))
    found = compare_colours(whole, whole, PLACED)
    assert found is not None
    assert (found.ground, found.paper) == (-1, 0)
    assert found.lit == found.moved < 0.1


def test_the_ground_does_not_count() -> None:
    image = product(0)
    other = np.where(mask(image)[..., None] > 0, image, np.uint8([40, 160, 60]))
    assert apart(image, np.asarray(other, np.uint8)) <= 1
    everything = np.full((8, 8), 255, np.uint8)
    whole = apart(image, turned(image, 180), lambda it: LocalFeatures.of(it, everything))
    assert whole < apart(image, turned(image, 180))


@pytest.mark.parametrize("part", [np.s_[:, :], INSIDE])
def test_without_a_mask_the_product_is_looked_for_or_the_middle_is_taken(
    part: tuple[slice, slice],
) -> None:
    image = product(0)
    one, other = (np.ascontiguousarray(it[part]) for it in (image, turned(image, 180)))
    assert (coverage(one) is None) == (part is INSIDE)
    assert apart(one, other, LocalFeatures.of) >= APART


def test_of_a_mirrored_image_the_mask_is_mirrored_too() -> None:
    image = product(0)
    image[:, 80:] = image[:, :80]
    left = np.zeros((160, 160), np.uint8)
    left[:, :70] = 255  # not up to the edge, which is blurred
    other = turned(image, 180)
    other[:, :80] = image[:, :80]
    one = LocalFeatures.of(
        np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(left[:, ::-1])
    )
    found = compare_colours(one, LocalFeatures.of(other, left), PLACED._replace(mirrored=True))
    assert found is not None
    assert found.apart < 0.1


def test_products_that_do_not_overlap_say_nothing() -> None:
    image = seen(product(0))
    aside = PLACED._replace(matrix=np.array([[1.0, 0, 155], [0, 1.0, 0]]))
    assert compare_colours(image, image, aside) is None


def test_flat_images_are_compared_without_complaint() -> None:
    flat = np.full((90, 90, 3), 120, np.uint8)
    found = compare_colours(LocalFeatures.of(flat), LocalFeatures.of(flat), PLACED)
    assert found is not None
    assert found.apart < 0.01
    assert found.within == -1
