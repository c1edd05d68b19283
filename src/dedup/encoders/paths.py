"""Find the files of checkpoints, without importing torch."""

from __future__ import annotations

from pathlib import Path

from dedup.assets import FOLDER
from dedup.errors import ArtifactError
from dedup.runtime.invocation import command
from dedup.runtime.nearest import meant

BUNDLED = FOLDER / "relisting.safetensors"
"""The weights that come with the package, known as the checkpoint ``bundled``."""


def checkpoint_file(path: str | Path) -> Path:
    """Find the file of a checkpoint, given its path, its run folder or ``bundled``.

    In a run folder it is ``best.ckpt``.

    Raises:
        ArtifactError: the file is missing.
    """
    if str(path) == "bundled":
        if not BUNDLED.is_file():
            raise ArtifactError(
                f"this copy of dedup comes without the bundled weights ({BUNDLED}): install it "
                f"again, or train an encoder with {command('train')} and name it with "
                "checkpoint=PATH"
            )
        return BUNDLED
    file = Path(path)
    file = file / "best.ckpt" if file.is_dir() else file
    if not file.is_file():
        if hint := meant(str(path), ["bundled"]):
            raise ArtifactError(f"no checkpoint at {file}{hint}")
        raise ArtifactError(
            f"no checkpoint at {file}: use the encoder that comes with the package, "
            "encoder=bundled source.path=products.csv, name another with checkpoint=PATH, or train "
            f"one with {command('train')}"
        )
    return file
