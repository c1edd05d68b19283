"""Save and load an encoder without pickled objects.

A checkpoint is Lightning's file with one more entry, ``encoder``: the class and its constructor's
arguments as plain values. It is read with ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import importlib
import inspect
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dedup.artifacts import checkpoint_file
from dedup.errors import ArtifactError, CorruptError

PACKAGE = "dedup.encoders"

_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What ``zipfile`` and ``torch.load`` were seen to raise for bytes that nobody wrote."""


def describe(encoder: nn.Module) -> dict[str, Any]:
    """The class of an encoder and its constructor's arguments, as plain values.

    An encoder keeps every argument of its constructor as an attribute of the same name.
    """
    settings = {}
    for name in inspect.signature(type(encoder)).parameters:
        value = getattr(encoder, name)
        settings[name] = list(value) if isinstance(value, tuple) else value
    return {"class": f"{type(encoder).__module__}.{type(encoder).__qualname__}", **settings}


def build(description: dict[str, Any]) -> nn.Module:
    """The encoder that ``describe`` described, with new weights.

    Raises:
        ArtifactError: the class is not one of this package's encoders, or takes other arguments.
    """
    settings = dict(description)
    module, _, name = str(settings.pop("class", "")).rpartition(".")
    if not module.startswith(f"{PACKAGE}."):
        raise ArtifactError(f"the checkpoint's encoder {module}.{name} is not in {PACKAGE}")
    try:
        found = getattr(importlib.import_module(module), name)
        if found.__module__ != module:
            raise AttributeError(name)
        encoder: nn.Module = found(**settings)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"the checkpoint's encoder {module}.{name} cannot be built here ({error}): "
            "it was made by another version"
        ) from error
    return encoder


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors memory-mapped.

    Raises:
        ArtifactError: there is none, or it was not written by ``train.py``.
        CorruptError: it cannot be read, is not what was written, or holds pickled objects.
    """
    file = checkpoint_file(path)
    try:
        _check_sums(file)
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except _UNREADABLE as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptError(
            f"{file} is not a checkpoint that can be read ({first}): take last.ckpt or an older "
            "run's, or train again"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), dict) for part in ("encoder", "state_dict")
    ):
        raise ArtifactError(f"{file} was not written by train.py: it describes no encoder")
    return content


def load_encoder(path: str | Path) -> nn.Module:
    """The trained encoder of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        ArtifactError: no checkpoint, or one of another shape.
        CorruptError: it cannot be read, or its weights are not finite.
    """
    content = read(path)
    encoder = build(content["encoder"])
    weights = {
        str(name).removeprefix("encoder."): value
        for name, value in content["state_dict"].items()
        if str(name).startswith("encoder.")
    }
    try:
        encoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(
            f"{checkpoint_file(path)} does not fit the encoder that it describes ({error})"
        ) from error
    if not all(bool(value.isfinite().all()) for value in encoder.state_dict().values()):
        raise CorruptError(
            f"{checkpoint_file(path)} holds weights that are not finite: train again"
        )
    return encoder.eval()


def check_resumable(path: str | Path, encoder: nn.Module) -> None:
    """Make sure that training can go on from a checkpoint with this encoder.

    Raises:
        ArtifactError: the checkpoint is of another shape, or has no optimiser state.
    """
    content = read(path)
    then, now = content["encoder"], describe(encoder)
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if differing:
        changes = ", ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in differing)
        raise ArtifactError(
            f"{checkpoint_file(path)} is of another shape than the encoder asked for ({changes}): "
            "resume with the settings that it was trained with, or train anew"
        )
    if "optimizer_states" not in content:
        raise ArtifactError(
            f"{checkpoint_file(path)} holds weights alone, without the optimiser's state: "
            "resume from last.ckpt"
        )


def _check_sums(file: Path) -> None:
    """Compare every part with its CRC-32: torch itself loads flipped bits without a word."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is not what was written")
