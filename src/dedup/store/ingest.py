"""Addresses -> images: fetched in one event loop, decoded in child processes, kept in order.

Rows are handed over to be kept as soon as a shard's worth of them is done. A row that waits, for a
slow host or for its next attempt, does not hold up the others: they are kept without it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from dedup.download.client import Fetcher, Session
from dedup.errors import ImageError, StalledError
from dedup.runtime.progress import Tally
from dedup.store.decode_pool import Decoders, Reading
from dedup.store.local_files import is_http, version
from dedup.store.shards import ENTRIES, Loaded

log = logging.getLogger("dedup")

MAX_UNFINISHED = 1024
"""Rows on their way at once: most of them wait for a connection, or for a host."""
MAX_BODIES, MAX_BYTES = 256, 256 * 2**20
"""So many bodies, or bytes of them, wait for a decoder; beyond, no further request begins."""
SMALL_REST = 100
"""So few rows are not worth stopping for when nothing answers: they fail, each with its reason."""
MAX_KNOCKS, KNOCK_SECONDS = 8, 15.0
"""Where a host is down and no other has answered, so many others are asked, and for so long."""
NETWORK = ("connection", "dns", "host_down", "timeout")
"""Why a row fails when there is no network, whatever its address."""
SKIPPED = ("robots",)
"""Reasons that are the site's wish, not a failure."""


Keep = Callable[[list[Loaded]], None]
Show = Callable[[Tally], None]


@dataclass(frozen=True)
class Ingest:
    """Reads images from web addresses and files.

    Args:
        fetcher: how web addresses are fetched.
        reader: how images are resized, see ``decode``.
        workers: child processes that decode; ``None`` for one on each core.
        decode_timeout: seconds after which a child that decodes one image is killed.
        decode_memory: bytes that a child may take for one.
        shard_rows: rows that are kept at a time.
    """

    fetcher: Fetcher
    reader: str = "pillow"
    workers: int | None = None
    decode_timeout: float = 20.0
    decode_memory: int = 2**30
    shard_rows: int = 512

    def tried_with(self, reason: str) -> str:
        """The settings that a failure depends on, as its row's ``version`` ends; "" without any.

        Where they are others by now the row is read again.
        """
        settings: dict[str, dict[str, Any]] = {
            "blocked_address": {"fetch.allow_networks": list(self.fetcher.allow_networks)},
            "decoder_oom": {"store.decode_memory": self.decode_memory},
            "decoder_timeout": {"store.decode_timeout": self.decode_timeout},
            "robots": {"fetch.robots": list(self.fetcher.robots)},
            "timeout": {"fetch.timeout": self.fetcher.timeout},
            "too_large": {"fetch.max_bytes": self.fetcher.max_bytes},
        }
        return "".join(f" {name}={value}" for name, value in settings.get(reason, {}).items())

    def __call__(self, urls: Sequence[str], keep: Keep, show: Show = lambda _: None) -> None:
        """Read images, and hand them over in the order of their addresses.

        When it is stopped, by Ctrl-C, SIGTERM or an error, what is done by then is handed over.

        Args:
            urls: distinct addresses.
            keep: is given up to ``shard_rows`` rows at a time.
            show: is told how far it is, after each row.

        Raises:
            StalledError: no host answers any more, and many rows are left.
            SystemExit: with code 143, after SIGTERM.
        """
        rows = _Rows(self.shard_rows, keep)
        terminated = threading.Event()
        try:
            asyncio.run(self._read(urls, rows, show, terminated))
        except asyncio.CancelledError:
            if not terminated.is_set():
                raise
            log.error("stopped by SIGTERM: the same command goes on with what is already on disk")
            raise SystemExit(128 + signal.SIGTERM) from None

    async def _read(
        self, urls: Sequence[str], rows: _Rows, show: Show, terminated: threading.Event
    ) -> None:
        decoders = Decoders(
            self.reader, self.workers, self.decode_timeout, self.decode_memory,
            self.fetcher.max_bytes,
        )  # fmt: skip
        with decoders, _on_sigterm(terminated):
            async with self.fetcher.session() as session:
                line = _Line(session, decoders, self.tried_with)
                try:
                    await self._feed(urls, line, rows, show)
                except StalledError:
                    rows.forget(NETWORK)
                    raise
                finally:
                    await line.stop()
                    rows.keep_rest()

    async def _feed(self, urls: Sequence[str], line: _Line, rows: _Rows, show: Show) -> None:
        tally, waiting, begun = Tally(), iter(enumerate(urls)), 0
        while tally.done < len(urls):
            free = min(MAX_UNFINISHED - len(line.tasks), rows.room)
            for number, url in islice(waiting, max(0, free)):
                rows.open[number] = None
                line.start(number, url)
                begun = number + 1
            number, loaded = await line.next()
            rows.add(number, loaded)
            tally.done += 1
            tally.failed += loaded.image is None
            tally.received = line.session.received
            show(tally)
            left = len(urls) - tally.done
            outage = line.session.outage
            if outage and left > SMALL_REST and not await _reached(line.session, urls[begun:]):
                raise StalledError(
                    f"{outage}, and no other host answers: is there a network? "
                    f"{left} of {len(urls)} addresses are unread; what was read is kept, and the "
                    "same command goes on with the others"
                )


async def _reached(session: Session, urls: Sequence[str]) -> bool:
    """Whether a host answers of those that most of these addresses name, whatever it says.

    A catalogue may begin with thousands of rows of a host that is down: no other was asked by then.
    """
    at_host = {_host(url): url for url in urls if is_http(url)}
    often = Counter(_host(url) for url in urls if is_http(url)).most_common(MAX_KNOCKS)
    knocks = {asyncio.create_task(_knock(session, at_host[host])) for host, _ in often}
    end = asyncio.get_running_loop().time() + KNOCK_SECONDS
    waiting = knocks
    while waiting and session.outage and (left := end - asyncio.get_running_loop().time()) > 0:
        _, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    for knock in knocks:
        knock.cancel()
    await asyncio.gather(*knocks, return_exceptions=True)
    return not session.outage


async def _knock(session: Session, url: str) -> None:
    with suppress(ImageError):
        await session.fetch(url)


def _host(url: str) -> str:
    return url.split("/", 3)[2].lower()


class _Line:
    """Rows on their way, each a task."""

    def __init__(
        self, session: Session, decoders: Decoders, tried_with: Callable[[str], str]
    ) -> None:
        self.tried_with = tried_with
        self.session = session
        self.decoders = decoders
        self.tasks: set[asyncio.Task[tuple[int, Loaded]]] = set()
        self.finished: asyncio.Queue[asyncio.Task[tuple[int, Loaded]]] = asyncio.Queue()
        self._bodies = self._bytes = 0

    def start(self, number: int, url: str) -> None:
        task = asyncio.create_task(self._load(number, url))
        self.tasks.add(task)
        task.add_done_callback(self.finished.put_nowait)

    async def next(self) -> tuple[int, Loaded]:
        task = await self.finished.get()
        self.tasks.discard(task)
        return task.result()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _load(self, number: int, url: str) -> tuple[int, Loaded]:
        entry: dict[str, Any] = dict.fromkeys(ENTRIES.names, "")
        entry |= {"url": url, "version": version(url)}
        entry |= {"width": 0, "height": 0, "contrast": 0.0}
        try:
            if is_http(url):
                reading = await self._decoded(await self.session.fetch(url))
            else:
                reading = await asyncio.wrap_future(self.decoders.submit(url))
        except ImageError as error:
            status = "skipped" if error.reason in SKIPPED else "failed"
            entry |= {"status": status, "reason": error.reason, "detail": error.detail}
            entry["sha256_bytes"] = error.sha256_bytes
            entry["version"] += self.tried_with(error.reason)
            return number, Loaded(entry, None)
        entry |= {"sha256_bytes": reading.sha256_bytes, "sha256_pixels": reading.sha256_pixels}
        entry |= {"width": reading.image.width, "height": reading.image.height}
        entry |= {"contrast": reading.contrast, "status": "ok"}
        return number, Loaded(entry, reading.image)

    async def _decoded(self, body: bytes) -> Reading:
        self._wait_for(1, len(body))
        try:
            return await asyncio.wrap_future(self.decoders.submit(body))
        finally:
            self._wait_for(-1, -len(body))

    def _wait_for(self, bodies: int, n_bytes: int) -> None:
        """More bodies wait for a decoder, or fewer."""
        self._bodies += bodies
        self._bytes += n_bytes
        if self._bodies >= MAX_BODIES or self._bytes >= MAX_BYTES:
            self.session.gate.clear()
        else:
            self.session.gate.set()


@dataclass
class _Rows:
    """Rows that were started and are not kept yet, by their place in the order."""

    shard_rows: int
    keep: Keep
    open: dict[int, None] = field(default_factory=dict)
    """Places, in order."""
    done: dict[int, Loaded] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """So many rows that are done do not wait for earlier ones that are not."""
        return 2 * self.shard_rows + 256

    @property
    def room(self) -> int:
        """How many rows may be started, for the memory that they take when they are done."""
        return 2 * self.most - len(self.open)

    def add(self, number: int, loaded: Loaded) -> None:
        self.done[number] = loaded
        while len(self.done) >= self.shard_rows and (self._whole() or len(self.done) >= self.most):
            self._keep(sorted(self.done)[: self.shard_rows])

    def forget(self, reasons: Sequence[str]) -> None:
        """Drop what failed for one of some reasons: it is read again some day."""
        self.done = {n: row for n, row in self.done.items() if row.entry["reason"] not in reasons}

    def keep_rest(self) -> None:
        rest = sorted(self.done)
        for start in range(0, len(rest), self.shard_rows):
            self._keep(rest[start : start + self.shard_rows])

    def _whole(self) -> bool:
        return all(number in self.done for number in islice(self.open, self.shard_rows))

    def _keep(self, numbers: list[int]) -> None:
        self.keep([self.done.pop(number) for number in numbers])
        for number in numbers:
            del self.open[number]


@contextmanager
def _on_sigterm(terminated: threading.Event) -> Iterator[None]:
    """Make SIGTERM stop the task that is running, as Ctrl-C does; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        terminated.set()
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
