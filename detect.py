"""Find and report the duplicates in an index: ``python detect.py matcher.threshold=0``."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from dedup.entrypoint import build, entrypoint


@entrypoint("detect")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Write duplicates.json, duplicates.csv and report.html, or answer a query."""
    from dedup.artifacts import GROUPS, PAIRS, write_table  # pandas: not for --help
    from dedup.grouping import group
    from dedup.matching import find_pairs
    from dedup.stages import open_index

    index = open_index(cfg, run_dir)
    matcher = build(cfg.matcher)
    if cfg.query is not None:
        from dedup.indexing import Query  # imports torch

        answers = Query(index, matcher, cfg.checkpoint)(cfg.query)
        print(json.dumps(answers.to_dict("records"), indent=1, ensure_ascii=False))
        return
    pairs = find_pairs(index, matcher)
    groups = group(pairs)
    write_table(pairs, PAIRS, run_dir / "pairs.parquet")
    write_table(groups, GROUPS, run_dir / "groups.parquet")
    for report in build(cfg.report).values():
        print(report.write(groups, pairs, index, run_dir))


if __name__ == "__main__":
    main()
