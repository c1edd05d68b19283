"""Which decisions hold when a catalogue is searched again: each situation on its own."""

from dataclasses import dataclass, field

import pytest

from dedup.review.decisions import Digests, pair_of
from dedup.review.ledger import Choice, Images
from dedup.review.sqlite import SqliteLedger
from dedup.review.standing import Catalogue, Evidence, Standing, standing


def images(names: str) -> Images:
    """One image for each letter: its pixels and bytes have the same name."""
    return frozenset(image(name) for name in names.split())


def image(name: str) -> Digests:
    """``x`` has pixels px and bytes bx; ``x/y`` the pixels of x and the bytes of y."""
    pixels, _, content = name.partition("/")
    return Digests(f"p{pixels}", f"b{content or pixels}")


BEFORE = {"a": "1 2", "b": "3 4", "c": "5", "d": "6"}
"""The products when they were decided on, and their images."""
ALL = [("ab", "duplicate", "1 3"), ("cd", "different", "5 6")]


@dataclass
class Case:
    """A later run.

    Attributes:
        now: its products and their images.
        proposed: two products and their images as evidence.
        decided: pairs, verdicts and evidence of the earlier run.
        settled: verdict by pair that is not asked.
        reopened: pairs that are asked again.
        renamed: pairs that were carried over.
        gone: pairs without evidence.
    """

    now: dict[str, str] = field(default_factory=lambda: BEFORE)
    proposed: list[tuple[str, str]] = field(default_factory=lambda: [("ab", "1 3"), ("cd", "5 6")])
    decided: list[tuple[str, str, str]] = field(default_factory=lambda: ALL)
    settled: dict[str, str] = field(default_factory=dict)
    reopened: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=lambda: BEFORE)


BOTH = {"ab": "duplicate", "cd": "different"}
CHAIN = [("ab", "duplicate", "1 3"), ("ac", "duplicate", "1 5")]
CASES = {
    "the same run again, or retrained: no score is in a key": Case(settled=BOTH),
    "another threshold: a pair is not proposed": Case(
        proposed=[("cd", "5 6")], settled={"cd": "different"}
    ),
    "other groups: a pair follows from others": Case(
        decided=CHAIN, proposed=[("bc", "3 5")], settled={"bc": "duplicate"}
    ),
    "what follows is asked if an image is new": Case(
        decided=CHAIN, now={**BEFORE, "c": "5 9"}, proposed=[("bc", "3 9")]
    ),
    "other evidence that was there, too": Case(
        proposed=[("ab", "2 4")], settled={"ab": "duplicate"}
    ),
    "the evidence is a new image": Case(
        now={**BEFORE, "b": "9"}, proposed=[("ab", "1 9"), ("cd", "5 6")],
        settled={"cd": "different"}, reopened=["ab"],
    ),
    "an image was added that is no evidence": Case(now={**BEFORE, "a": "1 2 9"}, settled=BOTH),
    "an image was removed that is no evidence": Case(now={**BEFORE, "a": "1"}, settled=BOTH),
    "another reader: the bytes decide": Case(
        now={"a": "a/1 b/2", "b": "c/3 d/4", "c": "e/5", "d": "f/6"},
        proposed=[("ab", "a/1 c/3"), ("cd", "e/5 f/6")], settled=BOTH,
    ),
    "saved again without a change: the pixels decide": Case(
        now={**BEFORE, "a": "1/x 2/y"}, proposed=[("ab", "1/x 3")], settled={"ab": "duplicate"}
    ),
    "a new id has exactly the images of one that is gone": Case(
        now={"z": "1 2", "b": "3 4", "c": "5", "d": "6"}, proposed=[("bz", "3 1")],
        settled={"bz": "duplicate"}, renamed=["bz"],
    ),
    "two new ids have them": Case(
        now={"y": "1 2", "z": "1 2", "b": "3 4", "c": "5", "d": "6"}, proposed=[("bz", "3 1")]
    ),
    "two old ids had them": Case(
        before={**BEFORE, "e": "1 2"}, now={"z": "1 2", "b": "3 4"}, proposed=[("bz", "3 1")]
    ),
    "the new id is an old one": Case(
        before={**BEFORE, "z": "7"}, now={"z": "1 2", "b": "3 4"}, proposed=[("bz", "3 1")]
    ),
    "the new id has some of the images alone": Case(
        now={"z": "1", "b": "3 4"}, proposed=[("bz", "3 1")]
    ),
    "both products were renamed": Case(
        now={"y": "3 4", "z": "1 2"}, proposed=[("yz", "3 1")], settled={"yz": "duplicate"},
        renamed=["yz"],
    ),
    "a duplicate without the images that were looked at": Case(
        now={**BEFORE, "a": "2"}, proposed=[], gone=["ab"]
    ),
    "a product is gone": Case(now={"b": "3 4"}, proposed=[]),
}  # fmt: skip


def found(case: Case) -> tuple[SqliteLedger, Standing]:
    """Decide, and look at the later run."""
    ledger = SqliteLedger(":memory:")
    before = Catalogue({key: images(some) for key, some in case.before.items()}, {})
    for pair, verdict, shown in case.decided:
        left, right = map(image, shown.split())
        choice = Choice(pair_of(*pair), verdict, shown=(left, right))
        ledger.append(pair, [choice], "ann", before.images.__getitem__)
    ledger.saw(before.prints())
    now = Catalogue({key: images(some) for key, some in case.now.items()}, {})
    evidence = []
    for pair, shown in case.proposed:
        left, right = map(image, shown.split())
        evidence.append(Evidence(pair_of(*pair), (left, right)))
    return ledger, standing(ledger, now, evidence)


@pytest.mark.parametrize("name", CASES)
def test_what_holds(name: str) -> None:
    case = CASES[name]
    _, state = found(case)
    assert {"".join(pair): state.verdict(pair) for pair in state.settled} == case.settled
    assert ["".join(pair) for pair in state.reopened] == case.reopened
    assert ["".join(one.pair) for one in state.renamed] == case.renamed
    assert ["".join(row.pair) for row in state.gone] == case.gone


def test_what_was_carried_over_is_undone_in_one_step() -> None:
    case = CASES["a new id has exactly the images of one that is gone"]
    ledger, state = found(case)
    now = Catalogue({key: images(some) for key, some in case.now.items()}, {})
    choices = [one.choice() for one in state.renamed]
    rows = ledger.append("carried", choices, "ann", now.images.__getitem__, "carried")
    assert [(row.pair, row.verdict, row.source) for row in rows] == [
        (("b", "z"), "duplicate", "carried")
    ]
    asked = [Evidence(("b", "z"), (image("3"), image("1")))]
    again = standing(ledger, now, asked)
    assert [*again.settled] == [("b", "z")]
    assert not again.renamed
    ledger.undo("carried", "undo", "ann")
    after = standing(ledger, now, asked)
    assert not after.settled
    assert not after.renamed


def test_links_join_what_vanished_products_joined() -> None:
    case = Case(decided=CHAIN, now={"b": "3 4", "c": "5"}, proposed=[])
    _, state = found(case)
    assert sorted(state.links.same) == [("a", "b"), ("a", "c")]
    assert not state.links.apart
