"""Does a catalogue get the precision that was asked for, whatever its size?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from labelled import Labelled
from pipeline import Pipeline, run
from scoring import Decided, Figures, figure, figures, interval

HEAD = (
    "| originals | products | asked | threshold | pairs | expected precision | measured precision "
    "| expected recall | measured recall | hard negatives taken | seconds |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def lines(
    catalogues: Iterable[Labelled], precisions: Sequence[float], pipeline: Pipeline, out: Path
) -> Iterator[str]:
    """A line for each catalogue and precision; the images are embedded once for a catalogue."""
    for number, of in enumerate(catalogues):
        *before, (_, *settings) = pipeline.steps
        work = out / f"sizes-{number}"
        for command, *others in before:
            run(command, others, of.folder / "products.csv", work)
        for precision in precisions:
            asked = [*settings, "matcher.threshold=auto", f"matcher.precision={precision}"]
            found = Pipeline(pipeline.name, [["detect", *asked]])(of, work)
            decided = Decided("", found.scores, found.taken, found.groups, found.seconds)
            yield _line(of, precision, found.calibration, figures(decided, of))


def _line(of: Labelled, asked: float, chosen: dict[str, Any], got: Figures) -> str:
    """One line of the table."""
    n_originals = int((of.members["role"] == "original").sum())
    taken = got.n_right + got.n_wrong
    cells = [f"{n_originals:,}", f"{len(of.members):,}", figure(asked)]
    cells += [f"{chosen.get('threshold', math.nan):.4g}", f"{taken:,}"]
    cells += [_expected(chosen, "precision"), interval("", got.n_right, taken).strip()]
    cells += [_expected(chosen, "recall"), interval("", got.n_right, got.n_true).strip()]
    cells += [got.hard, f"{got.seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def _expected(chosen: dict[str, Any], name: str) -> str:
    """What a calibration promised, with its interval; a dash where it promised nothing."""
    if f"expected_{name}" not in chosen:
        return "-"
    value, low, high = (figure(float(part)) for part in chosen[f"expected_{name}"])
    return f"{value} ({low} to {high})"
