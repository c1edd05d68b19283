"""Small findings to report on, and a page read with the standard library's parser."""

import base64
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dedup.detection.results import DetectionResult
from dedup.schemas import GROUPS, INDEX_IMAGES, PAIRS, SHARED, Thumbnails
from dedup.search.index import Index
from tests.support.searches import search_facts

Tables = tuple[DetectionResult, Index]

VOID = {"meta", "link", "input", "br", "img"}
Pair = tuple[str, str, float, str, str, str]
Thumbnail = tuple[str, str, str, str]  # product id, address, status, reason


@dataclass
class Node:
    """An element: its attributes, its children and the text inside it."""

    tag: str
    attributes: dict[str, str]
    children: list["Node"] = field(default_factory=list)
    own_text: str = ""

    @property
    def text(self) -> str:
        """All text below, with single spaces."""
        return " ".join(" ".join([self.own_text, *(it.text for it in self.children)]).split())

    def all(self, tag: str = "", of_class: str = "") -> list["Node"]:
        """Every element below with this tag and this class, in the page's order."""
        found = []
        for it in self.children:
            classes = it.attributes.get("class", "").split()
            if tag in ("", it.tag) and (not of_class or of_class in classes):
                found.append(it)
            found += it.all(tag, of_class)
        return found


class Tree(HTMLParser):
    """Builds the tree and refuses tags that are not closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.path = [Node("", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.path[-1].children.append(node)
        if tag not in VOID:
            self.path.append(node)

    def handle_endtag(self, tag: str) -> None:
        assert self.path.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.path[-1].own_text += data


def parse(path: Path) -> Node:
    """The page as a tree."""
    tree = Tree()
    tree.feed(path.read_text(encoding="utf-8"))
    tree.close()
    assert len(tree.path) == 1
    return tree.path[0]


def groups_of(*groups: Sequence[str]) -> pd.DataFrame:
    """A table of groups, of which each keeps its first product."""
    rows = [(key, min(ids), key == ids[0]) for ids in groups for key in ids]
    return pd.DataFrame(rows, columns=GROUPS.names)


def pairs_of(*rows: Pair, seen: Mapping[str, tuple[float, str]] | None = None) -> pd.DataFrame:
    """A table of pairs; ``seen`` gives score and evidence of those that a second look was at."""
    known = {tier: (1.0, tier.replace("_", " ")) for tier in ("same_bytes", "same_pixels")}
    known |= {"same_url": (1.0, "same address"), "near": (math.nan, "")}
    full = [
        (*row, *(seen or {}).get(row[0] + row[1], known[row[3]]), "same image")
        for row in sorted(rows)
    ]
    return pd.DataFrame(full, columns=PAIRS.names)


def found(groups: pd.DataFrame, pairs: pd.DataFrame, **search: object) -> DetectionResult:
    """What was found, without an image that proves nothing."""
    known = None if search.get("threshold") is None else search_facts(**{"looked": False} | search)
    return DetectionResult(groups=groups, pairs=pairs, shared=shared_of(), search=known)


def shared_of(*rows: tuple[str, str, str, int, str]) -> pd.DataFrame:
    """A table of images that prove nothing."""
    return pd.DataFrame(list(rows), columns=SHARED.names)


def pair(a: str, b: str, distance: float = 0.0, tier: str = "same_bytes") -> Pair:
    """A pair whose images lie at the products' usual addresses."""
    return a, b, distance, tier, address(a), address(b)


def address(product_id: str) -> str:
    """Where a product's image usually lies."""
    return f"https://shop.example/{product_id}.jpg"


def index_of(rows: list[Thumbnail], titles: dict[str, str] | None = None) -> Index:
    """An index of these images."""
    images = pd.DataFrame(rows, columns=["product_id", "url", "status", "reason"])
    images = images.reindex(columns=INDEX_IMAGES.names)
    products = pd.DataFrame((titles or {}).items(), columns=["sku", "name"])
    empty = np.zeros((0, 2), np.float32)
    manifest = {"id_column": "sku", "title_column": "name"}
    return Index(images, empty, empty, products, manifest)


def small_shop(**search: object) -> Tables:
    """Two groups among seven products; A-B is exact, A-C near, and D-E near."""
    groups = groups_of("ABC", "DE")
    pairs = pairs_of(pair("A", "B"), pair("A", "C", 0.123456, "near"), pair("D", "E", 0.5, "near"))
    good = [(key, address(key), "ok", "") for key in "ABCDEFG"]
    bad = [("H", "", "failed", "http_404"), ("I", "", "failed", "truncated")]
    bad += [("J", "", "failed", "http_404"), ("F", "", "skipped", "duplicate_row")]
    index = index_of(good + bad, {"A": "Blue jacket", "D": "Hat"})
    return found(groups, pairs, **search), index


def with_images(tables: Tables, thumbnails: Thumbnails) -> Tables:
    """The same tables, and an index that gives these images."""
    findings, index = tables
    return findings, dataclasses.replace(index, thumbnails=thumbnails)


def plain(color: str, size: tuple[int, int] = (60, 80)) -> Image.Image:
    """An image of one colour."""
    return Image.new("RGB", size, color)


def from_table(table: dict[str, Image.Image]) -> Thumbnails:
    """Gives the images of a table and leaves out the rest."""
    return lambda urls: {url: table[url] for url in urls if url in table}


def shown_by(page: Node) -> list[list[str]]:
    """The images' names in each product's tile."""
    tiles = page.all("li", "product")
    return [[it.attributes["href"].removeprefix("#") for it in tile.all("use")] for tile in tiles]


def fine(ids: Iterable[str]) -> Index:
    """An index of products whose one image is ok."""
    return index_of([(key, address(key), "ok", "") for key in ids])


def nearest(uri: str, table: dict[str, Image.Image]) -> str:
    """The address in ``table`` whose mean colour is closest to that of a data URI's image."""
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as image:
        color = np.asarray(image.convert("RGB")).mean(axis=(0, 1))
    return min(table, key=lambda url: float(np.abs(np.asarray(table[url])[0, 0] - color).sum()))
