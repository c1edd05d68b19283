"""The steps that the entry points share, from a config to objects on disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import pandas as pd
from omegaconf import DictConfig

from dedup import origins
from dedup.allowed import FOREGROUNDS
from dedup.artifacts import IMAGES, Catalogue, Findings, Index, Search, Sight, checkpoint_file
from dedup.calibration import expected
from dedup.claims import MANIFEST, read_manifest
from dedup.decoding import Decoders
from dedup.entrypoint import build, log, plain
from dedup.errors import ArtifactError, ConfigError
from dedup.files import write_json
from dedup.framing import Framed, Pictures
from dedup.invocation import command
from dedup.matching import merged
from dedup.ranks import is_first
from dedup.recorded import Record
from dedup.runs import read_run
from dedup.store import ImageStore
from dedup.truth import against_truth, read_truth
from dedup.visible import visible_json


def read_pictures(
    cfg: DictConfig, source: origins.Source, run_dir: Path, index: Index | None = None
) -> tuple[Catalogue, Pictures, pd.DataFrame]:
    """Read a source, and every picture that it asks for into the store.

    With a foreground, the products of the pictures are found as well, and ``foreground.json`` in
    ``run_dir`` says in how many there was none.

    Args:
        cfg: gives the store, the foreground, and how web addresses are fetched.
        source: reads the catalogue.
        run_dir: where failures are listed.
        index: what the pictures will be added to; its store and foreground stand above ``cfg``'s.

    Returns:
        The catalogue, the store, and the pictures in the schema ``IMAGES``.
    """
    catalogue = source.read()
    if index is None:
        pictures = _pictures(cfg)
    else:
        origins.check_store(index, _record(cfg.index))
        said = index.manifest
        store = build(
            cfg.store, fetcher=build(cfg.fetch), path=said["store"], reader=said["reader"]
        )
        pictures = _framed_as(index, store, _record(cfg.index)) if index.shows else store
    store = pictures.store if isinstance(pictures, Framed) else pictures
    images = store.ingest(catalogue, run_dir)
    if isinstance(pictures, Framed):
        urls = images.loc[images["status"] == "ok", "url"].drop_duplicates().tolist()
        facts = pictures.prepare(urls)
        write_json({**pictures.facts, **facts}, run_dir / "foreground.json")
    return catalogue, pictures, images


def training_pictures(cfg: DictConfig, run_dir: Path) -> tuple[Pictures, pd.DataFrame]:
    """The store, and the pictures to train on in the schema ``IMAGES``.

    Where several processes train, the first alone reads them, and the others have no rows yet:
    ``CatalogueDataModule`` hands them over.
    """
    if is_first():
        _, store, images = read_pictures(cfg, build(cfg.source), run_dir)
        return store, images
    return _pictures(cfg), pd.DataFrame(columns=IMAGES.names)


def show_foreground(cfg: DictConfig, run_dir: Path) -> None:
    """Write a page of what a foreground finds in some pictures of a catalogue, and stop.

    Raises:
        ConfigError: there is no foreground to show.
    """
    if cfg.foreground is None:
        raise ConfigError(
            "preview= shows what a foreground finds: choose one, such as foreground=grabcut"
        )
    catalogue = build(cfg.source).read()
    framed = _pictures(cfg)
    assert isinstance(framed, Framed)

    from dedup.preview import preview  # imports torch

    page = preview(catalogue, framed, _name(plain(cfg.foreground)), cfg.preview, run_dir)
    log.info("look at %s, and at %s in TensorBoard", page, run_dir)


def make_index(cfg: DictConfig, run_dir: Path) -> Index:
    """Embed and cluster a catalogue with ``cfg.checkpoint``, and save the index in ``run_dir``.

    The catalogue is ``cfg.source``, or else what the checkpoint was trained on.
    """
    checkpoint = checkpoint_file(cfg.checkpoint or Path(cfg.runs) / "train" / "latest")
    if _given(cfg):
        source, said = build(cfg.source), plain(cfg.source)
    else:
        source, said = origins.trained_on(checkpoint, Path(cfg.runs))
        log.info("the catalogue is the one trained on: %s", said)
    _compare_foregrounds(cfg, checkpoint)
    catalogue, store, images = read_pictures(cfg, source, run_dir)
    clusterer = build(cfg.clusterer)

    from dedup.indexing import build_index  # imports torch

    index = build_index(
        catalogue, images, store, checkpoint, clusterer, cfg.data.batch_size, _devices(cfg)
    )
    index.manifest["source"] = said
    _count_failed(index, run_dir)
    index.save(run_dir)
    return index


def change_index(cfg: DictConfig, run_dir: Path) -> Index:
    """Add to ``cfg.index``, update it or remove from it, and save the result in ``run_dir``.

    Raises:
        ConfigError: what is to be added, or removed, is not said.
        SourceError: the index has no such product.
    """
    if cfg.change != "remove" and not _given(cfg):
        raise ConfigError(f"change={cfg.change}: of what? Say source=csv source.path=PATH")
    if (cfg.change == "remove") != (cfg.ids is not None):
        raise ConfigError("ids= goes with change=remove: a list of product ids, or a file of them")
    index = origins.load_index(Path(cfg.index))
    _check_foreground(cfg, index)
    if cfg.change == "remove":
        from dedup.changing import listed_ids, remove  # imports torch

        index = remove(index, listed_ids(plain(cfg.ids)))
    else:
        from dedup.changing import add, update

        catalogue, store, images = read_pictures(cfg, build(cfg.source), run_dir, index)
        change = add if cfg.change == "add" else update
        index = change(index, catalogue, images, store, cfg.data.batch_size, _devices(cfg))
    index.manifest["source"] = {"index": str(cfg.index), "change": cfg.change}
    _count_failed(index, Path(cfg.index))
    index.save(run_dir)
    return index


def open_index(cfg: DictConfig, run_dir: Path) -> Index:
    """The index that ``detect.py`` works on, its thumbnails attached.

    ``index=`` names one. Without, it is the latest cluster run's; but a checkpoint or another
    source than that run's, where given, make a new one.

    Raises:
        ConfigError: both an index and a source are given.
        ArtifactError: there is no index, or it was made with another checkpoint or foreground.
    """
    latest = Path(cfg.runs) / "cluster" / "latest"
    if cfg.index is not None:
        if _given(cfg):
            raise ConfigError("index= holds its own catalogue: leave source out, or index")
        folder = Path(cfg.index)
        index = origins.load_index(folder)
        if cfg.checkpoint is not None:
            index.check_encoder(cfg.checkpoint)
    elif cfg.checkpoint is None and (not _given(cfg) or _serves(latest, cfg)):
        folder = latest
        index = origins.load_index(folder)
    else:
        folder, index = run_dir, make_index(cfg, run_dir)
    _check_foreground(cfg, index)
    return _with_pictures(index, folder)


def find(cfg: DictConfig, index: Index) -> tuple[Index, Findings, Search]:
    """What ``detect.py`` finds in an index, or between it and the one that ``against=`` names.

    Returns:
        The index that was searched, what was found, and the search for a later one to go on from.

    Raises:
        ConfigError: both ``since=`` and ``against=`` are given, or a setting does not fit.
        ArtifactError: what they name does not fit.
    """
    matcher, verifier = build(cfg.matcher), build(cfg.verifier)
    grouping = build(cfg.grouping)
    detection = build(cfg.detection, matcher=matcher, grouping=grouping, verifier=verifier)
    truth = None if cfg.truth is None else read_truth(Path(cfg.truth))
    if cfg.against is None:
        since = None if cfg.since is None else Search.load(Path(cfg.since))
        findings, search = detection(index, since)
    elif cfg.since is not None:
        raise ConfigError("since= goes on with one catalogue: leave it out, or against=")
    else:
        against = Path(cfg.against)
        other = _with_pictures(origins.load_index(against), against)
        both, theirs = merged(index, other, cfg.prefix)
        findings, search = detection(both, others=theirs)
        return both, _calibrated(cfg, findings, both, index, verifier, truth), search
    return index, _calibrated(cfg, findings, index, index, verifier, truth), search


def _calibrated(
    cfg: DictConfig,
    findings: Findings,
    index: Index,
    sampled: Index,
    verifier: Any,
    truth: pd.DataFrame | None,
) -> Findings:
    """Add to the calibration what edited copies and, where there is one, the truth say."""
    calibration = dict(findings.calibration)
    if calibration:
        from dedup.relisting import listed_again  # imports torch

        copies = listed_again(
            sampled, findings.search, verifier, calibration.pop("shift"), cfg.checkpoint, cfg.seed,
            cfg.detection.max_products, cfg.detection.min_contrast,
        )  # fmt: skip
        calibration |= expected(calibration, findings.candidates, copies.surety, copies.chains)
        said = ", ".join(
            f"{name} {value:.3f} ({low:.3f} to {high:.3f})"
            for name in ("precision", "recall")
            for value, low, high in [calibration[f"expected_{name}"]]
        )
        log.info("%s=%.4g: expected %s", calibration["setting"], calibration["threshold"], said)
    if truth is not None:
        measured = against_truth(findings, index.images["product_id"], truth)
        calibration["measured"] = {**measured, "truth": str(cfg.truth)}
        log.info("measured against %s: %s", cfg.truth, measured)
    return dataclasses.replace(findings, calibration=calibration)


def answer(cfg: DictConfig, index: Index) -> str:
    """Which products show the pictures of ``query=``, as JSON."""
    fetcher, store, asked = build(cfg.fetch), cfg.store, plain(cfg.query)
    asked = [str(one) for one in (asked if isinstance(asked, list) else [asked])]
    decoders = Decoders(
        index.manifest["reader"], store.workers, store.decode_timeout, store.decode_memory,
        fetcher.max_bytes,
    )  # fmt: skip
    with decoders:
        # They start while the encoder loads.
        decoders.begin(len(asked))

        from dedup.querying import Query  # imports torch

        query = Query(
            index,
            build(cfg.matcher),
            cfg.checkpoint,
            cfg.detection.max_products,
            cfg.detection.min_contrast,
            build(cfg.verifier),
            fetcher,
            decoders,
        )
        answers = query(asked)
    return visible_json(json.dumps(answers.to_dict("records"), indent=1, ensure_ascii=False))


def _devices(cfg: DictConfig) -> list[str]:
    """What embeds: one process for each."""
    from dedup.devices import embedding_devices  # imports torch

    asked = plain(cfg.trainer)
    return embedding_devices(asked["gpus"], asked["accelerator"], asked["num_processes"])


def _with_pictures(index: Index, folder: Path) -> Index:
    store = ImageStore(index.manifest["store"], index.manifest["reader"])
    sight = Sight(store.details, store.words)
    if index.shows:
        # A foreground is built where it is used alone.
        framed = cache(lambda: _framed_as(index, store, _record(folder)))
        sight = sight._replace(
            product=lambda picture: framed().found_in(picture),
            masks=lambda urls: framed().masks(urls),
        )
    return index.with_pictures(store.thumbnails, sight)


def _foreground(cfg: DictConfig) -> dict[str, Any] | None:
    """What an index's manifest says of the foreground that was asked for; ``None`` for none."""
    if cfg.foreground is None:
        return None
    return {"part": plain(cfg.foreground), "framing": plain(cfg.framing)}


def _pictures(cfg: DictConfig) -> Pictures:
    """The store, seen through the foreground if one was asked for."""
    store, settings = build(cfg.store, fetcher=build(cfg.fetch)), _foreground(cfg)
    if settings is None:
        return cast(ImageStore, store)
    # As they will be read again from the index's manifest.
    typed = Record("foreground= and framing=", "correct the settings")
    product = origins.described(settings, typed)
    return Framed(store, product, settings)


def _record(folder: str | Path) -> Record:
    return origins.of_manifest(Path(folder) / "manifest.json")


def _framed_as(index: Index, store: ImageStore, record: Record) -> Framed:
    """The pictures of an index as its encoder was shown them."""
    return origins.framed(store, index.manifest["foreground"], record)


def _count_failed(index: Index, folder: Path) -> None:
    """Say in the manifest in how many of the index's pictures no product was found."""
    if index.shows:
        store = ImageStore(index.manifest["store"], index.manifest["reader"])
        framed = _framed_as(index, store, _record(folder))
        shown = index.images[index.images["vector"] >= 0]
        failed = framed.failed(shown["url"].drop_duplicates().tolist())
        index.manifest["foreground"] = {**framed.facts, "failed": failed}


def _check_foreground(cfg: DictConfig, index: Index) -> None:
    """Refuse a foreground that was asked for and is not the index's; without, that is taken."""
    asked = _foreground(cfg)
    made = index.manifest.get("foreground")
    if asked is not None and not _shows(index.manifest, asked):
        raise ArtifactError(
            f"the index was made with foreground={_name(made and made['part'])}, and "
            f"foreground={_name(asked['part'])} was asked for with its settings: leave it out, or "
            f"make an index with it by {command('cluster')}"
        )


def _shows(manifest: Mapping[str, Any], asked: Mapping[str, Any] | None) -> bool:
    """Whether an index was made with the foreground that was asked for, if one was."""
    made = manifest.get("foreground")
    return asked is None or (
        isinstance(made, dict) and all(made.get(name) == asked[name] for name in asked)
    )


def _compare_foregrounds(cfg: DictConfig, checkpoint: Path) -> None:
    """Warn where an encoder was trained on pictures that looked otherwise."""
    run = checkpoint.parent / "run.json"
    if not run.is_file():
        return
    said = read_run(run)
    trained, asked = said.get("foreground"), plain(cfg.foreground)
    if trained != asked or (asked and said.get("framing") != plain(cfg.framing)):
        log.warning(
            "the encoder was trained with foreground=%s, and this index is made with "
            "foreground=%s: duplicates may be missed. Ask for foreground=%s with its settings",
            _name(trained), _name(asked), _name(trained),
        )  # fmt: skip


def _name(part: Any) -> str:
    """What a foreground is called on the command line."""
    target = part.get("_target_") if isinstance(part, Mapping) else None
    if target in FOREGROUNDS:
        return str(target).split(".")[-2]
    return "none" if part is None else "of another kind"


def _given(cfg: DictConfig) -> bool:
    """Whether a source was chosen: ``source: trained`` is a CSV without a path."""
    return not ("path" in cfg.source and cfg.source.path is None)


def _serves(latest: Path, cfg: DictConfig) -> bool:
    """Whether the latest cluster run is of this source, and of this foreground if any is asked."""
    if not (latest / MANIFEST).is_file():
        return False
    found, _ = read_manifest(latest)
    return bool(found.get("source") == plain(cfg.source)) and _shows(found, _foreground(cfg))
