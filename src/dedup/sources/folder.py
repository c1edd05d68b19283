"""Read a catalogue from a folder of images: every image file is a product."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from dedup.errors import ConfigError, SourceError
from dedup.schemas import REQUESTS
from dedup.sources.catalogue import Catalogue
from dedup.sources.kinds import PARQUET, kind_of
from dedup.sources.paths import IMAGE_SUFFIXES, ImageFolder

COLUMNS = ("product_id", "path")
"""Columns of the table that a folder becomes."""


class FolderSource:
    """Source that reads a folder of images.

    Args:
        path: folder of images.
        pattern: pattern of files below it, as ``pathlib.Path.glob`` takes it.
    """

    def __init__(self, path: str, pattern: str = "**/*") -> None:
        self.path = path
        self.pattern = pattern

    def read(self) -> Catalogue:
        """List the images, sorted by id: the path relative to the folder, with ``/``.

        The table of products has the columns ``product_id`` and ``path`` (absolute). An image
        outside the folder, reached by a symbolic link, is skipped with ``outside_folder``. An
        image whose name is not UTF-8 fails with ``bad_id``.

        Raises:
            SourceError: the folder is missing or holds no image.
            ConfigError: the pattern cannot be used.
        """
        root = self._root()
        images = sorted(
            (_text(file.relative_to(root).as_posix()), file) for file in set(self._images(root))
        )
        if not images:
            is_table = any(file.suffix.lower() in PARQUET for file in root.rglob("*"))
            hint = ", or read its Parquet files with source=parquet" if is_table else ""
            raise SourceError(
                f"{root} holds no image ({', '.join(IMAGE_SUFFIXES)}) that matches "
                f"{self.pattern!r}: check source.path= and source.pattern={hint}"
            )
        ids = [product_id for product_id, _ in images]
        paths = [_text(str(file.absolute())) for _, file in images]
        folder = ImageFolder(self.path)
        rows = [(n, ids[n], *_request(file, folder)) for n, (_, file) in enumerate(images)]
        return Catalogue(
            products=pd.DataFrame(dict(zip(COLUMNS, (ids, paths), strict=True)), dtype=str),
            requests=pd.DataFrame(rows, columns=REQUESTS.names),
        )

    def digest(self) -> str:
        """Compute the SHA-256 of the images' paths, by which added and removed ones are told.

        Raises:
            SourceError: the folder is missing.
            ConfigError: the pattern cannot be used.
        """
        root = self._root()
        names = sorted(_text(str(file.relative_to(root))) for file in set(self._images(root)))
        return hashlib.sha256("\0".join(names).encode()).hexdigest()

    def check(self) -> list[str]:
        """Check that the folder is there, and return the columns of its table.

        Raises:
            SourceError: it is no folder.
        """
        self._root()
        return [*COLUMNS]

    def _root(self) -> Path:
        root = Path(self.path)
        if self.path and root.is_dir():
            return root
        if root.suffix.lower() in IMAGE_SUFFIXES:
            raise SourceError(
                f"{self.path!r} is an image and not a folder: set source.path= to its folder, or "
                "find the products that show it with query="
            )
        if root.is_file():
            raise SourceError(
                f"{self.path!r} is a file and not a folder: set source.path= to a folder of "
                f"images, or choose source={kind_of(root)} if it is a table"
            )
        raise SourceError(f"{self.path!r} is not a folder: set source.path= to one of images")

    def _images(self, root: Path) -> Iterator[Path]:
        """Yield the image files below ``root``; broken links too, which become failures."""
        try:
            for file in root.glob(self.pattern):
                if file.suffix.lower() in IMAGE_SUFFIXES and (
                    file.is_file() or _is_broken_link(file)
                ):
                    yield file
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"source.pattern={self.pattern!r} cannot be used ({error}): "
                "set a pattern below the folder, such as **/*"
            ) from error


def _is_broken_link(file: Path) -> bool:
    return file.is_symlink() and not file.exists()


def _request(file: Path, folder: ImageFolder) -> tuple[str, list[str], str, str]:
    """Return the image's url, alternates, status and reason."""
    path = str(file.absolute())
    if path != _text(path):
        return _text(path), [], "failed", "bad_id"
    place = folder.below(path)
    return (path, [], "skipped", "outside_folder") if place is None else (place, [], "", "")


def _text(name: str) -> str:
    r"""Decode a file name; bytes that are not UTF-8 are written as ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
