"""Find and report the duplicates in an index: ``python detect.py matcher.threshold=0``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.config import build
from dedup.entrypoint import entrypoint, say


@entrypoint("detect")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write duplicates.json, duplicates.csv and report.html, or answer a query."""
    from dedup.commands import answer, find, open_index  # pandas: not for --help

    index, folder = open_index(cfg, run_dir)
    if cfg.query is not None:
        say(answer(cfg, index))
        return
    index, result, search = find(cfg, index)
    search.save(run_dir)
    result.save(run_dir, folder)
    for report in build(cfg.report).values():
        if report is not None:  # report.csv=null leaves one out
            say(str(report.write(result, index, run_dir)))


if __name__ == "__main__":
    main()
