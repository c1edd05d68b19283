import logging
import os
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from dedup.errors import ConfigError, SourceError
from dedup.runtime.tables import read_table, write_table
from dedup.schemas import REQUESTS
from dedup.sources.csv import CsvSource
from dedup.sources.folder import FolderSource
from dedup.sources.paths import ImageFolder
from tests.conftest import draw, encoded


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
    says = r"no image \(JPEG, PNG.* or AVIF\).*, but 1 file that is no image \(\.txt 1\): check"
    with pytest.raises(SourceError, match=says):
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


def read(folder, caplog, pattern="**/*"):
    """The ends by id, and the line that tells what is left out."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "dedup"):
        found = ends(FolderSource(str(folder), pattern).read())
    lines = [record.getMessage() for record in caplog.records]
    return found, lines[0].removeprefix(f"left out of {folder}: ") if lines else ""


def test_images_are_told_by_their_content(tmp_path, caplog):
    kinds = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"]
    for kind in kinds:
        (tmp_path / kind.lower()).write_bytes(encoded(draw(1), kind))
    (tmp_path / "a.jpg?v=1").write_bytes(encoded(draw(2)))
    (tmp_path / "a.jpg_large").write_bytes(encoded(draw(2)))
    (tmp_path / "photo.heic.bak").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    names = [kind.lower() for kind in kinds]
    found, left_out = read(tmp_path, caplog)
    assert found == dict.fromkeys([*names, "a.jpg?v=1", "a.jpg_large", "photo.heic.bak"], "")
    assert left_out == ""


def test_other_files_are_counted_by_reason(tmp_path, caplog):
    fill(tmp_path, "1.jpg", "a.txt", "b.txt", "sub/c.PDF", "plain", "sub/notes.jpg?v=2")
    fill(tmp_path, ".DS_Store", "sub/.DS_Store", "Thumbs.db", "__MACOSX/._1.jpg", ".git/x.jpg")
    (tmp_path / "nothing").touch()
    (tmp_path / "sub" / "nothing.dat").touch()
    (tmp_path / "image.png").mkdir()
    found, left_out = read(tmp_path, caplog)
    assert found == {"1.jpg": "", "sub/notes.jpg?v=2": ""}
    assert left_out == (
        "4 files that are no images (.txt 2, .pdf 1, without a suffix 1), 2 empty files, "
        "5 hidden or system files and folders (.DS_Store 2, .git 1, Thumbs.db 1, __MACOSX 1)"
    )


def test_a_pattern_that_names_hidden_files_reads_them(tmp_path, caplog):
    fill(tmp_path, ".keep/1.jpg", "a/2.jpg", "a/.3.jpg")
    assert read(tmp_path, caplog, ".keep/*")[0] == {".keep/1.jpg": ""}
    found, left_out = read(tmp_path, caplog, "a/*")
    assert found == {"a/2.jpg": ""}
    assert left_out == "1 hidden or system file or folder (.3.jpg 1)"


def test_links_and_things_that_are_no_files_are_counted(tmp_path, caplog, monkeypatch):
    shop = fill(tmp_path / "shop", "1.jpg")
    (tmp_path / "secret").write_bytes(encoded(draw(1)))
    (shop / "in").symlink_to("1.jpg")
    (shop / "gone").symlink_to("none")
    (shop / "out").symlink_to(tmp_path / "secret")
    (shop / "up").symlink_to(tmp_path)
    (shop / "up.jpg").symlink_to(tmp_path)
    os.mkfifo(shop / "pipe.jpg")
    os.mkfifo(shop / "pipe")
    monkeypatch.chdir(shop)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket.png")
        found, left_out = read(shop, caplog)
    assert found == {"1.jpg": ""}
    assert left_out == (
        "1 file that is no image (without a suffix 1), 2 links to folders, 1 broken link, "
        "1 link out of the folder, 3 pipes, sockets or devices"
    )


@contextmanager
def without_rights():
    """Act as a user without the rights of root, if this process has them."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


def test_what_cannot_be_read_is_counted(caplog):
    with tempfile.TemporaryDirectory() as place:  # pytest's own is closed to others
        shop = fill(Path(place), "1.jpg", "locked", "closed/2.jpg")
        shop.chmod(0o755)
        (shop / "locked").chmod(0)
        (shop / "closed").chmod(0)
        with without_rights():
            found, left_out = read(shop, caplog)
        (shop / "closed").chmod(0o700)
    assert found == {"1.jpg": ""}
    assert left_out == "1 file that cannot be read, 1 folder that cannot be read"


def test_many_suffixes_are_not_all_listed(tmp_path, caplog):
    fill(tmp_path, "1.jpg", *(f"{n}.s{n}" for n in range(9)), "x.s8")
    _, left_out = read(tmp_path, caplog)
    assert left_out == (
        "10 files that are no images (.s8 2, .s0 1, .s1 1, .s2 1, .s3 1, .s4 1, others 3)"
    )


def test_a_table_names_images_of_any_name(tmp_path):
    fill(tmp_path, "img/IMG_0001", "img/a.jpg_large", "img/b.tif", "img/c.avif")
    table = tmp_path / "products.csv"
    cells = ["img/IMG_0001", "img/a.jpg_large", "img/b.tif", "img/c.avif", "img/a.jpg?v=1"]
    table.write_text("productId,title,imageUrlStr\n" + "".join(f"{c},t,{c}\n" for c in cells))
    found = CsvSource(str(table)).read().requests
    assert found["url"].tolist() == [str(tmp_path.resolve() / cell) for cell in cells]
    assert set(found["status"]) == {""}


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "AVIF", "BMP"])
def test_an_image_is_no_table(tmp_path, kind):
    (tmp_path / "table.csv").write_bytes(encoded(draw(1), kind))
    with pytest.raises(SourceError, match="is an image and no table"):
        CsvSource(str(tmp_path / "table.csv")).read()
