"""Decode an image into 3 x 200 x 100 uint8 pixels and a preview.

The image is decoded in full before it is resized, so a JPEG and its lossless PNG copy give equal
pixels. The reader ``scaled`` decodes large JPEGs at some eighths of their size instead. Such an
image and its PNG copy are then near duplicates, no longer exact ones. Colours become sRGB.

The preview, ``detail`` in the code, is a JPEG in the image's own aspect, at most 320 pixels on the
long side, some 20 KB, without chroma subsampling.
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
from PIL import ExifTags, Image, ImageChops, ImageCms, UnidentifiedImageError

from dedup.errors import ConfigError, DecodeError
from dedup.store.image_file import open_image
from dedup.store.measures import Measures, measure
from dedup.store.tiff import DAMAGED, eight_bits

MAX_PIXELS = 50_000_000
MAX_ASPECT = 200
HEIGHT, WIDTH = 200, 100  # schemas.IMAGE_SHAPE; its pandas would slow the start of each decoder
DETAIL_SIZE = 320
"""The longest side of a preview, in pixels."""
DETAIL_QUALITY = 90
MAX_DETAIL = 2**20
"""The largest preview in bytes: fine noise of 320 x 320 pixels takes a fifth of it."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Transposition that undoes each EXIF orientation."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange width and height."""
SCALED_LONG, SCALED_SHORT = 2 * DETAIL_SIZE, 2 * max(HEIGHT, WIDTH)
"""Smallest sides of a JPEG decoded at a fraction: twice those of the preview and of the pixels, so
that both are still reduced from finer images."""
PROFILE_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}
"""Colour space that a profile declares, by Pillow's mode."""
PROFILE_TOLERANCE = 3
"""Largest change of a colour, of 255, at which a profile still counts as sRGB."""
LEAST_INK = 3
"""Root mean square difference from white, of 255, below which artwork cannot be seen on white."""
LEAST_SEEN = 10
"""On white artwork is lost, too, of which at most one part of this many differs from white by more
than ``LEAST_INK``."""
WHITE, GREY = (255, 255, 255), (128, 128, 128)
"""Grounds of transparent images."""

_START, _SCAN, _FRAME = 0xD8, 0xDA, 0xC0
_IN_DETAILS = {0xE0, 0xDB, _FRAME, 0xC4, _SCAN}
"""JPEG segments that ``encode_preview`` writes: header, quantisers, baseline frame, codes, scan."""
_MARKER = re.compile(rb"\xff[^\0]", re.DOTALL)
"""End of a scan's data: inside it, a byte of 255 is followed by a 0."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""Errors that Pillow raises on damaged bytes."""

Pixels = npt.NDArray[np.uint8]
Resize = Callable[[Image.Image], Pixels]


@dataclass(frozen=True)
class Decoded:
    """A decoded image, as the store keeps it.

    Attributes:
        pixels: (3, 200, 100) uint8, RGB.
        width: width of the upright original, in pixels.
        height: height of the upright original, in pixels.
        detail: preview, a JPEG of the upright image, see ``encode_preview``.
        measures: of its health; ``None`` where the file is gone.
    """

    pixels: Pixels
    width: int
    height: int
    detail: bytes
    measures: Measures | None = None


def decode(data: bytes, reader: str = "pillow") -> Decoded:
    """Decode a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF: its first frame or page.

    HEIC is decoded where the package ``pillow-heif`` is installed.

    EXIF orientation is applied, alpha is put on white (white artwork on grey), all becomes RGB.

    Args:
        data: bytes of the file.
        reader: method of resizing: ``pillow`` (bicubic, fast), ``skimage`` (as the original
            experiment) or ``scaled`` (as ``pillow``, with large JPEGs decoded at a fraction of
            their size).

    Raises:
        DecodeError: ``format``, ``truncated``, ``too_many_pixels`` or ``aspect``.
        ConfigError: unknown reader.
    """
    resize = resizer(reader)
    image, pixels, (width, height) = decode_upright(data, scaled=reader == "scaled")
    small = resize(image)
    measures = measure(pixels, small, data)
    return Decoded(small, width, height, _detail(image, pixels), measures)


def decode_upright(
    data: bytes, scaled: bool = False
) -> tuple[Image.Image, npt.NDArray[Any], tuple[int, int]]:
    """Decode an image upright and in sRGB.

    Args:
        data: bytes of the file.
        scaled: whether a large JPEG may be decoded at a fraction of its size.

    Returns:
        The image in RGB; the same as (height, width, 3) uint8; and the original's width and
        height.

    Raises:
        DecodeError: ``format``, ``truncated``, ``too_many_pixels`` or ``aspect``.
        MemoryError: memory does not suffice.
    """
    try:
        with open_image(data) as image:
            width, height = image.size
            _check_size(width, height)
            # Pixels first: reading EXIF loads a PNG, and hides that this fails.
            min_size = _min_size(image) if scaled else image.size
            pixels = _decode_plain_jpeg(data, image, min_size)
            if scaled and pixels is None:
                image.draft(None, min_size)
            turned = to_rgb(image) if pixels is None else Image.fromarray(pixels)
            turn = orientation(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too_many_pixels", str(error)) from error
    except (*UNREADABLE, *DAMAGED) as error:
        raise damage(error) from error
    if turn in SIDEWAYS:
        width, height = height, width
    if turn in TURNS:
        turned, pixels = turned.transpose(TURNS[turn]), None
    return turned, np.asarray(turned) if pixels is None else pixels, (width, height)


def damage(error: Exception) -> DecodeError | MemoryError:
    """Turn a decoder's error into the failure of an image.

    The decoders of AVIF and HEIC report a lack of memory in the words of an error.
    """
    detail = str(error) or type(error).__name__
    if re.search("out of memory|memory allocation", detail, re.IGNORECASE):
        return MemoryError(detail)
    return DecodeError("truncated", detail)


def encode_preview(image: Image.Image) -> bytes:
    """Encode an RGB image as a preview: at most ``DETAIL_SIZE`` on its long side, never enlarged.

    An image up to twice that size is blurred, by a camera's blur of half a pixel (Lowe, 2004) at
    the new size, and interpolated linearly. This takes half the time of Pillow's filters, which
    reduce larger images.
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


def decode_preview(detail: bytes) -> Pixels:
    """Decode a preview made by ``encode_preview`` to (height, width, 3) uint8 RGB.

    Stores are passed on between people, and previews are decoded in this process, not in a child.
    So only JPEGs of the form that ``encode_preview`` writes are decoded. Otherwise a few KB of
    progressive JPEG with thousands of scans would take minutes.

    Raises:
        DecodeError: the bytes are truncated, or not a preview.
    """
    _check_detail(detail)
    try:
        with Image.open(io.BytesIO(detail), formats=("JPEG",)) as image:
            return np.array(image)  # a writable copy
    except UnidentifiedImageError as error:
        raise DecodeError("format", "not a JPEG") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too_many_pixels", str(error)) from error
    except UNREADABLE as error:
        raise DecodeError("truncated", str(error)) from error


def orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 if there is none or the EXIF block is damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Load the first frame in sRGB, transparent parts on white; an sRGB image is not copied.

    White artwork, such as a white logo, is put on grey instead, also with a small dark mark beside
    it: on white all such images are alike.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16") and image.format == "TIFF":
        image = eight_bits(image)
    elif image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        artwork, alpha = _in_srgb(layer.convert("RGB"), profile), layer.getchannel("A")
        image = Image.new("RGB", layer.size, GREY if _is_unseen_on_white(artwork, alpha) else WHITE)
        image.paste(artwork, mask=alpha)
        return image
    if image.mode == "P":
        image = image.convert("RGB")
    return _in_srgb(image, profile)


def _is_unseen_on_white(artwork: Image.Image, alpha: Image.Image) -> bool:
    """Return whether there is artwork, and hardly any of it differs from white.

    That is so where the whole image would look blank, and where a tenth of the artwork at most is
    seen, such as a small dark mark beside a white logo: all such logos would be one image. Artwork
    that fills three quarters of the image is no logo, but a photo on white with round corners.

    Args:
        artwork: in RGB.
        alpha: its opacity, in mode L and of the same size.
    """
    if alpha.getextrema() == (0, 0):
        return False
    red, green, blue = artwork.split()
    away = ImageChops.invert(ImageChops.darker(ImageChops.darker(red, green), blue))
    ink = ImageChops.multiply(away, alpha).histogram()
    total = sum(level**2 * n for level, n in enumerate(ink))  # in integers: the same everywhere
    if total < LEAST_INK**2 * alpha.width * alpha.height:
        return True
    is_seen = away.point([255 * (level > LEAST_INK) for level in range(256)])
    seen, area = (
        sum(level * n for level, n in enumerate(opacity))
        for opacity in (alpha.histogram(is_seen), alpha.histogram())
    )
    return LEAST_SEEN * seen <= area and 4 * area <= 3 * 255 * alpha.width * alpha.height


def _decode_plain_jpeg(data: bytes, image: Image.Image, min_size: tuple[int, int]) -> Pixels | None:
    """Decode as Pillow would, in two thirds of the time; ``None`` if Pillow has to decode.

    simplejpeg calls the same library, and gives up on any irregularity.

    Args:
        data: bytes of the file.
        image: image that is opened but not loaded.
        min_size: smallest width and height to decode to; the image's own size for all of it.
    """
    is_plain = image.format == "JPEG" and image.mode == "RGB" and "icc_profile" not in image.info
    if not is_plain:
        return None
    limits = {} if min_size == image.size else {"min_width": min_size[0], "min_height": min_size[1]}
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", **limits)
    except ValueError:
        return None
    return pixels


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    image.load()
    to_srgb = _to_srgb(profile, image.mode) if profile and image.mode in PROFILE_SPACES else None
    if to_srgb is not None:
        image = to_srgb.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=4)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform to sRGB; ``None`` for a profile that is sRGB or damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != PROFILE_SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode == "CMYK":
        return transform
    step = 1 if mode == "L" else 51
    levels = np.arange(0, 256, step, dtype=np.uint8)
    grid = levels[None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    colours = Image.fromarray(grid.reshape(1, -1, 3) if mode == "RGB" else grid)
    change = np.asarray(transform.apply(colours), np.int16) - np.asarray(colours.convert("RGB"))
    return transform if np.abs(change).max() > PROFILE_TOLERANCE else None


def resize_pillow(image: Image.Image) -> Pixels:
    """Resize an RGB image to (3, 200, 100) uint8.

    Blocks of whole pixels are averaged first; Pillow's bicubic filter does the rest. The result is
    nearer to the mean of each area than with that filter alone, and takes a third of the time. The
    arithmetic is in integers, so the result is the same on every machine.
    """
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, reducing_gap=1.0)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def resize_skimage(image: Image.Image) -> Pixels:
    """Resize an RGB image to (3, 200, 100) uint8 by scikit-image, as the original experiment."""
    from skimage.transform import resize  # half a second to import, and rarely used

    small = resize(np.asarray(image), (HEIGHT, WIDTH), anti_aliasing=True)
    return np.ascontiguousarray((small * 255).round().astype(np.uint8).transpose(2, 0, 1))


READERS: dict[str, Resize] = {
    "pillow": resize_pillow,
    "skimage": resize_skimage,
    "scaled": resize_pillow,
}


def resizer(reader: str) -> Resize:
    """Return the resizing function of a reader.

    Raises:
        ConfigError: unknown reader.
    """
    if reader not in READERS:
        raise ConfigError(f"store.reader={reader} is not one of {', '.join(READERS)}: choose one")
    return READERS[reader]


def contrast(pixels: Pixels) -> float:
    """Measure contrast as the largest of the channels' standard deviations.

    Args:
        pixels: (3, 200, 100) uint8.

    Returns:
        0, for one flat colour, to 127.5; summed in integers, so the same on every machine.
    """
    values = pixels.reshape(len(pixels), -1).astype(np.int64)
    n = values.shape[1]
    spread = n * (values**2).sum(axis=1) - values.sum(axis=1) ** 2
    return float(np.sqrt(spread.max()) / n)


def _min_size(image: Image.Image) -> tuple[int, int]:
    """Return the smallest width and height to decode an image to."""
    share = max(SCALED_LONG / max(image.size), SCALED_SHORT / min(image.size))
    width, height = image.size
    return image.size if share > 0.5 else (math.ceil(width * share), math.ceil(height * share))


def _check_detail(data: bytes) -> None:
    """Check the segments of a JPEG: one small baseline frame, in a single scan."""
    if len(data) > MAX_DETAIL or data[:2] != bytes([0xFF, _START]):
        raise DecodeError("format", f"{len(data)} bytes that are not a preview")
    at, kind, n_frames = 2, 0, 0
    while kind != _SCAN:
        if len(data) < at + 4:
            raise DecodeError("truncated", f"the preview ends after {len(data)} bytes")
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or kind not in _IN_DETAILS:
            raise DecodeError("format", f"a segment {data[at : at + 2].hex()}, not in previews")
        segment = data[at + 4 : at + 2 + length]
        if kind == _FRAME:
            n_frames += 1
            _check_frame(segment)
        at += 2 + length
    # One component count, three selectors, and the whole spectrum at once.
    if n_frames != 1 or len(segment) != 10 or segment[0] != 3 or segment[7:] != b"\0\x3f\0":
        raise DecodeError("format", "several scans, where a preview has one")
    end = _MARKER.search(data, at)
    if end is None:
        raise DecodeError("truncated", f"the preview ends after {len(data)} bytes")
    if end.start() != len(data) - 2 or end.group() != b"\xff\xd9":
        raise DecodeError("format", "data after the scan, where a preview ends")


def _check_frame(frame: bytes) -> None:
    """Check the frame: 8 bits, height, width, and three components of one size."""
    height, width = (int.from_bytes(frame[i : i + 2], "big") for i in (1, 3))
    is_rgb = len(frame) == 15 and frame[0] == 8 and frame[5] == 3
    if not is_rgb or {frame[7], frame[10], frame[13]} != {0x11}:
        raise DecodeError("format", "components unlike those of a preview")
    if not 0 < min(height, width) <= max(height, width) <= DETAIL_SIZE:
        raise DecodeError("format", f"{width} x {height}")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError("too_many_pixels", f"{width} x {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DecodeError("aspect", f"{width} x {height}")
