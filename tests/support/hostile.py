"""A server that misbehaves on purpose: ``with hostile() as site:``, then ask for ``site / "NAME"``.

``/NAME/...`` is answered by the method ``answer_NAME`` of ``Site``; ``/first/N/NAME/...`` by it the
first N times, and with the image from then on.
"""

import asyncio
import base64
import gzip
import socket
import ssl
import struct
import subprocess
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import unquote

from aiohttp.abc import AbstractResolver, ResolveResult

IMAGE = bytes(range(256)) * 4
DRAWN = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAGklEQVR42mMUYIAAFnkYQxHGUCDMYHwPZQAALeQB2gvq"
    "qowAAAAASUVORK5CYII="
)
"""An image that can be decoded."""
REASONS = {302: "Found", 404: "Not Found"}


class Ask:
    """One request, and the connection that waits for the answer."""

    def __init__(self, head: bytes, writer: asyncio.StreamWriter) -> None:
        line, *fields = head.decode("latin-1").split("\r\n")
        self.target = line.split(" ")[1]
        self.headers = {
            key.lower(): value.strip()
            for key, _, value in (field.partition(":") for field in fields)
        }
        self.path, _, self.query = self.target.partition("?")
        self.writer = writer

    async def send(self, body: bytes, status: int = 200, *fields: str, sized: bool = True) -> None:
        length = [f"Content-Length: {len(body)}"] if sized else ["Connection: close"]
        head = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", *length, *fields, "", ""]
        await self.raw("\r\n".join(head).encode("latin-1") + body)
        if not sized:
            self.writer.close()

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


class Site:
    """What the server saw, and how it answers.

    Attributes:
        port: where it listens.
        requests: how often each path was asked for.
        connections: the local address of each, in order.
        most_at_once: the most requests that were open at a time.
        up: while not, connections are closed without a byte.
        delay: seconds before each answer.
    """

    def __init__(self, scheme: str = "http", host: str = "127.0.0.1") -> None:
        self.scheme = scheme
        self.host = host
        self.port = 0
        self.requests: Counter[str] = Counter()
        self.connections: list[str] = []
        self.most_at_once = 0
        self.up = True
        self.delay = 0.0
        self._at_once = 0

    def __truediv__(self, path: str) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        self.connections.append(str(writer.get_extra_info("sockname")[0]))
        try:
            while self.up and not writer.is_closing():
                first = await reader.readexactly(1)
                if first == b"\x16":  # TLS, where none is spoken
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    break
                ask = Ask(first + await reader.readuntil(b"\r\n\r\n"), writer)
                self.requests[ask.path] += 1
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    await asyncio.sleep(self.delay)
                    await self._answer(ask)
                finally:
                    self._at_once -= 1
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()

    async def _answer(self, ask: Ask) -> None:
        words = ask.path.strip("/").split("/")
        if words[0] == "first":
            words = words[2:] if self.requests[ask.path] <= int(words[1]) else ["picture"]
        answer = getattr(self, f"answer_{words[0]}", None)
        await (answer(ask, *words[1:]) if answer else ask.send(b"", 404))

    async def answer_picture(self, ask: Ask, *_: str) -> None:
        await ask.send(IMAGE)

    async def answer_drawn(self, ask: Ask, *_: str) -> None:
        await ask.send(DRAWN)

    async def answer_unsized(self, ask: Ask) -> None:
        await ask.send(IMAGE, sized=False)

    async def answer_early_close(self, ask: Ask) -> None:
        await ask.send(IMAGE[:99], sized=False)

    async def answer_wrongly_typed(self, ask: Ask) -> None:
        await ask.send(IMAGE, 200, "Content-Type: text/html")

    async def answer_login(self, ask: Ask) -> None:
        await ask.send(b"<html>Log in</html>", 200, "Content-Type: image/jpeg")

    async def answer_echo(self, ask: Ask, *_: str) -> None:
        await ask.send(ask.target.encode("latin-1"))

    async def answer_header(self, ask: Ask, name: str) -> None:
        await ask.send(ask.headers.get(name, "none").encode())

    async def answer_status(self, ask: Ask, status: str) -> None:
        sized = status not in ("204", "304")
        await ask.send(b"", int(status), sized=sized)

    async def answer_wait(self, ask: Ask, *value: str) -> None:
        await ask.send(b"", 429, f"Retry-After: {unquote('/'.join(value))}")

    async def answer_empty(self, ask: Ask) -> None:
        await ask.send(b"")

    async def answer_changing(self, ask: Ask) -> None:
        await ask.send(str(self.requests[ask.path]).encode())

    async def answer_to(self, ask: Ask) -> None:
        await ask.send(b"", 302, f"Location: {unquote(ask.query, 'latin-1')}")

    async def answer_nowhere(self, ask: Ask) -> None:
        await ask.send(b"", 302)

    async def answer_loop(self, ask: Ask) -> None:
        await ask.send(b"", 302, f"Location: {ask.path}")

    async def answer_hops(self, ask: Ask, n: str) -> None:
        await ask.send(b"", 302, f"Location: {f'/hops/{int(n) - 1}' if int(n) > 1 else '/picture'}")

    async def answer_short(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n" + IMAGE)
        ask.writer.close()

    async def answer_chunks(self, ask: Ask) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        await ask.raw(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    async def answer_short_chunk(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc")
        ask.writer.close()

    async def answer_broken_chunk(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.01)
        await ask.raw(b"not a size\r\n")
        ask.writer.close()

    async def answer_broken_first_chunk(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n")

    async def answer_reset(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + IMAGE[:99])
        await asyncio.sleep(0.01)
        linger = struct.pack("ii", 1, 0)
        ask.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        ask.writer.transport.abort()

    async def answer_huge(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + IMAGE)

    async def answer_endless(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await ask.raw(b"400\r\n" + IMAGE + b"\r\n")

    async def answer_silence(self, ask: Ask) -> None:
        await asyncio.sleep(60)

    async def answer_stall(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + IMAGE[:5])
        await asyncio.sleep(60)

    async def answer_drip(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n")
        for byte in IMAGE:
            await ask.raw(bytes([byte]))
            await asyncio.sleep(0.05)

    async def answer_slow_head(self, ask: Ask) -> None:
        await ask.raw(b"HTTP/1.1 200 OK\r\n")
        for number in count():
            await ask.raw(b"X-%d: 1\r\n" % number)
            await asyncio.sleep(0.05)

    async def answer_large_head(self, ask: Ask) -> None:
        await ask.send(IMAGE, 200, "X-Large: " + "x" * 65_536)

    async def answer_long_head(self, ask: Ask) -> None:
        await ask.send(IMAGE, 200, *(f"X-{number}: 1" for number in range(1000)))

    async def answer_cookies(self, ask: Ask) -> None:
        fields = [f"Set-Cookie: c{number}=1; Path=/" for number in range(100)]
        await ask.send(ask.headers.get("cookie", "none").encode(), 200, *fields)

    async def answer_nonsense(self, ask: Ask) -> None:
        await ask.raw(b"this is not HTTP\r\n\r\n")
        ask.writer.close()

    async def answer_nothing(self, ask: Ask) -> None:
        ask.writer.close()

    async def answer_robots(self, ask: Ask) -> None:
        tags = [f"X-Robots-Tag: {tag}" for tag in unquote(ask.query).split("|")]
        await ask.send(IMAGE, 200, *tags)

    async def answer_packed(self, ask: Ask, name: str) -> None:
        encoding, body = PACKED[name]
        await ask.send(body, 200, f"Content-Encoding: {encoding}")


def _raw_deflate(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return machine.compress(data) + machine.flush()


def _nested(data: bytes, levels: int) -> bytes:
    for _ in range(levels):
        data = gzip.compress(data)
    return data


PACKED = {
    "identity": ("identity", IMAGE),
    "gzip": ("gzip", gzip.compress(IMAGE)),
    "x_gzip": ("X-GZip", gzip.compress(IMAGE)),
    "deflate": ("deflate", zlib.compress(IMAGE)),
    "raw_deflate": ("deflate", _raw_deflate(IMAGE)),
    "gzip_bomb": ("gzip", gzip.compress(bytes(2**22))),
    "deflate_bomb": ("deflate", zlib.compress(bytes(2**22))),
    "cut_gzip": ("gzip", gzip.compress(IMAGE)[:-20]),
    "no_gzip": ("gzip", IMAGE),
    "empty_gzip": ("gzip", gzip.compress(b"")),
    "br": ("br", IMAGE),
    "zstd": ("zstd", IMAGE),
    "six_times": (", ".join(["gzip"] * 6), _nested(bytes(2**22), 6)),
}


@contextmanager
def hostile(
    listen: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Site]:
    """A server in a thread of its own, until the end of the ``with`` block."""
    site = Site("https" if tls else "http")
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        server = await asyncio.start_server(
            site.serve, listen, port, family=family, ssl=tls, backlog=1024
        )
        site.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await asyncio.sleep(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield site
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


class Answers(AbstractResolver):
    """A name service by hand.

    Args:
        names: what each name is answered, time after time, the last answer for ever: a list of
            addresses, or an error to raise. Other names do not exist.

    Attributes:
        asked: the names that were asked for, in order.
    """

    def __init__(self, **names: list[list[str] | OSError]) -> None:
        self.names = {name.replace("_", "."): answers for name, answers in names.items()}
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names.get(host, [socket.gaierror(socket.EAI_NONAME, "no such name")])
        answer = answers[min(self.asked.count(host), len(answers)) - 1]
        if isinstance(answer, OSError):
            raise answer
        return [
            ResolveResult(hostname=host, host=address, port=port, family=0, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        """Nothing is held open."""


def make_certificates(folder: Path) -> None:
    """Make an authority ``ca.pem``, and for servers ``NAME.pem`` with one ``key.pem``, by openssl.

    NAME is ``good``, for 127.0.0.1; ``expired``; ``other_host``; or ``self_signed``.
    """

    def openssl(arguments: str) -> None:
        command = ["openssl", *arguments.split()]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    openssl(f"req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca")
    openssl(f"req {key} -keyout key.pem -out ask.csr -subj /CN=shop")
    signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext"
    for name, host, days in [
        ("good", "IP:127.0.0.1", 2),
        ("expired", "IP:127.0.0.1", -1),
        ("other_host", "DNS:shop.test", 2),
    ]:
        (folder / "ext").write_text(f"subjectAltName={host}\n")
        openssl(f"x509 -req -in ask.csr {signed} -days {days} -out {name}.pem")
    itself = "-subj /CN=shop -addext subjectAltName=IP:127.0.0.1"
    openssl(f"req -x509 -key key.pem -out self_signed.pem {itself}")
