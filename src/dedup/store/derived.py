"""What was computed from images, kept in a folder so that no later run computes it again.

A row has a key: the digest of all that it depends on, the images and the settings. Rows come in
blocks, a Parquet file each, which has the SHA-256 of its bytes for a name and is written at once:
a run that was stopped leaves whole blocks alone. All of it may be deleted at any time.

A folder may have come from a stranger, so a block is read only if it is what its name says, has the
schema and holds what can have been computed. One that does not is removed, with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
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
"""Of the blocks of one kind together, some 10 million verdicts; the oldest go beyond that."""

MAX_BLOCK = 2**27
"""Bytes of one block: a larger file is none of ours."""

SMALL, MAX_SMALL = 2**23, 16
"""Blocks of fewer bytes are joined when there are more than so many: opening a file takes 1 ms."""

WRITE_EVERY = 5.0
"""Seconds of work that a run loses at most when it is killed."""

ABANDONED = 3600.0
"""Seconds after which a part of a file belongs to no run that is still writing it."""

IsPossible = Callable[[pd.DataFrame], bool]


def digest_of(*parts: object) -> str:
    """SHA-256 of plain values, as 64 hex digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Derived:
    """Rows of one kind, by key; a context that writes what is left when it ends.

    Args:
        folder: where the blocks lie, made when first written to; ``None`` keeps nothing.
        schema: of the rows; its first column is ``key``, 64 hex digits.
        is_possible: whether rows, without their keys, can have been computed.
        max_bytes: of all blocks together.
    """

    def __init__(
        self,
        folder: Path | None,
        schema: pa.Schema,
        is_possible: IsPossible,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.folder = folder
        self.schema = schema
        self.is_possible = is_possible
        self.max_bytes = max_bytes
        self._new: list[Sequence[Any]] = []
        self._written = time.monotonic()

    def __enter__(self) -> Derived:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._tidy()

    def find(self, keys: Collection[str]) -> pd.DataFrame:
        """The rows that are there of some keys, indexed by key."""
        wanted, parts = pa.array(list(keys), pa.string()), [self.schema.empty_table()]
        for file in self._files() if len(keys) else []:
            block = self._read(file)
            if block is not None:
                parts.append(block.filter(pc.is_in(block["key"], wanted)))
        return as_frame(pa.concat_tables(parts)).drop_duplicates("key").set_index("key")

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Keep rows, each (key, ...); they are on the disk within some ``WRITE_EVERY`` seconds."""
        self._new.extend(rows)
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def _files(self) -> list[Path]:
        """The blocks; no links, which might lead anywhere."""
        if self.folder is None or self.folder.is_symlink() or not self.folder.is_dir():
            return []
        files = sorted(self.folder.glob("*.parquet"))
        return [file for file in files if file.is_file() and not file.is_symlink()]

    def _read(self, file: Path) -> pa.Table | None:
        """A block, or ``None`` where it is gone, or must not be used."""
        try:
            return self._confirmed(file)
        except FileNotFoundError:  # another run has just joined it with others
            return None
        except OSError as error:
            log.warning("%s is not used: %s", file, error)
        except DedupError as error:
            log.warning("%s. It is removed, and what it held is computed again", error)
            with suppress(OSError):
                file.unlink()
        return None

    def _confirmed(self, file: Path) -> pa.Table:
        if file.stat().st_size > MAX_BLOCK or sha256_file(file) != file.stem:
            raise CorruptError(f"{file} is not what was written")
        block = read_arrow(file, self.schema, "delete it", digests=["key"])
        keys = pc.match_substring_regex(block["key"], f"^{HEX.pattern}$")
        rows = as_frame(block)
        if not pc.all(keys, min_count=0).as_py() or not self.is_possible(rows):
            raise CorruptError(f"{file} holds what cannot have been computed")
        return block

    def _write(self) -> None:
        """Write the new rows as a block; without a place for it a run goes on, and says so."""
        new, self._new, self._written = self._new, [], time.monotonic()
        if self.folder is None or not new:
            return
        try:
            self._keep(pd.DataFrame(new, columns=self.schema.names))
        except OSError as error:
            log.warning("%s: results are not kept, and computed again next time", error)
            self.folder = None

    def _keep(self, rows: pd.DataFrame) -> Path:
        assert self.folder is not None
        if self.folder.is_symlink():
            raise OSError(f"{self.folder} is a link")
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
        """Join small blocks, and remove what is too old or too much."""
        try:
            small = [file for file in self._files() if file.stat().st_size < SMALL]
            if len(small) > MAX_SMALL:
                self._join(small)
            for file in self._too_much():
                file.unlink(missing_ok=True)
        except OSError as error:  # another run tidies up, or the folder can only be read
            log.debug("%s is left as it is: %s", self.folder, error)

    def _join(self, files: Sequence[Path]) -> None:
        blocks = [block for file in files if (block := self._read(file)) is not None]
        if not blocks:
            return
        joined = self._keep(as_frame(pa.concat_tables(blocks)).drop_duplicates("key"))
        for file in files:
            if file != joined:
                file.unlink(missing_ok=True)

    def _too_much(self) -> Iterator[Path]:
        """The oldest blocks beyond ``max_bytes``, and parts that a killed run left."""
        n_bytes = 0
        known = {file: file.stat() for file in self._files()}
        for file in sorted(known, key=lambda file: -known[file].st_mtime):
            n_bytes += known[file].st_size
            if n_bytes > self.max_bytes:
                yield file
        if self.folder is not None and not self.folder.is_symlink():
            for part in self.folder.glob(".*.part"):
                if time.time() - part.lstat().st_mtime > ABANDONED:
                    yield part
