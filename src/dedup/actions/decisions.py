"""Read people's decisions on pairs of products: from a ledger, or one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from dedup.errors import ArtifactError, SourceError
from dedup.review.decisions import VERDICTS, Pair
from dedup.review.ledger import Ledger
from dedup.review.sqlite import SqliteLedger

SQLITE = b"SQLite format 3\0"
"""First bytes of a ledger in a file."""

FINGERPRINT = "fingerprint"
"""Key of the lines of an exported ledger that tell of images, and of no decision."""

OF_LEDGER = {"left": "left_id", "right": "right_id", "kept": "kept_id", "batch": "batch_id"}
"""Names in an exported ledger, see ``review.decisions.Decision``, and in lines of one's own."""


@dataclass(frozen=True)
class Decision:
    """A person's verdict on two products.

    Attributes:
        pair: ids of the products, the smaller one first.
        verdict: one of ``review.decisions.VERDICTS``.
        kept_id: the product that the person wants to keep; "" for no choice.
        made_at: seconds since 1970.
        reviewer: name of the person; "" where unknown.
        pixels: digests of the images that were shown, left and right; "" where unknown.
    """

    pair: Pair
    verdict: str
    kept_id: str = ""
    made_at: float = 0.0
    reviewer: str = ""
    pixels: Pair = ("", "")


Decisions = Mapping[Pair, Decision]
"""The decision that holds for each pair."""


def of_ledger(ledger: Ledger) -> dict[Pair, Decision]:
    """Take the decisions of a ledger that hold, as ``read_decisions`` does of its export."""
    with ledger.lock:
        rows = list(ledger.history.decisions())
    made = [
        Decision(
            row.pair, row.verdict, row.kept, _seconds(row.made_at), row.reviewer,
            (row.shown_left.pixels, row.shown_right.pixels),
        )
        for row in rows
    ]  # fmt: skip
    return {each.pair: each for each in sorted(made, key=lambda each: each.pair)}


def _of_file(path: Path) -> dict[Pair, Decision]:
    ledger = SqliteLedger(path)
    try:
        return of_ledger(ledger)
    finally:
        ledger.close()


def read_decisions(path: str | Path | None) -> dict[Pair, Decision]:
    """Read the decisions that hold: of each pair the newest that is not undone.

    The file is a ledger in SQLite, what ``review.py export=`` writes, or has lines of one's own.
    A line of one's own has ``left_id``, ``right_id``, ``verdict``, ``kept_id``, ``made_at`` (ISO
    8601, or seconds since 1970) and ``undoes``, and perhaps ``decision_id``, ``batch_id``,
    ``reviewer``, ``pixels_left`` and ``pixels_right``; others are ignored. ``undoes`` is the
    ``decision_id`` or the ``batch_id`` of what a line takes back. A line without ``decision_id``
    has its number, from 1. An undo may be undone, and a line of a ledger may replace others.
    The order of the lines does not matter, unless they have one time.

    Args:
        path: a file in JSONL or a ledger; ``None`` for no decisions.

    Raises:
        ArtifactError: the file is missing or cannot be read.
        SourceError: a line is no decision; the message names it.
    """
    if path is None:
        return {}
    path = Path(path)
    try:
        content = path.read_bytes()
        if content.startswith(SQLITE):
            return _of_file(path)
        text = content.decode("utf-8")
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}): name the file of decisions, or leave the "
            "setting out"
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is no text in UTF-8 ({error}): export the decisions") from error
    lines = enumerate(text.split("\n"), start=1)
    rows = [(n, _row(path, n, line)) for n, line in lines if line.strip()]
    return _standing(path, [(n, _renamed(row)) for n, row in rows if FINGERPRINT not in row])


def _standing(path: Path, rows: list[tuple[int, dict[str, Any]]]) -> dict[Pair, Decision]:
    """Keep the decisions that are not undone, the newest of each pair."""
    known = {name for n, row in rows for name in _names(n, row)}
    made = [(_time(path, n, row), n, row) for n, row in rows]
    made.sort(key=lambda each: (each[0], _number(each[2], each[1]), json.dumps(each[2])))
    undone, replaced = set[str](), set[str]()
    standing: dict[Pair, Decision] = {}
    for seconds, n, row in reversed(made):
        taken_back = _text(row.get("undoes"))
        if taken_back and taken_back not in known:
            _refuse(path, n, f"undoes is {taken_back[:100]!r}, which no line has as its id")
        if undone & set(_names(n, row)):
            continue
        if taken_back:
            undone.add(taken_back)
            continue
        decision = _decision(path, n, row, seconds)
        if not replaced & set(_names(n, row)):
            standing.setdefault(decision.pair, decision)
        replaced |= _replaced(path, n, row)
    return dict(sorted(standing.items()))


def _row(path: Path, n: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        _refuse(path, n, f"it is no JSON ({error})")
    if not isinstance(row, dict):
        _refuse(path, n, "it is no JSON object")
    return row


def _renamed(row: dict[str, Any]) -> dict[str, Any]:
    """Give a decision of an exported ledger the names that other lines have."""
    if not {"batch", "seq", "left", "right"} <= row.keys():
        return row
    named = {OF_LEDGER.get(name, name): value for name, value in row.items()}
    named["decision_id"] = f"{row['batch']} {row['seq']}"
    for side in ("left", "right"):
        shown = row.get(f"shown_{side}")
        named[f"pixels_{side}"] = shown[0] if isinstance(shown, list) and shown else ""
    return named


def _decision(path: Path, n: int, row: Mapping[str, Any], seconds: float) -> Decision:
    """Read one line; check its ids and its verdict."""
    left, right = (_id(path, n, row, name) for name in ("left_id", "right_id"))
    if left >= right:
        _refuse(path, n, f"left_id {left[:100]!r} does not come before right_id {right[:100]!r}")
    verdict, kept = row.get("verdict"), _text(row.get("kept_id"))
    if verdict not in VERDICTS:
        _refuse(path, n, f"verdict is {str(verdict)[:100]!r}, not one of {', '.join(VERDICTS)}")
    if kept not in ("", left, right):
        _refuse(path, n, f"kept_id is {kept[:100]!r}, which is neither product")
    return Decision(
        pair=(left, right),
        verdict=str(verdict),
        kept_id=kept,
        made_at=seconds,
        reviewer=_text(row.get("reviewer")),
        pixels=(_text(row.get("pixels_left")), _text(row.get("pixels_right"))),
    )


def _replaced(path: Path, n: int, row: Mapping[str, Any]) -> set[str]:
    """List the ids of decisions that a line of a ledger overrules."""
    places = row.get("replaces") or []
    try:
        return {f"{batch} {int(seq)}" for batch, seq in places}
    except (TypeError, ValueError):
        _refuse(path, n, f"replaces is {str(places)[:100]!r}, and lists batches with numbers")


def _id(path: Path, n: int, row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        _refuse(path, n, f"{name} is {str(value)[:100]!r}, and must be a product's id as a text")
    return value


def _time(path: Path, n: int, row: Mapping[str, Any]) -> float:
    """Read ``made_at`` as seconds since 1970; a time without a zone is in UTC."""
    value = row.get("made_at")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return _seconds(str(value))
    except ValueError:
        _refuse(path, n, f"made_at is {str(value)[:100]!r}, and must be a time in ISO 8601")


def _seconds(time: str) -> float:
    """Convert a time in ISO 8601 to seconds since 1970.

    Raises:
        ValueError: it is none.
    """
    made = datetime.fromisoformat(time)
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()


def _names(n: int, row: Mapping[str, Any]) -> Iterator[str]:
    """List the names by which a later line may undo a line."""
    yield _text(row.get("decision_id")) or str(n)
    if batch := _text(row.get("batch_id")):
        yield batch


def _number(row: Mapping[str, Any], n: int) -> tuple[float, int]:
    """Sort lines of one time by their ids, where these are numbers, or else as they stand."""
    number = row.get("decision_id")
    return (float(number), 0) if isinstance(number, int) else (float("inf"), n)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _refuse(path: Path, n: int, why: str) -> NoReturn:
    raise SourceError(f"{path}, line {n}: {why}. Export the decisions again, or correct the line")
