"""Adding, removing and updating products, beside an index made anew from the resulting table."""

import csv
import itertools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from PIL import Image
from sklearn.cluster import KMeans

from dedup.detection.comparison import clusters_of_vectors
from dedup.encoders.checkpoint import describe
from dedup.encoders.conv import ConvAutoencoder
from dedup.errors import ArtifactError, ConfigError, SourceError
from dedup.pipeline.indexes import MISSING, Embedding, add_products
from dedup.schemas import IMAGES
from dedup.search.build import DIGEST, build_index
from dedup.search.clustering import Clusterer
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.update import add, listed_ids, remove, update
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store.image_store import ImageStore
from tests.conftest import draw, encoded
from tests.support.effort import examples

SEQUENCES = int(os.environ.get("DEDUP_SEQUENCES", "15"))
COLUMNS = ["productId", "title", "imageUrlStr"]
IDS = [f"p{number}" for number in range(8)]
N_DRAWN = 20

Row = dict[str, str]
Ingested = tuple[Catalogue, pd.DataFrame, ImageStore]


@dataclass
class World:
    """A pool of images in one folder, a store that has read them, and an encoder."""

    folder: Path
    store: ImageStore
    checkpoint: Path
    pool: list[str] = field(default_factory=list)

    def read(self, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Catalogue:
        """A table, by way of a CSV file."""
        path = self.folder / "products.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        return CsvSource(str(path), choice="all").read()

    def ingest(self, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Ingested:
        """The arguments of ``add`` after the index."""
        catalogue = self.read(rows, columns)
        return catalogue, self.store.ingest(catalogue, self.folder), self.store

    def fresh(self, rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> Index:
        """An index of a table, everything embedded again."""
        clusterer = Clusterer(lambda n_clusters: KMeans(n_clusters, n_init=1, random_state=0), 3)
        return build_index(*self.ingest(rows, columns), self.checkpoint, clusterer)


def row(product: str, *images: str, **cells: str) -> Row:
    return {
        "productId": product,
        "title": f"Title of {product}",
        "imageUrlStr": ";".join(images),
        **cells,
    }


def without_blanks(one: Row) -> Row:
    return {name: cell for name, cell in one.items() if cell}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Twenty drawings, some of them again as other files, and files that are no images."""
    for number in range(N_DRAWN):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(draw(number, (30, 40))))
    for number in range(4):
        (tmp_path / f"copy{number}.jpg").write_bytes((tmp_path / f"{number}.jpg").read_bytes())
    for number in range(2, 5):
        image = Image.open(tmp_path / f"{number}.jpg")
        (tmp_path / f"again{number}.png").write_bytes(encoded(image, "PNG"))
    (tmp_path / "junk.jpg").write_bytes(b"no image at all")
    (tmp_path / "empty.jpg").write_bytes(b"")
    pool = sorted(file.name for file in tmp_path.iterdir())
    torch.manual_seed(0)
    encoder = ConvAutoencoder(embedding_dim=4, hidden_dim=8, channels=(1, 1))
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    checkpoint = tmp_path / "encoder.ckpt"
    torch.save({"encoder": describe(encoder), "state_dict": weights}, checkpoint)
    world = World(tmp_path, ImageStore(tmp_path / "store"), checkpoint, [*pool, "missing.jpg"])
    world.ingest([row("all", *world.pool)])  # else each shard is a file that each run reads
    return world


def bits(index: Index) -> dict[str, bytes]:
    """The vector of each digest."""
    shown = index.images[index.images["vector"] >= 0]
    return {
        digest: index.vectors[vector].tobytes()
        for digest, vector in zip(shown["sha256_pixels"], shown["vector"], strict=True)
    }


def near(index: Index, threshold: float) -> set[tuple[str, str]]:
    """Two digests for each pair that the matcher finds."""
    clusters = clusters_of_vectors(index.images, len(index.vectors))
    prepared = RadiusSearch(threshold).prepare(index.vectors, clusters, index.centroids)
    matches = prepared.pairs()
    digest = index.images.drop_duplicates("vector").set_index("vector")["sha256_pixels"]
    ends = zip(digest[matches.left], digest[matches.right], strict=True)
    return {(min(pair), max(pair)) for pair in ends}


def near_by_loop(vectors: dict[str, bytes], threshold: float) -> set[tuple[str, str]]:
    """The same by comparing everything with everything; nothing is near at threshold 0."""
    points = {key: np.frombuffer(value, np.float32).astype(float) for key, value in vectors.items()}
    return {
        (a, b)
        for a, b in itertools.combinations(sorted(points), 2)
        if np.sqrt(((points[a] - points[b]) ** 2).sum()) <= threshold and threshold > 0
    }


def check_whole(index: Index) -> None:
    """Every image that is ok has its vector and its cluster, and no vector is left over."""
    ok = index.images["status"] == "ok"
    shown = index.images[ok]
    assert sorted(set(shown["vector"])) == list(range(len(index.vectors)))
    assert (shown.groupby("sha256_pixels")["vector"].nunique() == 1).all()
    assert (shown.groupby("vector")["sha256_pixels"].nunique() == 1).all()
    assert (index.images.loc[~ok, ["vector", "cluster"]] == -1).all(axis=None)
    vectors = index.vectors[shown["vector"]].astype(float)
    gaps = np.linalg.norm(vectors[:, None] - index.centroids, axis=2)
    own = np.take_along_axis(gaps, shown["cluster"].to_numpy()[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(own, gaps.min(axis=1), rtol=1e-4, atol=1e-5)
    assert set(index.images["record"]) == set(range(len(index.products)))


def check_same(index: Index, fresh: Index) -> None:
    """The law: all that can be found is equal."""
    pd.testing.assert_frame_equal(index.products, fresh.products)
    pd.testing.assert_frame_equal(index.images[IMAGES.names], fresh.images[IMAGES.names])
    assert bits(index) == bits(fresh)
    threshold = some_threshold(fresh)
    assert near(index, threshold) == near_by_loop(bits(fresh), threshold)


def some_threshold(index: Index) -> float:
    """The distance between the first vector and another, which one differs between states."""
    gaps = np.unique(np.linalg.norm(index.vectors - index.vectors[0], axis=1))
    return float(gaps[len(index.images) % len(gaps)])


images = st.lists(st.integers(0, 29), min_size=0, max_size=3)
rows_drawn = st.tuples(st.sampled_from(["", *IDS]), images)
tables = st.tuples(st.lists(rows_drawn, min_size=1, max_size=5), st.sampled_from(["", "colour"]))
Table = tuple[list[tuple[str, list[int]]], str]


class Changes(RuleBasedStateMachine):
    """Steps on an index, and the same steps on a plain list of rows."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.rows: list[Row] = []
        self.columns = list(COLUMNS)
        self.index: Index

    @initialize(table=tables)
    def build(self, table: Table) -> None:
        self.rows, self.columns = self.drawn(table)
        self.index = self.world.fresh(self.rows, self.columns)

    @rule(table=tables)
    def add(self, table: Table) -> None:
        rows, columns = self.drawn(table)
        self.change(add(self.index, *self.world.ingest(rows, columns), batch_size=1))
        self.append(rows, columns)

    @rule(table=tables)
    def update(self, table: Table) -> None:
        rows, columns = self.drawn(table)
        self.change(update(self.index, *self.world.ingest(rows, columns)))
        self.drop({one["productId"] for one in rows} - {""})
        nameless = [without_blanks(one) for one in rows if not one["productId"]]
        self.rows = [one for one in self.rows if without_blanks(one) not in nameless]
        self.append(rows, columns)

    @rule(asked=st.sets(st.sampled_from(IDS)))
    def remove(self, asked: set[str]) -> None:
        known = {one["productId"] for one in self.rows}
        if not asked <= known:
            with pytest.raises(SourceError, match="no product"):
                remove(self.index, asked)
        self.change(remove(self.index, asked & known))
        self.drop(asked)

    @rule()
    def save_and_load(self) -> None:
        self.index.save(self.world.folder / "index")
        self.index = Index.load(self.world.folder / "index")

    @invariant()
    def equals_a_fresh_run(self) -> None:
        if not hasattr(self, "index"):
            return
        check_whole(self.index)
        if len(self.index.vectors):
            check_same(self.index, self.world.fresh(self.rows, self.columns))
            return
        # A run stops where not one image can be read.
        if self.rows:
            pd.testing.assert_frame_equal(
                self.index.products, self.world.read(self.rows, self.columns).products
            )
            with pytest.raises(SourceError, match=r"not one|0 products"):
                self.world.fresh(self.rows, self.columns)
        assert len(self.index.products) == len(self.rows)

    def drawn(self, table: Table) -> tuple[list[Row], list[str]]:
        """Rows with at least one image that can be read: else its run would stop."""
        drawn, column = table
        if not any(product and {*numbers} & {*range(10)} for product, numbers in drawn):
            drawn = [*drawn, ("p0", [0])]
        cells = {column: "red"} if column else {}
        pool = self.world.pool
        rows = [row(product, *(pool[n] for n in numbers), **cells) for product, numbers in drawn]
        return rows, [*COLUMNS, *cells]

    def change(self, after: Index) -> None:
        """Take the new index, and look that the old one is as it was."""
        before, self.index = self.index, after
        seen = getattr(self, "seen", None)
        if seen is not None and seen[0] is before:
            pd.testing.assert_frame_equal(before.images, seen[1])
            pd.testing.assert_frame_equal(before.products, seen[2])
            assert before.vectors.tobytes() == seen[3]
        images, products = after.images.copy(), after.products.copy()
        self.seen = (after, images, products, after.vectors.tobytes())

    def append(self, rows: list[Row], columns: list[str]) -> None:
        self.rows = self.rows + rows
        self.columns = list(dict.fromkeys(self.columns + columns))

    def drop(self, products: Collection[str]) -> None:
        self.rows = [one for one in self.rows if one["productId"] not in products]


@pytest.mark.hypothesis
def test_any_sequence_ends_as_a_fresh_run_would(world: World) -> None:
    class InThisWorld(Changes):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(
        InThisWorld,
        settings=settings(
            max_examples=examples(SEQUENCES),
            stateful_step_count=8,
            derandomize=True,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


SMALL = [row("a", "0.jpg"), row("b", "1.jpg", "2.jpg"), row("c", "copy0.jpg"), row("", "3.jpg")]


def same_images(index: Index, other: Index) -> bool:
    return index.images.equals(other.images) and index.products.equals(other.products)


def marked(index: Index) -> Index:
    """The index with other vectors than the encoder would give."""
    vectors: npt.NDArray[np.float32] = index.vectors + np.float32(100)
    return replace(index, vectors=vectors)


def test_what_is_there_is_not_embedded_again(world: World) -> None:
    index = marked(world.fresh(SMALL))
    new = [row("d", "copy1.jpg", "4.jpg"), row("e", "again4.png")]
    added = add(index, *world.ingest(new))
    assert len(added.vectors) == len(index.vectors) + 1
    assert added.vectors[:-1].tobytes() == index.vectors.tobytes()
    assert added.vectors[-1:].tobytes() == world.fresh(new[1:]).vectors.tobytes()
    left = remove(added, ["b"])
    kept = added.images.loc[added.images["product_id"].isin(["a", "d"]), "vector"].unique()
    assert left.vectors.tobytes() == added.vectors[np.sort(kept)].tobytes()


def test_an_update_with_the_whole_table_embeds_what_is_new_alone(world: World) -> None:
    index = marked(world.fresh(SMALL))
    new = [row("e", "again4.png")]
    updated = update(index, *world.ingest([*SMALL, *new]))
    assert len(updated.vectors) == len(index.vectors) + 1
    for digest, vector in zip(updated.images[DIGEST], updated.images["vector"], strict=True):
        before = index.images.loc[index.images[DIGEST] == digest, "vector"]
        if vector >= 0 and len(before):
            assert updated.vectors[vector].tobytes() == index.vectors[before.iloc[0]].tobytes()
    again = update(updated, *world.ingest([*SMALL, *new]))
    assert np.array_equal(np.sort(again.vectors, axis=0), np.sort(updated.vectors, axis=0))


def test_an_address_that_shows_another_image_is_read_by_an_update(world: World) -> None:
    index = world.fresh(SMALL)
    (world.folder / "0.jpg").write_bytes(encoded(draw(99, (31, 40))))
    again = world.ingest([row("a", "0.jpg")])
    assert bits(add(index, *again)) == bits(index)
    updated = update(index, *again)
    check_whole(updated)
    changed = updated.images[updated.images["product_id"] == "a"]
    assert changed["sha256_pixels"].tolist() == again[1]["sha256_pixels"].tolist()
    assert bits(updated).keys() - bits(index).keys() == {*changed["sha256_pixels"]}


def test_a_repeated_address_is_skipped_as_in_one_run(world: World) -> None:
    added = add(world.fresh(SMALL), *world.ingest([row("a", "0.jpg"), row("a", "5.jpg")]))
    tail = added.images.tail(2)
    assert tail["reason"].tolist() == ["duplicate_row", ""]
    assert tail["status"].tolist() == ["skipped", "ok"]
    assert tail["record"].tolist() == [4, 5]
    check_same(added, world.fresh([*SMALL, row("a", "0.jpg"), row("a", "5.jpg")]))


def test_all_products_may_go_and_come_again(world: World) -> None:
    index = world.fresh(SMALL)
    empty = remove(index, {"a", "b", "c"})
    assert empty.vectors.shape == (0, 4)
    assert empty.products["productId"].tolist() == [""]
    assert empty.images[["product_id", "record", "reason"]].to_numpy().tolist() == [
        ["", 0, "no_id"]
    ]
    empty.save(world.folder / "index")
    again = add(Index.load(world.folder / "index"), *world.ingest(SMALL[:3]))
    check_whole(again)
    check_same(again, world.fresh([SMALL[3], *SMALL[:3]]))


def test_to_remove_takes_no_encoder_and_one_id_may_stand_alone(world: World) -> None:
    index = world.fresh(SMALL)
    world.checkpoint.unlink()
    assert remove(index, "b").products["productId"].tolist() == ["a", "c", ""]


@pytest.mark.parametrize("wrong", ["a0", "B", "zz", ""])
def test_an_unknown_product_is_named_with_the_nearest(world: World, wrong: str) -> None:
    index = world.fresh([*SMALL, row("a1x", "5.jpg")])
    before = replace(index, images=index.images.copy(), products=index.products.copy())
    with pytest.raises(SourceError, match=f"no product '{wrong}'. Nearest to '{wrong}' is"):
        remove(index, ["a", wrong])
    assert same_images(index, before)


def test_of_many_unknown_products_five_are_named(world: World) -> None:
    index = world.fresh([row("a1", "0.jpg"), row("zz", "1.jpg")])
    with pytest.raises(SourceError) as error:
        remove(index, [f"a{number}" for number in range(9)])
    message = str(error.value)
    assert "'a0', 'a2', 'a3', 'a4', 'a5' and 3 more" in message
    assert "Nearest to 'a0' is 'a1'" in message


def test_other_columns_are_refused(world: World) -> None:
    index = world.fresh(SMALL)
    catalogue, images, store = world.ingest(SMALL)
    for setting, other in (
        ("id_column", replace(catalogue, id_column="sku")),
        ("title_column", replace(catalogue, title_column="sku")),
    ):
        with pytest.raises(ConfigError, match=rf"{setting}=\w+, and this is sku: set source\."):
            add(index, other, images, store)
        with pytest.raises(ConfigError, match=setting):
            update(index, other, images, store)


def test_another_store_reader_or_encoder_is_refused(world: World) -> None:
    index = world.fresh(SMALL)
    catalogue, images, _ = world.ingest(SMALL)
    elsewhere = ImageStore(world.folder / "elsewhere")
    with pytest.raises(ArtifactError, match=r"set store\.path=.*store"):
        add(index, catalogue, images, elsewhere)
    with pytest.raises(ArtifactError, match=r"set store\.reader=pillow"):
        add(index, catalogue, images, ImageStore(world.store.path, reader="skimage"))
    world.checkpoint.write_bytes(world.checkpoint.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match="another"):
        add(index, catalogue, images, world.store)


def test_a_record_without_an_id_is_there_once_after_each_day(world: World) -> None:
    index = world.fresh(SMALL)
    for _ in range(2):
        index = update(index, *world.ingest(SMALL))
    assert (index.images["reason"] == "no_id").sum() == 1
    check_same(index, world.fresh(SMALL))
    other = update(index, *world.ingest([row("", "4.jpg"), row("e", "again4.png")]))
    assert (other.images["reason"] == "no_id").sum() == 2


@pytest.mark.parametrize(("gone", "level"), [(["c"], "WARNING"), (["a", "b"], "INFO")])
def test_products_that_a_table_lacks_are_listed_to_be_removed(
    world: World, caplog: pytest.LogCaptureFixture, gone: list[str], level: str
) -> None:
    index = world.fresh(SMALL)
    world.read([one for one in SMALL if one["productId"] not in gone])
    source = CsvSource(str(world.folder / "products.csv"), choice="all")
    embedding = Embedding(world.checkpoint, 1, ("cpu",))
    run_dir = world.folder / "run"
    run_dir.mkdir()
    with caplog.at_level("INFO", "dedup"):
        changed = add_products(index, "update", source, world.store, embedding, run_dir)
    (told,) = [one for one in caplog.records if " in the index" in one.getMessage()]
    assert told.levelname == level
    file = run_dir / MISSING
    if level == "INFO":  # a table of new rows alone
        assert not file.exists()
    else:
        assert f"change=remove ids={file} removes it" in told.getMessage()
        assert set(remove(changed, listed_ids(str(file))).images["product_id"]) == {"a", "b", ""}
