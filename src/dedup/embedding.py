"""Pictures to embeddings, a batch of columns at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from dedup.checkpoint import load_encoder
from dedup.store import ImageStore

MICRO_BATCH = 16
"""Pictures that go through the encoder together, always exactly so many; see ``Embed``."""


class Embed:
    """Maps a batch of columns to columns; loads the encoder once.

    The encoder always gets exactly ``MICRO_BATCH`` pictures, the last ones filled up with zeros.
    A convolution or a matrix product adds in another order for another batch size, so that the
    same picture would differ by some 1e-5 between batches of 1 and of 128. At a fixed size an
    embedding has the same bits whatever the batch, the place in it, its neighbours and the number
    of threads: it depends on the picture alone. So a picture added or asked about later lies
    exactly where it would lie in an index made anew. 16 is also the fastest size on a CPU: what
    lies between two layers then fits into the cache.

    Args:
        checkpoint: a checkpoint's file or its run folder.
        device: where to compute; ``auto`` takes a GPU if there is one. Bits are equal between
            runs on one device, not between devices.
    """

    def __init__(self, checkpoint: str | Path, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        self.encoder: nn.Module = load_encoder(checkpoint).to(device)

    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Add the column ``embedding``, (n, d) float32, to one with ``pixels``, uint8."""
        pixels = batch["pixels"]
        # Of no pictures one batch of zeros: the encoder alone knows d.
        starts = range(0, max(1, len(pixels)), MICRO_BATCH)
        embeddings = [self._embed(pixels[start : start + MICRO_BATCH]) for start in starts]
        return {**batch, "embedding": np.concatenate(embeddings)}

    @torch.inference_mode()
    def _embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embeddings of at most ``MICRO_BATCH`` pictures."""
        # A copy: columns may be read-only, such as Ray's and memory-mapped ones.
        padded = np.zeros((MICRO_BATCH, *pixels.shape[1:]), np.uint8)
        padded[: len(pixels)] = pixels
        found = self.encoder(torch.from_numpy(padded).to(self.device)).float().cpu().numpy()
        embeddings: npt.NDArray[np.float32] = found[: len(pixels)]
        return embeddings


def embed_stored(
    embed: Embed, store: ImageStore, rows: npt.NDArray[np.int64], batch_size: int = 128
) -> npt.NDArray[np.float32]:
    """Embeddings of stored pictures, (n, d) float32, for (n, 2) places in the store.

    ``batch_size`` pictures are read at once, rounded up to whole micro-batches; the embeddings
    do not depend on it.
    """
    step = -(-batch_size // MICRO_BATCH) * MICRO_BATCH
    starts = range(0, max(1, len(rows)), step)
    batches = [
        embed({"pixels": store.read(rows[start : start + step])})["embedding"]
        for start in track(starts, "embedding pictures", console=Console(stderr=True))
    ]
    return np.concatenate(batches)
