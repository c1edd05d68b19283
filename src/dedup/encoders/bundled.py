"""Load the encoder that comes with the package, or any checkpoint, for further training."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from dedup.encoders.checkpoint import load_encoder


def bundled(weights: str | Path = "bundled") -> nn.Module:
    """Load the encoder of a checkpoint for further training.

    Args:
        weights: file or run folder of a checkpoint; ``bundled`` is the package's own.

    Raises:
        ArtifactError: the checkpoint is missing.
        CorruptError: the checkpoint cannot be read.
    """
    return load_encoder(weights).train()
