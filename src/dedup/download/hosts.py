"""Per-host concurrency limit and circuit breaker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from dedup.errors import FetchError

RETRYABLE = frozenset({"truncated", *(f"http_{n}" for n in (408, 425, 429, 500, 502, 503, 504))})
"""Reasons worth another attempt, besides those of an ``UnreachableError``."""


class UnreachableError(FetchError):
    """No answer: ``timeout``, ``connection``, or ``dns`` when no name server answers."""


@dataclass(frozen=True)
class Patience:
    """Waits for a host that does not answer, in seconds.

    Attributes:
        failures: number of failures in a row, without an answer between, that close a host.
        pauses: lengths of the successive pauses; after each, one request probes the host.
        down: time after the last pause during which every request to the host fails at once.
        backoff: longest wait before a second attempt; it doubles with each further attempt.
        max_backoff: limit of the doubling.
    """

    failures: int = 8
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    down: float = 60.0
    backoff: float = 0.5
    max_backoff: float = 10.0

    def between(self, attempt: int) -> float:
        """Draw the wait after the n-th attempt: exponential backoff with full jitter."""
        return random.uniform(0, min(self.max_backoff, self.backoff * 2 ** (attempt - 1)))


PATIENCE = Patience()
"""The waits of a run over a catalogue."""


def _now() -> float:
    """Seconds on the clock of the running event loop, by which its waits are measured too."""
    return asyncio.get_running_loop().time()


MAX_HOSTS = 10_000
"""Number of idle hosts to remember. A catalogue may name a million, and each takes more than a
kilobyte."""

RULES_WITH_VALUE = frozenset(
    {"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"}
)
"""Words of ``X-Robots-Tag`` with a colon after them that are not a robot's name."""


class Host:
    """Circuit breaker of one host: open, or closed until one probe is let through.

    Args:
        name: host and port, for messages.
        per_host: most requests at once.
        patience: failures that close it, and lengths of its pauses.

    Attributes:
        users: number of requests under way or waiting.
    """

    def __init__(self, name: str, per_host: int, patience: Patience) -> None:
        self.name = name
        self.slots = asyncio.Semaphore(per_host)
        self.first_failure = 0.0
        self.users = 0
        self._patience = patience
        self._failures = 0
        self._failed_probes = 0
        self._closed_until: float | None = None
        self._probing = False
        self._changed = asyncio.Event()

    @property
    def is_down(self) -> bool:
        """Whether the probe after the last pause failed, and the host has not answered since."""
        return self._failed_probes >= len(self._patience.pauses) and not self.is_open

    @property
    def is_open(self) -> bool:
        """Whether all requests are let through."""
        return self._closed_until is None

    async def wait_until_open(self) -> None:
        """Wait until a request may pass.

        Raises:
            FetchError: ``host_down``.
        """
        while not self.may_pass():
            remaining = (self._closed_until or 0.0) - _now()
            if remaining > 0 and self.is_down:
                raise FetchError("host_down", f"{self.name} does not answer")
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining if remaining > 0 else None):
                    await self._changed.wait()

    def may_pass(self) -> bool:
        """Whether a request may pass now, as a probe if need be."""
        return self._closed_until is None or (not self._probing and _now() >= self._closed_until)

    def begin(self) -> bool:
        """Let a request pass, and return whether it is the probe."""
        self._probing = not self.is_open
        return self._probing

    def end(self, probe: bool) -> None:
        """Note the end of a request, whatever its result."""
        if probe:
            self._probing = False
            self._wake()

    def answered(self) -> None:
        """Note an answer: open the host, and reset its failures."""
        self._failures = self._failed_probes = 0
        if not self.is_open:
            self._closed_until = None
            self._wake()

    def failed(self, probe: bool) -> None:
        """Note a failure. While closed, only the probe counts: the others were sent before."""
        if self.is_open:
            if self._failures == 0:
                self.first_failure = _now()
            self._failures += 1
            if self._failures >= self._patience.failures:
                self._close()
        elif probe:
            self._failed_probes += 1
            self._close()

    def _close(self) -> None:
        pauses, n = self._patience.pauses, self._failed_probes
        self._closed_until = _now() + (pauses[n] if n < len(pauses) else self._patience.down)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Hosts:
    """Circuit breakers of all hosts, and the connections that they share.

    Args:
        connections: most requests at once, over all hosts.
        per_host: most requests at once to one host.
        patience: waits for a host that does not answer.

    Attributes:
        outage: a sentence if a host is down and no other has answered meanwhile, else "".
    """

    def __init__(self, connections: int, per_host: int, patience: Patience) -> None:
        self.outage = ""
        self._per_host = per_host
        self._patience = patience
        self._connections = asyncio.Semaphore(connections)
        self._hosts: dict[str, Host] = {}
        self._last_answer = 0.0

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        """Wait for a host and for a connection, and hold both.

        Args:
            name: host and port.

        Raises:
            FetchError: ``host_down``.
        """
        host = self._host(name)
        host.users += 1
        try:
            async with host.slots:
                await self._connection(host)
                turn = Turn(self, host, host.begin())
                try:
                    yield turn
                finally:
                    self._connections.release()
                    host.end(turn.probe)
        finally:
            host.users -= 1

    def _host(self, name: str) -> Host:
        """Return a host by its name, and forget the least recently used ones."""
        host = self._hosts.pop(name, None) or Host(name, self._per_host, self._patience)
        self._hosts[name] = host
        if len(self._hosts) > 2 * MAX_HOSTS:
            for old in list(self._hosts)[:-MAX_HOSTS]:
                if not self._hosts[old].users:
                    del self._hosts[old]
        return host

    async def _connection(self, host: Host) -> None:
        await host.wait_until_open()
        await self._connections.acquire()
        while not host.may_pass():  # it closed while this request waited for a connection
            self._connections.release()
            await host.wait_until_open()
            await self._connections.acquire()

    def note_answer(self) -> None:
        """Note that some host has answered, so that there is a network."""
        self._last_answer = _now()
        self.outage = ""

    def note_down(self, host: Host) -> None:
        """Note that a host is down: an outage if no other host has answered meanwhile."""
        if self._last_answer < host.first_failure:
            seconds = _now() - host.first_failure
            self.outage = f"{host.name} has not answered for {seconds:.0f} s"


@dataclass(frozen=True)
class Turn:
    """One request to a host. It may end with ``answered``, with ``failed`` or with neither."""

    hosts: Hosts
    host: Host
    probe: bool

    def answered(self) -> None:
        """Note an answer, of whatever status."""
        self.host.answered()
        self.hosts.note_answer()

    def failed(self) -> None:
        """Note that no answer came."""
        self.host.failed(self.probe)
        if self.host.is_down:
            self.hosts.note_down(self.host)


def retry_after(headers: Mapping[str, str]) -> float:
    """Read ``Retry-After``, a number or a date, as seconds; 0 for none or anything else."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        now = headers.get("Date")  # the server's own clock, where it sends one
        start = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(value) - start).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def check_robots(tags: Sequence[str], forbidden: Sequence[str], user_agent: str) -> None:
    """Refuse an image whose ``X-Robots-Tag`` forbids its use.

    Args:
        tags: values of the header: ``noai`` is for all robots, ``otherbot: noai`` for one.
        forbidden: words that exclude an image.
        user_agent: our own name as a robot.

    Raises:
        FetchError: ``robots``.
    """
    words = {word.lower() for word in forbidden}
    for tag in tags:
        robot = user_agent
        for part in tag.lower().split(","):
            name, colon, word = (text.strip() for text in part.partition(":"))
            robot = name if colon and name not in RULES_WITH_VALUE else robot
            if robot == user_agent and (word or name) in words:
                raise FetchError("robots", f"X-Robots-Tag: {word or name}")
