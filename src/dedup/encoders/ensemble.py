"""Concatenate the embeddings of several encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dedup.errors import ConfigError


class Ensemble(nn.Module):
    """Weighted concatenation of several encoders' unit embeddings.

    The squared distance of two joined embeddings is the weighted mean of the parts' squared
    distances.

    Args:
        encoders: encoders to join.
        shares: weight of each encoder; empty for equal weights. Only their ratios matter.

    Raises:
        ConfigError: no encoders, or not one positive share for each.
    """

    def __init__(self, encoders: Sequence[nn.Module], shares: Sequence[float] = ()) -> None:
        super().__init__()
        if not encoders or len(shares) not in (0, len(encoders)) or min(shares, default=1) <= 0:
            raise ConfigError(
                f"encoder.shares={list(shares)}: expected one number above 0 for each of the "
                f"{len(encoders)} encoders, or none"
            )
        self.encoders = nn.ModuleList(encoders)
        self.shares = tuple(shares)
        self.unit = True
        dims: list[Any] = [part.embedding_dim for part in encoders]
        self.embedding_dim: int = sum(dims)

    def forward(self, images: Tensor) -> Tensor:
        """Map stored images, (n, 3, 200, 100) uint8, to embeddings (n, d) of unit length."""
        shares = self.shares or (1.0,) * len(self.encoders)
        parts = [
            functional.normalize(part(images)) * (share / sum(shares)) ** 0.5
            for part, share in zip(self.encoders, shares, strict=True)
        ]
        return torch.cat(parts, dim=1)
