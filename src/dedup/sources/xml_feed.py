"""Parse an RSS 2.0 or Atom feed into its items, in constant memory and without any DTD."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from dedup.errors import SourceError
from dedup.sources.records import LINE, MAX_RECORD
from dedup.sources.requests import MAX_FIELD
from dedup.sources.table_files import open_table, read_head
from dedup.sources.table_heads import feed_codec

MAX_DEPTH = 32
"""A feed whose elements are nested deeper is refused."""
MAX_NAMES = 10_000
"""A feed with more names of elements is refused."""
MAX_TAG = 2**22
"""A feed with a longer tag or comment, in characters, is refused."""
SPACE = " \t\r\n"
"""What XML counts as blank: no part of a value at its ends."""

_CHUNK = 2**18
_GOOGLE = re.compile(r"https?://base\.google\.com/ns/1\.0/?")
_ATOM = "http://www.w3.org/2005/Atom"
_ITEMS = {"rss": "item", "feed": "entry"}
_KINDS = {"rss": "rss", "feed": "atom"}
_CUT = {
    expat.errors.codes[text]
    for text in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
}
_HINTS = {
    expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]: (
        "write & as &amp;, and other signs as they are"
    ),
    expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]: (
        "write & as &amp; and < as &lt;, and leave out control characters"
    ),
    expat.errors.codes[expat.errors.XML_ERROR_UNBOUND_PREFIX]: (
        'declare the prefix on the first element, as in xmlns:g="http://base.google.com/ns/1.0"'
    ),
}


@dataclass
class Item:
    """Item of a feed.

    Attributes:
        line: line on which it starts.
        values: values by name of the column, in the order of the feed. An element of Google's
            namespace, of RSS, of Atom or of none has its bare name, such as ``title``; one of
            another namespace has its prefix, as in ``c:season``. An element inside of another
            is ``shipping.price``. Where Google's element and another have one name, the other
            is ``rss:title`` or ``atom:title``.
        is_too_long: whether it is longer than ``MAX_RECORD``, and its rest was left out.
    """

    line: int
    values: dict[str, list[str]] = field(default_factory=dict)
    is_too_long: bool = False


@dataclass
class _Element:
    """Open element of an item: its key, whether it is Google's, and its text so far."""

    key: str
    is_google: bool
    pieces: list[str]
    href: str = ""
    size: int = 0
    has_children: bool = False


def items_of(path: Path, encoding: str) -> Iterator[Item]:
    """Read the items of a feed one by one.

    Args:
        path: the feed.
        encoding: ``auto`` for that of a byte order mark, or as the feed declares it, or UTF-8.

    Raises:
        SourceError: the file cannot be read, is no RSS or Atom, is cut off or not well-formed, or
            has a DTD.
        ConfigError: there is no such encoding.
    """
    called, codec = feed_codec(path, encoding, read_head(path))
    parser = FeedParser(path)
    with open_table(path, called, codec, MAX_RECORD) as file:
        while text := file.read(_CHUNK):
            yield from parser.feed(text)
        yield from parser.feed("", is_last=True)


class FeedParser:
    """Parser that is given the text of a feed piece by piece.

    Args:
        path: the feed, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.namespace_prefixes = True
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_entity
        self._names: dict[str, tuple[str, bool]] = {}
        self._root = ""
        self._tags: list[str] = []  # of all open elements, as expat gives them
        self._open: list[_Element] = []  # of the item
        self._item: Item | None = None
        self._google: dict[str, list[str]] = {}
        self._plain: dict[str, list[str]] = {}
        self._size = 0
        self._n_items = 0
        self._done: list[Item] = []
        self._n_silent, self._is_silent = 0, True

    def feed(self, text: str, *, is_last: bool = False) -> list[Item]:
        """Parse the next piece of the text, and return the items that end in it.

        Raises:
            SourceError: the feed cannot be used.
        """
        self._is_silent = True
        try:
            self._parser.Parse(text, is_last)
        except expat.ExpatError as error:
            self._refuse_broken(error, is_last)
        self._n_silent = self._n_silent + len(text) if self._is_silent else 0
        if self._n_silent > MAX_TAG:  # expat would read it again with each piece
            self._refuse(f"has a tag or comment of more than {MAX_TAG:,} characters: shorten it")
        done, self._done = self._done, []
        return done

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self._is_silent = False
        self._tags.append(tag)
        depth = len(self._tags)
        if depth > MAX_DEPTH:
            self._refuse(f"nests more than {MAX_DEPTH} elements: export it again without them")
        name, is_google = self._names.get(tag) or self._named(tag)
        if self._item is not None:
            self._open_element(name, is_google, attributes)
        elif depth == 1:
            self._check_root(name)
        elif depth <= 3 and name == _ITEMS[self._root]:
            self._n_items += 1
            self._item = Item(self._parser.CurrentLineNumber)
            self._google, self._plain, self._size = {}, {}, 0

    def _open_element(self, name: str, is_google: bool, attributes: Mapping[str, str]) -> None:
        key, href = name, ""
        if self._open:
            above = self._open[-1]
            above.has_children = True
            key, is_google = f"{above.key}.{name}", above.is_google
        elif name == "link" and "href" in attributes:  # Atom's has an address, and no text
            href = attributes["href"]
            kind = attributes.get("rel", "alternate")
            key = name if kind == "alternate" else f"link.{kind}"
        self._open.append(_Element(key, is_google, [], href))

    def _text(self, text: str) -> None:
        self._is_silent = False
        if not self._open or self._item is None:
            return
        element = self._open[-1]
        left = MAX_FIELD + 1 - element.size
        if left > 0 and not self._item.is_too_long:
            element.pieces.append(text[:left])
            element.size += len(text)

    def _end(self, tag: str) -> None:
        self._tags.pop()
        if self._open:
            self._close_element(self._open.pop())
        elif self._item is not None and len(self._tags) < 3:
            self._close_item(self._item)

    def _close_element(self, element: _Element) -> None:
        item = self._item
        if item is None:
            return
        text = "".join(element.pieces)
        if element.size <= MAX_FIELD:  # else cut, and longer than a cell may be
            text = text.strip(SPACE) or element.href
        if not text and element.has_children:
            return
        self._size += len(text) + len(element.key) + LINE
        if self._size > MAX_RECORD:
            item.is_too_long = True
            return
        values = self._google if element.is_google else self._plain
        values.setdefault(element.key, []).append(text)

    def _close_item(self, item: Item) -> None:
        item.values = self._google
        for key, values in self._plain.items():
            own = f"{_KINDS[self._root]}:{key}" if key in self._google else key
            item.values[own] = values
        self._done.append(item)
        self._item = None

    def _named(self, tag: str) -> tuple[str, bool]:
        """Return the name of an element, and whether it is Google's."""
        parts = tag.split(" ")
        space, name = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        is_google = bool(_GOOGLE.fullmatch(space))
        if not is_google and len(parts) > 2 and space != _ATOM:
            name = f"{parts[2]}:{name}"
        if len(self._names) >= MAX_NAMES:
            self._refuse(
                f"has more than {MAX_NAMES:,} names of elements, and is no list of products"
            )
        self._names[tag] = name, is_google
        return name, is_google

    def _check_root(self, name: str) -> None:
        self._root = name.rpartition(":")[2]
        if self._root not in _ITEMS:
            raise SourceError(
                f"{self.path}: its first element is <{name[:100]}>, and a Google Merchant feed "
                "begins with <rss> or <feed>: export such a feed, or a CSV"
            )

    def _refuse_doctype(self, name: str, *_: object) -> NoReturn:
        if name.lower() == "html":
            raise SourceError(
                f"{self.path} is a web page (HTML) and no feed: download the feed itself"
            )
        self._refuse(
            f"declares a document type (<!DOCTYPE {name[:100]}>), whose entities could fill the "
            "memory or name other files: remove it, as no feed needs one"
        )

    def _refuse_entity(self, name: str, *_: object) -> NoReturn:
        self._refuse(f"declares the entity {name[:100]!r}: remove it, as no feed needs one")

    def _refuse(self, what: str) -> NoReturn:
        raise SourceError(f"{self.path}: line {self._parser.CurrentLineNumber} {what}")

    def _refuse_broken(self, error: expat.ExpatError, is_last: bool) -> NoReturn:
        where = f"{self.path}: line {error.lineno}"
        expected = f"</{_written(self._tags[-1])}>" if self._tags else "<rss> or <feed>"
        if is_last and error.code in _CUT:
            inside = f" in item {self._n_items}" if self._item is not None else ""
            raise SourceError(
                f"{where}: the feed ends{inside} where {expected} is expected, so it was cut off: "
                "download or export it again"
            ) from error
        reason = expat.ErrorString(error.code)
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_TAG_MISMATCH]:
            reason += f", {expected} is expected"
        hint = _HINTS.get(error.code, "correct that line, or export the feed again")
        raise SourceError(
            f"{where}, column {error.offset + 1} is no well-formed XML ({reason}): {hint}"
        ) from error


def _written(tag: str) -> str:
    """Return an element's name as the feed has it: with its prefix."""
    parts = tag.split(" ")
    name = parts[0] if len(parts) == 1 else parts[1]
    return f"{parts[2]}:{name}"[:100] if len(parts) > 2 else name[:100]
