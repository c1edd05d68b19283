"""What an index and a checkpoint say of themselves: catalogue, store, foreground and recipe.

Both may have been passed on, so what they say is taken as ``dedup.config.parts`` takes it, and
where it is a path, nothing is written there and no more is read than a catalogue's own folder,
unless it is the operator's already.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dedup.config.limits import wrong_in
from dedup.config.parts import Record, shown
from dedup.config.renames import renewed
from dedup.config.targets import FOREGROUNDS
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

NAMED = ("checkpoint", "checkpoint_sha256", "store", "reader")
"""What a manifest says as a text that is a path or a name."""


class Source(Protocol):
    """Reads a catalogue."""

    def read(self) -> Catalogue:
        """The user's table, and the images that it asks for."""
        ...


class Trained(NamedTuple):
    """The catalogue that an encoder was trained on.

    Attributes:
        source: reads it.
        said: how the training run described it, for the index's manifest.
    """

    source: Source
    said: dict[str, Any]


class Recipe(NamedTuple):
    """How the images of an index are to be matched, as the settings of the parts describe it.

    Attributes:
        matcher: of ``RadiusSearch``.
        verifier: of ``GeometricVerifier``; ``None`` for none.
    """

    matcher: dict[str, Any]
    verifier: dict[str, Any] | None


def load_index(folder: Path) -> Index:
    """Read an index, and check what its manifest says of its store and its foreground.

    Raises:
        ArtifactError: there is none, or it names what it may not.
        CorruptError: it is not what was written.
    """
    index = Index.load(folder)
    record, said = manifest_of(folder), index.manifest
    for name in NAMED:
        record.text(said.get(name), name)
    if wrong := wrong_in("store", {"reader": said["reader"]}):
        raise record.refused("reader", f"is out of range ({wrong[0]})")
    with record.reading("store"):
        for name in ("store", "checkpoint"):
            said[name] = _moved(said[name], folder)
        store = Path(said["store"])
        is_gone = not store.exists() or (store.is_dir() and not any(store.iterdir()))
    if not is_gone:  # else its images cannot be shown, and all the rest can
        check_store(index, record)
    if "foreground" in said:
        product(said["foreground"], record)
    recipe(index, record)
    return index


def manifest_of(folder: str | Path) -> Record:
    """What to say of an index's manifest."""
    return Record(Path(folder) / MANIFEST, f"make the index again with {command('cluster')}")


def recipe(index: Index, record: Record | None = None) -> Recipe | None:
    """How an index says that its images are to be matched; ``None`` where it says nothing.

    Args:
        index: the index.
        record: its manifest, for messages.

    Raises:
        CorruptError: the manifest holds no such description.
        ArtifactError: it names what it may not.
    """
    if "recipe" not in index.manifest:  # an earlier version's
        return None
    record, settings = record or manifest_of("the index"), index.manifest["recipe"]
    if not isinstance(settings, Mapping) or settings.keys() != {"matcher", "verifier"}:
        raise record.broken("recipe", f"is {shown(settings)}, not a matcher and a verifier")
    matcher, verifier = settings["matcher"], settings["verifier"]
    record.part(matcher, "matcher", "recipe.matcher")
    if verifier is not None:
        record.part(verifier, "verifier", "recipe.verifier")
    return Recipe(dict(matcher), verifier and dict(verifier))


def _moved(named: str, folder: Path) -> str:
    """The path of what an index names: beside the index, where the whole folder of runs moved."""
    path = Path(named)
    parents = folder.resolve().parents
    if path.exists() or ".." in path.parts or len(parents) < 2:
        return named
    for n_parts in (2, 3):  # store/pillow; train/TIME/best.ckpt
        there = parents[1].joinpath(*path.parts[-n_parts:])
        if len(path.parts) > n_parts and there.exists():
            log.info("%s is gone: %s is taken", path, there)
            return str(there)
    return named


def check_store(index: Index, record: Record) -> None:
    """Make sure that an index's store is one, before anything is written there.

    Raises:
        ArtifactError: it is none, or another than the manifest says.
    """
    with record.reading("store"):
        check_is_store(Path(index.manifest["store"]), index.manifest["reader"])


def product(settings: Any, record: Record) -> Product:
    """What an index's encoder was shown, as its manifest describes it under ``foreground``.

    Args:
        settings: ``part`` and ``framing``, each with ``_target_``; ``digest`` of what they make.
        record: the manifest.

    Raises:
        CorruptError: it is no such description.
        ArtifactError: it names what it may not.
    """
    if not isinstance(settings, Mapping):
        raise record.broken("foreground", f"is {shown(settings)}, not a description of a part")
    record.text(settings.get("digest"), "foreground.digest")
    return described(settings, record)


def described(settings: Mapping[str, Any], record: Record) -> Product:
    """What ``part`` and ``framing`` describe, in a file or on the command line."""
    return Product(
        record.part(settings.get("part"), "foreground", "foreground.part"),
        record.part(settings.get("framing"), "framing", "foreground.framing"),
    )


def framed(store: ImageStore, settings: Any, record: Record) -> Framed:
    """The products in a store, as an index's manifest describes them.

    Raises:
        ArtifactError: they are described as they may not be, or would look otherwise by now.
    """
    found = product(settings, record)
    with record.reading("foreground.part"):
        digest = found.digest  # of a model's file too, before anything of it runs
    if settings["digest"] != digest:
        raise record.refused(
            "foreground",
            "was another version, or another model's, so images would look otherwise now",
        )
    return Framed(store, found, {name: settings[name] for name in ("part", "framing")})


def check_foreground(index: Index, foreground: Mapping[str, Any] | None) -> None:
    """Refuse a foreground that is not the index's; without one, the index's is taken.

    Raises:
        ArtifactError: the index was made with another foreground.
    """
    made = index.manifest.get("foreground")
    if foreground is not None and not shows(index.manifest, foreground):
        raise ArtifactError(
            f"the index was made with foreground={name_of(made and made['part'])}, and "
            f"foreground={name_of(foreground['part'])} was asked for with its settings: leave it "
            f"out, or make an index with it by {command('cluster')}"
        )


def shows(manifest: Mapping[str, Any], foreground: Mapping[str, Any] | None) -> bool:
    """Whether an index was made with a foreground; true where none is asked for."""
    made = renewed(manifest.get("foreground"))
    return foreground is None or (
        isinstance(made, dict) and all(made.get(name) == foreground[name] for name in foreground)
    )


def name_of(foreground: Any) -> str:
    """The name of a foreground on the command line."""
    target = foreground.get("_target_") if isinstance(foreground, Mapping) else None
    if target in FOREGROUNDS:
        return str(target).split(".")[-2]
    return "none" if foreground is None else "of another kind"


def described_recipe(
    matcher: Mapping[str, Any], verifier: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Describe for an index's manifest how its images are to be matched.

    ``matcher.max_pairs`` is left out: it guards a machine, and is no property of an index.
    """
    kept = {name: value for name, value in matcher.items() if name != "max_pairs"}
    return {"matcher": kept, "verifier": verifier and dict(verifier)}


def trained_on(checkpoint: Path, runs: Path) -> Trained:
    """The catalogue that a checkpoint was trained on, by the ``run.json`` beside it.

    Args:
        checkpoint: its file.
        runs: the operator's folder of runs: what lies elsewhere may have been passed on, and names
            no images but those beside its table.

    Raises:
        ConfigError: the run is not known.
        ArtifactError: it names what it may not.
        CorruptError: it is not what was written.
    """
    file = checkpoint.parent / "run.json"
    if checkpoint == BUNDLED:
        raise ConfigError(
            "encoder=bundled needs a catalogue: add source.path=products.csv, or source=folder "
            "source.path=FOLDER"
        )
    if not file.is_file():
        raise ConfigError(
            f"{file} is missing, so the catalogue that {checkpoint.name} was trained on is not "
            "known: choose one with source=csv source.path=PATH"
        )
    record = Record(file, "name the catalogue with source=csv source.path=PATH")
    run = read_run(file, "choose a catalogue with source=csv")
    said: Any = run.get("source")
    source: Source = record.part(said, "source", "source")
    name, own = said["_target_"], checkpoint.resolve().is_relative_to(runs.resolve())
    with record.reading("source"):
        _REACHES.get(name, _of_its_own)(source, runs, own, record)
    return Trained(source, said)


def _of_a_table(source: Any, runs: Path, own: bool, record: Record) -> None:
    """Of a CSV: its images lie in its folder, or further down."""
    table = Path(source.path)
    if table.is_file() and not table.stat().st_size:  # so the system's own files say of themselves
        raise record.refused("source.path", f"names {shown(source.path)}, which is empty")
    if own or not source.images_dir:
        return
    if not Path(source.images_dir).resolve().is_relative_to(table.parent.resolve()):
        raise record.refused(
            "source.images_dir",
            f"names {shown(source.images_dir)}, which is not the folder of its table, and the run "
            f"is not one of {runs}",
        )


def _of_its_own(source: Any, runs: Path, own: bool, record: Record) -> None:
    """Of a folder of images, and of what else there may be: a run of the operator's names it."""
    if not own:
        advice = "name the catalogue, such as with source=folder source.path=PATH"
        raise Record(record.file, advice).refused(
            "source", f"names images ({shown(vars(source))}), and the run is not one of {runs}"
        )


def _of_the_sample(source: Any, runs: Path, own: bool, record: Record) -> None:
    """Of the sample, which is drawn where it is not there yet: in the operator's folder alone."""
    is_drawn = (source.place / "products.csv").is_file()
    if not is_drawn and Path(source.folder).resolve() != (runs / "sample").resolve():
        advice = f"type source=sample source.folder={runs / 'sample'}, or another catalogue"
        raise Record(record.file, advice).refused(
            "source.folder", f"names {shown(source.folder)}, where nothing was drawn yet"
        )


_REACHES = {
    "dedup.sources.csv.CsvSource": _of_a_table,
    "dedup.sources.sample.SampleSource": _of_the_sample,
}
"""What says of a source whether a run may name its files."""
