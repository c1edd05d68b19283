"""How fast, and how near to the truth, do a JPEG's bytes become 200 x 100 pixels? With peers.

    python benchmarks/decode.py --images FOLDER

Two sizes: the images as they are, and enlarged fourfold. Every method decodes bytes and resizes
to 200 x 100, on one core; the methods take turns on each image, and each counts the least of its
CPU times. The truth is the full image resized in float64 by Lanczos' filter, widened so that
nothing is missed (error), or by the exact mean over each pixel's area (to area). A method meets
another's error if its mean and 95th percentile are at most 2 % above it. ``all`` is what a store
needs of each image: the detail, the digests and the contrast too.
"""

from __future__ import annotations

import argparse
import importlib
import io
import random
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.transform import resize as skimage_resize

from dedup.store.decode import HEIGHT, WIDTH, decode_upright, resizer
from dedup.store.decode_pool import read

Array = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Method = Callable[[bytes], Array]
SIZE = (WIDTH, HEIGHT)
OURS = {"ours, pillow": "pillow", "ours, scaled": "scaled", "ours, skimage": "skimage"}
SLACK = 1.02
MAX_BYTES = 2**30


def ours(reader: str) -> Method:
    """The part of ``decode`` that ends in pixels."""

    def decoded(data: bytes) -> Array:
        image, *_ = decode_upright(data, scaled=reader == "scaled")
        return resizer(reader)(image).transpose(1, 2, 0)

    return decoded


def by_area(image: npt.NDArray[Any]) -> Array:
    """OpenCV's mean over areas."""
    return np.asarray(cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA), np.uint8)


def by_pillow(image: npt.NDArray[Any]) -> Array:
    """Pillow's bicubic filter after a mean over whole numbers of pixels, as ours."""
    small = Image.fromarray(image).resize(SIZE, Image.Resampling.BICUBIC, reducing_gap=1.0)
    return np.asarray(small)


def pillow_draft(data: bytes) -> Array:
    """Pillow's scaled decoding to twice the size, as its ``thumbnail`` has it."""
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", (2 * WIDTH, 2 * HEIGHT))
    small = image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(small)


def opencv(data: bytes) -> Array:
    """The whole image, then areas."""
    return by_area(np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)))


def opencv_reduced(data: bytes) -> Array:
    """The smallest of OpenCV's reduced images that is no smaller than 200 x 100, then areas."""
    share = fraction(*Image.open(io.BytesIO(data)).size, gap=1)
    flags = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2,
             4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip
    image = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags[share]))
    return by_area(image)[:, :, ::-1]


def scikit_image(data: bytes) -> Array:
    """The whole image in float64, then a Gaussian blur and linear interpolation."""
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    small = skimage_resize(image, (HEIGHT, WIDTH), anti_aliasing=True)
    return np.asarray((small * 255).round(), np.uint8)


def fraction(width: int, height: int, gap: int) -> int:
    """1, 2, 4 or 8: by how much an image may be divided and stay ``gap`` times as large."""
    most = min(width // (gap * WIDTH), height // (gap * HEIGHT))
    return max(n for n in (1, 2, 4, 8) if n <= max(1, most))


def with_simplejpeg(gap: int, resize: Callable[[npt.NDArray[Any]], Array]) -> Method:
    """Scaled decoding by simplejpeg to at least ``gap`` times the size, then ``resize``."""
    simplejpeg = importlib.import_module("simplejpeg")

    def decoded(data: bytes) -> Array:
        least = {"min_height": gap * HEIGHT, "min_width": gap * WIDTH}
        return resize(simplejpeg.decode_jpeg(data, min_factor=1, **least))

    return decoded


def with_turbojpeg(gap: int, resize: Callable[[npt.NDArray[Any]], Array]) -> Method:
    """Scaled decoding by libturbojpeg to at least ``gap`` times the size, then ``resize``."""
    turbojpeg = importlib.import_module("turbojpeg")
    library = turbojpeg.TurboJPEG()

    def decoded(data: bytes) -> Array:
        width, height, *_ = library.decode_header(data)
        part = (1, fraction(width, height, gap))
        whole = library.decode(data, pixel_format=turbojpeg.TJPF_RGB, scaling_factor=part)
        return resize(whole)

    return decoded


def methods() -> dict[str, Method]:
    """All that is installed, by name."""
    found: dict[str, Method] = {name: ours(reader) for name, reader in OURS.items()}
    found |= {
        "Pillow draft": pillow_draft, "OpenCV, area": opencv, "scikit-image": scikit_image,
        "OpenCV reduced, area": opencv_reduced,
    }  # fmt: skip
    for name, make in (("simplejpeg", with_simplejpeg), ("turbojpeg", with_turbojpeg)):
        try:
            found[f"{name} x 1, area"] = make(1, by_area)
            found[f"{name} x 2, area"] = make(2, by_area)
            found[f"{name} x 2, Pillow"] = make(2, by_pillow)
        except (ImportError, RuntimeError, OSError) as error:
            print(f"left out: {name} ({error})")
    return found


def weights(old: int, new: int, kernel: Callable[[Floats], Floats], reach: float) -> Floats:
    """How much each of ``old`` pixels counts for each of ``new``, (new, old); rows sum to 1."""
    factor = old / new
    centres = (np.arange(new) + 0.5) * factor
    offsets = (np.arange(old) + 0.5 - centres[:, None]) / max(1.0, factor)
    table = np.where(np.abs(offsets) < reach, kernel(offsets), 0.0)
    return np.asarray(table / table.sum(axis=1, keepdims=True))


def lanczos(x: Floats) -> Floats:
    """Lanczos' filter of three lobes."""
    return np.asarray(np.sinc(x) * np.sinc(x / 3))


def areas(old: int, new: int) -> Floats:
    """As ``weights``: the share of each old pixel in each new one's area."""
    edges = np.arange(new + 1) * old / new
    low = np.maximum(edges[:-1, None], np.arange(old))
    high = np.minimum(edges[1:, None], np.arange(old) + 1)
    return np.asarray(np.clip(high - low, 0, None) * new / old)


def truths(data: bytes) -> tuple[Floats, Floats]:
    """The image by Lanczos' filter and by areas, (200, 100, 3) float64, 0 to 255."""
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)
    height, width = image.shape[:2]

    def resized(rows: Floats, columns: Floats) -> Floats:
        return np.stack([rows @ image[:, :, c] @ columns.T for c in range(3)], axis=-1)

    fine = [weights(old, new, lanczos, 3) for old, new in ((height, HEIGHT), (width, WIDTH))]
    return np.clip(resized(*fine), 0, 255), resized(areas(height, HEIGHT), areas(width, WIDTH))


def spent(work: Callable[..., Any], *given: Any) -> float:
    """CPU milliseconds."""
    start = time.process_time_ns()
    work(*given)
    return (time.process_time_ns() - start) / 1e6


def enlarged(data: bytes) -> bytes:
    """The image at four times its width and height."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    large = image.resize((4 * image.width, 4 * image.height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(images: list[bytes], found: dict[str, Method], turns: int) -> dict[str, list[float]]:
    """By method: ms, mean, 95th and largest error, mean error to areas, ms for all of a row."""
    times = {name: np.full(len(images), np.inf) for name in found}
    whole = {name: np.full(len(images), np.inf) for name in OURS}
    errors: dict[str, list[Floats]] = {name: [] for name in found}
    to_area: dict[str, list[float]] = {name: [] for name in found}
    rng = random.Random(0)
    for number, data in enumerate(images):
        fine, area = truths(data)
        for _ in range(turns):
            for name in rng.sample(list(found), len(found)):  # each finds the caches as others do
                times[name][number] = min(times[name][number], spent(found[name], data))
            for name, reader in OURS.items():
                ms = spent(read, data, reader, MAX_BYTES)
                whole[name][number] = min(whole[name][number], ms)
        for name, method in found.items():
            pixels = method(data).astype(np.float64)
            errors[name].append(np.abs(pixels - fine).ravel())
            to_area[name].append(float(np.abs(pixels - area).mean()))
    rows = {}
    for name in found:
        every = np.concatenate(errors[name])
        extra = float(whole[name].mean()) if name in OURS else float("nan")
        rows[name] = [float(times[name].mean()), float(every.mean()),
                      float(np.percentile(every, 95)), float(every.max()),
                      float(np.mean(to_area[name])), extra]  # fmt: skip
    return rows


def table(title: str, rows: dict[str, list[float]]) -> None:
    """Print one size, fastest first, with each method's ratio to the fastest that meets it."""
    print(f"\n{title}\n")
    print("| method | ms | x fastest as good | error | 95th | max | to area | all: ms |\n"
          "|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, row in sorted(rows.items(), key=lambda item: item[1][0]):
        ms, mean, high, most, area, whole = row
        rivals = {
            other: r[0] for other, r in rows.items()
            if r[1] <= mean * SLACK and r[2] <= high * SLACK
        }  # fmt: skip
        best = min(rivals, key=lambda other: rivals[other])
        ratio = f"{ms / rivals[best]:.2f}" + ("" if best == name else f" ({best})")
        rest = f"{whole:.2f}" if name in OURS else ""
        print(f"| {name} | {ms:.2f} | {ratio} | {mean:.2f} | {high:.2f} | {most:.0f} "
              f"| {area:.2f} | {rest} |")  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--n", type=int, default=120, help="images as they are")
    parser.add_argument("--n-large", type=int, default=16, help="images enlarged fourfold")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    files = sorted(path for path in options.images.iterdir() if path.suffix == ".jpg")
    step = max(1, len(files) // options.n)
    images = [path.read_bytes() for path in files[::step][: options.n]]
    found = methods()
    for package in ("pillow", "opencv-python-headless", "scikit-image"):
        print(f"{package} {version(package)}")
    rows = measure(images, found, options.turns)
    table(f"{len(images)} images, as they are", rows)
    large = [enlarged(data) for data in images[:: max(1, len(images) // options.n_large)]]
    large = large[: options.n_large]
    table(f"{len(large)} images, enlarged fourfold", measure(large, found, options.turns))


if __name__ == "__main__":
    main()
