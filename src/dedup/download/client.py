"""Web addresses -> bytes. The only module that speaks HTTP.

Addresses, hosts and answers come from others: every wait and every size has an end, and a socket
connects to public addresses alone (see ``guard``). What fails has one reason.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from socket import EAI_AGAIN
from time import monotonic
from typing import Self
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from dedup import __version__
from dedup.download.hosts import PATIENCE, Hosts, Patience, Turn, asked_wait, obey
from dedup.download.ssrf import (
    Guard,
    GuardedResolver,
    Link,
    SystemResolver,
    read_link,
    read_networks,
)
from dedup.errors import ConfigError, FetchError

NAME = "dedup-catalogue"
MAX_HOPS = 5
DNS_SECONDS = 60
"""For how long the answer of a name service is used."""
LOOK_UPS = 4
"""For each connection, so many names may be looked up at once, those that hang included."""
IDLE_SECONDS = 5.0
"""For how long a connection is kept for a next request. With many hosts, all of them add up."""
LOOK_SECONDS = 0.5
"""How often an answer of unknown length is checked for whether its connection still stands."""

AGAIN = frozenset({"truncated", *(f"http_{n}" for n in (408, 425, 429, 500, 502, 503, 504))})
"""Reasons that another attempt may do away with, besides those of an ``UnreachableError``."""
SILENT = frozenset({"blocked_address", "dns", "tls"})
"""Reasons that do not show that a host answers."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class UnreachableError(FetchError):
    """Nothing came back: ``timeout``, ``connection``, or ``dns`` when no name service answers."""


class StatusError(FetchError):
    """A status other than 200.

    Args:
        status: of the answer.
        wait: seconds that the server asks for.
    """

    def __init__(self, status: int, wait: float) -> None:
        super().__init__(f"http_{status}", "no image in the answer")
        self.wait = wait


@dataclass(frozen=True)
class Fetcher:
    """How images are fetched.

    Args:
        connections: at once, in all.
        per_host: at once, to one host.
        connect_timeout: seconds until a connection stands, TLS included.
        idle_timeout: seconds without a byte.
        timeout: seconds for one attempt, redirects included.
        max_bytes: of a body, as it comes in and unpacked.
        attempts: how many at most, the first one included.
        max_wait: seconds; a server that asks for a longer wait is asked again after these.
        allow_networks: networks that may be reached although not public, such as ``10.0.0.0/8``.
        robots: words of ``X-Robots-Tag`` that an image is left out for, such as ``noai``.
        contact: an address or page for whoever wonders who is asking.
        patience: how long is waited for a host that does not answer.
    """

    connections: int = 64
    per_host: int = 16
    connect_timeout: float = 10.0
    idle_timeout: float = 10.0
    timeout: float = 30.0
    max_bytes: int = 20 * 2**20
    attempts: int = 5
    max_wait: float = 60.0
    allow_networks: Sequence[str] = ()
    robots: Sequence[str] = ()
    contact: str = ""
    patience: Patience = PATIENCE

    def session(self) -> Session:
        """A session that fetches like this, to be entered with ``async with``."""
        return Session(self, patience=self.patience)

    def fetch(self, address: str) -> bytes:
        """Fetch one image. Where an event loop runs already, use a ``session``.

        Raises:
            FetchError: see ``Session.fetch``.
            ConfigError: see ``Session``.
        """
        return asyncio.run(self._fetch(address))

    async def _fetch(self, address: str) -> bytes:
        async with self.session() as session:
            return await session.fetch(address)


class Session:
    """Connections that are used again, and what is known of the hosts.

    Entering raises ``ConfigError`` for a malformed network or contact.

    Args:
        fetcher: the settings.
        resolver: looks up names; ``None`` for the system's.
        patience: how long is waited for a host.
        tls: which certificates are trusted; ``None`` for the system's.

    Attributes:
        requests: how many were begun, redirects and further attempts included.
        received: bytes of bodies.
        gate: while it is cleared, no further request begins.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        resolver: AbstractResolver | None = None,
        patience: Patience = PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.fetcher = fetcher
        self.requests = 0
        self.received = 0
        self._resolver = resolver
        self._patience = patience
        self._tls = tls

    async def __aenter__(self) -> Self:
        fetcher = self.fetcher
        self.gate = asyncio.Event()
        self.gate.set()
        self._guard = Guard(read_networks(fetcher.allow_networks))
        self._hosts = Hosts(fetcher.connections, fetcher.per_host, self._patience)
        names = self._resolver or SystemResolver(LOOK_UPS * fetcher.connections)
        self._client = aiohttp.ClientSession(
            headers={"User-Agent": _user_agent(fetcher.contact), "Accept-Encoding": "identity"},
            connector=aiohttp.TCPConnector(
                limit=0,  # Hosts counts, before any deadline begins
                resolver=GuardedResolver(self._guard, names),
                ttl_dns_cache=DNS_SECONDS,
                happy_eyeballs_delay=None,
                socket_factory=self._guard.socket,
                keepalive_timeout=IDLE_SECONDS,
                ssl=self._tls or True,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=fetcher.connect_timeout, sock_read=fetcher.idle_timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            middlewares=(_once,),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    @property
    def outage(self) -> str:
        """In words that a host is down and none has answered since its first failure, else ""."""
        return self._hosts.outage

    async def fetch(self, address: str) -> bytes:
        """Fetch one image, in several attempts where these may help.

        Args:
            address: http(s) address.

        Raises:
            FetchError: the address is not asked for (``bad_url``, ``scheme``, ``port``,
                ``blocked_address``); nobody answers (``dns``, ``tls``, ``timeout``,
                ``connection``, ``host_down``); or the answer holds no image (``http_404`` and
                so on, ``redirect``, ``robots``, ``empty``, ``truncated``, ``too_large``,
                ``bad_answer``, ``encoding``, ``bomb``).
            ConfigError: this process may open no further connection.
        """
        link, attempt = read_link(address), 1
        while True:
            try:
                return await self._attempt(link)
            except FetchError as error:
                if attempt >= self._most(error):
                    raise
                wait = self._wait(attempt, error)
            await asyncio.sleep(wait)
            attempt += 1

    def _most(self, error: FetchError) -> int:
        """How many attempts such a failure is worth."""
        if isinstance(error, UnreachableError) or error.reason in AGAIN:
            return self.fetcher.attempts
        return min(2, self.fetcher.attempts) if error.reason == "dns" else 1

    def _wait(self, attempt: int, error: FetchError) -> float:
        """Seconds before the next attempt."""
        asked = error.wait if isinstance(error, StatusError) else 0.0
        return max(min(asked, self.fetcher.max_wait), self._patience.between(attempt))

    async def _attempt(self, link: Link) -> bytes:
        left = self.fetcher.timeout
        for _ in range(MAX_HOPS + 1):
            self._guard.check_link(link)
            async with self._hosts.turn(link.origin) as turn:
                await self.gate.wait()
                start = monotonic()
                answer = await self._exchange(link, turn, left)
                left -= monotonic() - start
            if isinstance(answer, bytes):
                return answer
            link = _follow(link, answer)
        raise FetchError("redirect", f"more than {MAX_HOPS} redirects")

    async def _exchange(self, link: Link, turn: Turn, seconds: float) -> bytes | str:
        """One request; the image, or where else it is."""
        self.requests += 1
        failure: FetchError
        heard = False
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.get(URL(link.url, encoded=True), allow_redirects=False) as answer,
            ):
                heard = True  # the host is there, however slow the rest of the answer comes
                turn.answered()
                image = await self._read(answer)
        except FetchError as error:
            failure = error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _failure(error)
            failure.__cause__ = error
        else:
            return image
        if isinstance(failure, UnreachableError) and not heard:
            turn.failed()
        elif failure.reason not in SILENT:
            turn.answered()
        raise failure

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes | str:
        headers, most = answer.headers, self.fetcher.max_bytes
        if answer.status in REDIRECTS and "Location" in headers:
            return headers["Location"]
        if answer.status != 200:
            raise StatusError(answer.status, asked_wait(headers))
        if self.fetcher.robots:
            obey(headers.getall("X-Robots-Tag", []), self.fetcher.robots, NAME)
        unpack = _unpacker(headers.getall("Content-Encoding", []))
        if (answer.content_length or 0) > most:
            raise FetchError("too_large", f"{answer.content_length} bytes, more than {most}")
        body = await self._body(answer)
        image = unpack(body, most) if body and unpack else body
        if not image:
            raise FetchError("empty", "no bytes at all")
        return image

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        try:
            with _ending_with_connection(answer):
                async for chunk in answer.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    self.received += len(chunk)
                    if size > self.fetcher.max_bytes:
                        raise FetchError("too_large", f"more than {self.fetcher.max_bytes} bytes")
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError("truncated", f"it broke off after {size} bytes") from error
        return b"".join(chunks)


@contextmanager
def _ending_with_connection(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """End a body with its connection: aiohttp 3.14 waits for more after a chunk it cannot read."""
    loop, content = asyncio.get_running_loop(), answer.content
    timer: asyncio.TimerHandle | None = None

    def look() -> None:
        nonlocal timer
        connection = answer.connection
        if connection and not connection.transport and not content.is_eof():
            content.set_exception(aiohttp.ClientPayloadError("connection lost"))
        else:
            timer = loop.call_later(LOOK_SECONDS, look)

    if answer.content_length is None:
        timer = loop.call_later(LOOK_SECONDS, look)
    try:
        yield
    finally:
        if timer:
            timer.cancel()


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from asking a second time by itself: attempts are counted here."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _failure(error) from error


def _failure(error: Exception) -> FetchError:
    """What an error of aiohttp means. Its own words may hold the address: they are not used."""
    match error:
        case TimeoutError():
            return UnreachableError("timeout", "no answer in time")
        case aiohttp.ClientConnectorDNSError(os_error=cause):
            kind = UnreachableError if cause.errno == EAI_AGAIN else FetchError
            return kind("dns", cause.strerror or "the host's name is not known")
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            return FetchError("tls", str(getattr(cause, "verify_message", "bad certificate")))
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return FetchError("tls", "no TLS connection can be agreed on")
        case ValueError():
            return FetchError("bad_url", "not an address that can be asked for")
        case aiohttp.ClientPayloadError():
            return FetchError("truncated", "the answer broke off")
        case aiohttp.ClientResponseError(message=words) if "chunk size" in words:
            return FetchError("truncated", "the answer's first piece is broken")
        case aiohttp.ClientResponseError():
            return FetchError("bad_answer", "the answer is not HTTP, or its head too large")
        case aiohttp.ClientConnectorError(os_error=cause):
            return UnreachableError("connection", cause.strerror or "no connection")
    return UnreachableError("connection", "the connection was closed without an answer")


def _follow(link: Link, location: str) -> Link:
    """Where a redirect leads."""
    try:
        target = read_link(urljoin(link.url, location))
    except FetchError as error:
        if error.reason == "port":
            raise
        raise FetchError("redirect", f"to no address that is fetched ({error.reason})") from error
    except ValueError as error:
        raise FetchError("redirect", "to something that is no address") from error
    if link.scheme == "https" and target.scheme == "http":
        raise FetchError("redirect", "from https to http, which anybody can read and change")
    return target


def _user_agent(contact: str) -> str:
    if not (contact.isascii() and contact.isprintable()):
        raise ConfigError(f"fetch.contact={contact!r}: use printable ASCII letters")
    return f"{NAME}/{__version__}" + (f" (+{contact})" if contact else "")


def _unpacker(encodings: Sequence[str]) -> Callable[[bytes, int], bytes] | None:
    """How to undo ``Content-Encoding``, which no request here asks for; ``None``: nothing to do."""
    names = [name.strip().lower() for line in encodings for name in line.split(",")]
    match [name for name in names if name not in ("", "identity")]:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return lambda body, most: _unpack(body, most, 16 + zlib.MAX_WBITS)
        case ["deflate"]:
            return _unpack_deflate
    raise FetchError("encoding", "packed in a way that was not asked for")


def _unpack_deflate(body: bytes, most: int) -> bytes:
    """With the head that the standard asks for, or without it, as some servers do."""
    has_head = body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _unpack(body, most, zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS)


def _unpack(body: bytes, most: int, window_bits: int) -> bytes:
    machine = zlib.decompressobj(window_bits)
    try:
        image = machine.decompress(body, most + 1)
    except zlib.error as error:
        raise FetchError("encoding", "not packed in the way that it says") from error
    if len(image) > most:
        raise FetchError("bomb", f"more than {most} bytes when unpacked")
    if not machine.eof:
        raise FetchError("truncated", f"it broke off after {len(image)} bytes")
    return image
