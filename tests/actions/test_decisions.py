"""Decisions in JSONL: which one holds, and which lines are refused."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dedup.actions.decisions import read_decisions
from dedup.errors import ArtifactError, SourceError
from dedup.review.decisions import Digests
from dedup.review.ledger import Choice
from dedup.review.sqlite import SqliteLedger


def line(verdict: str = "duplicate", day: int = 1, **more: Any) -> dict[str, Any]:
    made = f"2026-11-{day:02}T10:00:00Z"
    return {"left_id": "A", "right_id": "B", "verdict": verdict, "kept_id": None,
            "made_at": made, "undoes": None} | more  # fmt: skip


def write(folder: Path, lines: list[Any]) -> Path:
    path = folder / "decisions.jsonl"
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


STANDING = {
    "the newest": ([line("different", 2), line("duplicate", 3), line("variant", 1)], "duplicate"),
    "seconds and ISO 8601": ([line("different", made_at=4e9), line("duplicate", 2)], "different"),
    "an undone one": (
        [line("variant", 1, decision_id=1), line("different", 2, decision_id=2),
         line("different", 3, decision_id=3, undoes=2)], "variant",
    ),
    "an undone batch": (
        [line("variant", 1), line("different", 2, batch_id="x"), line("unsure", 3, undoes="x")],
        "variant",
    ),
    "an undo that was undone": (
        [line("different", 1, decision_id=7), line("unsure", 2, decision_id=8, undoes=7),
         line("unsure", 3, decision_id=9, undoes=8)], "different",
    ),
    "lines without ids are numbered": (
        [line("variant", 1), line("different", 2), line("unsure", 3, undoes=2)], "variant",
    ),
    "of one time, the last id": (
        [line("variant", decision_id=10), line("different", decision_id=9)], "variant",
    ),
    "nothing": ([line("variant", 1, decision_id=1), line("unsure", 2, undoes=1)], None),
}  # fmt: skip


@pytest.mark.parametrize("case", STANDING, ids=str)
def test_the_decision_that_holds(case: str, tmp_path: Path) -> None:
    lines, expected = STANDING[case]
    held = read_decisions(write(tmp_path, lines)).get(("A", "B"))
    assert (held and held.verdict) == expected


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    lines = [line(verdict, day, decision_id=day, undoes=undoes, right_id=right)
             for day, (verdict, undoes, right) in enumerate(
                 [("duplicate", None, "B"), ("variant", None, "B"), ("unsure", 2, "B"),
                  ("different", None, "C"), ("duplicate", None, "C")], start=1)]  # fmt: skip
    expected = read_decisions(write(tmp_path, lines))
    assert {pair: each.verdict for pair, each in expected.items()} == {
        ("A", "B"): "duplicate",
        ("A", "C"): "duplicate",
    }
    for seed in range(5):
        mixed = random.Random(seed).sample(lines, len(lines))
        assert read_decisions(write(tmp_path, mixed)) == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("{", "line 2: it is no JSON"),
        ("[]", "line 2: it is no JSON object"),
        (line("same"), "verdict is 'same', not one of duplicate"),
        (line(left_id="C"), "left_id 'C' does not come before right_id 'B'"),
        (line(left_id=3), "left_id is '3', and must be a product's id as a text"),
        (line(kept_id="C"), "kept_id is 'C', which is neither product"),
        (line(made_at="yesterday"), "made_at is 'yesterday', and must be a time"),
        (line(undoes="gone"), "undoes is 'gone', which no line has as its id"),
    ],
)
def test_a_line_that_is_no_decision(wrong: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, [line(), wrong])
    with pytest.raises(SourceError) as caught:
        read_decisions(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    assert read_decisions(None) == {}
    with pytest.raises(ArtifactError, match="name the file of decisions, or leave"):
        read_decisions(tmp_path / "gone.jsonl")


def test_what_reviewers_decided_and_exported_is_what_holds(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.sqlite")
    shown = (Digests("pa", "ba"), Digests("pb", "bb"))
    images = {"A": frozenset(shown[:1]), "B": frozenset(shown[1:]), "C": frozenset(shown[1:])}
    given = [
        ("first", Choice(("A", "B"), "duplicate", kept="B", shown=shown), "ann"),
        ("second", Choice(("A", "C"), "variant"), "bob"),
    ]
    for batch, choice, reviewer in given:
        ledger.append(batch, [choice], reviewer, images.__getitem__)
    ledger.undo("second", "third", "bob")
    ledger.export(tmp_path / "decisions.jsonl")
    decisions = read_decisions(tmp_path / "decisions.jsonl")
    assert [*decisions] == [("A", "B")]
    decision = decisions["A", "B"]
    assert (decision.verdict, decision.kept_id, decision.reviewer) == ("duplicate", "B", "ann")
    assert decision.pixels == ("pa", "pb")
    ledger.undo("third", "fourth", "bob")
    ledger.export(tmp_path / "decisions.jsonl")
    again = read_decisions(tmp_path / "decisions.jsonl")
    assert {pair: one.verdict for pair, one in again.items()} == {
        row.pair: row.verdict for row in ledger.history.decisions()
    }
