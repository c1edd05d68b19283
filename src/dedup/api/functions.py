"""Find duplicates, build and update an index, and query it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from dedup import pipeline
from dedup.api.arguments import (
    BUNDLED,
    Columns,
    Reading,
    Table,
    configured,
    detection_of,
    embedding_of,
    ids_of,
    images_of,
    new_folder,
    public,
    read_before,
    shown,
    source_of,
    state_of,
)
from dedup.api.errors import as_errors
from dedup.api.index import Index
from dedup.api.result import DetectionResult
from dedup.config.instances import build, plain
from dedup.encoders.paths import checkpoint_file
from dedup.search import origins
from dedup.search.index import Index as SavedIndex


@public(Columns, Reading)
def find_duplicates(
    catalogue: Table | Index,
    *,
    precision: float | None = None,
    keep: str | Sequence[str] | None = None,
    block_by: str | None = None,
    threshold: float | None = None,
    since: DetectionResult | str | Path | None = None,
    **reading: Unpack[Reading],
) -> DetectionResult:
    """Find the products of a catalogue that show the same image.

    An argument of ``None`` means the commands' default, see ``docs/reference``.

    Args:
        catalogue: a CSV file's path, a table, a folder of images, or an index.
        precision: wanted share of true duplicates among the reported pairs, 0 to 1.
        keep: rules for the product to keep, such as ``lowest:price``.
        block_by: column whose cells must be equal for two products to be compared.
        threshold: L2 distance; all pairs of embeddings within it are reported without
            verification, and 0 reports equal images only.
        since: earlier result or its folder, whose comparisons are not repeated.
        reading: how a catalogue is read, see ``Columns`` and ``Reading``.

    Raises:
        DedupError: a setting, the catalogue or an artefact cannot be used.
    """
    settings: dict[str, Any] = {"matcher.precision": precision, "detection.block_by": block_by}
    settings |= {"grouping.keep": keep, "matcher.threshold": threshold}
    before = state_of(since)
    if isinstance(catalogue, Index):
        index, folder = catalogue, None
    else:
        folder = new_folder()
        index = _index(folder, catalogue, settings, reading)
    with shown(reading.get("progress", True)), as_errors("the search"):
        cfg = configured(index.manifest["checkpoint"], settings)
        detection = detection_of(cfg, index, settings)
        sampling = pipeline.Sampling(None, cfg.seed)
        result, state = pipeline.detect(index, detection, sampling, before)
        return DetectionResult(**vars(result), index=index, state=state, folder=folder)


@public(Columns, Reading)
def build_index(
    catalogue: Table, *, folder: str | Path | None = None, **reading: Unpack[Reading]
) -> Index:
    """Build an index: read, embed and cluster a catalogue's images.

    Args:
        catalogue: a CSV file's path, a table, or a folder of images.
        folder: folder to save the index in; by default a new one below ``runs/python``.
        reading: how a catalogue is read, see ``Columns`` and ``Reading``.

    Raises:
        DedupError: a setting, the catalogue or the encoder cannot be used.
    """
    return _index(new_folder() if folder is None else Path(folder), catalogue, {}, reading)


@public(Columns)
def update_index(
    index: Index | str | Path,
    catalogue: Table | None = None,
    *,
    remove: str | Collection[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
    **columns: Unpack[Columns],
) -> Index:
    """Update the products of a catalogue in an index, add new ones, and remove others.

    Args:
        index: the index or its folder, which is not changed.
        catalogue: rows of changed and new products.
        remove: ids of products to remove first.
        folder: folder to save the new index in; by default a new one below ``runs/python``.
        progress: whether to show bars.
        columns: see ``Columns``; the default columns are the index's.

    Raises:
        DedupError: a product, the catalogue or the index cannot be used.
    """
    gone = ids_of(remove)
    before = index if isinstance(index, Index) else Index.load(index)
    where = new_folder() if folder is None else Path(folder)
    with shown(progress), as_errors(where):
        where.mkdir(parents=True, exist_ok=True)
        changed: SavedIndex = before
        if gone:
            from dedup.search.update import remove as without  # imports torch

            changed = without(changed, gone)
        described: dict[str, Any] | None = None
        if catalogue is not None:
            checkpoint = before.manifest["checkpoint"]
            cfg = configured(checkpoint, {})
            read = read_before(before.manifest)
            part = origins.table_part(before.manifest)
            source, described = source_of(cfg, catalogue, read | columns, part)
            embedding = embedding_of(cfg, checkpoint)
            images = images_of(cfg, before, where)
            changed = pipeline.add_products(changed, "update", source, images, embedding, where)
        saved = pipeline.save_changed(changed, before, "update", where, where, described)
        return Index._of(saved, where)


@public()
def query(index: Index | str | Path, images: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Find the products of an index that show the given images, see ``Index.query``.

    Raises:
        DedupError: the index or an image cannot be used.
    """
    opened: Index = index if isinstance(index, Index) else Index.load(index)
    return opened.query(images)


def _index(folder: Path, catalogue: Table, settings: Mapping[str, Any], reading: Reading) -> Index:
    """Build an index of a catalogue, and save it in a folder."""
    with shown(reading.get("progress", True)), as_errors(folder):
        checkpoint = checkpoint_file(reading.get("encoder", BUNDLED))
        store = reading.get("store")
        cfg = configured(checkpoint, {**settings, "store.path": store and str(store)})
        source, described = source_of(cfg, catalogue, reading)
        pipeline.check_columns(source, cfg.detection.block_by, build(cfg.grouping))
        folder.mkdir(parents=True, exist_ok=True)
        index = pipeline.make_index(
            source,
            build(cfg.store, fetcher=build(cfg.fetch)),
            embedding_of(cfg, checkpoint),
            build(cfg.clusterer),
            folder,
            {
                "source": described,
                "recipe": origins.described_recipe(plain(cfg.matcher), plain(cfg.verifier)),
            },
        )
        return Index._of(index, folder)
