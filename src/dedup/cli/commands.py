"""Translation of a command's config into calls of ``pipeline``, for the entry points."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dedup import pipeline
from dedup.cli.actions import with_changes
from dedup.cli.arguments import typed
from dedup.cli.latest import (
    foreground_of,
    index_to_change,
    is_given,
    known_indexes,
    serves,
    usual_index,
)
from dedup.config.instances import build, default_config, default_settings, literal, plain
from dedup.config.parts import shown
from dedup.detection.detector import Detector
from dedup.detection.recalibration import Recalibration
from dedup.detection.results import DetectionResult
from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.invocation import command
from dedup.runtime.printable import visible_json
from dedup.runtime.run_record import RUN, read_run
from dedup.schemas import AUTO
from dedup.search import origins
from dedup.search.index import Index
from dedup.search.manifest import read_facts, read_manifest
from dedup.search.state import SearchFacts, SearchState
from dedup.store.decode_pool import Decoders
from dedup.store.image_store import ImageStore

log = logging.getLogger("dedup")


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
    if is_given(cfg):
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
    if cfg.change != "remove" and not is_given(cfg):
        raise ConfigError(f"change={cfg.change} needs a catalogue: add source=csv source.path=PATH")
    if (cfg.change == "remove") != (cfg.ids is not None):
        raise ConfigError("ids= goes with change=remove: a list of product ids, or a file of them")
    folder = index_to_change(cfg)
    before = origins.load_index(folder)
    origins.check_foreground(before, foreground_of(cfg))
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
        ``since=FOLDER``, and the settings of that search that the index does not imply, with those
        of its groups and tables; nothing where there is no search, or none that can be continued.
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
    return words + _choices_of(folder)


def _choices_of(folder: Path) -> list[str]:
    """Name what a detect run was told of the kept products and the user's columns, if anything.

    Without them the next search would keep other products of the same groups.
    """
    try:
        run = read_run(folder / RUN)
    except ArtifactError:  # none, or a damaged one
        return []
    usual = {"grouping.keep": plain(default_config("detect").grouping.keep)}
    chosen = {
        "grouping.keep": run.get("grouping", {}).get("keep"),
        "report.csv.columns": ((run.get("report") or {}).get("csv") or {}).get("columns"),
    }
    return [
        f"{name}={_as_typed(value)}"
        for name, value in chosen.items() if value and value != usual.get(name)
    ]  # fmt: skip


def _as_typed(value: Any) -> str:
    """Write a text, or a list of texts, as it is typed behind a setting's name."""
    if isinstance(value, list):
        return f"[{','.join(map(_as_typed, value))}]"
    text = str(value)
    if re.fullmatch(r"[A-Za-z0-9_]+(:[A-Za-z0-9_]+)?", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def take_columns(cfg: DictConfig) -> None:
    """Read a table as that of the index to change was read, where the user set nothing else.

    These are its source, the names of its columns, and which of its rows and addresses count.
    Nothing is taken for another source than the index's, unless that is one of plain tables.
    """
    if not is_given(cfg):
        return
    manifest, _ = read_manifest(index_to_change(cfg))
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
    or the source that is given differs from that of the latest, or if its table or an image of it
    has changed since.

    Returns:
        The index and its folder.

    Raises:
        ConfigError: both an index and a source are given.
        ArtifactError: there is no index, or it was made with another checkpoint or foreground.
    """
    if cfg.index is not None and is_given(cfg):
        raise ConfigError(
            "index= and source= name two catalogues, as an index has its own: leave one of them out"
        )
    if cfg.index is not None:
        folder = Path(cfg.index)
        index = origins.load_index(folder)
        if cfg.checkpoint is not None:
            index.check_encoder(cfg.checkpoint)
    else:
        checkpoint = None if is_given(cfg) else cfg.checkpoint
        folder = usual_index(Path(cfg.runs), checkpoint, newest=cfg.query is not None)
        if not serves(folder, cfg):
            folder, index = run_dir, make_index(cfg, run_dir)
        elif is_given(cfg):
            folder, index = _current_index(cfg, folder, run_dir)
        else:
            index = origins.load_index(folder)
    if not is_given(cfg):
        pipeline.warn_of_changed_table(index, folder, Path(cfg.runs))
        if cfg.store.refresh and cfg.query is None:
            log.warning(
                "store.refresh=true asks for the images of a table, and here is only an index: "
                "add source.path=, or run %s change=update source.path=PATH store.refresh=true",
                command("cluster"),
            )  # fmt: skip
    origins.check_foreground(index, foreground_of(cfg))
    return pipeline.with_images(index, folder), folder


def _current_index(cfg: DictConfig, folder: Path, run_dir: Path) -> tuple[Path, Index]:
    """Open an index of the given source, and make it anew where table or images have changed.

    Args:
        cfg: the config.
        folder: folder of an index of the source.
        run_dir: folder for a new index.

    Returns:
        The index's folder, and the index.
    """
    others = [other for other in known_indexes(Path(cfg.runs)) if other != folder]
    places = [folder, *(other for other in others if serves(other, cfg))]
    source, why, before = build(cfg.source), "", None
    for place in places:
        index = origins.load_index(place)
        reason = pipeline.changes_since(index, source, _images_of(cfg, index, place))
        if not reason:
            return place, index
        why, before = why or reason, before or index
    assert before is not None
    log.warning(
        "%s, so it is read anew (%s change=update source.path=%s does so for later commands too)",
        why, command("cluster"), source.path,
    )  # fmt: skip
    recipe = {"recipe": before.manifest["recipe"]} if "recipe" in before.manifest else {}
    images = pipeline.open_images_of(before, _store_of(cfg, before), folder)
    embedding = _embedding(cfg, before.manifest["checkpoint"])
    before.check_encoder(embedding.checkpoint)
    index = pipeline.make_index(
        source, images, embedding, build(cfg.clusterer), run_dir,
        {"source": plain(cfg.source), **recipe}, before,
    )  # fmt: skip
    pipeline.log_changes(before, index)
    return run_dir, index


def _images_of(cfg: DictConfig, index: Index, folder: Path) -> ImageReader | None:
    """Open the store of an index with the command's settings; ``None`` if it is gone."""
    if not Path(index.manifest["store"]).is_dir():
        return None
    return pipeline.open_images_of(index, _store_of(cfg, index), folder)


def find(
    cfg: DictConfig, index: Index, run_dir: Path | None = None
) -> tuple[Index, DetectionResult, SearchState]:
    """Find the duplicates in an index, or between it and the index of ``against=``.

    With ``since=`` the result says what changed, see ``with_changes``.

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
        result, state = pipeline.detect(index, detection, sampling, since, truth)
        return index, with_changes(cfg, index, result, run_dir), state
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
        health=build(cfg.health),
        ledger=build(cfg.ledger),
        calibration=None if cfg.calibration is None else Recalibration.read(Path(cfg.calibration)),
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


def _images(cfg: DictConfig) -> ImageReader:
    """Open the store, through the foreground if one was chosen."""
    return pipeline.open_images(build(cfg.store, fetcher=build(cfg.fetch)), foreground_of(cfg))


def _store_of(cfg: DictConfig, index: Index) -> ImageStore:
    """Open the store of an index with the command's settings."""
    path, reader = index.manifest["store"], index.manifest["reader"]
    store: ImageStore = build(cfg.store, fetcher=build(cfg.fetch), path=path, reader=reader)
    return store
