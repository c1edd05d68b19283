"""Decide for each product whether it is kept, redirected or reviewed.

Products that are linked, directly or through others, are one class. Each class keeps one product,
and all others lead to it. So a redirect never leads to another redirect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dedup.errors import SourceError
from dedup.review.decisions import Pair

KEEP, REDIRECT, REVIEW = "keep", "redirect", "review"
"""Actions of a plan."""
NEW, CHANGED, SAME = "new", "changed", "same"
"""How an action differs from what was applied before."""
BLOCKS, FLAGS, NOTES = "blocks", "flags", "notes"
"""Weights of a conflict: always to review; to review unless people have decided; only listed."""
APPLIED, RULE = "an applied plan", "a rule"


class Link(NamedTuple):
    """A reason to merge two products.

    Attributes:
        pair: ids of the products, the smaller one first.
        reason: in words.
        decided_by: a person's name, or ``RULE``.
    """

    pair: Pair
    reason: str
    decided_by: str


class Conflict(NamedTuple):
    """A reason not to merge the products of a class, or to look at them again.

    Attributes:
        kind: a word.
        column: of the user's table; "" for others.
        products: ids of two products that differ, or of one.
        values: what they have in the column, or what was decided.
        weight: ``BLOCKS``, ``FLAGS`` or ``NOTES``.
    """

    kind: str
    column: str
    products: tuple[str, ...]
    values: tuple[str, ...]
    weight: str


class Action(NamedTuple):
    """What happens with one product.

    Attributes:
        group_id: the smallest id of its class.
        product_id: its id.
        action: ``KEEP``, ``REDIRECT`` or ``REVIEW``.
        target: the kept product that a redirect leads to; "" for others.
        reason: in words.
        decided_by: a person's name, ``RULE`` or ``APPLIED``.
        change: ``NEW``, ``CHANGED`` or ``SAME``.
        former_target: where it leads already; "" for nowhere.
    """

    group_id: str
    product_id: str
    action: str
    target: str
    reason: str
    decided_by: str
    change: str
    former_target: str


class GroupConflict(NamedTuple):
    """A conflict in a class, and whether the class goes to review for it."""

    group_id: str
    conflict: Conflict
    is_open: bool


Judge = Callable[[Sequence[str]], Iterable[Conflict]]
"""Finder of conflicts between products of one class, whose ids are sorted."""


@dataclass(frozen=True)
class Merge:
    """What is known of the products that may be merged.

    Attributes:
        alive: ids of the catalogue's products.
        links: reasons to merge.
        barriers: pairs that people keep apart, each with the verdict.
        chosen: products that people want to keep, each with its place: 0 was chosen last.
        rank: places by the rules, lower is kept first; others come after all of these.
        base: products that were retired by earlier plans, and where they lead.
    """

    alive: Collection[str]
    links: Sequence[Link]
    barriers: Mapping[Pair, str] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    rank: Mapping[str, int] = field(default_factory=dict)
    base: Mapping[str, str] = field(default_factory=dict)


def flattened(base: Mapping[str, str]) -> dict[str, str]:
    """Follow redirects to their ends: A to B and B to C gives A to C and B to C.

    Raises:
        SourceError: redirects lead in a circle.
    """
    ends: dict[str, str] = {}
    for start in base:
        path, at = [], start
        while at in base and at not in ends:
            if at in path:
                raise SourceError(
                    f"what was applied leads in a circle, from {start} over {at}: correct the "
                    "files of plan.applied"
                )
            path.append(at)
            at = base[at]
        end = ends.get(at, at)
        ends.update(dict.fromkeys(path, end))
    return ends


def merge(known: Merge, judge: Judge) -> tuple[list[Action], list[GroupConflict]]:
    """Plan the merge of all classes.

    A class with a conflict that blocks goes to review as a whole, and so does one with a conflict
    that flags, unless people have decided on all of its links. What was applied before stays as it
    is there.

    Args:
        known: products, links and earlier redirects.
        judge: finds conflicts between the products of a class.

    Returns:
        Actions by group and product, and conflicts; the same for any order of the links.
    """
    base = flattened(known.base)
    targets = frozenset(base.values())
    links = sorted(known.links)
    members = _classes([*(link.pair for link in links), *base.items()])
    home = {product: group for group, products in members.items() for product in products}
    inside: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        inside[home[link.pair[0]]].append(link)
    apart: dict[str, list[Conflict]] = defaultdict(list)
    for pair, verdict in sorted(known.barriers.items()):
        group = home.get(pair[0])
        if group is not None and home.get(pair[1]) == group:
            values = (verdict.replace("_", " "),)
            apart[group].append(Conflict("decisions", "", pair, values, BLOCKS))
    actions: list[Action] = []
    conflicts: list[GroupConflict] = []
    for group, products in members.items():
        one = _Class(group, products, inside[group], known, base, targets)
        made, found = one.plan(apart[group], judge)
        actions += made
        conflicts += found
    return sorted(actions), sorted(conflicts)


def _classes(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Collect the sorted products of each class under its smallest id (union-find)."""
    parent: dict[str, str] = {}

    def root(product: str) -> str:
        start = product
        while parent.setdefault(product, product) != product:
            product = parent[product]
        while parent[start] != product:
            parent[start], start = product, parent[start]
        return product

    for a, b in pairs:
        one, other = root(a), root(b)
        if one != other:  # the smaller id stands for the class
            parent[max(one, other)] = min(one, other)
    members: dict[str, list[str]] = defaultdict(list)
    for product in sorted(parent):
        members[root(product)].append(product)
    return members


@dataclass(frozen=True)
class _Class:
    """Products that are linked, directly or through others."""

    group: str
    products: Sequence[str]
    links: Sequence[Link]
    known: Merge
    base: Mapping[str, str]
    targets: Collection[str]

    def plan(
        self, conflicts: list[Conflict], judge: Judge
    ) -> tuple[list[Action], list[GroupConflict]]:
        """Choose the action of each product."""
        retired = [each for each in self.products if each in self.base]
        alive = self.known.alive
        live = [each for each in self.products if each in alive and each not in self.base]
        if not retired and len(live) < 2:
            return [], []  # the other products are gone: there is nothing to merge
        chosen = sorted(filter(self.known.chosen.__contains__, self.products), key=self._place)
        newest = next((each for each in chosen if each in self.base or each in live), "")
        if newest in self.base and live:
            values = (f"leads to {self.base[newest]} already",)
            conflicts = [*conflicts, Conflict("kept_is_retired", "", (newest,), values, BLOCKS)]
        if len(live) > 1:
            conflicts = [*conflicts, *judge(self.products)]
        is_decided = all(link.decided_by != RULE for link in self.links)
        open_ones = [self._is_open(each, is_decided) for each in conflicts]
        found = [
            GroupConflict(self.group, each, is_open)
            for each, is_open in zip(conflicts, open_ones, strict=True)
        ]
        if any(open_ones) or not live:
            return self._left(live, retired, found)
        kept = newest or min(live, key=self._place)
        return [self._kept(kept, newest), *self._redirected(kept)], found

    def _place(self, product: str) -> tuple[int, int, str]:
        """Sort key of the product to keep, the smallest first."""
        last = len(self.known.chosen)
        rank = self.known.rank.get(product, len(self.known.rank))
        return self.known.chosen.get(product, last), rank, product

    @staticmethod
    def _is_open(conflict: Conflict, is_decided: bool) -> bool:
        return conflict.weight == BLOCKS or (conflict.weight == FLAGS and not is_decided)

    def _kept(self, kept: str, chosen: str) -> Action:
        by, reason = RULE, "kept by the rules of the grouping"
        if kept == chosen:
            people = [link.decided_by for link in self.links
                      if kept in link.pair and link.decided_by != RULE]  # fmt: skip
            by, reason = people[0] if people else RULE, "chosen"
        is_target = kept in self.targets
        return Action(self.group, kept, KEEP, "", reason, by, SAME if is_target else NEW, "")

    def _redirected(self, kept: str) -> list[Action]:
        """Redirect all products of the class but the kept one and those that are gone."""
        links: dict[str, Link] = {}
        for link in self.links:  # direct ones before others, people's before a rule's
            for one, other in (link.pair, link.pair[::-1]):
                best = links.get(one)
                order = (other != kept, link.decided_by == RULE)
                if best is None or order < (kept not in best.pair, best.decided_by == RULE):
                    links[one] = link
        actions = []
        for product in self.products:
            former = self.base.get(product, "")
            if product == kept or not (former or product in self.known.alive):
                continue
            if former:
                change = SAME if former == kept else CHANGED
                reason = "applied before" if former == kept else f"led to {former} before"
                by = APPLIED
            else:
                link = links[product]
                other = link.pair[link.pair[0] == product]
                through = "" if other == kept else f"through {other}: "
                change, reason, by = NEW, f"{through}{link.reason}", link.decided_by
            actions.append(Action(self.group, product, REDIRECT, kept, reason, by, change, former))
        return actions

    def _left(
        self, live: Sequence[str], retired: Sequence[str], found: list[GroupConflict]
    ) -> tuple[list[Action], list[GroupConflict]]:
        """Leave a class for review, and what was applied in it as it is."""
        ends = {self.base[each] for each in retired}
        actions = []
        for product in live:
            if product in ends:
                reason, by = "others lead to it already; its class is to be reviewed", APPLIED
                actions.append(Action(self.group, product, KEEP, "", reason, by, SAME, ""))
            else:
                kinds = dict.fromkeys(each.conflict.kind for each in found if each.is_open)
                reason = f"conflict: {', '.join(kinds)}"
                actions.append(Action(self.group, product, REVIEW, "", reason, RULE, NEW, ""))
        for product in retired:
            end = self.base[product]
            if end in live:
                actions.append(
                    Action(self.group, product, REDIRECT, end, "applied before", APPLIED, SAME, end)
                )
                continue
            conflict = Conflict("target_is_gone", "", (product, end), (), BLOCKS)
            found = [*found, GroupConflict(self.group, conflict, True)]
            reason = f"it leads to {end}, which is gone"
            actions.append(Action(self.group, product, REVIEW, "", reason, APPLIED, CHANGED, end))
        return actions, found


State = tuple[frozenset[str], dict[str, str]]
"""Ids of the products that can be bought, and where retired ones lead."""


def applied(state: State, actions: Iterable[Action]) -> State:
    """Do what a plan says: retire products, and set their redirects."""
    alive, base = set(state[0]), dict(state[1])
    for each in actions:
        if each.action == REDIRECT:
            alive.discard(each.product_id)
            base[each.product_id] = each.target
    return frozenset(alive), base


def undone(state: State, actions: Iterable[Action], before: Collection[str]) -> State:
    """Take back what a plan says.

    Args:
        state: after the plan.
        actions: of the plan.
        before: ids of the products that could be bought before it.
    """
    alive, base = set(state[0]), dict(state[1])
    for each in actions:
        if each.action != REDIRECT or each.change == SAME:
            continue
        if each.former_target:
            base[each.product_id] = each.former_target
        else:
            del base[each.product_id]
            alive |= {each.product_id} & set(before)
    return frozenset(alive), base
