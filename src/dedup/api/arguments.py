"""From the arguments of the Python API to those of ``pipeline``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from dedup import pipeline
from dedup.config.instances import build, default_config, plain
from dedup.config.limits import check_limits
from dedup.config.targets import check_config
from dedup.detection.detector import Detector
from dedup.errors import DedupError, SourceError
from dedup.foregrounds.masked_store import ImageReader
from dedup.runtime.progress import hidden
from dedup.runtime.shortages import explain_shortage
from dedup.search import origins
from dedup.search.index import Index
from dedup.sources.frame import FrameSource
from dedup.store.image_store import ImageStore

BUNDLED = "bundled"

Table = str | Path | pd.DataFrame


def configured(checkpoint: str | Path, settings: Mapping[str, Any]) -> DictConfig:
    """The defaults of ``detect.py``, with some settings changed; ``None`` changes nothing.

    An encoder of one's own is searched as the bundled one: automatic threshold, second look.
    """
    cfg = default_config("detect", encoder=BUNDLED)
    cfg.checkpoint = str(checkpoint)
    changes = {key: value for key, value in settings.items() if value is not None}
    for key, value in changes.items():
        group, name = key.split(".")
        cfg[group][name] = list(value) if isinstance(value, tuple) else value
    if "matcher.threshold" in changes:
        cfg.verifier = None
    values = plain(cfg)
    check_config(values)
    check_limits(values)
    return cfg


def detection_of(
    cfg: DictConfig, index: Index, settings: Mapping[str, Any] | None = None
) -> Detector:
    """How duplicates are found: as the index was made for, where no setting says otherwise."""
    matcher, verifier = plain(cfg.matcher), plain(cfg.verifier)
    recipe = origins.recipe(index)
    given = {key for key, value in (settings or {}).items() if value is not None}
    if recipe is not None and "matcher.threshold" not in given:
        others = {k: v for k, v in recipe.matcher.items() if f"matcher.{k}" not in given}
        matcher, verifier = matcher | others, recipe.verifier
    parts = {"matcher": build(matcher), "verifier": build(verifier)}
    detection: Detector = build(cfg.detection, grouping=build(cfg.grouping), **parts)
    return detection


def source_of(
    cfg: DictConfig,
    catalogue: Table,
    id: str | None = None,
    images: str | None = None,
    title: str | None = None,
    choice: str | None = None,
    images_dir: str | Path | None = None,
) -> tuple[origins.Source, dict[str, Any]]:
    """What reads a catalogue, and its settings for the index's manifest."""
    given = {
        "id_column": id, "url_column": images, "title_column": title, "choice": choice,
        "images_dir": images_dir and str(images_dir),
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}
    if isinstance(catalogue, pd.DataFrame):
        columns = {k: v for k, v in plain(cfg.source).items() if k in given or k in _COLUMNS}
        check_limits({"source": columns | given})
        return FrameSource(catalogue, **(columns | given)), {"table": "pandas.DataFrame"}
    if not isinstance(catalogue, str | Path):
        raise SourceError(
            f"the catalogue is a {type(catalogue).__name__}: name a CSV file or a folder of "
            "images, or give a pandas DataFrame"
        )
    group = "folder" if Path(catalogue).is_dir() else "csv"
    settings = plain(default_config("cluster", source=group).source)
    settings |= {"path": str(catalogue)} | (given if group == "csv" else {})
    check_limits({"source": settings})
    return build(settings), settings


_COLUMNS = ("id_column", "url_column", "title_column", "choice")


def embedding_of(cfg: DictConfig, checkpoint: str | Path) -> pipeline.Embedding:
    """How images are embedded."""
    from dedup.training.devices import embedding_devices  # imports torch

    trainer = plain(cfg.trainer)
    devices = embedding_devices(trainer["gpus"], trainer["accelerator"], trainer["num_processes"])
    return pipeline.Embedding(checkpoint, cfg.data.batch_size, devices)


def images_of(cfg: DictConfig, index: Index, folder: Path) -> ImageReader:
    """The store of an index as its encoder was shown it."""
    path, reader = index.manifest["store"], index.manifest["reader"]
    store: ImageStore = build(cfg.store, fetcher=build(cfg.fetch), path=path, reader=reader)
    return pipeline.open_images_of(index, store, folder)


def new_folder() -> Path:
    """A new folder beside the commands' runs."""
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return Path(str(default_config("detect").runs)) / "python" / started


@contextmanager
def as_errors(where: Path | str) -> Iterator[None]:
    """Make a lack of memory or disk a ``DedupError``, as the commands do."""
    try:
        yield
    except DedupError:
        raise
    except Exception as error:
        found = explain_shortage(error, where)
        if found is None:
            raise
        raise found from error


@contextmanager
def shown(progress: bool) -> Iterator[None]:
    """Show bars, or none."""
    with hidden(not progress):
        yield
