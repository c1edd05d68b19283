"""Save the rows of an ingest in whole shards, and the answers that they came with afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dedup.store.shards import Loaded


class ShardWriter:
    """Save what was read: whole shards of images, then the answers that they came with.

    Args:
        write: writes a shard of images.
        note: keeps the answers of addresses whose images are saved.
        shard_rows: number of rows in a shard.
        n_shards: number of shards that the store has.
    """

    def __init__(
        self,
        write: Callable[[int, Sequence[Loaded]], None],
        note: Callable[[Sequence[Loaded]], None],
        shard_rows: int,
        n_shards: int,
    ) -> None:
        self._write_shard = write
        self._note = note
        self._shard_rows = shard_rows
        self._shard = n_shards
        self._waiting: list[Loaded] = []
        self._has_failed = False

    def __call__(self, loaded: list[Loaded]) -> None:
        """Save some rows; those that do not fill a shard wait for others."""
        self._note([row for row in loaded if row.is_kept])
        self._waiting += [row for row in loaded if not row.is_kept]
        while len(self._waiting) >= self._shard_rows:
            self._write()

    def end(self) -> None:
        """Save the rest."""
        if self._waiting and not self._has_failed:
            self._write()

    def _write(self) -> None:
        rows = self._waiting[: self._shard_rows]
        self._has_failed = True
        self._write_shard(self._shard, rows)
        self._has_failed = False
        self._shard += 1
        del self._waiting[: self._shard_rows]
        self._note(rows)
