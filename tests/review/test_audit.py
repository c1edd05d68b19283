"""The audit: how pairs are drawn, and how the page asks for them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from dedup.review.audit import (
    EVERY,
    REPORTED,
    Draw,
    Frame,
    for_calibration,
    interleaved,
    label,
    second_opinions,
    weights_of,
)
from dedup.review.desk import Desk
from dedup.review.items import Question
from dedup.review.standing import Catalogue, Evidence
from tests.support.reviews import Running, Shop, choice, memory

SCORES = np.array([0.999, 0.9, 0.6, 0.3, 0.1, np.nan])
IS_REPORTED = np.array([True, True, True, False, False, False])


def test_weights_go_to_doubtful_pairs_and_leave_none_out() -> None:
    weights = weights_of(np.nan_to_num(SCORES, nan=0.5), IS_REPORTED)
    assert weights.sum() == pytest.approx(1)
    assert weights[IS_REPORTED].sum() == pytest.approx(REPORTED)
    assert weights[2] > weights[1] > weights[0] > 0.1
    assert weights[5] > weights[4]
    assert weights_of(SCORES[:3], IS_REPORTED[:3]).sum() == pytest.approx(1)
    assert not len(weights_of(SCORES[:0], IS_REPORTED[:0]))


def test_pairs_are_drawn_with_the_stated_probability() -> None:
    pairs = [(f"a{n}", f"b{n}") for n in range(6)]
    frames = [Frame.of(pairs, SCORES, IS_REPORTED, f"run {n}") for n in range(4000)]
    weights = frames[0].weights
    first, second = Counter[int](), Counter[int]()
    for frame in frames:
        draws = frame.draws(6)
        assert [pair for pair, _ in draws] == [pairs[at] for at in frame.order]
        assert draws[0][1].inclusion == pytest.approx(weights[frame.order[0]])
        left = 1 - weights[frame.order[0]]
        assert draws[1][1].inclusion == pytest.approx(weights[frame.order[1]] / left)
        assert draws[5][1].inclusion == pytest.approx(1)
        first[frame.order[0]] += 1
        if frame.order[0] == 2:
            second[frame.order[1]] += 1
    for at, weight in enumerate(weights):
        spread = np.sqrt(4000 * weight * (1 - weight))
        assert abs(first[at] - 4000 * weight) < 4 * spread
    n = first[2]
    for at in (0, 1, 3, 4, 5):
        chance = weights[at] / (1 - weights[2])
        assert abs(second[at] - n * chance) < 4 * np.sqrt(n * chance * (1 - chance))
    again = Frame.of(pairs[::-1], SCORES[::-1], IS_REPORTED[::-1], "run 0")
    assert [pair for pair, _ in again.draws(6)] == [pair for pair, _ in frames[0].draws(6)]


def test_one_item_in_twenty_is_audited() -> None:
    order = interleaved(range(100), range(1000, 1010), first=2)
    assert order[:2] == [1000, 1001]
    assert [at for at, item in enumerate(order[2:], 1) if item >= 1000] == [
        EVERY, 2 * EVERY, 3 * EVERY, 4 * EVERY, 5 * EVERY,
    ]  # fmt: skip
    assert [item for item in order if item < 1000] == [*range(100)]


def test_a_calibration_asks_half_by_chance_and_a_quarter_each_at_the_threshold_and_of_new() -> None:
    doubt = {item: abs(item - 7) for item in range(40)}
    seen = {item: 40 - item for item in range(40)}
    order = for_calibration(range(40), range(1000, 1020), doubt, seen)
    assert sorted(order) == [*range(40), *range(1000, 1020)]
    assert order[:8] == [1000, 7, 1001, 39, 1002, 6, 1003, 38]


def audited(shop: Shop, pairs: Sequence[tuple[str, str]], second: Sequence[int] = ()) -> Desk:
    catalogue = Catalogue.of(shop.index())
    audit = []
    for place, pair in enumerate(pairs):
        shown = tuple(sorted(catalogue.images[end])[0] for end in pair)
        question = Question(Evidence(pair, (shown[0], shown[1])), "", "near", 0.77, 0.5, "mirrored")
        audit.append((question, Draw(place, 0.25, 3, place in second)))
    return shop.desk(memory(), audit=audit, n_first=len(audit))


def test_an_audited_pair_is_shown_without_what_the_search_thinks() -> None:
    running = Running(audited(Shop(), [("g0-a", "g0-b"), ("g0-a", "g2-a")]))
    try:
        ann = running.client("ann")
        first, second, *others = ann.get("/api/work?n=9")["items"]
        (question,) = first["questions"]
        assert question["blind"]
        assert (question["score"], question["words"], question["tier"]) == (None, "", "")
        assert question["proposed"] == ""
        assert not any(one["blind"] for item in others for one in item["questions"])
        assert "0.77" not in str(first)
        assert ann.decide("1", choice("g0-a", "g0-b", "duplicate", blind=True))[0] == 201
        (row,) = running.desk.ledger.history.batches["1"]
        assert (row.context["blind"], row.context["draw"]) == (True, 0)
        assert row.context["score"] == 0.77
        assert row.context["inclusion"] == 0.25
        left = [item["item"] for item in ann.get("/api/work?n=9")["items"]]
        assert first["item"] not in left
        assert second["item"] in left
        assert len(left) == 1 + len(others) - 1  # the group of g0 is settled, too
    finally:
        running.stop()


def test_a_rule_gives_no_label() -> None:
    desk = audited(Shop(), [("g0-a", "g0-b")])
    for rule in range(len(desk.rules)):
        desk.sample(rule, "ann")
        desk.decide_rule(rule, f"rule {rule}", "ann")
    history = desk.ledger.history
    assert history.verdict(("g0-a", "g0-b")) == "duplicate"
    assert label(history, ("g0-a", "g0-b")) == ""
    (item,) = desk.next(9, "ann")["items"]
    (question,) = item["questions"]
    made = choice("g0-a", "g0-b", "different", blind=True, expected=question["expected"])
    desk.decide("2", [made], "ann", "key")
    assert label(history, ("g0-a", "g0-b")) == "different"
    assert not desk.next(9, "ann")["items"]


def test_a_second_person_is_asked_where_there_is_one() -> None:
    desk = audited(Shop(), [("g0-a", "g0-b")], second=[0])
    desk.decide("0", [choice("g2-a", "g2-b", "duplicate")], "bob", "key")
    (blind,) = (one for one in desk.next(9, "ann")["items"] if one["questions"][0]["blind"])
    desk.decide("1", [choice("g0-a", "g0-b", "duplicate", blind=True)], "ann", "key")
    assert blind["item"] not in [one["item"] for one in desk.next(9, "ann")["items"]]
    (again,) = (one for one in desk.next(9, "bob")["items"] if one["questions"][0]["blind"])
    assert again["questions"][0]["before"] is None
    made = choice("g0-a", "g0-b", "different", blind=True,
                  expected=again["questions"][0]["expected"])  # fmt: skip
    desk.decide("2", [made], "bob", "key")
    both = second_opinions(desk.ledger.history, ("g0-a", "g0-b"))
    assert both is not None
    assert [row.verdict for row in both] == ["duplicate", "different"]
    assert blind["item"] not in [one["item"] for one in desk.next(9, "bob")["items"]]


def test_a_single_person_is_not_kept_waiting() -> None:
    desk = audited(Shop(sizes=(2,)), [("g0-a", "g0-b")], second=[0])
    desk.decide("1", [choice("g0-a", "g0-b", "duplicate", blind=True)], "ann", "key")
    assert desk.next(9, "ann")["open"] == 0
