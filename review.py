"""Decide on the groups that were found, in the browser: ``python review.py``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint


@entrypoint("review")
def main(cfg: DictConfig, run_dir: Path) -> None:
    """Serve the page until Ctrl-C; or invite a person, or export or import decisions."""
    from dedup.cli.reviews import export, import_, invite, open_page  # pandas: not for --help

    if cfg.invite is not None:
        invite(cfg)
    elif cfg.export is not None:
        export(cfg)
    elif cfg["import"] is not None:
        import_(cfg)
    else:
        open_page(cfg)


if __name__ == "__main__":
    main()
