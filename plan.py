"""Plan the merge of duplicates: ``python plan.py 'plan.trust=[same_bytes,same_pixels]'``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint, log, say


@entrypoint("plan")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write the plan, its files for shops, and their inverse."""
    from dedup.actions.plan_report import write_plan  # pandas: not for --help
    from dedup.cli.actions import make_plan, plan_settings

    plan = make_plan(cfg)
    for path in write_plan(plan, plan_settings(cfg), run_dir, cfg.csv.formulas):
        say(str(path))
    log.info("%s", plan.sentence())
    for note in plan.notes:
        log.warning("%s", note)


if __name__ == "__main__":
    main()
