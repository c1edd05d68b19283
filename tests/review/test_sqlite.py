"""The ledger: append-only, undone by rows, exported and imported, and closed under duplicates."""

import itertools
import json
import random
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dedup.errors import ConfigError, CorruptError, DedupError, SourceError
from dedup.review.decisions import VERDICTS, Digests, pair_of
from dedup.review.ledger import Choice, Ledger, RefusedError
from dedup.review.sqlite import SqliteLedger

IDS = "abcdef"
numbers = itertools.count()


def new_batch() -> str:
    return f"batch-{next(numbers)}"


def given(ledger: Ledger, pair: str, verdict: str, reviewer: str = "ann", **more: object) -> str:
    """Decide on two products of one letter each; the batch."""
    batch, key = new_batch(), pair_of(*pair)
    now = ledger.history.current(key)
    expected = None if now is None else now.place
    ledger.append(batch, [Choice(key, verdict, expected=expected, **more)], reviewer)  # type: ignore[arg-type]
    return batch


def verdicts(ledger: Ledger) -> dict[tuple[str, str], str]:
    return {row.pair: row.verdict for row in ledger.history.decisions()}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return SqliteLedger(tmp_path / "ledger.sqlite")


def test_a_decision_is_there_in_the_next_process(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "folder" / "ledger.sqlite")
    images = frozenset({Digests("p1", "b1"), Digests("p2", "b2")})
    choice = Choice(
        ("a", "b"), "variant", "b", (Digests("p1", "b1"), Digests("", "")), None,
        {"score": 0.5}, "note\u202e", 300,
    )  # fmt: skip
    ledger.append("one", [choice], "ann", lambda product: images, "page", "run")
    ledger.close()
    again = SqliteLedger(tmp_path / "folder" / "ledger.sqlite")
    (row,) = again.history.decisions()
    assert row == ledger.history.current(("a", "b"))
    assert (row.kept, row.context, row.note, row.took_ms) == (
        "b",
        {"score": 0.5},
        "note\u202e",
        300,
    )
    assert again.images[row.left_print] == set(images)


@pytest.mark.parametrize("statement", [
    "UPDATE decision SET verdict = 'different'", "DELETE FROM decision",
    "DELETE FROM fingerprint", "UPDATE product_seen SET print = ''",
])  # fmt: skip
def test_the_database_refuses_changes(statement: str, tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    image = frozenset({Digests("p", "b")})
    ledger.append("one", [Choice(("a", "b"), "duplicate")], "ann", lambda product: image)
    ledger.saw({"a": "print"})
    other = sqlite3.connect(tmp_path / "ledger.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="never changed or deleted"):
        other.execute(statement)


def test_a_repeated_batch_is_written_once(ledger: Ledger) -> None:
    choices = [Choice(("a", "b"), "duplicate"), Choice(("a", "c"), "different")]
    first = ledger.append("one", choices, "ann")
    assert ledger.append("one", choices, "ann") == first
    assert len(ledger.history) == 2
    with pytest.raises(ConfigError, match="other choices"):
        ledger.append("one", choices[:1], "ann")


WRONG = {
    "verdict": (Choice(("a", "b"), "same"), "verdict=same"),
    "order": (Choice(("b", "a"), "duplicate"), "smaller id first"),
    "one product": (Choice(("a", "a"), "duplicate"), "smaller id first"),
    "kept": (Choice(("a", "b"), "duplicate", "c"), "kept='c'"),
    "nul": (Choice(("a", "b\0"), "duplicate"), "NUL"),
    "nothing to replace": (Choice(("a", "b"), "duplicate", replaces=(("x", 0),)), "x/0"),
    "long note": (Choice(("a", "b"), "duplicate", note="x" * 10_001), "10,000"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_choice_leaves_nothing(wrong: str, ledger: Ledger) -> None:
    choice, message = WRONG[wrong]
    with pytest.raises(ConfigError, match=message):
        ledger.append("one", [Choice(("x", "y"), "duplicate"), choice], "ann")
    assert not len(ledger.history)
    assert not ledger.database.rows("SELECT * FROM decision")


def test_somebody_was_faster(ledger: Ledger) -> None:
    given(ledger, "ab", "duplicate")
    with pytest.raises(RefusedError, match="ann said duplicate") as caught:
        ledger.append("late", [Choice(("a", "b"), "different")], "bob")
    assert [one.reason for one in caught.value.conflicts] == ["changed"]
    given(ledger, "ab", "different", "bob")  # who has seen ann's
    assert verdicts(ledger) == {("a", "b"): "different"}


FOLLOWS = {
    "chain": ([("ab", "duplicate"), ("bc", "duplicate")], "ac", "duplicate"),
    "apart": ([("ab", "duplicate"), ("bc", "variant")], "ac", "variant"),
    "both sides": ([("ab", "duplicate"), ("cd", "duplicate"), ("ad", "other_product")], "bc",
                   "other_product"),
    "two apart say nothing": ([("ab", "different"), ("bc", "different")], "ac", ""),
    "unsure joins nothing": ([("ab", "unsure"), ("bc", "duplicate")], "ac", ""),
    "stranger": ([("ab", "duplicate")], "ax", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWS)
def test_what_follows(case: str, ledger: Ledger) -> None:
    decided, pair, verdict = FOLLOWS[case]
    for one, given_verdict in decided:
        given(ledger, one, given_verdict)
    assert ledger.history.verdict(pair_of(*pair)) == verdict


CONTRADICTIONS = {
    "apart in a chain": ([("ab", "duplicate"), ("bc", "duplicate")], "ac", "different",
                         ["ab", "bc"]),
    "joined across": ([("ab", "duplicate"), ("bc", "different")], "ac", "duplicate", ["bc"]),
    "joined across two": ([("ab", "duplicate"), ("cd", "duplicate"), ("ad", "variant")], "bc",
                          "duplicate", ["ad"]),
    "a second way": ([("ab", "duplicate"), ("bc", "duplicate"), ("ac", "duplicate")], "ac",
                     "different", ["ab", "bc"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_refused_and_may_be_given_on_purpose(case: str, ledger: Ledger) -> None:
    decided, pair, verdict, against = CONTRADICTIONS[case]
    for one, given_verdict in decided:
        given(ledger, one, given_verdict)
    before = verdicts(ledger)
    with pytest.raises(RefusedError) as caught:
        given(ledger, pair, verdict)
    (conflict,) = caught.value.conflicts
    assert conflict.reason == "contradicts"
    assert ["".join(row.pair) for row in conflict.decisions] == against
    assert verdicts(ledger) == before
    batch = given(ledger, pair, verdict, replaces=tuple(row.place for row in conflict.decisions))
    now = verdicts(ledger)
    assert now[pair_of(*pair)] == verdict
    assert not {pair_of(*one) for one in against} & now.keys()
    ledger.undo(batch, new_batch(), "ann")
    assert verdicts(ledger) == before


def test_a_batch_may_not_contradict_itself(ledger: Ledger) -> None:
    given_pairs = [("ab", "duplicate"), ("bc", "duplicate"), ("ac", "different")]
    choices = [Choice(pair_of(*pair), verdict) for pair, verdict in given_pairs]
    with pytest.raises(RefusedError, match="contradicts"):
        ledger.append("one", choices, "ann")
    assert not len(ledger.history)


def test_undoing_can_be_undone(ledger: Ledger) -> None:
    batch = given(ledger, "ab", "duplicate")
    for step in range(4):
        undone = batch if step == 0 else f"undo-{step - 1}"
        ledger.undo(undone, f"undo-{step}", "bob")
        ledger.undo(undone, f"undo-{step}", "bob")  # the client asks again
        assert bool(verdicts(ledger)) == bool(step % 2)
    with pytest.raises(ConfigError, match="undone already"):
        ledger.undo("undo-2", "again", "bob")
    with pytest.raises(ConfigError, match="no batch"):
        ledger.undo("never", "undo", "bob")


class Undoing(RuleBasedStateMachine):
    """Decisions and their undoing in any order, beside a list of what is not undone."""

    @initialize(target=None)
    def start(self) -> None:
        self.ledger = Ledger.__new__(SqliteLedger)
        SqliteLedger.__init__(self.ledger, ":memory:")
        self.model: list[tuple[str, tuple[str, str], str]] = []

    @rule(one=st.sampled_from(IDS), other=st.sampled_from(IDS), verdict=st.sampled_from(VERDICTS))
    def decide(self, one: str, other: str, verdict: str) -> None:
        if one == other:
            return
        try:
            batch = given(self.ledger, one + other, verdict)
        except RefusedError:
            return
        self.model.append((batch, pair_of(one, other), verdict))

    @rule(at=st.integers(0, 10**6))
    def undo(self, at: int) -> None:
        if self.model:
            batch, _, _ = self.model.pop(at % len(self.model))
            self.ledger.undo(batch, new_batch(), "ann")

    @invariant()
    def is_as_if_never_decided(self) -> None:
        assert verdicts(self.ledger) == {pair: verdict for _, pair, verdict in self.model}


TestUndoing = Undoing.TestCase
TestUndoing.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)


def copy_by_export(ledger: Ledger, folder: Path) -> Ledger:
    ledger.export(folder / "ledger.jsonl")
    copy = SqliteLedger(folder / f"{new_batch()}.sqlite")
    copy.import_(folder / "ledger.jsonl")
    return copy


def test_a_thousand_batches_undone_in_random_order(tmp_path: Path) -> None:
    ledger = SqliteLedger(":memory:")
    draw, batches = random.Random(0), []
    while len(batches) < 1000:
        pair = "".join(sorted(draw.sample("abcdefghijklmnopqrstuvwxyz", 2)))
        try:
            batches.append(given(ledger, pair, draw.choice(VERDICTS)))
        except RefusedError:
            continue
    before = verdicts(ledger)
    copy = copy_by_export(ledger, tmp_path)
    assert verdicts(copy) == before
    draw.shuffle(batches)
    for batch in batches:
        ledger.undo(batch, new_batch(), "ann")
    assert not verdicts(ledger)
    assert copy.import_(ledger_file(ledger, tmp_path)) == 1000
    assert not verdicts(copy)
    assert copy.import_(ledger_file(ledger, tmp_path)) == 0


def ledger_file(ledger: Ledger, folder: Path) -> Path:
    ledger.export(folder / "all.jsonl")
    return folder / "all.jsonl"


def test_two_ledgers_merge_whatever_the_order(tmp_path: Path) -> None:
    ledgers = [SqliteLedger(":memory:") for _ in range(2)]
    given(ledgers[0], "ab", "duplicate")
    given(ledgers[1], "ab", "different", "bob")
    given(ledgers[1], "cd", "variant", "bob")
    files = [tmp_path / "0.jsonl", tmp_path / "1.jsonl"]
    for one, file in zip(ledgers, files, strict=True):
        one.export(file)
    merged = []
    for order in (files, files[::-1]):
        both = SqliteLedger(":memory:")
        for file in order:
            both.import_(file)
        merged.append(verdicts(both))
    assert merged[0] == merged[1] == {("a", "b"): "different", ("c", "d"): "variant"}


BAD_LINES: dict[str, Callable[[dict[str, object]], object]] = {
    "no json": lambda row: "{",
    "no table": lambda row: [1],
    "verdict": lambda row: {**row, "verdict": "same"},
    "missing": lambda row: {"batch": "x"},
    "strange": lambda row: {**row, "colour": "red"},
    "time": lambda row: {**row, "made_at": "yesterday"},
}


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_imports_nothing(bad: str, ledger: Ledger, tmp_path: Path) -> None:
    given(ledger, "ab", "duplicate")
    file = ledger_file(ledger, tmp_path)
    good = file.read_text().splitlines()
    line = BAD_LINES[bad](json.loads(good[-1]))
    file.write_text("\n".join([*good, line if isinstance(line, str) else json.dumps(line)]))
    other = SqliteLedger(":memory:")
    with pytest.raises(SourceError, match=f"line {len(good) + 1}.*Nothing was imported"):
        other.import_(file)
    assert not len(other.history)


def test_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptError, match=r"ledger\.path="):
        SqliteLedger(tmp_path / "ledger.sqlite")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DedupError, match="folder"):
        SqliteLedger(tmp_path / "folder")


def test_threads_share_a_commit_and_fail_alone(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    refused: list[str] = []

    def decide(number: int) -> None:
        for turn in range(10):
            choice = Choice((f"a{number}", f"b{turn}"), "different")
            ledger.append(f"{number}-{turn}", [choice], "ann")
            try:
                ledger.append(f"{number}-{turn}-late", [choice], "bob")
            except RefusedError:
                refused.append(f"{number}-{turn}")

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 60 == len(ledger.history)
    other = SqliteLedger(tmp_path / "ledger.sqlite")  # nothing is left open
    assert verdicts(other) == verdicts(ledger)
    other.append("other", [Choice(("x", "y"), "variant")], "eve")
    ledger.refresh()
    assert len(ledger.history) == 61


def test_a_commit_that_fails_leaves_nothing(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(ledger, "ab", "duplicate")
    end = ledger.database._end

    def full(word: str) -> None:
        if word == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        end(word)

    monkeypatch.setattr(ledger.database, "_end", full)
    with pytest.raises(sqlite3.OperationalError):
        given(ledger, "ac", "duplicate")
    assert verdicts(ledger) == {("a", "b"): "duplicate"}
    monkeypatch.undo()
    given(ledger, "ac", "duplicate")
    assert verdicts(SqliteLedger(ledger.name)) == verdicts(ledger)
    assert len(ledger.history) == 2
