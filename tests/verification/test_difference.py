"""Regions that differ in two aligned images: what is found, what is explained, and where."""

import cv2
import numpy as np
import pytest

from dedup.augmentations import RgbImage
from dedup.verification.alignment import Alignment, LocalFeatures
from dedup.verification.difference import (
    NOTHING,
    SMALLEST,
    Difference,
    Region,
    differ,
    difference_in_words,
)

STRAIGHT = Alignment(np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, 0, 0)


def packshot(
    amount: str = "250 ml", badge: str = "", ink: tuple[int, int, int] = (20, 90, 160)
) -> RgbImage:
    """A bottle with a label on white ground, (320, 320, 3)."""
    image = np.full((320, 320, 3), 255, np.uint8)
    cv2.rectangle(image, (110, 60), (210, 290), ink, -1)
    cv2.rectangle(image, (115, 120), (205, 220), (250, 250, 250), -1)
    cv2.putText(image, "AQUA", (122, 155), cv2.FONT_HERSHEY_SIMPLEX, 0.8, ink, 2)
    cv2.putText(image, amount, (124, 205), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
    if badge:
        cv2.circle(image, (265, 60), 32, (220, 20, 20), -1)
        cv2.putText(image, badge, (243, 68), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    return image


def compared(
    left: RgbImage, right: RgbImage, alignment: Alignment = STRAIGHT
) -> tuple[Difference, Region | None]:
    return differ(LocalFeatures.of(left), LocalFeatures.of(right), alignment)


def encoded(image: RgbImage, quality: int) -> RgbImage:
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def noisy(image: RgbImage) -> RgbImage:
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "edited",
    [
        packshot(),
        encoded(packshot(), 40),
        noisy(packshot()),
        np.clip(packshot() * 0.7 + 20, 0, 255).astype(np.uint8),
        cv2.GaussianBlur(packshot(), (0, 0), 1.2),
        cv2.warpAffine(
            packshot(), np.float32([[1, 0, 0.6], [0, 1, 0]]), (320, 320), borderMode=cv2.BORDER_WRAP
        ),
        np.repeat(cv2.cvtColor(packshot(), cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    ],
    ids=["equal", "jpeg", "noise", "tone", "blur", "part of a pixel off", "grey"],
)
def test_what_an_edit_does_everywhere_is_no_difference(edited: RgbImage) -> None:
    found, region = compared(packshot(), edited)
    assert found.area < SMALLEST
    assert found.rest > 0.95
    assert found.tinted < 0.01
    assert difference_in_words(found, region) == ""


def small_print(figure: str) -> RgbImage:
    """The bottle with a figure in letters of ten pixels."""
    image = packshot()
    cv2.putText(image, figure, (150, 180), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (60, 60, 60), 1)
    return image


@pytest.mark.parametrize("sigma", [0, 0.7, 1.2], ids="blur {}".format)
@pytest.mark.parametrize("shrunk", [1, 0.6], ids="times {}".format)
def test_one_other_character_lacks_more_than_any_edit_of_a_copy(
    sigma: float, shrunk: float
) -> None:
    def edited(image: RgbImage) -> RgbImage:
        side = round(320 * shrunk)
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        large = cv2.resize(encoded(small, 70), (320, 320))
        return cv2.GaussianBlur(large, (0, 0), sigma) if sigma else large

    copy, _ = compared(small_print("SPF 30"), edited(small_print("SPF 30")))
    other, _ = compared(small_print("SPF 30"), edited(small_print("SPF 50")))
    assert 2 * copy.mismatch < other.mismatch
    assert 2 * copy.mismatch_spot < other.mismatch_spot


def test_another_amount_on_a_label_is_found() -> None:
    found, region = compared(packshot("250 ml"), packshot("500 ml"))
    assert region is not None
    assert 0.35 < region.left < 0.5
    assert 0.5 < region.top < 0.65
    assert found.rest > 0.9
    assert found.both > 0.35
    assert "other content" in difference_in_words(found, region)


@pytest.mark.parametrize("turned_round", [False, True])
def test_a_badge_is_found_where_it_is(turned_round: bool) -> None:
    pair = (packshot(), packshot(badge="x6"))
    found, region = compared(*(pair[::-1] if turned_round else pair))
    assert region is not None
    assert found.both < 0.35
    assert difference_in_words(found, region).startswith("top right differs (")
    assert "added" in difference_in_words(found, region)


def test_the_region_of_a_mirrored_copy_lies_in_the_right_image() -> None:
    mirrored = np.ascontiguousarray(packshot(badge="x6")[:, ::-1])
    alignment = STRAIGHT._replace(mirrored=True)
    _, region = compared(packshot(), mirrored, alignment)
    assert region is not None
    assert region.left < 0.3


def test_another_colour_of_the_product_alone_is_tinted() -> None:
    red, _ = compared(packshot(), packshot(ink=(170, 40, 30)))
    assert red.tinted > 0.05
    warm = np.clip(packshot() * np.array([1.0, 0.97, 0.88]), 0, 255).astype(np.uint8)
    lit, _ = compared(packshot(), warm)
    assert lit.tinted < 0.02


def test_chroma_tells_a_grey_image_from_a_grey_product() -> None:
    gray, _ = compared(packshot(), encoded(np.repeat(packshot()[..., :1], 3, axis=2), 80))
    assert gray.pale < 2 < gray.vivid


def test_keypoints_of_one_image_agree() -> None:
    same, _ = compared(packshot(badge="x6"), packshot(badge="x6"))
    assert same.repeated > 0.9
    assert 0 < same.spread <= 1
    assert 0 < same.hull <= 1.01


def test_images_beside_each_other_have_nothing_to_compare() -> None:
    apart = STRAIGHT._replace(matrix=np.array([[1.0, 0, 400], [0, 1.0, 0]]))
    assert compared(packshot(), packshot(), apart) == (NOTHING, None)


def test_blank_images_do_not_differ() -> None:
    blank = np.full((90, 120, 3), 255, np.uint8)
    found, region = compared(blank, blank)
    assert region is None
    assert all(np.isfinite(found))
