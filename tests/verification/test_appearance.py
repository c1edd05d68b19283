"""What is seen in images that lie over each other, where it is known what was done to one."""

import cv2
import numpy as np
import pytest

from dedup.verification.alignment import Alignment
from dedup.verification.appearance import GRAY, Agreement, agree
from dedup.verification.keypoints import RgbImage
from tests.conftest import draw
from tests.verification.test_keypoints import patches

AS_IT_IS = Alignment(np.array([[1.0, 0, 0], [0, 1.0, 0]]), False, 50, 50)
EDITS = 4
"""Images that each property is looked at on."""


def coloured(seed: int, size: tuple[int, int] = (160, 200)) -> RgbImage:
    """An image of mild colours, (height, width): none is cut off when the tone changes."""
    return np.asarray(50 + patches(seed, size) * 0.5, np.uint8)


def seen(one: RgbImage, other: RgbImage, placed: Alignment = AS_IT_IS) -> Agreement:
    """What must be seen."""
    found = agree(one, other, placed)
    assert found is not None
    return found


def turned_hue(image: RgbImage, degrees: float) -> RgbImage:
    """Every colour turned in CIELAB, lightness kept."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    lab[..., 1:] = lab[..., 1:] @ turn.T
    back = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray(np.clip(back * 255, 0, 255), np.uint8)


@pytest.mark.parametrize("seed", range(EDITS))
def test_a_image_agrees_with_itself(seed: int) -> None:
    found = seen(coloured(seed), coloured(seed))
    for name in ("structure", "same", "whole", "cover_one", "gain"):
        assert getattr(found, name) == pytest.approx(1, abs=0.05), name
    assert found.cover_other > 0.95  # the outermost pixels are left out
    # Bounds are those of images made smaller: the one is, beside the other, by some subpixels.
    for name in ("hue", "chroma", "worst_chroma", "tone", "worst_tone", "tint", "worst_tint"):
        assert getattr(found, name) == pytest.approx(0, abs=3), name
    assert found.gray == 0
    assert found.shift < 0.1


def test_a_small_image_is_not_resized_and_agrees_exactly() -> None:
    found = seen(coloured(0, (100, 128)), coloured(0, (100, 128)))
    for name in ("hue", "chroma", "worst_chroma", "tone", "worst_tone", "tint", "worst_tint"):
        assert getattr(found, name) == pytest.approx(0, abs=1e-3), name


@pytest.mark.parametrize("seed", range(EDITS))
def test_a_mirrored_image_agrees_once_mirrored(seed: int) -> None:
    image = coloured(seed)
    flipped = np.ascontiguousarray(image[:, ::-1])
    assert seen(flipped, image, AS_IT_IS._replace(mirrored=True)) == seen(image, image)
    assert seen(flipped, image).structure < 0.4


@pytest.mark.parametrize("gain", [0.6, 0.8, 1.25])
def test_a_gain_is_measured(gain: float) -> None:
    image = np.asarray(coloured(7).mean(axis=2, keepdims=True).repeat(3, axis=2), np.uint8)
    lightness = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness[..., 0] = 50 + gain * (lightness[..., 0] - 50)
    other = np.asarray(cv2.cvtColor(lightness, cv2.COLOR_LAB2RGB) * 255 + 0.5, np.uint8)
    found = seen(image, other)
    assert found.gain == pytest.approx(gain, rel=0.03)
    assert found.tone < 0.5
    assert found.structure > 0.95


def test_a_brighter_image_is_shifted() -> None:
    image = coloured(8)
    brighter = np.asarray(np.clip(image * 1.25, 0, 255), np.uint8)
    found, same = seen(image, brighter), seen(image, image)
    assert found.shift > 8 > same.shift
    assert found.same > 0.95
    assert found.tone < 2


@pytest.mark.parametrize("degrees", [40, 90, 170])
def test_a_hue_is_measured(degrees: float) -> None:
    found = seen(coloured(9), turned_hue(coloured(9), degrees))
    assert found.hue == pytest.approx(degrees, abs=12)
    assert found.structure > 0.9
    assert found.tint > 3
    assert found.worst_tint >= found.tint


def test_paler_colours_fit_and_other_ones_do_not() -> None:
    image = coloured(10)
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 1:] = lab[..., 1:] * 0.6
    paler = np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255 + 0.5, np.uint8)
    one, other = seen(image, paler), seen(image, turned_hue(image, 60))
    assert one.tint < 1.2 < one.chroma
    assert other.tint > 4 * one.tint


def test_a_sticker_hides_a_part_alone() -> None:
    image = coloured(11)
    covered = image.copy()
    covered[20:80, 30:110] = (210, 30, 40)
    found = seen(image, covered)
    share = 60 * 80 / (160 * 200)
    assert 1 - 2.5 * share < found.same < 1 - 0.5 * share
    assert found.structure > 0.6
    assert found.hue < 10  # colours are compared where the same is seen


def test_a_image_without_colours_is_told() -> None:
    image = coloured(12)
    gray = np.asarray(image.mean(axis=2, keepdims=True).repeat(3, axis=2), np.uint8)
    assert seen(image, gray).gray == seen(gray, image).gray == 1
    both = seen(gray, gray)
    assert both.gray == 0
    assert both.hue == both.chroma == both.tint == 0
    assert GRAY > 0


def test_covers_are_shares_of_both() -> None:
    whole = coloured(13, (160, 200))
    part = np.ascontiguousarray(whole[20:120, 40:140])
    inside = AS_IT_IS._replace(matrix=np.array([[1.0, 0, 40], [0, 1.0, 20]]))
    found = seen(part, whole, inside)
    assert found.cover_one == pytest.approx(1, abs=0.12)  # less its outermost pixels
    assert found.cover_other == pytest.approx(100 * 100 / (160 * 200), abs=0.03)
    back = seen(whole, part, AS_IT_IS._replace(matrix=np.array([[1.0, 0, -40], [0, 1.0, -20]])))
    assert back.cover_other > 0.95
    assert back.cover_one == pytest.approx(100 * 100 / (160 * 200), abs=0.03)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_the_size_hardly_matters(scale: float) -> None:
    image = coloured(14, (320, 240))
    other = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    middle = np.array([[0, 0, 1], [0, 0, 1]]) * (scale - 1) / 2  # of a pixel is a whole number
    found = seen(
        image,
        np.asarray(other, np.uint8),
        AS_IT_IS._replace(matrix=AS_IT_IS.matrix * scale + middle),
    )
    assert found.structure > 0.95
    assert found.same > 0.97
    assert found.tone < 2.5
    assert found.cover_one > 0.9


@pytest.mark.parametrize("seed", range(EDITS))
def test_other_images_disagree(seed: int) -> None:
    found = seen(coloured(seed), coloured(seed + 100))
    assert found.structure < 0.4
    assert found.same < 0.4


def test_too_little_overlap_says_nothing() -> None:
    image = coloured(15)
    for x, y in ((500, 0), (0, -400), (197, 157)):
        away = AS_IT_IS._replace(matrix=np.array([[1.0, 0, x], [0, 1.0, y]]))
        assert agree(image, image, away) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (40, 40)])
def test_odd_sizes_and_flat_images_do_no_harm(size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 128, np.uint8)
    image = np.asarray(draw(0, size[::-1]))
    for one, other in ((flat, flat), (flat, image), (image, flat), (image, image)):
        found = agree(one, other, AS_IT_IS)
        if found is not None:
            assert np.isfinite([value for value in found if not isinstance(value, str)]).all()
