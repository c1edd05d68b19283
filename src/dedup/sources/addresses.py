"""Split a cell of a table into addresses of images: joined by signs, or a written list."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterable
from urllib.parse import unquote

from dedup.sources.literals import read_list

_SPECIAL = re.compile(r"""[\s;,|&\[({"']""")
"""What an address that stands alone has not, nearly always."""
_BEFORE_WEB = re.compile(r"[\s;,|]+(?=https?://)")
_PATHS = re.compile(r"""[^\s,|&\[({"'?:]*""")
_DOTTED = re.compile(r"\.[^/;]*/")
"""A folder whose name may be a host's."""
_RUN = re.compile(r"[\s;,|]+")
_SIGN = re.compile(r"[;,|\n\r\t]")
_LINE = re.compile(r"[;\n\r\t]")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|//(?=[^/])")
_ROOTED = re.compile(r"\.{0,2}/")
_ENDING = r"\.(?:jpe?g?|jfif|png|webp|gif|bmp|tiff?|avif|heic|heif|svg)"
_ENDS = re.compile(rf"{_ENDING}\Z", re.IGNORECASE)
_IMAGE = re.compile(rf"[^?#=]*{_ENDING}\Z", re.IGNORECASE)
_ASKED = re.compile(rf"[^?#=]*?{_ENDING}\?", re.IGNORECASE)
_LISTED = re.compile(r"""[\[({][\s\[({]*[ubr]?["'\])}]""")
_ESCAPE = re.compile(r"&(?:amp;|#0*38;|#x0*26;)(?:amp;)*", re.IGNORECASE)
_CLOSES = {"[": "]", "{": "}"}
_KEY = re.compile(r"""["']\s*:""")

_HOST = re.compile(
    r"(?:(?P<ip>\d{1,3}(?:\.\d{1,3}){3})|localhost"
    r"|(?:[a-z0-9-]+\.)+(?P<top>[a-z]{2,63}|xn--[a-z0-9-]{2,59}))(?P<port>:\d{1,5})?/",
    re.IGNORECASE,
)
_COUNTRIES = (
    "ac ad ae af ag ai al am ao ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt "
    "bw by bz ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg "
    "er es et eu fi fj fk fm fo fr ga gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn "
    "hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc "
    "li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na "
    "nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru "
    "rw sa sb sc sd se sg sh si sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm "
    "tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_TOPS = {
    *_COUNTRIES.split(),
    *("com", "net", "org", "info", "biz", "edu", "gov", "mil", "int", "app", "dev", "cloud"),
    *("shop", "store", "online", "site", "tech", "xyz", "market", "fashion", "cat", "asia"),
}
"""Ends of host names that no folder of images has by chance."""


def split_addresses(cell: str) -> tuple[list[str], str]:
    """Split a cell into addresses.

    They are separated by ``;``, ``,``, ``|``, line breaks or blanks, or are a list in JSON, Python
    or PostgreSQL, of texts or of objects with a key such as ``url`` or ``src``. A sign separates
    only where an address begins after it: ``?v=1;id=3`` and ``w_300,h_400`` are one address.
    ``&amp;`` is read as ``&``.

    Returns:
        ``(addresses, "")``, stripped and without blank ones; or ``([], reason)``, where reason is
        ``no_url`` or ``bad_url``.
    """
    text = cell.strip()
    if not _SPECIAL.search(text):
        return ([text], "") if text else ([], "no_url")
    if simple := _simple(text):
        return simple, ""
    parts: list[str] | None
    if text[:5].lower() == "data:":  # has signs of its own
        parts = [text]
    elif _LISTED.match(text) or _CLOSES.get(text[0]) == text[-1]:
        parts = _listed(text)
    elif text[0] in "\"'" and text[-1] == text[0] and len(text) > 1:
        listed = read_list(f"[{text}]")
        parts = _separated(_unescaped(text)) if listed is None else listed
    else:
        parts = _separated(_unescaped(text))
    if parts is None:
        return [], "bad_url"
    addresses = [address for part in parts if (address := _unescaped(part.strip()))]
    return addresses, "" if addresses else "no_url"


def join_addresses(cells: Iterable[str]) -> tuple[list[str], str]:
    """Split several cells of a record into one list, see ``split_addresses``.

    A cell that cannot be used gives way to the others.
    """
    both = [split_addresses(cell) for cell in cells]
    if len(both) == 1:
        return both[0]
    addresses = [address for some, _ in both for address in some]
    if addresses:
        return addresses, ""
    return [], "bad_url" if any(reason == "bad_url" for _, reason in both) else "no_url"


def typed_address(cells: Iterable[str], url: str) -> str:
    """Find the part of a record's cells that an image was read from.

    Args:
        cells: cells of the table, see ``split_addresses``.
        url: http(s) address, or absolute path without symbolic links.

    Returns:
        The part as it was typed; ``url`` if the part is ambiguous.
    """
    cells = list(cells)
    parts = [part for cell in cells for part in split_addresses(cell)[0]]
    if url in parts:
        return url
    for cell in cells:
        if is_whole(cell, url):
            return cell.strip()
    if not parts:
        return url
    matches = [part for part in parts if _is_end(part, url)]
    if matches or len(parts) == 1:
        return (matches or parts)[0]
    return url


def is_whole(cell: str, url: str) -> bool:
    """Tell whether a file was read whose name is the whole cell, signs included."""
    return url.startswith("/") and bool(cell.strip()) and _is_end(cell.strip(), url)


def is_web_host(address: str) -> bool:
    """Tell whether an address without a scheme begins with what is clearly a web host.

    It has a port, is an IPv4 address or ends as hosts do: ``cdn.example.org/1.jpg`` does, and
    ``photos.old/1.jpg`` does not.
    """
    host = _HOST.match(address)
    if not host:
        return False
    return bool(host["port"] or host["ip"] or _is_top(host["top"]))


def _is_top(top: str | None) -> bool:
    return top is not None and (top.lower() in _TOPS or top.lower().startswith("xn--"))


def _is_end(part: str, url: str) -> bool:
    end = posixpath.normpath(part.lstrip("/"))
    return url.endswith((f"/{end}", f"/{unquote(end)}"))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub("&", text) if "&" in text else text


def _simple(text: str) -> list[str]:
    """Split the usual lists, and fast: of plain web addresses, or of plain paths at ``;``.

    Returns:
        The addresses as ``_separated`` splits them; none where the cell is not so simple.
    """
    if text.startswith("http"):
        parts = _BEFORE_WEB.split(text)
        is_plain = len(parts) > 1 and not any(map(_SPECIAL.search, parts))
    else:
        parts = [part for part in text.split(";") if part]
        is_plain = bool(_PATHS.fullmatch(text)) and not _DOTTED.search(text)
    return parts if is_plain else []


def _listed(text: str) -> list[str] | None:
    """Read a written list; ``None`` if it is none."""
    addresses = read_list(text)
    if addresses is not None or text[-1] != _CLOSES.get(text[0]):
        return addresses
    inner = _unescaped(text[1:-1].strip())
    if not any(quote in inner for quote in "\"'"):
        is_list = _ABSOLUTE.match(inner) or _ENDS.search(inner)
        return _separated(inner) if is_list else [text]
    if text[0] == "{" and not _KEY.search(inner):  # PostgreSQL quotes where it must
        try:
            return next(csv.reader([inner.replace("\n", " ")], escapechar="\\"))
        except (csv.Error, StopIteration):
            return None
    return None


def _separated(text: str) -> list[str]:
    """Split at signs, and then at blanks, where an address begins after them."""
    return [part for piece in _at_signs(text) for part in _at_blanks(piece)]


def _at_signs(text: str) -> list[str]:
    """Split at ``;``, ``,``, ``|`` and line breaks; in one pass, whatever the cell."""
    runs = [run for run in _RUN.finditer(text) if _SIGN.search(run[0])]
    if not runs:
        return [text]
    parts: list[str] = []
    left, seen = _Left(text, 0), 0
    ends = [*(run.start() for run in runs[1:]), len(text)]
    for run, end in zip(runs, ends, strict=True):
        left.grow(seen, run.start())
        seen = run.end()
        if _separates(run[0], left, text[seen:end], is_listed=bool(parts)):
            parts.append(text[left.start : left.stop])
            left = _Left(text, seen)
    return [*parts, text[left.start :]]


class _Left:
    """Address before a sign, which grows as long as no sign separates.

    Attributes:
        text: the cell.
        start: where the address begins.
        stop: where it ends, before the sign.
        has_query: whether it has a ``?``.
        has_scheme: whether it begins with ``http://`` and the like, or ``//``.
        is_web: whether it begins so, or with a host.
    """

    def __init__(self, text: str, start: int) -> None:
        self.text, self.start, self.stop = text, start, start
        self.has_query = self._is_image = False
        head = text[start : start + 300]
        self.has_scheme = bool(_ABSOLUTE.match(head))
        self.is_web = self.has_scheme or is_web_host(head)

    def grow(self, seen: int, stop: int) -> None:
        """Extend the address to ``stop``; up to ``seen`` it was looked at before."""
        self.stop = stop
        at = -1 if self.has_query else self.text.find("?", seen, stop)
        if at >= 0:
            self.has_query, self._is_image = True, self._ends_at(at)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing before the sign."""
        return self.start == self.stop

    @property
    def is_complete(self) -> bool:
        """Whether it ends as the names of image files do, before its query."""
        return self._is_image if self.has_query else self._ends_at(self.stop)

    def _ends_at(self, stop: int) -> bool:
        return bool(_ENDS.search(self.text[max(self.start, stop - 6) : stop]))


def _separates(run: str, left: _Left, right: str, *, is_listed: bool) -> bool:
    """Tell whether an address ends before a run of signs, and another begins after it.

    Args:
        run: the signs, and blanks around them.
        left: the address before.
        right: the text up to the next sign.
        is_listed: whether a sign separated before in this cell.
    """
    is_line = bool(_LINE.search(run))
    if not right:
        return is_line or left.is_empty or left.is_complete or is_listed
    if _ABSOLUTE.match(right):
        return True
    has_name = bool(_IMAGE.match(right))
    if left.is_empty:
        return is_line or has_name or is_web_host(right)
    if left.is_web:
        if is_web_host(right) and (not left.has_scheme or left.is_complete):
            return True
        if left.has_query:
            return False
        if ";" in run and _ROOTED.match(right):
            return True
        is_spaced = ";" in run or len(run) > 1
        return is_spaced and left.is_complete and has_name
    if left.has_query:
        is_alike = bool(_ASKED.match(right)) or (has_name and len(run) > 1)
        return left.is_complete and is_alike
    return is_line or (left.is_complete and (has_name or bool(_ASKED.match(right))))


def _at_blanks(text: str) -> list[str]:
    """Split at blanks: before ``http://`` and the like, and between names of image files."""
    if " " not in text:
        return [text]
    is_named = not _ABSOLUTE.match(text) and "?" not in text and bool(_ENDS.search(text.rstrip()))
    parts: list[str] = []
    start = 0
    for run in _RUN.finditer(text):
        if not run[0].isspace():
            continue
        is_next = bool(_ABSOLUTE.match(text, run.end()))
        if not is_next and is_named and text[run.end() : run.end() + 1] not in ("", "(", "-", "_"):
            is_next = bool(_ENDS.search(text[max(start, run.start() - 6) : run.start()]))
        if is_next:
            parts.append(text[start : run.start()])
            start = run.end()
    return [*parts, text[start:]]
