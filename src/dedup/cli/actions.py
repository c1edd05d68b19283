"""Translation of a command's config into calls of ``actions``, for the entry points."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.actions.decisions import read_decisions
from dedup.actions.diff import Difference, alarming, difference
from dedup.actions.diff_report import read_seen
from dedup.actions.runs import read_detect_run
from dedup.config.instances import plain
from dedup.errors import AlarmError


def compare(cfg: DictConfig) -> Difference:
    """Compare the runs ``old=`` and ``new=``.

    Raises:
        ArtifactError: a run or the decisions are missing or damaged.
        SourceError: the decisions cannot be read.
    """
    old, new = Path(str(cfg.old)), Path(str(cfg.new))
    decisions = read_decisions(cfg.decisions)
    before = None if cfg.before is None else Path(str(cfg.before))
    return difference(
        read_detect_run(old), read_detect_run(new), decisions, read_seen(old, new, before)
    )


def check_alarm(found: Difference, cfg: DictConfig) -> None:
    """End with exit code 1 where pairs are in a state of ``fail_on=``.

    Raises:
        AlarmError: there are such pairs.
    """
    if names := alarming(found, plain(cfg.fail_on)):
        raise AlarmError(
            f"fail_on={','.join(cfg.fail_on)}: {' and '.join(names)} among the pairs, see diff.html"
        )
