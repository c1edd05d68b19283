"""One address -> its bytes. The only module that touches the network."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from dedup import __version__
from dedup.errors import FetchError

USER_AGENT = f"dedup-catalogue/{__version__}"


def is_http(address: str) -> bool:
    """Whether an address is to be fetched over the network; all others are files."""
    return re.match(r"https?://", address, re.IGNORECASE) is not None


def fetch(address: str, timeout: float = 30.0, max_bytes: int = 20 * 2**20) -> bytes:
    """Read one picture's bytes.

    Args:
        address: http(s) address, or a path.
        timeout: seconds without an answer after which an attempt fails.
        max_bytes: more than this fails as ``too_large``.

    Raises:
        FetchError: with a reason such as ``http_404``, ``timeout``, ``dns`` or ``not_found``.
    """
    data = (
        _fetch_http(address, timeout, max_bytes)
        if is_http(address)
        else _read_file(address, max_bytes)
    )
    if len(data) > max_bytes:
        raise FetchError("too_large", f"more than {max_bytes} bytes")
    if not data:
        raise FetchError("empty", "no bytes at all")
    return data


def version(address: str) -> str:
    """What tells a changed file from the one that was read before; "" for http(s) addresses."""
    if is_http(address):
        return ""
    try:
        stat = Path(address).stat()
    except (OSError, ValueError):
        return "missing"
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _read_file(address: str, max_bytes: int) -> bytes:
    path = Path(address)
    try:
        if not path.exists():
            raise FetchError("not_found", "no such file")
        if not path.is_file():
            raise FetchError("not_a_file", "a folder or a device")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise FetchError("unreadable", str(error)) from error


# Without a handler for ftp: or file:, a redirect there is an error.
_OPENER = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.HTTPRedirectHandler,
    urllib.request.UnknownHandler,
):
    _OPENER.add_handler(_handler())


def _fetch_http(address: str, timeout: float, max_bytes: int) -> bytes:
    try:
        request = urllib.request.Request(_quoted(address), headers={"User-Agent": USER_AGENT})
        with _OPENER.open(request, timeout=timeout) as response:
            if response.status != 200:
                raise FetchError(f"http_{response.status}", "no picture in the answer")
            data: bytes = response.read(max_bytes + 1)
            expected = response.headers.get("Content-Length", "")
            if expected.isdigit() and len(data) < min(int(expected), max_bytes + 1):
                raise FetchError("truncated", f"{len(data)} of {expected} bytes")
            return data
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError(f"http_{error.code}", str(error.reason)) from error
    except urllib.error.URLError as error:
        raise _from_cause(error.reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _from_cause(error) from error


def _from_cause(cause: object) -> FetchError:
    reasons: list[tuple[type, str]] = [
        (TimeoutError, "timeout"),
        (socket.gaierror, "dns"),
        (ssl.SSLError, "tls"),
        (http.client.IncompleteRead, "truncated"),
        (ConnectionError, "connection"),
        (http.client.InvalidURL, "bad_url"),
        (http.client.HTTPException, "bad_answer"),
        (ValueError, "bad_url"),
        (str, "bad_url"),  # urllib's words for no host and for a scheme that it has no handler for
    ]
    reason = next((name for kind, name in reasons if isinstance(cause, kind)), "connection")
    return FetchError(reason, str(cause))


def _quoted(address: str) -> str:
    """Quote blanks and letters outside ASCII as RFC 3986 asks; what is quoted already stays."""
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc
    if not host.isascii():
        name, colon, port = host.partition(":")
        host = name.encode("idna").decode() + colon + port
    path = urllib.parse.quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))
