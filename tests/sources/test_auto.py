"""The source that ``source=auto`` chooses, over exports of each tool in each dialect."""

import bz2
import csv
import io
import logging
import lzma
import zipfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.cli.arguments import prepared
from dedup.config.instances import build, default_settings
from dedup.errors import ConfigError, SourceError
from dedup.sources.auto import AutoSource, is_feed, known_export
from dedup.sources.kinds import kind_of

WEB = "https://a.test/{}.jpg"
GOOGLE, ATOM = "http://base.google.com/ns/1.0", "http://www.w3.org/2005/Atom"


@dataclass(frozen=True)
class Export:
    """Export of a tool, after its documentation.

    Attributes:
        part: the source that reads it.
        header: its columns.
        rows: its rows.
        expected: of each row the product id, the address of its image, and why it has none.
    """

    part: str
    header: list[str]
    rows: list[list[str]]
    expected: list[tuple[str, str, str]]


EXPORTS = {
    "shopify_former": Export(
        "shopify",
        ["Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Tags", "Published",
         "Option1 Name", "Option1 Value", "Variant SKU", "Image Src", "Image Position",
         "Variant Image", "Status"],
        [["hat", "Café hat", "<p>A, b; c</p>", "Acme", "", "a, b", "true", "Size", "S", "H-S",
          WEB.format(1), "1", "", "active"],
         ["hat", "", "", "", "", "", "", "", "M", "H-M", WEB.format(2), "2", "", ""],
         ["hat", "", "", "", "", "", "", "", "L", "H-L", "", "", "", ""]],
        [("hat", WEB.format(1), ""), ("hat", WEB.format(2), ""), ("hat", "", "no_url")],
    ),
    "shopify_present": Export(
        "shopify",
        ["Title", "URL handle", "Description", "Vendor", "Product category", "Type", "Tags",
         "Published on online store", "Status", "SKU", "Option1 name", "Option1 value", "Price",
         "Product image URL", "Image position", "Image alt text", "Variant image URL"],
        [["Café hat", "hat", "A, b; c", "Acme", "", "", "a, b", "TRUE", "Active", "H-S", "Size",
          "S", "9.90", WEB.format(1), "1", "", WEB.format(3)],
         ["", "hat", "", "", "", "", "", "", "", "H-M", "", "M", "9", WEB.format(2), "2", "", ""],
         ["Cap", "", "", "", "", "", "", "", "", "C", "", "", "1", WEB.format(4), "1", "", ""]],
        [("hat", WEB.format(1), ""), ("hat", WEB.format(2), ""), ("", "", "no_id")],
    ),
    "woocommerce": Export(
        "woocommerce",
        ["ID", "Type", "SKU", "Name", "Published", "Is featured?", "Description",
         "Regular price", "Categories", "Images", "Parent", "Position", "Attribute 1 name"],
        [["10", "variable", "HAT", "Café hat", "1", "0", "A, b; c", "", "Hats",
          f"{WEB.format(1)}, {WEB.format(2)}", "", "0", "Size"],
         ["11", "variation", "HAT-S", "Hat - S", "1", "0", "", "9", "", WEB.format(3), "HAT", "1",
          "Size"],
         ["12", "variation", "HAT-M", "Hat - M", "1", "0", "", "9.90", "", "", "HAT", "2", "Size"]],
        [("10", WEB.format(1), ""), ("11", WEB.format(3), ""), ("12", "", "no_url")],
    ),
    "magento": Export(
        "magento",
        ["sku", "store_view_code", "attribute_set_code", "product_type", "categories", "name",
         "description", "base_image", "base_image_label", "small_image", "additional_images",
         "additional_image_labels", "configurable_variations"],
        [["HAT", "", "Default", "simple", "Default Category/Hats", "Café hat", "A, b; c",
          WEB.format(1), "", "", f"{WEB.format(1)},{WEB.format(2)}", "", "sku=a,size=S"],
         ["CAP", "", "Default", "simple", "", "Cap", "", "no_selection", "", "", "", "", ""]],
        [("HAT", WEB.format(1), ""), ("CAP", "", "no_url")],
    ),
    "merchant_table": Export(
        "merchant",
        ["id", "title", "description", "link", "image_link", "additional_image_link", "price",
         "availability", "item_group_id"],
        [["1", "Café hat", "A, b; c", "https://a.test/p", WEB.format(1),
          f"{WEB.format(2)},{WEB.format(3)}", "9.90 EUR", "in_stock", "G"],
         ["", "Cap", "", "", WEB.format(4), "", "", "", ""]],
        [("1", WEB.format(1), ""), ("", "", "no_id")],
    ),
    "plain": Export(
        "csv",
        ["productId", "title", "imageUrlStr", "categories"],
        [["1", "Café hat", f"{WEB.format(1)};{WEB.format(2)}", "Hats"], ["2", "Cap", "", ""]],
        [("1", WEB.format(1), ""), ("2", "", "no_url")],
    ),
    "plain_with_the_columns_of_a_tool_besides": Export(
        "csv",
        ["productId", "imageUrlStr", "Handle", "Title", "Image Src", "title"],
        [["1", WEB.format(1), "café", "Hat", WEB.format(2), ""]],
        [("1", WEB.format(1), "")],
    ),
}  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252")
TABLES = [*product(EXPORTS, (",", ";", "\t"), ENCODINGS, ("\n", "\r\n"))]


def write(path: Path, export: Export, sign: str, encoding: str, end: str) -> None:
    """Write a table with a delimiter, an encoding and ends of lines."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=sign, lineterminator=end).writerows([export.header, *export.rows])
    path.write_bytes(text.getvalue().encode(encoding))


def outcomes(source: AutoSource) -> list[tuple[str, str, str]]:
    """Product id, address and reason of each request."""
    rows = source.read().requests.itertuples()
    return [(row.product_id, row.url, row.reason) for row in rows]


@pytest.mark.parametrize(("name", "sign", "encoding", "end"), TABLES)
def test_tables_of_tools(tmp_path, name, sign, encoding, end):
    export, path = EXPORTS[name], tmp_path / "export.csv"
    write(path, export, sign, encoding, end)
    source = AutoSource(str(path))
    part = "tsv" if (export.part, sign) == ("csv", "\t") else export.part
    assert source.choose().part == part
    assert source.check() == export.header
    assert outcomes(source) == export.expected
    assert known_export(path) == (None if export.part == "csv" else export.part)


FEEDS = [*product(("rss", "atom"), ("utf-8", "utf-16", "iso-8859-1", "windows-1252"))]


@pytest.mark.parametrize(("kind", "encoding"), FEEDS)
def test_feeds(tmp_path, kind, encoding):
    path = tmp_path / "feed"
    space = f"{{{ATOM}}}" if kind == "atom" else ""
    root = ElementTree.Element(f"{space}{'feed' if kind == 'atom' else 'rss'}")
    above = root if kind == "atom" else ElementTree.SubElement(root, "channel")
    for number in (1, 2):
        item = ElementTree.SubElement(above, f"{space}{'entry' if kind == 'atom' else 'item'}")
        ElementTree.SubElement(item, f"{{{GOOGLE}}}id").text = f"é{number}"
        ElementTree.SubElement(item, f"{{{GOOGLE}}}image_link").text = WEB.format(number)
    path.write_bytes(ElementTree.tostring(root, encoding=encoding))
    source = AutoSource(str(path))
    assert source.choose().part == known_export(path) == "merchant"
    assert is_feed(path)
    assert outcomes(source) == [("é1", WEB.format(1), ""), ("é2", WEB.format(2), "")]


def test_it_says_once_what_it_chose_and_how_to_choose_otherwise(tmp_path, caplog):
    write(tmp_path / "a.csv", EXPORTS["magento"], ",", "utf-8", "\n")
    source = AutoSource(str(tmp_path / "a.csv"))
    with caplog.at_level(logging.INFO, logger="dedup"):
        source.check()
        source.read()
    said = [line for line in caplog.messages if "source=magento" in line]
    assert len(said) == 1
    assert "its header has 'sku' and 'base_image' and 'additional_images'" in said[0]
    assert "Choose otherwise with source=NAME" in said[0]


def test_a_folder(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.png").touch()
    source = AutoSource(str(tmp_path), pattern="*.png")
    assert source.choose().part == "folder"
    assert [key for key, _, _ in outcomes(source)] == ["b.png"]


@pytest.mark.parametrize("name", ["shopify_former", "woocommerce", "magento", "merchant_table"])
def test_columns_of_the_user_win(tmp_path, name):
    export = EXPORTS[name]
    path = tmp_path / "a.csv"
    header, rows = [*export.header, "Own", "Photo"], [[*row, "X", "p.jpg"] for row in export.rows]
    write(path, Export(export.part, header, rows, []), ",", "utf-8", "\n")
    own = AutoSource(str(path), id_column="Own", url_column="Photo", title_column=None)
    assert own.choose().part == export.part
    catalogue = own.read()
    assert (catalogue.id_column, catalogue.url_column, catalogue.title_column) == (
        "Own", "Photo", None,
    )  # fmt: skip
    assert set(catalogue.requests["product_id"]) == {"X"}


@pytest.mark.parametrize(("sign", "part"), [(",", "csv"), (";", "csv"), ("\t", "tsv")])
def test_a_table_of_its_own_with_the_columns_that_are_set(tmp_path, sign, part):
    path = tmp_path / "a.csv"
    path.write_text(sign.join(["nr", "foto"]) + "\n" + sign.join(["1", "a.jpg"]) + "\n")
    source = AutoSource(str(path), id_column="nr", url_column=["foto"])
    assert source.choose().part == part
    assert outcomes(source) == [("1", str(tmp_path.resolve() / "a.jpg"), "")]


OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "unknown": ("nr,foto\n1,a.jpg\n", {}),
    "half_of_a_tool": ("Handle,Title,foto\nnr,a,b\n", {}),
    "half_of_the_default": ("productId,foto\n1,a.jpg\n", {}),
    "names_in_other_letters": ("handle,title,image src\na,b,c\n", {}),
    "one_column_set": ("nr,foto\n1,a.jpg\n", {"id_column": "nr"}),
    "a_set_column_that_is_absent": ("nr,foto\n1,a\n", {"id_column": "no", "url_column": "foto"}),
}


@pytest.mark.parametrize(("text", "chosen"), OTHERS.values(), ids=OTHERS)
def test_nothing_is_guessed(tmp_path, text, chosen):
    path = tmp_path / "a.csv"
    path.write_text(text)
    for act in (AutoSource(str(path), **chosen).check, AutoSource(str(path), **chosen).read):
        with pytest.raises(SourceError) as caught:
            act()
        message = str(caught.value)
        assert "source.id_column=" in message
        assert "source.url_column=" in message
        for name in text.partition("\n")[0].split(","):
            assert not name or repr(name) in message
    assert known_export(path) is None


def test_two_tools_at_once_are_not_guessed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Handle,Title,Image Src,sku,base_image,additional_images\na,b,c,d,e,f\n")
    with pytest.raises(SourceError, match="source=shopify or source=magento"):
        AutoSource(str(path)).check()


FILES = {
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "is an image"),
    "gzip": (b"\x1f\x8b\x08\0", "is a gzip file that is cut off"),
    "excel": (b"PK\x03\x04", "cut off or damaged"),
    "xml_of_others": (b"<products><product/></products>", "its first element is <products>"),
    "a_web_page": (b"<!DOCTYPE html><html></html>", "is a web page"),
}


@pytest.mark.parametrize(("data", "message"), FILES.values(), ids=FILES)
def test_other_files_are_refused(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(SourceError, match=message):
        AutoSource(str(tmp_path / "a")).check()


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"gone.csv cannot be read"):
        AutoSource(str(tmp_path / "gone.csv")).check()
    assert known_export(tmp_path / "gone.csv") is None
    assert not is_feed(tmp_path / "gone.csv")


def test_settings_that_the_chosen_source_has_not_are_refused(tmp_path):
    write(tmp_path / "a.csv", EXPORTS["magento"], ",", "utf-8", "\n")
    with pytest.raises(ConfigError, match=r"source=magento .* has no source.pattern: leave that"):
        AutoSource(str(tmp_path / "a.csv"), pattern="*.png").check()
    with pytest.raises(ConfigError, match=r"no source.rows and no source.id_column: leave"):
        AutoSource(str(tmp_path), rows=[0, 1], id_column="a").check()


def test_each_source_that_can_be_chosen_takes_the_settings_of_tables():
    own = default_settings("source", "auto").keys() - {"_target_", "pattern", "image_column"}
    for part in ("csv", "tsv", "shopify", "woocommerce", "magento", "merchant"):
        settings = default_settings("source", part)
        assert settings.keys() - {"_target_"} == own
        build(settings | {"path": "a"})


def test_a_bare_file_is_read_as_what_it_is(tmp_path):
    paths = {name: str(tmp_path / f"{name}.csv") for name in EXPORTS}
    for name, path in paths.items():
        write(Path(path), EXPORTS[name], ",", "utf-8", "\n")
    feed = tmp_path / "feed.xml"
    feed.write_text("<rss/>")
    assert prepared("detect", [paths["plain"]])[0] == "source=csv"
    assert prepared("detect", [paths["shopify_former"]])[0] == "source=auto"
    assert prepared("detect", [str(feed)])[0] == "source=auto"
    assert prepared("detect", [str(feed), "source.id_column=x"])[0] == "source=auto"
    asked = [paths["shopify_former"], "source.id_column=Handle"]
    assert prepared("detect", asked)[0] == "source=csv"
    assert prepared("detect", [str(tmp_path / "gone.csv")])[0] == "source=csv"
    assert prepared("detect", [str(tmp_path)])[0] == "source=folder"


@pytest.mark.parametrize("name", ["a.csv", "feed.xml"])
def test_a_changed_file_has_another_digest(tmp_path, name):
    path = tmp_path / name
    texts = {
        "a.csv": "productId,imageUrlStr\n1,a.jpg\n",
        "feed.xml": "<rss><channel><item><id>1</id></item></channel></rss>",
    }
    path.write_text(texts[name])
    before = AutoSource(str(path)).digest()
    assert AutoSource(str(path)).digest() == before
    path.write_text(texts[name].replace("1", "2"))
    assert AutoSource(str(path)).digest() != before


def test_a_folder_of_parquet_files_is_one_table_unless_it_has_images(tmp_path):
    pq.write_table(pa.table({"productId": ["1"], "imageUrlStr": ["b.jpg"]}), tmp_path / "a.parquet")
    source = AutoSource(str(tmp_path))
    assert source.choose().part == kind_of(tmp_path) == "parquet"
    assert outcomes(source) == [("1", str(tmp_path.resolve() / "b.jpg"), "")]
    (tmp_path / "b.jpg").touch()
    assert source.choose().part == kind_of(tmp_path) == "folder"


def test_names_of_wix_start_from_a_folder_that_is_set(tmp_path):
    (tmp_path / "a.csv").write_text(
        "handleId,fieldType,name,productImageUrl\n1,Product,Hat,a.jpg\n"
    )
    found = outcomes(AutoSource(str(tmp_path / "a.csv"), images_dir=str(tmp_path)))
    assert found == [("1", str(tmp_path.resolve() / "a.jpg"), "")]


def test_columns_of_the_user_win_over_those_of_a_tool(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("item_sku,item_name,main_image_url,nr\n1,Hat,a.jpg,N1\n")
    assert known_export(path) == "auto"
    assert prepared("detect", [str(path)])[0] == "source=auto"
    assert outcomes(AutoSource(str(path), id_column="nr"))[0][0] == "N1"


@pytest.mark.parametrize("data", [b"", b" \n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_an_empty_file_is_called_so(tmp_path, data):
    path = tmp_path / "shop.csv"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"shop\.csv is empty: check source\.path="):
        AutoSource(str(path)).read()


PACKED = {
    "bzip2": bz2.compress(b"id,image\n" * 9),
    "xz": lzma.compress(b"id,image\n" * 9),
    "zstd": b"\x28\xb5\x2f\xfd\x24\x09\x49\x00\x00id,image\n",
    "7z": b"7z\xbc\xaf\x27\x1c\x00\x04",
    "RAR": b"Rar!\x1a\x07\x01\x00",
    "SQLite": b"SQLite format 3\0",
}


@pytest.mark.parametrize(("name", "data"), PACKED.items())
def test_files_that_are_no_tables_are_named(tmp_path, name, data):
    path = tmp_path / "shop.csv"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=f"{name}.*: (unpack|export)"):
        AutoSource(str(path)).read()


def test_an_open_document_is_named(tmp_path):
    path = tmp_path / "shop.ods"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("mimetype", "content.xml", "styles.xml"):
            archive.writestr(name, "x")
    with pytest.raises(SourceError, match=r"shop\.ods is a document of LibreOffice.*as CSV"):
        AutoSource(str(path)).read()
