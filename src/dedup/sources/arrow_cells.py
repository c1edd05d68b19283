"""Convert the columns of an Arrow table to texts, without loss."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

WHOLE = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
"""Bound below which a float of a type holds each whole number; above, a number may be rounded."""

_TIMES = (types.is_date, types.is_time, types.is_timestamp)
_NUMBERS = (types.is_integer, types.is_decimal, types.is_floating)
_IMAGES = "set source.image_column= to it if it holds images"
_NOT_ONE = (
    "with bytes in several places: write images as bytes, struct<bytes, path> or lists of these"
)


class NoTextError(ValueError):
    """A cell that cannot be a text.

    Args:
        row: its number in the array.
        what: the fault, and what to do.
    """

    def __init__(self, row: int, what: str) -> None:
        super().__init__(what)
        self.row, self.what = row, what


def why_not(kind: pa.DataType, role: str) -> str:
    """Say why a column of a type cannot have a role, and what to do; "" if it can.

    Args:
        kind: type of the column.
        role: ``id``, ``url`` or ``category``.
    """
    plain = plain_type(kind)
    if is_text(plain) or types.is_null(plain):
        return ""
    if role == "id":
        is_id = any(test(plain) for test in (*_NUMBERS, *_TIMES)) or _is_uuid(plain)
        return "" if is_id else "which is no id: write the ids as texts or whole numbers"
    if role == "url":
        if has_bytes(plain):
            return _NOT_ONE
        return "" if types.is_nested(plain) else "which is no address: write addresses as texts"
    return "which is no category: write paths as texts, such as 'Tops>Shirts'"


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a type is text, or bytes that may be one."""
    return any(test(kind) for test in (*_STRINGS, *_BYTES))


def has_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is bytes, or has some in it, as images have."""
    plain = plain_type(kind)
    if types.is_nested(plain):
        return any(has_bytes(plain.field(at).type) for at in range(plain.num_fields))
    return is_bytes(plain)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary or of an extension."""
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and not _is_uuid(kind):
        return plain_type(kind.storage_type)
    return kind


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is bytes, and no list or object of them."""
    return any(test(kind) for test in _BYTES)


def id_texts(array: pa.Array) -> list[str]:
    """Convert a column of ids to texts: of whole floats such as ``12.0`` the whole number.

    Raises:
        NoTextError: a float may have been rounded, or bytes are no UTF-8.
    """
    kind = array.type
    if not types.is_floating(kind):
        return texts(array)
    values = array.to_numpy(zero_copy_only=False).astype(np.float64)
    is_there = ~np.isnan(values)
    is_whole = (np.abs(values) < WHOLE[kind]) & (np.floor(values) == values)
    wrong = np.flatnonzero(is_there & ~is_whole)
    if len(wrong):
        row = int(wrong[0])
        raise NoTextError(
            row,
            f"is the float {values[row]}, which may have been rounded: write the ids as texts or "
            "whole numbers",
        )
    return [str(int(value)) if value == value else "" for value in values.tolist()]


def texts(array: pa.Array) -> list[str]:
    """Convert a column to texts: nothing to "", a list or an object to JSON.

    Raises:
        NoTextError: bytes are no UTF-8.
    """
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _printed(array) if _is_uuid(kind) else texts(array.storage)
    if types.is_dictionary(kind):
        values = texts(array.dictionary)
        return ["" if at is None else values[at] for at in array.indices.to_pylist()]
    if types.is_null(kind):
        return [""] * len(array)
    if is_text(kind):
        return _decoded(array)
    if types.is_nested(kind):
        values = array.to_pylist(maps_as_pydicts="strict")
        return ["" if value is None else _as_json(value) for value in values]
    if types.is_floating(kind):
        written = array.to_numpy(zero_copy_only=False).astype(str).tolist()
        return ["" if text == "nan" else text for text in written]
    if types.is_boolean(kind):
        return _printed(array)
    if types.is_timestamp(kind) and kind.tz is not None:
        array = array.cast(pa.timestamp(kind.unit, "UTC"))
    try:
        found: list[str] = array.cast(pa.string()).fill_null("").to_pylist()
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # of a type that Arrow cannot write
        return _printed(array)
    return found


def _decoded(array: pa.Array) -> list[str]:
    if not is_bytes(array.type):
        try:
            return ["" if text is None else text for text in array.to_pylist()]
        except UnicodeDecodeError:
            array = array.cast(pa.binary())
    found: list[str] = []
    for row, value in enumerate(array.to_pylist()):
        try:
            found.append("" if value is None else value.decode())
        except UnicodeDecodeError:
            what = f"is no text in UTF-8 but bytes; {_IMAGES}"
            raise NoTextError(row, what) from None
    return found


def _printed(array: pa.Array) -> list[str]:
    return ["" if value is None else str(value) for value in array.to_pylist()]


def _as_json(value: Any) -> str:
    """Write a list or an object as JSON; a list without what is missing in it."""
    if isinstance(value, list):
        value = [one for one in value if one is not None]
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_uuid(kind: pa.DataType) -> bool:
    return getattr(kind, "extension_name", "") == "arrow.uuid"


_STRINGS = (types.is_string, types.is_large_string, types.is_string_view)
_BYTES = (
    types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary,
)  # fmt: skip
