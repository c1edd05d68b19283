"""The store against the images that went in: none lost, none twice, and the same after a kill."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from dedup.errors import ArtifactError, ConfigError, CorruptError, SourceError
from dedup.runtime.files import read_array
from dedup.schemas import IMAGES, REQUESTS
from dedup.sources import requests
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.store import failures
from dedup.store.decode import decode
from dedup.store.image_store import ImageStore
from tests.conftest import LOCAL, QuietHandler, cut, draw, empty, encoded, scribble, write_shop

Serve = Callable[..., str]


def contents(store: Path) -> dict[str, bytes]:
    """The store's own files; the answers of web addresses in a folder there have times."""
    files = [file for file in store.iterdir() if file.is_file() and file.name != "lock"]
    return {file.name: file.read_bytes() for file in files}


def asking_for(*addresses: Sequence[str]) -> Catalogue:
    """A catalogue whose products each ask for an address, and for its alternates next."""
    ids = [f"P{number}" for number in range(len(addresses))]
    requests = pd.DataFrame(
        {
            "record": range(len(ids)),
            "product_id": ids,
            "url": [first for first, *_ in addresses],
            "alternates": [others for _, *others in addresses],
            "status": "",
            "reason": "",
        },
        columns=REQUESTS.names,
    )
    return Catalogue(products=pd.DataFrame({"product_id": ids}), requests=requests)


def noting(folder: Path, note: Callable[[str], None]) -> type:
    """A handler that shows the files of a folder, and notes each name before it answers."""

    class Noting(QuietHandler):
        def translate_path(self, path: str) -> str:
            name = path.strip("/")
            note(name)
            return str(folder / name)

    return Noting


class Shop(NamedTuple):
    """Images behind a server that notes each path that it is asked for."""

    address: str
    folder: Path
    asked: list[str]


@pytest.fixture
def web(tmp_path: Path, serve: Serve) -> Shop:
    folder = tmp_path / "web"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(encoded(draw(number)))
    asked: list[str] = []
    return Shop(serve(handler=noting(folder, asked.append)), folder, asked)


def test_every_row_has_a_status(catalogue: Catalogue, tmp_path: Path) -> None:
    images = ImageStore(tmp_path / "store").ingest(catalogue, tmp_path)
    assert list(images.columns) == IMAGES.names
    assert images["product_id"].tolist() == [f"P{number:02}" for number in range(24)]
    assert images["record"].tolist() == list(range(24))
    assert images["status"].tolist() == ["ok"] * 23 + ["failed"]
    assert images["reason"].tolist() == [""] * 23 + ["not_found"]
    good = images[images["status"] == "ok"]
    assert set(zip(good["width"], good["height"], strict=True)) == {(150, 200)}
    assert images["contrast"].dtype == np.float32
    assert (images["contrast"] > 12).tolist() == [True] * 23 + [False]
    row = images.set_index("product_id").to_dict("index")
    assert row["P20"]["sha256_bytes"] == row["P00"]["sha256_bytes"]
    assert row["P21"]["sha256_bytes"] != row["P01"]["sha256_bytes"]
    assert row["P21"]["sha256_pixels"] == row["P01"]["sha256_pixels"]
    assert row["P22"]["url"] == row["P02"]["url"]
    assert good["sha256_pixels"].nunique() == 20


def test_what_is_not_ok_is_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cut.jpg").write_bytes(encoded(draw(0))[:-200])
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "0.jpg").write_bytes(encoded(draw(0)))
    names = ["0.jpg", "cut.jpg", "page.jpg", "missing.jpg", "", "ftp://a/b", "0.jpg"]
    rows = [(f"00{number}", name) for number, name in enumerate(names)]
    shop = CsvSource(str(write_shop(tmp_path, [*rows, ("000", "0.jpg")]))).read()
    ImageStore(tmp_path / "store").ingest(shop, tmp_path)
    listed = pd.read_csv(tmp_path / "failures.csv", dtype=str, keep_default_na=False)
    shown = ["productId", "failure_status", "failure_reason"]
    assert listed[shown].to_numpy().tolist() == [
        ["001", "failed", "truncated"],
        ["002", "failed", "format"],
        ["003", "failed", "not_found"],
        ["004", "failed", "no_url"],
        ["005", "failed", "scheme"],
        ["000", "skipped", "duplicate_row"],
    ]
    assert f"See {tmp_path / 'failures.csv'}" in caplog.text
    assert all(listed["failure_detail"])
    assert listed["failure_detail"].tolist()[3:5] == [
        "column 'imageUrlStr' is empty: write the address of an image, unless another row of the "
        "product has one",
        "column 'imageUrlStr' has an address that is neither http(s) nor a path: write one of "
        "these",
    ]


def test_each_reason_of_a_source_has_a_sentence_and_cells_that_cannot_be_assigned_are_shown(
    tmp_path: Path,
) -> None:
    assert failures.WRITE.keys() == {*requests.CLOSED}
    (tmp_path / "0.jpg").write_bytes(encoded(draw(0)))
    table = tmp_path / "shop.csv"
    table.write_text("title,productId,imageUrlStr\nHat,1,0.jpg\nBag,red,2,0.jpg\nCap,3\n")
    ImageStore(tmp_path / "store").ingest(CsvSource(str(table)).read(), tmp_path)
    listed = pd.read_csv(tmp_path / "failures.csv", dtype=str, keep_default_na=False)
    assert listed["failure_record"].tolist() == ["1", "2"]
    assert listed["title"].tolist() == ["", ""]
    wrong = failures.WRITE["bad_field_count"]
    assert listed["failure_detail"].tolist() == [
        f"{wrong}. It begins: Bag | red | 2", f"{wrong}. It begins: Cap | 3",
    ]  # fmt: skip


def test_nothing_is_listed_where_all_is_well(
    shop: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = str(shop.parent / "images" / "1.jpg")
    ImageStore(tmp_path / "store").ingest(asking_for([image]), tmp_path)
    assert not (tmp_path / "failures.csv").exists()
    assert capfd.readouterr().out == ""


def test_each_address_is_loaded_once(tmp_path: Path, web: Shop) -> None:
    names = ["0.jpg", "1.jpg", "0.jpg", "gone.jpg", "2.jpg", "0.jpg", "gone.jpg"]
    shop = asking_for(*([f"{web.address}/{name}"] for name in names))
    first = ImageStore(tmp_path / "store", fetcher=LOCAL, shard_rows=2).ingest(shop, tmp_path)
    assert Counter(web.asked) == Counter(set(names))
    assert first["reason"].tolist() == ["", "", "", "http_404", "", "", "http_404"]
    web.asked.clear()
    second = ImageStore(tmp_path / "store", fetcher=LOCAL, shard_rows=2).ingest(shop, tmp_path)
    assert web.asked == []
    pd.testing.assert_frame_equal(first, second)


def test_only_what_is_new_is_loaded(tmp_path: Path, web: Shop) -> None:
    store = ImageStore(tmp_path / "store", fetcher=LOCAL)
    store.ingest(asking_for([f"{web.address}/0.jpg"]), tmp_path)
    store.ingest(asking_for([f"{web.address}/1.jpg"], [f"{web.address}/0.jpg"]), tmp_path)
    assert web.asked == ["0.jpg", "1.jpg"]


def test_alternates_are_tried_in_order_until_one_is_good(tmp_path: Path, web: Shop) -> None:
    (web.folder / "page.jpg").write_text("<html>")
    at = web.address
    shop = asking_for(
        [f"{at}/gone.jpg", f"{at}/page.jpg", f"{at}/1.jpg", f"{at}/2.jpg"],
        [f"{at}/3.jpg", f"{at}/4.jpg"],
        [f"{at}/gone.jpg", f"{at}/page.jpg"],
        [f"{at}/page.jpg", f"{at}/3.jpg"],
    )
    images = ImageStore(tmp_path / "store", fetcher=LOCAL, workers=1).ingest(shop, tmp_path)
    assert sorted(web.asked[:3]) == ["3.jpg", "gone.jpg", "page.jpg"]  # all at once
    assert web.asked[3:] == ["1.jpg"]
    assert images["url"].tolist() == [f"{at}/{name}.jpg" for name in ("1", "3", "page", "3")]
    assert images["reason"].tolist() == ["", "", "format", ""]


def test_pixels_are_those_of_the_decoder(catalogue: Catalogue, tmp_path: Path) -> None:
    for reader in ("pillow", "skimage"):
        store = ImageStore(tmp_path / reader, reader=reader, shard_rows=4)
        images = store.ingest(catalogue, tmp_path)
        good = images.loc[images["status"] == "ok", "url"].sample(12, replace=True, random_state=0)
        pixels = store.read(store.rows(good.tolist()))
        assert pixels.dtype == np.uint8
        for address, found in zip(good, pixels, strict=True):
            assert np.array_equal(found, decode(Path(address).read_bytes(), reader).pixels)


def test_no_places_are_no_images(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    assert store.rows(["anything"]).tolist() == [[-1, -1]]
    assert store.digest() == ImageStore(tmp_path / "other").digest()
    store.ingest(catalogue, tmp_path)
    missing = catalogue.requests["url"].iloc[-1]
    assert store.rows([missing, "elsewhere"])[:, 1].tolist() == [-1, -1]
    assert store.read(store.rows([])).shape == (0, 3, 200, 100)


def test_thumbnails_have_the_aspect_of_the_original(tmp_path: Path) -> None:
    sizes = {"tall.png": (50, 400), "wide.png": (400, 200), "widest.png": (900, 100)}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(encoded(draw(1, size), "PNG"))
    places = [str(tmp_path / name) for name in sizes]
    store = ImageStore(tmp_path / "store")
    store.ingest(asking_for(*([place] for place in [*places, "/gone.jpg"])), tmp_path)
    images = store.thumbnails([*places, "/gone.jpg", "elsewhere"])
    assert list(images) == places
    assert [image.size for image in images.values()] == [(30, 240), (320, 160), (320, 36)]


def test_shards_follow_the_catalogue(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store", shard_rows=3)
    images = store.ingest(catalogue, tmp_path)
    distinct = images["url"].drop_duplicates().tolist()  # 23, the last of them missing
    assert store.rows(distinct)[:, 0].tolist() == [number // 3 for number in range(23)]
    assert store.rows(distinct)[:-1, 1].tolist() == [number % 3 for number in range(22)]
    files = sorted((tmp_path / "store").glob("shard-?????.npy"))
    assert [len(read_array(file)) for file in files] == [3] * 7 + [1]


def test_the_digest_knows_no_order(catalogue: Catalogue, tmp_path: Path) -> None:
    digests = set()
    for seed in range(3):
        shuffled = catalogue.requests.sample(frac=1, random_state=seed)
        store = ImageStore(tmp_path / str(seed), shard_rows=3 + seed, workers=1 + seed)
        images = store.ingest(Catalogue(catalogue.products, shuffled), tmp_path)
        assert images["product_id"].tolist() == shuffled["product_id"].tolist()
        digests.add(store.digest())
    assert len(digests) == 1
    Path(catalogue.requests["url"][5]).write_bytes(encoded(draw(99)))
    store.ingest(catalogue, tmp_path)
    assert store.digest() not in digests


def test_a_changed_file_is_read_again(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store", shard_rows=8)
    before = store.ingest(catalogue, tmp_path)
    changed, appeared = before["url"][5], before["url"][23]
    for address in (changed, appeared):
        Path(address).write_bytes(encoded(draw(99)))
    for same in (store, ImageStore(tmp_path / "store")):
        after = same.ingest(catalogue, tmp_path)
        assert after["status"].eq("ok").all()
        differing = before["sha256_pixels"] != after["sha256_pixels"]
        assert after.loc[differing, "url"].tolist() == [changed, appeared]
        pixels = same.read(same.rows([changed, appeared]))
        assert (pixels == decode(encoded(draw(99))).pixels).all()
    assert same.rows([changed, appeared]).tolist() == [[3, 0], [3, 1]]
    assert not (tmp_path / "store" / "shard-00004.npy").exists()


def test_failures_are_read_again_when_asked(tmp_path: Path, web: Shop) -> None:
    shop = asking_for([f"{web.address}/0.jpg"], [f"{web.address}/late.jpg"])
    ImageStore(tmp_path / "store", fetcher=LOCAL).ingest(shop, tmp_path)
    (web.folder / "late.jpg").write_bytes(encoded(draw(7)))
    patient = ImageStore(tmp_path / "store", fetcher=LOCAL).ingest(shop, tmp_path)
    assert patient["reason"].tolist() == ["", "http_404"]
    again = ImageStore(tmp_path / "store", fetcher=LOCAL, retry=True).ingest(shop, tmp_path)
    assert again["reason"].tolist() == ["", ""]
    assert Counter(web.asked) == {"0.jpg": 1, "late.jpg": 2}


def test_no_image_at_all_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"not one of 2 .* 2 failed:not_found.*failures\.csv"):
        ImageStore(tmp_path / "store").ingest(asking_for(["/no.jpg"], ["/nor.jpg"]), tmp_path)
    assert len((tmp_path / "failures.csv").read_text().splitlines()) == 3
    nothing_asked = CsvSource(str(write_shop(tmp_path, [("P1", ""), ("P2", "ftp://a/b")]))).read()
    with pytest.raises(SourceError, match="1 failed:no_url, 1 failed:scheme"):
        ImageStore(tmp_path / "other").ingest(nothing_asked, tmp_path)


def test_a_store_has_one_reader_and_one_format(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with pytest.raises(ConfigError, match="opencv"):
        ImageStore(folder, reader="opencv").ingest(catalogue, tmp_path)
    ImageStore(folder).ingest(catalogue, tmp_path)
    before = contents(folder)
    with pytest.raises(ArtifactError, match=r"reader=pillow, not skimage.*store\.path="):
        ImageStore(folder, reader="skimage").ingest(catalogue, tmp_path)
    assert contents(folder) == before
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(ArtifactError, match="format=99"):
        ImageStore(folder).ingest(catalogue, tmp_path)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(CorruptError, match=r"manifest\.json"):
        ImageStore(folder).ingest(catalogue, tmp_path)


def npy(shape: tuple[int, ...], dtype: type = np.uint8) -> Callable[[Path], None]:
    return lambda file: np.save(file, np.zeros(shape, dtype))


def shortened(file: Path) -> None:
    np.save(file, np.load(file)[:-1])


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "pixels_cut": ("shard-00001.npy", cut),
    "pixels_empty": ("shard-00001.npy", empty),
    "pixels_overwritten": ("shard-00001.npy", scribble),
    "one_number": ("shard-00001.npy", npy(())),
    "pictures_of_another_shape": ("shard-00001.npy", npy((4, 3, 100, 200))),
    "pictures_of_another_type": ("shard-00001.npy", npy((4, 3, 200, 100), np.float32)),
    "a_picture_too_few": ("shard-00001.npy", npy((3, 3, 200, 100))),
    "details_cut": ("shard-00001.details.npy", cut),
    "details_empty": ("shard-00001.details.npy", empty),
    "details_overwritten": ("shard-00001.details.npy", scribble),
    "details_in_rows": ("shard-00001.details.npy", npy((4, 30_000))),
    "details_of_another_type": ("shard-00001.details.npy", npy((120_000,), np.float32)),
    "details_too_short": ("shard-00001.details.npy", shortened),
    "details_blank": ("shard-00001.details.npy", npy((120_000,))),
    "table_cut": ("shard-00001.parquet", cut),
    "table_empty": ("shard-00001.parquet", empty),
    "table_overwritten": ("shard-00001.parquet", scribble),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_shards_are_told_from_good_ones(
    catalogue: Catalogue, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = tmp_path / "store"
    images = ImageStore(folder, shard_rows=4).ingest(catalogue, tmp_path)
    good = images.loc[images["status"] == "ok", "url"].tolist()
    damage(folder / name)
    damaged = ImageStore(folder)
    read = damaged.details if "details" in name else lambda urls: damaged.read(damaged.rows(urls))
    with pytest.raises(CorruptError, match=name):
        read(good)


def test_a_missing_shard_is_named(catalogue: Catalogue, tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store")
    images = store.ingest(catalogue, tmp_path)
    places = store.rows(images["url"].tolist()[:1])
    for file in (tmp_path / "store").glob("shard-*.npy"):
        file.unlink()
    for read in (store.read, store.details_at):
        with pytest.raises(
            CorruptError, match=r"shard-00000\.(details\.)?npy is missing.*repair=true"
        ):
            read(places)


def test_a_shard_that_was_cut_off_is_made_again(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    ImageStore(folder, shard_rows=4).ingest(catalogue, tmp_path)
    before = contents(folder)
    for ending in ("json", "parquet"):
        (folder / f"shard-00005.{ending}").unlink()
    (folder / "shard-00005.npy").write_bytes(b"half")
    (folder / "shard-00005.details.npy").write_bytes(b"half")
    (folder / ".shard-00005.parquet.0123abcd.part").write_bytes(b"half")
    ImageStore(folder, shard_rows=4).ingest(catalogue, tmp_path)
    assert contents(folder) == before
