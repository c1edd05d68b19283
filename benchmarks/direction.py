"""Is the edited one of two images called the copy? For each edit of ``dedup.augmentations``.

    python benchmarks/direction.py IMAGES

Each of ``--n`` photos is edited once by each edit, at ``--strength``. The photo stands on the left
of every other pair. ``not aligned`` counts the pairs that could not be compared at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from relisted import opened

from dedup.augmentations import EDITS, RgbImage, edit
from dedup.store.decode import DETAIL_SIZE
from dedup.verification.alignment import LocalFeatures
from dedup.verification.geometric import GeometricVerifier

HEAD = "| edit | pairs | right | undecided | wrong | not aligned |\n|---|---|---|---|---|---|"


def preview(image: RgbImage) -> LocalFeatures:
    """What a search compares of an image: at most as large as a store's previews."""
    scale = DETAIL_SIZE / max(image.shape[:2])
    if scale < 1:
        size = round(image.shape[1] * scale), round(image.shape[0] * scale)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return LocalFeatures.of(image)


def told(photos: Sequence[RgbImage], name: str, strength: float) -> Iterator[float | None]:
    """The direction of each photo's pair, positive where the edited image is called the copy."""
    verifier = GeometricVerifier()
    for number, photo in enumerate(photos):
        rng = np.random.default_rng([number, list(EDITS).index(name)])
        other = photos[(number + 1) % len(photos)]
        pair = [preview(photo), preview(edit(photo, name, strength, rng, other))]
        sign = 1 if number % 2 == 0 else -1
        (verdict,) = verifier([(pair[::sign][0], pair[::sign][1])])
        yield None if verdict.placement is None else sign * verdict.copy_of


def line(name: str, values: Sequence[float | None]) -> str:
    """One line of the table."""
    seen = [value for value in values if value is not None]
    counts = [sum(test) for test in zip(*((v > 0, v == 0, v < 0) for v in seen), strict=True)]
    shares = " | ".join(f"{100 * count / len(seen):.0f} %" for count in counts)
    return f"| {name} | {len(values)} | {shares} | {len(values) - len(seen)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--strength", type=float, default=0.6)
    asked = parser.parse_args()
    files = sorted(asked.images.glob("*.jpg"))
    photos = [opened(file) for file in files[:: max(len(files) // asked.n, 1)][: asked.n]]
    print(HEAD)
    for name in EDITS:
        print(line(name, list(told(photos, name, asked.strength))), flush=True)


if __name__ == "__main__":
    main()
