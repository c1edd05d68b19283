"""Open HEIC images where the optional package ``pillow-heif`` is installed."""

from __future__ import annotations

import io
from importlib.util import find_spec

from PIL import Image

from dedup.errors import DecodeError

READS_HEIC = find_spec("pillow_heif") is not None
"""Whether the package is installed."""


def open_heic(data: bytes, kind: str) -> Image.Image:
    """Open a HEIC image without decoding it.

    Args:
        data: bytes of the file.
        kind: its format, for messages.

    Raises:
        DecodeError: ``format`` if the package is missing; ``truncated`` for a damaged file.
    """
    try:
        # A large library, and few catalogues need it.
        from pillow_heif import HeifImageFile, options
    except ImportError as error:
        raise DecodeError(
            "format", f"a {kind} image: pip install 'dedup-catalogue[heic]' to read it"
        ) from error
    options.DECODE_THREADS = 1  # each thread would take address space, which is limited
    options.THUMBNAILS = options.DEPTH_IMAGES = options.AUX_IMAGES = False
    try:
        image: Image.Image = HeifImageFile(io.BytesIO(data))
    except SyntaxError as error:
        raise DecodeError("truncated", f"a damaged {kind} image: {error}") from error
    return image
