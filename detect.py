"""Find and report the duplicates in an index: ``python detect.py matcher.threshold=0``."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from dedup.entrypoint import build, entrypoint, say


@entrypoint("detect")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write duplicates.json, duplicates.csv and report.html, or answer a query."""
    from dedup.artifacts import FINDINGS  # pandas: not for --help
    from dedup.files import write_json, write_table
    from dedup.reports.csv import check_reports
    from dedup.reports.text import report_findings
    from dedup.stages import answer, find, open_index

    started = time.monotonic()
    index = open_index(cfg, run_dir)
    if cfg.query is not None:
        say(answer(cfg, index))
        return
    reports = [part for part in build(cfg.report).values() if part is not None]
    check_reports(reports, index)
    index, findings, search = find(cfg, index)
    for name, schema in FINDINGS.items():
        write_table(getattr(findings, name), schema, run_dir / f"{name}.parquet")
    write_json(findings.calibration, run_dir / "calibration.json")
    search.save(run_dir)
    for report in reports:  # report.csv=null leaves one out
        say(str(report.write(findings, index, run_dir)))
    report_findings(findings, index, run_dir, time.monotonic() - started)


if __name__ == "__main__":
    main()
