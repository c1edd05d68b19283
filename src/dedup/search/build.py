"""Build the index of a catalogue: embed every distinct image, and cluster the embeddings."""

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
    known: Index | None = None,
) -> Index:
    """Embed every distinct image once, and cluster the embeddings.

    Vectors are sorted by the digests of their images. So neither vectors nor clusters depend on
    the order of the catalogue.

    Args:
        catalogue: catalogue that a source read.
        images: result of ``store.ingest(catalogue)``.
        store: store of the images.
        checkpoint: checkpoint of the encoder, or its run folder.
        clusterer: clusterer of the embeddings.
        batch_size: images read at once.
        devices: devices that embed, as torch names them; a process for each.
        known: an earlier index by the same checkpoint and foreground, whose images are not embedded
            again.

    Returns:
        The index, its ``images`` in the order of ``images``.
    """
    distinct = distinct_images(images)
    vectors = vectors_of(distinct, known, store, checkpoint, batch_size, devices)
    labels, centroids = clusterer.fit_predict(vectors)
    return Index(
        images=place_images(images, distinct[DIGEST], np.arange(len(distinct)), labels),
        vectors=vectors,
        centroids=centroids,
        products=catalogue.products,
        manifest={
            "version": __version__,
            "checkpoint": str(checkpoint_file(checkpoint).resolve()),
            "checkpoint_sha256": sha256_file(checkpoint_file(checkpoint)),
            "n_clusters": len(centroids),
            "url_column": catalogue.url_column,
            **describe_origin(catalogue, store),
        },
    )


def describe_origin(catalogue: Catalogue, store: ImageReader) -> dict[str, Any]:
    """Describe catalogue and store for an index's manifest; later additions must agree."""
    foreground = {"foreground": store.facts} if isinstance(store, Framed) else {}
    return {
        **foreground,
        "store": str(store.path.resolve()),
        "reader": store.reader,
        "id_column": catalogue.id_column,
        "title_column": catalogue.title_column,
    }


def distinct_images(images: pd.DataFrame) -> pd.DataFrame:
    """Keep a row of ``images`` for each distinct image that is ok, sorted by its pixel digest."""
    ok = images[images["status"] == "ok"]
    return ok.drop_duplicates(DIGEST).sort_values(DIGEST, ignore_index=True)


def embed_images(
    distinct: pd.DataFrame,
    store: ImageReader,
    checkpoint: str | Path,
    batch_size: int,
    devices: Sequence[str] = ("auto",),
) -> npt.NDArray[np.float32]:
    """Embed the image of each row, (n, d), in the order of the rows."""
    rows = store.rows(distinct["url"].tolist())
    return embed_on(devices, checkpoint, store, rows, batch_size)


def vectors_of(
    distinct: pd.DataFrame,
    known: Index | None,
    store: ImageReader,
    checkpoint: str | Path,
    batch_size: int,
    devices: Sequence[str] = ("auto",),
) -> npt.NDArray[np.float32]:
    """Return the vectors of images with distinct pixels; only those that are new are embedded.

    Args:
        distinct: a row for each image, with its pixel digest.
        known: index by the same checkpoint with the vectors of some of them, or ``None``.
        store: store of the images.
        checkpoint: checkpoint of the encoder.
        batch_size: images read at once.
        devices: devices that embed.
    """
    if known is None:
        return embed_images(distinct, store, checkpoint, batch_size, devices)
    shown = known.images[known.images["vector"] >= 0].drop_duplicates(DIGEST)
    places = distinct[DIGEST].map(shown.set_index(DIGEST)["vector"])
    is_known = places.notna().to_numpy()
    vectors = np.empty((len(distinct), known.vectors.shape[1]), known.vectors.dtype)
    vectors[is_known] = known.vectors[places[is_known].astype(np.int64)]
    if not is_known.all():
        vectors[~is_known] = embed_images(
            distinct[~is_known], store, checkpoint, batch_size, devices
        )
    return vectors


def place_images(
    images: pd.DataFrame,
    digests: pd.Series[str],
    vectors: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.int64],
) -> pd.DataFrame:
    """Add the columns ``vector`` and ``cluster`` to ``images``, for the schema ``INDEX_IMAGES``.

    Args:
        images: schema ``IMAGES``.
        digests: (n,) pixel digests, those of all images that are ok among them.
        vectors: (n,) row of each digest's vector.
        clusters: (n,) cluster of each digest.
    """
    ok = images[DIGEST].where(images["status"] == "ok", "")
    at = pd.Index(digests).get_indexer(pd.Index(ok))
    vector = np.append(vectors, -1)[at]  # get_indexer gives -1 for a missing digest
    cluster = np.append(clusters, -1)[at]
    rows: pd.DataFrame = images.assign(vector=vector, cluster=cluster)[INDEX_IMAGES.names]
    return rows
