"""Compare two detect runs: ``python diff.py old=runs/detect/EARLIER new=runs/detect/latest``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint, log, say


@entrypoint("diff")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write diff.json, diff.csv, diff_groups.csv and diff.html."""
    from dedup.actions.diff_report import write_difference  # pandas: not for --help
    from dedup.cli.actions import check_alarm, compare

    found = compare(cfg)
    for path in write_difference(found, run_dir, cfg.csv.formulas):
        say(str(path))
    log.info("%s", found.sentence())
    check_alarm(found, cfg)


if __name__ == "__main__":
    main()
