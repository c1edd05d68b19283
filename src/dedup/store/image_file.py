"""Open an image by its content, in one of the formats that are read, without decoding it."""

from __future__ import annotations

import io

from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from dedup.errors import DecodeError
from dedup.sources.image_formats import HEAD, READ_FORMATS, image_format
from dedup.store.heic import READS_HEIC, open_heic
from dedup.store.tiff import check_first_page

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats to decode. No other parser is used: EPS would start Ghostscript, SVG can read files."""
READS_AVIF = AvifImagePlugin.SUPPORTED
"""Whether Pillow was built with a decoder for AVIF, as its wheels are."""
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each thread would take address space, which is limited


def readable_formats() -> list[str]:
    """Return the formats that this installation decodes, by their names in Pillow."""
    formats = [name for name in FORMATS if name != "AVIF" or READS_AVIF]
    return [*formats, *["HEIC"] * READS_HEIC]


def open_image(data: bytes) -> Image.Image:
    """Open an image by its content, without decoding it.

    Raises:
        DecodeError: ``format`` for other content; ``truncated`` for a damaged TIFF, AVIF or HEIC.
    """
    kind = image_format(data[:HEAD])
    if kind in ("HEIC", "HEIF"):
        return open_heic(data, kind)
    if kind == "AVIF" and not READS_AVIF:
        raise DecodeError(
            "format", "an AVIF image, and this Pillow lacks AVIF: pip install --force-reinstall "
            "--only-binary :all: pillow",
        )  # fmt: skip
    if kind == "TIFF":
        check_first_page(data)
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        if kind in ("TIFF", "AVIF"):
            raise DecodeError("truncated", f"a damaged {kind} image") from error
        raise DecodeError("format", f"not a {READ_FORMATS} image") from error
