"""Laws of a merge, over thousands of drawn graphs of decisions."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.actions.merge import (
    BLOCKS,
    FLAGS,
    KEEP,
    REDIRECT,
    REVIEW,
    RULE,
    Action,
    Conflict,
    GroupConflict,
    Link,
    Merge,
    applied,
    flattened,
    merge,
    undone,
)
from dedup.errors import SourceError

N_GRAPHS = 10_000


@dataclass(frozen=True)
class Graph:
    """Drawn products and decisions, and a column in which some of them differ."""

    known: Merge
    colours: dict[str, str]

    def judge(self, products: Sequence[str]) -> Iterator[Conflict]:
        """A conflict where two products have other colours; red ones are only flagged."""
        colours = sorted({self.colours[each] for each in products} - {""})
        if len(colours) > 1:
            yield Conflict("differs", "c", (), (), FLAGS if "red" in colours else BLOCKS)

    def plan(self, **changes: object) -> tuple[list[Action], list[GroupConflict]]:
        return merge(replace(self.known, **changes), self.judge)  # type: ignore[arg-type]


def drawn(rng: random.Random) -> Graph:
    """A graph of up to 12 products."""
    products = [f"p{number}" for number in range(rng.randint(2, 12))]
    rng.shuffle(products)
    pairs = [(a, b) for a in products for b in products if a < b]
    share = rng.choice([0.05, 0.12, 0.3])
    linked = [pair for pair in pairs if rng.random() < share]
    others = [pair for pair in pairs if pair not in linked]
    return Graph(
        Merge(
            alive={each for each in products if rng.random() < 0.95},
            links=[Link(pair, "why", rng.choice([RULE, "ann", "bob"])) for pair in linked],
            barriers={pair: "different" for pair in others if rng.random() < 0.02},
            chosen={each: place for place, each in enumerate(rng.sample(products, len(products)))
                    if rng.random() < 0.2},
            rank={each: rng.randint(0, 3) for each in products if rng.random() < 0.5},
        ),
        {each: rng.choice(["", "", "", "blue", "blue", "red"] if rng.random() < 0.3 else [""])
         for each in products},
    )  # fmt: skip


def graphs(n: int, seed: int) -> Iterator[tuple[random.Random, Graph]]:
    rng = random.Random(seed)
    for _ in range(n):
        yield rng, drawn(rng)


def with_base(rng: random.Random, graph: Graph) -> Graph:
    """The graph after a part of its plan was applied, some of it over a further product."""
    actions, _ = graph.plan()
    base = {each.product_id: each.target for each in actions
            if each.action == REDIRECT and rng.random() < 0.7}  # fmt: skip
    if base and rng.random() < 0.3:
        first = min(base)
        base |= {"older": first}
    return Graph(replace(graph.known, base=base), {**graph.colours, "older": ""})


def check_laws(graph: Graph, actions: list[Action], conflicts: list[GroupConflict]) -> None:
    """What holds of every plan."""
    known, of = graph.known, {each.product_id: each for each in actions}
    assert len(of) == len(actions), "a product has two actions"
    base = flattened(known.base)
    for each in actions:
        if each.action == REDIRECT:
            target = of[each.target]
            assert target.action == KEEP
            assert each.target in known.alive
            assert each.target not in base
            assert each.target != each.product_id
            assert target.group_id == each.group_id
        else:
            assert each.target == ""
        assert (each.change == "new") == (each.former_target == "") or each.action == KEEP
    assert set(base) <= set(of), "a retired product is forgotten"
    for product in base:
        assert of[product].action in (REDIRECT, REVIEW)
    opened = {each.group_id for each in conflicts if each.is_open}
    assert {each.group_id for each in actions if each.action == REVIEW} <= opened
    merged = {each.group_id for each in actions if each.change == "new" and each.action == REDIRECT}
    assert not merged & opened
    for a, b in known.barriers:
        one, other = (of[key].target or key if key in of else key for key in (a, b))
        assert one != other or {a, b} & set(base)


def test_every_plan_obeys_the_laws() -> None:
    n_redirects = 0
    for rng, graph in graphs(N_GRAPHS, seed=1):
        for one in (graph, with_base(rng, graph)):
            actions, conflicts = one.plan()
            check_laws(one, actions, conflicts)
            n_redirects += sum(each.action == REDIRECT for each in actions)
    assert n_redirects > 2 * N_GRAPHS


def test_the_order_of_rows_does_not_matter() -> None:
    for rng, graph in graphs(N_GRAPHS // 5, seed=2):
        known = with_base(rng, graph).known
        mixed = replace(
            known, links=rng.sample(list(known.links), len(known.links)),
            **{name: dict(rng.sample(list(getattr(known, name).items()), len(getattr(known, name))))
               for name in ("barriers", "chosen", "rank", "base")},
        )  # fmt: skip
        colours = {**graph.colours, "older": ""}
        assert Graph(known, colours).plan() == Graph(mixed, colours).plan()


def test_a_plan_that_is_undone_leaves_what_was_there() -> None:
    for rng, graph in graphs(N_GRAPHS // 2, seed=3):
        one = with_base(rng, graph)
        actions, _ = one.plan()
        base = flattened(one.known.base)
        before = (frozenset(set(one.known.alive) - set(base)), base)
        after = applied(before, actions)
        assert undone(after, actions, before[0]) == before


def test_two_plans_in_a_row_are_one_of_both() -> None:
    n_equal = n_refused = 0
    for rng, graph in graphs(N_GRAPHS // 2, seed=4):
        early = [link for link in graph.known.links if rng.random() < 0.5]
        first, _ = graph.plan(links=early)
        alive, base = applied((frozenset(graph.known.alive), {}), first)
        second, conflicts = graph.plan(base=base)
        whole, of_whole = graph.plan()
        refused = {each.group_id for each in [*conflicts, *of_whole] if each.is_open}
        n_refused += len(refused)
        if not refused:
            names = [(each.group_id, each.product_id, each.action, each.target) for each in whole]
            assert names == [(each[0], each[1], each[2], each[3]) for each in second]
            n_equal += bool(names)
            again, _ = graph.plan(base=applied((alive, base), second)[1])
            assert {each.change for each in again} <= {"same"}
            check_laws(graph, second, conflicts)
    assert n_equal > N_GRAPHS // 10
    assert n_refused > N_GRAPHS // 100


@given(st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_laws_hold_for_graphs_that_hypothesis_draws(rng: random.Random) -> None:
    one = with_base(rng, drawn(rng))
    check_laws(one, *one.plan())


@pytest.mark.stress
@given(st.randoms(use_true_random=False))
@settings(max_examples=10_000, deadline=None)
def test_the_laws_hold_for_ten_thousand_more(rng: random.Random) -> None:
    one = with_base(rng, drawn(rng))
    check_laws(one, *one.plan())


def link(a: str, b: str, by: str = "ann") -> Link:
    return Link((a, b), "why", by)


ALIVE = set("ABCDE")
CASES = {
    "a chain is one class": (
        Merge(ALIVE, [link("A", "B"), link("B", "C")]),
        "A keep | B redirect A | C redirect A",
    ),
    "the product chosen last is kept": (
        Merge(ALIVE, [link("A", "B"), link("B", "C")], chosen={"C": 0, "B": 1}),
        "A redirect C | B redirect C | C keep",
    ),
    "the grouping's choice comes next": (
        Merge(ALIVE, [link("A", "B")], rank={"B": 0}), "A redirect B | B keep",
    ),
    "what leads to a retired product is led on": (
        Merge(ALIVE, [link("B", "C")], chosen={"C": 0}, base={"A": "B"}),
        "A redirect C | B redirect C | C keep",
    ),
    "a verdict that contradicts the class": (
        Merge(ALIVE, [link("A", "B"), link("B", "C")], barriers={("A", "C"): "variant"}),
        "A review | B review | C review",
    ),
    "what was applied stays in a class under review": (
        Merge(ALIVE, [link("B", "C")], barriers={("B", "C"): "different"}, base={"A": "B"}),
        "A redirect B | B keep | C review",
    ),
    "a product that is chosen after it was retired": (
        Merge(ALIVE, [link("B", "C")], chosen={"A": 0}, base={"A": "B"}),
        "A redirect B | B keep | C review",
    ),
    "a target that is gone": (Merge(ALIVE, [], base={"A": "X"}), "A review"),
    "a target that was merged since": (
        Merge(ALIVE, [], base={"A": "X", "X": "B"}), "A redirect B | B keep | X redirect B",
    ),
    "a duplicate that is gone": (Merge(ALIVE, [link("A", "X")]), ""),
    "duplicates of a product that is gone": (
        Merge(ALIVE, [link("A", "X"), link("B", "X")]), "A keep | B redirect A",
    ),
    "a rule does not decide where people differ": (
        Merge(ALIVE, [link("A", "B", RULE)], barriers={("A", "B"): "different"}),
        "A review | B review",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_becomes_of_products(case: str) -> None:
    known, expected = CASES[case]
    actions, _ = merge(known, lambda products: ())
    texts = (f"{each.product_id} {each.action} {each.target}".strip() for each in actions)
    assert " | ".join(texts) == expected


def test_a_flag_holds_back_rules_and_no_people() -> None:
    def judge(products: Sequence[str]) -> list[Conflict]:
        return [Conflict("differs", "size", tuple(products), (), FLAGS)]

    for by, is_open in ((RULE, True), ("ann", False)):
        actions, conflicts = merge(Merge(ALIVE, [link("A", "B", by)]), judge)
        assert [each.is_open for each in conflicts] == [is_open]
        assert (actions[0].action == REVIEW) == is_open


@pytest.mark.parametrize("base", [{"A": "B", "B": "A"}, {"A": "A"}])
def test_redirects_in_a_circle_are_refused(base: dict[str, str]) -> None:
    with pytest.raises(SourceError, match="in a circle"):
        merge(Merge(ALIVE, [], base=base), lambda products: ())
