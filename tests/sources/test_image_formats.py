import pytest

from dedup.sources.image_formats import image_format
from tests.conftest import draw, encoded

SAVED = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "GIF", "BMP": "BMP"} | {
    "TIFF": "TIFF", "AVIF": "AVIF", "ICO": "", "PPM": "", "TGA": "", "JPEG2000": "", "PDF": "",
}  # fmt: skip


@pytest.mark.parametrize("kind", SAVED)
def test_files_are_told_by_their_first_bytes(kind: str) -> None:
    assert image_format(encoded(draw(1), kind)[:64]) == SAVED[kind]


def container(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (len(body) + 4).to_bytes(4, "big") + body + b"\0\0\1\0meta"


HEADS = {
    "nothing": (b"", ""),
    "a_byte": (b"\xff", ""),
    "text": (b"id,title\n1,a\n", ""),
    "text_that_begins_like_a_bmp": (b"BMW parts: an overview of all models", ""),
    "text_that_begins_like_a_tiff": (b"II. Chapter", ""),
    "html": (b"<!DOCTYPE html>", ""),
    "sound": (b"RIFF\0\0\0\0WAVEfmt ", ""),
    "video": (container(b"isom", b"iso2", b"avc1"), ""),
    "video_of_avif_as_well": (container(b"mp42", b"avif"), ""),
    "tiff_of_64_bits": (b"II+\0\x08\0\0\0", "TIFF"),
    "tiff_big_endian": (b"MM\0*\0\0\0\x08", "TIFF"),
    "avif_sequence": (container(b"avis", b"avif", b"msf1"), "AVIF"),
    "avif_in_a_neutral_container": (container(b"mif1", b"miaf", b"avif"), "AVIF"),
    "heic": (container(b"heic", b"mif1"), "HEIC"),
    "heic_in_a_neutral_container": (container(b"mif1", b"heic"), "HEIC"),
    "neither": (container(b"mif1", b"miaf"), "HEIF"),
    "cut": (container(b"mif1", b"heic")[:14], "HEIF"),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_that_are_alike(name: str) -> None:
    head, kind = HEADS[name]
    assert image_format(head) == kind
