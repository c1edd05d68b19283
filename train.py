"""Train an encoder on a catalogue: ``python train.py trainer.gpus=1 epochs=3``."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from dedup.cli.entrypoint import entrypoint, log
from dedup.config.instances import build


@entrypoint("train")
def main(cfg: DictConfig, run_dir: Path) -> float | None:
    """Read the catalogue, train, and return the best score."""
    from dedup.cli.commands import show_foreground, training_images  # pandas: not for --help

    if cfg.preview is not None:
        show_foreground(cfg, run_dir)
        return None
    store, images = training_images(cfg, run_dir)
    import pytorch_lightning as pl  # takes seconds: after the checks of the catalogue

    from dedup.training.datamodule import CatalogueDataModule
    from dedup.training.resume import checkpoint_to_resume, fit
    from dedup.training.trainer import best_score

    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data = CatalogueDataModule(store, images, build(cfg.views), seed=cfg.seed, **cfg.data)
    task = build(cfg.task, encoder=build(cfg.encoder))
    checkpoint = checkpoint_to_resume(cfg.resume, Path(cfg.runs) / "train", task.encoder)
    callbacks = [part for part in build(cfg.callbacks).values() if part is not None]
    trainer = build(cfg.trainer, run_dir=run_dir, callbacks=callbacks)
    fit(trainer, task, data, checkpoint)
    log.info("best %s %.6g: %s", cfg.objective.monitor, best_score(trainer), run_dir / "best.ckpt")
    return best_score(trainer)


if __name__ == "__main__":
    main()
