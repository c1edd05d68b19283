"""The steps that the entry points share, from a config to objects on disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from dedup.artifacts import Catalogue, Index, checkpoint_file, read_json
from dedup.entrypoint import build, log, plain
from dedup.errors import ConfigError
from dedup.store import ImageStore


def read_pictures(
    cfg: DictConfig, source: Any, run_dir: Path
) -> tuple[Catalogue, ImageStore, pd.DataFrame]:
    """Read a source, and every picture that it asks for into the store.

    Returns:
        The catalogue, the store, and the pictures in the schema ``IMAGES``.
    """
    catalogue = build(source).read()
    store = build(cfg.store)
    return catalogue, store, store.ingest(catalogue, run_dir)


def make_index(cfg: DictConfig, run_dir: Path) -> Index:
    """Embed and cluster a catalogue with ``cfg.checkpoint``, and save the index in ``run_dir``.

    The catalogue is ``cfg.source``, or else what the checkpoint was trained on.
    """
    checkpoint = checkpoint_file(cfg.checkpoint or Path(cfg.runs) / "train" / "latest")
    source = _trained_source(checkpoint) if cfg.source is None else cfg.source
    catalogue, store, images = read_pictures(cfg, source, run_dir)
    clusterer = build(cfg.clusterer)

    from dedup.indexing import build_index  # imports torch

    index = build_index(catalogue, images, store, checkpoint, clusterer, cfg.data.batch_size)
    index.manifest["source"] = plain(source)
    index.save(run_dir)
    return index


def open_index(cfg: DictConfig, run_dir: Path) -> Index:
    """The index that ``detect.py`` works on, its thumbnails attached.

    ``index=`` names one. Without, it is the latest cluster run's; but a checkpoint or another
    source than that run's, where given, make a new one.

    Raises:
        ConfigError: both an index and a source are given.
        ArtifactError: there is no index, or it was made with another checkpoint.
    """
    latest = Path(cfg.runs) / "cluster" / "latest"
    if cfg.index is not None:
        if cfg.source is not None:
            raise ConfigError("index= holds its own catalogue: leave source out, or index")
        index = Index.load(Path(cfg.index))
        if cfg.checkpoint is not None:
            index.check_encoder(cfg.checkpoint)
    elif cfg.checkpoint is None and _serves(latest, cfg.source):
        index = Index.load(latest)
    else:
        index = make_index(cfg, run_dir)
    store = ImageStore(index.manifest["store"], index.manifest["reader"])
    manifest = {**index.manifest, "threshold": cfg.matcher.threshold}
    return dataclasses.replace(index, manifest=manifest, thumbnails=store.thumbnails)


def _serves(latest: Path, source: Any) -> bool:
    """Whether the latest cluster run is of this source; any is where none is given."""
    if source is None:
        return True
    manifest = latest / "manifest.json"
    if not manifest.is_file():
        return False
    found = read_json(manifest, "an index", "make one with cluster.py")
    return bool(found.get("source") == plain(source))


def _trained_source(checkpoint: Path) -> Any:
    run = checkpoint.parent / "run.json"
    if not run.is_file():
        raise ConfigError(
            f"{run} is missing, so the catalogue that {checkpoint.name} was trained on is not "
            "known: choose one with source=csv source.path=PATH"
        )
    source = read_json(run, "a training run", "choose a catalogue with source=csv")["source"]
    log.info("the catalogue is the one trained on: %s", source)
    return OmegaConf.create(source)
