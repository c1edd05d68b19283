"""Build a searchable index of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dedup import __version__
from dedup.encoders.paths import checkpoint_file
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.files import sha256_file
from dedup.schemas import INDEX_IMAGES
from dedup.search.clustering import Clusterer
from dedup.search.embedding import embed_on
from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue

DIGEST = "sha256_pixels"


def build_index(
    catalogue: Catalogue,
    images: pd.DataFrame,
    store: ImageReader,
    checkpoint: str | Path,
    clusterer: Clusterer,
    batch_size: int = 128,
    devices: Sequence[str] = ("auto",),
) -> Index:
    """Embed every distinct image once, and cluster the embeddings.

    Vectors stand in the order of their images' digests, so that neither they nor the clusters
    depend on the order of the catalogue.

    Args:
        catalogue: what a source read.
        images: what ``store.ingest(catalogue)`` returned.
        store: where the images lie.
        checkpoint: the encoder's checkpoint, or its run folder.
        clusterer: places embeddings in clusters.
        batch_size: images read at once.
        devices: what embeds, as torch names it; a process for each.

    Returns:
        The index, its ``images`` in the order of ``images``.
    """
    distinct = distinct_images(images)
    vectors = embed_images(distinct, store, checkpoint, batch_size, devices)
    labels, centroids = clusterer.fit_predict(vectors)
    return Index(
        images=placed(images, distinct[DIGEST], np.arange(len(distinct)), labels),
        vectors=vectors,
        centroids=centroids,
        products=catalogue.products,
        manifest={
            "version": __version__,
            "checkpoint": str(checkpoint_file(checkpoint).resolve()),
            "checkpoint_sha256": sha256_file(checkpoint_file(checkpoint)),
            "n_clusters": len(centroids),
            "url_column": catalogue.url_column,
            **made_from(catalogue, store),
        },
    )


def made_from(catalogue: Catalogue, store: ImageReader) -> dict[str, Any]:
    """What an index's manifest says of its catalogue and store: all that is added has the same."""
    framed = {"foreground": store.facts} if isinstance(store, Framed) else {}
    return {
        **framed,
        "store": str(store.path.resolve()),
        "reader": store.reader,
        "id_column": catalogue.id_column,
        "title_column": catalogue.title_column,
    }


def distinct_images(images: pd.DataFrame) -> pd.DataFrame:
    """One row of ``images`` for each image that is ok, sorted by the digest of its pixels."""
    ok = images[images["status"] == "ok"]
    return ok.drop_duplicates(DIGEST).sort_values(DIGEST, ignore_index=True)


def embed_images(
    distinct: pd.DataFrame,
    store: ImageReader,
    checkpoint: str | Path,
    batch_size: int,
    devices: Sequence[str] = ("auto",),
) -> npt.NDArray[np.float32]:
    """The embedding of each row's image, (n, d), in the order of the rows."""
    rows = store.rows(distinct["url"].tolist())
    return embed_on(devices, checkpoint, store, rows, batch_size)


def placed(
    images: pd.DataFrame,
    digests: pd.Series[str],
    vectors: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.int64],
) -> pd.DataFrame:
    """``images`` in the schema ``INDEX_IMAGES``.

    Args:
        images: schema ``IMAGES``.
        digests: of the pixels of every distinct image that is ok, among others.
        vectors: (n,) the place of each digest's vector.
        clusters: (n,) and its cluster.
    """
    ok = images[DIGEST].where(images["status"] == "ok", "")
    at = pd.Index(digests).get_indexer(pd.Index(ok))
    vector = np.append(vectors, -1)[at]  # get_indexer says -1 for what is missing
    cluster = np.append(clusters, -1)[at]
    rows: pd.DataFrame = images.assign(vector=vector, cluster=cluster)[INDEX_IMAGES.names]
    return rows
