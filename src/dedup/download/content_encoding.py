"""Undo an answer's ``Content-Encoding``: gzip and deflate, up to a size limit."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

from dedup.errors import FetchError


def decoder_for(encodings: Sequence[str]) -> Callable[[bytes, int], bytes] | None:
    """Choose the function that decompresses a body; ``None`` where the body is plain.

    No request asks for compression, yet some servers compress all the same.

    Args:
        encodings: values of the header ``Content-Encoding``.

    Returns:
        A function of the body and of a limit in bytes. It raises ``FetchError``: ``encoding``,
        ``bomb`` or ``truncated``.

    Raises:
        FetchError: ``encoding``, for any other compression.
    """
    names = [name.strip().lower() for line in encodings for name in line.split(",")]
    match [name for name in names if name not in ("", "identity")]:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return lambda body, max_bytes: _decompress(body, max_bytes, 16 + zlib.MAX_WBITS)
        case ["deflate"]:
            return _decompress_deflate
    raise FetchError("encoding", "compressed with a method other than gzip or deflate")


def _decompress_deflate(body: bytes, max_bytes: int) -> bytes:
    """Decompress deflate with zlib's header, or without it, as some servers send it."""
    has_header = body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _decompress(body, max_bytes, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


def _decompress(body: bytes, max_bytes: int, window_bits: int) -> bytes:
    decompressor = zlib.decompressobj(window_bits)
    try:
        image = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise FetchError("encoding", "not compressed as its Content-Encoding says") from error
    if len(image) > max_bytes:
        raise FetchError("bomb", f"more than {max_bytes} bytes after decompression")
    if not decompressor.eof:
        raise FetchError("truncated", f"the body ended after {len(image)} bytes")
    return image
