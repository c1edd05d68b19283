"""Translation of the Python API's arguments into those of ``pipeline``."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypedDict, TypeVar, cast, get_type_hints

import pandas as pd
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from dedup import pipeline
from dedup.api.errors import SETTINGS, as_errors
from dedup.config.instances import build, default_config, literal, plain
from dedup.config.limits import check_limits
from dedup.config.targets import check_config
from dedup.detection.detector import Detector
from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError, SourceError
from dedup.foregrounds.masked_store import ImageReader
from dedup.runtime.nearest import meant
from dedup.runtime.progress import hidden
from dedup.search import origins
from dedup.search.index import Index as SavedIndex
from dedup.search.state import SearchState
from dedup.sources.auto import is_feed, known_export
from dedup.sources.frame import FrameSource
from dedup.sources.kinds import kind_of
from dedup.store.image_store import ImageStore

BUNDLED = "bundled"
"""Name of the encoder that comes with the package."""

Table = str | Path | pd.DataFrame
"""A catalogue: the file of a table or a feed, a folder of images, or a DataFrame."""

P = ParamSpec("P")
R = TypeVar("R")


class Columns(TypedDict, total=False):
    """Where a catalogue's table has what is needed of it.

    Args:
        id: column of the product's id.
        images: column of the images' paths or addresses, or several.
        title: column of a title to show.
        choice: image to read if a cell names several: ``first``, ``second`` or ``all``.
        images_dir: base folder of relative paths; by default the file's, or the working directory.
    """

    id: str | None
    images: str | Sequence[str] | None
    title: str | None
    choice: str | None
    images_dir: str | Path | None


class Reading(Columns, total=False):
    """How a catalogue is read, and with which encoder.

    Args:
        encoder: ``bundled``, a checkpoint's file, or a training run's folder.
        store: folder of decoded images; after an interruption the next call goes on from there.
        progress: whether to show bars, on stderr or in the notebook.
    """

    encoder: str | Path
    store: str | Path | None
    progress: bool


DEFAULTS: Mapping[str, Any] = {"encoder": BUNDLED, "progress": True}
"""Defaults of shared arguments; that of the others is ``None``, the commands' default."""
PATHS = ("encoder", "folder", "images_dir", "index", "path", "store")
"""Arguments that are paths."""


def public(*shared: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function one of the API: with checked arguments, and errors in their words.

    Args:
        shared: ``Columns`` and ``Reading``, if the function takes their arguments as ``**`` ones.
            They are then listed in its signature and its docstring.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = _spelled_out(function, shared)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in signature.parameters:
                    hint = meant(name, signature.parameters)
                    raise TypeError(f"{function.__name__}() has no argument {name}{hint}")
            with as_errors(function.__name__):
                check_arguments(signature.bind(*args, **kwargs).arguments)
                return function(*args, **kwargs)

        vars(call)["__signature__"] = signature
        texts = (inspect.cleandoc(one.__doc__ or "") for one in (function, *shared))
        call.__doc__ = "\n\n".join(texts)
        return call

    return decorate


def _spelled_out(function: Callable[..., Any], shared: tuple[type, ...]) -> inspect.Signature:
    """List the shared arguments in a function's signature, in place of its ``**`` one."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind != one.VAR_KEYWORD]
    hints = {name: hint for one in shared for name, hint in get_type_hints(one).items()}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS.get(name),
                          annotation=hint)
        for name, hint in hints.items()
    ]  # fmt: skip
    return signature.replace(parameters=[*own, *more])


def check_arguments(given: Mapping[str, Any]) -> None:
    """Check that paths are paths, and that texts can be written to a file.

    Raises:
        ConfigError: an argument is of another type, or a text has a NUL or half a character.
    """
    for name, value in given.items():
        is_path = value is None or isinstance(value, str | os.PathLike | SavedIndex)
        if name in PATHS and not is_path:
            raise ConfigError(f"{name} is of type {type(value).__name__}: pass a path")
        several = value if isinstance(value, list | tuple | set | frozenset) else [value]
        for text in several:
            if isinstance(text, str | os.PathLike) and (why := _unusable(os.fspath(text))):
                raise ConfigError(f"{name}={str(text)[:100]!a} {why}: correct the text")


def _unusable(text: str) -> str:
    """Say why a text cannot be the name of a file or be written to one; "" if it can."""
    if "\0" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate), which UTF-8 cannot write"
    return ""


def paths_of(images: Any) -> list[str | os.PathLike[str]]:
    """Check the images of a query: a path or an address, or several in a list or the like.

    Raises:
        ConfigError: they are anything else.
    """
    if isinstance(images, str | os.PathLike):
        return [images]
    several = images.tolist() if hasattr(images, "tolist") else images
    is_several = isinstance(several, Collection) and not isinstance(several, Mapping | bytes)
    if not is_several or not all(isinstance(one, str | os.PathLike) for one in several):
        raise ConfigError(
            f"images is of type {type(images).__name__}: pass the path or the address of an image, "
            "or a list of them"
        )
    return list(several)


def ids_of(remove: Any) -> Collection[str]:
    """Check the ids of products to remove: one text, or several in a list, array or the like.

    Raises:
        ConfigError: they are anything else.
    """
    several = remove.tolist() if hasattr(remove, "tolist") else remove
    if isinstance(several, str):
        return [several]
    if isinstance(several, Mapping | bytes) or not isinstance(several, Collection):
        raise ConfigError(
            f"remove is of type {type(remove).__name__}: pass a list of product ids, such as "
            'remove=["A1"]'
        )
    for one in several:
        if not isinstance(one, str):
            raise ConfigError(
                f"remove holds {str(one)[:100]!a} of type {type(one).__name__}: pass each id as a "
                "text"
            )
    return several


def state_of(since: Any) -> SearchState | None:
    """Read the comparisons of an earlier search from a result, or from its folder.

    Raises:
        ConfigError: ``since`` is neither.
        ArtifactError: the folder holds no search.
    """
    if since is None or isinstance(since, SearchState):
        return since
    if isinstance(since, DetectionResult):
        state: SearchState | None = getattr(since, "state", None)
        return state
    if not isinstance(since, str | os.PathLike):
        raise ConfigError(
            f"since is of type {type(since).__name__}: pass an earlier result, or the path of its "
            "folder"
        )
    return SearchState.load(Path(since))


def configured(checkpoint: str | Path, settings: Mapping[str, Any]) -> DictConfig:
    """Compose the defaults of ``detect.py encoder=bundled`` with some settings changed.

    Every encoder gets the bundled one's recipe: an automatic threshold and verification.

    Args:
        checkpoint: the encoder.
        settings: new values by dotted key; ``None`` keeps the default.
    """
    cfg = default_config("detect", encoder=BUNDLED)
    cfg.checkpoint = literal(str(checkpoint))
    changes = {key: value for key, value in settings.items() if value is not None}
    for key, value in changes.items():
        group, name = key.split(".")
        try:
            cfg[group][name] = literal(value)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{name}={value!r} cannot be used: {error}") from error
    if "matcher.threshold" in changes:
        cfg.verifier = None
    values = plain(cfg)
    check_config(values)
    check_limits(values)
    return cfg


def detection_of(
    cfg: DictConfig, index: SavedIndex, settings: Mapping[str, Any] | None = None
) -> Detector:
    """Build the detector from the index's recipe, with the given settings instead where set."""
    matcher, verifier = plain(cfg.matcher), plain(cfg.verifier)
    recipe = origins.recipe(index)
    given = {key for key, value in (settings or {}).items() if value is not None}
    if recipe is not None and "matcher.threshold" not in given:
        others = {k: v for k, v in recipe.matcher.items() if f"matcher.{k}" not in given}
        matcher, verifier = matcher | others, recipe.verifier
    parts = {"matcher": build(matcher), "verifier": build(verifier), "health": build(cfg.health)}
    detection: Detector = build(cfg.detection, grouping=build(cfg.grouping), **parts)
    return detection


def source_of(
    cfg: DictConfig, catalogue: Table, columns: Columns, part: str = ""
) -> tuple[origins.Source, dict[str, Any]]:
    """Build the source of a catalogue, and describe it for the index's manifest.

    Args:
        cfg: the composed config.
        catalogue: the catalogue.
        columns: the columns that are named.
        part: the source of a file that an index's table was read with; else it is found out.
    """
    given: dict[str, Any] = {
        SETTINGS[name].removeprefix("source."): str(value) if isinstance(value, Path) else value
        for name, value in columns.items()
        if name in Columns.__annotations__ and value is not None
    }
    if isinstance(catalogue, pd.DataFrame):
        usual = {k: v for k, v in plain(cfg.source).items() if k in given or k in _COLUMNS}
        check_limits({"source": usual | given})
        described = {"table": "pandas.DataFrame", "choice": (usual | given)["choice"]}
        return FrameSource(catalogue, **(usual | given)), described
    if not isinstance(catalogue, str | Path):
        raise SourceError(
            f"cannot read a catalogue of type {type(catalogue).__name__}: pass the path of a CSV, "
            "Parquet or JSON lines file or of a folder of images, or a pandas DataFrame"
        )
    group = _part_of(catalogue, given, part)
    settings = plain(default_config("cluster", source=group).source)
    settings |= {"path": str(catalogue)} | (given if group != "folder" else {})
    check_limits({"source": settings})
    return build(settings), settings


def _part_of(path: str | Path, given: Mapping[str, Any], before: str) -> str:
    """Choose the source of a folder or a file; columns that are named make a file a plain table."""
    kind = kind_of(path)
    if kind != "csv":
        return kind
    if before not in ("", "csv"):
        return before
    found = known_export(path) or "csv"
    is_named = before or {"id_column", "url_column"} & given.keys()
    return "csv" if is_named and not is_feed(path) else found


_COLUMNS = ("id_column", "url_column", "title_column", "choice")


def read_before(manifest: Mapping[str, Any]) -> Columns:
    """Name the columns that the table of an index was read by."""
    known = origins.table_settings(manifest)
    settings = {name: SETTINGS[name].removeprefix("source.") for name in Columns.__annotations__}
    return cast(Columns, {name: known[key] for name, key in settings.items() if key in known})


def embedding_of(cfg: DictConfig, checkpoint: str | Path) -> pipeline.Embedding:
    """Choose how images are embedded: checkpoint, batch size and devices."""
    from dedup.training.devices import embedding_devices  # imports torch

    trainer = plain(cfg.trainer)
    devices = embedding_devices(trainer["gpus"], trainer["accelerator"], trainer["num_processes"])
    return pipeline.Embedding(checkpoint, cfg.data.batch_size, devices)


def images_of(cfg: DictConfig, index: SavedIndex, folder: Path) -> ImageReader:
    """Open an index's store through the index's foreground, if it has one."""
    path, reader = index.manifest["store"], index.manifest["reader"]
    store: ImageStore = build(cfg.store, fetcher=build(cfg.fetch), path=path, reader=reader)
    return pipeline.open_images_of(index, store, folder)


def new_folder() -> Path:
    """Name a new run folder below ``runs/python``."""
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    return Path(str(default_config("detect").runs)) / "python" / started


@contextmanager
def shown(progress: bool) -> Iterator[None]:
    """Show progress bars, or hide them."""
    with hidden(not progress):
        yield
