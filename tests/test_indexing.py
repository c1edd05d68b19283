"""An index of a small shop, and questions to it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans

from dedup.artifacts import Catalogue, Index
from dedup.checkpoint import describe
from dedup.clustering import Clusterer
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import ArtifactError, SourceError
from dedup.indexing import Query, build_index
from dedup.matchers.radius import RadiusMatcher
from dedup.matching import clustered_table, clusters_of_vectors, find_pairs
from dedup.store import ImageStore
from tests.conftest import draw, encoded

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


def index_of(catalogue: Catalogue, checkpoint: Path, batch_size: int = 128) -> Index:
    """The catalogue's index with three clusters."""
    store = ImageStore(checkpoint.parent / "store")
    images = store.ingest(catalogue, checkpoint.parent)
    clusterer = Clusterer(lambda n_clusters: KMeans(n_clusters, n_init=1, random_state=0), 3)
    return build_index(catalogue, images, store, checkpoint, clusterer, batch_size)


def exact(index: Index) -> dict[tuple[str, str], str]:
    """Pairs and tiers at threshold 0."""
    pairs = find_pairs(index, RadiusMatcher(0))
    return {(row.product_id_a, row.product_id_b): row.tier for row in pairs.itertuples()}


def test_every_distinct_picture_is_embedded_once(catalogue: Catalogue, checkpoint: Path) -> None:
    index = index_of(catalogue, checkpoint)
    ok = index.images[index.images["status"] == "ok"]
    assert len(index.images) == len(catalogue.requests)
    assert sorted(ok["vector"].unique()) == list(range(len(index.vectors)))
    assert (ok.groupby("sha256_pixels")["vector"].nunique() == 1).all()
    assert (ok.groupby("vector")["sha256_pixels"].nunique() == 1).all()
    bad = index.images[index.images["status"] != "ok"]
    assert (bad[["vector", "cluster"]] == -1).all(axis=None)


@pytest.mark.parametrize("batch_size", [1, 7, 128])
@pytest.mark.parametrize("order", [0, 1])
def test_exact_pairs_whatever_the_batches_and_the_order(
    catalogue: Catalogue, checkpoint: Path, batch_size: int, order: int
) -> None:
    shuffled = catalogue.requests.sample(frac=1, random_state=order, ignore_index=True)
    index = index_of(Catalogue(catalogue.products, shuffled, "productId"), checkpoint, batch_size)
    assert exact(index) == EXACT


def test_near_pairs_are_those_of_one_cluster(catalogue: Catalogue, checkpoint: Path) -> None:
    index = index_of(catalogue, checkpoint)
    pairs = find_pairs(index, RadiusMatcher(1e6))
    ok = index.images[index.images["status"] == "ok"]
    both = ok.merge(ok, on="cluster")
    both = both[both["product_id_x"] < both["product_id_y"]]
    expected = set(zip(both["product_id_x"], both["product_id_y"], strict=True))
    found = pairs[["product_id_a", "product_id_b"]].itertuples(index=False, name=None)
    assert set(found) == expected
    by_url = ok.drop_duplicates("url").set_index("url")["vector"]
    for row in pairs.itertuples():
        ends = index.vectors[by_url[row.image_a]], index.vectors[by_url[row.image_b]]
        gap = np.linalg.norm(ends[0].astype(float) - ends[1].astype(float))
        assert row.distance == pytest.approx(gap, abs=1e-12)
    assert set(pairs["tier"]) == {"same_bytes", "same_pixels", "same_url", "near"}


def test_a_saved_index_answers_alike(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    index = index_of(catalogue, checkpoint)
    index.save(tmp_path / "index")
    loaded = Index.load(tmp_path / "index")
    for threshold in (0, 0.1, 1e6):
        matcher = RadiusMatcher(threshold)
        pd.testing.assert_frame_equal(find_pairs(index, matcher), find_pairs(loaded, matcher))


def test_the_users_table_gets_a_cluster(catalogue: Catalogue, checkpoint: Path) -> None:
    index = index_of(catalogue, checkpoint)
    table = clustered_table(index)
    pd.testing.assert_frame_equal(table.drop(columns="cluster"), catalogue.products)
    clusters = clusters_of_vectors(index.images, len(index.vectors))
    for record, cell in table["cluster"].items():
        vector = index.images.loc[index.images["record"] == record, "vector"].iloc[0]
        assert cell == ("" if vector < 0 else str(clusters[vector]))


def test_a_query_finds_equal_pictures_and_near_ones(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    index = index_of(catalogue, checkpoint)
    (tmp_path / "again.png").write_bytes((tmp_path / "images" / "copy.png").read_bytes())
    found = Query(index, RadiusMatcher(0))(str(tmp_path / "again.png"))
    assert found[["product_id", "tier"]].to_numpy().tolist() == [
        ["P21", "same_bytes"], ["P01", "same_pixels"],
    ]  # fmt: skip
    near = Query(index, RadiusMatcher(1e6))(str(tmp_path / "again.png"))
    cluster = found["cluster"].iloc[0]
    members = index.images.loc[index.images["cluster"] == cluster, "product_id"]
    assert sorted(near["product_id"]) == sorted(members)
    assert near["distance"].is_monotonic_increasing
    assert near["tier"].tolist()[:2] == ["same_bytes", "same_pixels"]


def test_a_new_picture_has_no_duplicates(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.jpg").write_bytes(encoded(draw(77)))
    assert Query(index_of(catalogue, checkpoint), RadiusMatcher(0))(str(tmp_path / "new.jpg")).empty


def test_a_query_that_cannot_be_read_says_why(catalogue: Catalogue, checkpoint: Path) -> None:
    query = Query(index_of(catalogue, checkpoint), RadiusMatcher(0))
    with pytest.raises(SourceError, match=r"gone\.jpg.*not_found"):
        query("gone.jpg")


def test_another_encoder_is_refused(catalogue: Catalogue, checkpoint: Path, tmp_path: Path) -> None:
    index = index_of(catalogue, checkpoint)
    other = save_encoder(tmp_path / "other.ckpt", 1)
    with pytest.raises(ArtifactError, match="another"):
        Query(index, RadiusMatcher(0), other)
    save_encoder(checkpoint, 2)  # the file that the index names is no longer what it was
    with pytest.raises(ArtifactError, match="another"):
        Query(index, RadiusMatcher(0))
