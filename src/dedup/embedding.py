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


class Embed:
    """Maps a batch of columns to columns; loads the encoder once.

    Args:
        checkpoint: a checkpoint's file or its run folder.
        device: where to compute; ``auto`` takes a GPU if there is one.
    """

    def __init__(self, checkpoint: str | Path, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = device
        self.encoder: nn.Module = load_encoder(checkpoint).to(device)

    @torch.inference_mode()
    def __call__(self, batch: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Add the column ``embedding``, (n, d) float32, to one with ``pixels``, uint8."""
        # A copy: columns may be read-only, such as Ray's and memory-mapped ones.
        pixels = torch.tensor(batch["pixels"], device=self.device)
        return {**batch, "embedding": self.encoder(pixels).float().cpu().numpy()}


def embed_stored(
    embed: Embed, store: ImageStore, rows: npt.NDArray[np.int64], batch_size: int = 128
) -> npt.NDArray[np.float32]:
    """Embeddings of stored pictures, (n, d) float32, for (n, 2) places in the store."""
    starts = range(0, len(rows), batch_size)
    batches = [
        embed({"pixels": store.read(rows[start : start + batch_size])})["embedding"]
        for start in track(starts, "embedding pictures", console=Console(stderr=True))
    ]
    return np.concatenate(batches)
