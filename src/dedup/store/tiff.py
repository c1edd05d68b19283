"""Check the first page of a TIFF before it is decoded, and reduce its grey values to 8 bits."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from dedup.errors import DecodeError

COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 7: "JPEG",
    8: "deflate", 32773: "PackBits", 32946: "deflate", 50000: "Zstandard",
}  # fmt: skip
"""Compressions that are read. Rare ones, such as old JPEG or ThunderScan, have parsers of their
own, and few files."""
SUBFILE, BITS, COMPRESSION, PHOTOMETRIC, SAMPLE_FORMAT = 254, 258, 259, 262, 339
"""Numbers of tags, see TIFF 6.0 (Adobe, 1992)."""
GREY_WHITE_IS_ZERO, GREY, RGB, PALETTE, MASK, INKS, YCBCR = range(7)
"""Meanings of pixels, values of ``PHOTOMETRIC``; all but ``MASK`` are read."""
DAMAGED = (
    *(OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, RuntimeError, struct.error),
)
"""Errors that Pillow raises on damaged tags, beside those of ``decode.UNREADABLE``."""

_SAVE = "save it as a TIFF of 8 bits with LZW, or as PNG"


def check_first_page(data: bytes) -> None:
    """Check that the first page is of a kind that is read as it is meant.

    Raises:
        DecodeError: ``format`` for a compression, pixels or a thumbnail that are not read;
            ``truncated`` for tags that cannot be read.
    """
    tags = _tags(data)
    compression = tags.get(COMPRESSION, 1)
    if compression not in COMPRESSIONS:
        raise DecodeError("format", f"a TIFF with compression {compression}: {_SAVE}")
    if tags.get(SUBFILE, 0) == 1:
        raise DecodeError(
            "format", "a TIFF that begins with a thumbnail, as raw photos do: save it as JPEG"
        )
    meaning, bits = tags.get(PHOTOMETRIC, 0), _values(tags, BITS)
    if meaning not in range(7) or meaning == MASK:
        raise DecodeError("format", f"a TIFF with pixels of kind {meaning}: {_SAVE}")
    if {*_values(tags, SAMPLE_FORMAT)} - {1} or max(bits) > 16:
        raise DecodeError("format", "a TIFF with signed, fractional or 32-bit values: " + _SAVE)


def eight_bits(image: Image.Image) -> Image.Image:
    """Reduce the grey values of a loaded TIFF, of 9 to 16 bits, to 8; white stays white.

    Args:
        image: in a mode that begins with ``I;16``.
    """
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    bits = max(_values(tags, BITS))
    values = (np.asarray(image).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    # Pillow inverts such an image only where it has 8 bits or fewer.
    return Image.fromarray(~values if tags.get(PHOTOMETRIC) == GREY_WHITE_IS_ZERO else values)


def _tags(data: bytes) -> ImageFileDirectory_v2:
    """Read the tags of the first page.

    Raises:
        DecodeError: ``truncated``.
    """
    file = io.BytesIO(data)
    try:
        head = file.read(8)
        tags = ImageFileDirectory_v2(
            head + (file.read(8) if head[2:4] in (b"+\0", b"\0+") else b"")
        )
        file.seek(tags.next)
        tags.load(file)
        tags[BITS], tags[SAMPLE_FORMAT] = _values(tags, BITS), _values(tags, SAMPLE_FORMAT)
    except DAMAGED as error:
        raise DecodeError("truncated", f"a damaged TIFF: {error}") from error
    return tags


def _values(tags: Any, number: int) -> tuple[int, ...]:
    """Return the values of a tag, one for each channel; 1, as TIFF has it, if there is none.

    Raises:
        TypeError: they are no integers.
    """
    values = tags.get(number, (1,))
    values = values if isinstance(values, tuple) and values else (values,)
    if not all(isinstance(value, int) for value in values):
        raise TypeError(f"tag {number} is {values!r}")
    return values
