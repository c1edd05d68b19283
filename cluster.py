"""Embed and cluster a catalogue from a checkpoint, or change an index: ``python cluster.py``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.entrypoint import entrypoint, log


@entrypoint("cluster")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write the index, and the user's table with a cluster column."""
    from dedup.commands import change_index, make_index  # pandas: not for --help
    from dedup.files import write_csv
    from dedup.matching import clustered_table

    index = make_index(cfg, run_dir) if cfg.change == "build" else change_index(cfg, run_dir)
    write_csv(clustered_table(index), run_dir / "catalogue.csv", cfg.csv.formulas)
    log.info("%d clusters; index and catalogue.csv in %s", len(index.centroids), run_dir)


if __name__ == "__main__":
    main()
