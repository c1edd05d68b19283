"""Client that fetches images over HTTP and from object storage, with limits on time and size.

Addresses, hosts and answers are untrusted. Every wait and every size has a limit, and sockets
connect to public addresses alone (see ``dedup.download.ssrf``). Each failure has one reason.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from socket import EAI_AGAIN
from time import monotonic
from typing import Self
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from dedup import __version__
from dedup.download.buckets import CREDENTIALS, Buckets, in_thread, is_bucket, read_place
from dedup.download.content_encoding import decoder_for
from dedup.download.hosts import (
    PATIENCE,
    RETRYABLE,
    Hosts,
    Patience,
    Turn,
    UnreachableError,
    check_robots,
    retry_after,
)
from dedup.download.ssrf import (
    Guard,
    GuardedResolver,
    Link,
    SystemResolver,
    read_link,
    read_networks,
)
from dedup.download.validators import UNKNOWN, Answer, Validators
from dedup.errors import ConfigError, FetchError

NAME = "dedup-catalogue"
MAX_HOPS = 5
DNS_SECONDS = 60
"""Lifetime of a resolved name."""
LOOKUPS_PER_CONNECTION = 4
"""Most DNS look-ups at once for each connection, those that hang included."""
IDLE_SECONDS = 5.0
"""Time that an idle connection is kept open: short, since a catalogue may name many hosts."""
POLL_SECONDS = 0.5
"""Interval between checks that a connection still stands, for an answer of unknown length."""

INCONCLUSIVE = frozenset({"blocked_address", "dns", "tls"})
"""Reasons that say nothing about whether the host answers."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
OBJECT_REQUESTS = 2
"""Requests that an object takes: each may fail, so it has so many times the attempts."""
SCHEMES = ("http", "https", "file")
"""Schemes of the addresses that a table may name; ``file`` is a path."""


class StatusError(FetchError):
    """An answer whose status is not 200.

    Args:
        status: HTTP status of the answer.
        retry_after: seconds to wait, as the server requests.
    """

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"http_{status}", f"the server answered with status {status}")
        self.retry_after = retry_after


@dataclass(frozen=True)
class Fetcher:
    """Settings of the client.

    Args:
        connections: most connections at once, over all hosts.
        per_host: most connections at once to one host.
        connect_timeout: seconds to open a connection, TLS included.
        idle_timeout: seconds without a byte.
        timeout: seconds for one attempt, redirects included.
        max_bytes: largest body, both as received and decompressed.
        attempts: most attempts for an image, the first one included.
        max_wait: longest wait in seconds, whatever a server's ``Retry-After`` requests.
        allow_networks: private networks that may be reached, such as ``10.0.0.0/8``.
        robots: words of ``X-Robots-Tag`` that exclude an image, such as ``noai``.
        contact: address or page, for the user agent, where a site's owner finds out who fetches.
        schemes: schemes of the addresses that a table may name. A scheme of object storage, such
            as ``s3``, lets a table read what the credentials of the environment allow.
        patience: waits for a host that does not answer.
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
    schemes: Sequence[str] = SCHEMES
    patience: Patience = PATIENCE

    def check_scheme(self, address: str) -> None:
        """Refuse an address of a table whose scheme is not among ``schemes``.

        Raises:
            FetchError: ``blocked_scheme``.
        """
        scheme = "file" if address.startswith("/") else address.partition("://")[0].lower()
        if scheme not in self.schemes:
            which = ",".join([*self.schemes, scheme])
            raise FetchError(
                "blocked_scheme",
                f"a table may not name {scheme} addresses (see fetch.schemes): if you trust this "
                f"one, set fetch.schemes=[{which}]",
            )

    def session(self) -> Session:
        """Open a session with these settings, to be entered with ``async with``."""
        return Session(self, patience=self.patience)

    def fetch(self, address: str) -> bytes:
        """Fetch one image that the user names, so that any scheme is read.

        Inside a running event loop, use a ``session`` instead.

        Raises:
            FetchError: see ``Session.fetch``.
            ConfigError: see ``Session``.
        """
        return asyncio.run(replace(self, schemes=(*SCHEMES, *CREDENTIALS))._fetch(address))

    async def _fetch(self, address: str) -> bytes:
        async with self.session() as session:
            return await session.fetch(address)


class Session:
    """A pool of reused connections, with the state of each host.

    Entering raises ``ConfigError`` for a malformed network or contact.

    Args:
        fetcher: settings of the client.
        resolver: DNS resolver; ``None`` for the system's.
        patience: waits for a host that does not answer.
        tls: trusted certificates; ``None`` for the system's.

    Attributes:
        requests: number of requests begun, redirects and further attempts included.
        received: bytes of all bodies.
        gate: event that, while cleared, holds back further requests.
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
        self._buckets = Buckets(fetcher.connect_timeout, fetcher.idle_timeout)
        names = self._resolver or SystemResolver(LOOKUPS_PER_CONNECTION * fetcher.connections)
        self._client = aiohttp.ClientSession(
            headers={"User-Agent": _user_agent(fetcher.contact), "Accept-Encoding": "identity"},
            connector=aiohttp.TCPConnector(
                limit=0,  # Hosts limits connections, before any deadline begins
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
            middlewares=(_prevent_retry,),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    @property
    def outage(self) -> str:
        """A sentence if a host is down and none has answered since its first failure, else ""."""
        return self._hosts.outage

    async def fetch(self, address: str) -> bytes:
        """Fetch one image, see ``ask`` for errors."""
        image = (await self.ask(address)).image
        assert image is not None, "without validators no answer says that nothing changed"
        return image

    async def ask(self, address: str, before: Validators = UNKNOWN) -> Answer:
        """Fetch one image if it changed, with further attempts for failures that may pass.

        Args:
            address: http(s) address, or one of object storage.
            before: validators of the image that is known already.

        Raises:
            FetchError: the address is refused (``bad_url``, ``scheme``, ``blocked_scheme``,
                ``port``, ``blocked_address``); the host does not answer (``dns``, ``tls``,
                ``timeout``, ``connection``, ``host_down``); or the answer holds no image
                (``http_404`` and so on, ``redirect``, ``robots``, ``empty``, ``truncated``,
                ``too_large``, ``bad_answer``, ``encoding``, ``bomb``). See ``Buckets.fetch`` for
                object storage.
            ConfigError: this process may open no further connection.
        """
        link = None if is_bucket(address) else read_link(address)
        self.fetcher.check_scheme(address)
        attempt = 1
        n_requests = OBJECT_REQUESTS if link is None else 1
        while True:
            try:
                if link is None:
                    return await self._from_bucket(address, before)
                return await self._attempt(link, before)
            except FetchError as error:
                if attempt >= self._max_attempts(error) * n_requests:
                    raise
                delay = self._delay(math.ceil(attempt / n_requests), error)
            await asyncio.sleep(delay)
            attempt += 1

    def _max_attempts(self, error: FetchError) -> int:
        """Limit the attempts by the kind of failure."""
        if isinstance(error, UnreachableError) or error.reason in RETRYABLE:
            return self.fetcher.attempts
        return min(2, self.fetcher.attempts) if error.reason == "dns" else 1

    def _delay(self, attempt: int, error: FetchError) -> float:
        """Return the seconds before the next attempt."""
        requested = error.retry_after if isinstance(error, StatusError) else 0.0
        return max(min(requested, self.fetcher.max_wait), self._patience.between(attempt))

    async def _attempt(self, link: Link, before: Validators) -> Answer:
        left = self.fetcher.timeout
        for _ in range(MAX_HOPS + 1):
            self._guard.check_link(link)
            async with self._hosts.turn(link.origin) as turn:
                await self.gate.wait()
                start = monotonic()
                answer = await self._exchange(link, turn, left, before)
                left -= monotonic() - start
            if isinstance(answer, Answer):
                return answer
            link = _follow(link, answer)
        raise FetchError("redirect", f"more than {MAX_HOPS} redirects")

    async def _from_bucket(self, address: str, before: Validators) -> Answer:
        """Fetch an object once."""
        fetch, max_bytes = self._buckets.fetch, self.fetcher.max_bytes
        async with self._hosts.turn(read_place(address).origin) as turn:
            await self.gate.wait()
            self.requests += 1
            try:
                async with asyncio.timeout(self.fetcher.timeout):
                    answer = await asyncio.wrap_future(
                        in_thread(lambda: fetch(address, max_bytes, before))
                    )
            except TimeoutError as error:
                turn.failed()
                raise UnreachableError("timeout", "no answer in time") from error
            except UnreachableError:
                turn.failed()
                raise
            except FetchError:
                turn.answered()
                raise
            turn.answered()
        self.received += len(answer.image or b"")
        return answer

    async def _exchange(
        self, link: Link, turn: Turn, seconds: float, before: Validators
    ) -> Answer | str:
        """Send one request, and return the answer or the target of a redirect."""
        self.requests += 1
        url, conditions = URL(link.url, encoded=True), before.conditions(link.url)
        failure: FetchError
        is_answered = False
        try:
            async with (
                asyncio.timeout(seconds),
                self._client.get(url, headers=conditions, allow_redirects=False) as answer,
            ):
                is_answered = True  # the host is there, however slowly the body arrives
                turn.answered()
                if answer.status == 304 and conditions:
                    self._check_robots(answer)
                    return Answer(None, before.renewed(answer.headers, link.url))
                content = await self._read(answer)
        except FetchError as error:
            failure = error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = _as_fetch_error(error)
            failure.__cause__ = error
        else:
            if isinstance(content, str):
                return content
            return Answer(content, Validators.of(answer.headers, link.url))
        if isinstance(failure, UnreachableError) and not is_answered:
            turn.failed()
        elif failure.reason not in INCONCLUSIVE:
            turn.answered()
        raise failure

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes | str:
        headers, max_bytes = answer.headers, self.fetcher.max_bytes
        if answer.status in REDIRECTS and "Location" in headers:
            return headers["Location"]
        if answer.status != 200:
            raise StatusError(answer.status, retry_after(headers))
        self._check_robots(answer)
        decompress = decoder_for(headers.getall("Content-Encoding", []))
        if (answer.content_length or 0) > max_bytes:
            raise FetchError("too_large", f"{answer.content_length} bytes, more than {max_bytes}")
        body = await self._body(answer)
        image = decompress(body, max_bytes) if body and decompress else body
        if not image:
            raise FetchError("empty", "the body is empty")
        return image

    def _check_robots(self, answer: aiohttp.ClientResponse) -> None:
        if self.fetcher.robots:
            check_robots(answer.headers.getall("X-Robots-Tag", []), self.fetcher.robots, NAME)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        try:
            with _end_with_connection(answer):
                async for chunk in answer.content.iter_any():
                    chunks.append(chunk)
                    size += len(chunk)
                    self.received += len(chunk)
                    if size > self.fetcher.max_bytes:
                        raise FetchError("too_large", f"more than {self.fetcher.max_bytes} bytes")
        except TimeoutError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise FetchError("truncated", f"the body ended after {size} bytes") from error
        return b"".join(chunks)


@contextmanager
def _end_with_connection(answer: aiohttp.ClientResponse) -> Iterator[None]:
    """End a body with its connection: aiohttp 3.14 waits on after a chunk it cannot read."""
    loop, content = asyncio.get_running_loop(), answer.content
    timer: asyncio.TimerHandle | None = None

    def check() -> None:
        nonlocal timer
        connection = answer.connection
        if connection and not connection.transport and not content.is_eof():
            content.set_exception(aiohttp.ClientPayloadError("connection lost"))
        else:
            timer = loop.call_later(POLL_SECONDS, check)

    if answer.content_length is None:
        timer = loop.call_later(POLL_SECONDS, check)
    try:
        yield
    finally:
        if timer:
            timer.cancel()


async def _prevent_retry(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself: attempts are counted here."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _as_fetch_error(error) from error


def _as_fetch_error(error: Exception) -> FetchError:
    """Translate an error of aiohttp. Its own text may hold the address, so it is left out."""
    match error:
        case TimeoutError():
            return UnreachableError("timeout", "no answer in time")
        case aiohttp.ClientConnectorDNSError(os_error=cause):
            kind = UnreachableError if cause.errno == EAI_AGAIN else FetchError
            return kind("dns", cause.strerror or "the host's name is unknown")
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            return FetchError("tls", str(getattr(cause, "verify_message", "bad certificate")))
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return FetchError("tls", "the TLS handshake failed")
        case ValueError():
            return FetchError("bad_url", "not a valid address")
        case aiohttp.ClientPayloadError():
            return FetchError("truncated", "the connection closed before the body was complete")
        case aiohttp.ClientResponseError(message=message) if "chunk size" in message:
            return FetchError("truncated", "the first chunk of the body is damaged")
        case aiohttp.ClientResponseError():
            return FetchError("bad_answer", "the answer is not HTTP, or its header is too large")
        case aiohttp.ClientConnectorError(os_error=cause):
            return UnreachableError("connection", cause.strerror or "no connection")
    return UnreachableError("connection", "the connection closed without an answer")


def _follow(link: Link, location: str) -> Link:
    """Return the target of a redirect."""
    try:
        target = read_link(urljoin(link.url, location))
    except FetchError as error:
        if error.reason == "port":
            raise
        raise FetchError("redirect", f"to an address that is refused ({error.reason})") from error
    except ValueError as error:
        raise FetchError("redirect", "to an invalid address") from error
    if link.scheme == "https" and target.scheme == "http":
        raise FetchError("redirect", "from https to http, which is not encrypted")
    return target


def _user_agent(contact: str) -> str:
    if not (contact.isascii() and contact.isprintable()):
        raise ConfigError(f"fetch.contact={contact!r}: use printable ASCII characters")
    return f"{NAME}/{__version__}" + (f" (+{contact})" if contact else "")
