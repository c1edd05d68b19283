import os

import pytest

from dedup.errors import ConfigError, SourceError
from dedup.runtime.tables import read_table, write_table
from dedup.schemas import REQUESTS
from dedup.sources.folder import FolderSource
from dedup.sources.paths import ImageFolder


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def ends(catalogue):
    rows = catalogue.requests.itertuples()
    return {r.product_id: f"{r.status}:{r.reason}".strip(":") for r in rows}


def test_every_image_is_a_product(tmp_path):
    shop = fill(
        tmp_path / "shop", "b.JPG", "a/2.webp", "a/10.png", "a.txt", "jpg", ".gif", "ü 1.jpeg"
    )
    (shop / "folder.jpg").mkdir()
    catalogue = FolderSource(str(shop)).read()
    ids = ["a/10.png", "a/2.webp", "b.JPG", "ü 1.jpeg"]
    assert catalogue.products["product_id"].tolist() == ids
    assert catalogue.products["path"].tolist() == [str(shop / name) for name in ids]
    assert list(catalogue.products) == ["product_id", "path"]
    assert list(catalogue.requests) == REQUESTS.names
    assert catalogue.requests["record"].tolist() == [0, 1, 2, 3]
    assert catalogue.requests["url"].tolist() == [str(shop.resolve() / name) for name in ids]
    assert ends(catalogue) == dict.fromkeys(ids, "")
    assert (catalogue.id_column, catalogue.title_column) == ("product_id", None)


def test_both_tables_fit_their_parquet_schemas(tmp_path):
    catalogue = FolderSource(str(fill(tmp_path / "shop", "a.jpg"))).read()
    write_table(catalogue.requests, REQUESTS, tmp_path / "requests.parquet")
    write_table(catalogue.products, None, tmp_path / "products.parquet")
    assert read_table(tmp_path / "products.parquet")["product_id"].tolist() == ["a.jpg"]


def test_pattern(tmp_path):
    shop = fill(tmp_path, "a/1.jpg", "a/2.png", "b/1.jpg", "a/deep/1.jpg")
    assert list(ends(FolderSource(str(shop), "a/*.jpg").read())) == ["a/1.jpg"]
    for pattern in ("", "/etc/*"):
        with pytest.raises(ConfigError, match=r"source\.pattern="):
            FolderSource(str(shop), pattern).read()


def test_links(tmp_path):
    shop = fill(tmp_path / "shop", "a.jpg")
    fill(tmp_path, "out/secret.jpg")
    (shop / "in.jpg").symlink_to("a.jpg")
    (shop / "out.jpg").symlink_to(tmp_path / "out" / "secret.jpg")
    (shop / "gone.jpg").symlink_to("none.jpg")
    (shop / "loop.jpg").symlink_to("loop.jpg")
    (shop / "up").symlink_to(tmp_path / "out")
    found = ends(FolderSource(str(shop)).read())
    outside = "skipped:outside_folder"
    assert found == {"a.jpg": "", "gone.jpg": "", "in.jpg": "", "loop.jpg": "", "out.jpg": outside}
    assert ends(FolderSource(str(shop), "up/*").read()) == {"up/secret.jpg": outside}
    (tmp_path / "shortcut").symlink_to(shop)
    assert ends(FolderSource(str(tmp_path / "shortcut")).read()) == found


def test_a_name_that_is_no_text(tmp_path):
    shop = fill(tmp_path, "a.jpg")
    (shop / os.fsdecode(b"\xff.jpg")).touch()
    assert ends(FolderSource(str(shop)).read()) == {"\\xff.jpg": "failed:bad_id", "a.jpg": ""}


def test_no_folder_and_no_images(tmp_path):
    fill(tmp_path, "a.txt")
    with pytest.raises(SourceError, match=r"\.jpg, \.jpeg, \.png, \.webp, \.gif, \.bmp"):
        FolderSource(str(tmp_path)).read()
    for path in ("", str(tmp_path / "none"), str(tmp_path / "a.txt")):
        with pytest.raises(SourceError, match=r"source\.path="):
            FolderSource(path).read()


def test_where_an_address_leads(tmp_path):
    images = fill(tmp_path / "images", "with space.jpg", "50%25.jpg", "50%.jpg", "deep/[1].jpg")
    fill(tmp_path, "shop/secret.jpg")
    (images / "out.jpg").symlink_to(tmp_path / "shop" / "secret.jpg")
    (images / "in.jpg").symlink_to("deep/[1].jpg")
    (images / "up").symlink_to(tmp_path)
    folder = ImageFolder(str(images))
    root = images.resolve()
    inside = {
        "with%20space.jpg": "with space.jpg",
        "50%25.jpg": "50%25.jpg",
        "no%20such.jpg": "no%20such.jpg",
        "a%00b.jpg": "a%00b.jpg",
        "in.jpg": "deep/[1].jpg",
        "deep/[1].jpg": "deep/[1].jpg",
        str(root / "deep" / "a.jpg"): "deep/a.jpg",
        "deep/../a.jpg": "a.jpg",
        "up/images/a.jpg": "a.jpg",
        "a" * 400: "a" * 400,
        "12:30.jpg": "12:30.jpg",
    }
    assert {name: folder.locate(name) for name in inside} == {
        name: (str(root / place), "") for name, place in inside.items()
    }
    for name in (
        "out.jpg",
        "up/shop/secret.jpg",
        "%2e%2e/shop/secret.jpg",
        f"{root}-2/a.jpg",
        "..",
    ):
        assert folder.locate(name) == ("", "outside_folder")
