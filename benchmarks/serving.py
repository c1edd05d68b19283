"""A server in a process of its own, for benchmarks: images from memory, and planted faults.

======================  ===============================================================
``/N.jpg``              the N-th image, and round again
``/status/S/K/N.jpg``   status S the first K times, then the image
``/hang/K/N.jpg``       no answer the first K times
``/cut/K/N.jpg``        half of the image the first K times
``/page/N.jpg``         a page that says it is an image
``/endless/N.jpg``      a body without end
``/drip/N.jpg``         a byte a second
``/bomb/N.jpg``         1 GB of zeros, packed with gzip to 1 MB
``/file/NAME``          a file given beside the images
``/to/URL``             a redirect
``/counts``             how often each path was asked for, as JSON
======================  ===============================================================
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import unquote

FOREVER = 10**6


class ImageReader:
    """What is served, and what was asked for."""

    def __init__(self, images: Path, files: Mapping[str, bytes]) -> None:
        self.bodies = [file.read_bytes() for file in sorted(images.iterdir()) if file.is_file()]
        self.files = files
        self.counts: Counter[str] = Counter()
        zeros, packer = bytes(2**20), zlib.compressobj(wbits=31)
        self.bomb = b"".join([*(packer.compress(zeros) for _ in range(1024)), packer.flush()])

    def image(self, path: str) -> bytes:
        """The one whose number a path ends with."""
        name = path.rpartition("/")[2].partition(".")[0]
        return self.bodies[int(name) % len(self.bodies)]


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, images: ImageReader) -> None:
        self.images = images
        self.received = b""
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, self.received = self.received.split(b"\r\n\r\n", 1)
            path = head.split(b" ", 2)[1].decode("latin-1")
            self.images.counts[path] += 1
            closing = b"connection: close" in head.lower()
            if path.count("/") == 1 and path != "/counts":
                self.send(self.images.image(path), closing=closing)
            else:
                self.misbehave(path, closing)

    def send(
        self, body: bytes, status: int = 200, *fields: str, closing: bool = False, size: int = -1
    ) -> None:
        """Answer; ``size`` is what the head says of the body, its own by default."""
        lines = [f"HTTP/1.1 {status} -", f"Content-Length: {size if size >= 0 else len(body)}"]
        lines += [*fields, *(["Connection: close"] if closing else []), "", ""]
        self.transport.write("\r\n".join(lines).encode("latin-1"))
        self.transport.write(body)
        if closing:
            self.transport.close()

    def misbehave(self, path: str, closing: bool) -> None:
        """Answer a path with a fault in it."""
        _, fault, *words = path.split("/")
        asked = self.images.counts[path]
        if fault == "status" and asked <= int(words[1]):
            self.send(b"", int(words[0]), closing=closing)
        elif fault == "hang" and asked <= int(words[0]):
            return
        elif fault == "cut" and asked <= int(words[0]):
            body = self.images.image(path)
            self.send(body[: len(body) // 2], closing=True, size=len(body))
        elif fault == "page":
            self.send(b"<html>Please log in</html>", 200, "Content-Type: image/jpeg")
        elif fault in ("endless", "drip"):
            task = asyncio.create_task(self.go_on(fault == "drip"))
            self.tasks.add(task)
        elif fault == "bomb":
            self.send(self.images.bomb, 200, "Content-Encoding: gzip", closing=closing)
        elif fault == "file":
            self.send(self.images.files[words[0].partition("?")[0]], closing=closing)
        elif fault == "to":
            self.send(b"", 302, f"Location: {unquote(words[0])}", closing=closing)
        elif fault == "counts":
            self.send(json.dumps(self.images.counts).encode(), closing=closing)
        else:
            self.send(self.images.image(path), closing=closing)

    async def go_on(self, slowly: bool) -> None:
        """Send without end."""
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" if slowly else
                             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")  # fmt: skip
        while not self.transport.is_closing():
            self.transport.write(b"x" if slowly else b"10000\r\n" + bytes(65536) + b"\r\n")
            await asyncio.sleep(1 if slowly else 0)


def serve(images: Path, files: Mapping[str, bytes], port: Connection) -> None:
    """Serve until the process is killed."""
    pixels = ImageReader(images, files)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Server(pixels), "127.0.0.1", 0, backlog=1000)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def serving(images: Path, files: Mapping[str, bytes] = {}) -> Iterator[str]:
    """A server in another process; its address."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(images, files, sending), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receiving.recv()}"
    finally:
        process.kill()


def counts(address: str) -> Counter[str]:
    """How often each path was asked for."""
    with urllib.request.urlopen(f"{address}/counts") as answer:
        return Counter(json.load(answer))
