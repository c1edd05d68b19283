"""What edits leave in pixels, on photo-like images that were saved, resized and framed."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dedup.verification.alignment import Alignment, LocalFeatures
from dedup.verification.appearance import agree
from dedup.verification.geometric import GeometricVerifier
from dedup.verification.keypoints import RgbImage
from dedup.verification.traces import BLOCKY, FRAME, GROUND, NO_BAND, band, block_grid, trace
from tests.conftest import draw
from tests.verification.test_keypoints import patches

STAY = np.array([[1.0, 0, 0], [0, 1.0, 0]])


def photo(seed: int, size: tuple[int, int] = (240, 200)) -> RgbImage:
    """Smooth parts, edges and a little grain, (width, height) in pixels."""
    smooth, edges = np.asarray(draw(seed, size), float), patches(seed, size[::-1]).astype(float)
    grain = np.random.default_rng(seed).normal(0, 3, (*size[::-1], 1))
    mixed = cv2.GaussianBlur(0.6 * smooth + 0.4 * edges, (0, 0), 0.7) + grain
    return np.clip(mixed, 0, 255).astype(np.uint8)


def saved(image: RgbImage, quality: int) -> RgbImage:
    """The image after JPEG's losses."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(image: RgbImage, share: float) -> RgbImage:
    """A smaller image, as large as before."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * share), round(height * share)))
    return np.asarray(cv2.resize(small, (width, height)))


@pytest.mark.parametrize("seed", range(3))
def test_a_strong_recompression_leaves_a_grid_and_other_edits_do_not(seed: int) -> None:
    image = saved(photo(seed), 92)
    grids = [block_grid(saved(image, quality)) for quality in (50, 35, 20)]
    assert grids == sorted(grids)
    assert grids[1] - block_grid(image) > BLOCKY
    for other in (resized(image, 0.5), resized(image, 0.7), cv2.GaussianBlur(image, (3, 3), 1),
                  cv2.convertScaleAbs(image, alpha=0.9, beta=9)):  # fmt: skip
        assert abs(block_grid(np.asarray(other)) - block_grid(image)) < BLOCKY
    # A grid whose blocks begin elsewhere is that of a crop, and says nothing of this image.
    assert block_grid(saved(image, 35)[3:, 3:]) < BLOCKY


def test_pixels_are_compared_one_by_one_where_they_lie_on_each_other() -> None:
    image = photo(1)
    found = trace(image, saved(image, 35), STAY)
    assert found is not None
    expected = np.abs(image.astype(int) - saved(image, 35)).mean()
    assert found.difference == pytest.approx(expected)
    same = trace(image, image, STAY + 0.001)
    assert same is not None
    assert same == (0.0, 0.0)
    assert trace(image, image[:-1], STAY) is None
    assert trace(image, image, np.array([[1.0, 0, 3], [0, 1.0, 0]])) is None
    assert trace(image, image, np.array([[1.02, 0, 0], [0, 1.02, 0]])) is None
    small = photo(2, (20, 20))
    assert trace(small, saved(small, 20), STAY) is not None


def placed(x: int, y: int) -> np.ndarray:
    return np.array([[1.0, 0, x], [0, 1.0, y]])


@pytest.mark.parametrize(
    ("sides", "colour"),
    [((20, 20, 30, 30), (0, 0, 80)), ((0, 40, 0, 0), (255, 255, 255)), ((9, 9, 9, 9), (0, 255, 0))],
)
def test_a_flat_border_is_a_frame_and_the_rest_of_a_photo_is_not(
    sides: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    top, bottom, left, right = sides
    image = photo(3)
    framed = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=colour)
    assert band(saved(np.asarray(framed), 80), image, placed(left, top)) == FRAME
    larger = photo(4, (300, 300))
    assert band(larger, larger[20:260, 30:270], placed(30, 20)) == NO_BAND
    assert band(image, image, STAY) == NO_BAND


def test_a_margin_of_the_images_own_ground_may_have_been_added_or_cut_off() -> None:
    image = np.full((200, 240, 3), 250, np.uint8)
    image[50:150, 60:180] = photo(5, (120, 100))
    assert band(saved(image, 80), image[20:180, 30:210], placed(30, 20)) == GROUND
    inner = image[20:180, 30:210]
    assert agree(inner, image, LAID).band == GROUND  # type: ignore[union-attr]


LAID = Alignment(placed(30, 20), False, 50, 40)


@pytest.mark.parametrize("swap", [False, True])
def test_a_verdict_says_what_was_done(swap: bool) -> None:
    image = saved(photo(6), 92)
    framed = np.full((image.shape[0] + 48, image.shape[1] + 48, 3), (0, 0, 90), np.uint8)
    framed[24:-24, 24:-24] = image
    large = saved(photo(6, (640, 480)), 92)

    def said(one: RgbImage, other: RgbImage) -> str:
        pair = (LocalFeatures.of(one), LocalFeatures.of(other))
        (verdict,) = GeometricVerifier()([pair[::-1] if swap else pair])
        return verdict.evidence

    assert said(image, image) == "no difference seen"
    assert said(image, saved(image, 35)) == "recompressed"
    assert said(image, framed).startswith("border added, 3")
    assert said(image, framed[:, ::-1].copy()).startswith("mirrored, border added, 3")
    assert "border" not in said(large, large[30:450, 40:600])
    small, again = (
        np.asarray(Image.fromarray(each).resize((320, 240))) for each in (large, saved(large, 35))
    )
    assert said(small, again).startswith("the same image, small differences in pixels: mean ")
