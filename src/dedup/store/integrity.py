"""Whether a store is what was written, byte for byte.

What is known of a shard is written down more than once: its table lies there twice, its seal knows
the digests of the files, and each row of the table those of its pixels and its detail.
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
from dedup.runtime.checksums import kept_digest, read_seal
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
    KEPT,
    NAME,
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
"""In which the files of a shard are written."""
MANIFEST = "manifest.json"
STAGE = ".mending"
"""The folder where a shard is written anew before it takes the place of the old one."""
_PART = re.compile(rf"\.(?:{re.escape(MANIFEST)}|{NAME.pattern})\.[0-9a-f]+\.part")
"""What a writer that was killed leaves of these files; whatever else is there is not a store's."""
PIXELS_LENGTH = int(np.prod(IMAGE_SHAPE))
"""Of one image, in bytes."""


@dataclass(frozen=True)
class Damage:
    """A file of a store, an index or a run that is not what was written.

    Attributes:
        shard: its number; ``None`` for what belongs to no shard.
        file: its name.
        kind: ``missing``, ``changed``, ``extra``: left over from a run that was cut off, or
            ``impossible``: its digest is right, and yet the commands write no such thing.
        addresses: whose pixels or details are broken, where that can be told.
        detail: a sentence on what is wrong, where there is more to say.
    """

    shard: int | None
    file: str
    kind: Kind
    addresses: tuple[str, ...] = ()
    detail: str = ""


def manifest(path: Path) -> dict[str, Any] | None:
    """What the manifest of a store has to say: what the seals say, or without any, what it says.

    Returns:
        ``None`` where neither can be read.

    Raises:
        ArtifactError: there is no store, or one of another version or of an unknown reader.
    """
    shards = Shards(path)
    try:
        said = _by_seals(shards) or read_json(path / MANIFEST, "a store", "set store.path=PATH")
    except CorruptError:
        return None
    except ArtifactError:
        if shards.present():
            return None
        raise
    if said.get("format") != FORMAT:
        raise ArtifactError(
            f"the store {path} was made with format={said.get('format')}, not {FORMAT}: name "
            "another folder with store.path=PATH"
        )
    reader = said.get("reader")
    if not isinstance(reader, str) or reader not in READERS or said != described(reader):
        raise ArtifactError(
            f"{path / MANIFEST} is not what a store's manifest says: name another folder with "
            "store.path=PATH"
        )
    return said


def check_is_store(path: Path, reader: str) -> None:
    """Make sure that a folder is a store of a reader, before anything is written there.

    Raises:
        ArtifactError: it is none, or of another reader or version.
        CorruptError: what says so cannot be read.
    """
    said = manifest(path)
    if said is None:
        raise CorruptError(f"{path / MANIFEST} cannot be read: {advice(path)}")
    if said != described(reader):
        raise ArtifactError(f"the store {path} was made with reader={said['reader']}, not {reader}")


def verify(path: Path) -> list[Damage]:
    """Compare every byte of a store with what was written.

    Files are read in blocks and several at a time, so a large store takes no more memory. What
    was found in images is looked at as well, though it can be found again.

    Returns:
        What is damaged, in the order of shards; nothing where the store is whole.

    Raises:
        ArtifactError: there is no store, or one of another version.
    """
    said, shards = manifest(path), Shards(path)
    damages, present = of_manifest(path, said), shards.present()

    def of_shard(shard: int) -> list[Damage]:
        return examined(shards, shard, present.get(shard, ())).damages()

    for found in in_order(of_shard, numbers(shards)):
        damages += found
    return damages + left_over(shards)


@dataclass(frozen=True)
class Layout:
    """What the file of an array is made up of: a header, and a part for each row."""

    header: bytes
    ends: list[int]
    digests: list[str]
    urls: list[str]

    def read(self, file: BinaryIO, row: int) -> bytes:
        """The bytes at one row; fewer where the file is too short."""
        start = self.ends[row - 1] if row else 0
        file.seek(len(self.header) + start)
        return file.read(self.ends[row] - start)

    def broken(self, path: Path) -> list[int]:
        """The rows whose bytes are not what their digests say."""
        with opened(path) as file:
            return [
                row
                for row, digest in enumerate(self.digests)
                if sha256(self.read(file, row)) != digest
            ]

    def frames(self, path: Path) -> bool:
        """Whether the header and the size are right."""
        size = len(self.header) + max(self.ends, default=0)
        with opened(path) as file:
            same = file.read(len(self.header)) == self.header
            return same and file.seek(0, io.SEEK_END) == size

    def restore(self, path: Path, parts: Mapping[int, bytes]) -> None:
        """Write the file anew: some rows from ``parts``, the others as they are there."""

        def write(part: Path) -> None:
            with part.open("wb") as target, opened(path) as file:
                target.write(self.header)
                for row in range(len(self.ends)):
                    target.write(parts[row] if row in parts else self.read(file, row))

        atomically(path, write)


@dataclass(frozen=True)
class State:
    """A shard as it was found.

    Attributes:
        shards: those of its store.
        shard: its number.
        kinds: its damaged files, by ending.
        trusted: the ending of the table that can be trusted, or ``None``.
        layouts: how pixels and details are to be, where a table says so.
        broken: those of their rows that are not so, where such a file is damaged.
    """

    shards: Shards
    shard: int
    kinds: dict[str, Kind]
    trusted: str | None
    layouts: dict[str, Layout]
    broken: dict[str, list[int]]

    def file(self, ending: str) -> Path:
        """The path of one of its files."""
        return self.shards.file(self.shard, ending)

    def urls(self, ending: str, rows: Iterable[int]) -> tuple[str, ...]:
        """Whose rows these are."""
        return tuple(self.layouts[ending].urls[row] for row in rows)

    def damages(self) -> list[Damage]:
        """Its damaged files."""
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
    """Read the files of a shard, those of what is kept among ``endings``, and compare them."""
    files = {ending: shards.file(shard, ending) for ending in ORDER}
    seal = files[SEAL].read_bytes() if files[SEAL].is_file() else b""
    digests = {e: sha256_file(file) for e, file in files.items() if file.is_file()}
    # A digest that stands in a seal is right, even where the seal is broken elsewhere.
    sealed = {ending for ending, digest in digests.items() if digest.encode() in seal}
    is_whole = read_seal(seal, shard) is not None
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
    kept = [e for e in endings if e.partition("-")[0] in KEPT] if layouts else []
    wrong += [e for e in kept if not _is_kept(shards.file(shard, e), layouts[DETAILS])]
    kinds: dict[str, Kind] = {
        ending: "changed" if shards.file(shard, ending).is_file() else "missing"
        for ending in [*wrong, *broken]
    }
    return State(shards, shard, kinds, trusted, layouts, broken)


def _trusted(
    files: Mapping[str, Path], digests: Mapping[str, str], sealed: set[str], is_whole: bool
) -> str | None:
    """The table that two of three agree on: the seal, the table and its copy."""
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
    """How pixels and details are to be by a table."""
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


def _is_kept(file: Path, details: Layout) -> bool:
    """Whether a file of what was found in these details is what was written."""
    data = file.read_bytes()
    return data[-32:] == kept_digest(data[:-32], details.digests)


def left_over(shards: Shards) -> list[Damage]:
    """Files that belong to no shard, but to a run that was cut off."""
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
    """Whether a file is a shard's, or what a killed writer left of a store's file."""
    named = NAME.fullmatch(file.name) or _PART.fullmatch(file.name)
    return named is not None and not file.is_dir()


def numbers(shards: Shards) -> range:
    """The numbers up to the last shard, those of lost ones among them."""
    return range(max(shards.committed(), default=-1) + 1)


def _by_seals(shards: Shards) -> dict[str, Any] | None:
    """What the seals say of the store."""
    for shard, endings in shards.present().items():
        if SEAL in endings:
            content = read_seal(shards.file(shard, SEAL).read_bytes(), shard)
            if content is not None:
                return dict(content["store"])
    return None


def of_manifest(path: Path, said: Mapping[str, Any] | None) -> list[Damage]:
    """The damage to the manifest, if any."""
    file = path / MANIFEST
    if not file.is_file():
        return [Damage(None, MANIFEST, "missing")]
    if said is None or file.read_bytes() != json_text(said).encode():
        return [Damage(None, MANIFEST, "changed")]
    return []


def opened(path: Path) -> BinaryIO:
    """A file's content; none where it is missing."""
    return path.open("rb") if path.is_file() else io.BytesIO()


def sha256(data: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()
