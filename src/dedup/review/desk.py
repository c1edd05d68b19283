"""The work of a review, without HTTP: what is asked next, and what becomes of an answer."""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dedup.errors import ConfigError
from dedup.review.audit import (
    Draw,
    distance_in_odds,
    for_calibration,
    interleaved,
    label,
    second_opinions,
)
from dedup.review.decisions import IN_WORDS, VERDICTS, Decision, Digests, Pair, Place, pair_of
from dedup.review.items import PROPOSED, Item, Question, Rule, Table, orders, rules_of
from dedup.review.ledger import NO_IMAGES, Choice, Conflict, Ledger, RefusedError
from dedup.review.queue import LEASE_SECONDS, MAX_HELD, ORDERS, WorkQueue
from dedup.review.standing import Catalogue, Standing, standing, was_there
from dedup.runtime.nouns import counted
from dedup.schemas import RELATIONS, TIERS

TIER_WORDS: dict[str, str] = dict(
    zip(TIERS, ("same address", "same bytes", "same pixels", "near"), strict=True)
)
SAMPLE = 30
"""Items of a rule that a reviewer looks at before the rule may be decided on."""

SKIP_SECONDS = 16 * 3600.0
"""Seconds for which a skipped item is not shown to the same reviewer: until the next day."""

NEVER_SECONDS = 10 * 365 * 86400.0
"""Seconds for which a pair is not shown to the first of two reviewers again."""


class MissingError(ConfigError):
    """A request names an item, a product or a rule that is not there."""


class Desk:
    """A run under review.

    Args:
        ledger: the decisions.
        catalogue: images of the run's products.
        table: cells of the products.
        items: the questions.
        run: name of the run.
        facets: columns to choose items by.
        rule_columns: columns that rules compare.
        clock: seconds since 1970.
        audit: pairs that were drawn, in the order of their draws, see ``audit``.
        n_first: how many of these are asked before all others.
        threshold: score from which pairs are reported; ``None`` for the usual order of the items,
            else they are ordered by what a calibration gains.

    Attributes:
        state: the decisions that held when the run was opened.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalogue: Catalogue,
        table: Table,
        items: Sequence[Item],
        run: str,
        facets: Sequence[str] = (),
        rule_columns: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        audit: Sequence[tuple[Question, Draw]] = (),
        n_first: int = 0,
        threshold: float | None = None,
    ) -> None:
        drawn = [
            Item(len(items) + at, question.pair[0], question.pair, (question,))
            for at, (question, _) in enumerate(audit)
        ]
        self.audit = {item.number: draw for item, (_, draw) in zip(drawn, audit, strict=True)}
        self.ledger, self.catalogue, self.table = ledger, catalogue, table
        self.items: Sequence[Item] = [*items, *drawn]
        self.run = run
        self._clock = clock
        self._lock = threading.RLock()
        self._looked: dict[tuple[str, int], set[int]] = defaultdict(set)
        self._samples: dict[int, list[int]] = {}
        self._items_of: dict[str, list[int]] = defaultdict(list)
        for item in self.items:
            for product in item.members:
                self._items_of[product].append(item.number)
        proposed = [one.evidence for item in self.items for one in item.questions]
        self.state: Standing = standing(ledger, catalogue, proposed)
        self._stale: frozenset[Place] = frozenset(row.place for row in self.state.reopened.values())
        self.facets = table.named(facets)
        self.rules: list[Rule] = rules_of(items, table, table.named(rule_columns))
        closed = {item.number for item in self.items if not self._is_open(item.number)}
        self.queue = WorkQueue(ledger.queue_database(), run)
        self.queue.fill(self._ranks(items, n_first, threshold), closed, self._facets())

    def _ranks(
        self, items: Sequence[Item], n_first: int, threshold: float | None
    ) -> dict[str, dict[int, int]]:
        """Rank all items in each of ``ORDERS``, the audited ones among the others."""
        audited = [*self.audit]
        if threshold is not None:
            order = self._for_calibration(items, threshold)
            place = {number: at for at, number in enumerate(order)}
            return dict.fromkeys(ORDERS, place)
        ranks = {}
        for name, places in orders(items).items():
            usual = sorted(places, key=lambda number: places[number])
            order = interleaved(usual, audited, n_first)
            left = [number for number in audited if number not in {*order}]
            ranks[name] = {number: place for place, number in enumerate([*order, *left])}
        return ranks

    def _for_calibration(self, items: Sequence[Item], threshold: float) -> list[int]:
        """Order the items for a calibration: by chance, at the threshold, and of new kinds."""
        decided = [row for row in self.ledger.history.decisions() if row.context.get("evidence")]
        known = Counter(self._kind(row.pair, str(row.context["evidence"])) for row in decided)
        doubt = {
            item.number: min(
                distance_in_odds(0.5 if math.isnan(one.score) else one.score, threshold)
                for one in item.questions
            )
            for item in items
        }
        seen = {
            item.number: min(known[self._kind(one.pair, one.words)] for one in item.questions)
            for item in items
        }
        return for_calibration([item.number for item in items], [*self.audit], doubt, seen)

    def _kind(self, pair: Pair, words: str) -> tuple[str, ...]:
        """Name the categories of a pair and the edits between its images."""
        cells = (self.table.cell(pair[0], name) for name in self.facets)
        return *cells, "".join(letter for letter in words if not letter.isdigit())

    @classmethod
    def opened(cls, ledger: Ledger, catalogue: Catalogue, *arguments: Any, **more: Any) -> Desk:
        """Open a run: note its products, and carry decisions over to renamed ones.

        The arguments are those of the constructor.
        """
        desk = cls(ledger, catalogue, *arguments, **more)
        if desk.state.renamed:
            choices = [one.choice() for one in desk.state.renamed]
            by = {one.before.reviewer for one in desk.state.renamed}
            name = by.pop() if len(by) == 1 else "several"
            batch = f"carried-{uuid.uuid4().hex}"
            ledger.append(batch, choices, name, desk.images, "carried", desk.run)
        ledger.saw(catalogue.prints())
        return desk

    def images(self, product: str) -> frozenset[Digests]:
        """Return the digests of a product's images."""
        return self.catalogue.images.get(product, NO_IMAGES)

    def settled_by(self, question: Question) -> Sequence[Decision]:
        """Return the decisions that settle a question; none for an open one."""
        rows = self.ledger.history.follows(question.pair)
        if not rows or any(row.place in self._stale for row in rows):
            return ()
        return rows if was_there(question.evidence, rows, self.ledger.images) else ()

    def open_questions(self, item: Item) -> list[Question]:
        """List the questions of an item that are not settled, or not labelled in an audit."""
        if item.number in self.audit:
            return [*item.questions] if self._is_audited(item) else []
        return [one for one in item.questions if not self.settled_by(one)]

    def _is_audited(self, item: Item) -> bool:
        """Tell whether an audited pair lacks a label, or that of a second reviewer."""
        history = self.ledger.history
        pair = item.questions[0].pair
        if not label(history, pair) or not self.settled_by(item.questions[0]):
            return True
        if not self.audit[item.number].has_second or second_opinions(history, pair) is not None:
            return False
        first = history.current(pair)
        others = {rows[0].reviewer for rows in history.batches.values()}
        return first is not None and bool(first.context.get("blind")) and others != {first.reviewer}

    def next(
        self,
        n: int,
        reviewer: str,
        order: str = "sure",
        facet: tuple[str, str] | None = None,
        held: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Lease items to a reviewer, and describe them.

        Raises:
            ConfigError: there is no such order or facet, or too many items are held.
        """
        if order not in ORDERS:
            raise ConfigError(f"order={order}: choose one of {', '.join(ORDERS)}")
        if facet is not None and facet[0] not in self.facets:
            raise ConfigError(f"there is no facet {facet[0]}: choose one of {self.facets}")
        if len(held) > MAX_HELD:
            raise ConfigError(f"{len(held)} items are held: {MAX_HELD} are the most")
        if not self.ledger.database.is_busy():  # else who writes reads them, too
            self.ledger.refresh()
        with self._lock:
            found: list[dict[str, Any]] = []
            known = [number for number in held if 0 <= number < len(self.items)]
            while len(found) < n:
                leased = self.queue.lease(
                    n - len(found), reviewer, self._clock(), order, facet,
                    [*known, *(one["item"] for one in found)],
                )  # fmt: skip
                if not leased:
                    break
                with self.ledger.lock:
                    closed = [number for number in leased if not self._is_open(number)]
                    found += [self.describe(number) for number in leased if number not in closed]
                if closed:
                    self.queue.set_open(closed, False)
            return {"items": found, "open": self.queue.n_open(facet), "total": len(self.items)}

    def describe(self, number: int) -> dict[str, Any]:
        """Describe an item for the page."""
        item = self._item(number)
        open_ = {one.pair for one in self.open_questions(item)}
        return {
            "item": number,
            "kept": item.kept,
            "products": [self.product(one) for one in item.members],
            "columns": self.table.columns,
            "questions": [self._question(item, one, one.pair in open_) for one in item.questions],
        }

    def product(self, product: str) -> dict[str, Any]:
        """Describe a product: its cells and the digests of its images."""
        images = sorted({digests.pixels for digests in self.images(product)})
        return {"id": product, "cells": self.table.cells(product), "images": images}

    def _question(self, item: Item, one: Question, is_open: bool) -> dict[str, Any]:
        history = self.ledger.history
        now = history.current(one.pair)
        before = self.state.reopened.get(one.pair)
        left, right = one.evidence.shown
        member = next((end for end in one.pair if end != item.kept), one.pair[1])
        is_blind = item.number in self.audit
        return {
            "left": one.pair[0],
            "right": one.pair[1],
            "member": member,
            "shown": [left.pixels, right.pixels],
            "blind": is_blind,
            "proposed": "" if is_blind else one.proposed if before is None else before.verdict,
            "tier": "" if is_blind else TIER_WORDS[one.tier],
            "score": None if is_blind else shown_score(one),
            "words": "" if is_blind else one.words,
            "open": is_open,
            "verdict": history.verdict(one.pair) if not is_open else "",
            "expected": None if now is None else list(now.place),
            "before": None if before is None or is_blind else described(before),
        }

    def decide(
        self, batch: str, choices: Sequence[Mapping[str, Any]], reviewer: str, source: str
    ) -> list[Decision]:
        """Write a batch of verdicts.

        Raises:
            MissingError: a product is not in this run.
            ConfigError: a value is none that a choice can have.
            RefusedError: decisions of others are in the way.
        """
        if source not in ("key", "page"):
            raise ConfigError(f"source={source}: choose key or page")
        made = [self._choice(one) for one in choices]
        rows = self.ledger.append(batch, made, reviewer, self.images, source, self.run)
        opened = self._recheck(product for row in rows for product in row.pair)
        given = {row.pair for row in rows}
        waits = [
            number
            for number in opened
            if number in self.audit and self.items[number].questions[0].pair in given
        ]
        if waits:  # for another reviewer
            self.queue.skip(waits, reviewer, self._clock() + NEVER_SECONDS)
        return rows

    def _choice(self, values: Mapping[str, Any]) -> Choice:
        """Read a verdict of the page."""
        left, right = str(values["left"]), str(values["right"])
        pair = pair_of(left, right)
        for product in pair:
            if product not in self.catalogue.images:
                raise MissingError(f"there is no product {product!r} in this run")
        verdict, kept = str(values["verdict"]), str(values.get("kept") or "")
        if verdict not in VERDICTS:
            raise ConfigError(f"verdict={verdict}: choose one of {', '.join(VERDICTS)}")
        number, question = self._question_of(pair, bool(values.get("blind")))
        context: dict[str, Any] = {}
        shown = (Digests("", ""), Digests("", ""))
        if question is not None:
            shown = question.evidence.shown
            context = {"proposed": question.proposed, "tier": question.tier,
                       "distance": question.distance, "evidence": question.words}  # fmt: skip
            if not math.isnan(question.score):
                context["score"] = question.score
        if number in self.audit:
            draw = self.audit[number]
            context |= {"blind": True, "draw": draw.place, "inclusion": draw.inclusion,
                        "stratum": draw.stratum}  # fmt: skip
        expected = values.get("expected")
        return Choice(
            pair, verdict, kept if kept in pair else "", shown,
            None if expected is None else _place(expected), context, str(values.get("note") or ""),
            int(values.get("took_ms", -1)),
            tuple(_place(place) for place in values.get("replaces") or ()),
        )  # fmt: skip

    def _question_of(self, pair: Pair, is_blind: bool) -> tuple[int, Question | None]:
        """Find the item that asks for a pair, with or without its score, and its question."""
        for number in self._items_of.get(pair[0], ()):
            for one in self.items[number].questions:
                if one.pair == pair and (number in self.audit) == is_blind:
                    return number, one
        return -1, None

    def undo(self, undone: str, batch: str, reviewer: str) -> list[dict[str, Any]]:
        """Undo a batch, and describe the items that are open again, leased to the reviewer."""
        rows = self.ledger.undo(undone, batch, reviewer)
        products = [product for row in rows for product in row.pair]
        opened = self._recheck(products)
        direct = {number for product in products for number in self._items_of.get(product, ())}
        own = [number for number in opened if number in direct][:MAX_HELD]
        self.queue.take(own, reviewer, self._clock())
        with self.ledger.lock:
            return [self.describe(number) for number in own]

    def owner(self, batch: str) -> str:
        """Return who made a batch; "" for none."""
        rows = self.ledger.history.batches.get(batch)
        return rows[0].reviewer if rows else ""

    def skip(self, items: Sequence[int], reviewer: str) -> None:
        """Do not show items to a reviewer until the next day."""
        self.queue.skip(self._numbers(items), reviewer, self._clock() + SKIP_SECONDS)

    def renew(self, items: Sequence[int], reviewer: str) -> float:
        """Lengthen leases; return their seconds."""
        self.queue.renew(self._numbers(items), reviewer, self._clock())
        return LEASE_SECONDS

    def release(self, items: Sequence[int], reviewer: str) -> None:
        """Give items back."""
        self.queue.release(self._numbers(items), reviewer)

    def sample(self, rule: int, reviewer: str) -> dict[str, Any]:
        """Describe random open items of a rule, and note that the reviewer looks at them."""
        with self._lock, self.ledger.lock:
            chosen = self._samples.get(rule)
            still = [number for number in chosen or () if self._is_open(number)]
            if chosen is None or not still:
                open_ = self._open_items(self._rule(rule))
                chosen = random.Random().sample(open_, min(SAMPLE, len(open_)))
                self._samples[rule] = chosen
            self._looked[reviewer, rule] |= set(chosen)
            items = [self.describe(number) for number in chosen if self._is_open(number)]
            return {"rule": self._told(rule), "items": items}

    def decide_rule(self, rule: int, batch: str, reviewer: str) -> list[Decision]:
        """Give all open pairs of a rule its proposed verdict, in one batch.

        Raises:
            ConfigError: the reviewer has not looked at the sample of the rule.
        """
        with self._lock, self.ledger.lock:
            numbers = self._open_items(self._rule(rule))
            if batch in self.ledger.history.batches:
                return self.ledger.history.batches[batch]
            sample = self._samples.get(rule, [])
            if not sample or not self._looked[reviewer, rule] >= set(sample):
                raise ConfigError(
                    f"look at {counted(min(SAMPLE, len(numbers)), 'random item')} of the rule first"
                )
            history, choices = self.ledger.history, []
            for number in numbers:
                for one in self.open_questions(self.items[number]):
                    now = history.current(one.pair)
                    if history.contradicted(one.pair, one.proposed):
                        continue  # stays open, for a person to look at
                    choices.append(
                        Choice(one.pair, one.proposed, "", one.evidence.shown,
                               None if now is None else now.place, {"rule": self._words(rule)})
                    )  # fmt: skip
        rows = self._append_rest(batch, choices, reviewer)
        self._recheck(product for row in rows for product in row.pair)
        self._samples.pop(rule, None)
        return rows

    def _append_rest(self, batch: str, choices: list[Choice], reviewer: str) -> list[Decision]:
        """Write those choices of a rule that do not contradict each other; the rest stay open."""
        while True:
            try:
                return self.ledger.append(batch, choices, reviewer, self.images, "rule", self.run)
            except RefusedError as error:
                refused = {conflict.pair for conflict in error.conflicts}
                choices = [one for one in choices if one.pair not in refused]

    def list_rules(self) -> list[dict[str, Any]]:
        """Describe the rules that have open items."""
        with self.ledger.lock:
            told = [self._told(number) for number in range(min(len(self.rules), 100))]
            return [one for one in told if one["open"]]

    def _told(self, number: int) -> dict[str, Any]:
        rule = self._rule(number)
        return {
            "rule": number, "words": self._words(number), "proposed": rule.proposed,
            "open": len(self._open_items(rule)), "total": len(rule.items),
        }  # fmt: skip

    def _words(self, number: int) -> str:
        rule = self._rule(number)
        equal = f", equal {' and '.join(rule.equal)}" if rule.equal else ""
        return f"{TIER_WORDS[rule.tier]}{equal}: {IN_WORDS[rule.proposed]}"

    def _rule(self, number: int) -> Rule:
        if not 0 <= number < len(self.rules):
            raise MissingError(f"there is no rule {number}")
        return self.rules[number]

    def _open_items(self, rule: Rule) -> list[int]:
        return [number for number in rule.items if self._is_open(number)]

    def history(self, product: str) -> dict[str, Any]:
        """Describe a product and all decisions on it, the latest first."""
        if product not in self.catalogue.images and not self.ledger.history.knows(product):
            raise MissingError(f"there is no product {product!r}")
        with self.ledger.lock:
            rows = self.ledger.history.of_product(product)
        return {
            "product": self.product(product),
            "columns": self.table.columns,
            "decisions": [self._with_state(row) for row in rows[:500]],
        }

    def latest(self, n: int = 50) -> list[dict[str, Any]]:
        """Describe the latest batches."""
        with self.ledger.lock:
            every = list(self.ledger.history.batches.values())
        batches = sorted(every, key=lambda rows: rows[0].order, reverse=True)
        return [
            {
                "batch": rows[0].batch, "reviewer": rows[0].reviewer, "made_at": rows[0].made_at,
                "source": rows[0].source, "undoes": rows[0].undoes, "n": len(rows),
                "undone": self.ledger.history.is_undone(rows[0].batch),
                "first": self._with_state(rows[0]),
            }
            for rows in batches[:n]
        ]  # fmt: skip

    def _with_state(self, row: Decision) -> dict[str, Any]:
        return {**described(row), "counts": self.ledger.history.counts(row)}

    def stats(self) -> dict[str, Any]:
        """Count what is open, and who decided how much and what."""
        now = self._clock()
        by_reviewer: dict[str, Counter[str]] = defaultdict(Counter)
        n_today = 0
        today = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        with self.ledger.lock:
            rows = list(self.ledger.history.decisions())
        for row in rows:
            by_reviewer[row.reviewer][row.verdict] += 1
            n_today += row.made_at.startswith(today)
        return {
            "open": self.queue.n_open(), "total": len(self.items), "today": n_today,
            "reviewers": {name: dict(counts) for name, counts in sorted(by_reviewer.items())},
            "holding": self.queue.holders(now), "reopened": len(self.state.reopened),
            "carried": len(self.state.renamed), "run": self.run,
        }  # fmt: skip

    def _recheck(self, products: Iterable[str]) -> list[int]:
        """Open or close the items of products, and of all that are the same.

        Returns:
            The items that are open.
        """
        with self._lock:
            reached: set[str] = set()
            with self.ledger.lock:
                for product in products:
                    if product not in reached:
                        reached |= self.ledger.history.same(product).keys()
                every = (self._items_of.get(product, ()) for product in reached)
                numbers = sorted({number for some in every for number in some})
                opened = [number for number in numbers if self._is_open(number)]
            self.queue.set_open([*set(numbers) - set(opened)], False)
            self.queue.reopen(opened)
        return opened

    def _is_open(self, number: int) -> bool:
        return bool(self.open_questions(self.items[number]))

    def _item(self, number: int) -> Item:
        if not 0 <= number < len(self.items):
            raise MissingError(f"there is no item {number}")
        return self.items[number]

    def _numbers(self, items: Collection[int]) -> list[int]:
        return [self._item(int(number)).number for number in items]

    def _facets(self) -> Iterable[tuple[str, str, int]]:
        for name in self.facets:
            for item in self.items[: len(self.items) - len(self.audit)]:
                for value in {self.table.cell(product, name) for product in item.members} - {""}:
                    yield name, value, item.number


def described(row: Decision) -> dict[str, Any]:
    """Describe a decision for the page."""
    return {
        "batch": row.batch, "seq": row.seq, "left": row.left, "right": row.right,
        "verdict": row.verdict, "kept": row.kept, "reviewer": row.reviewer, "source": row.source,
        "made_at": row.made_at, "note": row.note,
        "shown": [row.shown_left.pixels, row.shown_right.pixels],
    }  # fmt: skip


def conflict_told(conflict: Conflict) -> dict[str, Any]:
    """Describe a refused choice for the page."""
    return {
        "left": conflict.pair[0], "right": conflict.pair[1], "reason": conflict.reason,
        "decisions": [described(row) for row in conflict.decisions],
    }  # fmt: skip


def _place(value: Any) -> Place:
    """Read the name of a decision.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, list) or len(value) != 2 or type(value[1]) is not int:
        raise ConfigError(f"{value!r} names no decision: expected its batch and its number")
    return str(value[0]), value[1]


def shown_score(one: Question) -> float | None:
    """Round the score of a pair for the page; ``None`` where it says nothing of the proposal.

    A probability below 1 is never rounded to 1, and that of a copy is no reason to keep two
    products apart.
    """
    if math.isnan(one.score) or one.proposed == PROPOSED[RELATIONS[2]]:
        return None
    return one.score if one.score == 1 else min(round(one.score, 3), 0.999)
