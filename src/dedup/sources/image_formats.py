"""Tell the format of an image from its first bytes, whatever its name."""

from __future__ import annotations

HEAD = 64
"""Number of first bytes that ``image_format`` looks at."""
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"),
    *(".tif", ".tiff", ".avif", ".heic", ".heif"),
)
"""Suffixes of image files, in upper or lower case."""
READ_FORMATS = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"
"""Formats that are always read, in words."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",  # with offsets of 64 bits
    b"MM\0+": "TIFF",
}
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Sizes of the header that follows a BMP's first 14 bytes; ``BM`` alone may begin a text."""
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_HEIF_BRANDS = {b"mif1", b"mif2", b"msf1"}


def image_format(head: bytes) -> str:
    """Tell the format of an image.

    Args:
        head: the first ``HEAD`` bytes of a file, or more.

    Returns:
        ``JPEG``, ``PNG``, ``WebP``, ``GIF``, ``BMP``, ``TIFF``, ``AVIF``, ``HEIC``, or ``HEIF``
        for a file of that container that names no coding; "" for all else.
    """
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return _coding(head) if head[4:8] == b"ftyp" else ""


def _coding(head: bytes) -> str:
    """Tell how a file that begins with an ``ftyp`` box is coded, by the brands in the box."""
    size = min(int.from_bytes(head[:4], "big"), HEAD)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    for known, name in ((_AVIF_BRANDS, "AVIF"), (_HEIC_BRANDS, "HEIC"), (_HEIF_BRANDS, "HEIF")):
        if brands[0] in known and name != "HEIF":
            return name
    if brands[0] not in _HEIF_BRANDS:
        return ""
    if _AVIF_BRANDS & {*brands}:
        return "AVIF"
    return "HEIC" if _HEIC_BRANDS & {*brands} else "HEIF"
