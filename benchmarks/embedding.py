"""How fast images are embedded: workers of one thread side by side, or threads together.

Both ways run in turn in one process, on the same images in memory, through the same encoder in
the same micro-batches. The bits of the first way are compared between numbers of workers.

    python benchmarks/embedding.py --workers 1 2 --rounds 7
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from dedup.encoders.checkpoint import save_safetensors
from dedup.encoders.conv import ConvAutoencoder
from dedup.encoders.paths import BUNDLED
from dedup.schemas import IMAGE_SHAPE
from dedup.search.embedding import Embed


def together(embed: Embed, pixels: np.ndarray, threads: int) -> np.ndarray:
    """One micro-batch after the other, each on all threads."""
    torch.set_num_threads(threads)
    return embed.block(pixels)


def beside(embed: Embed, pixels: np.ndarray, workers: int) -> np.ndarray:
    """Micro-batches side by side, each on one thread."""
    os.environ["OMP_NUM_THREADS"] = str(workers)
    return embed({"pixels": pixels})["embedding"]


def main() -> None:
    """Print a row for each encoder and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (args.images, *IMAGE_SHAPE), dtype=np.uint8)
    print("| encoder | workers | threads together, images/s | one thread each, images/s "
          f"| ratio, round by round | bits as with one worker |\n{'|---' * 6}|")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        conv = Path(folder) / "conv.safetensors"
        save_safetensors(ConvAutoencoder(), conv)
        for name, file in {"conv (the original's)": conv, "bundled": BUNDLED}.items():
            embed = Embed(file, "cpu")
            expected = beside(embed, pixels, 1)
            for n in args.workers:
                speeds: list[tuple[float, float]] = []
                for _ in range(args.rounds + 1):
                    ends = [time.perf_counter()]
                    for way in (together, beside):
                        found = way(embed, pixels, n)
                        ends.append(time.perf_counter())
                    speeds.append(
                        (len(pixels) / (ends[1] - ends[0]), len(pixels) / (ends[2] - ends[1]))
                    )
                old, new = zip(*speeds[1:], strict=True)
                ratios = [b / a for a, b in speeds[1:]]
                same = "equal" if found.tobytes() == expected.tobytes() else "OTHER"
                print(f"| {name} | {n} | {statistics.median(old):.0f} "
                      f"| {statistics.median(new):.0f} "
                      f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
                      f"| {same} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
