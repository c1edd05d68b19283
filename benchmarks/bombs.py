"""Images made to exhaust whoever decodes them, as ``benchmarks/attacks.py`` has them read.

Each is a file below the ingest's limit of 20 MiB, and most are a few KB.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 7071
"""A square of this side has just less than 50 million pixels, the limit."""
LIMIT = 20 * 2**20
FRAMES = 10_000


class Bomb(NamedTuple):
    """An image, and the words that may be said of it: each a status, or a reason."""

    make: Callable[[], bytes]
    expected: str


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def blank(mode: str = "RGB", width: int = SIDE, height: int = SIDE) -> Image.Image:
    """An image of one colour that is neither black nor white."""
    return Image.new(mode, (width, height), {"1": 1, "P": 1, "I;16": 40_000}.get(mode))


def chunk(kind: bytes, data: bytes) -> bytes:
    """A piece of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, size: tuple[int, int] = (64, 96), bits: int = 8, colour: int = 0) -> bytes:
    """A PNG of these pieces."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """So many zeros, packed by zlib in a thousandth of the bytes."""
    machine, block = zlib.compressobj(9), bytes(2**20)
    packed = [machine.compress(block) for _ in range(size // len(block))]
    return b"".join([*packed, machine.compress(bytes(size % len(block))), machine.flush()])


ROWS = zlib.compress(b"".join(b"\0" + bytes(range(0, 192, 3)) for _ in range(96)))
"""The pixels of a PNG of 64 x 96 in grey."""
PIXELS = chunk(b"IDAT", ROWS)


def flat_png(bits: int, colour: int, channels: int, *before: bytes, side: int = SIDE) -> bytes:
    """A PNG of zeros, tiny however many pixels it has."""
    row = 1 + (side * bits * channels + 7) // 8
    pixels = chunk(b"IDAT", zeros(row * side))
    return png(*before, pixels, size=(side, side), bits=bits, colour=colour)


def many_chunks(kind: bytes, data: bytes) -> bytes:
    """A PNG of 20 MiB of pieces of a few bytes each."""
    one = chunk(kind, data)
    return png(PIXELS, *([one] * ((LIMIT - 10_000) // len(one))))


def many_texts() -> bytes:
    """A PNG of texts of different names, before the pixels."""
    texts = [chunk(b"tEXt", b"%08d\0x" % number) for number in range(900_000)]
    return png(*texts, PIXELS)


def apng() -> bytes:
    """A PNG of 10,000 frames."""

    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 64, 96, 0, 0, 1, 10, 0, 0))

    frames = [chunk(b"acTL", struct.pack(">II", FRAMES, 0)), control(0), PIXELS]
    for number in range(1, FRAMES):
        frames.append(control(2 * number - 1))
        frames.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + ROWS))
    return png(*frames)


def box(kind: bytes, data: bytes) -> bytes:
    """A piece of a WebP."""
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def size24(*values: int) -> bytes:
    """Numbers less one, in three bytes each, as a WebP has its sizes."""
    return b"".join((value - 1).to_bytes(3, "little") for value in values)


def animated_webp(width: int, height: int, frames: int) -> bytes:
    """A WebP whose canvas is as large as is said, of frames of 2 x 2."""
    still = saved(Image.new("RGB", (2, 2), (64, 64, 64)), "WEBP", lossless=True)[12:]
    where = bytes(6) + size24(2, 2) + b"\x0a\0\0\0"  # corner, size, ms and flags
    body = box(b"VP8X", b"\x02\0\0\0" + size24(width, height)) + box(b"ANIM", bytes(6))
    body += box(b"ANMF", where + still) * frames
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def gif(width: int, height: int, frames: int = 1, extensions: bytes = b"", shown: int = 8) -> bytes:
    """A GIF whose screen is as large as is said, of frames of one colour."""
    still = saved(Image.new("P", (shown, shown), 1), "GIF")
    image = still[still.index(b"\x2c", 13 + 3 * 2 ** (1 + (still[10] & 7))) : -1]
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + bytes(range(256)) * 3
    return head + extensions + image * frames + b";"


def comments() -> bytes:
    """20 MiB of comments for a GIF, each of many pieces."""
    return b"\x21\xfe" + (b"\xff" + b"x" * 255) * ((LIMIT - 10_000) // 256) + b"\0"


def bmp(width: int, height: int, data: bytes, compression: int = 0, bits: int = 8) -> bytes:
    """A BMP with a head that says what it is told."""
    palette = bytes(4 * 256)
    start = 54 + len(palette)
    head = struct.pack("<IiiHHII", 40, width, height, 1, bits, compression, len(data))
    head += struct.pack("<iiII", 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = saved(blank("L", side, side), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def segments(mark: int, data: bytes, count: int) -> bytes:
    """A JPEG with segments of a kind after its start."""
    whole = saved(blank("RGB", 64, 96), "JPEG")
    one = bytes([0xFF, mark]) + struct.pack(">H", len(data) + 2) + data
    return whole[:2] + one * count + whole[2:]


def deep_exif() -> bytes:
    """EXIF that says it has 65,535 entries of 4 GB, each of which points back at it."""
    entry = struct.pack("<HHII", 0x8769, 4, 2**31, 8)
    return b"II*\0\x08\0\0\0\xff\xff" + entry * 5000


def noise(kind: str, side: int = 2400) -> bytes:
    """An image that cannot be packed, of some 17 MB."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return saved(Image.fromarray(pixels), kind)


def avif() -> bytes:
    """An AVIF of 16 million pixels in a few KB."""
    return saved(blank("RGB", 4096, 4096), "AVIF", speed=10)


def avif_that_says(side: int) -> bytes:
    """An AVIF of 16 million pixels with another size in its header."""
    return avif().replace(struct.pack(">II", 4096, 4096), struct.pack(">II", side, side))


def tags() -> bytes:
    """A TIFF of 65,000 tags, each of which says it has 2³⁰ bytes from the same place."""
    table = b"".join(struct.pack("<HHII", 256 + n, 1, 2**30, 8) for n in range(65_000))
    return struct.pack("<2sHIH", b"II", 42, 8, 65_000) + table + bytes(4)


TOO_MANY, SLOW = "too_many_pixels", "decoder_timeout"
BOMBS: dict[str, Bomb] = {
    "none: an image of 64 x 96": Bomb(lambda: png(PIXELS), "ok"),
    "PNG, 13,000² in one bit": Bomb(lambda: flat_png(1, 0, 1, side=13_000), TOO_MANY),
    "PNG that says 2³¹ x 2³¹": Bomb(lambda: png(PIXELS, size=(2**31 - 1,) * 2), TOO_MANY),
    "PNG, 1,000,000 x 1": Bomb(lambda: png(PIXELS, size=(1_000_000, 1)), "aspect"),
    "PNG, 50 MP in one bit": Bomb(lambda: flat_png(1, 0, 1), "ok"),
    "PNG, 50 MP of RGBA in 16 bit": Bomb(lambda: flat_png(16, 6, 4), "ok decoder_oom"),
    "PNG, 50 MP of grey in 16 bit": Bomb(lambda: flat_png(16, 0, 1), "ok decoder_oom"),
    "PNG, 50 MP of grey and alpha": Bomb(lambda: flat_png(8, 4, 2), "ok decoder_oom"),
    "PNG, 1 GB in the pixels of 64 x 96": Bomb(
        lambda: png(chunk(b"IDAT", zeros(2**30))), "ok truncated"
    ),
    "PNG, text of 1 GB (zTXt)": Bomb(
        lambda: png(chunk(b"zTXt", b"a\0\0" + zeros(2**30)), PIXELS), "truncated"
    ),
    "PNG, text of 1 GB after the pixels": Bomb(
        lambda: png(PIXELS, chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(2**30))), "truncated"
    ),
    "PNG, profile of 1 GB (iCCP)": Bomb(
        lambda: png(chunk(b"iCCP", b"a\0\0" + zeros(2**30)), PIXELS), "ok truncated"
    ),
    "PNG, 1,000,000 empty pieces": Bomb(lambda: many_chunks(b"abCd", b""), f"ok {SLOW}"),
    "PNG, 1,000,000 pieces of a text": Bomb(
        lambda: many_chunks(b"tEXt", b"a\0b"), f"ok truncated {SLOW}"
    ),
    "PNG, 900,000 texts": Bomb(many_texts, f"ok truncated {SLOW}"),
    "PNG, EXIF that points at itself": Bomb(lambda: png(PIXELS, chunk(b"eXIf", deep_exif())), "ok"),
    "APNG, 10,000 frames": Bomb(apng, "ok"),
    "WebP, 50 MP": Bomb(lambda: saved(blank("RGB", 16_000, 3_100), "WEBP", lossless=True), "ok"),
    "WebP, 10,000 frames": Bomb(lambda: animated_webp(64, 96, FRAMES), "ok"),
    "WebP, a canvas of 16,384²": Bomb(
        lambda: animated_webp(16_384, 16_384, 1), f"{TOO_MANY} truncated decoder_oom"
    ),
    "WebP, a canvas of 50 MP, 10,000 frames": Bomb(
        lambda: animated_webp(SIDE, SIDE, FRAMES), "ok decoder_oom"
    ),
    "GIF, a screen of 65,535²": Bomb(lambda: gif(65_535, 65_535), TOO_MANY),
    "GIF, 50 MP": Bomb(lambda: saved(blank("P"), "GIF"), "ok"),
    "GIF, a screen of 50 MP, 10,000 frames": Bomb(lambda: gif(SIDE, SIDE, FRAMES), "ok"),
    "GIF, a frame beyond its screen": Bomb(
        lambda: gif(8, 8, shown=16_000), f"{TOO_MANY} truncated decoder_oom"
    ),
    "GIF, 20 MiB of comments": Bomb(lambda: gif(64, 96, extensions=comments()), f"ok {SLOW}"),
    "AVIF, 16 MP": Bomb(avif, "ok"),
    "AVIF that says it is 10⁵ x 10⁵": Bomb(lambda: avif_that_says(10**5), "truncated"),
    "AVIF, 16 MP that says it is 100 x 100": Bomb(lambda: avif_that_says(100), "ok"),
    "TIFF, 50 MP": Bomb(lambda: saved(blank(), "TIFF", compression="tiff_lzw"), "ok"),
    "TIFF, 50 MP in inks": Bomb(
        lambda: saved(blank("CMYK"), "TIFF", compression="tiff_adobe_deflate"), "ok decoder_oom"
    ),
    "TIFF, 13,000² in one bit": Bomb(
        lambda: saved(blank("1", 13_000, 13_000), "TIFF", compression="group4"), TOO_MANY
    ),
    "TIFF, 65,000 tags of 1 GB each": Bomb(tags, "truncated"),
    "BMP that says 2³¹ x 2³¹": Bomb(lambda: bmp(2**31 - 1, 2**31 - 1, b""), TOO_MANY),
    "BMP, 50 MP of which nothing is there": Bomb(lambda: bmp(SIDE, SIDE, b"\0" * 99), "truncated"),
    "BMP, 50 MP of leaps (RLE)": Bomb(
        lambda: bmp(SIDE, SIDE, b"\0\2\xff\xff" * 300_000, 1), f"ok truncated {SLOW}"
    ),
    "BMP, 10,000,000 runs of one pixel (RLE)": Bomb(
        lambda: bmp(SIDE, SIDE, b"\1\1" * (LIMIT // 2 - 5000), 1), f"ok truncated {SLOW}"
    ),
    "JPEG, 50 MP": Bomb(lambda: saved(blank(), "JPEG"), "ok"),
    "JPEG, 50 MP in inks": Bomb(lambda: saved(blank("CMYK"), "JPEG"), "ok decoder_oom"),
    "JPEG, 50 MP, progressive": Bomb(lambda: saved(blank(), "JPEG", progressive=True), "ok"),
    "JPEG, 20,000 scans of 16 MP": Bomb(lambda: scans(20_000, 4000), SLOW),
    "JPEG, 2,000 scans of 1 MP": Bomb(lambda: scans(2_000, 1000), f"ok truncated {SLOW}"),
    "JPEG, 20 MiB of notes": Bomb(lambda: segments(0xFE, b"x" * 65_000, 320), "ok"),
    "JPEG, 5,000,000 empty segments": Bomb(
        lambda: segments(0xE5, b"", LIMIT // 4 - 5000), f"ok {SLOW} decoder_oom"
    ),
    "JPEG, 20 MiB of profiles": Bomb(
        lambda: segments(0xE2, b"ICC_PROFILE\0\1\1" + b"x" * 65_000, 320), "ok"
    ),
    "noise as PNG, 17 MB": Bomb(lambda: noise("PNG"), "ok"),
    "noise as WebP": Bomb(lambda: noise("WEBP"), "ok"),
}  # fmt: skip
"""Images by what they are."""
