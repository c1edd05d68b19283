"""Placements of drawn images in each other, beside the maps that they were moved by."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from dedup.verification.alignment import (
    MAX_DISTANCE,
    MIN_INLIERS,
    RATIO,
    Alignment,
    LocalFeatures,
    align,
    align_whole,
    matches,
)
from dedup.verification.keypoints import Keypoints, RgbImage, mirrored, root
from tests.conftest import draw
from tests.verification.test_keypoints import patches

Matrix = npt.NDArray[np.float64]
SIZE = (160, 200)
"""Height and width of the images that are moved."""


def similarity(scale: float, degrees: float, x: float, y: float) -> Matrix:
    """Turned and scaled about the origin, then moved."""
    angle = np.radians(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


def moved(image: RgbImage, matrix: Matrix, size: tuple[int, int] = (240, 320)) -> RgbImage:
    """The image under a map, on grey ground, (height, width)."""
    height, width = size
    return np.asarray(
        cv2.warpAffine(image, matrix, (width, height), borderValue=(128, 128, 128)), np.uint8
    )


def flipped(image: RgbImage) -> RgbImage:
    return np.ascontiguousarray(image[:, ::-1])


def miss(found: Matrix, true: Matrix, size: tuple[int, int] = SIZE) -> float:
    """How far the corners of an image are from where they should be, in pixels at most."""
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float)
    return float(np.linalg.norm(corners @ (found - true).T, axis=1).max())


MOVES = {
    "as it is": similarity(1, 0, 0, 0),
    "moved": similarity(1, 0, 70, 40),
    "turned": similarity(1, 12, 60, 10),
    "larger": similarity(1.3, 0, 20, 12),
    "smaller, turned back": similarity(0.7, -8, 30, 60),
    "squeezed": np.array([[0.75, 0, 15], [0, 1.1, 9]]),
    "slanted": np.array([[1, 0.12, 10], [0.02, 1.1, 20]]),
}


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("name", MOVES)
def test_a_moved_image_is_placed_where_it_lies(name: str, is_mirrored: bool) -> None:
    image = patches(list(MOVES).index(name), SIZE)
    shown = flipped(image) if is_mirrored else image
    placed = align(LocalFeatures.of(image), LocalFeatures.of(moved(shown, MOVES[name])))
    assert placed is not None
    assert placed.mirrored == is_mirrored
    assert miss(placed.matrix, MOVES[name]) < 2
    assert MIN_INLIERS <= placed.n_inliers <= placed.n_matches


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_crop_is_placed_in_the_whole(is_mirrored: bool) -> None:
    image = patches(20)
    part = np.ascontiguousarray(image[60:200, 90:280])
    shown = flipped(part) if is_mirrored else part
    placed = align(LocalFeatures.of(shown), LocalFeatures.of(image))
    assert placed is not None
    assert placed.mirrored == is_mirrored
    assert miss(placed.matrix, similarity(1, 0, 90, 60), part.shape[:2]) < 2


def test_the_other_way_round_is_the_inverse() -> None:
    one, other = patches(21, SIZE), moved(patches(21, SIZE), MOVES["turned"])
    there, back = (
        align(LocalFeatures.of(one), LocalFeatures.of(other)),
        align(LocalFeatures.of(other), LocalFeatures.of(one)),
    )
    assert there is not None
    assert back is not None
    last = [[0, 0, 1]]
    round_trip = np.vstack([back.matrix, last]) @ np.vstack([there.matrix, last])
    assert miss(round_trip[:2], similarity(1, 0, 0, 0)) < 3


def test_unlike_images_are_not_placed() -> None:
    seen = [LocalFeatures.of(patches(seed, (120, 160))) for seed in range(30, 40)]
    rng = np.random.default_rng(0)
    seen += [LocalFeatures.of(rng.integers(0, 256, (120, 160, 3), np.uint8)) for _ in range(2)]
    placed = [align(one, other) for one in seen for other in seen if one is not other]
    assert sum(it is not None for it in placed) <= 1
    assert not any(align_whole(one, other) for one in seen for other in seen if one is not other)


@pytest.mark.parametrize("size", [(1, 1), (2, 90), (120, 160)])
def test_a_flat_image_is_placed_nowhere(size: tuple[int, int]) -> None:
    flat, image = (
        LocalFeatures.of(np.full((*size, 3), 200, np.uint8)),
        LocalFeatures.of(patches(0, (120, 160))),
    )
    height, width = size
    assert flat.box == (0, 0, width, height)
    for one, other in ((flat, image), (image, flat), (flat, flat)):
        assert align(one, other) is None
        assert align_whole(one, other) == []


def smooth(seed: int, size: tuple[int, int] = (160, 120)) -> RgbImage:
    """An image without corners, (width, height)."""
    return np.asarray(draw(seed, size))


def framed(image: RgbImage, top: int, left: int, bottom: int, right: int) -> RgbImage:
    """On white ground."""
    sides = ((top, bottom), (left, right), (0, 0))
    return np.pad(image, sides, constant_values=255)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_wholes_are_laid_from_border_to_border(seed: int, is_mirrored: bool) -> None:
    image = smooth(seed)
    larger = np.asarray(draw(seed, (240, 150)))
    shown = framed(flipped(larger) if is_mirrored else larger, 20, 40, 30, 10)
    laid = align_whole(LocalFeatures.of(framed(image, 6, 4, 8, 12)), LocalFeatures.of(shown))
    assert [it.mirrored for it in laid] == [is_mirrored]
    left = 12 if is_mirrored else 4  # of the image in its frame, once mirrored
    expected = np.array([[240 / 160, 0, 40 - left * 240 / 160], [0, 150 / 120, 20 - 6 * 150 / 120]])
    assert miss(laid[0].matrix, expected, (134, 176)) < 4
    assert (laid[0].n_matches, laid[0].n_inliers) == (0, 0)


def test_other_wholes_are_not_laid_over_each_other() -> None:
    seen = [LocalFeatures.of(smooth(seed)) for seed in range(8)]
    assert not any(align_whole(one, other) for one in seen for other in seen if one is not other)
    negative = LocalFeatures.of(np.asarray(255 - smooth(0), np.uint8))
    assert align_whole(seen[0], negative) == []


def test_what_lies_inside_a_border() -> None:
    seen = LocalFeatures.of(framed(smooth(0) // 2, 11, 7, 5, 3))
    assert seen.box == (7, 11, 160, 120)
    assert abs(float(seen.thumb.mean())) < 1e-6
    assert float(np.linalg.norm(seen.thumb)) == pytest.approx(1)
    assert not LocalFeatures.of(np.full((50, 40, 3), 9, np.uint8)).thumb.any()


def slow_matches(one: Keypoints, other: Keypoints) -> list[tuple[int, int]]:
    """Each keypoint beside each other one."""
    a, b = root(one.descriptors).astype(float), root(other.descriptors).astype(float)
    apart = np.array([[np.linalg.norm(here - there) for there in b] for here in a])
    found = []
    for row in range(len(a)):
        column = int(apart[row].argmin())
        second = np.delete(apart[row], column).min()
        near = apart[row, column]
        if apart[:, column].argmin() == row and near < MAX_DISTANCE and near < RATIO * second:
            found.append((row, column))
    return found


def test_matches_are_those_of_a_slow_loop() -> None:
    image = patches(50, (80, 100))
    one = LocalFeatures.of(image).keypoints
    noise = np.random.default_rng(0).normal(0, 12, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    for other in (
        LocalFeatures.of(noisy).keypoints,
        mirrored(one, 100),
        LocalFeatures.of(patches(51)).keypoints,
    ):
        left, right = matches(one, other)
        assert list(zip(left.tolist(), right.tolist(), strict=True)) == slow_matches(one, other)
    assert len(matches(one, LocalFeatures.of(noisy).keypoints)[0]) > 10
    few = Keypoints(one.places[:3], one.descriptors[:3])
    assert len(matches(few, one)[0]) == len(matches(one, few)[0]) == 0


def test_stretches_and_turn_of_a_placement() -> None:
    placed = Alignment(similarity(1.5, 30, 3, 4), False, 9, 8)
    assert placed.stretches == pytest.approx((1.5, 1.5))
    assert placed.turn == pytest.approx(30)
    squeezed = Alignment(np.array([[0.5, 0, 1], [0, 2.0, 1]]), False, 9, 8)
    assert squeezed.stretches == pytest.approx((2.0, 0.5))
    assert squeezed.turn == 0
