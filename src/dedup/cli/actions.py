"""Translation of a command's config into calls of ``actions``, for the entry points."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dedup import __version__
from dedup.actions.decisions import read_decisions
from dedup.actions.diff import Difference, alarming, difference
from dedup.actions.diff_report import read_seen, write_seen
from dedup.actions.plan import Plan, Planner
from dedup.actions.receipts import PLAN_JSON
from dedup.actions.runs import SECTIONS, present_run, read_detect_run
from dedup.config.instances import build, plain
from dedup.detection.results import DetectionResult
from dedup.errors import AlarmError, ArtifactError, ConfigError, CorruptError
from dedup.search.index import Index
from dedup.search.manifest import RESULT

log = logging.getLogger("dedup")


def compare(cfg: DictConfig) -> Difference:
    """Compare the runs ``old=`` and ``new=``.

    Raises:
        ConfigError: ``old=`` is missing.
        ArtifactError: a run or the decisions are missing or damaged.
        SourceError: the decisions cannot be read.
    """
    if cfg.old is None:
        raise ConfigError("old= names no run: name the folder of an earlier detect run")
    old, new = Path(str(cfg.old)), Path(str(cfg.new))
    decisions = read_decisions(cfg.decisions)
    before = None if cfg.before is None else Path(str(cfg.before))
    return difference(
        read_detect_run(old), read_detect_run(new), decisions, read_seen(old, new, before)
    )


def with_changes(
    cfg: DictConfig, index: Index, result: DetectionResult, folder: Path | None
) -> DetectionResult:
    """Add a sentence on what changed since the run of ``since=``, and keep first dates in a folder.

    Where that folder holds a search and no result, a warning says so.

    Raises:
        CorruptError: the earlier run is damaged.
    """
    if cfg.since is None:
        return result
    try:
        old = read_detect_run(Path(cfg.since))
    except CorruptError:
        raise
    except ArtifactError as error:
        log.warning("nothing is said of what changed since then: %s", error)
        return result
    own = {section: plain(cfg[section]) for section in SECTIONS}
    new = present_run(result, index, {"version": __version__, **own}, folder)
    found = difference(old, new, seen=read_seen(Path(cfg.since)))
    if folder is not None:
        write_seen(found, folder)
    return dataclasses.replace(result, changes=found.sentence())


def make_plan(cfg: DictConfig) -> Plan:
    """Plan the merge of what the run of ``findings=`` found.

    Raises:
        DedupError: a setting, a file or an address cannot be used.
    """
    folder = Path(str(cfg.findings))
    planner: Planner = build(cfg.plan)
    plan = planner(read_detect_run(folder))
    named = {"findings": folder / RESULT}
    if planner.decisions is not None:
        named["decisions"] = Path(planner.decisions)
    for place in map(Path, planner.places()):
        named[f"applied {place}"] = place / PLAN_JSON if place.is_dir() else place
    return dataclasses.replace(plan, inputs=named)


def plan_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings of a plan as plain values."""
    settings: dict[str, Any] = plain(cfg.plan)
    return {name: value for name, value in settings.items() if not name.startswith("_")}


def check_alarm(found: Difference, cfg: DictConfig) -> None:
    """End with exit code 1 where pairs are in a state of ``fail_on=``.

    Raises:
        AlarmError: there are such pairs.
    """
    if names := alarming(found, plain(cfg.fail_on)):
        raise AlarmError(
            f"fail_on={','.join(cfg.fail_on)}: {' and '.join(names)} among the pairs, see diff.html"
        )
