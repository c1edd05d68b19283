"""TIFF, AVIF and HEIC against pixels that are known, and their refusals by reason."""

import io
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, ExifTags, Image, ImageDraw

from dedup.errors import DecodeError
from dedup.store.decode import Decoded, damage, decode, decode_preview
from dedup.store.decode_pool import Decoders
from tests.conftest import draw, encoded
from tests.store.test_decode import COLOUR, GREY, STORED, letter_l, saved
from tests.support.effort import examples

Array = npt.NDArray[np.uint8]
FINE = {"quality": 100, "subsampling": "4:4:4"}
WIDTH, HEIGHT, BITS, COMPRESSION, KIND, CHANNELS, ROWS, PLANES = (
    256, 257, 258, 259, 262, 277, 278, 284,
)  # fmt: skip
ORIENTATION, TILE_WIDTH, TILE_HEIGHT, EXTRA, SAMPLE_FORMAT = 274, 322, 323, 338, 339
PARTS = {False: (273, 279), True: (324, 325)}  # offsets and sizes of strips, of tiles


def tiff(tags: dict[int, Sequence[int]], parts: Sequence[bytes], order: str = "<") -> bytes:
    """A TIFF by the specification (TIFF 6.0, section 2), of values of 32 bits."""
    offsets, sizes = PARTS[TILE_WIDTH in tags]
    tags = {**tags, offsets: [0] * len(parts), sizes: [len(part) for part in parts]}
    places = [8]
    for values in tags.values():
        places.append(places[-1] + 4 * len(values))
    table = places.pop()
    first = table + 2 + 12 * len(tags) + 4
    tags[offsets] = [first + sum(map(len, parts[:n])) for n in range(len(parts))]
    body = b"".join(struct.pack(f"{order}{len(v)}I", *v) for v in tags.values())
    entries = []
    for (tag, values), place in zip(tags.items(), places, strict=True):
        value = values[0] if len(values) == 1 else place
        entries.append(struct.pack(f"{order}HHII", tag, 4, len(values), value))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, table)
    ends = struct.pack(f"{order}H", len(tags)), bytes(4)
    return (
        head
        + body
        + ends[0]
        + b"".join(sorted(entries, key=lambda e: tag_of(e, order)))
        + (ends[1] + b"".join(parts))
    )


def tag_of(entry: bytes, order: str) -> int:
    return int(struct.unpack(f"{order}H", entry[:2])[0])


def tags(bits: Sequence[int], kind: int, **more: Sequence[int]) -> dict[int, Sequence[int]]:
    """Tags of an image of 100 x 200 in one strip."""
    found: dict[int, Sequence[int]] = {WIDTH: [100], HEIGHT: [200], BITS: bits, COMPRESSION: [1]}
    return (
        found
        | {KIND: [kind], CHANNELS: [len(bits)], ROWS: [200]}
        | {int(name[1:]): values for name, values in more.items()}
    )


def tiles(pixels: Array, side: int = 64) -> list[bytes]:
    """The tiles of an image, padded with zeros."""
    height, width = pixels.shape[:2]
    rows, columns = -height % side, -width % side
    padded = np.pad(pixels, ((0, rows), (0, columns), (0, 0)))
    return [
        padded[y : y + side, x : x + side].tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


WIDE = GREY.astype(np.uint16) * 257
TWELVE = np.repeat(GREY, 2, axis=1)[:, :100].astype(np.uint16) * 4095 // 255


def packed_12(values: npt.NDArray[np.uint16]) -> bytes:
    """Two values of 12 bits in three bytes, the highest bits first."""
    a, b = values.reshape(-1, 2).T
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8).tobytes()


def grey(values: npt.NDArray[Any]) -> Array:
    return np.repeat(values[:, :, None], 3, axis=2).astype(np.uint8)


INKS = np.dstack([255 - COLOUR, np.zeros_like(GREY)])
IN_TILES: dict[int, Sequence[int]] = {
    WIDTH: [100],
    HEIGHT: [200],
    BITS: [8, 8, 8],
    COMPRESSION: [1],
    KIND: [2],
    CHANNELS: [3],
    TILE_WIDTH: [64],
    TILE_HEIGHT: [64],
}
MADE: dict[str, tuple[bytes, Array]] = {
    "rgb": (tiff(tags([8] * 3, 2), [COLOUR.tobytes()]), COLOUR),
    "rgb_big_endian": (tiff(tags([8] * 3, 2), [COLOUR.tobytes()], ">"), COLOUR),
    "rgb_in_strips": (
        tiff(tags([8] * 3, 2) | {ROWS: [50]}, [part.tobytes() for part in np.split(COLOUR, 4)]),
        COLOUR,
    ),
    "rgb_in_planes": (
        tiff(tags([8] * 3, 2) | {PLANES: [2]}, [COLOUR[..., n].tobytes() for n in range(3)]),
        COLOUR,
    ),
    "rgb_in_tiles": (tiff(IN_TILES, tiles(COLOUR)), COLOUR),
    "inks": (tiff(tags([8] * 4, 5), [INKS.tobytes()]), COLOUR),
    "grey": (tiff(tags([8], 1), [GREY.tobytes()]), grey(GREY)),
    "grey_white_is_zero": (tiff(tags([8], 0), [GREY.tobytes()]), grey(255 - GREY)),
    "grey_16_bits": (tiff(tags([16], 1), [WIDE.astype("<u2").tobytes()]), grey(GREY)),
    "grey_16_bits_big_endian": (
        tiff(tags([16], 1), [WIDE.astype(">u2").tobytes()], ">"), grey(GREY)
    ),
    "grey_16_bits_white_is_zero": (
        tiff(tags([16], 0), [WIDE.astype("<u2").tobytes()]), grey(255 - GREY)
    ),
    "grey_12_bits": (tiff(tags([12], 1), [packed_12(TWELVE)]), grey(TWELVE >> 4)),
    "rgb_16_bits": (
        tiff(tags([16] * 3, 2), [(COLOUR.astype("<u2") * 257).astype("<u2").tobytes()]), COLOUR
    ),
    "one_bit": (
        tiff(tags([1], 1), [np.packbits(GREY > 127, axis=1).tobytes()]), grey((GREY > 127) * 255)
    ),
    "rgb_and_one_more": (
        tiff(tags([8] * 4, 2) | {EXTRA: [0]}, [np.dstack([COLOUR, GREY]).tobytes()]), COLOUR
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_tiff_by_the_specification_has_its_pixels(name: str) -> None:
    data, truth = MADE[name]
    assert np.array_equal(decode(data).pixels.transpose(1, 2, 0), truth)


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"]
)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_lossless_tiff_and_a_png_are_equal(compression: str, mode: str) -> None:
    has_alpha = mode in ("LA", "RGBA")
    image = Image.fromarray(np.dstack([COLOUR, GREY]) if has_alpha else COLOUR).convert(mode)
    assert same(decode(saved(image, "TIFF", compression=compression)), decode(saved(image, "PNG")))


def same(one: Decoded, other: Decoded) -> bool:
    return np.array_equal(one.pixels, other.pixels) and one.detail == other.detail


@settings(max_examples=examples(30), deadline=None, derandomize=True, database=None)
@given(st.integers(0, 99), st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_any_size_saved_as_tiff_and_as_png_is_stored_alike(
    seed: int, width: int, height: int, big: bool
) -> None:
    image = draw(seed, (width, height))
    plain = decode(saved(image, "PNG"))
    assert same(decode(saved(image, "TIFF", big_tiff=big)), plain)
    assert same(decode(saved(image, "TIFF", compression="tiff_lzw")), plain)


@pytest.mark.parametrize("size", [(64, 96), (101, 57)])
@pytest.mark.parametrize("seed", [1, 2])
def test_an_avif_of_high_quality_stays_near(seed: int, size: tuple[int, int]) -> None:
    image = draw(seed, size)
    data = saved(image, "AVIF", quality=95, subsampling="4:4:4", speed=10)
    found, plain = decode(data), decode(saved(image, "PNG"))
    assert (found.width, found.height) == size
    assert np.abs(found.pixels.astype(int) - plain.pixels).mean() < 3


def test_the_pixels_of_an_avif_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(draw(1, (500, 600)), "AVIF", quality=60, speed=10, tile_rows=1, tile_cols=1)
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 1
    alone = decode(data)
    monkeypatch.setattr(AvifImagePlugin, "DEFAULT_MAX_THREADS", 4)
    assert same(decode(data), alone)


@pytest.mark.parametrize(("kind", "options"), [("TIFF", {}), ("AVIF", FINE)])
def test_the_first_page_or_frame_alone_is_read(kind: str, options: dict[str, Any]) -> None:
    first, second = draw(1, (100, 200)), draw(2, (100, 200))
    both = saved(first, kind, save_all=True, append_images=[second], **options)
    assert np.abs(decode(both).pixels.astype(int) - decode(encoded(first, "PNG")).pixels).max() <= 9


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options"), [("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("AVIF", FINE)]
)
def test_orientation_is_undone(orientation: int, kind: str, options: dict[str, Any]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation](letter_l())))
    turned = decode(saved(image, kind, exif=exif, **options))
    upright = decode(encoded(Image.fromarray(letter_l()), "PNG"))
    assert np.abs(turned.pixels.astype(int) - upright.pixels).max() <= 2
    assert (turned.width, turned.height) == (64, 96)


def test_orientation_of_16_bits() -> None:
    stored = np.ascontiguousarray(STORED[6](np.dstack([GREY] * 3))[..., 0]).astype("<u2") * 257
    made = tags([16], 1) | {WIDTH: [200], HEIGHT: [100], ROWS: [100], ORIENTATION: [6]}
    assert np.array_equal(decode(tiff(made, [stored.tobytes()])).pixels[0], GREY)


GREY_TAGS = tags([8], 1)
AVIF = saved(draw(1, (64, 96)), "AVIF")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(500, b"\0")
REFUSED = {
    "compression": (tiff(GREY_TAGS | {COMPRESSION: [34925]}, [b""]), "format", "compression 34925"),
    "old_jpeg": (tiff(GREY_TAGS | {COMPRESSION: [6]}, [b""]), "format", "compression 6: save"),
    "lab": (tiff(tags([8] * 3, 8), [COLOUR.tobytes()]), "format", "pixels of kind 8"),
    "mask": (tiff(tags([1], 4), [bytes(2600)]), "format", "pixels of kind 4"),
    "fractions": (
        tiff(tags([32], 1) | {SAMPLE_FORMAT: [3]}, [bytes(80_000)]), "format", "fractional"
    ),
    "32_bits": (tiff(tags([32], 1), [bytes(80_000)]), "format", "32-bit"),
    "signed": (tiff(tags([16], 1) | {SAMPLE_FORMAT: [2]}, [bytes(40_000)]), "format", "signed"),
    "thumbnail": (tiff(GREY_TAGS | {254: [1]}, [GREY.tobytes()]), "format", "thumbnail"),
    "many_pixels": (
        tiff(GREY_TAGS | {WIDTH: [60_000], HEIGHT: [60_000]}, [b"x"]), "too_many_pixels", ""
    ),
    "aspect": (tiff(GREY_TAGS | {WIDTH: [60_000], HEIGHT: [2]}, [b"x"]), "aspect", "60000 x 2"),
    "no_tags": (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "truncated", "damaged TIFF"),
    "tags_beyond_the_end": (b"MM\0*\xff\xff\xff\xff", "truncated", "damaged TIFF"),
    "head_alone": (b"II*\0", "truncated", "damaged TIFF"),
    "tiff_without_its_end": (MADE["grey"][0][:-99], "truncated", ""),
    "avif_without_its_end": (AVIF[:-20], "truncated", "Truncated data"),
    "avif_head": (AVIF[:90], "truncated", "damaged AVIF"),
    "avif_of_too_many_pixels": (
        AVIF.replace(struct.pack(">II", 64, 96), struct.pack(">II", 9000, 9000)),
        "too_many_pixels", "9000 x 9000",
    ),
    "avif_that_says_it_is_huge": (
        AVIF.replace(struct.pack(">II", 64, 96), struct.pack(">II", 10**6, 10**6)),
        "truncated", "damaged AVIF",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, on damaged tags
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_says_why(name: str) -> None:
    data, reason, words = REFUSED[name]
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.reason == reason
    assert words in caught.value.detail
    assert caught.value.detail


def test_a_heic_names_the_extra_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as where it is not installed
    with pytest.raises(DecodeError, match=r"dedup-catalogue\[heic\]") as caught:
        decode(HEIC)
    assert caught.value.reason == "format"


def test_a_heic_is_read_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image, buffer = draw(1, (100, 200)), io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=95)
    found = decode(buffer.getvalue())
    assert np.abs(found.pixels.astype(int) - decode(encoded(image, "PNG")).pixels).mean() < 4
    with pytest.raises(DecodeError, match="damaged HEIC") as caught:
        decode(HEIC)
    assert caught.value.reason == "truncated"


def test_children_read_both_and_outlive_their_damage() -> None:
    good = [MADE["rgb_in_tiles"][0], saved(draw(2), "TIFF", compression="tiff_lzw"), AVIF]
    bad = [data[: len(data) // 2] for data in good]
    with Decoders(workers=1) as pool:
        futures = [pool.submit(data) for data in [*good, *bad, *good]]
        for data, future in zip(good * 2, [*futures[:3], *futures[6:]], strict=True):
            assert same(future.result(60).image, decode(data))
        assert {f.exception(60).reason for f in futures[3:6]} == {"truncated"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Pixel allocation failed: Out of memory", MemoryError),
        ("Memory allocation error: Unspecified: Allocating 50013199 bytes failed", MemoryError),
        ("Decompressed data too large for PngImagePlugin.MAX_TEXT_MEMORY", DecodeError),
        ("", DecodeError),
    ],
)
def test_a_lack_of_memory_is_no_damage(message: str, kind: type[Exception]) -> None:
    found = damage(RuntimeError(message))
    assert isinstance(found, kind)
    assert str(found)


def label(colour: int, soft: bool) -> Image.Image:
    """A word on transparency, with edges of part opacity or of none."""
    alpha = Image.new("L", (300, 300), 0)
    ImageDraw.Draw(alpha).ellipse((60, 40, 240, 250), fill=255)
    ImageDraw.Draw(alpha).rectangle((100, 130, 200, 160), fill=0)
    if soft:
        alpha = alpha.resize((75, 75)).resize((300, 300), Image.Resampling.BICUBIC)
    image = Image.new("RGB", (300, 300), (colour, colour, colour))
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_dark_artwork_matches_its_opaque_copy_on_white(kind: str, soft: bool) -> None:
    image = label(0, soft)
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    original = decode(saved(image, kind, lossless=True) if kind == "WEBP" else saved(image, kind))
    copy = decode(saved(flat, "JPEG", quality=92))
    assert np.abs(original.pixels.astype(int) - copy.pixels).mean() < 2
    assert original.pixels.min() < 10
    assert original.pixels[:, 2, 2].min() == 255


@pytest.mark.parametrize("soft", [False, True])
def test_white_artwork_is_seen_whatever_its_edges(soft: bool) -> None:
    shown = decode_preview(decode(saved(label(255, soft), "TIFF")).detail).astype(int)
    assert abs(shown[2, 2] - 128).max() <= 3
    assert shown.max() >= 252
