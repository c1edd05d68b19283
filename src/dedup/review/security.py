"""What every request must have, and every answer has: host, origin, headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = "; ".join(
    f"{what} {whence}"
    for what, whence in (
        ("default-src", "'none'"), ("img-src", "'self'"), ("script-src", "'self'"),
        ("style-src", "'self'"), ("connect-src", "'self'"), ("base-uri", "'none'"),
        ("form-action", "'none'"), ("frame-ancestors", "'none'"),
    )
)  # fmt: skip
"""Content security policy: nothing but our own files, and no inline code."""

HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("x-frame-options", "DENY"),
)
MAX_BYTES = 2_000_000
"""Bytes of a request, at most."""


class Guard:
    """Refuse requests of other sites, and of names that lead here from elsewhere.

    Args:
        app: the application behind it.
        origins: addresses of the page, such as ``http://127.0.0.1:8321``.
        proxies: addresses of the clients that are served; none for all.
    """

    def __init__(self, app: App, origins: Collection[str], proxies: Collection[str] = ()) -> None:
        self.app = app
        self.origins = frozenset(origins)
        self.hosts = frozenset(origin.partition("://")[2] for origin in origins)
        self.proxies = frozenset(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in HEADERS if n.encode() not in present),
                ]
            await send(message)

        if wrong := self._wrong(scope):
            status, why = wrong
            await JSONResponse({"error": why}, status)(scope, receive, send_guarded)
            return
        await self.app(scope, receive, send_guarded)

    def _wrong(self, scope: Scope) -> tuple[int, str] | None:
        """Name the status and the reason by which a request is refused."""
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in headers and key in ("host", "origin", "content-length", "sec-fetch-site"):
                return 400, f"{key} is given twice"
            headers[key] = value.decode("latin-1")
        client = scope.get("client") or ("", 0)
        if self.proxies and client[0] not in self.proxies:
            return 403, "only the proxy of server.trusted_proxy is served"
        if headers.get("host", "").lower() not in self.hosts:
            return 421, "this name is not served here: open the link that the command printed"
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return 405, "GET and POST alone are known"
        site = headers.get("sec-fetch-site", "same-origin")
        is_page = scope["path"] == "/" and scope["method"] == "GET"
        if site != "same-origin" and not (site == "none" and scope["method"] == "GET"):
            is_link = is_page and headers.get("sec-fetch-mode") == "navigate"
            if not is_link:
                return 403, "requests of other sites are refused"
        if scope["method"] == "POST":
            if headers.get("origin") not in self.origins:
                return 403, "requests of other sites are refused"
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                return 415, "send JSON"
            length = headers.get("content-length", "")
            if not length.isdigit():
                return 411, "say how long the request is"
            if int(length) > MAX_BYTES:
                return 413, f"a request has {MAX_BYTES:,} bytes at most"
        return None
