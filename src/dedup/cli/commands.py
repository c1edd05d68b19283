"""Translation of a command's config into calls of ``pipeline``, for the entry points."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dedup import pipeline
from dedup.cli.arguments import typed
from dedup.config.instances import build, default_settings, literal, plain
from dedup.config.parts import shown
from dedup.detection.detector import Detector
from dedup.detection.results import DetectionResult, index_of
from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.files import sha256_file
from dedup.runtime.printable import visible_json
from dedup.schemas import AUTO
from dedup.search import origins
from dedup.search.index import Index
from dedup.search.manifest import MANIFEST, RESULT, read_facts, read_manifest
from dedup.search.state import SearchFacts, SearchState
from dedup.store.decode_pool import Decoders
from dedup.store.image_store import ImageStore

log = logging.getLogger("dedup")

STARTED = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d+")
"""Pattern of a run folder's name, the time of its start."""


def training_images(cfg: DictConfig, run_dir: Path) -> tuple[ImageReader, Any]:
    """Open the store, and read the images to train on in the schema ``IMAGES``."""
    images = _images(cfg)
    return images, pipeline.read_training_images(build(cfg.source), images, run_dir)


def show_foreground(cfg: DictConfig, run_dir: Path) -> None:
    """Write a page with the products that a foreground finds in some of a catalogue's images.

    Raises:
        ConfigError: no foreground is chosen.
    """
    if cfg.foreground is None:
        raise ConfigError(
            "preview= needs a foreground to show: choose one, such as foreground=grabcut"
        )
    catalogue = build(cfg.source).read()
    framed = _images(cfg)
    assert isinstance(framed, Framed)

    from dedup.reports.foreground_preview import preview  # imports torch

    name = origins.name_of(plain(cfg.foreground))
    page = preview(catalogue, framed, name, cfg.preview, run_dir)
    log.info("open %s, or %s in TensorBoard", page, run_dir)


def make_index(cfg: DictConfig, run_dir: Path) -> Index:
    """Embed and cluster a catalogue with ``cfg.checkpoint``, and save the index in ``run_dir``.

    The catalogue is ``cfg.source``, or else the one that the checkpoint was trained on.
    """
    checkpoint = checkpoint_file(cfg.checkpoint or Path(cfg.runs) / "train" / "latest")
    if _is_given(cfg):
        source, settings = build(cfg.source), plain(cfg.source)
    else:
        source, settings = origins.trained_on(checkpoint, Path(cfg.runs))
        log.info("the catalogue is the one that the encoder was trained on: %s", settings)
    if "detection" in cfg:
        reports = (build(cfg.report) or {}).values()
        pipeline.check_columns(source, cfg.detection.block_by, build(cfg.grouping), reports)
    recipe = origins.described_recipe(plain(cfg.matcher), plain(cfg.verifier))
    return pipeline.make_index(
        source,
        _images(cfg),
        _embedding(cfg, checkpoint),
        build(cfg.clusterer),
        run_dir,
        {"source": settings, "recipe": recipe},
    )


def change_index(cfg: DictConfig, run_dir: Path) -> Index:
    """Add products to ``cfg.index``, update or remove some, and save the result in ``run_dir``.

    Raises:
        ConfigError: the products to add or remove are not named.
        SourceError: the index has no such product.
    """
    if cfg.change != "remove" and not _is_given(cfg):
        raise ConfigError(f"change={cfg.change} needs a catalogue: add source=csv source.path=PATH")
    if (cfg.change == "remove") != (cfg.ids is not None):
        raise ConfigError("ids= goes with change=remove: a list of product ids, or a file of them")
    folder = _index_to_change(cfg)
    before = origins.load_index(folder)
    origins.check_foreground(before, _foreground(cfg))
    if cfg.change == "remove":
        from dedup.search.update import listed_ids, remove  # imports torch

        index = remove(before, listed_ids(plain(cfg.ids)))
    else:
        images = pipeline.open_images_of(before, _store_of(cfg, before), folder)
        embedding = _embedding(cfg, before.manifest["checkpoint"])
        index = pipeline.add_products(
            before, cfg.change, build(cfg.source), images, embedding, run_dir
        )
    source = None if cfg.change == "remove" else plain(cfg.source)
    return pipeline.save_changed(index, before, cfg.change, folder, run_dir, source)


def settings_to_continue(cfg: DictConfig, index: Index) -> list[str]:
    """Name the settings by which ``detect.py`` continues its latest search in a changed index.

    Returns:
        ``since=FOLDER``, and the settings of that search that the index does not imply; nothing
        where there is no search, or none that can be continued.
    """
    folder = Path(cfg.runs) / "detect" / "latest"
    try:
        facts = SearchFacts.from_dict(read_facts(folder)[0])
    except ArtifactError:  # none, or one of an earlier version; a damaged one is not advised
        return []
    made_for, usual = origins.recipe(index), default_settings("matcher", "radius")
    matcher = usual if made_for is None else usual | made_for.matcher
    is_of_index = facts.checkpoint_sha256 == index.manifest["checkpoint_sha256"]
    if facts.against or not is_of_index or not (facts.lossless and matcher["lossless"]):
        return []
    words = [f"since={folder}"]
    if facts.asked != matcher["threshold"]:
        words.append(f"matcher.threshold={facts.asked}")
    is_verified = made_for is not None and made_for.verifier is not None
    if facts.looked != (is_verified or facts.asked == AUTO):
        words.append(f"verifier={'local' if facts.looked else 'none'}")
    if facts.block_by is not None:
        words.append(f"detection.block_by={facts.block_by}")
    return words


def take_columns(cfg: DictConfig) -> None:
    """Read a table as that of the index to change was read, where the user set nothing else.

    These are its source, the names of its columns, and which of its rows and addresses count.
    Nothing is taken for another source than the index's, unless that is one of plain tables.
    """
    if not _is_given(cfg):
        return
    manifest, _ = read_manifest(_index_to_change(cfg))
    words = [word.partition("=")[0].lstrip("+~") for word in typed()]
    made_by = origins.table_part(manifest)
    chosen = origins.table_part({"source": plain(cfg.source)})
    defaults, taken = default_settings("source", made_by), []
    if "source" not in words and chosen != made_by:
        asked = {"source.path", *words}
        kept = {name: plain(cfg.source)[name] for name in defaults if f"source.{name}" in asked}
        cfg.source = {name: literal(value) for name, value in (defaults | kept).items()}
        taken.append(f"source={made_by}")
    elif chosen != made_by:
        if chosen != "csv":
            return
        defaults = default_settings("source", "csv")
    for name, value in origins.table_settings(manifest).items():
        is_default = name in cfg.source and plain(cfg.source)[name] == defaults[name]
        if not is_default or f"source.{name}" in words or value == defaults[name]:
            continue
        cfg.source[name] = literal(value)
        taken.append(f"source.{name}={shown(value)}")
    if taken:
        log.info("the table is read as the index's was: %s", " ".join(taken))


def open_index(cfg: DictConfig, run_dir: Path) -> tuple[Index, Path]:
    """Open or make the index that ``detect.py`` works on, with its store attached.

    ``index=`` names an index; the default is ``latest_index``. A new one is made if the checkpoint
    or the source that is given differs from that of the latest.

    Returns:
        The index and its folder.

    Raises:
        ConfigError: both an index and a source are given.
        ArtifactError: there is no index, or it was made with another checkpoint or foreground.
    """
    if cfg.index is not None and _is_given(cfg):
        raise ConfigError(
            "index= and source= name two catalogues, as an index has its own: leave one of them out"
        )
    if cfg.index is not None:
        folder = Path(cfg.index)
        index = origins.load_index(folder)
        if cfg.checkpoint is not None:
            index.check_encoder(cfg.checkpoint)
    else:
        checkpoint = None if _is_given(cfg) else cfg.checkpoint
        folder = _usual_index(Path(cfg.runs), checkpoint, newest=cfg.query is not None)
        folder = folder if _serves(folder, cfg) else run_dir
        index = make_index(cfg, run_dir) if folder == run_dir else origins.load_index(folder)
    origins.check_foreground(index, _foreground(cfg))
    return pipeline.with_images(index, folder), folder


def latest_index(runs: Path, *, newest: bool = False) -> Path:
    """Find the index that a command works on if none is named.

    It is the latest cluster run's, or else the index that ``detect.py`` made or used last.

    Args:
        runs: the folder of runs.
        newest: whether to take the newer of the two, as a query does: it follows its index.

    Returns:
        The index's folder.
    """
    made, used = _known_indexes(runs)
    if not (used / MANIFEST).is_file():
        return made
    started = [folder.resolve().name for folder in (made, used)]
    is_later = all(map(STARTED.fullmatch, started)) and started[1] > started[0]
    return used if not (made / MANIFEST).is_file() or (newest and is_later) else made


def _known_indexes(runs: Path) -> tuple[Path, Path]:
    """Find the folders of the latest index of ``cluster.py``, and of that of ``detect.py``."""
    made, used = runs / "cluster" / "latest", runs / "detect" / "latest"
    return made, used if (used / MANIFEST).is_file() else _named_index(used) or made


def _named_index(folder: Path) -> Path | None:
    """Read the folder of the index that a result was found in."""
    if not (folder / RESULT).is_file():
        return None
    try:
        return index_of(folder)
    except ArtifactError:  # a damaged result is no reason to refuse an intact index
        return None


def find(cfg: DictConfig, index: Index) -> tuple[Index, DetectionResult, SearchState]:
    """Find the duplicates in an index, or between it and the index of ``against=``.

    Returns:
        The index that was searched, the result, and the state for a later search.

    Raises:
        ConfigError: both ``since=`` and ``against=`` are given, or a setting does not fit.
        ArtifactError: the earlier search or the other index does not fit.
    """
    detection = _detection(cfg, index)
    sampling = pipeline.Sampling(cfg.checkpoint, cfg.seed)
    truth = None if cfg.truth is None else Path(cfg.truth)
    if cfg.against is None:
        since = None if cfg.since is None else SearchState.load(Path(cfg.since))
        return index, *pipeline.detect(index, detection, sampling, since, truth)
    if cfg.since is not None:
        raise ConfigError("since= searches one catalogue and against= two: leave one of them out")
    against = Path(cfg.against)
    other = pipeline.with_images(origins.load_index(against), against)
    return pipeline.detect_between(index, other, cfg.prefix, detection, sampling, truth)


def answer(cfg: DictConfig, index: Index) -> str:
    """Find the products that show the images of ``query=``, as JSON."""
    fetcher, store, query = build(cfg.fetch), cfg.store, plain(cfg.query)
    addresses = [str(image) for image in (query if isinstance(query, list) else [query])]
    decoders = Decoders(
        index.manifest["reader"], store.workers, store.decode_timeout, store.decode_memory,
        fetcher.max_bytes,
    )  # fmt: skip
    answers = pipeline.answer(
        index, addresses, _detection(cfg, index), fetcher, decoders, cfg.checkpoint
    )
    return visible_json(json.dumps(_plain_rows(answers), indent=1, ensure_ascii=False))


def _plain_rows(table: Any) -> list[dict[str, Any]]:
    """Convert a table's rows to plain values; a missing number becomes null."""
    rows: list[dict[str, Any]] = table.to_dict("records")
    return [{name: None if cell != cell else cell for name, cell in row.items()} for row in rows]


def _detection(cfg: DictConfig, index: Index) -> Detector:
    """Build the detector from the config, with the index's recipe as defaults."""
    matcher, verifier = _recipe(cfg, index)
    detection: Detector = build(
        cfg.detection,
        matcher=build(matcher),
        grouping=build(cfg.grouping),
        verifier=build(verifier),
    )
    return detection


def _recipe(cfg: DictConfig, index: Index) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Choose the settings of matcher and verifier: the index's, unless the user set others."""
    matcher, verifier = plain(cfg.matcher), plain(cfg.verifier)
    made_for = origins.recipe(index)
    if made_for is None or _is_chosen_whole(cfg):
        return matcher, verifier
    words = [word.partition("=")[0].lstrip("+~") for word in typed()]
    defaults = default_settings("matcher", "radius")
    taken = {
        key: value
        for key, value in made_for.matcher.items()
        if not {"matcher", f"matcher.{key}"} & {*words} and matcher.get(key) == defaults.get(key)
    }
    changed = {key: value for key, value in taken.items() if matcher.get(key) != value}
    names = [f"matcher.{key}={value}" for key, value in changed.items()]
    if verifier is None and "verifier" not in words and made_for.verifier is not None:
        verifier = made_for.verifier
        names.append("its verifier")
    if names:
        log.info("settings that the index was made for: %s", ", ".join(names))
    return matcher | taken, verifier


def _is_chosen_whole(cfg: DictConfig) -> bool:
    """Tell whether ``experiment=`` or ``encoder=bundled`` was chosen: these set all of matching."""
    is_experiment = any(word.partition("=")[0].lstrip("+") == "experiment" for word in typed())
    return is_experiment or "weights" in cfg.encoder


def _embedding(cfg: DictConfig, checkpoint: str | Path) -> pipeline.Embedding:
    from dedup.training.devices import embedding_devices  # imports torch

    trainer = plain(cfg.trainer)
    devices = embedding_devices(trainer["gpus"], trainer["accelerator"], trainer["num_processes"])
    return pipeline.Embedding(checkpoint, cfg.data.batch_size, devices)


def _foreground(cfg: DictConfig) -> dict[str, Any] | None:
    """Describe the chosen foreground as an index's manifest does; ``None`` for whole images."""
    if cfg.foreground is None:
        return None
    return {"part": plain(cfg.foreground), "framing": plain(cfg.framing)}


def _images(cfg: DictConfig) -> ImageReader:
    """Open the store, through the foreground if one was chosen."""
    return pipeline.open_images(build(cfg.store, fetcher=build(cfg.fetch)), _foreground(cfg))


def _store_of(cfg: DictConfig, index: Index) -> ImageStore:
    """Open the store of an index with the command's settings."""
    path, reader = index.manifest["store"], index.manifest["reader"]
    store: ImageStore = build(cfg.store, fetcher=build(cfg.fetch), path=path, reader=reader)
    return store


def _usual_index(runs: Path, checkpoint: str | None, *, newest: bool = False) -> Path:
    """Find the latest index; with a checkpoint, the latest that was made with it, if any."""
    folder = latest_index(runs, newest=newest)
    if checkpoint is not None and not _is_of(folder, checkpoint):
        others = _known_indexes(runs)
        folder = next((other for other in others if _is_of(other, checkpoint)), folder)
    return folder


def _index_to_change(cfg: DictConfig) -> Path:
    """Find the index to change: ``index=``, or else the latest of the chosen encoder."""
    folder, usual = Path(cfg.index), Path(cfg.runs) / "cluster" / "latest"
    if folder != usual:
        return folder
    return _usual_index(Path(cfg.runs), cfg.encoder.get("weights"))


def _is_given(cfg: DictConfig) -> bool:
    """Tell whether a source was chosen: ``source: trained`` is a CSV without a path."""
    return not ("path" in cfg.source and cfg.source.path is None)


def _serves(latest: Path, cfg: DictConfig) -> bool:
    """Tell whether the latest index fits the config, so that no new one is made.

    A source that is given with a checkpoint is always read anew.
    """
    if not _is_given(cfg):
        return cfg.checkpoint is None or (
            _is_of(latest, cfg.checkpoint) and _shows(latest, _foreground(cfg))
        )
    if cfg.checkpoint is not None or not (latest / MANIFEST).is_file():
        return False
    manifest, _ = read_manifest(latest)
    is_source = manifest.get("source") == plain(cfg.source)
    return is_source and origins.shows(manifest, _foreground(cfg))


def _is_of(folder: Path, checkpoint: str) -> bool:
    """Tell whether a folder holds an index that was made with a checkpoint."""
    if not (folder / MANIFEST).is_file():
        return False
    made_with: str = read_manifest(folder)[0]["checkpoint_sha256"]
    return made_with == sha256_file(checkpoint_file(checkpoint))


def _shows(folder: Path, foreground: dict[str, Any] | None) -> bool:
    return origins.shows(read_manifest(folder)[0], foreground)
