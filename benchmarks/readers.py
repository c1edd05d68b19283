"""How close and how fast are the store's readers? Pillow's against scikit-image's, the original's.

python benchmarks/readers.py --images FOLDER
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dedup.store.decode import READERS, decode


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--n", type=int, default=500)
    options = parser.parse_args()
    files = sorted(path for path in options.images.iterdir() if path.suffix == ".jpg")[: options.n]
    data = [path.read_bytes() for path in files]
    pixels, seconds = {}, dict.fromkeys(READERS, 0.0)
    for one in range(len(data)):  # interleaved: what else the machine does falls on both
        for name in READERS:
            start = time.process_time()
            pixels[name, one] = decode(data[one], name).pixels
            seconds[name] += time.process_time() - start
    pairs = [(pixels["skimage", one], pixels["pillow", one]) for one in range(len(data))]
    similar = [structural_similarity(a, b, channel_axis=0) for a, b in pairs]
    noise = [peak_signal_noise_ratio(a, b) for a, b in pairs]
    print(f"{len(data)} images\n\n| reader | images per CPU-second | ratio |\n|---|---|---|")
    for name in READERS:
        ratio = seconds["skimage"] / seconds[name]
        print(f"| {name} | {len(data) / seconds[name]:.0f} | {ratio:.1f} |")
    print(f"\nSSIM {np.mean(similar):.4f}, worst {min(similar):.4f}; "
          f"PSNR {np.mean(noise):.1f} dB, worst {min(noise):.1f} dB")  # fmt: skip


if __name__ == "__main__":
    main()
