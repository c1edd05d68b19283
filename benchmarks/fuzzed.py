"""Damaged images, decoded as an ingest decodes them: how each ends, and what it takes.

    nice -n 19 python benchmarks/fuzzed.py --format TIFF --format AVIF --seconds 600

Files of each format are changed at random: bytes are flipped, ends cut, parts dropped and doubled,
numbers of the header set to extreme values. Each is decoded in a child process with the limits of
an ingest. Exit code 1 if anything other than a row's reason comes of it, or a reason is unknown.
``--keep`` writes the files that killed a child. HEIC needs the extra ``heic``.
"""

from __future__ import annotations

import argparse
import io
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms

from dedup.errors import ImageError
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode_pool import Decoders

REASONS = {"format", "truncated", "too_many_pixels", "aspect"}
"""Reasons of damaged images that cost no child."""
KILLED = {"decoder_crash", "decoder_timeout", "decoder_oom"}
"""Reasons of images that cost a child."""
EXTREMES = (0, 1, 2, 3, 127, 255, 256, 7071, 32_767, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
SIZE = (48, 72)


def drawn(mode: str, seed: int = 0) -> Image.Image:
    """A small image of a smooth pattern."""
    n_channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    noise = np.random.default_rng(seed).integers(0, 256, (6, 5, n_channels), dtype=np.uint8)
    small = Image.fromarray(noise[..., 0] if mode == "L" else noise, mode)
    return small.resize(SIZE, Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiled() -> bytes:
    """A TIFF of two by two grey tiles, which Pillow does not write."""
    side, start = 64, 8
    tags = [
        (256, 3, 1, 100), (257, 3, 1, 90), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 3, 1, side), (323, 3, 1, side),
    ]  # fmt: skip
    table = start + 2 + 12 * (len(tags) + 2) + 4
    pixels = table + 32
    tags += [(324, 4, 4, table), (325, 4, 4, table + 16)]
    body = struct.pack("<2sHIH", b"II", 42, start, len(tags))
    for number, kind, count, value in tags:
        body += struct.pack("<HHII", number, kind, count, value)
    body += bytes(4) + struct.pack("<4I", *(pixels + n * side**2 for n in range(4)))
    return body + struct.pack("<4I", *[side**2] * 4) + bytes(range(256)) * (4 * side**2 // 256)


def tiffs() -> Iterator[bytes]:
    """TIFFs of every compression and mode, tiled, of two pages, and with offsets of 64 bits."""
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"):
        for mode in ("L", "RGB", "RGBA", "CMYK"):
            if compression != "jpeg" or mode != "RGBA":
                yield saved(drawn(mode), "TIFF", compression=compression)
    black = drawn("L").convert("1")
    for compression in ("group3", "group4", "tiff_ccitt", "packbits"):
        yield saved(black, "TIFF", compression=compression)
    yield saved(drawn("RGB").quantize(16), "TIFF", compression="tiff_lzw")
    deep = Image.fromarray(np.asarray(drawn("L")).astype(np.uint16) * 257)
    yield saved(deep, "TIFF")
    yield saved(deep, "TIFF", compression="tiff_lzw")
    exif = Image.Exif()
    exif[274] = 6
    yield saved(drawn("RGB"), "TIFF", compression="tiff_lzw", exif=exif, icc_profile=PROFILE)
    yield saved(drawn("RGB"), "TIFF", big_tiff=True)
    yield saved(drawn("RGB"), "TIFF", save_all=True, append_images=[drawn("L", 1)])
    yield tiled()


def avifs() -> Iterator[bytes]:
    """AVIFs with and without alpha, lossless, of three samplings, and of two frames."""
    for sampling in ("4:2:0", "4:2:2", "4:4:4"):
        yield saved(drawn("RGB"), "AVIF", subsampling=sampling, quality=80)
    yield saved(drawn("RGBA"), "AVIF")
    yield saved(drawn("L"), "AVIF", subsampling="4:0:0")
    yield saved(drawn("RGB"), "AVIF", quality=100, subsampling="4:4:4")
    exif = Image.Exif()
    exif[274] = 6
    yield saved(drawn("RGB"), "AVIF", exif=exif, icc_profile=PROFILE)
    yield saved(drawn("RGB"), "AVIF", save_all=True, append_images=[drawn("RGB", 1)] * 3)


def heics() -> Iterator[bytes]:
    """HEICs with and without alpha, in grey, of tiles, and of two images."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    for mode in ("RGB", "RGBA", "L"):
        yield saved(drawn(mode), "HEIF", quality=80)
    exif = Image.Exif()
    exif[274] = 6
    yield saved(drawn("RGB"), "HEIF", exif=exif, icc_profile=PROFILE)
    yield saved(drawn("RGB").resize((200, 140)), "HEIF", tile_size=64)
    yield saved(drawn("RGB"), "HEIF", save_all=True, append_images=[drawn("RGB", 1)])


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMATS: dict[str, Callable[[], Iterator[bytes]]] = {"TIFF": tiffs, "AVIF": avifs, "HEIC": heics}


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change a file in one to four ways, its headers more often than the rest."""
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        if not data:
            break
        at = int(chance.random() ** chance.choice((1, 3)) * len(data))
        if chance.random() < 0.25:  # TIFF may have its tags at the end
            at = len(data) - 1 - at
        length, way = chance.randrange(1, 40), chance.randrange(6)
        if way < 2:
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif way == 2:
            data = data[:at] + chance.randbytes(length) + data[at + length :]
        elif way == 3:
            size = chance.choice((2, 4, 8))
            order: Literal["little", "big"] = "big" if chance.random() < 0.5 else "little"
            new = (chance.choice(EXTREMES) % 256**size).to_bytes(size, order)
            data = data[:at] + new + data[at + len(new) :]
        elif way == 4:
            data = data[:at] if chance.random() < 0.5 else data[:at] + data[at + length :]
        else:
            data = data[:at] + data[max(0, at - length) : at] + data[at:]
    return data


class Tried:
    """How damaged files of a format ended.

    Args:
        keep: folder for the files that killed a child; ``None`` for none.
    """

    def __init__(self, keep: Path | None) -> None:
        self.keep = keep
        self.ends: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()
        self.slowest = 0.0
        self.peak = 0

    def __call__(self, data: bytes, decoders: Decoders) -> None:
        """Decode a file, and count how it ended."""
        start = time.perf_counter()
        try:
            reading = decoders.submit(data).result()
            end = "ok" if reading.image.pixels.shape == IMAGE_SHAPE else "wrong shape"
        except ImageError as error:
            end = error.reason if error.detail else "no detail"
            if end in KILLED:
                print(f"{end}: {error.detail}", file=sys.stderr)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and shown
            end = "outside"
            self.outside[f"{type(error).__name__}: {error}"] += 1
        self.slowest = max(self.slowest, time.perf_counter() - start)
        self.ends[end] += 1
        if self.keep and end not in {"ok", *REASONS}:
            self.keep.mkdir(parents=True, exist_ok=True)
            (self.keep / f"{end}-{self.ends[end]:05}.bin").write_bytes(data)

    def measure(self, decoders: Decoders) -> None:
        """Note the most memory, in MB, that a child that still runs has had."""
        for child in decoders._children:
            status = Path(f"/proc/{child.process.pid}/status").read_text(encoding="ascii")
            self.peak = max(self.peak, int(status.split("VmHWM:")[1].split()[0]) // 1024)

    @property
    def is_right(self) -> bool:
        """Whether every file ended as an image or as one of the reasons of a row."""
        return not {*self.ends} - {"ok", *REASONS, *KILLED}


def fuzzed(kind: str, seconds: float, seed: int, keep: Path | None) -> Tried:
    """Decode damaged files of a format for so many seconds."""
    chance, tried, seeds = random.Random(seed), Tried(keep), list(FORMATS[kind]())
    with Decoders(workers=1) as decoders:
        for data in seeds:
            assert decoders.submit(data).result().image.pixels.shape == IMAGE_SHAPE
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            tried(damaged(chance.choice(seeds), chance), decoders)
        tried.measure(decoders)
    return tried


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--format", action="append", choices=FORMATS, help="TIFF and AVIF if none")
    parser.add_argument("--seconds", type=float, default=600, help="for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that kill a child")
    options = parser.parse_args()
    print("| format | files | outcomes | outside the child | slowest, s | a child's peak, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    wrong = False
    for kind in options.format or ["TIFF", "AVIF"]:
        tried = fuzzed(kind, options.seconds, options.seed, options.keep)
        ends = ", ".join(f"{count:,} {end}" for end, count in tried.ends.most_common())
        cells = f"{tried.outside.total()} | {tried.slowest:.2f} | {tried.peak}"
        print(f"| {kind} | {tried.ends.total():,} | {ends} | {cells} |", flush=True)
        for message, count in tried.outside.items():
            print(f"{count} x {message}", file=sys.stderr)
        wrong |= not tried.is_right
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
