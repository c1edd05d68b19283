"""GrabCut from the middle: what it finds, and that nothing but the image decides."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from dedup.foregrounds import reject_implausible
from dedup.foregrounds.grabcut import GrabCut
from tests.support.drawn_scenes import agreement, garment, ground


@pytest.mark.parametrize("seed", [0, 1])
def test_it_finds_a_garment_on_any_ground(seed: int) -> None:
    image, truth = garment(seed)
    before = image.copy()
    mask = GrabCut()(image)
    assert agreement(mask, truth) > 0.9
    assert mask is not None
    assert (mask.shape, mask.dtype) == (truth.shape, np.uint8)
    assert len(np.unique(mask)) > 2  # soft edges
    assert np.array_equal(image, before)


def test_the_image_alone_decides() -> None:
    images = [garment(seed)[0] for seed in range(4)]
    find = GrabCut(side=64)
    alone = [find(image) for image in images]
    cv2.setRNGSeed(12345)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(find, images[::-1]))[::-1]
    for one, other in zip(alone, together, strict=True):
        assert one is not None
        assert np.array_equal(one, other)


def test_a_mask_that_is_too_small_or_too_large_is_none() -> None:
    image, truth = garment(0)
    share = truth.mean()
    assert GrabCut(side=64, most_area=share - 0.05)(image) is None
    assert GrabCut(side=64, least_area=share + 0.05)(image) is None
    assert GrabCut(side=64)(image) is not None


@pytest.mark.parametrize("shape", [(1, 1), (3, 300), (300, 3), (7, 7), (20, 20)])
def test_odd_images_do_no_harm(shape: tuple[int, int]) -> None:
    for image in (np.full((*shape, 3), 200, np.uint8), ground(0, *shape)):
        mask = GrabCut()(image)
        assert mask is None or mask.shape == shape


def test_the_guard_looks_at_area_and_border() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[2:8, 5:15] = 255
    assert reject_implausible(mask, 0.3, 0.3, 0) is mask
    assert reject_implausible(mask, 0.31, 1, 0) is None
    assert reject_implausible(mask, 0, 0.29, 0) is None
    mask[0] = 255  # 20 of 56 outermost pixels
    assert reject_implausible(mask, 0, 1, 20 / 56) is mask
    assert reject_implausible(mask, 0, 1, 19 / 56) is None


def test_what_decides_the_masks_is_said() -> None:
    assert GrabCut().identity == GrabCut().identity
    assert GrabCut(side=100).identity != GrabCut().identity
