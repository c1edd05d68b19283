"""People's decisions in a detection: their pairs are settled, and groups follow them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.detection.constraints import Union
from dedup.detection.detector import Detector
from dedup.detection.grouping import LINKAGES, Grouping
from dedup.detection.results import DetectionResult
from dedup.reports import decided
from dedup.review.decisions import pair_of
from dedup.review.history import History
from dedup.review.ledger import Choice, RefusedError
from dedup.review.sqlite import SqliteLedger
from dedup.review.standing import Catalogue, Links
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from tests.detection.test_detector import as_dict, make_index
from tests.detection.test_grouping import Link, as_sets, index_of, links, names, pairs_of
from tests.support.effort import examples

decisions = st.lists(
    st.tuples(names, names, st.sampled_from(["duplicate", "different"])).filter(
        lambda one: one[0] != one[1]
    ),
    max_size=8,
)


@pytest.mark.parametrize("linkage", LINKAGES)
@settings(deadline=None, max_examples=examples(45), derandomize=True)
@given(found=links)
def test_without_decisions_groups_are_as_ever(linkage: str, found: list[Link]) -> None:
    pairs, index = pairs_of(found), index_of()
    grouping = Grouping(linkage)
    pd.testing.assert_frame_equal(
        grouping(pairs, index, links=Links()), grouping(pairs, index), check_dtype=False
    )


@pytest.mark.parametrize("linkage", LINKAGES)
@settings(deadline=None, max_examples=examples(60), derandomize=True)
@given(found=links, given_=decisions)
def test_groups_follow_decisions(
    linkage: str, found: list[Link], given_: list[tuple[str, str, str]]
) -> None:
    ledger = ledger_of(given_)
    rows = [*ledger.history.decisions()]
    same = [row.pair for row in rows if row.verdict == "duplicate"]
    apart = {row.pair: row.verdict for row in rows if row.verdict == "different"}
    pairs = pairs_of([*found, *((a, b, "near", 0.5) for a, b in same)])
    groups = Grouping(linkage)(pairs, index_of(), links=Links(same, apart))
    home = dict(zip(groups["product_id"], groups["group_id"], strict=True))
    for one, other in same:
        assert home[one] == home[other]
    for product in home:
        for other in home:
            if ledger.history.verdict(pair_of(product, other)) == "different":
                assert home[product] != home[other]
    assert groups.groupby("group_id")["kept"].sum().eq(1).all()


def ledger_of(given_: Sequence[tuple[str, str, str]], index: Index | None = None) -> SqliteLedger:
    """A ledger of those decisions that do not contradict the earlier ones."""
    ledger = SqliteLedger(":memory:")
    catalogue = Catalogue({}, {}) if index is None else Catalogue.of(index)
    for number, (one, other, verdict) in enumerate(given_):
        now = ledger.history.current(pair_of(one, other))
        choice = Choice(pair_of(one, other), verdict, expected=None if now is None else now.place)
        try:
            ledger.append(
                f"{number}", [choice], "ann", lambda key: catalogue.images.get(key, frozenset())
            )
        except RefusedError:
            continue
    return ledger


def test_the_kept_product_is_the_reviewers() -> None:
    pairs = pairs_of([("A", "B", "near", 0.5), ("B", "C", "near", 0.5)])
    groups = Grouping()(pairs, index_of(), links=Links([("A", "B")], {}, ["B"]))
    assert as_sets(groups) == {"B": {"A", "B", "C"}}


SHOP = {"a": [1], "b": [1, 2], "c": [2], "d": [3], "e": [3], "f": [4], "g": [5]}


def detected(index: Index, ledger: SqliteLedger | None, threshold: float = 0.0) -> DetectionResult:
    return Detector(RadiusSearch(threshold), Grouping("single"), health=None, ledger=ledger)(index)[
        0
    ]


def test_decided_pairs_are_settled(tmp_path: Path) -> None:
    index = make_index(SHOP)
    before = detected(index, None)
    assert [*as_dict(before.pairs)] == [("a", "b"), ("b", "c"), ("d", "e")]
    assert not len(before.decided)
    ledger = ledger_of(
        [("a", "b", "duplicate"), ("b", "c", "different"), ("f", "g", "duplicate")], index
    )
    after = detected(index, ledger)
    assert [*as_dict(after.pairs)] == [("a", "b"), ("d", "e"), ("f", "g")]
    row = after.pairs.iloc[2]
    assert (row["tier"], row["score"], row["evidence"]) == ("near", 1.0, "confirmed")
    assert as_dict(after.pairs)["f", "g"] > 0
    assert as_sets(after.groups) == {"b": {"a", "b"}, "d": {"d", "e"}, "f": {"f", "g"}}
    states = after.decided[["product_id_a", "product_id_b", "verdict", "state"]]
    assert states.to_numpy().tolist() == [
        ["a", "b", "duplicate", "decided"], ["b", "c", "different", "decided"],
    ]  # fmt: skip
    assert decided.summary(after) == "2 pairs settled by people's decisions (ann 2)"
    assert set(decided.open_groups(after)["group_id"]) == {"d", "f"}
    replace(after, search=None).save(tmp_path)
    loaded = DetectionResult.load(tmp_path).decided
    pd.testing.assert_frame_equal(loaded, after.decided, check_dtype=False)


def test_a_new_image_is_asked_again() -> None:
    ledger = ledger_of([("a", "b", "different")], make_index(SHOP))
    index = make_index({**SHOP, "a": [2]})
    after = detected(index, ledger)
    assert after.decided["state"].tolist() == ["reopened"]
    assert ("a", "b") in as_dict(after.pairs)
    assert "1 pair to be asked again" in decided.summary(after)


def test_an_empty_ledger_changes_nothing() -> None:
    index = make_index(SHOP)
    before, after = detected(index, None, 2.0), detected(index, ledger_of([]), 2.0)
    for name in ("pairs", "groups", "related", "candidates", "families"):
        pd.testing.assert_frame_equal(
            getattr(after, name), getattr(before, name), check_dtype=False
        )


def test_a_variant_stays_related() -> None:
    index = make_index(SHOP)
    after = detected(index, ledger_of([("d", "e", "variant")], index))
    assert [*as_dict(after.related)] == [("d", "e")]
    assert after.related["relation"].tolist() == ["colour variant"]
    assert after.families["product_id"].tolist() == ["d", "e"]


def test_history_agrees_with_joined_sets() -> None:
    """``same`` walks; sets that are joined share no code with it."""
    draw = np.random.default_rng(0)
    rows = [tuple(sorted(draw.choice(40, 2, replace=False))) for _ in range(30)]
    ids = [f"{number:02}" for number in range(40)]
    ledger = ledger_of([(ids[a], ids[b], "duplicate") for a, b in rows])
    history: History = ledger.history
    union = Union(40)
    for a, b in rows:
        union.join(int(a), int(b))
    for a in range(40):
        same = {ids[b] for b in range(40) if union.root(a) == union.root(b)}
        assert set(history.same(ids[a])) == same
