"""Keypoints of drawn images, against those of the same images mirrored, cropped and flat."""

import cv2
import numpy as np
import pytest
from PIL import Image

from dedup.verification.keypoints import (
    N_KEYPOINTS,
    PACKED,
    Keypoints,
    RgbImage,
    are_packed,
    find_keypoints,
    mirrored,
    pack,
    root,
    unpack,
)


def patches(seed: int, size: tuple[int, int] = (240, 320)) -> RgbImage:
    """An image of coloured spots, (height, width), which has many keypoints."""
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def agreeing(one: Keypoints, other: Keypoints) -> float:
    """Share of the one's keypoints that the other has within a pixel, with a like descriptor."""
    apart = np.linalg.norm(one.places[:, None] - other.places[None], axis=2)
    alike = root(one.descriptors) @ root(other.descriptors).T
    return float(((apart < 1) & (alike > 0.95)).any(axis=1).mean())


def test_a_mirrored_image_has_the_mirrored_keypoints() -> None:
    image = patches(0)
    turned = mirrored(find_keypoints(image), image.shape[1])
    assert agreeing(turned, find_keypoints(image[:, ::-1].copy())) > 0.8
    assert agreeing(find_keypoints(image), find_keypoints(image[:, ::-1].copy())) < 0.1


def test_two_mirrors_change_nothing() -> None:
    keypoints = find_keypoints(patches(1))
    twice = mirrored(mirrored(keypoints, 320), 320)
    assert np.array_equal(twice.descriptors, keypoints.descriptors)
    assert np.allclose(twice.places, keypoints.places, atol=1e-3)


def test_a_crop_keeps_its_keypoints() -> None:
    image = patches(2)
    part = find_keypoints(image[40:200, 60:280].copy())
    moved = Keypoints(part.places + np.array([60, 40], np.float32), part.descriptors)
    assert agreeing(moved, find_keypoints(image)) > 0.3


def test_keypoints_are_bounded_and_always_the_same() -> None:
    image = patches(3, (320, 320))
    one, other = find_keypoints(image), find_keypoints(image)
    assert one.places.shape == (N_KEYPOINTS, 2)
    assert one.descriptors.shape == (N_KEYPOINTS, 128)
    assert np.array_equal(one.places, other.places)
    assert np.array_equal(one.descriptors, other.descriptors)


@pytest.mark.parametrize("size", [(1, 1), (1, 320), (320, 2), (200, 150)])
def test_a_flat_image_has_none(size: tuple[int, int]) -> None:
    keypoints = find_keypoints(np.full((*size, 3), 255, np.uint8))
    assert keypoints.places.shape == (0, 2)
    assert keypoints.descriptors.shape == (0, 128)
    assert keypoints.descriptors.dtype == np.uint8
    assert mirrored(keypoints, size[1]).descriptors.shape == (0, 128)
    assert root(keypoints.descriptors).shape == (0, 128)


def test_a_faint_pattern_is_seen() -> None:
    faint = (patches(4) // 16 + 235).astype(np.uint8)
    usual = cv2.SIFT.create().detect(faint)
    assert len(find_keypoints(faint).places) > 4 * len(usual)


def test_root_is_of_unit_length_and_compares_as_hellinger_does() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (20, 128), dtype=np.uint8)
    rows[0] = 0
    shares = rows[1:] / rows[1:].sum(axis=1, keepdims=True)
    hellinger = np.array([[np.sqrt(a * b).sum() for b in shares] for a in shares])
    roots = root(rows)
    assert roots.dtype == np.float32
    assert not roots[0].any()
    assert np.allclose(roots[1:] @ roots[1:].T, hellinger, atol=1e-5)
    assert np.allclose(np.linalg.norm(roots[1:], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, 17, N_KEYPOINTS])
def test_packed_keypoints_are_the_same(n: int) -> None:
    found = Keypoints(*(part[:n] for part in find_keypoints(patches(5))))
    rows = pack(found)
    assert (rows.shape, rows.dtype) == (PACKED, np.uint8)
    assert are_packed(rows[None])
    for part, before in zip(unpack(rows), found, strict=True):
        assert part.dtype == before.dtype
        assert np.array_equal(part, before)


def test_bytes_that_are_no_keypoints_are_told() -> None:
    rows = pack(find_keypoints(patches(5)))
    rows[3, :4] = 255  # NaN before the last
    assert not are_packed(np.stack([pack(find_keypoints(patches(6))), rows]))
    assert are_packed(np.empty((0, *PACKED), np.uint8))
