"""Check a store byte for byte against its checksums.

The facts of a shard are stored more than once. Its table lies there twice. Its checksum file has
the digests of the files. Each row of the table has the digests of its pixels and its preview.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pandas as pd

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.checksums import kept_digest, parse_checked
from dedup.runtime.files import array_header, atomically, json_text, read_json, sha256_file
from dedup.runtime.parallel import in_order
from dedup.runtime.tables import read_table
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import READERS
from dedup.store.shards import (
    COPY,
    DETAILS,
    ENTRIES,
    FORMAT,
    NAME,
    OUTDATED,
    PIXELS,
    SEAL,
    TABLE,
    Shards,
    advice,
    described,
)

Kind = Literal["missing", "changed", "extra", "impossible"]

ARRAYS, TABLES = (PIXELS, DETAILS), (TABLE, COPY)
ORDER = (PIXELS, DETAILS, COPY, TABLE, SEAL)
"""Order in which the files of a shard are written."""
MANIFEST = "manifest.json"
STAGE = ".mending"
"""Folder where a shard is written anew before it replaces the old one."""
_PART = re.compile(
    rf"\.(?:{re.escape(MANIFEST)}|{NAME.pattern}|{OUTDATED.pattern})\.[0-9a-f]+\.part"
)
"""Names of partial files by a killed writer; any other name is not a store's."""
PIXELS_LENGTH = int(np.prod(IMAGE_SHAPE))
"""Bytes of the pixels of one image."""


@dataclass(frozen=True)
class Damage:
    """Damage to a file of a store, an index or a run.

    Attributes:
        shard: number of its shard; ``None`` for a file of no shard.
        file: its name.
        kind: ``missing``, ``changed``, ``extra``: left over from a run that was cut off, or
            ``impossible``: its digest is right, but no command writes such values.
        addresses: images with damaged pixels or previews, where they can be told.
        detail: a sentence on the damage, where there is more to say.
    """

    shard: int | None
    file: str
    kind: Kind
    addresses: tuple[str, ...] = ()
    detail: str = ""


def manifest(path: Path) -> dict[str, Any] | None:
    """Read the content of a store's manifest from its checksum files, else from itself.

    Returns:
        ``None`` where neither can be read.

    Raises:
        ArtifactError: there is no store, or one of another version or of an unknown reader.
    """
    shards = Shards(path)
    try:
        content = _by_seals(shards) or read_json(path / MANIFEST, "a store", "set store.path=PATH")
    except CorruptError:
        return None
    except ArtifactError:
        if shards.present():
            return None
        raise
    if content.get("format") != FORMAT:
        raise ArtifactError(
            f"the store {path} was made with format={content.get('format')}, not {FORMAT}: name "
            "another folder with store.path=PATH"
        )
    reader = content.get("reader")
    if not isinstance(reader, str) or reader not in READERS or content != described(reader):
        raise ArtifactError(
            f"{path / MANIFEST} has impossible values for a store: name another folder with "
            "store.path=PATH"
        )
    return content


def check_is_store(path: Path, reader: str) -> None:
    """Make sure that a folder is a store of a reader, before anything is written there.

    Raises:
        ArtifactError: it is none, or of another reader or version.
        CorruptError: its manifest cannot be read.
    """
    content = manifest(path)
    if content is None:
        raise CorruptError(f"{path / MANIFEST} cannot be read: {advice(path)}")
    if content != described(reader):
        made_with = content["reader"]
        raise ArtifactError(f"the store {path} was made with reader={made_with}, not {reader}")


def verify(path: Path) -> list[Damage]:
    """Compare every byte of a store with its checksums.

    Files are read in blocks and several at a time, so a large store takes no more memory. Derived
    arrays are checked as well, though they can be computed again.

    Returns:
        The damaged files in the order of shards; none where the store is whole.

    Raises:
        ArtifactError: there is no store, or one of another version.
    """
    content, shards = manifest(path), Shards(path)
    damages, present = of_manifest(path, content), shards.present()

    def of_shard(shard: int) -> list[Damage]:
        return examined(shards, shard, present.get(shard, ())).damages()

    for some in in_order(of_shard, numbers(shards)):
        damages += some
    return damages + left_over(shards)


@dataclass(frozen=True)
class Layout:
    """Layout of an array's file: a header, and a part for each row."""

    header: bytes
    ends: list[int]
    digests: list[str]
    urls: list[str]

    def read(self, file: BinaryIO, row: int) -> bytes:
        """Read the bytes at one row; fewer where the file is too short."""
        start = self.ends[row - 1] if row else 0
        file.seek(len(self.header) + start)
        return file.read(self.ends[row] - start)

    def broken(self, path: Path) -> list[int]:
        """List the rows whose bytes do not match their digests."""
        with opened(path) as file:
            return [
                row
                for row, digest in enumerate(self.digests)
                if sha256(self.read(file, row)) != digest
            ]

    def frames(self, path: Path) -> bool:
        """Tell whether the header and the size are right."""
        size = len(self.header) + max(self.ends, default=0)
        with opened(path) as file:
            same = file.read(len(self.header)) == self.header
            return same and file.seek(0, io.SEEK_END) == size

    def restore(self, path: Path, parts: Mapping[int, bytes]) -> None:
        """Write the file anew: some rows from ``parts``, the others from the file itself."""

        def write(part: Path) -> None:
            with part.open("wb") as target, opened(path) as file:
                target.write(self.header)
                for row in range(len(self.ends)):
                    target.write(parts[row] if row in parts else self.read(file, row))

        atomically(path, write)


@dataclass(frozen=True)
class State:
    """State of a shard's files.

    Attributes:
        shards: those of its store.
        shard: its number.
        kinds: kinds of damage, by the ending of the file.
        trusted: ending of the table that can be trusted, or ``None``.
        layouts: layouts of pixels and previews by that table.
        broken: damaged rows of pixels and previews, where such a file is damaged.
    """

    shards: Shards
    shard: int
    kinds: dict[str, Kind]
    trusted: str | None
    layouts: dict[str, Layout]
    broken: dict[str, list[int]]

    def file(self, ending: str) -> Path:
        """Return the path of one of its files."""
        return self.shards.file(self.shard, ending)

    def urls(self, ending: str, rows: Iterable[int]) -> tuple[str, ...]:
        """Return the addresses of some rows."""
        return tuple(self.layouts[ending].urls[row] for row in rows)

    def damages(self) -> list[Damage]:
        """List its damaged files."""
        return [
            Damage(
                self.shard,
                self.file(ending).name,
                kind,
                self.urls(ending, self.broken.get(ending, [])),
            )
            for ending, kind in self.kinds.items()
        ]


def examined(shards: Shards, shard: int, endings: Iterable[str]) -> State:
    """Compare the files of a shard, and the derived arrays among ``endings``, with checksums."""
    files = {ending: shards.file(shard, ending) for ending in ORDER}
    seal = files[SEAL].read_bytes() if files[SEAL].is_file() else b""
    digests = {e: sha256_file(file) for e, file in files.items() if file.is_file()}
    # A digest in the checksum file is right, even where that file is damaged elsewhere.
    sealed = {ending for ending, digest in digests.items() if digest.encode() in seal}
    is_whole = parse_checked(seal, shard) is not None
    trusted = _trusted(files, digests, sealed, is_whole)
    layouts = {} if trusted is None else _layouts(read_table(files[trusted], ENTRIES))
    wrong = [] if is_whole else [SEAL]
    wrong += [e for e in TABLES if trusted is None or digests.get(e) != digests[trusted]]
    broken = {}
    for ending in ARRAYS:
        if ending not in sealed:
            rows = layouts[ending].broken(files[ending]) if layouts else []
            if is_whole or rows or not layouts or not layouts[ending].frames(files[ending]):
                broken[ending] = rows
    derived = [e for e in endings if "-" in e] if layouts else []
    wrong += [e for e in derived if not _is_confirmed(shards.file(shard, e), layouts[DETAILS])]
    kinds: dict[str, Kind] = {
        ending: "changed" if shards.file(shard, ending).is_file() else "missing"
        for ending in [*wrong, *broken]
    }
    return State(shards, shard, kinds, trusted, layouts, broken)


def _trusted(
    files: Mapping[str, Path], digests: Mapping[str, str], sealed: set[str], is_whole: bool
) -> str | None:
    """Choose the table that two of three confirm: the checksums, the table and its copy."""
    for ending in TABLES:
        if ending in sealed:
            return ending
    if is_whole or not {*TABLES} <= {*digests} or digests[TABLE] != digests[COPY]:
        return None
    try:
        read_table(files[TABLE], ENTRIES)
    except CorruptError:
        return None
    return TABLE


def _layouts(table: pd.DataFrame) -> dict[str, Layout]:
    """Compute the layouts of pixels and previews from a table."""
    images = table[table["row"] >= 0].sort_values("row")
    n, urls = len(images), images["url"].tolist()
    ends = images["detail_length"].cumsum().tolist()
    return {
        PIXELS: Layout(
            array_header((n, *IMAGE_SHAPE), np.uint8),
            [PIXELS_LENGTH * (row + 1) for row in range(n)],
            images["sha256_pixels"].tolist(),
            urls,
        ),
        DETAILS: Layout(
            array_header((max(ends, default=0),), np.uint8),
            ends,
            images["sha256_detail"].tolist(),
            urls,
        ),
    }


def _is_confirmed(file: Path, details: Layout) -> bool:
    """Tell whether the digest at the end of a derived array confirms it."""
    data = file.read_bytes()
    return data[-32:] == kept_digest(data[:-32], details.digests)


def left_over(shards: Shards) -> list[Damage]:
    """List files of runs that were cut off, which belong to no shard."""
    n_shards = len(numbers(shards))
    cut_off = [
        Damage(shard, shards.file(shard, ending).name, "extra")
        for shard, endings in shards.present().items()
        for ending in endings
        if shard >= n_shards
    ]
    hidden = [file for file in shards.path.glob(".*.part") if is_own(file)]
    hidden += [file for file in [shards.path / STAGE] if os.path.lexists(file)]
    return cut_off + [Damage(None, file.name, "extra") for file in sorted(hidden)]


def is_own(file: Path) -> bool:
    """Tell whether a file is a shard's, or a partial file by a killed writer."""
    named = NAME.fullmatch(file.name) or _PART.fullmatch(file.name)
    return named is not None and not file.is_dir()


def numbers(shards: Shards) -> range:
    """Return the numbers up to the last shard, lost ones too."""
    return range(max(shards.committed(), default=-1) + 1)


def _by_seals(shards: Shards) -> dict[str, Any] | None:
    """Read the manifest's content from the first whole checksum file."""
    for shard, endings in shards.present().items():
        if SEAL in endings:
            content = parse_checked(shards.file(shard, SEAL).read_bytes(), shard)
            if content is not None:
                return dict(content["store"])
    return None


def of_manifest(path: Path, content: Mapping[str, Any] | None) -> list[Damage]:
    """List the damage to the manifest, if any."""
    file = path / MANIFEST
    if not file.is_file():
        return [Damage(None, MANIFEST, "missing")]
    if content is None or file.read_bytes() != json_text(content).encode():
        return [Damage(None, MANIFEST, "changed")]
    return []


def opened(path: Path) -> BinaryIO:
    """Open a file; an empty one where it is missing."""
    return path.open("rb") if path.is_file() else io.BytesIO()


def sha256(data: bytes) -> str:
    """Compute the SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
