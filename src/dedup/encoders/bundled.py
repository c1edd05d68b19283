"""The encoder that comes with the package, trained beforehand."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dedup.encoders.checkpoint import load_encoder


def bundled(weights: str | Path = "bundled") -> nn.Module:
    """The encoder of a checkpoint, ready to be trained further.

    Args:
        weights: a checkpoint's file or its run folder; ``bundled`` is the package's own.

    Raises:
        ArtifactError: there is no such checkpoint.
        CorruptError: it cannot be read.
    """
    return load_encoder(weights).train()
