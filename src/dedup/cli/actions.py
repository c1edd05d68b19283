"""Translation of a command's config into calls of ``actions``, for the entry points."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dedup import __version__
from dedup.actions.calibrator import CalibrationByLabels, calibrate
from dedup.actions.decisions import Decisions, of_ledger, read_decisions
from dedup.actions.diff import Difference, alarming, difference
from dedup.actions.diff_report import read_seen, write_seen
from dedup.actions.plan import Plan, Planner
from dedup.actions.receipts import PLAN_JSON
from dedup.actions.runs import SECTIONS, present_run, read_detect_run
from dedup.config.instances import build, plain
from dedup.detection.results import DetectionResult, index_of
from dedup.errors import AlarmError, ArtifactError, ConfigError, CorruptError
from dedup.review.ledger import Ledger
from dedup.runtime.invocation import command
from dedup.search.index import Index
from dedup.search.manifest import MANIFEST, RESULT
from dedup.search.origins import load_index

log = logging.getLogger("dedup")


def compare(cfg: DictConfig) -> Difference:
    """Compare the runs ``old=`` and ``new=``.

    Raises:
        ConfigError: ``old=`` is missing, or decisions are named twice.
        ArtifactError: a run or the decisions are missing or damaged.
        SourceError: the decisions cannot be read.
    """
    if cfg.old is None:
        raise ConfigError("old= names no run: name the folder of an earlier detect run")
    old, new = Path(str(cfg.old)), Path(str(cfg.new))
    decisions, _ = _decisions(cfg, "decisions", cfg.decisions)
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
    decisions, ledger = _decisions(cfg, "plan.decisions", planner.decisions)
    plan = planner(read_detect_run(folder), decisions)
    named = {"findings": folder / RESULT}
    if planner.decisions is not None:
        named["decisions"] = Path(planner.decisions)
    for place in map(Path, planner.places()):
        named[f"applied {place}"] = place / PLAN_JSON if place.is_dir() else place
    return dataclasses.replace(plan, inputs=named, ledger=ledger)


def make_calibration(cfg: DictConfig) -> tuple[CalibrationByLabels, dict[str, Any]]:
    """Calibrate the run of ``findings=`` by the decisions of the ledger.

    Returns:
        The calibration, and facts of what it was made from.

    Raises:
        ConfigError: nothing is decided, or the run's scores are not calibrated.
        ArtifactError: the run, its index or the ledger is missing.
    """
    folder = Path(str(cfg.findings))
    result, place = DetectionResult.load(folder), index_of(folder)
    if place is None or not (place / MANIFEST).is_file():
        raise ArtifactError(
            f"the index that {folder} was found in is gone: run {command('detect')} again"
        )
    ledger = opened_ledger(cfg)
    try:
        run = folder.resolve().name
        made = calibrate(ledger, result, load_index(place), run, cfg.precision, cfg.by)
        facts = {"run": run, "ledger": ledger.name, "rows": len(ledger.history)}
    finally:
        ledger.close()
    return made, facts


def _decisions(
    cfg: DictConfig, setting: str, path: str | Path | None
) -> tuple[Decisions, dict[str, Any]]:
    """Read people's decisions from the ledger or from a file.

    Args:
        cfg: the config.
        setting: name of the setting that names the file.
        path: the file; ``None`` for none.

    Returns:
        The decisions, and facts of the ledger: its name, its number of rows, and the digest of its
        export; empty without one.

    Raises:
        ConfigError: both are named.
        ArtifactError: the ledger or the file is missing.
        SourceError: the file has wrong content.
    """
    if cfg.ledger is None:
        return read_decisions(path), {}
    if path is not None:
        raise ConfigError(
            f"ledger= and {setting}= both name decisions: leave one out. {command('review')} "
            f"import={path} adds those of the file to the ledger"
        )
    ledger = opened_ledger(cfg)
    try:
        text = ledger.exported()
        facts = {"name": ledger.name, "rows": len(ledger.history)}
        facts["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        return of_ledger(ledger), facts
    finally:
        ledger.close()


def opened_ledger(cfg: DictConfig) -> Ledger:
    """Open the ledger of ``ledger=``, which must be there already.

    Raises:
        ConfigError: no ledger is chosen.
        ArtifactError: there is none.
    """
    if cfg.ledger is None:
        raise ConfigError("ledger=none keeps no decisions: choose ledger=sqlite")
    place = plain(cfg.ledger).get("path")
    if place is not None and not Path(place).is_file():
        raise ArtifactError(
            f"there is no ledger at {place}: name it by ledger.path=PATH, or decide first with "
            f"{command('review')}"
        )
    ledger: Ledger = build(cfg.ledger)
    return ledger


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
