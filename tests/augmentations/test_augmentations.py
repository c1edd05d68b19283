"""Edits hold to their laws: size, type, seed, strength, and above all the product's hue."""

import colorsys
import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from numpy.random import Generator

from dedup.augmentations import EDITS, Edit, RgbImage, augment, edit, foreground, packshot
from dedup.errors import ConfigError
from tests.conftest import draw

COLOURLESS = {"gray", "sepia"}
SHARED = {"collage", "screenshot"}  # much of the result is not the image
SHAPES = [(8, 8), (8, 200), (200, 8), (1, 1), (1, 40), (40, 1), (33, 47)]
SHARES = {0.0: (0.7, 1.0), 1.0: (0.2, 0.6)}  # of a screen or a collage that is the image's


def seeded(seed: int = 0) -> Generator:
    return np.random.default_rng(seed)


def drawn(seed: int = 0, size: tuple[int, int] = (120, 160)) -> RgbImage:
    """An image like no other that no one may write to; (width, height)."""
    image = np.array(draw(seed, size))
    image.flags.writeable = False
    return image


def dressed(paint: tuple[float, float, float], ground: int = 235) -> RgbImage:
    """An unevenly lit shirt-like shape in a colour (0 to 1) on a grey ground, (160, 128)."""
    image = np.full((160, 128, 3), ground, dtype=np.uint8)
    light = cv2.resize(seeded(1).uniform(0.75, 1, (10, 8)).astype(np.float32), (128, 160))
    product = (light[..., None] * np.array(paint) * 255).astype(np.uint8)
    for box in (slice(30, 140), slice(30, 98)), (slice(30, 70), slice(12, 116)):
        image[box] = product[box]
    return image


def worn(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Where `dressed` draws its product."""
    mask = np.zeros(shape[:2], dtype=np.bool_)
    mask[30:140, 30:98] = True
    mask[30:70, 12:116] = True
    return mask


def hue(image: RgbImage) -> float:
    """The commonest hue of the coloured pixels in CIE Lab, in degrees."""
    smooth = cv2.blur(image, (3, 3)).astype(np.float32) / np.float32(255)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2Lab).reshape(-1, 3)
    vectors = lab[np.hypot(lab[:, 1], lab[:, 2]) > 10] @ np.array([0, 1, 1j])
    angles = np.angle(vectors)
    counts, edges = np.histogram(angles, 36, (-math.pi, math.pi))
    turned = vectors * np.exp(-1j * (edges[counts.argmax()] + math.pi / 36))
    near = turned[np.abs(np.angle(turned)) < math.pi / 6]
    return math.degrees(np.angle(near.sum()) + edges[counts.argmax()] + math.pi / 36)


def share_of(image: RgbImage, red: int = 255) -> float:
    """The share of an image's pixels that are about (red, 0, 0)."""
    return float(np.all(np.abs(image.astype(int) - [red, 0, 0]) < 30, axis=2).mean())


@pytest.mark.parametrize("each", EDITS.values(), ids=EDITS)
def test_every_edit_of_every_size_gives_a_new_image(each: Edit) -> None:
    other = drawn(9, (30, 50))
    for shape in SHAPES:
        image = drawn(1, shape[::-1])
        for strength in (0.0, 0.5, 1.0):
            edited = edit(image, each.name, strength, seeded(shape[0]), other)
            assert edited.dtype == np.uint8
            assert edited.ndim == 3
            assert edited.shape[2] == 3
            assert edited.size > 0
            assert edited.flags.c_contiguous
            assert not np.shares_memory(edited, image)


@pytest.mark.parametrize("each", EDITS.values(), ids=EDITS)
def test_the_seed_decides_and_the_input_stays(each: Edit) -> None:
    image, other = drawn(2), drawn(3)
    before = image.copy(), other.copy()
    first, second = (edit(image, each.name, 0.8, seeded(5), other) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(image, before[0])
    assert np.array_equal(other, before[1])


@pytest.mark.parametrize("name", sorted(EDITS.keys() - {"ground"}))
def test_the_strongest_edit_changes_the_image(name: str) -> None:
    image = drawn(4)
    assert not np.array_equal(edit(image, name, 1.0, seeded(1), drawn(3)), image)


@pytest.mark.parametrize("name", sorted(EDITS.keys() - COLOURLESS))
def test_no_edit_turns_the_hue(name: str) -> None:
    other = np.full((90, 70, 3), 180, dtype=np.uint8)
    inner = np.s_[30:140, 30:98] if name in SHARED else np.s_[:]
    for turn in range(0, 360, 45):
        image = dressed(colorsys.hsv_to_rgb(turn / 360, 0.8, 0.8))
        for seed in range(2):
            edited = edit(image[inner], name, 1.0, seeded(seed), other)
            difference = (hue(edited) - hue(image) + 180) % 360 - 180
            assert abs(difference) < 12, f"hue {turn}, seed {seed}"


def test_gray_at_full_strength_has_equal_channels() -> None:
    grey = edit(drawn(1), "gray", 1.0, seeded())
    assert np.ptp(grey, axis=2).max() <= 1


def test_mirror_twice_is_the_image() -> None:
    image = drawn(1)
    once = edit(image, "mirror", 1.0, seeded())
    assert np.array_equal(once, np.array(draw(1, (120, 160)))[:, ::-1])
    assert np.array_equal(edit(once, "mirror", 0.3, seeded()), image)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["recompress", "blur", "noise", "haze", "sharpen", "speckle"])
def test_stronger_is_farther(name: str, seed: int) -> None:
    image = drawn(6, (300, 400))
    grained = edit(image, "noise", 0.2, seeded(99))
    errors = [
        np.abs(edit(grained, name, strength, seeded(seed)).astype(float) - grained).mean()
        for strength in (0.0, 0.5, 1.0)
    ]
    assert errors[0] < errors[1] < errors[2]


@pytest.mark.parametrize("seed", range(5))
def test_stronger_crops_keep_less(seed: int) -> None:
    image = drawn(7)
    areas = [edit(image, "crop", step, seeded(seed)).size / image.size for step in (0, 0.5, 1)]
    assert 0.9 < areas[0] < 1
    assert 0.38 < areas[2] < 0.6
    assert areas[0] > areas[1] > areas[2]


def test_a_crop_is_a_part_of_the_image() -> None:
    image = drawn(8)
    part = edit(image, "crop", 0.7, seeded(3))
    found = cv2.matchTemplate(image, part, cv2.TM_SQDIFF)
    assert found.min() < 1


@pytest.mark.parametrize("strength", SHARES)
@pytest.mark.parametrize("name", sorted(SHARED))
def test_the_image_keeps_its_share_of_a_larger_one(name: str, strength: float) -> None:
    red = np.zeros((160, 120, 3), dtype=np.uint8)
    red[..., 0] = 255
    grey = np.full((60, 90, 3), 120, dtype=np.uint8)
    low, high = SHARES[strength]
    for seed in range(20):
        assert low < share_of(edit(red, name, strength, seeded(seed), grey)) < high


def test_screens_differ() -> None:
    black = np.zeros((90, 90, 3), dtype=np.uint8)
    screens = {edit(black, "screenshot", 0.6, seeded(seed)).tobytes() for seed in range(20)}
    assert len(screens) == 20


@pytest.mark.parametrize("name", ["sticker", "erase"])
def test_what_is_put_on_hides_a_quarter_at_most(name: str) -> None:
    red = np.zeros((200, 150, 3), dtype=np.uint8)
    red[..., 0] = 255
    assert all(share_of(edit(red, name, 1.0, seeded(seed))) > 0.65 for seed in range(20))
    assert all(share_of(edit(red, name, 0.0, seeded(seed))) > 0.93 for seed in range(20))


def test_foreground_finds_the_product() -> None:
    image = dressed((0.7, 0.1, 0.2))
    found, truth = foreground(image), worn(image.shape)
    assert found.dtype == np.bool_
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_foreground_fills_holes() -> None:
    image = dressed((0.1, 0.2, 0.7))
    image[90:110, 50:75] = 235
    assert foreground(image)[90:110, 50:75].all()


def test_a_packshot_stands_on_white() -> None:
    image = dressed((0.1, 0.4, 0.2), ground=120)
    shot = packshot(image)
    assert shot is not None
    assert shot.shape == image.shape
    assert min(shot[:3].min(), shot[-3:].min(), shot[:, :3].min(), shot[:, -3:].min()) >= 250
    assert np.abs(shot[80, 64].astype(int) - image[80, 64]).max() < 60
    assert not (np.abs(shot.astype(int) - 120) < 5).all(axis=2).any()


def test_packshots_vary_with_the_generator_alone() -> None:
    image = dressed((0.1, 0.4, 0.2))
    first, again, second = (packshot(image, seeded(seed)) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert second is not None
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert min(first[0].min(), second[0].min()) >= 230


def test_no_packshot_without_a_believable_product() -> None:
    noise = seeded().integers(0, 256, (80, 80, 3), dtype=np.uint8)
    speck = np.full((100, 100, 3), 240, dtype=np.uint8)
    speck[45:55, 45:55] = 0
    half = np.zeros((100, 100, 3), dtype=np.uint8)
    half[:48] = 255
    for image in (noise, speck, half, np.zeros((60, 60, 3), dtype=np.uint8)):
        assert packshot(image) is None
        assert np.array_equal(edit(image, "ground", 1.0, seeded()), image)


def test_another_ground_leaves_the_product() -> None:
    image = dressed((0.8, 0.2, 0.1))
    inner, outer = np.s_[50:120, 40:88], np.s_[:10, :10]
    for seed in range(5):
        edited = edit(image, "ground", 1.0, seeded(seed), drawn(3))
        assert np.array_equal(edited[inner], image[inner])
        assert not np.array_equal(edited[outer], image[outer])


def test_relist_tells_its_chain() -> None:
    image, others = drawn(1), [drawn(2), drawn(3)]
    seen: set[str] = set()
    order = list(EDITS)
    for seed in range(100):
        edited, names = augment(image, seeded(seed), others=others)
        again, same = augment(image, seeded(seed), others=others)
        assert 1 <= len(names) <= 4
        assert len(set(names)) == len(names)
        assert sorted(names, key=order.index) == list(names)
        assert names == same
        assert np.array_equal(edited, again)
        assert edited.size <= 2.1 * image.size
        seen |= set(names)
    assert len(seen) > 30


def test_relist_takes_only_what_it_may() -> None:
    image = drawn(1)
    for seed in range(30):
        assert "collage" not in augment(image, seeded(seed))[1]
        _, names = augment(image, seeded(seed), n_edits=(2, 5), names=["crop", "blur", "border"])
        assert set(names) <= {"crop", "blur", "border"}
        assert len(names) >= 2
    edited, names = augment(image, seeded(), names=["collage"])
    assert names == ()
    assert np.array_equal(edited, image)
    assert not np.shares_memory(edited, image)


def test_relist_may_leave_a_image_alone() -> None:
    image = drawn(1)
    edited, names = augment(image, seeded(), n_edits=(0, 0))
    assert names == ()
    assert np.array_equal(edited, image)


def test_wrong_settings_are_told() -> None:
    with pytest.raises(ConfigError, match=r"'crpo'.*crop.*recompress"):
        edit(drawn(1), "crpo", 0.5, seeded())
    with pytest.raises(ConfigError, match=r"'crpo'.*crop.*recompress"):
        augment(drawn(1), seeded(), names=["crpo"])
    with pytest.raises(ConfigError, match="from 0 to 1"):
        edit(drawn(1), "crop", 1.5, seeded())
    with pytest.raises(ConfigError, match="another image"):
        edit(drawn(1), "collage", 0.5, seeded())
