"""Find and report the duplicates in an index: ``python detect.py matcher.threshold=0``."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint, say
from dedup.cli.outcome import written
from dedup.config.instances import build


@entrypoint("detect")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write duplicates.json, groups.csv, duplicates.csv and report.html, or answer a query."""
    from dedup.cli.commands import answer, find, open_index  # pandas: not for --help
    from dedup.reports.csv import check_reports
    from dedup.reports.text import report_findings

    started = time.monotonic()
    index, folder = open_index(cfg, run_dir)
    reports = [part for part in build(cfg.report).values() if part is not None]
    check_reports(reports, [str(name) for name in index.products.columns])
    if cfg.query is not None:
        say(answer(cfg, index))
        return
    index, result, state = find(cfg, index, run_dir)
    state.save(run_dir)
    result.save(run_dir, folder)
    for report in reports:  # report.csv=null leaves one out
        for path in written(partial(report.write, result, index), run_dir):
            say(str(path))
    report_findings(result, index, run_dir, time.monotonic() - started)


if __name__ == "__main__":
    main()
