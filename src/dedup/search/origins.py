"""Resolve the catalogue, store, foreground and recipe that an index or a checkpoint names.

Both files may come from a stranger, so their settings are read by ``dedup.config.parts``. Nothing
is written to a path that they name. Only the folder of a catalogue is read there, unless the path
is the operator's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dedup.config.limits import wrong_in
from dedup.config.parts import Record, shown
from dedup.config.renames import renewed
from dedup.config.targets import FOREGROUNDS, TARGET
from dedup.download.buckets import is_bucket
from dedup.encoders.paths import BUNDLED
from dedup.errors import ArtifactError, ConfigError
from dedup.foregrounds.masked_store import Framed, Product
from dedup.runtime.invocation import command
from dedup.runtime.run_record import read_run
from dedup.search.index import Index
from dedup.search.manifest import MANIFEST
from dedup.sources.catalogue import Catalogue
from dedup.store.image_store import ImageStore
from dedup.store.integrity import check_is_store

log = logging.getLogger("dedup")

OF_TABLE = (
    "id_column", "url_column", "title_column", "choice", "category_column", "categories",
    "encoding", "dialect", "base_url", "continue_rows",
)  # fmt: skip
"""Settings of a source that say how a table is read, whichever file it is."""

SOURCES_OF_TABLES = {
    "dedup.sources.auto.AutoSource": "auto",
    "dedup.sources.magento.MagentoSource": "magento",
    "dedup.sources.merchant.MerchantSource": "merchant",
    "dedup.sources.shopify.ShopifySource": "shopify",
}
"""Classes that read tables and feeds otherwise than ``CsvSource``, and their names."""

NAMED = ("checkpoint", "checkpoint_sha256", "store", "reader")
"""Fields of a manifest that are a path or a name."""


class Source(Protocol):
    """Reader of a catalogue."""

    def read(self) -> Catalogue:
        """Read the user's table and the images that it names."""
        ...


class TrainingSource(NamedTuple):
    """Source of the catalogue that an encoder was trained on.

    Attributes:
        source: reader of the catalogue.
        settings: settings of the source, for the index's manifest.
    """

    source: Source
    settings: dict[str, Any]


class Recipe(NamedTuple):
    """Matcher and verifier that an index was made for, as settings.

    Attributes:
        matcher: settings of ``RadiusSearch``.
        verifier: settings of ``GeometricVerifier``; ``None`` without a verifier.
    """

    matcher: dict[str, Any]
    verifier: dict[str, Any] | None


def load_index(folder: Path) -> Index:
    """Read an index, and check the store, the foreground and the recipe that it names.

    Raises:
        ArtifactError: ``folder`` holds no index, or its manifest names a part that is not allowed.
        CorruptError: the index is damaged.
    """
    index = Index.load(folder)
    record, manifest = manifest_of(folder), index.manifest
    for name in NAMED:
        record.text(manifest.get(name), name)
    if wrong := wrong_in("store", {"reader": manifest["reader"]}):
        raise record.refused("reader", f"is out of range ({wrong[0]})")
    with record.reading("store"):
        for name in ("store", "checkpoint"):
            manifest[name] = _moved(manifest[name], folder)
        store = Path(manifest["store"])
        is_gone = not store.exists() or (store.is_dir() and not any(store.iterdir()))
    if not is_gone:  # an index without its store can be searched, but shows no images
        check_store(index, record)
    if "foreground" in manifest:
        product(manifest["foreground"], record)
    recipe(index, record)
    return index


def manifest_of(folder: str | Path) -> Record:
    """Return the record of an index's manifest, for messages."""
    return Record(Path(folder) / MANIFEST, f"make the index again with {command('cluster')}")


def recipe(index: Index, record: Record | None = None) -> Recipe | None:
    """Read the matcher and verifier of an index; ``None`` where its manifest has none.

    Args:
        index: the index.
        record: its manifest, for messages.

    Raises:
        CorruptError: the description is not one of a matcher and a verifier.
        ArtifactError: it names a part that is not allowed.
    """
    if "recipe" not in index.manifest:  # made by an earlier version
        return None
    record, settings = record or manifest_of("the index"), index.manifest["recipe"]
    if not isinstance(settings, Mapping) or settings.keys() != {"matcher", "verifier"}:
        raise record.broken("recipe", f"is {shown(settings)}, not a matcher and a verifier")
    matcher, verifier = settings["matcher"], settings["verifier"]
    record.part(matcher, "matcher", "recipe.matcher")
    if "max_pairs" in matcher:  # guards the machine, and is no property of an index
        raise record.refused("recipe.matcher", "sets max_pairs, which no file may set")
    if verifier is not None:
        record.part(verifier, "verifier", "recipe.verifier")
    return Recipe(dict(matcher), verifier and dict(verifier))


def table_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Read the settings, see ``OF_TABLE``, that the table of an index was read with.

    What is no text, list of texts or flag is left out: the index was written by something else.
    """
    source = manifest.get("source")
    part = table_part(manifest)
    own = manifest if part == "csv" else {}  # another source finds its columns again
    if part == "auto" and manifest.get("url_column") is not None:  # and no folder
        own = {"id_column": manifest.get("id_column")}
    known = {**(source if isinstance(source, Mapping) else {}), **own}
    return {name: known[name] for name in OF_TABLE if _is_setting(known.get(name))}


def table_part(manifest: Mapping[str, Any]) -> str:
    """Name the source that the table of an index was read with; ``csv`` where it has no other."""
    source = manifest.get("source")
    target = source.get(TARGET) if isinstance(source, Mapping) else None
    return SOURCES_OF_TABLES.get(target, "csv") if isinstance(target, str) else "csv"


def _is_setting(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return isinstance(value, bool) or all(isinstance(text, str) for text in texts)


def _moved(named: str, folder: Path) -> str:
    """Resolve a path that an index names; beside the index, if the folder of runs was moved.

    Whoever gave the folder chose the links in it, and could not know where files lie here. So no
    link in it leads out of it.
    """
    path = Path(named)
    parents = folder.resolve().parents
    if path.exists() or ".." in path.parts or len(parents) < 2:
        return named
    for n_parts in (2, 3):  # store/pillow; train/TIME/best.ckpt
        there = parents[1].joinpath(*path.parts[-n_parts:])
        if len(path.parts) <= n_parts or not there.exists():
            continue
        if there.resolve().is_relative_to(parents[1]):
            log.info("%s does not exist: using %s instead", path, there)
            return str(there)
        log.warning(
            "%s does not exist, and %s is not used instead: a symbolic link leads it out of %s. "
            "Put what it leads to at one of the two places, not a link",
            path, there, parents[1],
        )  # fmt: skip
    return named


def check_store(index: Index, record: Record) -> None:
    """Check that an index's store is an image store, before anything is written there.

    Raises:
        ArtifactError: it is not, or has another reader than the manifest names.
    """
    with record.reading("store"):
        check_is_store(Path(index.manifest["store"]), index.manifest["reader"])


def product(settings: Any, record: Record) -> Product:
    """Build the foreground and framing of an index from its manifest's ``foreground``.

    Args:
        settings: ``part`` and ``framing``, each with ``_target_``; ``digest`` of both.
        record: the manifest, for messages.

    Raises:
        CorruptError: the settings do not describe a foreground.
        ArtifactError: they name a part that is not allowed.
    """
    if not isinstance(settings, Mapping):
        raise record.broken("foreground", f"is {shown(settings)}, not a description of a part")
    record.text(settings.get("digest"), "foreground.digest")
    return described(settings, record)


def described(settings: Mapping[str, Any], record: Record) -> Product:
    """Build the foreground of ``part`` and ``framing``, from a file or the command line."""
    return Product(
        record.part(settings.get("part"), "foreground", "foreground.part"),
        record.part(settings.get("framing"), "framing", "foreground.framing"),
    )


def framed(store: ImageStore, settings: Any, record: Record) -> Framed:
    """Attach an index's foreground to its store, so that products alone are read.

    Raises:
        ArtifactError: the foreground is not allowed, or is of another version or model.
    """
    foreground = product(settings, record)
    with record.reading("foreground.part"):
        digest = foreground.digest  # covers a model's file, before any of it runs
    if settings["digest"] != digest:
        raise record.refused(
            "foreground",
            "is of another version or another model, which would show other products",
        )
    return Framed(store, foreground, {name: settings[name] for name in ("part", "framing")})


def check_foreground(index: Index, foreground: Mapping[str, Any] | None) -> None:
    """Refuse a foreground that differs from the index's; ``None`` means that of the index.

    Raises:
        ArtifactError: the index was made with another foreground.
    """
    made = index.manifest.get("foreground")
    if foreground is not None and not shows(index.manifest, foreground):
        raise ArtifactError(
            f"the index was made with foreground={name_of(made and made['part'])}, which differs "
            f"from foreground={name_of(foreground['part'])} in name or settings: leave foreground "
            f"out, or make another index with {command('cluster')}"
        )


def shows(manifest: Mapping[str, Any], foreground: Mapping[str, Any] | None) -> bool:
    """Return whether an index was made with a foreground; true for ``None``."""
    made = renewed(manifest.get("foreground"))
    return foreground is None or (
        isinstance(made, dict) and all(made.get(name) == foreground[name] for name in foreground)
    )


def name_of(foreground: Any) -> str:
    """Return the name of a foreground on the command line."""
    target = foreground.get("_target_") if isinstance(foreground, Mapping) else None
    if target in FOREGROUNDS:
        return str(target).split(".")[-2]
    return "none" if foreground is None else "(unknown)"


def described_recipe(
    matcher: Mapping[str, Any], verifier: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Describe a matcher and a verifier for an index's manifest.

    ``matcher.max_pairs`` is left out, since it protects a machine and is no property of an index.
    """
    kept = {name: value for name, value in matcher.items() if name != "max_pairs"}
    return {"matcher": kept, "verifier": verifier and dict(verifier)}


def trained_on(checkpoint: Path, runs: Path) -> TrainingSource:
    """Find the catalogue that a checkpoint was trained on, by the ``run.json`` beside it.

    Args:
        checkpoint: the checkpoint's file.
        runs: the operator's folder of runs. A checkpoint elsewhere may come from a stranger, so
            its images must lie beside its table.

    Raises:
        ConfigError: ``run.json`` is missing.
        ArtifactError: it names a source or a folder that is not allowed.
        CorruptError: it is damaged.
    """
    file = checkpoint.parent / "run.json"
    if checkpoint == BUNDLED:
        raise ConfigError(
            "encoder=bundled needs a catalogue: add source.path=products.csv, or source=folder "
            "source.path=FOLDER"
        )
    if not file.is_file():
        raise ConfigError(
            f"{file} is missing, so the training catalogue of {checkpoint.name} is unknown: name "
            "one with source=csv source.path=PATH"
        )
    record = Record(file, "name the catalogue with source=csv source.path=PATH")
    run = read_run(file, "choose a catalogue with source=csv")
    settings: Any = run.get("source")
    source: Source = record.part(settings, "source", "source")
    name, is_own = settings["_target_"], checkpoint.resolve().is_relative_to(runs.resolve())
    with record.reading("source"):
        _CHECKS.get(name, _check_other_source)(source, runs, is_own, record)
    return TrainingSource(source, settings)


def _check_table_source(source: Any, runs: Path, is_own: bool, record: Record) -> None:
    """Check that a table's images lie in its folder, or below."""
    if is_bucket(source.path):
        _check_bucket(source, runs, is_own, record)
        return
    table = Path(source.path)
    if table.is_file() and not table.stat().st_size:  # files in /proc have size 0 too
        raise record.refused("source.path", f"names {shown(source.path)}, which is empty")
    if not is_own and source.base_url:  # a stranger's host would learn the paths in a table
        raise record.refused(
            "source.base_url", f"is {shown(source.base_url)}, and the run is not one of {runs}"
        )
    if is_own or not source.images_dir:
        return
    folder = table if table.is_dir() else table.parent
    if not Path(source.images_dir).resolve().is_relative_to(folder.resolve()):
        raise record.refused(
            "source.images_dir",
            f"names {shown(source.images_dir)}, which is not the folder of its table, and the run "
            f"is not one of {runs}",
        )


def _check_bucket(source: Any, runs: Path, is_own: bool, record: Record) -> None:
    """Check that a table in object storage, read with our rights, is named by our own run."""
    if not is_own:
        raise record.refused(
            "source.path", f"names {shown(source.path)}, and the run is not one of {runs}"
        )


def _check_other_source(source: Any, runs: Path, is_own: bool, record: Record) -> None:
    """Check that a folder of images, or any other source, is named by the operator's own run."""
    if not is_own:
        advice = "name the catalogue, such as with source=folder source.path=PATH"
        raise Record(record.file, advice).refused(
            "source", f"names images ({shown(vars(source))}), and the run is not one of {runs}"
        )


def _check_sample_source(source: Any, runs: Path, is_own: bool, record: Record) -> None:
    """Check that a sample not drawn yet would be drawn in the operator's folder."""
    is_drawn = (source.place / "products.csv").is_file()
    if not is_drawn and Path(source.folder).resolve() != (runs / "sample").resolve():
        advice = f"type source=sample source.folder={runs / 'sample'}, or another catalogue"
        raise Record(record.file, advice).refused(
            "source.folder", f"names {shown(source.folder)}, where nothing was drawn yet"
        )


_CHECKS = {
    "dedup.sources.csv.CsvSource": _check_table_source,
    "dedup.sources.jsonl.JsonlSource": _check_table_source,
    "dedup.sources.parquet.ParquetSource": _check_table_source,
    "dedup.sources.magento.MagentoSource": _check_table_source,
    "dedup.sources.merchant.MerchantSource": _check_table_source,
    "dedup.sources.shopify.ShopifySource": _check_table_source,
    "dedup.sources.sample.SampleSource": _check_sample_source,
}
"""Checks of the files that a run names, by the class of its source."""
