"""An image's bytes -> 3 x 200 x 100 uint8, the same for every product; and its detail.

The image is decoded in full before it is resized, so a JPEG and its lossless PNG copy end as the
same pixels. The reader ``scaled`` gives that up for large JPEGs, which it decodes at some eighths
of their size: such an image and its PNG copy are near, and no longer exact, duplicates.

Colours become sRGB: by the image's colour profile where it has one that says otherwise.

The detail is the image in its own aspect, for what the 200 x 100 pixels are too coarse for: a
JPEG of at most 320 pixels on the long side, some 20 KB, whose colours are as fine as its lightness.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from dedup.errors import ConfigError, DecodeError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""No other parser is entered: EPS would start Ghostscript, SVG can read files."""
MAX_PIXELS = 50_000_000
MAX_ASPECT = 200
HEIGHT, WIDTH = 200, 100  # of artifacts.IMAGE_SHAPE, whose pandas has no place in a child process
DETAIL_SIZE = 320
"""The longest side of a detail, in pixels."""
DETAIL_QUALITY = 90
MAX_DETAIL = 2**20
"""Bytes of a detail at most: the finest noise of that size takes a fifth of them."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
SIDEWAYS = (5, 6, 7, 8)
"""The orientations in which width and height change places."""
SCALED_LONG, SCALED_SHORT = 2 * DETAIL_SIZE, 2 * max(HEIGHT, WIDTH)
"""The least sides of a JPEG that is decoded scaled: what is resized after it stays fine enough."""
PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Modes of Pillow and what a profile for them says of itself."""
PROFILE_TOLERANCE = 3
"""Of 255: a profile that moves no colour further is sRGB, whatever its name."""

_START, _SCAN, _FRAME = 0xD8, 0xDA, 0xC0
_IN_DETAILS = {0xE0, 0xDB, _FRAME, 0xC4, _SCAN}
"""The JPEG segments that ``reduced`` writes: head, quantisers, baseline frame, codes, scan."""
_MARKER = re.compile(rb"\xff[^\0]", re.DOTALL)
"""What ends a scan's data, in which a byte of 255 is followed by a 0."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises on broken bytes."""

Pixels = npt.NDArray[np.uint8]
Resize = Callable[[Image.Image], Pixels]


@dataclass(frozen=True)
class Decoded:
    """An image as the store keeps it.

    Attributes:
        pixels: (3, 200, 100) uint8, RGB.
        width: of the original, EXIF turn applied, in pixels.
        height: likewise.
        detail: a JPEG of the upright image, see ``reduced``.
    """

    pixels: Pixels
    width: int
    height: int
    detail: bytes


def decode(data: bytes, reader: str = "pillow") -> Decoded:
    """Decode a JPEG, PNG, WebP, GIF (first frame) or BMP.

    EXIF orientation is applied, alpha is put on white, every colour mode becomes RGB.

    Args:
        data: the file's bytes.
        reader: how to resize: ``pillow`` (bicubic, fast), ``skimage`` (the original's way) or
            ``scaled`` (as ``pillow``, and large JPEGs are decoded at a fraction of their size).

    Raises:
        DecodeError: ``format``, ``truncated``, ``too_many_pixels`` or ``aspect``.
        ConfigError: there is no such reader.
    """
    resize = resizer(reader)
    image, pixels, (width, height) = upright(data, scaled=reader == "scaled")
    return Decoded(resize(image), width, height, _detail(image, pixels))


def upright(
    data: bytes, scaled: bool = False
) -> tuple[Image.Image, npt.NDArray[Any], tuple[int, int]]:
    """An image as it is to be seen.

    Args:
        data: the file's bytes.
        scaled: whether a large JPEG may be decoded at a fraction of its size.

    Returns:
        The image as an RGB image; the same as (height, width, 3) uint8; and the original's
        width and height.

    Raises:
        DecodeError: ``format``, ``truncated``, ``too_many_pixels`` or ``aspect``.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            _check_size(width, height)
            # Pixels first: to look for EXIF loads a PNG, and hides if that fails.
            least = _least(image) if scaled else image.size
            pixels = _fast(data, image, least)
            if scaled and pixels is None:
                image.draft(None, least)
            turned = to_rgb(image) if pixels is None else Image.fromarray(pixels)
            turn = orientation(image)
    except UnidentifiedImageError as error:
        raise DecodeError("format", "not a JPEG, PNG, WebP, GIF or BMP image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too_many_pixels", str(error)) from error
    except UNREADABLE as error:
        raise DecodeError("truncated", str(error)) from error
    if turn in SIDEWAYS:
        width, height = height, width
    if turn in TURNS:
        turned, pixels = turned.transpose(TURNS[turn]), None
    return turned, np.asarray(turned) if pixels is None else pixels, (width, height)


def reduced(image: Image.Image) -> bytes:
    """An RGB image as a JPEG of at most ``DETAIL_SIZE`` on its long side, never enlarged.

    Where that is more than half its size, it is smoothed as an image that much smaller would be,
    if a camera's blur is half a pixel (Lowe, 2004), and interpolated; in half the time of Pillow's
    filters, which do the rest.
    """
    return _detail(image, np.asarray(image))


def _detail(image: Image.Image, pixels: npt.NDArray[Any]) -> bytes:
    ratio = max(1.0, max(image.size) / DETAIL_SIZE)
    width, height = (max(1, round(side / ratio)) for side in image.size)
    if ratio >= 2:
        hamming = Image.Resampling.HAMMING
        pixels = np.asarray(image.resize((width, height), hamming, reducing_gap=2.0))
    elif ratio > 1:
        smooth = cv2.GaussianBlur(pixels, (3, 3), 0.5 * math.sqrt(ratio**2 - 1))
        pixels = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    encoded: bytes = simplejpeg.encode_jpeg(pixels, DETAIL_QUALITY, "RGB", "444")
    return encoded


def restored(detail: bytes) -> Pixels:
    """What ``reduced`` made, as (height, width, 3) uint8 RGB.

    Stores are passed on, and what is in them is decoded here, not in a child process. So no decoder
    is entered for what ``reduced`` does not write, such as a few KB of progressive JPEG whose
    thousands of scans take minutes.

    Raises:
        DecodeError: these bytes are not whole, or not a detail.
    """
    _check_detail(detail)
    try:
        with Image.open(io.BytesIO(detail), formats=("JPEG",)) as image:
            return np.array(image)  # a copy, which can be written to
    except UnidentifiedImageError as error:
        raise DecodeError("format", "not a JPEG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too_many_pixels", str(error)) from error
    except UNREADABLE as error:
        raise DecodeError("truncated", str(error)) from error


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is junk."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Load the first frame as sRGB, transparent parts on white; the image itself where it fits."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(_in_srgb(layer.convert("RGB"), profile), mask=layer.getchannel("A"))
        return image
    if image.mode == "P":
        image = image.convert("RGB")
    return _in_srgb(image, profile)


def _fast(data: bytes, image: Image.Image, least: tuple[int, int]) -> Pixels | None:
    """What Pillow would decode, in two thirds of the time; ``None`` where it has to judge.

    simplejpeg calls the same library, and gives up at the first thing that is odd.

    Args:
        data: the file's bytes.
        image: opened, not loaded.
        least: width and height that have to be kept; all for an image in its own size.
    """
    plain = image.format == "JPEG" and image.mode == "RGB" and "icc_profile" not in image.info
    if not plain:
        return None
    least_of = {} if least == image.size else {"min_width": least[0], "min_height": least[1]}
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", **least_of)
    except ValueError:
        return None
    return pixels


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    image.load()
    change = _to_srgb(profile, image.mode) if profile and image.mode in PROFILE_SPACES else None
    if change is not None:
        image = change.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=4)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What makes a mode's colours sRGB; ``None`` where they are that, or the profile is broken."""
    try:
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if theirs.profile.xcolor_space.strip() != PROFILE_SPACES[mode]:
            return None
        change = ImageCms.buildTransform(
            theirs, ImageCms.createProfile("sRGB"), mode, "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "CMYK":
        return change
    step = 1 if mode == "L" else 51
    levels = np.arange(0, 256, step, dtype=np.uint8)
    grid = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    colours = Image.fromarray(grid.reshape(1, -1, 3) if mode == "RGB" else grid)
    moved = np.asarray(change.apply(colours), np.int16) - np.asarray(colours.convert("RGB"))
    return change if np.abs(moved).max() > PROFILE_TOLERANCE else None


def resize_pillow(image: Image.Image) -> Pixels:
    """Resize an RGB image to (3, 200, 100) uint8.

    Whole numbers of pixels are averaged, and what is left is Pillow's bicubic filter: nearer to
    the mean of each area than that filter alone, in a third of the time. All in whole numbers, so
    the same on every machine.
    """
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, reducing_gap=1.0)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def resize_skimage(image: Image.Image) -> Pixels:
    """Resize an RGB image to (3, 200, 100) uint8 as the original did, by scikit-image."""
    from skimage.transform import resize  # half a second to import, and seldom asked for

    small = resize(np.asarray(image), (HEIGHT, WIDTH), anti_aliasing=True)
    return np.ascontiguousarray((small * 255).round().astype(np.uint8).transpose(2, 0, 1))


READERS: dict[str, Resize] = {
    "pillow": resize_pillow,
    "skimage": resize_skimage,
    "scaled": resize_pillow,
}


def resizer(reader: str) -> Resize:
    """What resizes an RGB image, by its name.

    Raises:
        ConfigError: there is no such reader.
    """
    if reader not in READERS:
        raise ConfigError(f"store.reader={reader} is not one of {', '.join(READERS)}")
    return READERS[reader]


def contrast(pixels: Pixels) -> float:
    """How much there is to be seen: the largest of the channels' standard deviations.

    Args:
        pixels: (3, 200, 100) uint8.

    Returns:
        0, for one flat colour, to 127.5; summed in whole numbers, so the same on every machine.
    """
    values = pixels.reshape(len(pixels), -1).astype(np.int64)
    n = values.shape[1]
    spread = n * (values**2).sum(axis=1) - values.sum(axis=1) ** 2
    return float(np.sqrt(spread.max()) / n)


def _least(image: Image.Image) -> tuple[int, int]:
    """The width and height that an image has to keep where it is decoded at a fraction."""
    share = max(SCALED_LONG / max(image.size), SCALED_SHORT / min(image.size))
    width, height = image.size
    return image.size if share > 0.5 else (math.ceil(width * share), math.ceil(height * share))


def _check_detail(data: bytes) -> None:
    """Look through the segments of a JPEG: one small baseline frame, and all of it in one scan."""
    if len(data) > MAX_DETAIL or data[:2] != bytes([0xFF, _START]):
        raise DecodeError("format", f"{len(data)} bytes that are no detail")
    at, kind, n_frames = 2, 0, 0
    while kind != _SCAN:
        if len(data) < at + 4:
            raise DecodeError("truncated", f"it breaks off after {len(data)} bytes")
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or kind not in _IN_DETAILS:
            raise DecodeError("format", f"a segment {data[at : at + 2].hex()}, as no detail has")
        segment = data[at + 4 : at + 2 + length]
        if kind == _FRAME:
            n_frames += 1
            _check_frame(segment)
        at += 2 + length
    # One component count, three selectors, and the whole spectrum at once.
    if n_frames != 1 or len(segment) != 10 or segment[0] != 3 or segment[7:] != b"\0\x3f\0":
        raise DecodeError("format", "more scans than a detail has")
    end = _MARKER.search(data, at)
    if end is None:
        raise DecodeError("truncated", f"it breaks off after {len(data)} bytes")
    if end.start() != len(data) - 2 or end.group() != b"\xff\xd9":
        raise DecodeError("format", "more after its scan than a detail has")


def _check_frame(frame: bytes) -> None:
    """8 bits, height, width, and three components of one size."""
    height, width = (int.from_bytes(frame[i : i + 2], "big") for i in (1, 3))
    fine = len(frame) == 15 and frame[0] == 8 and frame[5] == 3
    if not fine or {frame[7], frame[10], frame[13]} != {0x11}:
        raise DecodeError("format", "other components than a detail has")
    if not 0 < min(height, width) <= max(height, width) <= DETAIL_SIZE:
        raise DecodeError("format", f"{width} x {height}")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError("too_many_pixels", f"{width} x {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DecodeError("aspect", f"{width} x {height}")
