"""Save and load an encoder without pickled objects.

A checkpoint is Lightning's file with one more entry, ``encoder``: the class and its constructor's
arguments as plain values. It carries the SHA-256 of itself, see ``dedup.encoders.archive``, and is
read with ``torch.load(weights_only=True)``. To be passed on, an encoder alone is saved as
safetensors: its weights, and in the metadata ``encoder`` as JSON, free text, and ``sha256`` of it
all, since the format itself does not notice flipped bits.
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
from dedup.encoders.archive import is_sealed
from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.files import atomically, in_sorted_order
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
"""What the readers were seen to raise for bytes that nobody wrote."""


def describe(encoder: nn.Module) -> dict[str, Any]:
    """The class of an encoder and its constructor's arguments, as plain values.

    An encoder keeps every argument of its constructor as an attribute of the same name. Encoders
    among them are described in their turn.
    """
    settings = {
        name: _plain(getattr(encoder, name)) for name in inspect.signature(type(encoder)).parameters
    }
    return {"class": f"{type(encoder).__module__}.{type(encoder).__qualname__}", **settings}


def build(description: Mapping[str, Any], file: str | Path = "the checkpoint") -> nn.Module:
    """The encoder that ``describe`` described, with new weights.

    Args:
        description: plain values alone, see ``dedup.config.parts``.
        file: where it stands, for messages.

    Raises:
        ArtifactError: the class is not one of this package's encoders, or takes other arguments.
        CorruptError: it is no description.
    """
    advice = "the encoder cannot be built here, take another checkpoint or train again"
    encoder: nn.Module = Record(file, advice).part(description, "encoder", "encoder", "class")
    return encoder


def save_safetensors(
    encoder: nn.Module, path: str | Path, *, half: bool = False, **metadata: str
) -> None:
    """Save an encoder alone, to be passed on; ``load_encoder`` reads it. Same input, same bytes.

    Args:
        encoder: one of this package's.
        path: the file to write, ``.safetensors``.
        half: weights of two axes or more in half precision: half the size, some 1e-3 off.
        metadata: what else to say, such as the data and the command that it was trained with.
    """
    weights = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in encoder.state_dict().items()
    }
    if half:
        weights = {n: v.half() if _shrinks(v) else v for n, v in weights.items()}
    said = {**metadata, "encoder": json.dumps(describe(encoder))}
    data = save(weights, {**said, "sha256": _digest(weights, said)})

    def write(part: Path) -> None:
        part.write_bytes(in_sorted_order(data))

    atomically(Path(path), write)


def read(path: str | Path, *, mapped: bool = True) -> dict[str, Any]:
    """A checkpoint's content, as Lightning lays it out.

    Args:
        path: the file, or its run's folder.
        mapped: map its tensors into memory, instead of reading them.

    Raises:
        ArtifactError: there is none, or it was not written by this package.
        CorruptError: it cannot be read, is not what was written, or holds pickled objects.
    """
    file = checkpoint_file(path)
    try:
        content = (
            _read_safetensors(file) if file.suffix == SUFFIX else _read_lightning(file, mapped)
        )
    except _UNREADABLE as error:
        pass_on(error, file)
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CorruptError(
            f"{file} is not a checkpoint that can be read ({first}): take another, or train again"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), dict) for part in ("encoder", "state_dict")
    ):
        raise ArtifactError(
            f"{file} was not written by {command('train')}: it describes no encoder"
        )
    return content


def load_encoder(path: str | Path) -> nn.Module:
    """The trained encoder of a checkpoint, in evaluation mode, on the CPU.

    Raises:
        ArtifactError: no checkpoint, or one of another shape.
        CorruptError: it cannot be read, or its weights are not finite.
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
    # A setting that a later version brought was its default before.
    then, now = {**_defaults(encoder), **renewed(content["encoder"])}, describe(encoder)
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


def _defaults(encoder: nn.Module) -> dict[str, Any]:
    """Those of the constructor, as plain values."""
    parameters = inspect.signature(type(encoder)).parameters.values()
    return {p.name: _plain(p.default) for p in parameters if p.default is not p.empty}


def _plain(value: Any) -> Any:
    """A constructor's argument as plain values."""
    if isinstance(value, nn.ModuleList | list | tuple):
        return [_plain(part) for part in value]
    return describe(value) if isinstance(value, nn.Module) else value


def _read_lightning(file: Path, mapped: bool) -> Any:
    if not is_sealed(file):  # an earlier version's
        _check_sums(file)
    return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)


def _check_sums(file: Path) -> None:
    """Compare every part with its CRC-32: torch itself loads flipped bits without a word."""
    with zipfile.ZipFile(file) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} is not what was written")


def _read_safetensors(file: Path) -> dict[str, Any]:
    """A safetensors file laid out as a Lightning checkpoint."""
    with safe_open(file, framework="pt") as content:
        said, names = content.metadata() or {}, content.keys()
        weights = {name: content.get_tensor(name) for name in names}
    if "sha256" not in said or "encoder" not in said:
        return {}
    if said.pop("sha256") != _digest(weights, said):
        raise ValueError("it is not what was written")
    state = {f"encoder.{name}": value for name, value in weights.items()}
    return {"metadata": said, "encoder": json.loads(said["encoder"]), "state_dict": state}


def _digest(weights: Mapping[str, Tensor], said: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and bytes, and of the metadata."""
    names = sorted(weights)
    shapes = [[name, str(weights[name].dtype), list(weights[name].shape)] for name in names]
    digest = hashlib.sha256(json.dumps([sorted(said.items()), shapes]).encode())
    for name in names:
        digest.update(weights[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _shrinks(value: Tensor) -> bool:
    return value.is_floating_point() and value.dim() > 1


def _restored(value: Any) -> Any:
    """Half precision as single precision; other types stay."""
    half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return value.float() if half else value
