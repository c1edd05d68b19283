"""Questions to an index, beside a loop over all its rows."""

import ast
import contextlib
import dataclasses
import gc
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from dedup.detection.lookup import Lookup
from dedup.detection.query import Query
from dedup.errors import ArtifactError, SourceError
from dedup.schemas import TIERS
from dedup.search.embedding import Embed
from dedup.search.index import Index
from dedup.search.radius import RadiusSearch
from dedup.search.update import remove
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store.decode import decode
from dedup.store.decode_pool import Decoders
from tests.conftest import LOCAL, draw, encoded, write_shop
from tests.search.test_build import index_of, save_encoder
from tests.support.reads import tell
from tests.support.slow import many_scans

ANSWER = ["product_id", "distance", "tier", "image", "query_image", "cluster", "score", "evidence",
          "title"]  # fmt: skip
FAR = 1e6
"""A threshold that every pair is within."""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An encoder's checkpoint."""
    return save_encoder(tmp_path / "encoder.ckpt", 0)


@pytest.fixture
def crowded(tmp_path: Path) -> Catalogue:
    """Eight products: five show the same image, two a flat one, and some have several.

    A flat image is white with a corner of light grey; ``flat1`` and ``flat2`` differ in it.
    """
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        (images / f"{number}.png").write_bytes(encoded(draw(number, (30, 40)), "PNG"))
    for number, shade in ((1, "#fefefe"), (2, "#fdfdfd")):
        white = Image.new("RGB", (40, 80), "white")
        white.paste(shade, (0, 0, 20, 20))
        (images / f"flat{number}.png").write_bytes(encoded(white, "PNG"))
    (images / "0 again.png").write_bytes((images / "0.png").read_bytes())
    (images / "0.bmp").write_bytes(encoded(Image.open(images / "0.png"), "BMP"))
    pixels = {
        "a": "0.png;1.png", "b": "0.png;flat1.png", "c": "0 again.png;2.png", "d": "0.bmp",
        "e": "0.png;0.bmp", "f": "3.png;flat1.png", "g": "4.png;3.png;2.png", "h": "5.png;none.png",
    }  # fmt: skip
    rows = [
        (product, ";".join(f"images/{name}" for name in names.split(";")))
        for product, names in pixels.items()
    ]
    return CsvSource(str(write_shop(tmp_path, rows)), choice="all").read()


class LocalFeatures(NamedTuple):
    """An image that is asked about."""

    address: str
    data_digest: str
    digest: str
    flat: bool
    vector: npt.NDArray[np.float64]


def look(address: str, checkpoint: Path) -> LocalFeatures:
    data = Path(address).read_bytes()
    pixels = decode(data).pixels
    return LocalFeatures(
        address,
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(pixels.tobytes()).hexdigest(),
        bool(pixels.reshape(3, -1).std(axis=1).max() < 3),
        Embed(checkpoint)({"pixels": pixels[None]})["embedding"][0].astype(float),
    )


def slow_answer(
    index: Index, images: Sequence[LocalFeatures], threshold: float, max_products: int
) -> list[tuple[str, str, str, str]]:
    """Product, tier, image and query image of each answer, by looking at every row."""
    shown = index.images[index.images["status"] == "ok"]
    count = shown.groupby("sha256_pixels")["product_id"].nunique()
    silent = {digest for digest, n in count.items() if n > max_products}
    silent |= set(shown.loc[shown["contrast"] < 3, "sha256_pixels"])
    best: dict[str, tuple[int, float, str, str]] = {}
    for one in images:
        equal = sorted(set(shown.loc[shown["sha256_pixels"] == one.digest, "product_id"]))
        for row in shown.to_dict("records"):
            product, digest = row["product_id"], row["sha256_pixels"]
            distance = float(np.sqrt(((index.vectors[row["vector"]] - one.vector) ** 2).sum()))
            tells = not one.flat and not {one.digest, digest} & silent
            if digest == one.digest and product in equal[:max_products]:
                same_url = row["url"] == os.path.realpath(one.address)
                same_bytes = row["sha256_bytes"] == one.data_digest
                found = (0 if same_url else 1 if same_bytes else 2, 0.0, row["url"], one.address)
            elif threshold > 0 and distance <= threshold and tells:
                found = (3, distance, row["url"], one.address)
            else:
                continue
            best[product] = min(best.get(product, found), found)
    order = sorted(best, key=lambda product: (*best[product][:2], product))
    return [(product, TIERS[best[product][0]], *best[product][2:]) for product in order]


def rows_of(answer: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    columns = answer[["product_id", "tier", "image", "query_image"]]
    return list(columns.itertuples(index=False, name=None))


def test_several_images_answer_as_a_loop_over_all_rows(
    crowded: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    index = index_of(crowded, checkpoint)
    (tmp_path / "images" / "new.jpg").write_bytes(encoded(draw(77)))
    names = ["0.png", "0 again.png", "0.bmp", "2.png", "3.png", "5.png", "flat2.png", "new.jpg"]
    images = [look(str(tmp_path / "images" / name), checkpoint) for name in names]
    gaps = np.linalg.norm(index.vectors - images[-1].vector, axis=1)
    n_near = []
    for threshold in (0, float(np.quantile(gaps, 0.2)), float(np.quantile(gaps, 0.6)), FAR):
        for max_products in (2, 4, 100):
            query = Query(index, RadiusSearch(threshold), max_products=max_products)
            for first, last in ((0, 1), (1, 4), (3, 5), (5, 8)):
                asked = images[first:last]
                answer = query([one.address for one in asked])
                assert list(answer) == ANSWER
                assert rows_of(answer) == slow_answer(index, asked, threshold, max_products)
                n_near.append((answer["tier"] == "near").sum())
    assert len(set(n_near)) > 4  # else the thresholds would tell nothing


def test_the_order_of_rows_and_images_does_not_matter(
    crowded: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    addresses = [str(tmp_path / "images" / f"{number}.png") for number in (3, 0, 1)]
    answer = Query(index_of(crowded, checkpoint), RadiusSearch(FAR))(addresses)
    shuffled = crowded.requests.sample(frac=1, random_state=0, ignore_index=True)
    other = index_of(Catalogue(crowded.products, shuffled, "productId", "title"), checkpoint)
    again = Query(other, RadiusSearch(FAR))([*addresses[::-1], addresses[0]])
    pd.testing.assert_frame_equal(again, answer)


def test_equal_images_and_near_ones_are_found(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    index = index_of(catalogue, checkpoint)
    again = tmp_path / "again.png"
    again.write_bytes((tmp_path / "images" / "copy.png").read_bytes())
    found = Query(index, RadiusSearch(0))(str(again))
    assert found[["product_id", "tier"]].to_numpy().tolist() == [
        ["P21", "same_bytes"], ["P01", "same_pixels"],
    ]  # fmt: skip
    near = Query(index, RadiusSearch(FAR))(str(again))
    assert sorted(near["product_id"]) == [f"P{number:02}" for number in range(23)]
    assert near["distance"].is_monotonic_increasing
    assert (near["distance"] > 0).tolist() == [False] * 2 + [True] * 21
    by_url = index.images.drop_duplicates("url").set_index("url")["cluster"]
    assert near["cluster"].tolist() == by_url[near["image"]].tolist()


def test_an_address_of_the_index_is_known_however_it_is_written(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    query = Query(index_of(catalogue, checkpoint), RadiusSearch(0))
    for address in ("images/2.jpg", "images/../images/2.jpg", str(tmp_path / "images" / "2.jpg")):
        with contextlib.chdir(tmp_path):
            answer = query(address)
        assert answer["product_id"].tolist() == ["P02", "P22"]
        assert set(answer["tier"]) == {"same_url"}
        assert set(answer["query_image"]) == {address}


def test_an_address_whose_image_has_changed_is_still_the_products(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    query = Query(index_of(catalogue, checkpoint), RadiusSearch(0))
    file = tmp_path / "images" / "3.jpg"
    file.write_bytes(encoded(draw(88)))
    assert rows_of(query(str(file))) == [("P03", "same_url", str(file), str(file))]


def test_images_on_a_server(tmp_path: Path, checkpoint: Path, serve: Callable[..., str]) -> None:
    (tmp_path / "shop").mkdir()
    for number in range(3):
        (tmp_path / "shop" / f"{number}.jpg").write_bytes(encoded(draw(number)))
    (tmp_path / "shop" / "copy.jpg").write_bytes((tmp_path / "shop" / "1.jpg").read_bytes())
    host = serve(tmp_path / "shop")
    rows = [(f"P{number}", f"{host}/{number}.jpg") for number in range(3)]
    catalogue = CsvSource(str(write_shop(tmp_path, rows))).read()
    index = index_of(catalogue, checkpoint, fetcher=LOCAL)
    answer = Query(index, RadiusSearch(0), fetcher=LOCAL)([f"{host}/copy.jpg", f"{host}/2.jpg"])
    assert rows_of(answer) == [
        ("P2", "same_url", f"{host}/2.jpg", f"{host}/2.jpg"),
        ("P1", "same_bytes", f"{host}/1.jpg", f"{host}/copy.jpg"),
    ]


def test_a_flat_image_is_equal_or_nothing(
    crowded: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    index = index_of(crowded, checkpoint)
    query = Query(index, RadiusSearch(FAR))
    answer = query(str(tmp_path / "images" / "flat1.png"))
    assert answer[["product_id", "tier"]].to_numpy().tolist() == [
        ["b", "same_url"], ["f", "same_url"],
    ]  # fmt: skip
    assert query(str(tmp_path / "images" / "flat2.png")).empty
    assert len(query(str(tmp_path / "images" / "5.png"))) == 8  # b and f by their other images
    whatever = Query(index, RadiusSearch(FAR), min_contrast=0)
    assert len(whatever(str(tmp_path / "images" / "flat2.png"))) == 8


def test_of_a_image_that_many_show_some_are_listed(
    crowded: Catalogue, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(crowded, checkpoint)
    with caplog.at_level(logging.WARNING, "dedup"):
        answer = Query(index, RadiusSearch(FAR), max_products=3)(str(tmp_path / "images" / "0.bmp"))
    assert answer[["product_id", "tier"]].to_numpy().tolist() == [
        ["a", "same_pixels"], ["b", "same_pixels"], ["c", "same_pixels"],
    ]  # fmt: skip
    assert "5 products show " in caplog.text
    assert "3 of them" in caplog.text


def test_a_new_image_has_no_duplicates(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "new.jpg").write_bytes(encoded(draw(77)))
    index = index_of(catalogue, checkpoint)
    for one in (index, remove(index, {f"P{number:02}" for number in range(24)})):
        for threshold in (0, 1e-6):
            answer = Query(one, RadiusSearch(threshold))(str(tmp_path / "new.jpg"))
            assert answer.empty
            assert list(answer) == ANSWER


@pytest.mark.parametrize(
    ("threshold", "rule"),
    [
        (0, "equal images alone (matcher.threshold=0, no verifier): for near duplicates as well, "
            "add verifier=local matcher.threshold=auto"),
        (0.25, "equal images, and those within matcher.threshold=0.25"),
    ],
)  # fmt: skip
def test_a_question_says_by_which_index_and_rule_it_is_answered(
    catalogue: Catalogue,
    checkpoint: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    threshold: float,
    rule: str,
) -> None:
    made = index_of(catalogue, checkpoint)
    made.save(tmp_path / "saved")
    read = Index.load(tmp_path / "saved")
    with caplog.at_level(logging.INFO, "dedup"):
        for index in (made, read, remove(read, {"P01"})):
            Query(index, RadiusSearch(threshold))
    names = ["the index", f"the index {tmp_path / 'saved'}", "the index"]
    assert caplog.messages[-3:] == [f"{name} answers by {rule}" for name in names]


def test_an_answer_says_how_long_it_took(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    query = Query(index_of(catalogue, checkpoint), RadiusSearch(0))
    with caplog.at_level(logging.INFO, "dedup"):
        query(str(tmp_path / "images" / "0.jpg"))
    assert "answered in " in caplog.messages[-1]
    assert "(embedding " in caplog.messages[-1]


def test_a_query_that_cannot_be_read_says_why(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    query = Query(index_of(catalogue, checkpoint), RadiusSearch(0))
    with pytest.raises(SourceError, match=r"gone\.jpg.*not_found"):
        query([str(tmp_path / "images" / "0.jpg"), "gone.jpg"])
    with pytest.raises(SourceError, match="name one"):
        query([])


def children() -> list[int]:
    """Process ids of this process's children."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts by /proc")
def test_the_children_serve_the_next_query_and_end_with_the_last(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    query = Query(index_of(catalogue, checkpoint), RadiusSearch(0))
    before, image = set(children()), str(tmp_path / "images" / "0.jpg")
    first = query(image)
    (child,) = started = set(children()) - before
    pd.testing.assert_frame_equal(query(image), first)
    assert set(children()) - before == started
    with pytest.raises(SourceError, match="not_found"):
        query("gone.jpg")
    assert child not in children()  # nothing goes on after an error
    pd.testing.assert_frame_equal(query(image), first)
    assert len(set(children()) - before) == 1
    del query
    gc.collect()
    assert not set(children()) - before


@pytest.mark.parametrize("web", [False, True])
def test_a_image_that_takes_minutes_is_given_up(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path, serve: Callable[..., str], web: bool
) -> None:
    (tmp_path / "slow.jpg").write_bytes(many_scans(20_000))
    address = f"{serve(tmp_path)}/slow.jpg" if web else str(tmp_path / "slow.jpg")
    index = index_of(catalogue, checkpoint)
    with Decoders(timeout=0.5) as decoders:
        query = Query(index, RadiusSearch(0), fetcher=LOCAL, decoders=decoders)
        with pytest.raises(SourceError) as caught:
            query([str(tmp_path / "images" / "0.jpg"), address])
        assert str(caught.value) == (
            f"the image {address} cannot be read: decoder_timeout: took more than 0.5 s"
        )
        assert not query(str(tmp_path / "images" / "0.jpg")).empty


@pytest.mark.parametrize("web", [False, True])
def test_a_file_that_is_too_large_is_not_read(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path, serve: Callable[..., str], web: bool
) -> None:
    (tmp_path / "large.jpg").write_bytes(encoded(draw(3, (600, 800))))
    address = f"{serve(tmp_path)}/large.jpg" if web else str(tmp_path / "large.jpg")
    fetcher = dataclasses.replace(LOCAL, max_bytes=9000)
    query = Query(index_of(catalogue, checkpoint), RadiusSearch(0), fetcher=fetcher)
    with pytest.raises(SourceError, match="too_large"):
        query(address)


def test_several_images_share_the_children(
    catalogue: Catalogue, checkpoint: Path, tmp_path: Path
) -> None:
    index = index_of(catalogue, checkpoint)
    names = [str(tmp_path / "images" / f"{number}.jpg") for number in range(5)]
    with Decoders(workers=2, read=tell) as decoders:
        query = Query(index, RadiusSearch(0), decoders=decoders)
        readings = [reading for _ in range(3) for reading in query._read(names)]
        told = {ast.literal_eval(reading.sha256_bytes)["pid"] for reading in readings}
        assert told <= {child.process.pid for child in decoders._children}
    assert len(told) <= 2
    assert os.getpid() not in told
    found = Query(index, RadiusSearch(0))(names)
    assert sorted(found["product_id"]) == ["P00", "P01", "P02", "P03", "P04", "P20", "P21", "P22"]
    assert not [thread for thread in threading.enumerate() if "decoder" in thread.name]


def test_another_encoder_is_refused(catalogue: Catalogue, checkpoint: Path, tmp_path: Path) -> None:
    index = index_of(catalogue, checkpoint)
    other = save_encoder(tmp_path / "other.ckpt", 1)
    with pytest.raises(ArtifactError, match="another"):
        Query(index, RadiusSearch(0), other)
    save_encoder(checkpoint, 2)  # the file that the index names is no longer what it was
    with pytest.raises(ArtifactError, match="another"):
        Query(index, RadiusSearch(0))


def test_a_text_is_found_where_it_stands() -> None:
    texts = [str(number % 70) for number in np.random.default_rng(0).permutation(200)]
    lookup = Lookup(pd.Series(texts, dtype=str))
    for text in [*map(str, range(70)), "", "70"]:
        places = [place for place, other in enumerate(texts) if other == text]
        assert lookup.rows(text).tolist() == places
        assert lookup.first(text) == (places[0] if places else None)
    assert not len(lookup.rows("q\udcff.jpg"))  # a file's name that is no UTF-8
    assert lookup.first("q\udcff.jpg") is None
