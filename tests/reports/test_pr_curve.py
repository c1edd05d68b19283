"""Laws of the plot: everything inside the drawing, in its order, and named."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.reports.pr_curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw, ticks
from tests.support.effort import examples

CURVE: list[dict[str, float | None]] = [
    {"threshold": 0.1, "precision": 0.5, "recall": 1.0},
    {"threshold": 0.5, "precision": 0.9, "recall": 0.8},
    {"threshold": 0.9, "precision": 1.0, "recall": 0.2},
]
WIDE = 0.64  # of a letter against its height: a digit of the widest common sans serif
shares = st.one_of(st.none(), st.floats(0, 1))
places = st.floats(0, 10).map(lambda value: round(value, 4))
ends = st.floats(-1e6, 1e6).map(lambda value: round(value, 6))
curves = st.lists(
    st.fixed_dictionaries({"threshold": places, "precision": shares, "recall": shares}), max_size=30
)


def drawn(
    curve: list[dict[str, float | None]], threshold: float = 0.5, axis: str = "score"
) -> ElementTree.Element:
    """The plot, read by a strict parser."""
    return ElementTree.fromstring(draw(curve, threshold, axis))


def of_class(svg: ElementTree.Element, tag: str, kind: str) -> list[ElementTree.Element]:
    return [it for it in svg.iter(tag) if it.get("class") == kind]


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    """The places of a line."""
    pairs = (pair.split(",") for pair in line.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def lines(svg: ElementTree.Element, kind: str) -> list[list[tuple[float, float]]]:
    """The lines of a kind, without the sample in the legend."""
    return [points(it) for it in of_class(svg, "polyline", kind)][1:]


def number(node: ElementTree.Element, name: str) -> float:
    return float(node.attrib[name])


def spots(svg: ElementTree.Element) -> list[tuple[float, float]]:
    """Every point that is drawn, and both ends of every text."""
    found = [spot for line in svg.iter("polyline") for spot in points(line)]
    for it in svg.iter("line"):
        found += [(number(it, f"x{end}"), number(it, f"y{end}")) for end in "12"]
    found += [(number(it, "cx"), number(it, "cy")) for it in svg.iter("circle")]
    for it in svg.iter("text"):
        width = WIDE * 13 * len(it.text or "")
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[it.attrib["text-anchor"]] * width
        x, y = number(it, "x") - before, number(it, "y")
        found += [(x, y), (x + width, y - 13)]
    return found


@settings(deadline=None, max_examples=examples(150), derandomize=True)
@given(curve=curves, threshold=places)
def test_nothing_is_drawn_outside(curve: list[dict[str, float | None]], threshold: float) -> None:
    svg = drawn(curve, threshold)
    assert svg.attrib["viewBox"] == f"0 0 {WIDTH} {HEIGHT}"
    for x, y in spots(svg):
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    for kind in ("precision", "recall"):
        for x, y in (spot for line in lines(svg, kind) for spot in line):
            assert LEFT <= x <= RIGHT
            assert TOP <= y <= BOTTOM


@settings(deadline=None, max_examples=examples(150), derandomize=True)
@given(curve=curves, seed=st.integers(0, 9))
def test_lines_go_from_left_to_right_in_whatever_order_the_points_come(
    curve: list[dict[str, float | None]], seed: int
) -> None:
    mixed = [curve[place] for place in np.random.default_rng(seed).permutation(len(curve))]
    assert draw(mixed, 0.5, "score") == draw(curve, 0.5, "score")
    svg = drawn(curve)
    for kind in ("precision", "recall"):
        known = [point for point in curve if point[kind] is not None]
        found = lines(svg, kind)
        assert [len(line) for line in found] == ([len(known)] if known else [])
        for line in found:
            assert [x for x, _ in line] == sorted(x for x, _ in line)


def test_shares_and_thresholds_are_to_scale() -> None:
    svg = drawn(CURVE)
    for kind in ("precision", "recall"):
        (line,) = lines(svg, kind)
        for (x, y), point in zip(line, CURVE, strict=True):
            place, share = point["threshold"], point[kind]
            assert place is not None
            assert share is not None
            assert x == pytest.approx(LEFT + (RIGHT - LEFT) * place, abs=0.06)  # ticks 0 to 1
            assert y == pytest.approx(BOTTOM - (BOTTOM - TOP) * share, abs=0.06)


def test_axes_lines_and_the_threshold_are_named() -> None:
    svg = drawn(CURVE, 0.4321, "least score that counts")
    said = [it.text for it in svg.iter("text")]
    for text in ("0 %", "20 %", "100 %", "0", "0.2", "0.8", "1", "precision", "recall"):
        assert text in said
    assert {"least score that counts", "chosen: 0.4321"} <= set(said)
    dashes = [{it.attrib["stroke-dasharray"] for it in of_class(svg, "polyline", kind)}
              for kind in ("precision", "recall")]  # fmt: skip
    assert dashes == [{"none"}, {"7 4"}]


def test_the_chosen_threshold_is_an_upright_line_with_a_mark_on_each_curve() -> None:
    svg = drawn(CURVE, 0.3)
    _, upright = of_class(svg, "line", "chosen")
    x = LEFT + (RIGHT - LEFT) * 0.3
    assert [number(upright, it) for it in ("x1", "x2", "y1", "y2")] == pytest.approx(
        [x, x, TOP, BOTTOM], abs=0.06
    )
    _, dot = svg.iter("circle")
    share = 0.7  # half way from .5 to .9
    spot = [x, BOTTOM - (BOTTOM - TOP) * share]
    assert [number(dot, "cx"), number(dot, "cy")] == pytest.approx(spot, abs=0.06)
    assert len(of_class(svg, "path", "recall")) == 2


def test_it_can_be_heard() -> None:
    svg = drawn(CURVE)
    assert svg.attrib["role"] == "img"
    named = [it.attrib["id"] for it in svg if it.tag in ("title", "desc")]
    assert svg.attrib["aria-labelledby"].split() == named
    assert svg.findtext("desc") == "From 0 to 1; 0.5 was chosen, precision 90 %, recall 80 %"


def test_text_stays_text() -> None:
    evil = "</text><script>alert(1)</script>\"'&"
    svg = drawn(CURVE, axis=evil)
    assert evil in [it.text for it in svg.iter("text")]
    assert {it.tag for it in svg.iter()} == {
        "svg", "title", "desc", "line", "text", "polyline", "circle", "path"
    }  # fmt: skip
    assert not [name for it in svg.iter() for name in it.attrib if name in ("style", "href")]


@settings(deadline=None, max_examples=examples(300), derandomize=True)
@given(both=st.tuples(ends, ends).map(sorted), most=st.integers(3, 12))
@example([1e6, 1e6 + 1e-6], 6)
def test_ticks_are_few_round_and_around_the_range(both: list[float], most: int) -> None:
    low, high = both
    found = ticks(low, high, most)
    assert 2 <= len(found) <= most
    slack = 1e-9 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    steps = np.diff(found)
    assert steps == pytest.approx(steps.mean(), rel=1e-2)
    mantissa = 10 ** (math.log10(steps.mean() * 1.01) % 1)
    assert min(abs(mantissa / times - 1.01) for times in (1, 2, 5)) < 0.01


def test_ticks_of_known_ranges() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0.03, 1.37) == [0, 0.5, 1, 1.5]
    assert ticks(0.61, 0.69) == [0.6, 0.62, 0.64, 0.66, 0.68, 0.7]
    assert ticks(3, 3) == [2.5, 3, 3.5]
