"""Cache values computed from images, named by the digest of the function's version and settings.

A ``Derivation`` names a function. Its values are kept in one of two forms. One array row for each
image lies beside the image's shard: visual words, masks, crops; see ``derived_arrays``. Table rows
by key lie in a folder of the store: verdicts on pairs, and edited copies; see ``DerivedRows``.

A key is the digest of a derivation and its images. Rows are written in blocks: Parquet files, each
named by the SHA-256 of its bytes. A stopped run leaves whole blocks alone. All of it may be
deleted at any time.

A store may come from a stranger. So a block is read only if its bytes match its name, it has the
schema, and its values are possible. Any other block is removed with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dedup.errors import CorruptError, DedupError
from dedup.runtime.checksums import HEX
from dedup.runtime.files import move, sha256_file
from dedup.runtime.tables import as_frame, read_arrow, write_table

log = logging.getLogger("dedup")

MAX_BYTES = 2**30
"""Bytes of all blocks of one kind, some 10 million verdicts; the oldest blocks are removed."""

MAX_BLOCK = 2**27
"""Largest block in bytes: no run writes a larger file."""

SMALL, MAX_SMALL = 2**23, 16
"""Bytes below which a block is small, and the number of small blocks above which they are joined:
opening a file takes 1 ms."""

WRITE_EVERY = 5.0
"""Seconds between writes, and thus of work that a killed run loses at most."""

ABANDONED = 3600.0
"""Age in seconds from which a partial file belongs to no running process."""

_UNKEPT: set[Path] = set()
"""Stores that this process has warned of, see ``warn_unkept``."""

IsPossible = Callable[[pd.DataFrame], bool]


def digest_of(*parts: object) -> str:
    """Compute the SHA-256 of plain JSON values, as 64 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def warn_unkept(store: Path, error: OSError) -> None:
    """Warn that a store keeps no results, once for each store whatever was to be kept."""
    if store.absolute() in _UNKEPT:
        return
    _UNKEPT.add(store.absolute())
    log.warning(
        "cannot keep results in the store %s: %s. This run is not affected, and the next computes "
        "them again; make the store writable to save that time",
        store, error,
    )  # fmt: skip


@dataclass(frozen=True)
class Derivation:
    """Names a function of images by all that decides its values besides the images.

    Attributes:
        name: lower-case letters, such as ``words``.
        version: raised when the same images and settings give other values.
        settings: plain JSON values; library versions among them where they change bits.
    """

    name: str
    version: int
    settings: Any

    @cached_property
    def digest(self) -> str:
        """SHA-256 of name, version and settings, as 64 hex digits."""
        return digest_of(self.name, self.version, self.settings)

    def key(self, *images: str) -> str:
        """Return the key of the function's value at some images, named by their digests."""
        return hashlib.sha256(" ".join([self.digest, *images]).encode()).hexdigest()


class DerivedRows:
    """Table rows by key; a context manager that writes the remaining rows at its end.

    Args:
        folder: of the blocks, in the store's; made at the first write; ``None`` keeps nothing.
        schema: of the rows; its first column is ``key``, 64 hex digits.
        is_possible: tells whether a run can have computed a table of rows.
        max_bytes: of all blocks together.
        latest: column that orders the rows of a key, of which the last one is valid; ``None``
            where they are equal.
    """

    def __init__(
        self,
        folder: Path | None,
        schema: pa.Schema,
        is_possible: IsPossible,
        max_bytes: int = MAX_BYTES,
        latest: str | None = None,
    ) -> None:
        self.folder = folder
        self.schema = schema
        self.is_possible = is_possible
        self.max_bytes = max_bytes
        self.latest = latest
        self._new: list[Sequence[Any]] = []
        self._written = time.monotonic()

    def __enter__(self) -> DerivedRows:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._tidy()

    def find(self, keys: Collection[str]) -> pd.DataFrame:
        """Return the rows kept under some keys, indexed by key."""
        wanted, parts = pa.array(list(keys), pa.string()), [self.schema.empty_table()]
        for file in self._files() if len(keys) else []:
            block = self._read(file)
            if block is not None:
                parts.append(block.filter(pc.is_in(block["key"], wanted)))
        return self._distinct(parts).set_index("key")

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Keep rows, each (key, ...); the disk has them within some ``WRITE_EVERY`` seconds."""
        self._new.extend(rows)
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def _distinct(self, blocks: Sequence[pa.Table]) -> pd.DataFrame:
        """Join blocks, with one row for each key."""
        rows = as_frame(pa.concat_tables(blocks))
        if self.latest is not None:
            rows = rows.sort_values(self.latest, kind="stable")
        return rows.drop_duplicates("key", keep="first" if self.latest is None else "last")

    def _files(self) -> list[Path]:
        """List the blocks; no links, since these might lead anywhere."""
        if self.folder is None or self.folder.is_symlink() or not self.folder.is_dir():
            return []
        files = sorted(self.folder.glob("*.parquet"))
        return [file for file in files if file.is_file() and not file.is_symlink()]

    def _read(self, file: Path) -> pa.Table | None:
        """Read a block; ``None`` where it is gone, or must not be used."""
        try:
            return self._confirmed(file)
        except FileNotFoundError:  # another run has just joined it with others
            return None
        except OSError as error:
            log.warning("cannot read %s: %s. Its results are computed again", file, error)
        except DedupError as error:
            log.warning("%s. It is removed, and its results are computed again", error)
            with suppress(OSError):
                file.unlink()
        return None

    def _confirmed(self, file: Path) -> pa.Table:
        if file.stat().st_size > MAX_BLOCK or sha256_file(file) != file.stem:
            raise CorruptError(f"{file} is damaged: its SHA-256 is not its name")
        block = read_arrow(file, self.schema, "delete it", digests=["key"])
        keys = pc.match_substring_regex(block["key"], f"^{HEX.pattern}$")
        rows = as_frame(block)
        if not pc.all(keys, min_count=0).as_py() or not self.is_possible(rows):
            raise CorruptError(f"{file} is damaged: it holds impossible results")
        return block

    def _write(self) -> None:
        """Write the new rows as a block; where that fails, warn and go on without a cache."""
        new, self._new, self._written = self._new, [], time.monotonic()
        if self.folder is None or not new:
            return
        try:
            self._keep(pd.DataFrame(new, columns=self.schema.names))
        except OSError as error:
            warn_unkept(self.folder.parent, error)
            self.folder = None

    def _keep(self, rows: pd.DataFrame) -> Path:
        assert self.folder is not None
        if self.folder.is_symlink():
            raise OSError(f"{self.folder} is a symbolic link")
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.folder / f".{uuid.uuid4().hex}.part"
        try:
            write_table(rows, self.schema, part)
            block = self.folder / f"{sha256_file(part)}.parquet"
            move(part, block)
        finally:
            part.unlink(missing_ok=True)
        return block

    def _tidy(self) -> None:
        """Join small blocks; remove the oldest beyond ``max_bytes``, and abandoned parts."""
        try:
            small = [file for file in self._files() if file.stat().st_size < SMALL]
            if len(small) > MAX_SMALL:
                self._join(small)
            for file in self._surplus():
                file.unlink(missing_ok=True)
        except OSError as error:  # another run tidies up, or the folder can only be read
            log.debug("%s is left as it is: %s", self.folder, error)

    def _join(self, files: Sequence[Path]) -> None:
        """Join blocks into as few as stay readable: a larger one than ``MAX_BLOCK`` is refused."""
        batch: list[Path] = []
        n_bytes = 0
        for file in files:
            size = file.stat().st_size
            if n_bytes + size > MAX_BLOCK // 2:
                self._join_all(batch)
                batch, n_bytes = [], 0
            batch.append(file)
            n_bytes += size
        self._join_all(batch)

    def _join_all(self, files: Sequence[Path]) -> None:
        if len(files) < 2:
            return
        blocks = [block for file in files if (block := self._read(file)) is not None]
        if not blocks:
            return
        joined = self._keep(self._distinct(blocks))
        for file in files:
            if file != joined:
                file.unlink(missing_ok=True)

    def _surplus(self) -> Iterator[Path]:
        """Yield the oldest blocks beyond ``max_bytes``, and parts left by a killed run."""
        n_bytes = 0
        facts = {file: file.stat() for file in self._files()}
        for file in sorted(facts, key=lambda file: -facts[file].st_mtime):
            n_bytes += facts[file].st_size
            if n_bytes > self.max_bytes:
                yield file
        if self.folder is not None and not self.folder.is_symlink():
            for part in self.folder.glob(".*.part"):
                if time.time() - part.lstat().st_mtime > ABANDONED:
                    yield part
