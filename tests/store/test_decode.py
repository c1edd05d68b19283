"""Images of every format, mode and kind of damage against pixels computed by hand."""

import io
import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageDraw
from skimage.metrics import structural_similarity

from dedup.errors import ConfigError, DecodeError
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import READERS, decode, decode_preview
from tests.conftest import draw, encoded

Array = npt.NDArray[np.uint8]

# An image of the stored size is not resized, so its pixels are known to the last bit.
COLOUR: Array = np.asarray(draw(1, (100, 200)))
GREY, ALPHA = COLOUR[:, :, 0], COLOUR[:, :, 1]
INDEX: Array = GREY // 64
PALETTE = np.array([[255, 0, 0], [0, 128, 0], [0, 0, 255], [20, 30, 40]], np.uint8)
OUTCOMES = {"ok", "format", "truncated", "too_many_pixels", "aspect"}


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def grey(values: Array) -> Array:
    return np.stack([values] * 3, axis=-1)


def on_white(colour: Array, alpha: Array) -> Array:
    share = alpha[:, :, None] / 255
    return np.asarray((colour * share + 255 * (1 - share)).round(), np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(INDEX, "P")
    image.putpalette(PALETTE.tobytes())
    return image


class Case(NamedTuple):
    data: bytes
    truth: Array  # (200, 100, 3)
    error: float = 0.0  # the largest allowed, in steps of 255


def png_cases() -> dict[str, Case]:
    image, key = Image.fromarray(COLOUR), (20, 30, 40)
    keyed = palette_image().convert("RGB")
    black = np.where(GREY < 128, 0, 255).astype(np.uint8)
    rgba = np.dstack([COLOUR, ALPHA])
    grey_alpha = np.dstack([GREY, ALPHA])
    wide = GREY.astype(np.uint16) * 257
    see_through = np.array([0, 100, 200, 255], np.uint8)
    holes = np.where(INDEX == 2, 0, 255).astype(np.uint8)
    no_key = np.where((PALETTE[INDEX] == key).all(axis=2), 0, 255).astype(np.uint8)
    return {
        "png_rgb": Case(encoded(image, "PNG"), COLOUR),
        "png_rgba": Case(encoded(Image.fromarray(rgba), "PNG"), on_white(COLOUR, ALPHA), 1),
        "png_rgb_with_key": Case(
            saved(keyed, "PNG", transparency=key), on_white(PALETTE[INDEX], no_key)
        ),
        "png_l": Case(encoded(Image.fromarray(GREY), "PNG"), grey(GREY)),
        "png_la": Case(
            encoded(Image.fromarray(grey_alpha, "LA"), "PNG"), on_white(grey(GREY), ALPHA), 1
        ),
        "png_p": Case(encoded(palette_image(), "PNG"), PALETTE[INDEX]),
        "png_p_one_colour_transparent": Case(
            saved(palette_image(), "PNG", transparency=2), on_white(PALETTE[INDEX], holes)
        ),
        "png_p_every_colour_half_transparent": Case(
            saved(palette_image(), "PNG", transparency=see_through.tobytes()),
            on_white(PALETTE[INDEX], see_through[INDEX]),
            1,
        ),
        "png_16_bit": Case(encoded(Image.fromarray(wide), "PNG"), grey(GREY)),
        "png_1_bit": Case(encoded(Image.fromarray(black > 0), "PNG"), grey(black)),
        "png_two_frames": Case(
            saved(image, "PNG", save_all=True, append_images=[draw(2, (100, 200))]), COLOUR
        ),
    }


def jpeg_cases() -> dict[str, Case]:
    image = Image.fromarray(COLOUR)
    fine = {"quality": 100, "subsampling": 0}
    return {
        "jpeg_rgb": Case(saved(image, "JPEG", **fine), COLOUR, 5),
        "jpeg_progressive": Case(saved(image, "JPEG", progressive=True, **fine), COLOUR, 5),
        "jpeg_l": Case(saved(Image.fromarray(GREY), "JPEG", quality=100), grey(GREY), 5),
        "jpeg_cmyk": Case(saved(image.convert("CMYK"), "JPEG", **fine), COLOUR, 5),
    }


def other_cases() -> dict[str, Case]:
    image, second = Image.fromarray(COLOUR), draw(2, (100, 200))
    rgba = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    holes = np.where(INDEX == 2, 0, 255).astype(np.uint8)
    return {
        "webp_rgb": Case(saved(image, "WEBP", lossless=True), COLOUR),
        "webp_rgba": Case(
            saved(rgba, "WEBP", lossless=True, exact=True), on_white(COLOUR, ALPHA), 1
        ),
        "webp_two_frames": Case(
            saved(image, "WEBP", lossless=True, save_all=True, append_images=[second]), COLOUR
        ),
        "gif": Case(encoded(palette_image(), "GIF"), PALETTE[INDEX]),
        "gif_transparent": Case(
            saved(palette_image(), "GIF", transparency=2), on_white(PALETTE[INDEX], holes)
        ),
        "gif_two_frames": Case(
            saved(palette_image(), "GIF", save_all=True, append_images=[second]), PALETTE[INDEX]
        ),
        "bmp_rgb": Case(encoded(image, "BMP"), COLOUR),
        "bmp_l": Case(encoded(Image.fromarray(GREY), "BMP"), grey(GREY)),
        "bmp_p": Case(encoded(palette_image(), "BMP"), PALETTE[INDEX]),
        "tiff_rgb": Case(encoded(image, "TIFF"), COLOUR),
        "tiff_lzw": Case(saved(image, "TIFF", compression="tiff_lzw"), COLOUR),
        "tiff_rgba": Case(encoded(rgba, "TIFF"), on_white(COLOUR, ALPHA), 1),
        "tiff_cmyk": Case(encoded(image.convert("CMYK"), "TIFF"), COLOUR, 1),
        "avif_rgb": Case(saved(image, "AVIF", quality=100, subsampling="4:4:4"), COLOUR, 4),
        "avif_rgba": Case(
            saved(rgba, "AVIF", quality=100, subsampling="4:4:4"), on_white(COLOUR, ALPHA), 4
        ),
    }


CASES = png_cases() | jpeg_cases() | other_cases()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_format_and_mode_becomes_rgb_on_white(case: Case, reader: str) -> None:
    decoded = decode(case.data, reader)
    difference = decoded.pixels.transpose(1, 2, 0).astype(int) - case.truth
    assert np.abs(difference).max() <= case.error
    assert (decoded.width, decoded.height) == (100, 200)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (7, 3), (333, 517)])
def test_every_size_ends_as_the_stored_shape(size: tuple[int, int], reader: str) -> None:
    decoded = decode(encoded(draw(3, size), "PNG"), reader)
    assert decoded.pixels.shape == IMAGE_SHAPE == (3, 200, 100)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    assert (decoded.width, decoded.height) == size


def marked(image: Image.Image, n_rows: int) -> Image.Image:
    """The same with a dark mark of 20 pixels a row in its lower right corner."""
    image.paste((0, 0, 0, 255), (78, 198 - n_rows, 98, 198))
    return image


def card(radius: int) -> Image.Image:
    """A dark thing on a white card whose corners are transparent."""
    image = Image.new("RGBA", (100, 200), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, 99, 199), radius, (255, 255, 255, 255))
    draw.rectangle((40, 90, 60, 110), (0, 0, 0, 255))
    return image


def logo(colour: tuple[int, ...], alpha: int, mode: str = "RGBA", n_rows: int = 100) -> Image.Image:
    """A block of colour in the middle of 100 x 200 transparent pixels."""
    image = Image.new(mode, (100, 200), (0,) * (len(colour) + 1))
    image.paste((*colour, alpha), (20, 100 - n_rows // 2, 80, 100 + n_rows // 2))
    return image


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("image", "ground"),
    [
        (logo((255, 255, 255), 255), 128),
        (logo((254, 255, 253), 200), 128),
        (logo((255,), 255, "LA"), 128),
        (logo((255, 255, 255), 255).quantize(4), 128),
        (logo((0, 0, 0), 255), 255),
        (logo((225, 255, 255), 255), 255),
        (logo((225, 225, 225), 255, n_rows=20), 255),
        (logo((255, 255, 255), 0), 255),  # nothing to be seen
        (logo((9, 9, 9), 0), 255),
        (marked(logo((255, 255, 255), 255), n_rows=10), 128),
        (marked(logo((255, 255, 255), 255), n_rows=50), 255),
        (card(radius=20), 255),
    ],
)
def test_white_artwork_on_transparency_is_put_on_grey(
    image: Image.Image, ground: int, reader: str
) -> None:
    decoded = decode(saved(image, "PNG"), reader)
    layer = np.asarray(image.convert("RGBA"), float)
    share = layer[..., 3:] / 255
    truth = layer[..., :3] * share + ground * (1 - share)
    assert np.abs(decoded.pixels.transpose(1, 2, 0) - truth).max() <= 1
    shown = decode_preview(decoded.detail).astype(float)
    assert np.abs(shown[5, 5] - ground).max() <= 2
    assert np.abs(shown[100, 50] - truth[100, 50]).max() <= 2


@pytest.mark.parametrize("reader", READERS)
def test_one_colour_stays_that_colour(reader: str) -> None:
    for size in [(1, 1), (31, 57), (640, 480)]:
        pixels = decode(encoded(Image.new("RGB", size, (10, 128, 255)), "PNG"), reader).pixels
        assert (pixels == np.array([10, 128, 255])[:, None, None]).all()


# EXIF: how a camera stored an image whose upright form is given, after the EXIF standard's table.
STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),  # seen after a turn clockwise
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def letter_l() -> Array:
    """A black L on white, 64 wide and 96 high."""
    letter = np.full((96, 64, 3), 255, np.uint8)
    letter[16:80, 16:32] = 0
    letter[64:80, 16:48] = 0
    return letter


def with_orientation(pixels: Array, value: int, file_format: str) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return saved(image, file_format, exif=exif, quality=100, lossless=True, subsampling=0)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone(orientation: int, file_format: str) -> None:
    turned = decode(with_orientation(STORED[orientation](letter_l()), orientation, file_format))
    upright = decode(encoded(Image.fromarray(letter_l()), "PNG"))
    assert np.abs(turned.pixels.astype(int) - upright.pixels).max() <= 2
    assert (turned.width, turned.height) == (64, 96)


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_orientations_that_do_not_exist_are_ignored(value: int, file_format: str) -> None:
    decoded = decode(with_orientation(letter_l(), value, file_format))
    assert (decoded.width, decoded.height) == (64, 96)


JUNK = {
    "empty": b"",
    "noise": b"\xff" * 60_000,
    "header_alone": b"II*\0",
    "cut_table": b"II*\0\x08\0\0\0\xff\xff",
    "table_beyond_the_end": b"MM\0*\xff\xff\xff\xff",
    "a_word_as_orientation": struct.pack(
        "<2sHIHHHIII5s", b"II", 42, 8, 1, ExifTags.Base.Orientation, 2, 5, 26, 0, b"left\0"
    ),
}


@pytest.mark.filterwarnings("ignore:.*(EXIF|Truncated File):UserWarning")
@pytest.mark.parametrize("block", JUNK.values(), ids=JUNK)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_junk_in_place_of_exif_is_ignored(block: bytes, file_format: str) -> None:
    image = Image.fromarray(letter_l())
    plain = saved(image, file_format, quality=100, lossless=True)
    junk = saved(image, file_format, quality=100, lossless=True, exif=b"Exif\0\0" + block)
    assert np.array_equal(decode(junk).pixels, decode(plain).pixels)


def outcome(data: bytes) -> str:
    """The reason why a file is refused, or ``ok``."""
    try:
        decoded = decode(data)
    except DecodeError as error:
        return error.reason if error.detail else "no detail"
    return "ok" if decoded.pixels.shape == IMAGE_SHAPE else "wrong shape"


NOT_IMAGES = {
    "nothing": b"",
    "one_byte": b"\xff",
    "random": np.random.default_rng(0).bytes(5000),
    "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>',
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n",
    **{name: encoded(draw(1), name) for name in ("PDF", "ICO", "PPM", "TGA", "JPEG2000")},
}


@pytest.mark.parametrize("data", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_other_formats_are_refused(data: bytes) -> None:
    assert outcome(data) == "format"


@pytest.mark.parametrize("size", [(1, 201), (201, 1), (3, 601), (1, 65_000)])
def test_extreme_aspects_are_refused(size: tuple[int, int]) -> None:
    assert outcome(encoded(Image.new("1", size), "PNG")) == "aspect"


@pytest.mark.parametrize("side", [7_072, 13_000, 20_000])
def test_too_many_pixels_are_refused_before_they_are_decoded(side: int) -> None:
    data = encoded(Image.new("1", (side, side)), "PNG")
    assert len(data) < 100_000
    start = time.process_time()
    assert outcome(data) == "too_many_pixels"
    assert time.process_time() - start < 0.5


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kept", [0.2, 0.3, 0.5, 0.75, 0.9, 0.99])
@pytest.mark.parametrize(
    "name",
    [
        *("jpeg_rgb", "jpeg_progressive", "png_rgb", "webp_rgb", "bmp_rgb"),
        *("tiff_rgb", "tiff_lzw", "avif_rgb"),
    ],
)
def test_cut_files_are_truncated(name: str, kept: float) -> None:
    data = CASES[name].data
    assert outcome(data[: int(kept * len(data))]) == "truncated"


def test_no_beginning_of_a_jpeg_is_a_image() -> None:
    data = encoded(draw(1))
    scan = data.index(b"\xff\xda")  # where the headers end
    assert {outcome(data[:length]) for length in range(0, scan, 29)} <= {"format", "truncated"}
    for length in [*range(scan + 1, len(data), 53), len(data) - 2, len(data) - 1]:
        assert outcome(data[:length]) == "truncated"


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0"], ids=["no_exif", "exif"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.8])
def test_a_png_with_wrong_bytes_inside_is_truncated(place: float, exif: bytes) -> None:
    data = bytearray(saved(draw(1), "PNG", exif=exif))
    at = int(place * len(data))
    data[at : at + 40] = bytes(40)
    assert outcome(bytes(data)) == "truncated"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name", ["jpeg_rgb", "png_rgb", "webp_rgb", "gif", "bmp_p", "tiff_rgb", "tiff_lzw", "avif_rgb"]
)
def test_damage_of_any_kind_ends_as_a_image_or_a_reason(name: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        data = bytearray(CASES[name].data)
        for at in rng.integers(len(data) if rng.random() < 0.5 else 200, size=3):
            data[at] = rng.integers(256)
        assert outcome(bytes(data)) in OUTCOMES


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size", [(100, 200), (400, 533), (1200, 900), (37, 41)])
def test_a_jpeg_and_its_lossless_copy_give_equal_pixels(size: tuple[int, int], reader: str) -> None:
    jpeg = encoded(draw(4, size))
    copy = encoded(Image.open(io.BytesIO(jpeg)), "PNG")
    assert np.array_equal(decode(jpeg, reader).pixels, decode(copy, reader).pixels)


@pytest.mark.parametrize("size", [(60, 80), (100, 200), (300, 100), (400, 533)])
def test_the_readers_stay_close(size: tuple[int, int]) -> None:
    for seed in range(3):
        image, (width, height) = draw(seed, size), size
        pen = ImageDraw.Draw(image)
        pen.rectangle((width // 5, height // 5, width // 2, height // 2), fill="red")
        pen.ellipse((width // 3, height // 3, width - 9, height - 9), outline="black", width=3)
        data = encoded(image, "PNG")
        fast, original = decode(data, "pillow").pixels, decode(data, "skimage").pixels
        assert structural_similarity(fast, original, channel_axis=0) > 0.95


def test_an_unknown_reader_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"store\.reader=opencv is not one of pillow, skimage"):
        decode(encoded(draw(1)), "opencv")
