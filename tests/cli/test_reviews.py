"""The command ``review`` as a user types it: what it refuses, invitations, export and import."""

from pathlib import Path

import pytest

from dedup.review.ledger import Choice
from dedup.review.sqlite import SqliteLedger
from tests.conftest import run

REFUSED = {
    "a host that others reach": (["server.host=0.0.0.0"], "server.trusted_proxy=IP"),
    "without TLS": (
        ["server.host=0.0.0.0", "server.trusted_proxy=10.0.0.1", "server.address=http://a.example"],
        "expected https://",
    ),
    "a header that anybody can send": (["server.sso_header=X-User"], "server.trusted_proxy=IP"),
    "no result": ([], "runs/detect/latest"),
    "no ledger": (["ledger=none"], "choose ledger=sqlite"),
    "port": (["server.port=70000"], "server.port=70000"),
    "role": (["invite=Ann", "role=boss"], "role=boss"),
    "name": (["invite=' '"], "visible characters"),
    "no file": (["import=gone.jsonl"], "gone.jsonl"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_a_sentence(case: str, tmp_path: Path) -> None:
    overrides, said = REFUSED[case]
    done = run("review", *overrides, cwd=tmp_path, code=2)
    assert said in done.stderr


def test_decisions_go_out_and_in(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "runs" / "ledger.sqlite")
    ledger.append("one", [Choice(("a", "b"), "duplicate")], "ann")
    done = run("review", "export=out.jsonl", cwd=tmp_path)
    assert "1 row of runs/ledger.sqlite written to out.jsonl" in done.stdout
    done = run("review", "import=out.jsonl", "ledger.path=other.sqlite", cwd=tmp_path)
    assert "1 new row of out.jsonl added to other.sqlite" in done.stdout
    copy = SqliteLedger(tmp_path / "other.sqlite")
    assert list(copy.history.decisions()) == list(ledger.history.decisions())


def test_an_invitation_is_a_link(tmp_path: Path) -> None:
    done = run("review", "invite=Ann", "server.port=8000", cwd=tmp_path)
    assert done.stdout.startswith("http://127.0.0.1:8000/#")
    behind = run(
        "review", "invite=Bob", "server.host=0.0.0.0", "server.trusted_proxy=10.0.0.1",
        "server.address=https://review.example.com", cwd=tmp_path,
    )  # fmt: skip
    assert behind.stdout.startswith("https://review.example.com/#")
