"""Exports of shops' tools through the Python API, and how an index's table is read again."""

from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

import dedup
from dedup.api.arguments import configured, source_of
from dedup.cli.commands import take_columns
from dedup.config.instances import ROOT, plain
from dedup.search import origins
from tests.conftest import draw, encoded

GOOGLE = "http://base.google.com/ns/1.0"
SHOPIFY = "Handle,Title,Image Src\nhat,Hat,1.jpg\n"
FILES = {
    "feed.xml": (f'<rss xmlns:g="{GOOGLE}"></rss>', {}, "merchant"),
    "feed_with_columns.xml": (f'<rss xmlns:g="{GOOGLE}"></rss>', {"id": "gtin"}, "merchant"),
    "shopify.csv": (SHOPIFY, {}, "shopify"),
    "shopify_with_columns.csv": (SHOPIFY, {"id": "Handle", "images": "Image Src"}, "csv"),
    "plain.csv": ("productId,imageUrlStr\n1,1.jpg\n", {}, "csv"),
    "unknown.csv": ("a,b\n1,1.jpg\n", {}, "csv"),
    "woo.csv": ("ID,Type,SKU,Name,Images,Parent\n1,simple,A,Hat,1.jpg,\n", {}, "woocommerce"),
}
KINDS = {"merchant": "MerchantSource", "shopify": "ShopifySource"}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_what_it_is(tmp_path, name):
    text, columns, part = FILES[name]
    (tmp_path / name).write_text(text)
    source, described = source_of(configured("bundled", {}), tmp_path / name, columns)
    assert type(source).__name__ == KINDS.get(part, "CsvSource")
    assert origins.table_part({"source": described}) == (part if part in KINDS else "csv")


def feed(path: Path, numbers: range) -> Path:
    """A feed whose items show an image each, which is drawn beside it."""
    items = ""
    for number in numbers:
        (path.parent / f"{number}.jpg").write_bytes(encoded(draw(number)))
        items += f"<item><g:id>P{number}</g:id><g:image_link>{number}.jpg</g:image_link></item>"
    path.write_text(f'<rss xmlns:g="{GOOGLE}"><channel>{items}</channel></rss>')
    return path


def test_an_update_reads_a_feed_as_the_index_was_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    index = dedup.build_index(
        feed(tmp_path / "a.xml", range(6)), folder=tmp_path / "index", progress=False
    )
    assert index.manifest["source"]["_target_"] == "dedup.sources.merchant.MerchantSource"
    newer = feed(tmp_path / "b.xml", range(4, 8))
    changed = dedup.update_index(index, newer, folder=tmp_path / "changed", progress=False)
    assert sorted(changed.products["id"]) == [f"P{number}" for number in range(8)]
    again = dedup.update_index(
        changed, feed(tmp_path / "c.xml", range(8, 9)), folder=tmp_path / "again", progress=False
    )
    assert len(again.products) == 9

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        words = ["change=update", f"index={tmp_path / 'again'}", f"source.path={newer}"]
        cfg = hydra.compose("cluster", overrides=words)
    take_columns(cfg)
    source = plain(cfg.source)
    assert source["_target_"] == "dedup.sources.merchant.MerchantSource"
    assert source["path"] == str(newer)


SOURCES = {
    "shopify": (
        {"_target_": "dedup.sources.shopify.ShopifySource", "id_column": "auto"},
        "shopify", {"id_column": "auto"},
    ),
    "woocommerce": ({"_target_": "dedup.sources.csv.CsvSource"}, "csv", {"id_column": "Handle"}),
    "auto": (
        {"_target_": "dedup.sources.auto.AutoSource", "id_column": "auto"},
        "auto", {"id_column": "Handle"},
    ),
    "of_a_stranger": ({"_target_": ["dedup"]}, "csv", {"id_column": "Handle"}),
}  # fmt: skip


@pytest.mark.parametrize(("source", "part", "settings"), SOURCES.values(), ids=SOURCES)
def test_how_a_table_was_read(source, part, settings):
    manifest = {"id_column": "Handle", "url_column": "Image Src", "source": source}
    assert origins.table_part(manifest) == part
    assert origins.table_settings(manifest)["id_column"] == settings["id_column"]


def test_a_folder_that_auto_chose_names_no_columns():
    source = {"_target_": "dedup.sources.auto.AutoSource", "id_column": "auto"}
    manifest = {"id_column": "product_id", "url_column": None, "source": source}
    assert origins.table_settings(manifest)["id_column"] == "auto"


def test_auto_looks_for_the_columns_of_images_again() -> None:
    source = {"_target_": "dedup.sources.auto.AutoSource", "url_column": "auto"}
    manifest = {"id_column": "id", "url_column": "image_link", "source": source}
    assert origins.table_settings(manifest) == {"id_column": "id", "url_column": "auto"}
