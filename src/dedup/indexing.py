"""Build a searchable index of a catalogue, and ask it about a new picture."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd

from dedup import __version__
from dedup.artifacts import INDEX_IMAGES, TIERS, Catalogue, Index, checkpoint_file, sha256_file
from dedup.clustering import Clusterer, nearest_centroid
from dedup.decode import decode
from dedup.embedding import Embed, embed_stored
from dedup.errors import ImageError, SourceError
from dedup.fetch import fetch
from dedup.matchers.radius import RadiusMatcher
from dedup.matching import clusters_of_vectors
from dedup.store import ImageStore

log = logging.getLogger("dedup")

ANSWER = ["product_id", "distance", "tier", "image", "cluster"]


def build_index(
    catalogue: Catalogue,
    images: pd.DataFrame,
    store: ImageStore,
    checkpoint: str | Path,
    clusterer: Clusterer,
    batch_size: int = 128,
) -> Index:
    """Embed every distinct picture once, and cluster the embeddings.

    Args:
        catalogue: what a source read.
        images: what ``store.ingest(catalogue)`` returned.
        store: where the pictures lie.
        checkpoint: the encoder's checkpoint, or its run folder.
        clusterer: places embeddings in clusters.
        batch_size: pictures embedded at once.
    """
    ok = images[images["status"] == "ok"]
    distinct = ok.drop_duplicates("sha256_pixels")
    rows = store.rows(distinct["url"].tolist())
    vectors = embed_stored(Embed(checkpoint), store, rows, batch_size)
    labels, centroids = clusterer.fit_predict(vectors)
    row_of = pd.Series(np.arange(len(distinct)), index=distinct["sha256_pixels"].to_numpy())
    vector = images["sha256_pixels"].where(images["status"] == "ok").map(row_of)
    vector = vector.fillna(-1).astype(np.int64)
    cluster = np.where(vector >= 0, labels[vector], -1)
    return Index(
        images=images.assign(vector=vector, cluster=cluster)[INDEX_IMAGES.names],
        vectors=vectors,
        centroids=centroids,
        products=catalogue.products,
        manifest={
            "version": __version__,
            "checkpoint": str(checkpoint_file(checkpoint).resolve()),
            "checkpoint_sha256": sha256_file(checkpoint_file(checkpoint)),
            "store": str(store.path.resolve()),
            "reader": store.reader,
            "id_column": catalogue.id_column,
            "title_column": catalogue.title_column,
            "n_clusters": len(centroids),
        },
    )


class Query:
    """Answers which products show a new picture; loads encoder and index once.

    Args:
        index: the index to ask.
        matcher: gives the threshold.
        checkpoint: the encoder; the one that the index names if ``None``.

    Raises:
        ArtifactError: the checkpoint is missing, or not the one the index was made with.
    """

    def __init__(
        self, index: Index, matcher: RadiusMatcher, checkpoint: str | Path | None = None
    ) -> None:
        index.check_encoder(checkpoint or index.manifest["checkpoint"])
        self.index = index
        self.matcher = matcher
        self.embed = Embed(checkpoint or index.manifest["checkpoint"])
        self.shown = index.images[index.images["vector"] >= 0]
        self.clusters = clusters_of_vectors(index.images, len(index.vectors))

    def __call__(self, address: str) -> pd.DataFrame:
        """The products that show this picture, surest and closest first.

        Args:
            address: a path or an http(s) address.

        Returns:
            Columns ``product_id``, ``distance``, ``tier``, ``image`` (the product's picture) and
            ``cluster``; each product once; no row where nothing matches.

        Raises:
            SourceError: the picture cannot be read.
        """
        start = time.perf_counter()
        try:
            data = fetch(address)
            pixels = decode(data, self.index.manifest["reader"]).pixels
        except ImageError as error:
            raise SourceError(f"the picture {address} cannot be read: {error}") from error
        vector = self.embed({"pixels": pixels[None]})["embedding"][0]
        cluster = nearest_centroid(vector, self.index.centroids)
        rows, distance = self.matcher.search(vector, cluster, self.index.vectors, self.clusters)
        near = self.shown.assign(
            tier="near", distance=self.shown["vector"].map(pd.Series(distance, index=rows))
        )
        found = pd.concat([self._exact(data, pixels.tobytes()), near.dropna(subset="distance")])
        found = found.rename(columns={"url": "image"})
        found["rank"] = found["tier"].map(TIERS.index)
        found = found.sort_values(["rank", "distance", "product_id", "image"])
        log.info("answered in %.0f ms", 1000 * (time.perf_counter() - start))
        return found.drop_duplicates("product_id", ignore_index=True)[ANSWER]

    def _exact(self, data: bytes, pixels: bytes) -> pd.DataFrame:
        equal = self.shown[self.shown["sha256_pixels"] == hashlib.sha256(pixels).hexdigest()]
        same_bytes = equal["sha256_bytes"] == hashlib.sha256(data).hexdigest()
        return equal.assign(tier=np.where(same_bytes, "same_bytes", "same_pixels"), distance=0.0)
