"""An index of a small shop: what is embedded, where it stands, and what it depends on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans

from dedup.detection.comparison import clusters_of_vectors
from dedup.detection.detector import clustered_table
from dedup.detection.exact import exact_pairs
from dedup.download.client import Fetcher
from dedup.encoders.checkpoint import describe
from dedup.encoders.conv import ConvAutoencoder
from dedup.schemas import INDEX_IMAGES
from dedup.search.build import build_index
from dedup.search.clustering import Clusterer
from dedup.search.index import Index
from dedup.sources.catalogue import Catalogue
from dedup.store.image_store import ImageStore

EXACT = {("P00", "P20"): "same_bytes", ("P01", "P21"): "same_pixels", ("P02", "P22"): "same_url"}


def save_encoder(path: Path, seed: int) -> Path:
    """A checkpoint with new weights."""
    torch.manual_seed(seed)
    encoder = ConvAutoencoder(embedding_dim=8, hidden_dim=16)
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"encoder": describe(encoder), "state_dict": weights}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An encoder's checkpoint."""
    return save_encoder(tmp_path / "encoder.ckpt", 0)


def index_of(
    catalogue: Catalogue, checkpoint: Path, batch_size: int = 128, fetcher: Fetcher | None = None
) -> Index:
    """The catalogue's index with three clusters."""
    store = ImageStore(checkpoint.parent / "store", fetcher=fetcher)
    images = store.ingest(catalogue, checkpoint.parent)
    clusterer = Clusterer(lambda n_clusters: KMeans(n_clusters, n_init=1, random_state=0), 3)
    return build_index(catalogue, images, store, checkpoint, clusterer, batch_size)


def test_every_distinct_image_is_embedded_once(catalogue: Catalogue, checkpoint: Path) -> None:
    index = index_of(catalogue, checkpoint)
    ok = index.images[index.images["status"] == "ok"]
    assert len(index.images) == len(catalogue.requests)
    assert sorted(ok["vector"].unique()) == list(range(len(index.vectors)))
    assert (ok.groupby("sha256_pixels")["vector"].nunique() == 1).all()
    assert (ok.groupby("vector")["sha256_pixels"].nunique() == 1).all()
    bad = index.images[index.images["status"] != "ok"]
    assert len(bad) == 1
    assert (bad[["vector", "cluster"]] == -1).all(axis=None)


def test_vectors_stand_in_the_order_of_their_digests(
    catalogue: Catalogue, checkpoint: Path
) -> None:
    images = index_of(catalogue, checkpoint).images
    by_vector = images[images["vector"] >= 0].sort_values("vector")["sha256_pixels"]
    assert by_vector.is_monotonic_increasing


def test_a_image_is_in_the_cluster_of_its_nearest_centroid(
    catalogue: Catalogue, checkpoint: Path
) -> None:
    index = index_of(catalogue, checkpoint)
    clusters = clusters_of_vectors(index.images, len(index.vectors))
    gaps = np.linalg.norm(index.vectors[:, None].astype(float) - index.centroids, axis=2)
    own = gaps[np.arange(len(gaps)), clusters]
    np.testing.assert_allclose(own, gaps.min(axis=1), rtol=1e-4)
    assert set(clusters) == {0, 1, 2}


@pytest.mark.parametrize("batch_size", [1, 7, 128])
@pytest.mark.parametrize("order", [0, 1])
def test_bits_do_not_depend_on_the_batches_and_the_order(
    catalogue: Catalogue, checkpoint: Path, batch_size: int, order: int
) -> None:
    index = index_of(catalogue, checkpoint)
    shuffled = catalogue.requests.sample(frac=1, random_state=order, ignore_index=True)
    other = index_of(Catalogue(catalogue.products, shuffled, "productId"), checkpoint, batch_size)
    assert other.vectors.tobytes() == index.vectors.tobytes()
    assert other.centroids.tobytes() == index.centroids.tobytes()
    assert other.images["record"].tolist() == shuffled["record"].tolist()
    rows = other.images.sort_values("record", ignore_index=True)
    pd.testing.assert_frame_equal(rows, index.images)


def test_equal_images_are_found_by_their_digests(catalogue: Catalogue, checkpoint: Path) -> None:
    pairs = exact_pairs(index_of(catalogue, checkpoint).images)
    found = {(row.product_id_a, row.product_id_b): row.tier for row in pairs.itertuples()}
    assert found == EXACT


def test_a_saved_index_is_the_same(catalogue: Catalogue, checkpoint: Path, tmp_path: Path) -> None:
    index = index_of(catalogue, checkpoint)
    assert list(index.images) == INDEX_IMAGES.names
    index.save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    pd.testing.assert_frame_equal(loaded.images, index.images)
    pd.testing.assert_frame_equal(loaded.products, index.products)
    np.testing.assert_array_equal(loaded.vectors, index.vectors)
    np.testing.assert_array_equal(loaded.centroids, index.centroids)


def test_the_users_table_gets_a_cluster(catalogue: Catalogue, checkpoint: Path) -> None:
    index = index_of(catalogue, checkpoint)
    table = clustered_table(index)
    pd.testing.assert_frame_equal(table.drop(columns="cluster"), catalogue.products)
    clusters = clusters_of_vectors(index.images, len(index.vectors))
    for record, cell in table["cluster"].items():
        vector = index.images.loc[index.images["record"] == record, "vector"].iloc[0]
        assert cell == ("" if vector < 0 else str(clusters[vector]))
