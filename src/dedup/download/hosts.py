"""How much is asked of a host: some requests at once, and none while it does not answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic

from dedup.errors import FetchError


@dataclass(frozen=True)
class Patience:
    """How long is waited, in seconds.

    Attributes:
        failures: in a row, without an answer between, after which a host is left alone.
        pauses: how long it is left alone, each time until one request probes whether it answers.
        down: after the last pause, for how long all requests to it fail at once.
        backoff: the longest wait before a second attempt; it doubles with each further one.
        most_backoff: where the doubling ends.
    """

    failures: int = 8
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    down: float = 60.0
    backoff: float = 0.5
    most_backoff: float = 10.0

    def between(self, attempt: int) -> float:
        """Seconds after the n-th attempt: anywhere below a limit, so that rows do not march."""
        return random.uniform(0, min(self.most_backoff, self.backoff * 2 ** (attempt - 1)))


PATIENCE = Patience()
"""What a run over a catalogue takes."""

MAX_HOSTS = 10_000
"""So many hosts are remembered at least, of those that nobody asks or waits for. A catalogue may
name a million, and each takes more than a kilobyte."""

RULES_WITH_VALUE = frozenset(
    {"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"}
)
"""Words of ``X-Robots-Tag`` with a colon after them that are not a robot's name."""


class Host:
    """The gate of one host: open, or closed until a moment after which one probe is let through.

    Args:
        name: for messages.
        per_host: how many requests at once.
        patience: when it closes, and for how long.

    Attributes:
        users: how many requests it has, or wait for it.
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
        """Whether the last pause was of no use, and nothing has answered since."""
        return self._failed_probes >= len(self._patience.pauses) and not self.is_open

    @property
    def is_open(self) -> bool:
        """Whether requests are let through as they come."""
        return self._closed_until is None

    async def opened(self) -> None:
        """Wait until a request may pass.

        Raises:
            FetchError: ``host_down``.
        """
        while not self.may_pass():
            left = (self._closed_until or 0.0) - monotonic()
            if left > 0 and self.is_down:
                raise FetchError("host_down", f"{self.name} has not answered for a while")
            with suppress(TimeoutError):
                async with asyncio.timeout(left if left > 0 else None):
                    await self._changed.wait()

    def may_pass(self) -> bool:
        """Whether a request may pass right now, be it as a probe."""
        return self._closed_until is None or (
            not self._probing and monotonic() >= self._closed_until
        )

    def begin(self) -> bool:
        """Let a request pass; whether it is the probe."""
        self._probing = not self.is_open
        return self._probing

    def end(self, probe: bool) -> None:
        """A request is over, whatever came of it."""
        if probe:
            self._probing = False
            self._wake()

    def answered(self) -> None:
        """The host did answer."""
        self._failures = self._failed_probes = 0
        if not self.is_open:
            self._closed_until = None
            self._wake()

    def failed(self, probe: bool) -> None:
        """The host did not answer. What was sent before the gate closed says nothing new."""
        if self.is_open:
            if self._failures == 0:
                self.first_failure = monotonic()
            self._failures += 1
            if self._failures >= self._patience.failures:
                self._close()
        elif probe:
            self._failed_probes += 1
            self._close()

    def _close(self) -> None:
        pauses, n = self._patience.pauses, self._failed_probes
        self._closed_until = monotonic() + (pauses[n] if n < len(pauses) else self._patience.down)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Hosts:
    """All hosts that were asked, and the connections that they share.

    Args:
        connections: how many requests at once, in all.
        per_host: how many to one host.
        patience: what to wait for.

    Attributes:
        outage: "", or in words that a host is down and no other has answered for as long.
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
        """Wait for a host's gate and for a connection, and hold both.

        Args:
            name: of the host.

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
        """One by its name; the one asked for longest ago is forgotten first."""
        host = self._hosts.pop(name, None) or Host(name, self._per_host, self._patience)
        self._hosts[name] = host
        if len(self._hosts) > 2 * MAX_HOSTS:
            for old in list(self._hosts)[:-MAX_HOSTS]:
                if not self._hosts[old].users:
                    del self._hosts[old]
        return host

    async def _connection(self, host: Host) -> None:
        await host.opened()
        await self._connections.acquire()
        while not host.may_pass():  # it closed while this one waited for a connection
            self._connections.release()
            await host.opened()
            await self._connections.acquire()

    def note_answer(self) -> None:
        """Some host has answered: there is a network."""
        self._last_answer = monotonic()
        self.outage = ""

    def note_down(self, host: Host) -> None:
        """A host is given up for now; it is an outage when nothing else answered meanwhile."""
        if self._last_answer < host.first_failure:
            seconds = monotonic() - host.first_failure
            self.outage = f"{host.name} has not answered for {seconds:.0f} s"


@dataclass(frozen=True)
class Turn:
    """One request to a host. Its end is told by ``answered`` or ``failed``, or by neither."""

    hosts: Hosts
    host: Host
    probe: bool

    def answered(self) -> None:
        """Something came back, whatever it was."""
        self.host.answered()
        self.hosts.note_answer()

    def failed(self) -> None:
        """Nothing came back."""
        self.host.failed(self.probe)
        if self.host.is_down:
            self.hosts.note_down(self.host)


def asked_wait(headers: Mapping[str, str]) -> float:
    """Seconds of ``Retry-After``, a number or a date; 0 for none or anything else."""
    asked = headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    try:
        now = headers.get("Date")  # by the server's own clock, where it tells
        start = parsedate_to_datetime(now) if now else datetime.now(UTC)
        return max(0.0, (parsedate_to_datetime(asked) - start).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def obey(tags: Sequence[str], forbidden: Sequence[str], us: str) -> None:
    """Leave out an image that its host does not want to be read.

    Args:
        tags: values of ``X-Robots-Tag``: ``noai`` is for all, ``otherbot: noai`` for one reader.
        forbidden: words that are heeded.
        us: our name as a reader.

    Raises:
        FetchError: ``robots``.
    """
    words = {word.lower() for word in forbidden}
    for tag in tags:
        reader = us
        for part in tag.lower().split(","):
            name, colon, word = (text.strip() for text in part.partition(":"))
            reader = name if colon and name not in RULES_WITH_VALUE else reader
            if reader == us and (word or name) in words:
                raise FetchError("robots", f"X-Robots-Tag: {word or name}")
