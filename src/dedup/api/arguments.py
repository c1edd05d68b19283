"""Translation of the Python API's arguments into those of ``pipeline``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dedup import pipeline
from dedup.config.instances import build, default_config, escaped, plain
from dedup.config.limits import check_limits
from dedup.config.targets import check_config
from dedup.detection.detector import Detector
from dedup.errors import ConfigError, DedupError, SourceError
from dedup.foregrounds.masked_store import ImageReader
from dedup.runtime.progress import hidden
from dedup.runtime.shortages import explain_shortage
from dedup.search import origins
from dedup.search.index import Index
from dedup.sources.frame import FrameSource
from dedup.store.image_store import ImageStore

BUNDLED = "bundled"
"""Name of the encoder that comes with the package."""

Table = str | Path | pd.DataFrame
"""A catalogue: a CSV file, a folder of images, or a table."""


def configured(checkpoint: str | Path, settings: Mapping[str, Any]) -> DictConfig:
    """Compose the defaults of ``detect.py encoder=bundled`` with some settings changed.

    Every encoder gets the bundled one's recipe: an automatic threshold and verification.

    Args:
        checkpoint: the encoder.
        settings: new values by dotted key; ``None`` keeps the default.
    """
    cfg = default_config("detect", encoder=BUNDLED)
    cfg.checkpoint = _literal(str(checkpoint))
    changes = {key: value for key, value in settings.items() if value is not None}
    for key, value in changes.items():
        group, name = key.split(".")
        try:
            cfg[group][name] = _literal(value)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{name}={value!r} cannot be used: {error}") from error
    if "matcher.threshold" in changes:
        cfg.verifier = None
    values = plain(cfg)
    check_config(values)
    check_limits(values)
    return cfg


def _literal(value: Any) -> Any:
    """Convert an argument to plain values, of which nothing is resolved."""
    if isinstance(value, str):
        return escaped(value)
    if hasattr(value, "tolist"):  # a number of numpy's, an array or a series
        value = value.tolist()
    return [_literal(one) for one in value] if isinstance(value, list | tuple | set) else value


def detection_of(
    cfg: DictConfig, index: Index, settings: Mapping[str, Any] | None = None
) -> Detector:
    """Build the detector from the index's recipe, with the given settings instead where set."""
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
    """Build the source of a catalogue, and describe it for the index's manifest."""
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
            f"cannot read a catalogue of type {type(catalogue).__name__}: pass the path of a CSV "
            "file or of a folder of images, or a pandas DataFrame"
        )
    group = "folder" if Path(catalogue).is_dir() else "csv"
    settings = plain(default_config("cluster", source=group).source)
    settings |= {"path": str(catalogue)} | (given if group == "csv" else {})
    check_limits({"source": settings})
    return build(settings), settings


_COLUMNS = ("id_column", "url_column", "title_column", "choice")


def embedding_of(cfg: DictConfig, checkpoint: str | Path) -> pipeline.Embedding:
    """Choose how images are embedded: checkpoint, batch size and devices."""
    from dedup.training.devices import embedding_devices  # imports torch

    trainer = plain(cfg.trainer)
    devices = embedding_devices(trainer["gpus"], trainer["accelerator"], trainer["num_processes"])
    return pipeline.Embedding(checkpoint, cfg.data.batch_size, devices)


def images_of(cfg: DictConfig, index: Index, folder: Path) -> ImageReader:
    """Open an index's store through the index's foreground, if it has one."""
    path, reader = index.manifest["store"], index.manifest["reader"]
    store: ImageStore = build(cfg.store, fetcher=build(cfg.fetch), path=path, reader=reader)
    return pipeline.open_images_of(index, store, folder)


def new_folder() -> Path:
    """Name a new run folder below ``runs/python``."""
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return Path(str(default_config("detect").runs)) / "python" / started


@contextmanager
def as_errors(where: Path | str) -> Iterator[None]:
    """Turn shortages of memory or disk into ``DedupError``, as the commands do."""
    try:
        yield
    except DedupError:
        raise
    except Exception as error:
        shortage = explain_shortage(error, where)
        if shortage is None:
            raise
        raise shortage from error


@contextmanager
def shown(progress: bool) -> Iterator[None]:
    """Show progress bars, or hide them."""
    with hidden(not progress):
        yield
