"""Read images by their addresses: fetch in one event loop, decode in child processes.

Rows are saved as soon as a shard's worth of them is done, in the order of their addresses. A row
that waits for a slow host or for its next attempt does not hold up the others.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any

from dedup.download.client import Fetcher, Session
from dedup.download.validators import UNKNOWN, Answer
from dedup.errors import ImageError, StalledError
from dedup.runtime.progress import Tally
from dedup.sources.cells import is_cell
from dedup.store.decode_pool import Decoders, Reading
from dedup.store.image_file import readable_formats
from dedup.store.local_files import is_remote, version
from dedup.store.refresh import Known
from dedup.store.shards import ENTRIES, Loaded
from dedup.store.table_cells import TableCells

log = logging.getLogger("dedup")

MAX_UNFINISHED = 1024
"""Most rows under way at once: most of them wait for a connection, or for a host."""
MAX_BODIES, MAX_BYTES = 256, 256 * 2**20
"""Most bodies, and bytes of them, that may wait for a decoder before a further request begins."""
SMALL_REST = 100
"""Number of remaining rows up to which an outage does not stop the run: each fails instead."""
MAX_PROBES, PROBE_SECONDS = 8, 15.0
"""Number of other hosts to probe, and for how long, when a host is down and none has answered."""
NETWORK = ("connection", "dns", "host_down", "timeout")
"""Reasons that a row has when there is no network, whatever its address."""
SKIPPED = ("robots",)
"""Reasons that are a site's wish, not a failure."""
NOTHING: Mapping[str, Known] = MappingProxyType({})
"""No address is known."""


Keep = Callable[[list[Loaded]], None]
Show = Callable[[Tally], None]


@dataclass(frozen=True)
class Ingest:
    """Reader of images from addresses of the web and of object storage, and from files.

    Args:
        fetcher: client for what is no file.
        reader: method of resizing, see ``decode``.
        workers: number of child processes that decode; ``None`` for one on each core.
        decode_timeout: seconds for one image, after which its child is killed.
        decode_memory: bytes that a child may take for one image.
        shard_rows: number of rows to save at a time.
    """

    fetcher: Fetcher
    reader: str = "pillow"
    workers: int | None = None
    decode_timeout: float = 20.0
    decode_memory: int = 2**30
    shard_rows: int = 512

    def tried_with(self, reason: str) -> str:
        """Format the settings that a failure depends on, as a suffix of its row's ``version``.

        The row is read again once they differ. Other failures have the suffix "".
        """
        settings: dict[str, dict[str, Any]] = {
            "blocked_address": {"fetch.allow_networks": list(self.fetcher.allow_networks)},
            "format": {"formats": readable_formats()},
            "blocked_scheme": {"fetch.schemes": list(self.fetcher.schemes)},
            "decoder_oom": {"store.decode_memory": self.decode_memory},
            "decoder_timeout": {"store.decode_timeout": self.decode_timeout},
            "robots": {"fetch.robots": list(self.fetcher.robots)},
            "timeout": {"fetch.timeout": self.fetcher.timeout},
            "too_large": {"fetch.max_bytes": self.fetcher.max_bytes},
        }
        return "".join(f" {name}={value}" for name, value in settings.get(reason, {}).items())

    def __call__(
        self,
        urls: Sequence[str],
        keep: Keep,
        show: Show = lambda _: None,
        known: Mapping[str, Known] = NOTHING,
    ) -> None:
        """Read images, and save them in the order of their addresses.

        On Ctrl-C, SIGTERM or an error, the rows that are done are saved.

        Args:
            urls: distinct addresses.
            keep: function that saves up to ``shard_rows`` rows at a time.
            show: function that shows progress, called after each row.
            known: what the store has of web addresses that are asked again. It stays where the
                image is unchanged, and where no image comes now.

        Raises:
            StalledError: no host answers any more, and many rows remain.
            SystemExit: with code 143, after SIGTERM.
        """
        rows = _Rows(self.shard_rows, keep)
        terminated = threading.Event()
        try:
            asyncio.run(self._read(urls, rows, show, terminated, known))
        except asyncio.CancelledError:
            if not terminated.is_set():
                raise
            log.error("stopped by SIGTERM: run the same command again to read the remaining images")
            raise SystemExit(128 + signal.SIGTERM) from None

    async def _read(
        self, urls: Sequence[str], rows: _Rows, show: Show, terminated: threading.Event,
        known: Mapping[str, Known],
    ) -> None:  # fmt: skip
        decoders = Decoders(
            self.reader, self.workers, self.decode_timeout, self.decode_memory,
            self.fetcher.max_bytes,
        )  # fmt: skip
        cells = TableCells(self.fetcher.max_bytes)
        with decoders, cells, _on_sigterm(terminated):
            async with self.fetcher.session() as session:
                pipeline = _Pipeline(session, decoders, cells, self.tried_with, known)
                try:
                    await self._feed(urls, pipeline, rows, show)
                except StalledError:
                    rows.forget(NETWORK)
                    raise
                finally:
                    await pipeline.stop()
                    rows.keep_rest()

    async def _feed(
        self, urls: Sequence[str], pipeline: _Pipeline, rows: _Rows, show: Show
    ) -> None:
        tally, waiting, n_begun = Tally(), iter(enumerate(urls)), 0
        session = pipeline.session
        while tally.done < len(urls):
            n_free = min(MAX_UNFINISHED - len(pipeline.tasks), rows.room)
            for number, url in islice(waiting, max(0, n_free)):
                rows.open[number] = None
                pipeline.start(number, url)
                n_begun = number + 1
            number, loaded = await pipeline.next()
            rows.add(number, loaded)
            tally.done += 1
            tally.failed += loaded.entry["status"] != "ok"
            tally.received = session.received
            show(tally)
            n_left = len(urls) - tally.done
            outage = session.outage
            if outage and n_left > SMALL_REST and not await _has_network(session, urls[n_begun:]):
                raise StalledError(
                    f"{outage}, and no other host answers: {n_left} of {len(urls)} addresses are "
                    "unread. Check the network; the images read so far are saved, and the same "
                    "command goes on with the others"
                )


async def _has_network(session: Session, urls: Sequence[str]) -> bool:
    """Probe the hosts that most of the addresses name, until one answers.

    A catalogue may begin with thousands of rows of a host that is down, before any other host.
    """
    at_host = {_host(url): url for url in urls if is_remote(url)}
    hosts = Counter(_host(url) for url in urls if is_remote(url)).most_common(MAX_PROBES)
    probes = {asyncio.create_task(_probe(session, at_host[host])) for host, _ in hosts}
    end = asyncio.get_running_loop().time() + PROBE_SECONDS
    waiting = probes
    while waiting and session.outage and (left := end - asyncio.get_running_loop().time()) > 0:
        _, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    for probe in probes:
        probe.cancel()
    await asyncio.gather(*probes, return_exceptions=True)
    return not session.outage


async def _probe(session: Session, url: str) -> None:
    with suppress(ImageError):
        await session.fetch(url)


def _host(url: str) -> str:
    return url.split("/", 3)[2].lower()


class _Pipeline:
    """Rows under way, each a task."""

    def __init__(
        self,
        session: Session,
        decoders: Decoders,
        cells: TableCells,
        tried_with: Callable[[str], str],
        known: Mapping[str, Known],
    ) -> None:
        self.tried_with = tried_with
        self.known = known
        self.session = session
        self.decoders = decoders
        self.cells = cells
        self._turn = asyncio.Lock()
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
        known, validators = self.known.get(url), UNKNOWN
        try:
            if is_remote(url):
                answer = await self.session.ask(url, known.validators if known else UNKNOWN)
                validators = answer.validators
                if known and _is_same(answer, known):
                    status = "failed" if known.reason else "ok"
                    entry |= {"status": status, "reason": known.reason}
                    entry["sha256_bytes"] = known.sha256_bytes
                    return number, Loaded(entry, None, validators, is_kept=True)
                reading = await self._decode(answer.image or b"")
            elif is_cell(url):
                reading = await self._decode(await self._of_table(url))
            else:
                self.session.fetcher.check_scheme(url)
                reading = await asyncio.wrap_future(self.decoders.submit(url))
        except ImageError as error:
            status = "skipped" if error.reason in SKIPPED else "failed"
            entry |= {"status": status, "reason": error.reason, "detail": error.detail}
            entry["sha256_bytes"] = error.sha256_bytes
            entry["version"] += self.tried_with(error.reason)
            is_kept = known is not None and _stays(known, error.reason)
            return number, Loaded(entry, None, validators, is_kept)
        entry |= {"sha256_bytes": reading.sha256_bytes, "sha256_pixels": reading.sha256_pixels}
        entry |= {"width": reading.image.width, "height": reading.image.height}
        entry |= {"contrast": reading.contrast, "status": "ok"}
        return number, Loaded(entry, reading.image, validators)

    async def _of_table(self, url: str) -> bytes:
        """Read an image of a table in its turn, once there is room for a further body.

        The images are asked for in their order, so each part of a table is read once.
        """
        async with self._turn:
            await self.session.gate.wait()
            return await asyncio.to_thread(self.cells.read, url)

    async def _decode(self, body: bytes) -> Reading:
        self._count(1, len(body))
        try:
            return await asyncio.wrap_future(self.decoders.submit(body))
        finally:
            self._count(-1, -len(body))

    def _count(self, n_bodies: int, n_bytes: int) -> None:
        """Count the bodies that wait for a decoder, and hold back requests at the limit."""
        self._bodies += n_bodies
        self._bytes += n_bytes
        if self._bodies >= MAX_BODIES or self._bytes >= MAX_BYTES:
            self.session.gate.clear()
        else:
            self.session.gate.set()


def _is_same(answer: Answer, known: Known) -> bool:
    """Tell whether an address shows what the store has of it."""
    if answer.image is None:
        return True
    return hashlib.sha256(answer.image).hexdigest() == known.sha256_bytes


def _stays(known: Known, reason: str) -> bool:
    """Tell whether what the store has stays when an address that is asked again fails.

    An image stays, unless its site no longer wants it to be used. A failure gives way to another.
    """
    return known.reason == reason or not (known.reason or reason in SKIPPED)


@dataclass
class _Rows:
    """Rows that are started and not saved yet, by their number."""

    shard_rows: int
    keep: Keep
    open: dict[int, None] = field(default_factory=dict)
    """Numbers of the rows, in order."""
    done: dict[int, Loaded] = field(default_factory=dict)

    @property
    def max_done(self) -> int:
        """Number of finished rows from which they no longer wait for earlier rows."""
        return 2 * self.shard_rows + 256

    @property
    def room(self) -> int:
        """Number of rows that may be started, for the memory that they take when done."""
        return 2 * self.max_done - len(self.open)

    def add(self, number: int, loaded: Loaded) -> None:
        self.done[number] = loaded
        while len(self.done) >= self.shard_rows and (
            self._is_shard_complete() or len(self.done) >= self.max_done
        ):
            self._keep(sorted(self.done)[: self.shard_rows])

    def forget(self, reasons: Sequence[str]) -> None:
        """Drop the rows that failed for one of these reasons, so that a later run reads them."""
        self.done = {n: row for n, row in self.done.items() if row.entry["reason"] not in reasons}

    def keep_rest(self) -> None:
        rest = sorted(self.done)
        for start in range(0, len(rest), self.shard_rows):
            self._keep(rest[start : start + self.shard_rows])

    def _is_shard_complete(self) -> bool:
        return all(number in self.done for number in islice(self.open, self.shard_rows))

    def _keep(self, numbers: list[int]) -> None:
        self.keep([self.done.pop(number) for number in numbers])
        for number in numbers:
            del self.open[number]


@contextmanager
def _on_sigterm(terminated: threading.Event) -> Iterator[None]:
    """Let SIGTERM cancel the running task, as Ctrl-C does; in the main thread alone."""
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
