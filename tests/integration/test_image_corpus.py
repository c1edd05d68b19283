"""The corpus of bad and odd images, I1 to I15: each ends as its pixels or as its reason."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from dedup.store.decode import contrast, decode
from tests.conftest import draw, encoded
from tests.store.test_decode import COLOUR, OUTCOMES, grey, on_white, outcome, saved
from tests.support.effort import examples

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
IMAGE = Image.fromarray(COLOUR)
FRAMES = 10_000
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png(*chunks: bytes, size: tuple[int, int] = (2, 2), bits: int = 8) -> bytes:
    """A grey PNG of hand-made chunks."""
    header = struct.pack(">IIBBBBB", *size, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND")


ROWS = zlib.compress(b"\0\x40\x40\0\x40\x40")


def text_bomb(after: bool) -> bytes:
    """A PNG whose text chunk unfolds to 200 MB."""
    press = zlib.compressobj(9)
    deflated = b"".join(press.compress(bytes(10**6)) for _ in range(200)) + press.flush()
    parts = [chunk(b"zTXt", b"Comment\0\0" + deflated), chunk(b"IDAT", ROWS)]
    return png(*(parts[::-1] if after else parts))


def gif_of_many_frames() -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + bytes([64] * 3) + bytes([9] * 3)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02\x03\x04\x00\x05\x00"
    return head + frame * FRAMES + b";"


def png_of_many_frames() -> bytes:
    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 2, 2, 0, 0, 1, 10, 0, 0))

    frames = [chunk(b"acTL", struct.pack(">II", FRAMES, 0)), control(0), chunk(b"IDAT", ROWS)]
    for number in range(1, FRAMES):
        frames.append(control(2 * number - 1))
        frames.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + ROWS))
    return png(*frames)


def webp_of_many_frames() -> bytes:
    still = saved(Image.new("RGB", (2, 2), (64, 64, 64)), "WEBP", lossless=True)
    bits = still[12:]
    where = bytes(6) + b"\x01\0\0\x01\0\0" + b"\x0a\0\0\0"  # corner, size less 1, ms, flags

    def box(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)

    body = box(b"VP8X", b"\x02\0\0\0\x01\0\0\x01\0\0") + box(b"ANIM", bytes(6))
    body += box(b"ANMF", where + bits) * FRAMES
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def one_bit() -> bytes:
    return png(chunk(b"IDAT", zlib.compress(bytes(13_000 * 1_626))), size=(13_000, 13_000), bits=1)


def cut(share: int) -> bytes:
    data = encoded(IMAGE)
    return data[: len(data) * share // 100]


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "I1_nothing": (lambda: b"", "format"),
    "I2_random": (lambda: np.random.default_rng(2).bytes(10_000), "format"),
    "I3_html": (lambda: b"<html><title>Log in</title></html>", "format"),
    "I4_svg_that_reads_a_file": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>',
        "format",
    ),
    "I5_eps": (lambda: encoded(IMAGE, "EPS"), "format"),
    **{
        f"I6_{name.lower()}": (partial(encoded, IMAGE, name), "format")
        for name in ("PDF", "JPEG2000", "ICNS", "SGI", "PCX", "DDS")
    },
    "I6_avif": (lambda: b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf".ljust(4000, b"\0"), "truncated"),
    "I6_fits": (lambda: b"SIMPLE  =                    T".ljust(2880), "format"),
    "I6_psd": (lambda: b"8BPS\0\x01".ljust(60, b"\0"), "format"),
    **{f"I7_cut_at_{share}": (partial(cut, share), "truncated") for share in (10, 50, 99)},
    "I8_one_bit_13000": (one_bit, "too_many_pixels"),
    "I8_one_million_wide": (lambda: png(size=(1_000_000, 80)), "too_many_pixels"),
    "I8_one_row": (lambda: png(size=(1_000_000, 1)), "aspect"),
    "I9_text_before_the_pixels": (partial(text_bomb, after=False), "truncated"),
    "I9_text_after_the_pixels": (partial(text_bomb, after=True), "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_at_once(name: str) -> None:
    make, reason = REFUSED[name]
    data = make()
    start = time.process_time()
    assert outcome(data) == reason
    assert time.process_time() - start < 0.5


MANY = {
    "I9_gif": gif_of_many_frames,
    "I9_apng": png_of_many_frames,
    "I9_webp": webp_of_many_frames,
}


@pytest.mark.parametrize("name", MANY)
def test_of_many_frames_the_first_is_read_and_nothing_else(name: str) -> None:
    data = MANY[name]()
    start = time.process_time()
    pixels = decode(data).pixels
    assert time.process_time() - start < 0.5
    assert (pixels == 64).all()


ADOBE = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
STANDARD = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)


def xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(v * 65536)) for v in values)


WHITE = xyz((0.9642, 1.0, 0.8249))


def profile(space: bytes, tags: dict[bytes, bytes], between: bytes = b"XYZ ") -> bytes:
    """A profile of ICC version 2."""
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", at + len(body), b"", 0x02400000, b"mntr", space, between)
    head += bytes(12) + b"acsp" + bytes(28) + WHITE[8:]
    return head.ljust(128, b"\0") + table + body


def curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def profile_of_grey(gamma: float) -> bytes:
    return profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": curve(gamma)})


def profile_of_colours(gamma: float, primaries: tuple[tuple[float, ...], ...]) -> bytes:
    """RGB with primaries in XYZ as D50 shows them."""
    names = (b"r", b"g", b"b")
    tags = {name + b"XYZ": xyz(v) for name, v in zip(names, primaries, strict=True)}
    return profile(b"RGB ", {b"wtpt": WHITE} | tags | {n + b"TRC": curve(gamma) for n in names})


def profile_of_inks() -> bytes:
    """A table from inks to Lab in which black alone counts: L is what it leaves of 100."""
    line = bytes(range(256))
    corners = b"".join(bytes([0 if corner & 1 else 255, 128, 128]) for corner in range(16))
    unit = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table = b"mft1\0\0\0\0\x04\x03\x02\0" + unit + line * 4 + corners + line * 3
    return profile(b"CMYK", {b"wtpt": WHITE, b"A2B0": table}, b"Lab ")


ADOBE_RGB = profile_of_colours(563 / 256, ADOBE)


def in_standard(light: Floats) -> Array:
    """Linear light, 0 to 1, as sRGB, after IEC 61966-2-1."""
    light = np.clip(light, 0, 1)
    coded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray((coded * 255).round(), np.uint8)


def from_adobe(colour: Array) -> Array:
    light = (colour / 255) ** (563 / 256) @ np.array(ADOBE)
    return in_standard(light @ np.linalg.inv(np.array(STANDARD)))


def pixels(image: Image.Image, file_format: str = "PNG", **options: Any) -> npt.NDArray[np.int64]:
    decoded = decode(saved(image, file_format, **options))
    return decoded.pixels.transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_i10_wide_colours_become_standard_ones(file_format: str) -> None:
    found = pixels(IMAGE, file_format, icc_profile=ADOBE_RGB, lossless=True)
    assert np.abs(found - from_adobe(COLOUR)).max() <= 2
    assert np.abs(found - COLOUR).max() > 20  # so this is not for nothing


def test_i10_wide_colours_of_a_jpeg_of_a_palette_and_beneath_alpha() -> None:
    plain = pixels(IMAGE, "JPEG").astype(np.uint8)
    found = pixels(IMAGE, "JPEG", icc_profile=ADOBE_RGB)
    assert np.abs(found - from_adobe(plain)).max() <= 2
    few = IMAGE.quantize(64)
    found = pixels(few, icc_profile=ADOBE_RGB)
    assert np.abs(found - from_adobe(np.asarray(few.convert("RGB")))).max() <= 2
    alpha = COLOUR[:, :, 1]
    rgba = Image.fromarray(np.dstack([COLOUR, alpha]))
    found = pixels(rgba, icc_profile=ADOBE_RGB)
    assert np.abs(found - on_white(from_adobe(COLOUR), alpha)).max() <= 2


def test_i10_grey_follows_its_curve() -> None:
    levels = COLOUR[:, :, 0]
    found = pixels(Image.fromarray(levels), icc_profile=profile_of_grey(1.5))
    assert np.abs(found - grey(in_standard((levels / 255) ** 1.5))).max() <= 2


def test_i10_inks_follow_their_profile() -> None:
    black = COLOUR[:, :, 0]
    inks = Image.fromarray(np.dstack([np.full_like(black, 90)] * 3 + [black]), "CMYK")
    kept = {"quality": 100, "subsampling": 0}
    found = pixels(inks, "JPEG", icc_profile=profile_of_inks(), **kept)
    lightness = (1 - black / 255) * 100
    light = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(found - grey(in_standard(light))).max() <= 6
    plain = pixels(inks, "JPEG", **kept)
    assert np.abs(found - plain).max() > 50
    assert np.array_equal(pixels(inks, "JPEG", icc_profile=ADOBE_RGB, **kept), plain)


USELESS = {
    "standard": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "of_grey": profile_of_grey(1.0),
    "of_lab": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    "cut": ADOBE_RGB[:150],
    "without_tags": ADOBE_RGB[:128] + bytes(4),
    "junk": b"no profile at all",
    "large_junk": bytes(10**6),
}


@pytest.mark.parametrize("name", USELESS)
def test_i10_a_profile_that_says_nothing_changes_nothing(name: str) -> None:
    for file_format in ("PNG", "JPEG"):
        plain = pixels(IMAGE, file_format)
        assert np.array_equal(pixels(IMAGE, file_format, icc_profile=USELESS[name]), plain)


def test_i10_inks_coded_as_brightness_and_colour() -> None:
    """YCCK: what Pillow cannot write, made from a CMYK file by the Adobe marker's last byte."""
    cyan, magenta, yellow, black = (np.asarray(band) for band in IMAGE.convert("CMYK").split())
    coded = Image.fromarray(np.dstack([cyan, magenta, yellow])).convert("YCbCr")
    bands = [Image.fromarray(255 - np.asarray(band)) for band in coded.split()]
    written = Image.merge("CMYK", [*bands, Image.fromarray(black)])
    data = saved(written, "JPEG", quality=100, subsampling=0)
    at = data.index(b"Adobe\0") + 11
    assert data[at] == 0
    found = decode(data[:at] + b"\x02" + data[at + 1 :]).pixels.transpose(1, 2, 0).astype(int)
    assert np.abs(found - COLOUR).max() <= 8


def test_i11_exif_of_a_megabyte_is_passed_over() -> None:
    block = b"Exif\0\0" + np.random.default_rng(11).bytes(65_000)
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    data = encoded(IMAGE)
    assert np.array_equal(decode(data[:2] + segment * 16 + data[2:]).pixels, decode(data).pixels)


FLAT = {
    "I12_dot": Image.new("RGB", (1, 1), (9, 8, 7)),
    "I12_line": Image.new("RGB", (1, 150), (9, 8, 7)),
    "I13_black": Image.new("RGB", (300, 400)),
    "I13_white": Image.new("RGB", (300, 400), "white"),
}


@pytest.mark.parametrize("name", FLAT)
def test_flat_images_are_read_and_show_nothing(name: str) -> None:
    assert contrast(decode(encoded(FLAT[name], "PNG")).pixels) == 0


def test_i13_a_pale_product_shows_little_and_a_drawing_much() -> None:
    pale = Image.new("RGB", (300, 400), "white")
    pale.paste((250, 250, 248), (100, 100, 200, 300))
    assert 0 < contrast(decode(encoded(pale, "PNG")).pixels) < 4
    assert contrast(decode(encoded(IMAGE, "PNG")).pixels) > 30


def test_contrast_is_the_largest_deviation_of_a_channel() -> None:
    rng = np.random.default_rng(13)
    for high in (2, 20, 256):
        found = rng.integers(0, high, (3, 200, 100)).astype(np.uint8)
        assert contrast(found) == pytest.approx(found.std(axis=(1, 2)).max(), rel=1e-12)
    assert contrast(np.tile(np.array([0, 255], np.uint8), (3, 200, 50))) == 127.5


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("tail", [b"PK\x03\x04" + bytes(99), b"<script>alert(1)</script>", b"\0"])
def test_i14_what_follows_a_image_is_not_looked_at(file_format: str, tail: bytes) -> None:
    data = encoded(IMAGE, file_format)
    found, plain = decode(data + tail), decode(data)
    assert np.array_equal(found.pixels, plain.pixels)
    assert found.detail == plain.detail
    assert b"script" not in found.detail


SEEDS = [
    *(encoded(draw(3, (40, 60)), name) for name in FORMATS),
    *(saved(draw(3, (40, 60)), name, icc_profile=ADOBE_RGB) for name in ("JPEG", "PNG")),
    saved(draw(3, (40, 60)), "JPEG", progressive=True),
    saved(draw(3, (40, 60)), "WEBP", lossless=True),
]
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from(["set", "drop", "double"]), st.binary(max_size=8)),
    min_size=1, max_size=6,
)  # fmt: skip


def edited(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for place, kind, new in edits:
        at = int(place**3 * len(data))  # headers more than the rest
        if kind == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif kind == "drop":
            data = data[:at] + data[at + 1 + len(new) :]
        else:
            data = data[:at] + data[max(0, at - 50) : at] + data[at:]
    return data


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=examples(250), deadline=None, derandomize=True, database=None)
@given(st.sampled_from(SEEDS), EDITS)
def test_i15_bytes_of_any_kind_end_as_a_image_or_a_reason(
    data: bytes, edits: list[tuple[float, str, bytes]]
) -> None:
    assert outcome(edited(data, edits)) in OUTCOMES


@pytest.mark.parametrize("size", [(1600, 1200), (1200, 1600), (2600, 2000), (1280, 800)])
def test_a_large_jpeg_is_read_scaled_and_stays_near(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(7).normal(0, 12, (size[1], size[0], 3))
    busy = np.clip(np.asarray(draw(7, size)) + noise, 0, 255).astype(np.uint8)
    data = encoded(Image.fromarray(busy))
    full, scaled = decode(data), decode(data, "scaled")
    assert (scaled.width, scaled.height) == size
    difference = np.abs(full.pixels.astype(int) - scaled.pixels)
    assert 0 < difference.max() <= 20
    assert difference.mean() < 2
    assert len(scaled.detail) > 5000
    assert max(Image.open(io.BytesIO(scaled.detail)).size) == 320


@pytest.mark.parametrize(("size", "name"), [
    ((1200, 900), "JPEG"), ((640, 480), "JPEG"), ((3000, 500), "JPEG"), ((1600, 1200), "PNG"),
])  # fmt: skip
def test_what_is_not_a_large_jpeg_is_read_in_full(size: tuple[int, int], name: str) -> None:
    data = encoded(draw(7, size), name)
    full, scaled = decode(data), decode(data, "scaled")
    assert np.array_equal(full.pixels, scaled.pixels)
    assert full.detail == scaled.detail


def test_a_turned_large_jpeg_has_its_upright_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode(saved(draw(1, (2000, 1600)), "JPEG", exif=exif), "scaled")
    assert (decoded.width, decoded.height) == (1600, 2000)
