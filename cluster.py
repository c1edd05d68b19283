"""Build an index of a catalogue with a checkpoint, or change one: ``python cluster.py``."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint


@entrypoint("cluster")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Save the index, and the catalogue's table with a cluster column."""
    from dedup.cli.commands import (
        change_index,
        make_index,
        settings_to_continue,
    )  # pandas: not for --help
    from dedup.detection.detector import clustered_table
    from dedup.reports.text import report_index
    from dedup.runtime.tables import write_csv

    started = time.monotonic()
    is_new = cfg.change == "build"
    index = make_index(cfg, run_dir) if is_new else change_index(cfg, run_dir)
    write_csv(clustered_table(index), run_dir / "catalogue.csv", cfg.csv.formulas)
    settings = () if is_new else settings_to_continue(cfg, index)
    report_index(index, run_dir, time.monotonic() - started, settings)


if __name__ == "__main__":
    main()
