"""Parse JSON objects, one by one, into the records of a table whose columns are their keys."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from dedup.errors import SourceError
from dedup.sources.records import MAX_RECORD, Record

MAX_KEYS = 1_000
"""A file whose objects have more keys in all is refused: each is a column."""
MAX_ABSENT = 200_000_000
"""So is one whose objects lack more keys of others: a missing cell takes memory too."""
BAD_JSON = "bad_json"
"""Reason of a line that is no JSON object."""

_CHUNK = 2**20
_BLANKS = " \t\r\n"


class _Number(str):
    """Number, as it is written."""

    __slots__ = ()


class _Broken:
    """Value of what may not be read: an object with a key twice, or a number without an end."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Broken:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Broken()


def _constant(name: str) -> _Broken | None:
    """Read NaN, which Python writes for what is missing, as such."""
    return None if name == "NaN" else _Broken()


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=_constant
)


class JsonTable:
    """Table whose columns are the keys of its objects, in the order in which they first appear.

    Args:
        path: its file, for messages.
        id_column: key of the id.

    Attributes:
        names: names of its columns so far.
    """

    def __init__(self, path: Path, id_column: str) -> None:
        self.path, self.names = path, list[str]()
        self._id, self._ids = id_column.strip(), set[str]()
        self._places: dict[str, int] = {}
        self._n_absent = 0

    def records(self, file: BufferedReader) -> Iterator[Record]:
        """Read the records of a file: of lines, of an array, or of objects over several lines.

        The latter begin with a line that is ``{`` alone.

        Raises:
            SourceError: the file is not UTF-8 JSON, or an array or an object over lines is broken.
        """
        head = file.peek(4)[:4]
        if head.startswith(codecs.BOM_UTF8):
            file.read(len(codecs.BOM_UTF8))
        elif head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
            raise SourceError(f"{self.path} is no text in UTF-8: save it as JSON in UTF-8")
        number, line = 1, file.readline(MAX_RECORD + 1)
        while line.isspace() and line.endswith(b"\n"):
            number, line = number + 1, file.readline(MAX_RECORD + 1)
        if line.lstrip().startswith(b"["):
            yield from self._of_array(line, file)
            return
        if line.endswith(b"\n") and line.strip() == b"{":
            yield from self._of_objects(line, file)
            return
        yield from (Record([], "", blank) for blank in range(1, number))
        while line:
            yield self._of_line(line, number, file)
            number, line = number + 1, file.readline(MAX_RECORD + 1)

    def _of_line(self, line: bytes, number: int, file: BinaryIO) -> Record:
        if len(line) > MAX_RECORD:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_RECORD)
            return Record([], "field_too_long", number)
        if line.isspace():
            return Record([], "", number)
        try:
            found = _DECODER.decode(line.decode(errors="surrogateescape"))
        except (ValueError, RecursionError):
            return Record([], BAD_JSON, number)
        return self._record(found, number)

    def _record(self, found: Any, number: int) -> Record:
        """Make the record of a value; of what is no object, or no text in it, a broken one."""
        try:
            if type(found) is not dict:
                return Record([], BAD_JSON, number)
            values = [one if type(one) is str else _text(one) for one in found.values()]
            written = "".join([*found, *values])
            if not written.isascii():
                written.encode()
        except (ValueError, RecursionError):  # half a character among them
            return Record([], BAD_JSON, number)
        for key in found:
            if key not in self._places:
                self._add(key)
        cells = [""] * len(self.names)
        for key, value in zip(found, values, strict=True):
            cells[self._places[key]] = value
        self._n_absent += len(cells) - len(values)
        if self._n_absent > MAX_ABSENT:
            raise SourceError(
                f"{self.path}: its objects lack {MAX_ABSENT:,} keys or more, of {len(cells):,} in "
                "all: leave out keys that few objects have"
            )
        is_odd = any(isinstance(found.get(key), bool | list | dict) for key in self._ids)
        return Record(cells, "bad_id" if is_odd else "", number)

    def _add(self, key: str) -> None:
        """Add a column."""
        if len(self.names) == MAX_KEYS:
            raise SourceError(
                f"{self.path}: its objects have more than {MAX_KEYS:,} keys in all: leave out "
                "those that you do not need, or put them into an object of their own"
            )
        self._places[key] = len(self.names)
        self.names.append(key)
        if key.strip() == self._id:
            self._ids.add(key)

    def _of_array(self, start: bytes, rest: BinaryIO) -> Iterator[Record]:
        """Read the elements of an array; one that is no object costs itself alone."""
        text = _Ahead(start, rest)
        text.skip(_BLANKS)
        text.at += 1
        number = 0
        while True:
            text.skip(_BLANKS)
            if text.sign() == "]":
                break
            value = self._element(text, number)
            yield self._record(value, number)
            number += 1
            text.skip(_BLANKS)
            if text.sign() == ",":
                text.at += 1
            elif text.sign() != "]":
                raise self._broken(number)
        text.at += 1
        text.skip(_BLANKS)
        if text.sign():
            raise SourceError(
                f"{self.path} goes on after its array: write one array, or one object on a line"
            )

    def _of_objects(self, start: bytes, rest: BinaryIO) -> Iterator[Record]:
        """Read objects that are written over several lines, one after the other."""
        text = _Ahead(start, rest)
        number = 0
        text.skip(_BLANKS)
        while text.sign():
            yield self._record(self._element(text, number, "objects are"), number)
            number += 1
            text.skip(_BLANKS)

    def _element(self, text: _Ahead, number: int, what: str = "array is") -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(text.buffer, text.at)
            except (ValueError, RecursionError) as error:
                is_long = len(text.buffer) - text.at > MAX_RECORD
                if isinstance(error, RecursionError) or is_long or not text.more():
                    raise self._broken(number, what) from error
                continue
            n_signs = end - text.at
            if end == len(text.buffer) and text.more():  # a number may go on
                continue
            text.at += n_signs
            return value

    def _broken(self, number: int, what: str = "array is") -> SourceError:
        return SourceError(
            f"{self.path}: its {what} cut off or broken at element {number} (from 0): "
            "correct it, or write one object on a line, where a broken one costs no other"
        )


class _Ahead:
    """Text of a file from a position on, as much as was asked for.

    Attributes:
        buffer: the text.
        at: the position.
    """

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._rest = rest
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.buffer, self.at = self._decoder.decode(start), 0

    def more(self) -> bool:
        """Read on; each time as much as is there, so that a long element takes linear time."""
        self.buffer, self.at = self.buffer[self.at :], 0
        data = self._rest.read(max(_CHUNK, len(self.buffer)))
        text = self._decoder.decode(data, final=not data)
        self.buffer += text
        return bool(text)

    def sign(self) -> str:
        """Return the next sign; "" at the end."""
        if self.at == len(self.buffer):
            self.more()
        return self.buffer[self.at : self.at + 1]

    def skip(self, signs: str) -> None:
        """Go on to the next sign that is none of some."""
        while (sign := self.sign()) and sign in signs:
            self.at += 1


def _text(value: Any) -> str:
    """Convert a value to text: a number as it is written, a list or an object to JSON.

    Raises:
        ValueError: it may not be read.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else _as_json(value)


def _as_json(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {_as_json(one)}" for key, one in
                 value.items())  # fmt: skip
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_as_json, value))}]"
    if isinstance(value, _Broken):
        raise ValueError("an object has a key twice, or a number has no end")
    return json.dumps(value, ensure_ascii=False)
