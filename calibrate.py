"""Calibrate a detect run by people's decisions: ``python calibrate.py``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint, log, say


@entrypoint("calibrate")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write what was measured, and what decisions make of the scores."""
    from dedup.actions.calibrator import write_calibration  # pandas: not for --help
    from dedup.cli.actions import make_calibration

    made, facts = make_calibration(cfg)
    for path in write_calibration(made, facts, run_dir, cfg.csv.formulas):
        say(str(path))
    for sentence in made.sentences():
        log.info("%s", sentence)


if __name__ == "__main__":
    main()
