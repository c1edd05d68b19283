"""A picture's bytes -> 3 x 200 x 100 uint8, the same for every product; and its detail.

The picture is decoded in full before it is resized. Scaled JPEG decoding would be some 20 % faster
on pictures of 400 x 533, but then a JPEG and its lossless PNG copy would end as different pixels.

The detail is the picture in its own aspect, for what the 200 x 100 pixels are too coarse for: a
JPEG of at most 320 pixels on the long side, some 20 KB, whose colours are as fine as its lightness.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from dedup.artifacts import IMAGE_SHAPE
from dedup.errors import ConfigError, DecodeError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""No other parser is entered: EPS would start Ghostscript, SVG can read files."""
MAX_PIXELS = 50_000_000
MAX_ASPECT = 200
_, HEIGHT, WIDTH = IMAGE_SHAPE
DETAIL_SIZE = 320
"""The longest side of a detail, in pixels."""
DETAIL_QUALITY = 90
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

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises on broken bytes."""

Pixels = npt.NDArray[np.uint8]
Resize = Callable[[Image.Image], Pixels]


@dataclass(frozen=True)
class Decoded:
    """A picture as the store keeps it.

    Attributes:
        pixels: (3, 200, 100) uint8, RGB.
        width: of the original, EXIF turn applied, in pixels.
        height: likewise.
        detail: a JPEG of the upright picture, see ``reduced``.
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
        reader: how to resize: ``pillow`` (bicubic, fast) or ``skimage`` (the original's way).

    Raises:
        DecodeError: ``format``, ``truncated``, ``too_many_pixels`` or ``aspect``.
        ConfigError: there is no such reader.
    """
    resize = resizer(reader)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            picture = to_rgb(image)  # first: to look for EXIF loads a PNG, and hides if that fails
            turn = TURNS.get(orientation(image))
    except UnidentifiedImageError as error:
        raise DecodeError("format", "not a JPEG, PNG, WebP, GIF or BMP picture") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("too_many_pixels", str(error)) from error
    except UNREADABLE as error:
        raise DecodeError("truncated", str(error)) from error
    upright = picture if turn is None else picture.transpose(turn)
    return Decoded(resize(upright), *upright.size, reduced(upright))


def reduced(image: Image.Image) -> bytes:
    """An RGB picture as a JPEG of at most ``DETAIL_SIZE`` on its long side, never enlarged."""
    share = min(1.0, DETAIL_SIZE / max(image.size))
    width, height = (max(1, round(side * share)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    small.info = {}  # else the comment of a JPEG would be carried along
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=DETAIL_QUALITY, subsampling=0)
    return buffer.getvalue()


def restored(detail: bytes) -> Pixels:
    """What ``reduced`` made, as (height, width, 3) uint8 RGB.

    Raises:
        DecodeError: these bytes are not whole, or not a detail.
    """
    try:
        with Image.open(io.BytesIO(detail), formats=("JPEG",)) as image:
            if image.mode != "RGB" or max(image.size) > DETAIL_SIZE:
                raise DecodeError("format", f"{image.mode} of {image.width} x {image.height}")
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
    """Load the first frame as RGB, transparent parts on white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGB", layer.size, "white")
        image.paste(layer, mask=layer.getchannel("A"))
    return image.convert("RGB")


def resize_pillow(image: Image.Image) -> Pixels:
    """Resize an RGB picture to (3, 200, 100) uint8 by Pillow's bicubic filter."""
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def resize_skimage(image: Image.Image) -> Pixels:
    """Resize an RGB picture to (3, 200, 100) uint8 as the original did, by scikit-image."""
    from skimage.transform import resize  # half a second to import, and seldom asked for

    small = resize(np.asarray(image), (HEIGHT, WIDTH), anti_aliasing=True)
    return np.ascontiguousarray((small * 255).round().astype(np.uint8).transpose(2, 0, 1))


READERS: dict[str, Resize] = {"pillow": resize_pillow, "skimage": resize_skimage}


def resizer(reader: str) -> Resize:
    """What resizes an RGB picture, by its name.

    Raises:
        ConfigError: there is no such reader.
    """
    if reader not in READERS:
        raise ConfigError(f"store.reader={reader} is not one of {', '.join(READERS)}")
    return READERS[reader]


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError("too_many_pixels", f"{width} x {height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise DecodeError("aspect", f"{width} x {height}")
