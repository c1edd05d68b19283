"""How a store becomes again what was written.

A broken table comes back from its copy, a broken seal from the files. Of broken pixels and details
it is known whose they are, so these addresses alone are read again.
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
    KEPT,
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
"""So many damaged shards, and rows to be read again, are mended at a time."""


@dataclass(frozen=True)
class Mended:
    """What a repair did.

    Attributes:
        restored: addresses that were read again, and the same bytes came back.
        changed: addresses that read otherwise now, or fail.
        emptied: shards whose tables were lost. The next run reads their addresses again.
    """

    restored: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    emptied: list[int] = field(default_factory=list)


class Store(Protocol):
    """What a repair needs of a store."""

    path: Path
    reader: str

    def read_anew(self, urls: Sequence[str]) -> Iterable[Loaded]:
        """Read distinct addresses, whatever the store says of them."""
        ...


def repair(store: Store, damages: Sequence[Damage]) -> Mended:
    """Put right what ``verify`` found; no other file is touched.

    Rows whose pixels or detail are broken are read again. Where the same bytes come back, they are
    put in their place; else the row has the new reading, and its shard is written anew. A repair
    can be killed at any moment, and done again.

    Args:
        store: reads images again.
        damages: what ``verify`` found in its folder.

    Raises:
        LockedError: another run writes into the store.
        StalledError: images are to be read again, and no host answers.
    """
    said = manifest(store.path) or described(store.reader)
    shards, mended = Shards(store.path, said), Mended()
    with locked(store.path):
        settle(shards)
        named = {damage.shard for damage in damages if damage.shard is not None}
        for states in _in_batches(shards, sorted(named.intersection(numbers(shards)))):
            asked = {url: None for state in states for url in _broken(state)}
            fresh = {one.entry["url"]: one for one in store.read_anew([*asked])} if asked else {}
            for state in states:
                _mend(state, fresh, mended)
        if of_manifest(store.path, said):
            write_json(said, store.path / MANIFEST)
    return mended


def settle(shards: Shards) -> None:
    """Finish or sweep up what a killed run left; for a writer that holds the store's lock.

    A shard that lacks its seal alone gets one.
    """
    _finish(shards)
    for damage in left_over(shards):
        (shards.path / damage.file).unlink()
    for shard, endings in shards.present().items():
        if SEAL not in endings and {*examined(shards, shard, endings).kinds} == {SEAL}:
            shards.seal(shard)


def _in_batches(shards: Shards, damaged: Iterable[int]) -> Iterator[list[State]]:
    """Damaged shards, as many at once as are worth a start of what reads images."""
    present, states = shards.present(), []
    for shard in damaged:
        states.append(examined(shards, shard, present.get(shard, ())))
        if len(states) >= MAX_SHARDS or sum(map(len, map(_broken, states))) >= MAX_ROWS:
            yield states
            states = []
    yield states


def _broken(state: State) -> list[str]:
    """The addresses that are to be read again."""
    urls = (url for ending, rows in state.broken.items() for url in state.urls(ending, rows))
    return list(dict.fromkeys(urls)) if state.layouts else []


def _mend(state: State, fresh: Fresh, mended: Mended) -> None:
    """Put one shard right."""
    for kept in {*state.kinds} - {*ORDER}:
        state.file(kept).unlink()
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
    """The broken rows of an array of which the same bytes came back."""
    layout, parts = state.layouts[ending], {}
    for row in state.broken[ending]:
        image = fresh[layout.urls[row]].image
        if image is not None:
            data = image.pixels.tobytes() if ending == PIXELS else image.detail
            if sha256(data) == layout.digests[row]:
                parts[row] = data
    return parts


def _loaded(state: State, parts: Parts, changed: Fresh) -> Iterator[Loaded]:
    """The rows of a shard: new readings, and the others as they were."""

    def read(ending: str, file: BinaryIO, row: int) -> bytes:
        known = parts.get(ending, {})
        return known[row] if row in known else state.layouts[ending].read(file, row)

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
    """Write a shard anew beside the old one, and put it in its place."""
    stage = Shards(state.shards.path / STAGE, state.shards.manifest)
    stage.path.mkdir()
    stage.write(state.shard, loaded)
    _finish(state.shards)


def _finish(shards: Shards) -> None:
    """Put a shard that was written anew in its place; one that has no seal yet is dropped.

    Raises:
        CorruptError: there is something else in its place.
    """
    stage = Shards(shards.path / STAGE)
    _check_stage(stage.path)
    for shard, endings in stage.present().items():
        if SEAL in endings:
            for kind in KEPT:
                for found in shards.path.glob(f"{shards.file(shard, kind).name}-*.npy"):
                    found.unlink()
            for ending in ORDER:  # the seal last: until then this can be done again
                if ending in endings:
                    move(stage.file(shard, ending), shards.file(shard, ending))
    if stage.path.is_dir():
        for file in stage.path.iterdir():
            file.unlink()
        stage.path.rmdir()


def _check_stage(stage: Path) -> None:
    """Make sure that what will be swept is a store's own: a store may have been passed on."""
    is_link, strange = stage.is_symlink(), None
    if stage.is_dir() and not is_link:
        strange = next((file.name for file in stage.iterdir() if not is_own(file)), None)
    if is_link or strange is not None or stage.is_file():
        holds = "" if strange is None else f" holds {strange!r}, and"
        raise CorruptError(
            f"{stage}{holds} is not what a repair leaves: take it away, or make the store again"
        )
