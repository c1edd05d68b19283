"""The app without a browser: leases, decisions, undoing, rules, and who may ask for what."""

import json
import math
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dedup.errors import ConfigError
from dedup.review.decisions import Digests, pair_of
from dedup.review.desk import shown_score
from dedup.review.items import Question
from dedup.review.queue import LEASE_SECONDS
from dedup.review.sqlite import SqliteLedger
from dedup.review.standing import Evidence
from tests.support.reviews import Running, Shop, choice, digest, memory


class Clock:
    """A clock that stands still until it is set."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """An app for questions that change nothing."""
    running = Running(Shop().desk(memory()))
    yield running
    running.stop()


@pytest.fixture
def app() -> Iterator[Running]:
    running = Running(Shop(sizes=(2, 3, 2, 2)).desk(memory()))
    yield running
    running.stop()


def test_work_is_leased_to_one_reviewer_and_comes_back() -> None:
    clock = Clock()
    desk = Shop(sizes=[2] * 6).desk(memory(), clock=clock)
    first = [one["item"] for one in desk.next(4, "ann")["items"]]
    second = [one["item"] for one in desk.next(4, "bob")["items"]]
    assert sorted(first + second) == [*range(6)]
    assert [one["item"] for one in desk.next(9, "ann")["items"]] == first  # the page was reloaded
    assert not desk.next(9, "ann", held=first)["items"]
    clock.now += LEASE_SECONDS - 1
    desk.renew(first[:2], "ann")
    clock.now += 2
    taken = [one["item"] for one in desk.next(9, "eve")["items"]]
    assert sorted(taken) == sorted(set(range(6)) - set(first[:2]))
    desk.release(first[:1], "ann")
    assert [one["item"] for one in desk.next(1, "bob")["items"]] == first[:1]
    desk.skip(taken, "eve")
    assert not desk.next(9, "eve")["items"]
    clock.now += 17 * 3600
    assert len(desk.next(9, "eve")["items"]) == 6


def test_items_are_ordered_and_chosen() -> None:
    desk = Shop(sizes=(2, 4, 3)).desk(memory())
    assert [len(one["products"]) for one in desk.next(3, "ann")["items"]] == [4, 3, 2]
    assert desk.facets == ["brand"]
    found = Shop(sizes=(2, 4, 3)).desk(memory()).next(9, "ann", facet=("brand", "brand 2"))
    assert all("brand 2" in {p["cells"][1] for p in one["products"]} for one in found["items"])
    assert found["open"] == len(found["items"]) < 3
    with pytest.raises(ConfigError, match="facet"):
        desk.next(1, "ann", facet=("colour", "red"))
    with pytest.raises(ConfigError, match="order"):
        desk.next(1, "ann", "largest")


def test_a_decision_is_written_once_and_undone(app: Running) -> None:
    ann = app.client()
    items = {one["kept"]: one for one in ann.get("/api/work?n=9")["items"]}
    question = items["g0-a"]["questions"][0]
    assert (question["proposed"], question["tier"], question["words"]) == (
        "duplicate", "near", "cropped to 90 %",
    )  # fmt: skip
    given = choice("g0-a", "g0-b", "duplicate", kept="g0-b", took_ms=800)
    status, told = ann.decide("one", given)
    assert status == 201
    assert told["decisions"][0]["kept"] == "g0-b"
    assert ann.decide("one", given) == (200, told)
    assert ann.get("/api/work?n=9")["open"] == 3
    (row,) = app.desk.ledger.history.decisions()
    assert row.shown_left.pixels == digest("g0-a")
    assert row.context["tier"] == "near"
    status, again = ann.post("/api/undo", {"undo": "one", "batch": "two"})
    assert (status, [one["kept"] for one in again["items"]]) == (200, ["g0-a"])
    assert ann.get("/api/work?n=9")["open"] == 4
    status, told = ann.post("/api/undo", {"undo": "one", "batch": "three"})
    assert status == 400
    assert "undone already" in told["error"]


def test_the_second_reviewer_is_told_of_the_first(app: Running) -> None:
    ann, bob = app.client(), app.client("bob", "reviewer")
    assert ann.decide("a", choice("g0-a", "g0-b", "duplicate"))[0] == 201
    status, told = bob.decide("b", choice("g0-b", "g0-a", "different"))
    assert status == 409
    (conflict,) = told["conflicts"]
    assert conflict["reason"] == "changed"
    assert conflict["decisions"][0]["reviewer"] == "ann"
    assert bob.decide("c", choice("g0-a", "g0-b", "different", expected=["a", 0]))[0] == 201
    status, told = bob.post("/api/undo", {"undo": "a", "batch": "d"})
    assert status == 403
    assert "ann made this batch" in told["error"]
    assert ann.post("/api/undo", {"undo": "c", "batch": "e"})[0] == 200  # a lead


def test_a_decision_that_is_being_written_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it looks as if its images were new, and somebody else is asked to overrule it."""
    desk = Shop(sizes=(2,)).desk(memory())
    (question,) = desk.items[0].questions
    many, seen = desk.ledger.database.many, []

    def watched(sql: str, values: Any) -> None:
        seen.append(bool(desk.settled_by(question)))
        many(sql, values)

    monkeypatch.setattr(desk.ledger.database, "many", watched)
    desk.decide("a", [choice("g0-a", "g0-b", "duplicate")], "ann", "key")
    assert seen == [True, True]  # the images, and the decision


def test_a_contradiction_may_be_given_on_purpose(app: Running) -> None:
    ann = app.client()
    ann.decide("a", choice("g1-a", "g1-b", "duplicate"), choice("g1-a", "g1-c", "duplicate"))
    status, told = ann.decide("b", choice("g1-b", "g1-c", "different"))
    assert status == 409
    places = [[row["batch"], row["seq"]] for row in told["conflicts"][0]["decisions"]]
    assert places == [["a", 0], ["a", 1]]
    assert ann.decide("c", choice("g1-b", "g1-c", "different", replaces=places))[0] == 201


def test_what_follows_closes_items_and_undoing_opens_them() -> None:
    shop = Shop(sizes=(2, 2), related=[("g0-b", "g1-b")])
    desk = shop.desk(memory())
    assert desk.queue.n_open() == 3
    desk.decide("a", [choice("g0-a", "g0-b", "duplicate"), choice("g1-a", "g1-b", "duplicate"),
                      choice("g0-a", "g1-a", "variant")], "ann", "page")  # fmt: skip
    assert desk.queue.n_open() == 0
    desk.undo("a", "b", "ann")
    assert desk.queue.n_open() == 3


def test_a_later_run_shows_nothing_twice(tmp_path: Path) -> None:
    shop = Shop(sizes=(2, 3, 2, 2))
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    desk = shop.desk(ledger)
    for number, item in enumerate(desk.next(3, "ann")["items"]):
        desk.decide(str(number), [choice(q["left"], q["right"], q["proposed"])
                                  for q in item["questions"]], "ann", "key")  # fmt: skip
    left = [one["kept"] for one in desk.next(9, "ann")["items"]]
    assert len(left) == 1
    again = Shop(sizes=(2, 3, 2, 2), tier="same_pixels").desk(
        SqliteLedger(tmp_path / "ledger.sqlite")
    )
    assert [one["kept"] for one in again.next(9, "ann")["items"]] == left
    other = Shop(sizes=(2, 3, 2, 2), image_of={"g1-b": "new"}).desk(ledger)
    (asked,) = [one for one in other.next(9, "ann")["items"] if one["kept"] == "g1-a"]
    reopened = [one for one in asked["questions"] if one["open"]]
    assert [(one["right"], one["before"]["verdict"]) for one in reopened] == [("g1-b", "duplicate")]
    assert other.stats()["reopened"] == 1
    renamed = Shop(sizes=(2, 3, 2, 2), rename={"g1-b": "z1"}).desk(ledger)
    assert renamed.stats()["carried"] == 1
    assert [one["kept"] for one in renamed.next(9, "ann")["items"]] == left
    (carried,) = [one for one in renamed.latest() if one["source"] == "carried"]
    renamed.undo(carried["batch"], "undo", "ann")
    assert {one["kept"] for one in renamed.next(9, "ann")["items"]} == {*left, "g1-a"}


def test_a_rule_opens_when_its_sample_was_looked_at(app: Running) -> None:
    ann, bob = app.client(), app.client("bob")
    rules = ann.get("/api/rules")["rules"]
    assert sum(rule["open"] for rule in rules) == 4
    assert rules[0]["words"] == "near: the same product"
    body = {"rule": rules[0]["rule"], "batch": "rule"}
    sample = ann.get(f"/api/sample?rule={rules[0]['rule']}")
    assert len(sample["items"]) == 4
    status, told = bob.post("/api/rule", body)
    assert status == 400
    assert "look at 4 random items" in told["error"]
    assert ann.post("/api/rule", body) == (201, {"batch": "rule", "n": 5})
    assert ann.get("/api/stats")["open"] == 0
    assert {row.source for row in app.desk.ledger.history.decisions()} == {"rule"}
    ann.post("/api/undo", {"undo": "rule", "batch": "undo"})
    assert ann.get("/api/stats")["open"] == 4


def test_a_rule_leaves_out_what_would_contradict(app: Running) -> None:
    ann = app.client()
    ann.decide("a", choice("g1-b", "g1-c", "different"))
    ann.get("/api/sample?rule=0")
    status, told = ann.post("/api/rule", {"rule": 0, "batch": "rule"})
    assert (status, told["n"]) == (201, 4)
    assert ann.get("/api/stats")["open"] == 0  # g1-c follows: it is not g1-b


def test_history_and_who_decided(app: Running) -> None:
    ann = app.client()
    ann.decide("a", choice("g0-a", "g0-b", "variant", note="blue"))
    found = ann.get("/api/history?product=g0-b")
    assert found["product"]["cells"][0] == "Blue coat g0-b"
    (row,) = found["decisions"]
    assert (row["verdict"], row["reviewer"], row["note"]) == ("variant", "ann", "blue")
    assert ann.get("/api/stats")["reviewers"] == {"ann": {"variant": 1}}
    assert ann.get("/api/batches")["batches"][0]["batch"] == "a"
    status, _, content = ann.send("GET", "/export/decisions.jsonl")
    assert status == 200
    assert json.loads(content.splitlines()[-1])["verdict"] == "variant"
    assert ann.send("GET", "/api/history?product=nobody")[0] == 404


def test_pictures_and_what_differs(shared: Running) -> None:
    ann = shared.client()
    left, right = digest("g0-a"), digest("g0-b")
    status, headers, content = ann.send("GET", f"/pictures/{left}.jpg")
    assert (status, headers["content-type"], content[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert ann.send("GET", f"/pictures/{left}/{right}.jpg")[0] == 200
    x, y, width, height = ann.get(f"/api/difference?left={left}&right={right}")["region"]
    # the planted square is at 10 to 40 of 120 by 160 pixels
    assert 10 / 120 < x + width / 2 < 40 / 120
    assert 10 / 160 < y + height / 2 < 40 / 160


HOSTILE = [
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
    digest("nobody"), digest("g0-a").upper(), digest("g0-a")[:-1], digest("g0-a") + "0",
    "%00" + digest("g0-a"), digest("g0-a") + "%00", "a" * 5000, "\u202e", "*", "'; DROP TABLE x",
]  # fmt: skip


def test_a_thousand_hostile_paths_of_pictures_are_not_found(shared: Running) -> None:
    ann = shared.client()
    draw = random.Random(0)
    alphabet = "./\\%0123456789abcdef~:;?#&=+ <>\"'"
    names = HOSTILE + ["".join(draw.choices(alphabet, k=draw.randint(1, 90))) for _ in range(500)]
    paths = set()
    for name in names:
        quoted = "".join(
            c if c.isascii() and c not in ' "<>?#' else f"%{ord(c) % 256:02x}" for c in name
        )
        paths |= {f"/pictures/{quoted}.jpg", f"/pictures/{digest('g0-a')}/{quoted}.jpg"}
    assert len(paths) >= 1000
    for path in paths:
        assert ann.send("GET", path)[0] == 404, path


REFUSED = {
    "another site's form": ({"Origin": "https://evil.example"}, 403),
    "no origin": ({"Origin": None}, 403),
    "cross-site": ({"Sec_Fetch_Site": "cross-site"}, 403),
    "same-site": ({"Sec_Fetch_Site": "same-site"}, 403),
    "rebound name": ({"Host": "evil.example"}, 421),
    "no host": ({"Host": ""}, 421),
    "another port": ({"Host": "127.0.0.1:1"}, 421),
    "a form's type": ({"Content_Type": "text/plain"}, 415),
    "no cookie": ({"Cookie": None}, 401),
    "another cookie": ({"Cookie": "dedup_review=x"}, 401),
}


@pytest.mark.parametrize("case", REFUSED)
def test_requests_of_strangers_are_refused(case: str, shared: Running) -> None:
    headers, expected = REFUSED[case]
    body = {"batch": "evil", "choices": [choice("g0-a", "g0-b", "different")]}
    status, _, _ = shared.client().send("POST", "/api/decisions", body, **headers)
    assert status == expected
    assert "evil" not in shared.desk.ledger.history.batches


@pytest.mark.parametrize(
    "path", ["/api/work", "/api/stats", "/export/decisions.jsonl", "/pictures/x.jpg"]
)
def test_other_sites_cannot_read(path: str, shared: Running) -> None:
    ann = shared.client()
    assert ann.send("GET", path, Sec_Fetch_Site="cross-site")[0] == 403
    assert ann.send("GET", path, Cookie=None)[0] == 401
    assert ann.send("GET", path, Host="evil.example")[0] == 421


BAD_BODIES = {
    "no json": b"{", "a list": b"[]", "deep": b"[" * 100_000, "no choices": b'{"batch": "x"}',
    "choices": b'{"batch": "x", "choices": 3}', "verdict": b'{"batch": "x", "choices": [{"left": '
    b'"g0-a", "right": "g0-b", "verdict": "same"}]}', "unknown product": b'{"batch": "x", '
    b'"choices": [{"left": "q", "right": "g0-b", "verdict": "variant"}]}',
    "empty": b'{"batch": "x", "choices": []}',
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_request_is_a_sentence(case: str, shared: Running) -> None:
    import http.client

    ann = shared.client()
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    connection.request("POST", "/api/decisions", BAD_BODIES[case], {
        "Origin": shared.origin, "Content-Type": "application/json", "Cookie": ann.cookie,
    })  # fmt: skip
    answer = connection.getresponse()
    assert answer.status == (404 if case == "unknown product" else 400)
    assert json.loads(answer.read())["error"]
    connection.close()


def test_every_answer_has_the_headers(shared: Running) -> None:
    for path in ("/", "/static/app.js", "/api/stats", "/nowhere", "/static/../server.py"):
        _, headers, _ = shared.client().send("GET", path)
        assert headers["content-security-policy"].startswith("default-src 'none'; ")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"


def test_a_link_opens_once(shared: Running) -> None:
    token = shared.link("eve").partition("#")[2]
    client = shared.client()
    status, headers, _ = client.send("POST", "/api/session", {"token": token}, Cookie=None)
    assert status == 200
    assert {"HttpOnly", "SameSite=strict"} <= set(headers["set-cookie"].split("; "))
    assert client.send("POST", "/api/session", {"token": token}, Cookie=None)[0] == 403
    stored = shared.desk.ledger.database.rows("SELECT sha256 FROM token")
    assert token not in {name for (name,) in stored}


def test_a_ledger_in_use_is_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dedup.review.database.BUSY_SECONDS", 0.05)
    running = Running(Shop().desk(SqliteLedger(tmp_path / "ledger.sqlite")))
    try:
        ann = running.client()
        other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        status, headers, content = ann.send("POST", "/api/decisions", {
            "batch": "x", "choices": [choice("g0-a", "g0-b", "variant")]})  # fmt: skip
        assert (status, headers["retry-after"]) == (503, "2")
        assert b"in use" in content
        other.execute("ROLLBACK")
        assert ann.decide("x", choice("g0-a", "g0-b", "variant"))[0] == 201
    finally:
        running.stop()


def test_eight_reviewers_decide_each_pair_once() -> None:
    import threading

    desk = Shop(sizes=[2] * 120).desk(memory())
    counts: list[int] = []

    def work(name: str) -> None:
        n = 0
        while items := desk.next(3, name)["items"]:
            for item in items:
                question = item["questions"][0]
                given = choice(question["left"], question["right"], "duplicate")
                desk.decide(f"{name}-{item['item']}", [given], name, "key")
                n += 1
        counts.append(n)

    threads = [threading.Thread(target=work, args=(f"r{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 120 == len(desk.ledger.history)
    pairs = {row.pair for row in desk.ledger.history.decisions()}
    assert pairs == {pair_of(f"g{number}-a", f"g{number}-b") for number in range(120)}


@pytest.mark.parametrize(
    ("score", "proposed", "shown"),
    [(0.875, "duplicate", 0.875), (0.99983, "duplicate", 0.999), (1.0, "duplicate", 1.0),
     (0.0015, "different", None), (0.87, "variant", 0.87), (math.nan, "duplicate", None)],
)  # fmt: skip
def test_the_score_of_a_copy_is_not_shown_beside_a_proposal_that_it_is_none(
    score: float, proposed: str, shown: float | None
) -> None:
    evidence = Evidence(("A", "B"), (Digests("a", "b"), Digests("c", "d")))
    assert shown_score(Question(evidence, proposed, "near", score, 0.5, "words")) == shown
