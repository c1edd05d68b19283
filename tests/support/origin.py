"""A server of images that change, with the validators of RFC 9110, and the requests that it saw."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime

from tests.conftest import QuietHandler

NOW = 1_800_000_000.0
"""The time of the server's clock, in seconds since 1970."""
LONG_AGO = formatdate(NOW - 86_400, usegmt=True)


@dataclass
class Page:
    """What is shown at one path."""

    body: bytes = b""
    etag: str = ""
    modified: str = ""
    status: int = 200
    location: str = ""
    robots: str = ""
    ignores: bool = False
    """Whether the conditions of requests are ignored, as some servers do."""


@dataclass(frozen=True)
class Asked:
    """A request, and the status of its answer."""

    path: str
    etag: str
    since: str
    status: int


@dataclass
class Origin:
    """Pages by path."""

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    before: Callable[[str], None] = lambda path: None
    """Called before a request is answered."""
    address: str = ""

    def take(self) -> list[Asked]:
        """The requests since the last call, by path."""
        taken, self.asked = sorted(self.asked, key=lambda one: one.path), []
        return taken

    def handler(self) -> type:
        """A handler of ``http.server`` that shows the pages."""
        origin, lock = self, threading.Lock()

        class Handler(QuietHandler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(NOW, usegmt=True)

            def answer(self) -> None:
                origin.before(self.path)
                page = origin.pages.get(self.path, Page(status=404))
                etag = self.headers.get("If-None-Match", "")
                since = self.headers.get("If-Modified-Since", "")
                is_same = page.status == 200 and not page.ignores and _is_same(page, etag, since)
                status = 304 if is_same else page.status
                body = page.body if status == 200 else b""
                self.send_response(status)
                for name, value in (
                    ("ETag", page.etag), ("Last-Modified", page.modified),
                    ("Location", page.location), ("X-Robots-Tag", page.robots),
                ):  # fmt: skip
                    if value:
                        self.send_header(name, value)
                if status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                with lock:
                    origin.asked.append(Asked(self.path, etag, since, status))

            do_GET = answer  # noqa: N815

        return Handler


def _is_same(page: Page, etag: str, since: str) -> bool:
    """RFC 9110, 13.2.2: If-None-Match stands above If-Modified-Since; its comparison is weak."""
    if etag:
        return etag.removeprefix("W/") == page.etag.removeprefix("W/") or etag == "*"
    if since and page.modified:
        return parsedate_to_datetime(page.modified) <= parsedate_to_datetime(since)
    return False
