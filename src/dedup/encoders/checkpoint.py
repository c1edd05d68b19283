"""Save and load an encoder without pickled objects.

A checkpoint is Lightning's file with one more entry, ``encoder``: the class and its constructor's
arguments as plain values. It has a checksum, see ``dedup.encoders.archive``, and is read with
``torch.load(weights_only=True)``.

To share an encoder alone, save it as safetensors. The file has the weights, and in the metadata
``encoder`` as JSON, free text, and a ``sha256`` of it all, since the format has no checksum.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dedup.config.parts import Record
from dedup.config.renames import renewed
from dedup.encoders.archive import has_checksum
from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.files import atomically, sort_metadata
from dedup.runtime.invocation import command
from dedup.runtime.shortages import pass_on

SUFFIX = ".safetensors"

_UNREADABLE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors that the readers raised for damaged and forged bytes."""


def describe(encoder: nn.Module) -> dict[str, Any]:
    """Describe an encoder by its class and its constructor's arguments, as plain values.

    An encoder keeps every argument of its constructor as an attribute of the same name. Encoders
    among the arguments are described recursively.
    """
    settings = {
        name: _plain(getattr(encoder, name)) for name in inspect.signature(type(encoder)).parameters
    }
    return {"class": f"{type(encoder).__module__}.{type(encoder).__qualname__}", **settings}


def build(description: Mapping[str, Any], file: str | Path = "the checkpoint") -> nn.Module:
    """Build an encoder from its description by ``describe``, with new weights.

    Args:
        description: plain values alone, see ``dedup.config.parts``.
        file: file of the description, for messages.

    Raises:
        ArtifactError: the class is not one of this package's encoders, or takes other arguments.
        CorruptError: the value is no description.
    """
    advice = "the encoder cannot be built here: choose another checkpoint, or train again"
    encoder: nn.Module = Record(file, advice).part(description, "encoder", "encoder", "class")
    return encoder


def save_safetensors(
    encoder: nn.Module, path: str | Path, *, half: bool = False, **metadata: str
) -> None:
    """Save an encoder alone for ``load_encoder``. Equal encoders give equal bytes.

    Args:
        encoder: encoder of this package.
        path: file to write, ``.safetensors``.
        half: whether to save weights of two axes or more in half precision: half the size, with
            an error of some 1e-3.
        metadata: further facts, such as the data and the command of the training.
    """
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in encoder.state_dict().items()
    }
    if half:
        weights = {n: v.half() if _can_be_halved(v) else v for n, v in weights.items()}
    facts = {**metadata, "encoder": json.dumps(describe(encoder))}
    data = save(weights, {**facts, "sha256": _digest(weights, facts)})

    def write(part: Path) -> None:
        part.write_bytes(sort_metadata(data))

    atomically(Path(path), write)


def read(path: str | Path, *, mapped: bool = True) -> dict[str, Any]:
    """Read a checkpoint, in Lightning's layout.

    Args:
        path: file of the checkpoint, or its run folder.
        mapped: whether to map its tensors into memory, instead of reading them.

    Raises:
        ArtifactError: the checkpoint is missing, or was not written by this package.
        CorruptError: it cannot be read, fails its checksum, or holds pickled objects.
    """
    file = checkpoint_file(path)
    try:
        content = (
            _read_safetensors(file) if file.suffix == SUFFIX else _read_lightning(file, mapped)
        )
    except _UNREADABLE as error:
        pass_on(error, file)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptError(
            f"{file} is not a checkpoint that can be read ({reason}): choose another, or train "
            "again"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), dict) for part in ("encoder", "state_dict")
    ):
        raise ArtifactError(
            f"{file} was not written by {command('train')}: it describes no encoder. Choose "
            "another checkpoint"
        )
    return content


def load_encoder(path: str | Path) -> nn.Module:
    """Load the trained encoder of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        ArtifactError: the checkpoint is missing, or its weights do not fit its encoder.
        CorruptError: the checkpoint cannot be read, or its weights are not finite.
    """
    content = read(path)
    encoder = build(content["encoder"], checkpoint_file(path))
    weights = {
        str(name).removeprefix("encoder."): _restored(value)
        for name, value in content["state_dict"].items()
        if str(name).startswith("encoder.")
    }
    try:
        encoder.load_state_dict(weights)
        for name, own in encoder.state_dict().items():
            if weights[name].dtype != own.dtype:
                raise RuntimeError(f"{name} is {weights[name].dtype}, not {own.dtype}")
    except RuntimeError as error:
        pass_on(error, checkpoint_file(path))
        raise ArtifactError(
            f"{checkpoint_file(path)} does not fit the encoder that it describes ({error}): choose "
            "another checkpoint, or train again"
        ) from error
    if not all(bool(value.isfinite().all()) for value in encoder.state_dict().values()):
        raise CorruptError(
            f"{checkpoint_file(path)} holds weights that are not finite: train again"
        )
    return encoder.eval()


def check_resumable(path: str | Path, encoder: nn.Module) -> None:
    """Check that training can resume from a checkpoint with this encoder.

    Raises:
        ArtifactError: the checkpoint's encoder differs, or it has no optimiser state.
    """
    content = read(path)
    # A setting that an older version did not have counts as its default.
    then, now = {**_defaults(encoder), **renewed(content["encoder"])}, describe(encoder)
    differing = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    if differing:
        changes = ", ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in differing)
        raise ArtifactError(
            f"{checkpoint_file(path)} has other encoder settings than this run ({changes}): "
            "resume with the settings that it was trained with, or train from scratch"
        )
    if "optimizer_states" not in content:
        raise ArtifactError(
            f"{checkpoint_file(path)} holds weights alone, without the optimiser's state: "
            "resume from last.ckpt"
        )


def _defaults(encoder: nn.Module) -> dict[str, Any]:
    """Return the constructor's defaults, as plain values."""
    parameters = inspect.signature(type(encoder)).parameters.values()
    return {p.name: _plain(p.default) for p in parameters if p.default is not p.empty}


def _plain(value: Any) -> Any:
    """Convert a constructor's argument to plain values."""
    if isinstance(value, nn.ModuleList | list | tuple):
        return [_plain(part) for part in value]
    return describe(value) if isinstance(value, nn.Module) else value


def _read_lightning(file: Path, mapped: bool) -> Any:
    if not has_checksum(file):  # written by an older version
        _check_crc(file)
    return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def _check_crc(file: Path) -> None:
    """Verify the CRC-32 of every part: torch itself loads flipped bits silently."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the CRC-32 of {damaged} does not match")


def _read_safetensors(file: Path) -> dict[str, Any]:
    """Read a safetensors file, in the layout of a Lightning checkpoint."""
    with safe_open(file, framework="pt") as content:
        metadata, names = content.metadata() or {}, content.keys()
        weights = {name: content.get_tensor(name) for name in names}
    if "sha256" not in metadata or "encoder" not in metadata:
        return {}
    if metadata.pop("sha256") != _digest(weights, metadata):
        raise ValueError("its SHA-256 does not match")
    state = {f"encoder.{name}": value for name, value in weights.items()}
    description = json.loads(metadata["encoder"])
    return {"metadata": metadata, "encoder": description, "state_dict": state}


def _digest(weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Compute the SHA-256 of names, types, shapes and bytes, and of the metadata."""
    names = sorted(weights)
    shapes = [[name, str(weights[name].dtype), list(weights[name].shape)] for name in names]
    digest = hashlib.sha256(json.dumps([sorted(metadata.items()), shapes]).encode())
    for name in names:
        digest.update(weights[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _can_be_halved(value: Tensor) -> bool:
    return value.is_floating_point() and value.dim() > 1


def _restored(value: Any) -> Any:
    """Convert half precision to single precision; other types stay."""
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value
