"""Where checkpoints lie, found without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dedup.assets import FOLDER
from dedup.errors import ArtifactError
from dedup.runtime.invocation import command

if TYPE_CHECKING:
    pass

BUNDLED = FOLDER / "relisting.safetensors"
"""The weights that come with the package: the checkpoint ``bundled``."""


def checkpoint_file(path: str | Path) -> Path:
    """A checkpoint's file, from its path, its run folder's (then ``best.ckpt``) or ``bundled``.

    Raises:
        ArtifactError: there is none.
    """
    if str(path) == "bundled":
        if not BUNDLED.is_file():
            raise ArtifactError(
                f"this copy of dedup comes without the bundled weights ({BUNDLED}): install it "
                f"anew, or train an encoder with {command('train')}, and name it by checkpoint=PATH"
            )
        return BUNDLED
    file = Path(path)
    file = file / "best.ckpt" if file.is_dir() else file
    if not file.is_file():
        raise ArtifactError(
            f"no checkpoint at {file}: take the encoder that comes with the package, "
            "encoder=bundled source.path=products.csv, name another with checkpoint=PATH, or train "
            f"one with {command('train')}"
        )
    return file
