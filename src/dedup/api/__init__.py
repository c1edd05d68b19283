"""Python API: the steps of the commands as functions of plain arguments, without Hydra."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup import pipeline
from dedup.api.arguments import (
    BUNDLED,
    Table,
    as_errors,
    configured,
    detection_of,
    embedding_of,
    images_of,
    new_folder,
    shown,
    source_of,
)
from dedup.config.instances import build, default_config, plain
from dedup.detection import results
from dedup.encoders.paths import checkpoint_file
from dedup.errors import ArtifactError, ConfigError
from dedup.reports.group_table import group_table
from dedup.reports.notebook import html_fragment
from dedup.runtime.parallel import one_thread
from dedup.search import origins
from dedup.search.clustering import Clusterer
from dedup.search.index import Index as SavedIndex
from dedup.search.manifest import MANIFEST, SEARCH
from dedup.search.radius import RadiusSearch, ordered
from dedup.search.state import SearchState

MAX_GROUPS_SHOWN = 10
"""Groups of a result that a notebook shows."""


class Index(SavedIndex):
    """A searchable catalogue with its store attached; see ``dedup.search.index.Index``."""

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read an index, such as ``runs/cluster/latest``.

        Raises:
            ArtifactError: ``folder`` holds no index, or one that names a forbidden class or path.
            CorruptError: a file of the index is not what was written.
        """
        return cls._of(origins.load_index(Path(folder)), Path(folder))

    def __repr__(self) -> str:
        n_products = self.images["product_id"].nunique()
        return f"Index({n_products} products, {len(self.images)} images)"

    @classmethod
    def _of(cls, index: SavedIndex, folder: Path) -> Self:
        """Attach the store to an index."""
        index = pipeline.with_images(index, folder)
        # Not by attribute, which would wait until the vectors' file has been checked.
        return cls(**{field.name: vars(index)[field.name] for field in dataclasses.fields(index)})

    def query(self, images: str | Path | Sequence[str | Path]) -> pd.DataFrame:
        """Find the products that show the given images; the first call loads the encoder.

        Args:
            images: one or more images of a new product, each a path or an http(s) address.

        Returns:
            One row for each product, surest first, see ``dedup.detection.query.Query``.

        Raises:
            SourceError: an image cannot be read.
            ArtifactError: the index's encoder or store is missing.
        """
        several = [images] if isinstance(images, str | Path) else images
        with as_errors("the query"):
            answer: pd.DataFrame = self._query([str(image) for image in several])
            return answer

    @cached_property
    def _query(self) -> Any:
        from dedup.detection.query import Query  # imports torch

        detection = detection_of(configured(self.manifest["checkpoint"], {}), self)
        return Query(
            self,
            detection.matcher,
            None,
            detection.max_products,
            detection.min_contrast,
            detection.verifier,
        )


@dataclasses.dataclass(frozen=True)
class DetectionResult(results.DetectionResult):
    """The duplicates in a catalogue, with the index they were found in.

    ``pairs`` and the other tables are those of ``dedup.detection.results.DetectionResult``.

    Attributes:
        groups: the columns of ``groups.csv``: those of the schema ``GROUPS``, ``duplicate_of``
            (the kept product; "" for that one), ``score`` and ``evidence``; see ``group_table``.
        index: the index that was searched; ``None`` if it is no longer on disk.
        state: the comparisons made, which ``find_duplicates(..., since=result)`` does not repeat.
        folder: the index's folder.
    """

    index: Index | None = None
    state: SearchState | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        """Add the columns of ``groups.csv`` to the groups."""
        object.__setattr__(self, "groups", group_table(self.groups, self.pairs))

    def save(self, folder: str | Path, index: Path | None = None) -> None:
        """Write the files of a ``detect.py`` run: tables, search state and reports.

        Args:
            folder: the folder to write to, created if it is missing.
            index: the index's folder, if it was moved.
        """
        folder = Path(folder)
        with as_errors(folder):
            super().save(folder, index or self.folder)
            if self.state is not None:
                self.state.save(folder)
            for report in build(default_config("detect").report).values():
                report.write(self, self._searched(), folder)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read the result of a ``detect.py`` run or of ``save``.

        Raises:
            ArtifactError: ``folder`` holds no result, or one of an earlier version.
            CorruptError: a file of the result is not what was written.
        """
        folder = Path(folder)
        with as_errors(folder):
            result, named = super().load(folder), results.index_of(folder)
            state = SearchState.load(folder) if (folder / SEARCH).is_file() else None
            index = None
            if named is not None and (named / MANIFEST).is_file():
                index = Index.load(named)
            return dataclasses.replace(result, index=index, state=state, folder=named)

    def to_html(self, path: str | Path) -> Path:
        """Write the report as one self-contained page, and return its path.

        Raises:
            ArtifactError: the index that the result was found in is missing.
        """
        path = Path(path)
        with as_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            report = build(default_config("detect").report.html)
            with TemporaryDirectory(dir=path.parent, prefix=".report-") as folder:
                written: Path = report.write(self, self._searched(), Path(folder))
                return written.replace(path)

    def _searched(self) -> Index:
        if self.index is None:
            raise ArtifactError(
                f"the report needs the result's index, but {self.folder or 'its folder'} holds "
                "none: find the duplicates again"
            )
        return self.index

    def __repr__(self) -> str:
        n_groups = self.groups["group_id"].nunique()
        return f"DetectionResult({n_groups} groups, {len(self.groups)} products)"

    def _repr_html_(self) -> str:
        """Show the figures, and the largest groups with their images."""
        return html_fragment(self, self.index, MAX_GROUPS_SHOWN)


def find_duplicates(
    catalogue: Table | Index,
    *,
    precision: float | None = None,
    encoder: str | Path = BUNDLED,
    id: str | None = None,
    images: str | None = None,
    title: str | None = None,
    choice: str | None = None,
    images_dir: str | Path | None = None,
    store: str | Path | None = None,
    keep: str | Sequence[str] | None = None,
    block_by: str | None = None,
    threshold: float | None = None,
    since: DetectionResult | str | Path | None = None,
    progress: bool = True,
) -> DetectionResult:
    """Find the products of a catalogue that show the same image.

    An argument of ``None`` means the commands' default, see ``docs/reference``.

    Args:
        catalogue: a CSV file's path, a table, a folder of images, or an index.
        precision: wanted share of true duplicates among the reported pairs, 0 to 1.
        encoder: ``bundled``, a checkpoint's file, or a training run's folder.
        id: column of the product's id.
        images: column of the images' paths or addresses.
        title: column of a title to show.
        choice: image to read if a cell names several: ``first``, ``second`` or ``all``.
        images_dir: base folder of relative paths; by default the CSV's, or the working directory.
        store: folder of decoded images; after an interruption the next call goes on from there.
        keep: rules for the product to keep, such as ``lowest:price``.
        block_by: column whose cells must be equal for two products to be compared.
        threshold: L2 distance; all pairs of embeddings within it are reported without
            verification, and 0 reports equal images only.
        since: earlier result or its folder, whose comparisons are not repeated.
        progress: whether to show bars, on stderr or in the notebook.

    Raises:
        DedupError: a setting, the catalogue or an artefact cannot be used.
    """
    settings: dict[str, Any] = {"matcher.precision": precision, "detection.block_by": block_by}
    settings |= {"grouping.keep": keep, "matcher.threshold": threshold}
    if isinstance(catalogue, Index):
        index, folder = catalogue, None
    else:
        folder = new_folder()
        index = _index(
            folder, catalogue, encoder, id, images, title, choice, images_dir, store, settings,
            progress,
        )  # fmt: skip
    with shown(progress), as_errors("the search"):
        cfg = configured(index.manifest["checkpoint"], settings)
        detection = detection_of(cfg, index, settings)
        before = since.state if isinstance(since, DetectionResult) else since
        if isinstance(before, str | Path):
            before = SearchState.load(Path(before))
        sampling = pipeline.Sampling(None, cfg.seed)
        result, state = pipeline.detect(index, detection, sampling, before)
        return DetectionResult(**vars(result), index=index, state=state, folder=folder)


def build_index(
    catalogue: Table,
    *,
    encoder: str | Path = BUNDLED,
    id: str | None = None,
    images: str | None = None,
    title: str | None = None,
    choice: str | None = None,
    images_dir: str | Path | None = None,
    store: str | Path | None = None,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Index:
    """Build an index: read, embed and cluster a catalogue's images.

    Args:
        catalogue: a CSV file's path, a table, or a folder of images.
        encoder: ``bundled``, a checkpoint's file, or a training run's folder.
        id: see ``find_duplicates``.
        images: see there.
        title: see there.
        choice: see there.
        images_dir: see there.
        store: see there.
        folder: folder to save the index in; by default a new one below ``runs/python``.
        progress: see there.

    Raises:
        DedupError: a setting, the catalogue or the encoder cannot be used.
    """
    where = new_folder() if folder is None else Path(folder)
    return _index(
        where, catalogue, encoder, id, images, title, choice, images_dir, store, {}, progress
    )


def update_index(
    index: Index | str | Path,
    catalogue: Table | None = None,
    *,
    remove: Sequence[str] = (),
    folder: str | Path | None = None,
    progress: bool = True,
    **columns: Any,
) -> Index:
    """Update the products of a catalogue in an index, add new ones, and remove others.

    Args:
        index: the index or its folder, which is not changed.
        catalogue: rows of changed and new products.
        remove: ids of products to remove first.
        folder: folder to save the new index in; by default a new one below ``runs/python``.
        progress: whether to show bars.
        columns: ``id``, ``images``, ``title``, ``choice`` and ``images_dir``, see
            ``find_duplicates``; the default columns are the index's.

    Raises:
        DedupError: a product, the catalogue or the index cannot be used.
    """
    before = index if isinstance(index, Index) else Index.load(index)
    where = new_folder() if folder is None else Path(folder)
    with shown(progress), as_errors(where):
        where.mkdir(parents=True, exist_ok=True)
        changed: SavedIndex = before
        if remove:
            from dedup.search.update import remove as without  # imports torch

            changed = without(changed, remove)
        if catalogue is not None:
            manifest = before.manifest
            names = {"id": manifest["id_column"], "title": manifest["title_column"]}
            names["images"] = manifest.get("url_column")
            cfg = configured(before.manifest["checkpoint"], {})
            source, _ = source_of(cfg, catalogue, **(names | columns))
            embedding = embedding_of(cfg, before.manifest["checkpoint"])
            images = images_of(cfg, before, where)
            changed = pipeline.add_products(changed, "update", source, images, embedding, where)
        return Index._of(pipeline.save_changed(changed, before, "update", where, where), where)


def query(index: Index | str | Path, images: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Find the products of an index that show the given images, see ``Index.query``.

    Raises:
        DedupError: the index or an image cannot be used.
    """
    return (index if isinstance(index, Index) else Index.load(index)).query(images)


def match(vectors: npt.ArrayLike, threshold: float) -> pd.DataFrame:
    """Find every pair of vectors within a distance, exactly, by clusters and bisector bounds.

    Args:
        vectors: (n, d) finite numbers; compared as float32.
        threshold: largest L2 distance of a pair, above 0.

    Returns:
        Columns ``left`` and ``right`` (int64 row numbers, left < right) and ``distance``
        (float64), sorted by both rows.

    Raises:
        ConfigError: the vectors are no (n, d) finite numbers, or the threshold is not above 0.
    """
    try:
        given = np.asarray(vectors)
        if given.dtype.kind not in "fiub":
            raise TypeError(f"their type is {given.dtype}")
        table, threshold = np.ascontiguousarray(given, np.float32), float(threshold)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ConfigError(
            f"the vectors or the threshold are no real numbers ({error}): convert them first"
        ) from error
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ConfigError(
            f"vectors of shape {table.shape} are not (n, d), or not finite: pass a two-dimensional "
            "array of finite numbers"
        )
    if not (np.isfinite(threshold) and threshold > 0):
        raise ConfigError(
            f"threshold={threshold} is not above 0: set a positive distance, which equal vectors "
            "always satisfy"
        )
    if len(table) < 2:
        return pd.DataFrame({"left": [], "right": [], "distance": []}).astype(_TYPES)
    with one_thread():
        clusterer: Clusterer = build(default_config("cluster").clusterer)
        clusters, centroids = clusterer.fit_predict(table)
        pairs = ordered(RadiusSearch(threshold).prepare(table, clusters, centroids).pairs())
    columns = (np.minimum(pairs.left, pairs.right), np.maximum(pairs.left, pairs.right))
    frame = pd.DataFrame({"left": columns[0], "right": columns[1], "distance": pairs.distance})
    return frame.sort_values(["left", "right"], ignore_index=True).astype(_TYPES)


_TYPES = {"left": np.int64, "right": np.int64, "distance": np.float64}


def _index(
    folder: Path,
    catalogue: Table,
    encoder: str | Path,
    id: str | None,
    images: str | None,
    title: str | None,
    choice: str | None,
    images_dir: str | Path | None,
    store: str | Path | None,
    settings: Mapping[str, Any],
    progress: bool,
) -> Index:
    """Build an index of a catalogue, and save it in a folder."""
    with shown(progress), as_errors(folder):
        checkpoint = checkpoint_file(encoder)
        cfg = configured(checkpoint, {**settings, "store.path": store and str(store)})
        source, described = source_of(cfg, catalogue, id, images, title, choice, images_dir)
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
