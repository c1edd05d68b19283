"""Details against the images that they were made from, alone and out of a store."""

import dataclasses
import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dedup.errors import ArtifactError, CorruptError, DecodeError
from dedup.search.image_access import words_of
from dedup.sources.catalogue import Catalogue
from dedup.store.decode import (
    DETAIL_SIZE,
    MAX_DETAIL,
    READERS,
    decode,
    decode_preview,
    encode_preview,
)
from dedup.store.image_store import ImageStore
from dedup.store.shards import ENTRIES, Loaded, Shards, described
from tests.conftest import draw, encoded
from tests.store.test_decode import STORED, letter_l, saved, with_orientation
from tests.store.test_image_store import asking_for
from tests.support.slow import many_scans, scans


def opened(detail: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(detail))
    image.load()
    return image


# Long side to 320, the other in proportion to the nearest whole pixel, at least 1.
SIZES = {
    (1, 1): (1, 1), (7, 3): (7, 3), (320, 319): (320, 319), (16, 1600): (3, 320),
    (2000, 10): (320, 2), (400, 533): (240, 320), (1200, 900): (320, 240), (321, 321): (320, 320),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("size", "expected"), SIZES.items())
def test_a_detail_keeps_the_aspect_and_is_never_enlarged(
    size: tuple[int, int], expected: tuple[int, int], reader: str
) -> None:
    detail = opened(decode(encoded(draw(3, size), "PNG"), reader).detail)
    assert (detail.format, detail.mode, detail.size) == ("JPEG", "RGB", expected)


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_a_detail_is_close_to_the_mean_over_its_squares(factor: int) -> None:
    image = draw(6, (240 * factor, 320 * factor))
    pen = ImageDraw.Draw(image)
    pen.ellipse([50 * factor, 50 * factor, 200 * factor, 150 * factor], fill="navy")
    squares = np.asarray(image, float).reshape(320, factor, 240, factor, 3)
    found = np.asarray(opened(decode(encoded(image, "PNG")).detail), float)
    difference = found - squares.mean(axis=(1, 3))
    assert np.sqrt((difference**2).mean()) < 4


def test_the_colours_of_a_detail_are_as_fine_as_its_lightness() -> None:
    colour = np.zeros((64, 64, 3), np.uint8)
    colour[:, ::2, 0], colour[:, 1::2, 2] = 255, 255  # red and blue lines of one pixel
    found = np.asarray(opened(decode(encoded(Image.fromarray(colour), "PNG")).detail), int)
    assert np.abs(found - colour).mean() < 10


def test_fine_lines_do_not_become_coarse_ones() -> None:
    lines = np.zeros((960, 960, 3), np.uint8)
    lines[:, ::2] = 255  # finer than 320 pixels can show: grey
    found = np.asarray(opened(decode(encoded(Image.fromarray(lines), "PNG")).detail), int)
    assert np.abs(found - 128).max() < 16


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_details_are_upright(orientation: int, file_format: str) -> None:
    data = with_orientation(STORED[orientation](letter_l()), orientation, file_format)
    found = opened(decode(data).detail)
    assert found.getexif() == {}
    assert np.abs(np.asarray(found, int) - letter_l()).mean() < 3


def test_equal_images_have_equal_details() -> None:
    jpeg = saved(draw(4, (400, 533)), "JPEG", comment=b"from a shop", dpi=(300, 300))
    exif = saved(Image.open(io.BytesIO(jpeg)), "PNG", exif=b"Exif\0\0II*\0")
    copy = encoded(Image.open(io.BytesIO(jpeg)), "PNG")
    assert {decode(data).detail for data in (jpeg, exif, copy)} == {decode(jpeg, "skimage").detail}
    small = saved(draw(4, (40, 53)), "JPEG", comment=b"from a shop")
    assert b"from a shop" in small
    assert b"from a shop" not in decode(small).detail


def test_a_detail_is_restored_as_pillow_shows_it() -> None:
    for size in [(1, 1), (3, 320), (300, 400)]:
        detail = encode_preview(draw(8, size))
        found = decode_preview(detail)
        assert found.dtype == np.uint8
        assert found.flags.writeable
        assert np.array_equal(found, np.asarray(opened(detail)))


DETAIL = encode_preview(draw(2))
((SCAN, END),) = scans(DETAIL)
SIDE = (DETAIL_SIZE, DETAIL_SIZE)
NOT_DETAILS = {
    "nothing": b"",
    "cut": DETAIL[: len(DETAIL) // 2],
    "shifted": DETAIL[7:],
    "zeros": bytes(len(DETAIL)),
    "png": encoded(draw(2), "PNG"),
    "grey": encoded(draw(2).convert("L")),
    "too_large": encoded(draw(2, (DETAIL_SIZE + 1, 9))),
    "too_large_by_far": DETAIL.replace(b"\0\xc8\0\x96", b"\xff\xdc\xff\xdc"),
    "without_height": DETAIL.replace(b"\0\xc8\0\x96", b"\0\0\0\x96"),
    "progressive": saved(draw(2), "JPEG", progressive=True),
    "coarse_colours": saved(draw(2), "JPEG", quality=90),
    "many_scans": many_scans(20_000, SIDE),
    "two_scans": DETAIL[:END] + DETAIL[SCAN:],
    "scans_of_one_colour": DETAIL[:SCAN] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + DETAIL[SCAN + 14 :],
    "two_frames": DETAIL[:SCAN] + DETAIL[DETAIL.index(b"\xff\xc0") :],
    "restarts": DETAIL[:SCAN] + b"\xff\xdd\0\4\0\1" + DETAIL[SCAN:],
    "a_picture_within": saved(draw(2), "JPEG", subsampling=0, exif=b"Exif\0\0II*\0"),
    "a_comment": saved(draw(2), "JPEG", subsampling=0, comment=b"from a shop"),
    "more_after_it": DETAIL + DETAIL,
    "too_long": DETAIL[:SCAN] + DETAIL[2:SCAN] * 2000 + DETAIL[SCAN:],
}


@pytest.mark.parametrize("data", NOT_DETAILS.values(), ids=NOT_DETAILS)
def test_what_is_no_detail_is_refused(data: bytes) -> None:
    assert data != DETAIL
    with pytest.raises(DecodeError):
        decode_preview(data)


def test_pillows_own_details_are_read_as_well() -> None:
    image = draw(2, (320, 240))
    for more in ({}, {"optimize": True}):
        detail = saved(image, "JPEG", quality=90, subsampling=0, **more)
        assert np.array_equal(decode_preview(detail), np.asarray(opened(detail)))


def test_the_finest_noise_is_a_detail() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*SIDE, 3), dtype=np.uint8)
    stripes = np.indices(SIDE).sum(axis=0, keepdims=True).T % 2 * np.array([255, 255, 0])
    for pixels in (noise, stripes.astype(np.uint8)):
        detail = encode_preview(Image.fromarray(pixels))
        assert len(detail) < MAX_DETAIL / 4
        assert np.array_equal(decode_preview(detail), np.asarray(opened(detail)))


def test_a_store_that_was_passed_on_holds_nobody_up(tmp_path: Path) -> None:
    slow = many_scans(20_000, SIDE)
    image = decode(encoded(draw(2)))
    facts = dict.fromkeys(ENTRIES.names, "") | {"url": "u", "status": "ok", "contrast": 1.0}
    facts |= {"width": 320, "height": 320}
    shards = Shards(tmp_path, described("pillow"))
    shards.write(0, [Loaded(facts, dataclasses.replace(image, detail=slow))])
    store = ImageStore(tmp_path)
    for look in (store.details, store.thumbnails, partial(words_of, store)):
        with pytest.raises(CorruptError, match=r"details.npy: detail 0 is no JPEG"):
            look(["u"])


def test_damage_to_a_detail_ends_as_a_image_or_an_error() -> None:
    rng = np.random.default_rng(9)
    for _ in range(200):
        data = bytearray(DETAIL)
        for at in rng.integers(len(data) if rng.random() < 0.5 else 200, size=3):
            data[at] = rng.integers(256)
        try:
            found = decode_preview(bytes(data))
        except DecodeError:
            continue
        assert found.ndim == 3
        assert max(found.shape[:2]) <= DETAIL_SIZE


def test_details_are_those_of_the_decoder(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store", shard_rows=4)
    images = store.ingest(catalogue, tmp_path)
    good = images.loc[images["status"] == "ok", "url"].sample(30, replace=True, random_state=0)
    for same in (store, ImageStore(tmp_path / "store")):
        for address, found in zip(good, same.details(good.tolist()), strict=True):
            original = Image.open(address).convert("RGB")
            assert found.dtype == np.uint8
            assert found.shape == (200, 150, 3)
            assert np.abs(found.astype(int) - np.asarray(original)).mean() < 2
            jpeg = decode(Path(address).read_bytes()).detail
            assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(jpeg))))


def test_details_keep_their_places_when_a_image_is_read_again(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    store = ImageStore(tmp_path / "store", shard_rows=8)
    address = store.ingest(catalogue, tmp_path)["url"][5]
    old, before = store.rows([address]), store.details([address])
    Path(address).write_bytes(encoded(draw(99, (60, 40))))
    store.ingest(catalogue, tmp_path)
    assert np.array_equal(store.details_at(old), before)
    assert store.details([address])[0].shape == (40, 60, 3)


def test_tiny_and_narrow_images_have_details(tmp_path: Path) -> None:
    sizes = {"dot.png": (1, 1), "post.png": (16, 1600), "line.png": (1600, 8)}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(encoded(Image.new("RGB", size, (200, 30, 90)), "PNG"))
    places = [str(tmp_path / name) for name in sizes]
    store = ImageStore(tmp_path / "store")
    store.ingest(asking_for(*([place] for place in places)), tmp_path)
    details = store.details(places)
    assert [detail.shape for detail in details] == [(1, 1, 3), (320, 3, 3), (2, 320, 3)]
    assert all(np.abs(detail - [200.0, 30, 90]).max() <= 3 for detail in details)


def test_a_detail_that_is_not_there_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    missing = store.ingest(catalogue, tmp_path)["url"].iloc[-1]
    assert store.details([]) == []
    for address in (missing, "elsewhere"):
        with pytest.raises(ArtifactError, match=r"lacks an image.*run python cluster\.py again"):
            store.details([address])
    nowhere = ImageStore(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"there is no store of images at .*nowhere: put it"):
        nowhere.details([missing])
    assert not (tmp_path / "nowhere").exists()
