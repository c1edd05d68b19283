"""An append-only ledger of decisions: nothing in it is ever changed, and undoing is a row too."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from dedup.errors import ArtifactError, ConfigError, DedupError, SourceError
from dedup.review import schema
from dedup.review.database import Database, Row
from dedup.review.decisions import UNKNOWN, Decision, Digests, Pair, Place, fingerprint
from dedup.review.history import History
from dedup.runtime.files import write_text
from dedup.runtime.printable import visible

_COLUMNS = (
    "batch, seq, left_id, right_id, verdict, kept, left_print, right_print, left_pixels, "
    "left_bytes, right_pixels, right_bytes, reviewer, source, run, context, note, took_ms, "
    "made_at, undoes, replaces"
)
_N_COLUMNS = _COLUMNS.count(",") + 1
_ADD_IMAGE = (
    "INSERT INTO fingerprint (print, pixels, bytes) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
)
_ADD_SEEN = "INSERT INTO product_seen (product, print) VALUES (?, ?) ON CONFLICT DO NOTHING"
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"

Images = frozenset[Digests]
"""Digests of a product's images."""
NO_IMAGES: Images = frozenset()


class Choice(NamedTuple):
    """A verdict that a reviewer gives on a pair.

    Attributes:
        pair: the products, the smaller id first.
        verdict: one of ``decisions.VERDICTS``.
        kept: the product to keep; "" for no choice.
        shown: digests of the left and of the right image that were looked at.
        expected: the decision on the pair that the reviewer saw; ``None``: there was none.
        context: what was known, for the record.
        note: remark.
        took_ms: milliseconds from the display to the decision; -1 if unknown.
        replaces: decisions that the reviewer overrules on purpose.
    """

    pair: Pair
    verdict: str
    kept: str = ""
    shown: tuple[Digests, Digests] = (UNKNOWN, UNKNOWN)
    expected: Place | None = None
    context: Mapping[str, Any] = {}
    note: str = ""
    took_ms: int = -1
    replaces: tuple[Place, ...] = ()


class Conflict(NamedTuple):
    """A choice that was refused.

    Attributes:
        pair: the products.
        reason: ``changed``: somebody decided on the pair meanwhile; ``contradicts``: other
            decisions say the contrary.
        decisions: those decisions.
    """

    pair: Pair
    reason: str
    decisions: tuple[Decision, ...]


class RefusedError(DedupError):
    """A batch was not written, since decisions of others are in its way.

    Args:
        conflicts: the choices that were refused.
    """

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__("; ".join(map(_told, conflicts)))
        self.conflicts = tuple(conflicts)


class Ledger:
    """A ledger in a database.

    Args:
        database: the database; its tables are made when they are missing.
        clock: the time in UTC.

    Attributes:
        history: all rows, in memory.
        images: images of every fingerprint.
        lock: held while the history is read or changed, and never while the database is waited
            for.
    """

    def __init__(
        self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.database = database
        self.history = History()
        self.images: dict[str, set[Digests]] = {}
        self._clock = clock
        self._last = 0
        self._places = set[Place]()
        self._unsaved = set[tuple[str, str, str]]()  # images that may not be in the database yet
        self.lock = threading.RLock()
        database.prepare("decision", self.schema)
        version = database.rows("SELECT value FROM meta WHERE name = 'schema'")
        if version != [(schema.VERSION,)]:
            raise ArtifactError(
                f"{self.name} is a ledger of another version ({version}): export it with the "
                "version of dedup that made it, and import that file into a new ledger"
            )
        self.refresh()

    schema = schema.SQLITE
    name = "the ledger"

    def queue_database(self) -> Database:
        """Return the database for the work queue, which may be lost at any time."""
        return self.database

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def refresh(self) -> None:
        """Read the rows that other processes have appended."""
        rows = self.database.rows(
            f"SELECT decision_id, {_COLUMNS} FROM decision WHERE decision_id > ? ORDER BY 1",
            [self._last],
        )
        if not rows:
            return
        decisions = [_decision(values) for _, *values in rows]
        with self.lock:
            is_known = all(row.place in self._places for row in decisions)
        images = [] if is_known else self.database.rows("SELECT * FROM fingerprint")
        with self.lock:
            # A decision whose images are not known yet would look as if an image were new.
            for print_, pixels, content in images:
                self.images.setdefault(print_, set()).add(Digests(pixels, content))
            self._last = max(self._last, rows[-1][0])
            for row in decisions:
                if row.place not in self._places:
                    self._remember(row)

    def _remember(self, decision: Decision) -> None:
        self._places.add(decision.place)
        self.history.add(decision)

    def append(
        self,
        batch: str,
        choices: Sequence[Choice],
        reviewer: str,
        images: Callable[[str], Images] = lambda product: NO_IMAGES,
        source: str = "key",
        run: str = "",
    ) -> list[Decision]:
        """Write a batch of choices: all, or none.

        A batch that is there already is not written again.

        Args:
            batch: its id, chosen by the client.
            choices: verdicts on pairs.
            reviewer: who gives them.
            images: the images of a product in this run.
            source: one of ``decisions.SOURCES``.
            run: the run that is reviewed.

        Returns:
            The decisions of the batch.

        Raises:
            RefusedError: others decided meanwhile, or a choice contradicts decisions that it
                does not replace.
            ConfigError: a value is none that a decision can have, or the batch has other choices.
        """
        shown = {product: images(product) for one in choices for product in one.pair}
        prints = {key: fingerprint([one.pixels for one in shown[key]]) for key in shown}
        last, is_new = self._last, False
        try:
            with self.database.writing():
                self.refresh()
                with self.lock:
                    if (known := self.history.batches.get(batch)) is not None:
                        _check_repeated(batch, known, choices, reviewer)
                        return known
                    is_new = True
                    new = self._new_images({prints[product]: shown[product] for product in shown})
                    rows = self._rows(batch, choices, reviewer, prints, source, run)
                self.database.many(_ADD_IMAGE, new)
                self._write(rows)
                with self.lock:
                    self._places.update(row.place for row in rows)
        except BaseException:
            if is_new:
                self._forget(batch, last)
            raise
        with self.lock:
            self._unsaved.difference_update(new)
        return rows

    def _rows(
        self,
        batch: str,
        choices: Sequence[Choice],
        reviewer: str,
        prints: Mapping[str, str],
        source: str,
        run: str,
    ) -> list[Decision]:
        """Make the rows of a batch, and add them to the history."""
        made_at, rows, conflicts = self._now(), list[Decision](), list[Conflict]()
        for seq, choice in enumerate(choices):
            row = Decision(
                batch, seq, *choice.pair, choice.verdict, choice.kept,
                prints[choice.pair[0]], prints[choice.pair[1]], *choice.shown, reviewer,
                source, run, choice.context, choice.note, choice.took_ms, made_at,
                "", self._replaced(choice),
            )  # fmt: skip
            row.check()
            conflicts += self._conflicts(choice)
            self.history.add(row)
            rows.append(row)
        if conflicts:
            raise RefusedError(conflicts)
        if not rows:
            raise ConfigError(f"the batch {visible(batch)} has no choices")
        return rows

    def _forget(self, batch: str, last: int) -> None:
        """Drop a batch that was not written, and read again what others wrote since."""
        with self.lock:
            self._places -= {row.place for row in self.history.batches.get(batch, ())}
            self.history.forget(batch)
            self._last = min(self._last, last)

    def undo(self, undone: str, batch: str, reviewer: str) -> list[Decision]:
        """Undo a batch by a row of a new batch; undoing can be undone in the same way.

        Args:
            undone: the batch to undo.
            batch: id of the new batch; if that is there already, nothing is written.
            reviewer: who undoes it.

        Returns:
            The rows of the undone batch.

        Raises:
            ConfigError: there is no such batch, or it is undone already.
        """
        last, is_new = self._last, False
        try:
            with self.database.writing():
                self.refresh()
                with self.lock:
                    rows = self.history.batches.get(undone)
                    if rows is None:
                        raise ConfigError(f"there is no batch {visible(undone)} to undo")
                    known = self.history.batches.get(batch)
                    if known is not None and [row.undoes for row in known] == [undone]:
                        return rows
                    if known is not None or self.history.is_undone(undone):
                        raise ConfigError(f"the batch {visible(undone)} is undone already")
                    row = Decision(
                        batch, 0, "", "", "", reviewer=reviewer, made_at=self._now(), undoes=undone
                    )
                    row.check()
                    is_new = True
                    self._remember(row)
                self._write([row])
        except BaseException:
            if is_new:
                self._forget(batch, last)
            raise
        return rows

    def saw(self, products: Mapping[str, str]) -> None:
        """Note the fingerprint of each product of a run, so that renamed ones can be told."""
        known = set(self.database.rows("SELECT product, print FROM product_seen"))
        new = sorted(pair for pair in products.items() if pair not in known)
        with self.database.writing():
            self.database.many(_ADD_SEEN, new)

    def seen(self) -> list[tuple[str, str]]:
        """List the products of all runs that were reviewed, with their fingerprints."""
        return [(product, print_) for product, print_ in self.database.rows(
            "SELECT product, print FROM product_seen")]  # fmt: skip

    def export(self, path: Path) -> int:
        """Write all rows and fingerprints as JSON lines; return the number of rows."""
        write_text(self.exported(), path)
        return len(self.history)

    def exported(self) -> str:
        """Return all rows and fingerprints as JSON lines."""
        self.refresh()
        lines = [{"fingerprint": name, "images": sorted(map(list, images))}
                 for name, images in sorted(self.images.items())]  # fmt: skip
        lines += [{"seen": product, "fingerprint": print_} for product, print_ in self.seen()]
        rows = [row for batch in self.history.batches.values() for row in batch]
        rows.sort(key=lambda row: row.order)
        lines += [row.to_dict() for row in rows]
        return "".join(f"{json.dumps(line)}\n" for line in lines)

    def import_(self, path: Path) -> int:
        """Read a file of ``export`` into this ledger; rows that are there already stay.

        Returns:
            The number of new decisions.

        Raises:
            SourceError: the file cannot be read, or a line is none of an export.
        """
        images: list[tuple[str, str, str]] = []
        seen: dict[tuple[str, str], None] = {}
        rows: list[Decision] = []
        try:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    try:
                        _read_line(json.loads(line), images, seen, rows)
                    except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
                        raise SourceError(
                            f"{path}, line {number}: this is no line of an exported ledger "
                            f"({error}). Nothing was imported"
                        ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
        with self.database.writing():
            self.refresh()
            new = [row for row in rows if row.place not in self._places]
            self.database.many(_ADD_IMAGE, images)
            self.database.many(_ADD_SEEN, list(seen))
            self._write(new)
        self.refresh()
        return len(new)

    def _now(self) -> str:
        """Return the time, later than that of every row."""
        now = self._clock().strftime(_TIME)
        if now > self.history.latest:
            return now
        latest = datetime.strptime(self.history.latest, _TIME)
        return (latest + timedelta(microseconds=1)).strftime(_TIME)

    def _new_images(self, images: Mapping[str, Images]) -> list[tuple[str, str, str]]:
        """Note the images of fingerprints, and list those that the ledger may not have yet."""
        new = [
            (name, *digests)
            for name, some in images.items()
            for digests in sorted(some)
            if digests not in self.images.get(name, ()) or (name, *digests) in self._unsaved
        ]
        for name, *digests in new:
            self.images.setdefault(name, set()).add(Digests(*digests))
        self._unsaved.update(new)
        return new

    def _replaced(self, choice: Choice) -> tuple[Place, ...]:
        """List the decisions that a choice overrules; all of them count now."""
        for batch, seq in choice.replaces:
            if (batch, seq) not in self._places:
                raise ConfigError(f"there is no decision {visible(batch)}/{seq} to replace")
        return choice.replaces

    def _conflicts(self, choice: Choice) -> list[Conflict]:
        """Find what stands in the way of a choice."""
        now = self.history.current(choice.pair)
        if (None if now is None else now.place) != choice.expected:
            return [Conflict(choice.pair, "changed", () if now is None else (now,))]
        against = [
            row
            for row in self.history.contradicted(choice.pair, choice.verdict)
            if row.place not in choice.replaces
        ]
        return [Conflict(choice.pair, "contradicts", tuple(against))] if against else []

    def _write(self, rows: Sequence[Decision]) -> None:
        marks = ", ".join("?" * _N_COLUMNS)
        self.database.many(
            f"INSERT INTO decision ({_COLUMNS}) VALUES ({marks})", map(_values, rows)
        )


def _told(conflict: Conflict) -> str:
    """Describe a conflict in a sentence."""
    named = " and ".join(visible(product) for product in conflict.pair)
    if conflict.reason == "changed" and not conflict.decisions:
        return f"{named}: the decision that was shown has been undone"
    by = "; ".join(
        f"{row.reviewer} said {row.verdict} of {visible(row.left)} and {visible(row.right)}"
        for row in conflict.decisions
    )
    why = "decided meanwhile" if conflict.reason == "changed" else "contradicts other decisions"
    return f"{named}: {why}: {by}"


def _check_repeated(
    batch: str, known: Sequence[Decision], choices: Sequence[Choice], reviewer: str
) -> None:
    """Check that a repeated batch is the one that was written.

    Raises:
        ConfigError: it is another.
    """
    before = [(row.pair, row.verdict, row.kept, row.reviewer) for row in known]
    now = [(choice.pair, choice.verdict, choice.kept, reviewer) for choice in choices]
    if before != now:
        raise ConfigError(f"the batch {visible(batch)} is there with other choices")


def _values(row: Decision) -> Row:
    return (
        row.batch, row.seq, row.left, row.right, row.verdict, row.kept, row.left_print,
        row.right_print, *row.shown_left, *row.shown_right, row.reviewer, row.source, row.run,
        json.dumps(dict(row.context), sort_keys=True), row.note, row.took_ms, row.made_at,
        row.undoes, json.dumps(row.replaces),
    )  # fmt: skip


def _decision(values: Sequence[Any]) -> Decision:
    (batch, seq, left, right, verdict, kept, left_print, right_print, *digests, reviewer, source,
     run, context, note, took_ms, made_at, undoes, replaces) = values  # fmt: skip
    return Decision(
        batch, seq, left, right, verdict, kept, left_print, right_print,
        Digests(*digests[:2]), Digests(*digests[2:]), reviewer, source, run, json.loads(context),
        note, took_ms, made_at, undoes,
        tuple((name, number) for name, number in json.loads(replaces)),
    )  # fmt: skip


def _read_line(
    line: dict[str, Any],
    images: list[tuple[str, str, str]],
    seen: dict[tuple[str, str], None],
    rows: list[Decision],
) -> None:
    """Sort a line of an export into the lists."""
    if "images" in line:
        images += [(str(line["fingerprint"]), str(p), str(b)) for p, b in line["images"]]
    elif "seen" in line:
        seen[str(line["seen"]), str(line["fingerprint"])] = None
    else:
        row = Decision.from_dict(line)
        datetime.strptime(row.made_at, _TIME)
        rows.append(row)
