"""The recipe itself: the entry points, run as a user runs them, and what they leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from labelled import Bools, Floats, Labelled

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Found:
    """What one run of detect.py found.

    Attributes:
        scores: (n (n - 1) / 2,) of every pair, -inf where it was no candidate, inf for exact ones.
        taken: likewise, whether the pair was reported.
        groups: ``product_id`` and ``group_id``.
        evidence: why a pair was reported, by its place; where the run says so.
        facts: of its search.
        calibration: how its threshold was chosen; empty where it was given.
        seconds: that all commands took.
    """

    scores: Floats
    taken: Bools
    groups: pd.DataFrame
    evidence: dict[int, str]
    facts: dict[str, Any]
    calibration: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Pipeline:
    """Entry points with their settings.

    Args:
        name: as it stands in the table.
        steps: commands, each ``cluster`` or ``detect`` and its settings, without the catalogue.
    """

    name: str
    steps: Sequence[Sequence[str]]

    def __call__(self, labelled: Labelled, work: Path) -> Found:
        """Run all steps on a benchmark; the last one is ``detect``."""
        begun = time.perf_counter()
        for command, *settings in self.steps:
            run(command, settings, labelled.folder / "products.csv", work)
        return found(labelled, work / "runs" / "detect" / "latest", time.perf_counter() - begun)


def recipe(
    name: str, experiment: str | None, checkpoint: Path | None, extra: Sequence[str] = ()
) -> Pipeline:
    """cluster.py and detect.py with an experiment and a checkpoint."""
    chosen = [*([] if experiment is None else [f"experiment={experiment}"]), *extra]
    named = [] if checkpoint is None else [f"checkpoint={checkpoint}"]
    return Pipeline(name, [["cluster", *chosen, *named], ["detect", *chosen]])


def bundled(extra: Sequence[str] = ()) -> Pipeline:
    """detect.py alone, with the weights that come with the package."""
    return Pipeline("bundled", [["detect", "encoder=bundled", *extra]])


def run(command: str, settings: Sequence[str], path: Path, work: Path) -> None:
    """One entry point on a catalogue, a CSV or a folder of images, in a folder of its own.

    Its messages go to a log there.
    """
    work.mkdir(parents=True, exist_ok=True)
    called = [sys.executable, str(ROOT / f"{command}.py"), *settings]
    called += [f"source={'folder' if path.is_dir() else 'csv'}", f"source.path={path.resolve()}"]
    with (work / f"{command}.log").open("w", encoding="utf-8") as log:
        done = subprocess.run(called, cwd=work, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        said = Path(log.name).read_text(encoding="utf-8").strip().splitlines()[-5:]
        raise SystemExit("\n".join([" ".join(called), *said]))


def found(labelled: Labelled, folder: Path, seconds: float) -> Found:
    """Read a detect run's folder."""
    pairs = pd.read_parquet(folder / "pairs.parquet")
    scores = np.full(len(labelled.scored), -np.inf)
    for file in (folder / "candidates.parquet", folder / "pairs.parquet"):
        if file.exists():
            rows = pd.read_parquet(file)
            np.maximum.at(scores, labelled.places(rows), sureness(rows))
    places = labelled.places(pairs)
    taken = np.zeros(len(scores), bool)
    taken[places] = True
    evidence = pairs["evidence"].where(pairs["evidence"] != "", pairs["tier"])
    return Found(
        scores=scores,
        taken=taken,
        groups=pd.read_parquet(folder / "groups.parquet")[["product_id", "group_id"]],
        evidence=dict(zip(places.tolist(), evidence, strict=True)),
        facts=_json(folder / "search.json"),
        calibration=_json(folder / "calibration.json"),
        seconds=seconds,
    )


def sureness(rows: pd.DataFrame) -> Floats:
    """The scores of pairs, columns of ``PAIRS``: their distances where nobody looked again."""
    scores = rows["score"].astype(float).fillna(-rows["distance"])
    surest = scores.where(rows["tier"] == "near", np.inf)
    return np.asarray(surest, dtype=np.float64)


def _json(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return facts
