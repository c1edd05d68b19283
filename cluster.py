"""Build an index of a catalogue with a checkpoint, or change one: ``python cluster.py``."""

from __future__ import annotations

import time
from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint


@entrypoint("cluster")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Save the index, and the catalogue's table with a cluster column."""
    from dedup.cli.commands import change_index, make_index  # pandas: not for --help
    from dedup.detection.detector import clustered_table
    from dedup.reports.text import report_index
    from dedup.runtime.tables import write_csv

    started = time.monotonic()
    index = make_index(cfg, run_dir) if cfg.change == "build" else change_index(cfg, run_dir)
    write_csv(clustered_table(index), run_dir / "catalogue.csv", cfg.csv.formulas)
    report_index(index, run_dir, time.monotonic() - started)


if __name__ == "__main__":
    main()
