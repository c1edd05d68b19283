"""Google Merchant feeds: what is read from XML and tables, and which feeds are refused."""

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import ConfigError, SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.merchant import MerchantSource
from dedup.sources.requests import MAX_FIELD

GOOGLE = "http://base.google.com/ns/1.0"
ATOM = "http://www.w3.org/2005/Atom"
TOP = f'<rss version="2.0" xmlns:g="{GOOGLE}"><channel><title>Shop</title>'
END = "</channel></rss>"
GOOD = "<g:id>P9</g:id><title>Last</title><g:image_link>http://shop.test/9.jpg</g:image_link>"


def read(folder: Path, items: str, top: str = TOP, end: str = END, **chosen: Any) -> Catalogue:
    """The catalogue of a feed with these items."""
    path = folder / "feed.xml"
    path.write_bytes((top + items + end).encode())
    return MerchantSource(str(path), **chosen).read()


def outcomes(catalogue: Catalogue) -> list[tuple[str, str]]:
    """Product id and ``status:reason`` of each request."""
    rows = catalogue.requests.itertuples()
    return [(row.product_id, f"{row.status}:{row.reason}".strip(":")) for row in rows]


def refusal(folder: Path, data: str | bytes, **chosen: Any) -> str:
    """Why a feed is refused, by its check as by its reading."""
    path = folder / "feed.xml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    messages = []
    for act in (
        MerchantSource(str(path), **chosen).check,
        MerchantSource(str(path), **chosen).read,
    ):
        with pytest.raises(SourceError) as caught:
            act()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(str(path))
    return messages[0].removeprefix(str(path))


def test_an_item_of_rss(tmp_path):
    item = (
        "<item><g:id> A1 </g:id><title>Dress</title><link>http://shop.test/p</link>"
        "<g:image_link>http://shop.test/1.jpg</g:image_link>"
        "<g:additional_image_link>http://shop.test/2.jpg</g:additional_image_link>"
        "<g:additional_image_link>http://shop.test/3.jpg,http://shop.test/4.jpg"
        "</g:additional_image_link><g:brand>Acme</g:brand><g:price>20.00 EUR</g:price>"
        "<g:shipping><g:country>DE</g:country><g:price>4.90 EUR</g:price></g:shipping>"
        "<g:shipping><g:country>AT</g:country><g:price>9.90 EUR</g:price></g:shipping>"
        "<g:item_group_id>G</g:item_group_id></item>"
    )
    catalogue = read(tmp_path, item)
    assert catalogue.products.iloc[0].to_dict() == {
        "id": "A1", "title": "Dress", "link": "http://shop.test/p",
        "image_link": "http://shop.test/1.jpg",
        "additional_image_link": json.dumps([f"http://shop.test/{n}.jpg" for n in (2, 3, 4)]),
        "brand": "Acme", "price": "20.00 EUR", "shipping.country": '["DE", "AT"]',
        "shipping.price": '["4.90 EUR", "9.90 EUR"]', "item_group_id": "G",
    }  # fmt: skip
    request = catalogue.requests.iloc[0]
    assert [request.url, *request.alternates] == [f"http://shop.test/{n}.jpg" for n in (1, 2, 3, 4)]
    assert (catalogue.id_column, catalogue.title_column) == ("id", "title")
    assert catalogue.url_column == ["image_link", "additional_image_link"]
    every = read(tmp_path, item, choice="all").requests
    assert every["url"].tolist() == [f"http://shop.test/{n}.jpg" for n in (1, 2, 3, 4)]


def test_an_entry_of_atom(tmp_path):
    top = f'<feed xmlns="{ATOM}" xmlns:g="{GOOGLE}" xmlns:c="http://base.google.com/cns/1.0">'
    entry = (
        '<entry><id>tag:shop,1</id><g:id>A1</g:id><title>Hat</title><link href="http://shop.test/p"'
        ' rel="alternate"/><link rel="self" href="http://shop.test/f"/><c:season>summer</c:season>'
        "<g:image_link>http://shop.test/1.jpg</g:image_link></entry>"
    )
    catalogue = read(tmp_path, entry, f"{top}<id>feed</id><link href='http://x'/>", "</feed>")
    assert catalogue.products.iloc[0].to_dict() == {
        "id": "A1", "image_link": "http://shop.test/1.jpg", "atom:id": "tag:shop,1",
        "title": "Hat", "link": "http://shop.test/p", "link.self": "http://shop.test/f",
        "c:season": "summer",
    }  # fmt: skip
    assert outcomes(catalogue) == [("A1", "")]


NAMES: dict[str, tuple[str, str]] = {
    "google": ("<g:title>A</g:title>", "A"),
    "of_rss": ("<title>A</title>", "A"),
    "both": ("<title>A</title><g:title>B</g:title>", "B"),
    "both_the_other_way": ("<g:title>B</g:title><title>A</title>", "B"),
    "cdata": ("<title><![CDATA[A & <b>]]></title>", "A & <b>"),
    "cdata_in_pieces": ("<title>A <![CDATA[&amp;]]> B</title>", "A &amp; B"),
    "a_comment_inside": ("<title>A<!-- no -->B</title>", "AB"),
    "an_instruction_inside": ("<title>A<?php no ?>B</title>", "AB"),
    "references": ("<title>&#65;&#x42;&lt;&quot;&apos;&gt;</title>", "AB<\"'>"),
    "indented": ("<title>\n    A\n  </title>", "A"),
    "markup_inside": ("<title>A <b>B</b></title>", "A"),
    "empty": ("<title/>", ""),
    "none": ("", ""),
}


@pytest.mark.parametrize(("element", "title"), NAMES.values(), ids=NAMES)
def test_titles(tmp_path, element, title):
    catalogue = read(tmp_path, f"<item><g:id>1</g:id>{element}</item><item>{GOOD}</item>")
    assert catalogue.products["title"].tolist() == [title, "Last"]
    assert outcomes(catalogue) == [("1", "failed:no_url"), ("P9", "")]


def test_nothing_is_left_out_where_two_elements_have_one_name(tmp_path):
    item = f"<item>{GOOD}<g:title>Google's</g:title></item>"
    products = read(tmp_path, item).products
    assert products[["title", "rss:title"]].to_numpy().tolist() == [["Google's", "Last"]]
    inside = "<item><g:id>1</g:id><description>A <b>B</b> C</description></item>"
    products = read(tmp_path, f"{inside}<item>{GOOD}</item>").products
    assert products.loc[0, ["description.b", "description"]].tolist() == ["B", "A  C"]


URL = "<g:image_link>{}</g:image_link>"
ITEMS: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "no_id": (URL.format("http://a.test/1.jpg"), [("", "failed:no_id")]),
    "an_empty_id": ("<g:id/>" + URL.format("http://a.test/1.jpg"), [("", "failed:no_id")]),
    "blanks_as_an_id": ("<g:id> \n</g:id>" + URL.format("x.jpg"), [("", "failed:no_id")]),
    "no_image": ("<g:id>1</g:id>", [("1", "failed:no_url")]),
    "nothing": ("", [("", "skipped:blank_row")]),
    "another_scheme": ("<g:id>1</g:id>" + URL.format("ftp://a.test/1"), [("1", "failed:scheme")]),
    "a_path_that_leads_out": (
        "<g:id>1</g:id>" + URL.format("../1.jpg"), [("1", "failed:outside_folder")],
    ),
    "a_long_id": (
        f"<g:id>{'x' * 1001}</g:id>" + URL.format("1.jpg"), [("x" * 1001, "failed:bad_id")],
    ),
    "two_ids": (
        "<g:id>1</g:id><g:id>2</g:id>" + URL.format("http://a.test/1.jpg"),
        [('["1", "2"]', "failed:bad_id")],
    ),
    "one_id_twice": ("<g:id>1</g:id><g:id>1</g:id>", [("1", "failed:no_url")]),
    "an_id_and_an_empty_one": ("<g:id/><g:id>1</g:id>", [("1", "failed:no_url")]),
    "a_long_text": (
        f"<g:id>1</g:id><title>{'x' * (MAX_FIELD + 1)}</title>", [("1", "failed:field_too_long")],
    ),
    "a_long_text_of_blanks": (
        f"<g:id>1</g:id><title>a{' ' * MAX_FIELD}b</title>", [("1", "failed:field_too_long")],
    ),
    "the_longest_text": (
        f"<g:id>1</g:id><title>{'x' * MAX_FIELD}</title>", [("1", "failed:no_url")],
    ),
    "many_values": (
        "<g:id>1</g:id>" + f"<g:note>{'x' * 99}</g:note>" * 2000,
        [("1", "failed:field_too_long")],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("item", "expected"), ITEMS.values(), ids=ITEMS)
def test_a_broken_item_costs_no_other(tmp_path, item, expected):
    catalogue = read(tmp_path, f"<item>{item}</item><item>{GOOD}</item>")
    assert outcomes(catalogue) == [*expected, ("P9", "")]
    assert len(catalogue.products) == 2


def test_two_items_with_one_id_are_one_product(tmp_path, caplog):
    items = "".join(
        f"<item><g:id>1</g:id>{URL.format(f'http://a.test/{n}.jpg')}</item>" for n in (1, 2, 1)
    )
    catalogue = read(tmp_path, items)
    assert outcomes(catalogue) == [("1", ""), ("1", ""), ("1", "skipped:duplicate_row")]
    assert "1 product id on several rows" in caplog.text


ADDRESSES: dict[str, tuple[str, str]] = {
    "escaped": ("http://a.test/?a=1&amp;b=2", "http://a.test/?a=1&b=2"),
    "by_number": ("http://a.test/?a=1&#38;b=2", "http://a.test/?a=1&b=2"),
    "escaped_twice": ("http://a.test/?a=1&amp;amp;b=2", "http://a.test/?a=1&b=2"),
    "cdata": ("<![CDATA[http://a.test/?a=1&b=2]]>", "http://a.test/?a=1&b=2"),
    "escaped_in_cdata": ("<![CDATA[http://a.test/?a=1&amp;b=2]]>", "http://a.test/?a=1&b=2"),
    "by_number_in_cdata": ("<![CDATA[http://a.test/?a=1&#038;b=2]]>", "http://a.test/?a=1&b=2"),
    "signs": ("http://a.test/w_1,h_2/1.jpg?v=1;x", "http://a.test/w_1,h_2/1.jpg?v=1;x"),
}


@pytest.mark.parametrize(("written", "url"), ADDRESSES.values(), ids=ADDRESSES)
@pytest.mark.parametrize("n", [1, 2])
def test_addresses_are_unescaped(tmp_path, written, url, n):
    more = URL.format("http://a.test/2.jpg") * (n - 1)
    request = read(tmp_path, f"<item><g:id>1</g:id>{URL.format(written)}{more}</item>").requests
    assert [request.loc[0, "url"], *request.loc[0, "alternates"]] == [
        url, *["http://a.test/2.jpg"] * (n - 1),
    ]  # fmt: skip


def test_relative_addresses(tmp_path):
    item = f"<item><g:id>1</g:id>{URL.format('i/1.jpg')}</item>"
    assert read(tmp_path, item).requests["url"].tolist() == [str(tmp_path.resolve() / "i/1.jpg")]
    web = read(tmp_path, item, base_url="http://a.test/m").requests
    assert web["url"].tolist() == ["http://a.test/m/i/1.jpg"]


def test_categories_and_rows(tmp_path):
    items = "".join(
        f"<item><g:id>{n}</g:id><g:product_type>A &gt; {n}</g:product_type>"
        f"{URL.format(f'http://a.test/{n}.jpg')}</item>"
        for n in range(4)
    )
    kept = read(tmp_path, items, categories=["A>2"], rows=[1, 3])
    assert outcomes(kept) == [("1", "skipped:category"), ("2", "")]


LAUGHS = "".join(
    f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' if n else '<!ENTITY l0 "lol">' for n in range(10)
)
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "billion_laughs": (
        f"<!DOCTYPE lolz [{LAUGHS}]>{TOP}<item><title>&l9;</title></item>{END}", "document type",
    ),
    "an_external_entity": (
        f'<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>{TOP}&x;{END}', "document type",
    ),
    "a_dtd": (f'<!DOCTYPE rss SYSTEM "http://a.test/x.dtd">{TOP}{END}', "document type"),
    "a_web_page": ("<!DOCTYPE html><html><p>404</html>", "is a web page"),
    "an_unknown_entity": (f"{TOP}<item>&nbsp;</item>{END}", "line 1, column"),
    "another_root": ("<products><product/></products>", "<products>"),
    "no_item": (f"{TOP}{END}", "has 0 products"),
    "blank_items_alone": (f"{TOP}<item/>{END}", "has 0 products"),
    "a_nul": (f"{TOP}<item><title>a\0b</title></item>{END}", "control characters"),
    "a_bare_ampersand": (f"{TOP}\n<item><title>a & b</title></item>{END}", "line 2, column"),
    "an_unknown_prefix": ("<rss><channel><item><g:id>1</g:id></item></channel></rss>", "xmlns:g="),
    "tags_in_disorder": (
        f"{TOP}<item><g:id>1</g:title></item>{END}", "mismatched tag, </g:id> is expected",
    ),
    "cut_in_a_text": (
        f"{TOP}<item>{GOOD}</item>\n<item><g:id>1</g:id><title>Lon",
        "line 2: the feed ends in item 2 where </title> is expected",
    ),
    "cut_in_a_tag": (f"{TOP}<item>{GOOD}</item>\n<item><g:i", "in item 2 where </item> is exp"),
    "cut_between_items": (f"{TOP}<item>{GOOD}</item>\n", "ends where </channel> is expected"),
    "cut_in_cdata": (f"{TOP}<item><title><![CDATA[a", "where </title> is expected"),
    "text_after_the_end": (f"{TOP}<item>{GOOD}</item>{END}<x/>", "junk after document element"),
    "a_million_deep": (f"{TOP}<item>{'<a>' * 1_000_000}", "nests more than 32"),
    "a_million_deep_outside": (f"{TOP}{'<a>' * 1_000_000}", "nests more than 32"),
    "too_many_names": (
        f"{TOP}{''.join(f'<n{n}/>' for n in range(10_001))}{END}", "more than 10,000 names",
    ),
    "a_long_comment": (f"{TOP}<!--{'x' * (2**22 + 2**19)}-->{END}", "tag or comment of more than"),
    "an_encoding_that_is_wrong": (
        f'<?xml version="1.0" encoding="utf-8"?>\n{TOP}<item><title>é'.encode("latin-1"),
        "is not utf-8 (line 2): set source.encoding=",
    ),
    "no_encoding_and_no_utf_8": (f"{TOP}<item><title>é".encode("cp1252"), "is not utf-8"),
    "an_unknown_encoding": (
        f'<?xml version="1.0" encoding="klingon"?>{TOP}', "'klingon', which is unknown",
    ),
    "bytes_as_an_encoding": (f'<?xml version="1.0" encoding="hex"?>{TOP}', "'hex', which is unkn"),
    "utf_16_that_is_none": (
        f'<?xml version="1.0" encoding="utf-16"?>{TOP}', "'utf-16' and is not written in it",
    ),
    "no_column_of_images": (f"{TOP}<item><g:id>1</g:id></item>{END}", "source.url_column="),
    "no_column_of_ids": (
        f"{TOP}<item>{URL.format('a.jpg')}</item>{END}", "no column 'id': set source.id_column=",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_feeds_that_are_refused(tmp_path, data, message):
    assert message in refusal(tmp_path, data)


def test_a_text_of_100_megabytes_is_bounded(tmp_path):
    path = tmp_path / "feed.xml"
    with path.open("w") as file:
        file.write(f"{TOP}<item><g:id>1</g:id><title>")
        for _ in range(100):
            file.write("x" * 10**6)
        file.write(f"</title></item><item>{GOOD}</item>{END}")
    tracemalloc.start()
    catalogue = MerchantSource(str(path)).read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcomes(catalogue) == [("1", "failed:field_too_long"), ("P9", "")]
    assert peak < 20_000_000


def test_an_item_that_is_too_long_as_a_whole_fails_alone(tmp_path):
    many = "".join(f"<g:n{n}>{'x' * 100_000}</g:n{n}>" for n in range(200))
    catalogue = read(tmp_path, f"<item><g:id>1</g:id>{many}</item><item>{GOOD}</item>")
    assert outcomes(catalogue) == [("1", "failed:field_too_long"), ("P9", "")]


def test_a_feed_that_was_checked_is_not_parsed_again(tmp_path):
    path = tmp_path / "feed.xml"
    path.write_text(f"{TOP}<item><g:color>Red</g:color>{GOOD}</item>{END}")
    before = path.stat()
    assert "color" in MerchantSource(str(path)).check()
    with path.open("r+") as file:  # as large, and of the same time: nothing tells
        file.write(f"{TOP}<item><g:color>Tan</g:color>")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    read_after_check, read_again = (MerchantSource(str(path)).read() for _ in range(2))
    assert read_after_check.products["color"].tolist() == ["Red"]
    assert read_again.products["color"].tolist() == ["Tan"]


def test_a_feed_that_changes_after_the_check_is_parsed_again(tmp_path):
    path = tmp_path / "feed.xml"
    path.write_text(f"{TOP}<item><g:color>Red</g:color>{GOOD}</item>{END}")
    MerchantSource(str(path)).check()
    path.write_text(f"{TOP}<item><g:color>Green</g:color>{GOOD}</item>{END}")
    assert MerchantSource(str(path)).read().products["color"].tolist() == ["Green"]


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "iso-8859-1", "windows-1252", "gbk"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings(tmp_path, encoding):
    title = "Größe" if encoding != "gbk" else "连衣裙"
    declared = encoding.removesuffix("-sig").removesuffix("-le")
    text = f'<?xml version="1.0" encoding="{declared}"?>{TOP}<item><g:title>{title}</g:title>{GOOD}'
    path = tmp_path / "feed.xml"
    path.write_bytes(f"{text}</item>{END}".encode(encoding))
    assert MerchantSource(str(path)).read().products["title"].tolist() == [title]


def test_an_encoding_that_is_set_wins(tmp_path):
    path = tmp_path / "feed.xml"
    text = f'<?xml version="1.0" encoding="utf-16"?>{TOP}<item>{GOOD}<g:size>é</g:size></item>{END}'
    path.write_bytes(text.encode("cp1252"))
    found = MerchantSource(str(path), encoding="cp1252").read()
    assert found.products["size"].tolist() == ["é"]
    with pytest.raises(ConfigError, match=r"source\.encoding='klingon' is unknown"):
        MerchantSource(str(path), encoding="klingon").check()


def test_a_setting_of_tables_is_refused_for_xml(tmp_path):
    with pytest.raises(ConfigError, match=r"source.dialect=tab is for tables, and .* is XML"):
        read(tmp_path, f"<item>{GOOD}</item>", dialect="tab")


TABLES: dict[str, list[str]] = {
    "underscores": ["id", "title", "image_link", "additional_image_link"],
    "blanks": ["id", "title", "image link", "additional image link"],
    "prefixes": ["g:id", "g:title", "g:image_link", "g:additional_image_link"],
    "without_more_images": ["id", "title", "image_link", "price"],
}


@pytest.mark.parametrize("names", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables(tmp_path, names, end):
    rows = [names, ["1", 'Hat 5" x 3', "http://a.test/1.jpg", ""], ["", "Cap", "2.jpg", ""]]
    path = tmp_path / "feed.txt"
    path.write_bytes(end.join("\t".join(row) for row in [*rows, []]).encode())
    source = MerchantSource(str(path))
    catalogue = source.read()
    assert source.check() == list(catalogue.products) == names
    assert outcomes(catalogue) == [("1", ""), ("", "failed:no_id")]
    assert catalogue.products[names[1]].tolist() == ['Hat 5" x 3', "Cap"]
    assert [catalogue.id_column, catalogue.title_column] == names[:2]


TEXT = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
    ),
    max_size=20,
).map(lambda text: text.strip(" \t\r\n"))
ADDRESS = st.text(st.sampled_from("abc019-._~%&=?/+é"), max_size=20).map("https://a.test/{}".format)
ROWS = st.lists(
    st.tuples(TEXT, TEXT, st.lists(ADDRESS, min_size=1, max_size=3)), min_size=1, max_size=5
)


def by_hand(rows: Any) -> str:
    """A feed of RSS, written with the standard library's ``escape``."""
    items = [
        f"<item>\n<g:id>{escape(key)}</g:id><g:title>{escape(title)}</g:title>"
        + "".join(f"<g:image_link>{escape(url)}</g:image_link>" for url in urls)
        for key, title, urls in rows
    ]
    return f"{TOP}{'</item>'.join(items)}</item>{END}"


def by_tree(rows: Any) -> str:
    """A feed of Atom, written by ElementTree, whose prefixes are its own."""
    root = ElementTree.Element(f"{{{ATOM}}}feed")
    for key, title, urls in rows:
        entry = ElementTree.SubElement(root, f"{{{ATOM}}}entry")
        texts = [("id", key), ("title", title), *(("image_link", url) for url in urls)]
        for name, text in texts:
            ElementTree.SubElement(entry, f"{{{GOOGLE}}}{name}").text = text
    return ElementTree.tostring(root, encoding="unicode")


@pytest.mark.parametrize("write", [by_hand, by_tree])
@settings(max_examples=25, deadline=None)
@given(rows=ROWS)
def test_what_an_xml_writer_writes_is_read_back(tmp_path_factory, write, rows):
    path = tmp_path_factory.mktemp("feed") / "feed.xml"
    path.write_text(write(rows), encoding="utf-8", newline="")
    catalogue = MerchantSource(str(path), choice="all").read()
    assert catalogue.products["id"].tolist() == [key for key, _, _ in rows]
    assert catalogue.products["title"].tolist() == [title for _, title, _ in rows]
    requests: pd.DataFrame = catalogue.requests
    for record, (key, _, urls) in enumerate(rows):
        own = requests[requests["record"] == record]
        assert set(own["product_id"]) == {key}
        if key.strip():
            assert own["url"].tolist() == urls
        else:
            assert own["reason"].tolist() == ["no_id"]
