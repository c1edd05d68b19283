"""Measures of health: against what was done to an image, laws, and images of any size and bytes."""

import io
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dedup.schemas import IMAGE_SHAPE, Image8
from dedup.store.decode import decode, resize_pillow
from dedup.store.decode_pool import Decoders
from dedup.store.measures import (
    FORMATS,
    MEASURES,
    blockiness,
    format_of,
    jpeg_quality,
    light,
    measure,
    measure_preview,
    product_area,
    sharpness,
)

BYTES, FORMAT, QUALITY = (MEASURES.index(name) for name in ("bytes", "format", "quality"))


def scene(seed: int = 0, height: int = 300, width: int = 240) -> Image8:
    """Sharp shapes of many colours with fine texture, on a grey ground."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 150, np.uint8)
    for _ in range(40):
        x, y, w, h = rng.integers(0, [width, height, width // 3 + 1, height // 3 + 1])
        image[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    texture = rng.integers(-6, 7, image.shape)
    return np.clip(image + texture, 0, 255).astype(np.uint8)


def grey(image: Image8) -> Image8:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def blurred(image: Image8, sigma: float) -> Image8:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def saved(image: Image8, kind: str = "JPEG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **settings)
    return buffer.getvalue()


def small(image: Image8) -> Image8:
    return resize_pillow(Image.fromarray(image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_formats_are_told_by_their_first_bytes(kind: str) -> None:
    data = saved(scene(), kind)
    assert format_of(data) == kind
    known = measure(scene(), small(scene()), data)
    assert known[BYTES] == len(data)
    assert known[FORMAT] == FORMATS.index(kind)
    assert math.isnan(known[QUALITY]) == (kind != "JPEG")


@pytest.mark.parametrize("quality", [4, 5, 10, 25, 40, 50, 60, 75, 90, 95, 100])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int, subsampling: int) -> None:
    data = saved(scene(), quality=quality, subsampling=subsampling)
    assert jpeg_quality(data) == pytest.approx(quality, abs=2)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xdb\0\0", b"\xff\xd8\xff\xdb\xff\xff\x10", b"\xff" * 40],
)
def test_a_jpeg_without_tables_has_no_known_quality(data: bytes) -> None:
    quality = jpeg_quality(data)
    assert math.isnan(quality) or 1 <= quality <= 100


@given(st.binary(max_size=200).map(lambda tail: b"\xff\xd8\xff\xdb" + tail))
def test_no_bytes_break_the_reader_of_tables(data: bytes) -> None:
    quality = jpeg_quality(data)
    assert math.isnan(quality) or 1 <= quality <= 100


@pytest.mark.parametrize("seed", range(3))
def test_blur_lowers_sharpness_step_by_step(seed: int) -> None:
    values = [sharpness(grey(blurred(scene(seed), sigma))) for sigma in (0.5, 1, 1.5, 2, 3)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.7
    assert values[2] < 0.54


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_does_not_depend_on_contrast_or_direction(seed: int) -> None:
    image = grey(blurred(scene(seed), 1))
    half = (image // 2 + 60).astype(np.uint8)
    assert sharpness(half) == pytest.approx(sharpness(image), rel=0.1)
    turned = sharpness(np.ascontiguousarray(image.T))
    assert turned == pytest.approx(sharpness(image), rel=0.01)


def test_a_large_image_is_as_sharp_as_it_is_at_the_side_it_is_measured_at() -> None:
    image = scene(height=600, width=480)
    large = np.asarray(cv2.resize(image, (1920, 2400), interpolation=cv2.INTER_CUBIC))
    index = MEASURES.index("sharpness")
    values = [measure(one, small(one))[index] for one in (image, large, blurred(large, 12))]
    assert values[1] == pytest.approx(values[0], rel=0.35)
    assert values[2] < 0.54 < min(values[:2])


@pytest.mark.parametrize("cut", [(0, 0), (3, 5), (1, 7)])
def test_blocks_are_seen_wherever_they_begin(cut: tuple[int, int]) -> None:
    fine = grey(blurred(scene(), 0.7))
    strong = np.asarray(Image.open(io.BytesIO(saved(fine, quality=10))))
    top, left = cut
    parts = [blockiness(np.ascontiguousarray(one[top:, left:])) for one in (fine, strong)]
    assert parts[0] < 3
    assert parts[1] > 4.5


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_image_has_neither_edges_nor_blocks(value: int) -> None:
    flat = np.full((90, 70), value, np.uint8)
    assert sharpness(flat) == 0
    assert blockiness(flat) == 0
    brightest, product, clipped, spread = light(np.full(IMAGE_SHAPE, value, np.uint8))
    assert (brightest, product, spread) == (value, value, 0)
    assert clipped == (value == 255)


def packshot(product: int, ground: int = 255) -> Image8:
    """A framed square of one light on a plain ground, (3, 200, 100)."""
    image = np.full(IMAGE_SHAPE, ground, np.uint8)
    image[:, 50:150, 25:75] = product
    return image


@pytest.mark.parametrize(("product", "ground"), [(10, 255), (120, 255), (200, 30), (60, 200)])
def test_light_is_that_of_the_product_and_not_of_its_ground(product: int, ground: int) -> None:
    brightest, own, clipped, _ = light(packshot(product, ground))
    assert brightest == max(product, ground)
    assert own == product
    assert clipped == 0
    area, sure = product_area(packshot(product, ground))
    assert area.sum() == 100 * 50
    assert not (sure & ~area).any()


def test_parts_as_white_as_the_ground_belong_to_the_product() -> None:
    image = packshot(120)
    image[:, 70:130, 35:65] = 255  # overexposed, inside of its outline
    area, _ = product_area(image)
    assert area.sum() == 100 * 50
    assert light(image)[2] == pytest.approx(60 * 30 / (100 * 50))


def test_without_a_plain_ground_the_middle_counts() -> None:
    noise = np.random.default_rng(0).integers(0, 256, IMAGE_SHAPE).astype(np.uint8)
    area, sure = product_area(noise)
    assert area.sum() == 140 * 70
    assert (area == sure).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 3))
def test_images_of_every_size_have_measures(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    values = measure(image, small(image), saved(image))
    assert values.shape == (len(MEASURES),)
    assert np.isfinite(values).all()
    assert (values >= 0).all()
    only = measure_preview(image)
    assert np.isnan(only[:4]).all()
    assert np.isfinite(only[4:]).all()


def test_a_child_measures_what_this_process_does() -> None:
    files = [saved(scene(seed), kind) for seed, kind in enumerate(("JPEG", "PNG", "WEBP"))]
    with Decoders(workers=1) as decoders:
        futures = [decoders.submit(data) for data in files]
        for data, future in zip(files, futures, strict=True):
            measures = decode(data).measures
            assert measures is not None
            np.testing.assert_array_equal(future.result().image.measures, measures)
            assert measures[BYTES] == len(data)
