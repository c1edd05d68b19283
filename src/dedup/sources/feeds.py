"""Parse a feed in XML once: its items are kept packed until its last has named all columns."""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from dedup.errors import SourceError
from dedup.sources.table_files import fingerprint
from dedup.sources.xml_feed import MAX_NAMES, Item, items_of

_CHUNK, _MAX_SIZE = 1_000, 2**22
"""Items, and characters of them, that are packed together."""

_checked: dict[tuple[object, ...], Feed] = {}
"""The feed that was checked last, until it is read."""


class Feed:
    """Items of a feed, in its order, which can be taken once.

    Args:
        path: the feed.
        encoding: see ``items_of``.

    Attributes:
        names: names of its columns, in the order in which they first appear.

    Raises:
        SourceError: see ``items_of``; or the items have too many columns.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        names: dict[str, None] = {}
        self._packed: deque[bytes] = deque()
        chunk, size = list[Item](), 0
        for item in items_of(path, encoding):
            names |= dict.fromkeys(item.values)
            if len(names) > MAX_NAMES:
                raise SourceError(
                    f"{path}: its items have more than {MAX_NAMES:,} kinds of elements: remove "
                    "those that you do not need"
                )
            chunk.append(item)
            size += sum(len(value) for values in item.values.values() for value in values)
            if len(chunk) == _CHUNK or size > _MAX_SIZE:
                self._packed.append(_pack(chunk))
                chunk, size = [], 0
        self._packed.append(_pack(chunk))
        self.names = [*names]

    def items(self) -> Iterator[Item]:
        """Take the items, and drop what is taken."""
        while self._packed:
            for line, values, is_too_long in json.loads(zlib.decompress(self._packed.popleft())):
                yield Item(line, values, is_too_long)


def _pack(items: Sequence[Item]) -> bytes:
    rows = [(item.line, item.values, item.is_too_long) for item in items]
    return zlib.compress(json.dumps(rows).encode(), 1)


def check_feed(path: Path, encoding: str) -> list[str]:
    """Parse a feed to its end, name its columns, and keep it for ``read_feed``.

    Raises:
        SourceError: see ``Feed``.
    """
    key = (path, encoding, fingerprint(path))
    feed = _checked.get(key)
    if feed is None:
        _checked.clear()
        feed = _checked[key] = Feed(path, encoding)
    return feed.names


def read_feed(path: Path, encoding: str) -> Feed:
    """Parse a feed, unless it was checked and has not changed since.

    Raises:
        SourceError: see ``Feed``.
    """
    return _checked.pop((path, encoding, fingerprint(path)), None) or Feed(path, encoding)
