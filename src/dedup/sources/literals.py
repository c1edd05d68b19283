"""Read texts from a list in JSON or in Python's notation, without running anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

KEYS = (
    *("imageurl", "imagesrc", "imagelink", "image", "images", "src", "url", "contenturl"),
    *("originalsrc", "originalurl", "secureurl", "original", "large", "full", "href", "link"),
    *("uri", "path", "file", "filename", "photo", "picture"),
)
"""Keys of an object that name an image, the surest first, in lower case without other signs."""

_TOKEN = re.compile(
    r"""\s*(?:[ubrUBR]?(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<sign>[\[\](){}:,])"""
    r"""|(?P<word>None|null|True|true|False|false|-?\d[\d.eE+-]*))\s*""",
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U000[0-9A-Fa-f]{5}|.)", re.DOTALL)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "\n": "", "\\": "\\", "'": "'", '"': '"', "/": "/"}
_ADDRESS = re.compile(
    r"\A(?:[a-z]+:)?//[^/]|\.(?:jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|hei[cf])\Z", re.IGNORECASE
)
"""What an address has at its start or at its end."""
_WORDS = {"None": "null", "True": "true", "False": "false"}
_BRACKETS = {"(": "[", ")": "]"}


def read_list(text: str) -> list[str] | None:
    """Read the texts of a list: each element, or an element's value of one of ``KEYS``.

    Args:
        text: JSON, or a list, tuple or dictionary as Python prints it. Elements may stand without
            commas between them, as NumPy prints them.

    Returns:
        The texts in their order; ``None`` if this is no list, or an element is neither a text nor
        an object that names one. Of an object without such a key, as ``{"front": "a.jpg"}``, the
        values count where all are addresses by their looks. Missing values are left out.
    """
    try:
        try:
            value = json.loads(text)
        except ValueError:
            value = json.loads(_as_json(text))
        return list(_texts(value))
    except (ValueError, RecursionError):
        return None


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for element in value:
            yield from _texts(element)
    elif isinstance(value, dict):
        if value:
            yield from _texts(_named(value))
    elif value is not None:
        raise ValueError(f"{type(value).__name__} is no address")


def _named(value: dict[str, object]) -> object:
    """Return the value of the surest key."""
    known = {re.sub("[^a-z]", "", key.lower()): inner for key, inner in value.items()}
    for key in KEYS:
        if known.get(key):
            return known[key]
    if any(key in known for key in KEYS):  # and its value is missing
        return None
    if all(isinstance(inner, str) and _ADDRESS.search(inner) for inner in value.values()):
        return [*value.values()]
    raise ValueError("no key names an image")


def _as_json(text: str) -> str:
    """Translate Python's notation into JSON.

    Raises:
        ValueError: it holds anything but texts, numbers and brackets.
    """
    tokens: list[str] = []
    at, was_value = 0, False
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            raise ValueError(f"nothing that is known at {at}")
        at = token.end()
        sign = _BRACKETS.get(token["sign"] or "", token["sign"] or "")
        if sign in ("]", "}") and tokens[-1:] == [","]:
            tokens.pop()
        if was_value and sign not in ("]", "}", ",", ":"):
            tokens.append(",")
        was_value = sign in ("", "]", "}")
        if token["text"]:
            sign = json.dumps(_ESCAPED.sub(_character, token["text"][1:-1]))
        tokens.append(sign or _WORDS.get(token["word"], token["word"]))
    return "".join(tokens)


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if len(code) > 1:
        number = int(code[1:], 16)
        return chr(number)
    return _PLAIN.get(code, f"\\{code}")
