"""Draw precision and recall against the threshold as SVG, without scripts or styles.

The page's style sets the colours, dark or light. Dashes and marks distinguish the lines too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from markupsafe import Markup

from dedup.reports.phrases import number, percent

WIDTH, HEIGHT = 520, 320
"""Size of the drawing, in its own units."""

LEFT, RIGHT, TOP, BOTTOM = 56, 488, 40, 268
"""Borders of the area of the lines; y grows downwards."""

SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Ticks of the vertical axis."""

DASHES = {"precision": "none", "recall": "7 4"}
"""Dashes of each line."""

Point = tuple[float, float]

FRAME = Markup(
    '<svg class="plot" viewBox="0 0 {width} {height}" font-size="13" fill="currentColor" '
    'role="img" aria-labelledby="plot-title plot-desc">\n'
    '<title id="plot-title">Precision and recall against the threshold</title>\n'
    '<desc id="plot-desc">{text}</desc>\n{parts}\n</svg>'
)
STRAIGHT = Markup(
    '<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
    'stroke="currentColor"/>'
)
CURVE = Markup(
    '<polyline class="{kind}" points="{points}" fill="none" stroke="currentColor" '
    'stroke-width="2" stroke-linejoin="round" stroke-dasharray="{dashes}"/>'
)
DOT = Markup('<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
SQUARE = Markup('<path class="{kind}" d="M{x:.1f} {y:.1f}m-4.5 -4.5h9v9h-9z"/>')
TEXT = Markup('<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')


def draw(curve: Sequence[Mapping[str, float | None]], threshold: float, axis: str) -> Markup:
    """Draw two lines over the threshold, and a mark at the chosen threshold.

    Args:
        curve: points in any order, each a ``threshold``, a ``precision`` and a ``recall``, 0 to 1;
            a missing share is ``None``.
        threshold: the chosen threshold.
        axis: label of the horizontal axis.

    Returns:
        An ``svg`` element, every text in it escaped.
    """
    lines = {kind: line for kind in DASHES if (line := _line(curve, kind))}
    places = [threshold, *(place for line in lines.values() for place, _ in line)]
    marks = ticks(min(places), max(places))
    at = {kind: _at(line, threshold) for kind, line in lines.items()}
    text = f"From {number(marks[0])} to {number(marks[-1])}; {number(threshold)} was chosen"
    text += "".join(f", {kind} {percent(share)}" for kind, share in at.items())
    parts = [*_axes(marks, axis), *_legend(threshold)]
    for kind, line in lines.items():
        parts.append(_curve(kind, [(_x(place, marks), _y(share)) for place, share in line]))
    x = _x(threshold, marks)
    parts.append(_straight("chosen", (x, TOP), (x, BOTTOM)))
    parts += [_mark(kind, x, _y(share)) for kind, share in at.items()]
    return FRAME.format(width=WIDTH, height=HEIGHT, text=text, parts=Markup("\n").join(parts))


def ticks(low: float, high: float, max_ticks: int = 6) -> list[float]:
    """Choose at most ``max_ticks`` round numbers in equal steps that span a range."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    step = unit = 10.0 ** math.floor(math.log10((high - low) / max_ticks))
    for times in (2, 5, 10, 20, 50):
        if math.ceil(high / step) - math.floor(low / step) < max_ticks:
            break
        step = unit * times
    places = range(math.floor(low / step), math.ceil(high / step) + 1)
    digits = max(1 - math.floor(math.log10(step)), 0)
    return [round(place * step, digits) for place in places]


def _line(curve: Sequence[Mapping[str, float | None]], kind: str) -> list[Point]:
    """Collect threshold and share of each point that has both, sorted."""
    return sorted(
        (place, share)
        for point in curve
        if (place := point["threshold"]) is not None and (share := point[kind]) is not None
    )


def _at(line: Sequence[Point], threshold: float) -> float:
    """Interpolate the share at a threshold."""
    places, shares = zip(*line, strict=True)
    return float(np.interp(threshold, places, shares))


def _x(place: float, marks: Sequence[float]) -> float:
    return LEFT + (RIGHT - LEFT) * (place - marks[0]) / (marks[-1] - marks[0])


def _y(share: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * share


def _axes(marks: Sequence[float], axis: str) -> Iterator[Markup]:
    """Draw both axes with their ticks and labels."""
    for share in SHARES:
        y = _y(share)
        yield _straight("grid", (LEFT, y), (RIGHT, y))
        yield _text(LEFT - 8, y + 4, f"{100 * share:.0f} %", "end")
    for place in marks:
        x = _x(place, marks)
        yield _straight("grid", (x, BOTTOM), (x, BOTTOM + 5))
        yield _text(x, BOTTOM + 20, f"{place:.10g}", "middle")
    yield _text((LEFT + RIGHT) / 2, HEIGHT - 8, axis, "middle")


def _legend(threshold: float) -> Iterator[Markup]:
    y = TOP - 24
    for kind, x in (("precision", LEFT), ("recall", LEFT + 130)):
        yield _curve(kind, [(x, y), (x + 36, y)])
        yield _mark(kind, x + 18, y)
        yield _text(x + 44, y + 4, kind)
    yield _straight("chosen", (LEFT + 250, y - 8), (LEFT + 250, y + 8))
    yield _text(LEFT + 258, y + 4, f"chosen: {number(threshold)}")


def _straight(kind: str, start: Point, end: Point) -> Markup:
    return STRAIGHT.format(kind=kind, x1=start[0], y1=start[1], x2=end[0], y2=end[1])


def _curve(kind: str, points: Sequence[Point]) -> Markup:
    placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return CURVE.format(kind=kind, points=placed, dashes=DASHES[kind])


def _mark(kind: str, x: float, y: float) -> Markup:
    return (DOT if kind == "precision" else SQUARE).format(kind=kind, x=x, y=y)


def _text(x: float, y: float, text: str, anchor: str = "start") -> Markup:
    return TEXT.format(x=x, y=y, text=text, anchor=anchor)
