"""Translation of a command's config into calls of ``actions``, for the entry points."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from omegaconf import DictConfig

from dedup.actions.decisions import read_decisions
from dedup.actions.diff import Difference, alarming, difference
from dedup.actions.diff_report import read_seen, write_seen
from dedup.actions.runs import present_run, read_detect_run
from dedup.config.instances import plain
from dedup.detection.results import DetectionResult
from dedup.errors import AlarmError, ArtifactError, ConfigError, CorruptError
from dedup.search.index import Index

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
    cfg: DictConfig, index: Index, result: DetectionResult, folder: Path
) -> DetectionResult:
    """Add a sentence on what changed since the run of ``since=``, and keep first dates.

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
    new = present_run(result, index, plain(cfg), folder)
    found = difference(old, new, seen=read_seen(Path(cfg.since)))
    write_seen(found, folder)
    return dataclasses.replace(result, changes=found.sentence())


def check_alarm(found: Difference, cfg: DictConfig) -> None:
    """End with exit code 1 where pairs are in a state of ``fail_on=``.

    Raises:
        AlarmError: there are such pairs.
    """
    if names := alarming(found, plain(cfg.fail_on)):
        raise AlarmError(
            f"fail_on={','.join(cfg.fail_on)}: {' and '.join(names)} among the pairs, see diff.html"
        )
