"""The review app in a process of its own, which can be killed, and clients that keep a connection.

    python -m tests.support.review_server LEDGER N_GROUPS READY

``LEDGER`` is a file, or an address of PostgreSQL. ``READY`` is written when requests are answered.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from dedup.cli.reviews import questions
from dedup.detection.results import DetectionResult
from dedup.review.accounts import Accounts
from dedup.review.desk import Desk
from dedup.review.items import Table
from dedup.review.ledger import Ledger
from dedup.review.sqlite import SqliteLedger
from dedup.review.standing import Catalogue
from dedup.runtime.garbage import staying
from dedup.search.index import Index
from tests.support.reviews import Running, Shop

ROOT = Path(__file__).parents[2]
N_REVIEWERS = 8


def ledger_at(address: str) -> Ledger:
    """Open a ledger by its address, or in a file."""
    if address.startswith("postgresql:"):
        from dedup.review.postgres import PostgresLedger

        return PostgresLedger(address)
    return SqliteLedger(address)


def opened(ledger: Ledger, index: Index, result: DetectionResult) -> Desk:
    """Open a run, from tables in memory to the queue."""
    with staying():
        catalogue = Catalogue.of(index)
        items = questions(result, catalogue)
        return Desk.opened(ledger, catalogue, Table(index), items, "run", ["brand"], ["brand"])


def tokens(ledger: Ledger) -> list[str]:
    """Invite the reviewers, all of them leads."""
    accounts = Accounts(ledger.database)
    return [accounts.invite(f"reviewer {number}", "lead") for number in range(N_REVIEWERS)]


def serve(address: str, n_groups: int, ready: str) -> None:
    """Serve a made-up run until the process is killed."""
    shop = Shop(sizes=[2] * n_groups)
    index, result = shop.index(), shop.result()
    started, used = time.perf_counter(), time.process_time()
    ledger = ledger_at(address)
    running = Running(opened(ledger, index, result))
    content = {
        "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - used,
        "port": running.port, "tokens": tokens(ledger),
    }  # fmt: skip
    part = Path(ready + ".part")
    part.write_text(json.dumps(content))
    part.rename(ready)
    threading.Event().wait()


class ReviewServer:
    """A server process, and what it said when it was ready.

    Attributes:
        seconds: that it took to open the ledger and the queue.
        cpu_seconds: of the processor, for that.
    """

    def __init__(self, folder: Path, address: str, n_groups: int) -> None:
        ready = folder / f"{uuid.uuid4().hex}.json"
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, address, str(n_groups), str(ready)],
            env=environment, cwd=ROOT,
        )  # fmt: skip
        while not ready.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the server ended")
            time.sleep(0.01)
        facts = json.loads(ready.read_text())
        ready.unlink()
        self.port, self.tokens = facts["port"], facts["tokens"]
        self.seconds, self.cpu_seconds = facts["seconds"], facts["cpu_seconds"]

    def kill(self) -> None:
        """End the process without warning."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Reviewer:
    """A client that keeps its connection."""

    def __init__(self, server: ReviewServer, number: int) -> None:
        self.port = server.port
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.cookie = ""
        _, headers, _ = self.send("POST", "/api/session", {"token": server.tokens[number]})
        self.cookie = headers["set-cookie"].partition(";")[0]

    def __enter__(self) -> "Reviewer":
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def send(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        """Send a request, and read the answer."""
        self.connection.request(
            method, path, None if body is None else json.dumps(body),
            {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}",
             "Cookie": self.cookie},
        )  # fmt: skip
        answer = self.connection.getresponse()
        content = answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, json.loads(content)

    def work(self, n: int) -> list[dict[str, Any]]:
        """Lease items."""
        items: list[dict[str, Any]] = self.send("GET", f"/api/work?n={n}")[2]["items"]
        return items

    def decide(self, question: dict[str, Any], batch: str) -> int:
        """Give the proposed verdict."""
        choice = {name: question[name] for name in ("left", "right", "expected")}
        body = {"batch": batch, "choices": [{**choice, "verdict": question["proposed"]}]}
        return self.send("POST", "/api/decisions", body)[0]


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
