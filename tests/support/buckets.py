"""Object storage on the loopback: a server of S3, and a proxy before it that breaks answers."""

from __future__ import annotations

import http.client
import http.server
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyarrow import fs

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
"""Environment in which the server is asked; it takes any keys."""
BUCKET = "shop"


@dataclass
class Storage:
    """A server with an empty bucket.

    Attributes:
        address: of the server.
    """

    address: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which the server is found."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.address}

    def put(self, key: str, body: bytes) -> str:
        """Keep an object; its address."""
        with self._files.open_output_stream(f"{BUCKET}/{key}", compression=None) as stream:
            stream.write(body)
        return f"s3://{BUCKET}/{key}"

    def make_bucket(self) -> None:
        """Make the bucket."""
        self._files.create_dir(BUCKET)

    @property
    def _files(self) -> Any:
        return fs.S3FileSystem(
            access_key="key", secret_key="secret", region="us-east-1",
            endpoint_override=self.address, allow_bucket_creation=True,
        )  # fmt: skip


@contextmanager
def storage() -> Iterator[Storage]:
    """Start moto's server in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        found = next(match for line in lines if (match := re.search(r"http://[\d.]+:\d+", line)))
        threading.Thread(target=lambda: [*lines], daemon=True).start()  # else the pipe fills
        server = Storage(found[0])
        server.make_bucket()
        yield server
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@dataclass
class Proxy:
    """Passes requests on to a server, and breaks a share of the answers.

    Each broken answer is a 503 or ends after half of its body; one without a body just ends.

    Attributes:
        server: address that requests are passed on to.
        share: of the answers to break.
        seed: of the choice.
        n_answers: answers so far.
        n_broken: those that were broken.
    """

    server: str
    share: float
    seed: int = 0
    n_answers: int = 0
    n_broken: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def fate(self) -> str:
        """Choose what becomes of the next answer: ``whole``, ``503`` or ``cut``."""
        with self.lock:
            self.n_answers += 1
            if self._random.random() >= self.share:
                return "whole"
            self.n_broken += 1
            return self._random.choice(["503", "cut"])

    def handler(self) -> type:
        """Make the handler of ``http.server`` that passes on."""
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

            def pass_on(self) -> None:
                fate = proxy.fate()
                if fate == "503":
                    self.send_response(503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = http.client.HTTPConnection(proxy.server.removeprefix("http://"))
                connection.request(self.command, self.path, headers=dict(self.headers))
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                if fate == "cut" and not body:
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "date", "server", "transfer-encoding"):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if fate == "cut" else body)
                self.close_connection = fate == "cut"

            do_GET = do_HEAD = pass_on  # noqa: N815

        return Handler
