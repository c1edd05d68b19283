"""An index with its store attached, which can be queried."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

from dedup import pipeline
from dedup.api.arguments import configured, detection_of, paths_of, public
from dedup.search import origins
from dedup.search.index import Index as SavedIndex


class Index(SavedIndex):
    """A searchable catalogue with its store attached; see ``dedup.search.index.Index``."""

    @classmethod
    @public()
    def load(cls, folder: str | Path) -> Self:
        """Read an index, such as ``runs/cluster/latest``.

        Raises:
            ConfigError: ``folder`` is no path.
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

    @public()
    def query(self, images: str | Path | Sequence[str | Path]) -> pd.DataFrame:
        """Find the products that show the given images; the first call loads the encoder.

        Args:
            images: one or more images of a new product, each a path or an http(s) address.

        Returns:
            One row for each product, surest first, see ``dedup.detection.query.Query``.

        Raises:
            SourceError: an image cannot be read.
            ConfigError: ``images`` are no paths or addresses.
            ArtifactError: the index's encoder or store is missing.
        """
        addresses = [os.fspath(image) for image in paths_of(images)]
        pipeline.check_query(self, addresses)
        answer: pd.DataFrame = self._query(addresses)
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
