"""Read a catalogue from a folder of images: every image file is a product."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import pandas as pd

from dedup.errors import SourceError
from dedup.schemas import REQUESTS
from dedup.sources.catalogue import Catalogue
from dedup.sources.folder_files import EVERY_FILE, has_image_name, list_images
from dedup.sources.image_formats import READ_FORMATS
from dedup.sources.kinds import PARQUET, kind_of
from dedup.sources.paths import ImageFolder

COLUMNS = ("product_id", "path")
"""Columns of the table that a folder becomes."""

_LOG = logging.getLogger("dedup")


class FolderSource:
    """Source that reads a folder of images, told by their content and not by their names alone.

    Args:
        path: folder of images.
        pattern: pattern of files below it, as ``pathlib.Path.glob`` takes it.
    """

    def __init__(self, path: str, pattern: str = EVERY_FILE) -> None:
        self.path = path
        self.pattern = pattern

    def read(self) -> Catalogue:
        """List the images, sorted by id: the path relative to the folder, with ``/``.

        The table of products has the columns ``product_id`` and ``path`` (absolute). An image
        outside the folder, reached by a symbolic link, is skipped with ``outside_folder``. An
        image whose name is not UTF-8 fails with ``bad_id``. One line tells the files that are left
        out, see ``list_images``.

        Raises:
            SourceError: the folder is missing or holds no image.
            ConfigError: the pattern cannot be used.
        """
        root = self._root()
        found, left_out = list_images(root, self.pattern)
        top = str(root.absolute()).rstrip("/")
        images = sorted((_text(path), f"{top}/{path}") for path in found)
        if not images:
            is_table = any(file.suffix.lower() in PARQUET for file in root.rglob("*"))
            hint = ", or read its Parquet files with source=parquet" if is_table else ""
            raise SourceError(
                f"{root} holds no image ({READ_FORMATS}) that matches {self.pattern!r}"
                f"{f', but {left_out}' if left_out else ''}: check source.path= and "
                f"source.pattern={hint}"
            )
        if left_out:
            _LOG.info("left out of %s: %s", root, left_out)
        ids = [product_id for product_id, _ in images]
        paths = [_text(path) for _, path in images]
        folder = ImageFolder(self.path)
        rows = [(n, ids[n], *_request(path, folder)) for n, (_, path) in enumerate(images)]
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
        names = sorted(map(_text, list_images(root, self.pattern)[0]))
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
        if has_image_name(root.name):
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


def _request(path: str, folder: ImageFolder) -> tuple[str, list[str], str, str]:
    """Return the image's url, alternates, status and reason."""
    if path != _text(path):
        return _text(path), [], "failed", "bad_id"
    place = folder.below(path)
    return (path, [], "skipped", "outside_folder") if place is None else (place, [], "", "")


def _text(name: str) -> str:
    r"""Decode a file name; bytes that are not UTF-8 are written as ``\xff``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
