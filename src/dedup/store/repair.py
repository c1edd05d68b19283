"""Repair a damaged image store.

A damaged table is restored from its copy, and damaged checksums from the files. The table names the
images of damaged pixels and previews, so only these addresses are read again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from dedup.errors import CorruptError
from dedup.runtime.files import locked, move, write_bytes, write_json
from dedup.runtime.tables import read_table
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import Decoded
from dedup.store.integrity import (
    MANIFEST,
    ORDER,
    STAGE,
    TABLES,
    Damage,
    State,
    examined,
    is_own,
    left_over,
    manifest,
    numbers,
    of_manifest,
    opened,
    sha256,
)
from dedup.store.shards import (
    DETAILS,
    ENTRIES,
    OUTDATED,
    PIXELS,
    SEAL,
    TABLE,
    Loaded,
    Shards,
    described,
)

log = logging.getLogger("dedup")

Fresh = Mapping[str, Loaded]
Parts = Mapping[str, Mapping[int, bytes]]

MAX_SHARDS, MAX_ROWS = 64, 1024
"""Maximum number of shards, and of rows to read again, that are repaired at a time."""


@dataclass(frozen=True)
class Mended:
    """Outcome of a repair.

    Attributes:
        restored: addresses that were read again with the same bytes.
        changed: addresses that gave other bytes, or failed.
        emptied: shards whose tables were lost; the next run reads their addresses again.
    """

    restored: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    emptied: list[int] = field(default_factory=list)


class Store(Protocol):
    """Store that a repair reads images with."""

    path: Path
    reader: str

    def read_anew(self, urls: Sequence[str]) -> Iterable[Loaded]:
        """Read distinct addresses again, whatever the store has of them."""
        ...


def repair(store: Store, damages: Sequence[Damage]) -> Mended:
    """Repair the damage that ``verify`` found; no other file is touched.

    Rows with damaged pixels or previews are read again. The same bytes are put in their place.
    Other bytes make a new row, and its shard is written anew. A repair can be killed at any
    moment, and done again.

    Args:
        store: reads images again.
        damages: of its folder, by ``verify``.

    Raises:
        LockedError: another run writes into the store.
        StalledError: images are to be read again, and no host answers.
    """
    content = manifest(store.path) or described(store.reader)
    shards, mended = Shards(store.path, content), Mended()
    with locked(store.path):
        settle(shards)
        named = {damage.shard for damage in damages if damage.shard is not None}
        for states in _in_batches(shards, sorted(named.intersection(numbers(shards)))):
            urls = list(dict.fromkeys(url for state in states for url in _broken(state)))
            readings = store.read_anew(urls) if urls else ()
            fresh = {reading.entry["url"]: reading for reading in readings}
            for state in states:
                _mend(state, fresh, mended)
        if of_manifest(store.path, content):
            write_json(content, store.path / MANIFEST)
    return mended


def settle(shards: Shards) -> None:
    """Finish or remove the files of a killed run; for a writer that holds the store's lock.

    A shard that lacks its checksums alone gets them. Arrays by earlier versions are removed.
    """
    _finish(shards)
    for damage in left_over(shards):
        (shards.path / damage.file).unlink()
    for file in shards.path.glob("shard-*.npy"):
        if OUTDATED.fullmatch(file.name):
            file.unlink()
    for shard, endings in shards.present().items():
        if SEAL not in endings and {*examined(shards, shard, endings).kinds} == {SEAL}:
            shards.seal(shard)


def _in_batches(shards: Shards, damaged: Iterable[int]) -> Iterator[list[State]]:
    """Yield damaged shards in batches: each starts the processes that read images once."""
    present, states = shards.present(), []
    for shard in damaged:
        states.append(examined(shards, shard, present.get(shard, ())))
        if len(states) >= MAX_SHARDS or sum(map(len, map(_broken, states))) >= MAX_ROWS:
            yield states
            states = []
    yield states


def _broken(state: State) -> list[str]:
    """List the addresses to read again."""
    urls = (url for ending, rows in state.broken.items() for url in state.urls(ending, rows))
    return list(dict.fromkeys(urls)) if state.layouts else []


def _mend(state: State, fresh: Fresh, mended: Mended) -> None:
    """Repair one shard."""
    for derived in {*state.kinds} - {*ORDER}:
        state.file(derived).unlink()
    if state.trusted is None:
        log.warning("shard %d is lost: the next run reads its addresses again", state.shard)
        _replace(state, [])
        mended.emptied.append(state.shard)
        return
    table = state.file(state.trusted).read_bytes()
    for ending in {*state.kinds}.intersection(TABLES):
        write_bytes(table, state.file(ending))
    parts = {ending: _parts(state, ending, fresh) for ending in state.broken}
    changed = {
        url
        for ending, rows in state.broken.items()
        for url in state.urls(ending, (row for row in rows if row not in parts[ending]))
    }
    if changed:
        _replace(state, list(_loaded(state, parts, {url: fresh[url] for url in changed})))
    else:
        for ending in state.broken:
            state.layouts[ending].restore(state.file(ending), parts[ending])
        if examined(state.shards, state.shard, ()).kinds:
            state.shards.seal(state.shard)
    mended.restored.extend(url for url in _broken(state) if url not in changed)
    mended.changed.extend(url for url in _broken(state) if url in changed)


def _parts(state: State, ending: str, fresh: Fresh) -> dict[int, bytes]:
    """Return the damaged rows of an array that were read again with the same bytes."""
    layout, parts = state.layouts[ending], {}
    for row in state.broken[ending]:
        image = fresh[layout.urls[row]].image
        if image is not None:
            data = image.pixels.tobytes() if ending == PIXELS else image.detail
            if sha256(data) == layout.digests[row]:
                parts[row] = data
    return parts


def _loaded(state: State, parts: Parts, changed: Fresh) -> Iterator[Loaded]:
    """Yield the rows of a shard: new readings, and the others as they were."""

    def read(ending: str, file: BinaryIO, row: int) -> bytes:
        restored = parts.get(ending, {})
        return restored[row] if row in restored else state.layouts[ending].read(file, row)

    with opened(state.file(PIXELS)) as pixels, opened(state.file(DETAILS)) as details:
        for entry in read_table(state.file(TABLE), ENTRIES).to_dict("records"):
            facts, row = {str(name): value for name, value in entry.items()}, entry["row"]
            if facts["url"] in changed:
                yield changed[facts["url"]]
            elif row < 0:
                yield Loaded(facts, None)
            else:
                values = np.frombuffer(read(PIXELS, pixels, row), np.uint8).reshape(IMAGE_SHAPE)
                detail = read(DETAILS, details, row)
                yield Loaded(facts, Decoded(values, facts["width"], facts["height"], detail))


def _replace(state: State, loaded: Sequence[Loaded]) -> None:
    """Write a shard anew, and replace the old one."""
    stage = Shards(state.shards.path / STAGE, state.shards.manifest)
    stage.path.mkdir()
    stage.write(state.shard, loaded)
    _finish(state.shards)


def _finish(shards: Shards) -> None:
    """Move a shard that was written anew to its place; without checksums it is dropped.

    Raises:
        CorruptError: the folder for new shards holds other files.
    """
    stage = Shards(shards.path / STAGE)
    _check_stage(stage.path)
    for shard, endings in stage.present().items():
        if SEAL in endings:
            for ending in shards.present().get(shard, ()):
                if "-" in ending:  # computed from the images that were there before
                    shards.file(shard, ending).unlink()
            for ending in ORDER:  # the checksums last: until then this can be done again
                if ending in endings:
                    move(stage.file(shard, ending), shards.file(shard, ending))
    if stage.path.is_dir():
        for file in stage.path.iterdir():
            file.unlink()
        stage.path.rmdir()


def _check_stage(stage: Path) -> None:
    """Make sure that a folder to be removed is a store's own: a store may come from others."""
    is_link, strange = stage.is_symlink(), None
    if stage.is_dir() and not is_link:
        strange = next((file.name for file in stage.iterdir() if not is_own(file)), None)
    if is_link or strange is not None or stage.is_file():
        why = "no repair makes it" if strange is None else f"no repair writes {strange!r} there"
        raise CorruptError(
            f"cannot repair {stage.parent}: {stage} is in the way, and {why}. Move it elsewhere"
        )
