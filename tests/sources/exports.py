"""A corpus of small exports, made after the tools' documentation, and what each row of them is."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Row = tuple[str, str, list[str], str]
"""Product id, title, addresses, and why there are none."""
Cells = Sequence[Sequence[str]]

WEB = "https://cdn.test/"
A, B, C, D = (f"{WEB}{name}.jpg" for name in "abcd")
HAT, BAG = 'Café "Mocha" hat, 7" wide', "Größe 40; blau | rot"
LONG = 'First line, with "quotes"; and\nsecond line\\end'


@dataclass(frozen=True)
class Export:
    """An export.

    Attributes:
        write: writes it to a path.
        rows: what each of its rows is.
        part: the source that ``source=auto`` chooses.
        said: part of the line on how its text is read; "" where no such line is.
        chosen: settings that the user gives.
    """

    write: Callable[[Path], object]
    rows: list[Row]
    part: str
    said: str = ""
    chosen: Mapping[str, Any] = field(default_factory=dict)


def text_of(cells: Cells, above: Sequence[str] = (), **way: Any) -> str:
    """Write a table as text, below some lines."""
    file = io.StringIO(newline="")
    way = {"lineterminator": "\r\n", **way}
    file.writelines(f"{line}{way['lineterminator']}" for line in above)
    csv.writer(file, **way).writerows(cells)
    return file.getvalue()


def zipped(data: bytes) -> bytes:
    """Pack a table as a ZIP archive."""
    with zipfile.ZipFile(file := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("export.csv", data)
    return file.getvalue()


def as_text(text: str, encoding: str = "utf-8", pack: str = "") -> Callable[[Path], object]:
    """Write a text, perhaps packed."""
    data = text.encode(encoding)
    if pack == "gz":
        data = gzip.compress(data)
    elif pack == "zip":
        data = zipped(data)
    return lambda path: path.write_bytes(data)


def folder_of(table: pa.Table) -> Callable[[Path], object]:
    """Write a table as Spark does: a folder of Parquet files, and a mark that it is whole."""

    def write(path: Path) -> None:
        path.mkdir()
        (path / "_SUCCESS").touch()
        for at in range(len(table)):
            name = f"part-{at:05}-6f1c-c000.snappy.parquet"
            pq.write_table(table.slice(at, 1), path / name, compression="snappy")

    return write


EXPORTS: dict[str, Export] = {}
COMMA = {"comma": ({}, "utf-8", ""), "comma_mark": ({}, "utf-8-sig", "")}
SEMICOLON: dict[str, tuple[dict[str, Any], str, str]] = {
    "semicolon": ({"delimiter": ";"}, "utf-8", "semicolons between"),
    "semicolon_1252": ({"delimiter": ";"}, "cp1252", "as cp1252, with semicolons between"),
}
TABS: dict[str, tuple[dict[str, Any], str, str]] = {
    "tabs": ({"delimiter": "\t"}, "utf-8", "tabs between"),
    "tabs_utf16": ({"delimiter": "\t"}, "utf-16", "as utf-16, with tabs between"),
}
QUOTED: dict[str, tuple[dict[str, Any], str, str]] = {
    "all_quoted": ({"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}, "utf-8", ""),
}


def add(
    tool: str, part: str, cells: Cells, rows: list[Row],
    ways: Mapping[str, tuple[dict[str, Any], str, str]], *,
    above: Sequence[str] = (), chosen: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Add the export of a tool in several dialects and encodings."""
    for name, (way, encoding, said) in ways.items():
        own = "tsv" if part == "csv" and way.get("delimiter") == "\t" else part
        said = f"{said}{' its fields, its header on line ' if above else ''}"
        said += str(len(above) + 1) if above else ""
        text = text_of(cells, above, **way)
        EXPORTS[f"{tool}_{name}"] = Export(as_text(text, encoding), rows, own, said, chosen or {})


SHOPIFY = [
    ["Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published",
     "Option1 Name", "Option1 Value", "Variant SKU", "Image Src", "Image Position",
     "Image Alt Text",
     "Variant Image", "Status"],
    ["hat", HAT, LONG, "Acme", "", "Hat", "a, b", "true", "Size", "S", "H-S", A, "1", "", B,
     "active"],
    ["hat", "", "", "", "", "", "", "", "", "M", "H-M", C, "2", "", "", ""],
    ["hat", "", "", "", "", "", "", "", "", "L", "H-L", "", "", "", "", ""],
    ["bag", BAG, "", "Acme", "", "", "", "true", "", "", "", f"{D}?v=1;w=2", "1", "", "", "draft"],
]  # fmt: skip
ROWS: list[Row] = [
    ("hat", HAT, [A, B], ""), ("hat", "", [C], ""), ("hat", "", [], "no_url"),
    ("bag", BAG, [f"{D}?v=1;w=2"], ""),
]  # fmt: skip
add("shopify_former", "shopify", SHOPIFY, ROWS, COMMA | SEMICOLON | TABS)
PRESENT = [
    ["Title", "URL handle", "Description", "Vendor", "Product category", "Type", "Tags",
     "Published on online store", "Status", "SKU", "Barcode", "Option1 name", "Option1 value",
     "Price", "Product image URL", "Image position", "Image alt text", "Variant image URL"],
    [HAT, "hat", LONG, "Acme", "", "", "", "TRUE", "Active", "H-S", "", "Size", "S", "9.90", A, "1",
     "", B],
    ["", "hat", "", "", "", "", "", "", "", "H-M", "", "", "M", "9.90", C, "2", "", ""],
    ["", "hat", "", "", "", "", "", "", "", "H-L", "", "", "L", "9.90", "", "", "", ""],
    [BAG, "bag", "", "", "", "", "", "TRUE", "Draft", "", "", "", "", "", f"{D}?v=1;w=2", "", "",
     ""],
]  # fmt: skip
add("shopify_present", "shopify", PRESENT, ROWS, COMMA | SEMICOLON)

WOO = [
    ["ID", "Type", "SKU", "Name", "Published", "Is featured?", "Visibility in catalog",
     "Description", "Regular price", "Categories", "Images", "Parent", "Position",
     "Attribute 1 name", "Attribute 1 value(s)", "Meta: _x"],
    ["10", "variable", "HAT", HAT, "1", "0", "visible", LONG, "", "Hats > Wool, New",
     f"{A}, {B}", "", "0", "Size", "S, M", ""],
    ["11", "variation", "HAT-S", "Hat - S", "1", "0", "visible", "", "9,90", "", C, "HAT", "1",
     "Size", "S", ""],
    ["12", "variation", "HAT-M", "Hat - M", "1", "0", "visible", "", "9.90", "", "", "id:10", "2",
     "Size", "M", ""],
]  # fmt: skip
add("woocommerce", "woocommerce", WOO, [
    ("10", HAT, [A, B], ""), ("11", "Hat - S", [C], ""), ("12", "Hat - M", [], "no_url"),
], COMMA | SEMICOLON | QUOTED)  # fmt: skip

MAGENTO = [
    ["sku", "store_view_code", "attribute_set_code", "product_type", "categories",
     "product_websites", "name", "description", "price", "base_image", "base_image_label",
     "small_image", "thumbnail_image", "additional_images", "additional_image_labels",
     "configurable_variations"],
    ["24-MB01", "", "Bag", "simple", "Default Category/Gear,Default Category/Gear/Bags", "base",
     HAT,
     LONG, "34.0000", "/m/b/mb01.jpg", "Image", "", "", "/m/b/mb01.jpg,/m/b/mb01-2.jpg", "Image,",
     "sku=WS-XS,size=XS|sku=WS-S,size=S"],
    ["24-MB01", "de", "Bag", "simple", "", "", BAG, "", "", "", "", "", "", "", "", ""],
    ["24-MB02", "", "Bag", "simple", "", "base", "Joust", "", "", "no_selection", "", "", "", "",
     "",
     ""],
]  # fmt: skip
MEDIA = "https://shop.test/media/catalog/product/"
add("magento", "magento", MAGENTO, [
    ("24-MB01", HAT, [f"{MEDIA}m/b/mb01.jpg", f"{MEDIA}m/b/mb01-2.jpg"], ""),
    ("24-MB01", BAG, [], "no_url"), ("24-MB02", "Joust", [], "no_url"),
], COMMA | SEMICOLON, chosen={"base_url": MEDIA})  # fmt: skip

MERCHANT = [
    ["id", "title", "description", "link", "image_link", "additional_image_link", "price",
     "availability", "gtin", "item_group_id"],
    ["00123", HAT, "A, b; c", "https://shop.test/p", f"{A}?w=1,h=2", f"{B},{C}", "9.90 EUR",
     "in_stock", "4006381333931", "G"],
    ["124", BAG, "", "", "", "", "", "", "", ""],
    ["", "Cap", "", "", D, "", "", "", "", ""],
]  # fmt: skip
FEED: list[Row] = [
    ("00123", HAT, [f"{A}?w=1,h=2", B, C], ""), ("124", BAG, [], "no_url"), ("", "Cap", [],
    "no_id"),
]  # fmt: skip
add("merchant", "merchant", MERCHANT, FEED, TABS | COMMA)
SPACED = [[name.replace("_", " ") for name in MERCHANT[0]], *MERCHANT[1:]]
add("merchant_spaced", "merchant", SPACED, FEED, TABS)
for encoding, said in {"utf-8": "tabs between", "cp1252": "as cp1252, with tabs between"}.items():
    bare = "".join("\t".join(row) + "\n" for row in MERCHANT)
    EXPORTS[f"merchant_without_quotes_{encoding}"] = Export(
        as_text(bare, encoding), FEED, "merchant", said
    )

ITEMS = """\
<item><g:id>00123</g:id><title><![CDATA[Café "Mocha" hat, 7" wide]]></title>
<g:description>&lt;b&gt;&amp;amp;</g:description><g:image_link>https://cdn.test/a.jpg?a=1&amp;b=2
</g:image_link><g:additional_image_link>https://cdn.test/b.jpg</g:additional_image_link>
<g:additional_image_link>https://cdn.test/c.jpg</g:additional_image_link>
<g:shipping><g:country>DE</g:country><g:price>1 EUR</g:price></g:shipping></item>
<item><g:id>124</g:id><title>Größe 40; blau | rot</title></item>
<item><title>Cap</title><g:image_link>https://cdn.test/d.jpg</g:image_link></item>"""
NAMES = 'xmlns:g="http://base.google.com/ns/1.0"'
RSS = f'<rss {NAMES} version="2.0"><channel><title>Shop</title>\n{ITEMS}</channel></rss>'
ATOM = f'<feed xmlns="http://www.w3.org/2005/Atom" {NAMES}>\n{ITEMS}</feed>'.replace(
    "item>", "entry>"
)
XML: list[Row] = [
    ("00123", HAT, [f"{A}?a=1&b=2", B, C], ""), ("124", BAG, [], "no_url"), ("", "Cap", [],
    "no_id"),
]  # fmt: skip
for kind, feed in {"rss": RSS, "atom": ATOM}.items():
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"):
        declared = encoding.removesuffix("-sig").upper()
        EXPORTS[f"merchant_{kind}_{encoding}"] = Export(
            as_text(f'<?xml version="1.0" encoding="{declared}"?>\n{feed}', encoding),
            XML,
            "merchant",
        )
EXPORTS["merchant_rss_gz"] = Export(as_text(RSS, pack="gz"), XML, "merchant")

BIG = [
    ["Item Type", "Product ID", "Product Name", "Product Type", "Product Code/SKU", "Brand Name",
     "Product Description", "Price", "Category", "Product Image ID - 1", "Product Image File - 1",
     "Product Image URL - 1", "Product Image Is Thumbnail - 1", "Product Image ID - 2",
     "Product Image File - 2", "Product Image URL - 2"],
    ["Product", "77", HAT, "P", "HAT", "Acme", LONG, "9.90", "Hats;Hats/Wool", "1", "",  A, "Y",
     "2",
     "", B],
    ["  SKU", "4", "[S]Size=S", "", "HAT-S", "", "", "", "", "", "", "", "", "", "", ""],
    ["Product", "78", BAG, "P", "BAG", "", "", "", "", "", "", C, "", "", "", ""],
]  # fmt: skip
add("bigcommerce", "csv", BIG, [
    ("77", HAT, [A, B], ""), ("4", "[S]Size=S", [], "no_url"), ("78", BAG, [C], ""),
], COMMA | SEMICOLON)  # fmt: skip

PRESTA = [
    ["Product ID", "Image", "Name", "Reference", "Category", "Price (tax excl.)",
     "Price (tax incl.)", "Quantity", "Status", "Position"],
    ["1", A, HAT, "demo_1", "Men", "23,90", "28,68", "2400", "1", "0"],
    ["2", "", BAG, "demo_2", "Women", "23,90", "28,68", "2400", "0", "1"],
]  # fmt: skip
add("prestashop", "csv", PRESTA, [("1", HAT, [A], ""), ("2", BAG, [], "no_url")], SEMICOLON)
FORM = [
    ["Product ID", "Active (0/1)", "Name *", "Categories (x,y,z...)", "Price tax excluded",
     "Image URLs (x,y,z...)", "Image alt texts (x,y,z...)",
     "Delete existing images (0 = No, 1 = Yes)"],
    ["1", "1", HAT, "Home,Men", "9.9", f"{A},{B}", "x,y", "0"],
    ["2", "1", BAG, "Home", "9.9", "ftp://shop.test/a.jpg", "", "0"],
]  # fmt: skip
add("prestashop_form", "csv", FORM, [
    ("1", HAT, [A, B], ""), ("2", BAG, ["ftp://shop.test/a.jpg"], "scheme"),
], SEMICOLON)  # fmt: skip

SHOPWARE = [
    ["id", "parent_id", "product_number", "active", "stock", "name", "description", "price_net",
     "price_gross", "tax_rate", "cover_media_id", "cover_media_url", "cover_media_title",
     "manufacturer_name", "categories", "sales_channel"],
    ["0e4a5f", "", "SW10000", "1", "50", HAT, LONG, "8.31", "9.9", "19", "ab", A, "", "Acme",
     "251448b9|77b959cf", "{\"a\":1}"],
    ["0e4a60", "0e4a5f", "SW10000.1", "1", "5", BAG, "", "", "", "", "", "", "", "", "", ""],
]  # fmt: skip
add("shopware", "csv", SHOPWARE, [
    ("SW10000", HAT, [A], ""), ("SW10000.1", BAG, [], "no_url"),
], SEMICOLON)  # fmt: skip

AMAZON = [
    ["feed_product_type", "item_sku", "brand_name", "item_name", "standard_price", "main_image_url",
     "other_image_url1", "other_image_url2", "swatch_image_url", "parent_child"],
    ["hat", "00-HAT", "Acme", HAT, "9.9", A, B, "", C, "parent"],
    ["hat", "00-BAG", "Acme", BAG, "9.9", "", "", "", "", "child"],
]  # fmt: skip
LABELS = "Product Type\tSeller SKU\tBrand Name\tProduct Name\tStandard Price\tMain Image URL"
TEMPLATE = "TemplateType=fptcustom\tVersion=2021.0714\tThe top 3 rows are for Amazon.com use only."
SKUS: list[Row] = [("00-HAT", HAT, [A, B, C], ""), ("00-BAG", BAG, [], "no_url")]
AMERICAN = {"tabs_1252": ({"delimiter": "\t"}, "cp1252", "as cp1252, with tabs between")}
add("amazon_three_lines", "csv", AMAZON, SKUS, TABS | AMERICAN, above=[TEMPLATE, LABELS])
add("amazon_two_lines", "csv", AMAZON, SKUS, TABS | AMERICAN, above=[TEMPLATE])

EBAY = [
    ["*Action(SiteID=US|Country=US|Currency=USD|Version=1193|CC=UTF-8)", "CustomLabel", "*Category",
     "*Title", "*ConditionID", "PicURL", "*Description", "*Format", "*StartPrice"],
    ["Add", "E-1", "1059", HAT, "1000", f"{A}|{B}?s=1", LONG, "FixedPrice", "9.9"],
    ["Add", "E-2", "1059", BAG, "1000", "", "", "FixedPrice", "9.9"],
]  # fmt: skip
LISTED: list[Row] = [("E-1", HAT, [A, f"{B}?s=1"], ""), ("E-2", BAG, [], "no_url")]
add("ebay", "csv", EBAY, LISTED, COMMA | SEMICOLON)
HUB = [
    ["Action(SiteID=US|Country=US|Currency=USD|Version=1193|CC=UTF-8)", "Custom label (SKU)",
     "Category ID", "Title", "UPC", "Price", "Quantity", "Item photo URL", "Condition ID",
     "Description", "Format"],
    ["Draft", "E-1", "47140", HAT, "", "9.9", "1", f"{A}|{B}?s=1", "NEW", LONG, "FixedPrice"],
    ["Draft", "E-2", "47140", BAG, "", "9.9", "1", "", "NEW", "", "FixedPrice"],
]  # fmt: skip
NOTES = [
    "#INFO,Version=0.0.2,Template= eBay-draft-listings-template_US,,,,,,,,",
    '#INFO,"Action and Category ID are required fields.",,,,,,,,,',
]
for name, above in {"ebay_hub": [], "ebay_hub_with_notes": NOTES}.items():
    said = "with its header on line 3" if above else ""
    text = as_text(text_of(HUB, above))
    EXPORTS[name] = Export(text, LISTED, "csv", said)

ETSY = [
    ["TITLE", "DESCRIPTION", "PRICE", "CURRENCY_CODE", "QUANTITY", "TAGS", "MATERIALS",
     *(f"IMAGE{n}" for n in range(1, 11)), "VARIATION 1 TYPE", "VARIATION 1 NAME", "SKU"],
    [HAT, LONG, "9.90", "EUR", "3", "hat,wool", "wool", A, B, *[""] * 8, "Size", "S", "HAT-1"],
    [BAG, "", "9.90", "EUR", "3", "", "", *[""] * 10, "", "", "BAG-1"],
    ["Cap", "", "9.90", "EUR", "3", "", "", C, *[""] * 9, "", "", ""],
]  # fmt: skip
add("etsy", "csv", ETSY, [
    ("HAT-1", HAT, [A, B], ""), ("BAG-1", BAG, [], "no_url"), ("", "Cap", [], "no_id"),
], COMMA | QUOTED | SEMICOLON)  # fmt: skip

SQUARE = [
    ["Product ID [Non Editable]", "Variant ID [Non Editable]", "Product Type [Non Editable]",
     "Product Page", "Product URL", "Title", "Description", "SKU", "Option Name 1",
     "Option Value 1", "Price", "Stock", "Categories", "Tags", "Visible", "Hosted Image URLs"],
    ["5f1", "a1", "PHYSICAL", "store", "hat", HAT, LONG, "SQ1", "Size", "S", "9.90", "3", "/hats",
     "", "Yes", f"{A} {B}"],
    ["", "a2", "", "", "", "", "", "SQ2", "", "M", "9.90", "3", "", "", "", ""],
    ["5f2", "b1", "PHYSICAL", "store", "bag", BAG, "", "SQ3", "", "", "9.90", "3", "", "", "Yes",
     C],
]  # fmt: skip
add("squarespace", "csv", SQUARE, [
    ("5f1", HAT, [A, B], ""), ("5f1", "", [], "no_url"), ("5f2", BAG, [C], ""),
], COMMA | SEMICOLON)  # fmt: skip

WIX = [
    ["handleId", "fieldType", "name", "description", "productImageUrl", "collection", "sku",
     "ribbon", "price", "surcharge", "visible", "discountMode", "discountValue", "inventory",
     "productOptionName1", "productOptionDescription1"],
    ["product_1", "Product", HAT, LONG, f"11062b_0f~mv2.jpg;{A}", "Hats;New", "W1", "", "9.9", "",
     "TRUE", "PERCENT", "0", "InStock", "Size", "S;M"],
    ["product_1", "Variant", "", "", "", "", "W1-S", "", "", "0", "TRUE", "", "", "3", "Size", "S"],
    ["product_2", "Product", BAG, "", B, "", "", "", "9.9", "", "FALSE", "", "", "1", "", ""],
]  # fmt: skip
add("wix", "csv", WIX, [
    ("product_1", HAT, ["https://static.wixstatic.com/media/11062b_0f~mv2.jpg", A], ""),
    ("product_1", "", [], "no_url"), ("product_2", BAG, [B], ""),
], COMMA | SEMICOLON)  # fmt: skip

LIGHT = [
    ["Internal_ID", "Internal_Variant_ID", "Visible", "Brand", "NL_Title_Short", "NL_Title_Long",
     "NL_Description_Long", "Price", "Images"],
    ["101", "201", "Y", "Acme", HAT, "", LONG, "9,90", f"{A},{B}"],
    ["102", "202", "Y", "Acme", BAG, "", "", "9,90", ""],
]  # fmt: skip
add("lightspeed", "csv", LIGHT, [
    ("101", HAT, [A, B], ""), ("102", BAG, [], "no_url"),
], COMMA | SEMICOLON, chosen={
    "id_column": "Internal_ID", "url_column": "Images", "title_column": "NL_Title_Short",
})  # fmt: skip

AKENEO = [
    ["sku", "categories", "enabled", "family", "groups", "name-en_US",
     "description-en_US-ecommerce",
     "image", "side_view"],
    ["A-1", "master,hats", "1", "hats", "", HAT, LONG, "files/A-1/image/hat.jpg",
     "files/A-1/side_view/hat side.jpg"],
    ["A-2", "", "0", "", "", BAG, "", "", ""],
    ["A-3", "", "0", "", "", "Cap", "", "../A-3/image/cap.jpg", ""],
]  # fmt: skip
add("akeneo", "csv", AKENEO, [
    ("A-1", HAT, ["files/A-1/image/hat.jpg", "files/A-1/side_view/hat side.jpg"], ""),
    ("A-2", BAG, [], "no_url"), ("A-3", "Cap", ["../A-3/image/cap.jpg"], "outside_folder"),
], SEMICOLON, chosen={
    "id_column": "sku", "url_column": ["image", "side_view"], "title_column": "name-en_US",
})  # fmt: skip

PLAIN = [
    ["productId", "title", "imageUrlStr", "price"],
    ["007", HAT, f"{A};{B}", "9,90"],
    ["008", BAG, "", "9,90"],
    ["", "Cap", C, "9,90"],
]
OWN: list[Row] = [("007", HAT, [A, B], ""), ("008", BAG, [], "no_url"), ("", "Cap", [], "no_id")]
add("excel", "csv", PLAIN, OWN, COMMA | SEMICOLON | TABS | AMERICAN | {
    "comma_1252": ({}, "cp1252", "as cp1252"),
    "tabs_utf16_big": ({"delimiter": "\t"}, "utf-16-be", "as utf-16-be, with tabs between"),
})  # fmt: skip
add("excel_below_a_title", "csv", PLAIN, OWN, SEMICOLON, above=["Export vom 01.05.2024;;;", ";;;"])
EXPORTS["excel_sep"] = Export(
    as_text(text_of(PLAIN, ["sep=;"], delimiter=";"), "cp1252"), OWN, "csv",
    "as cp1252, with semicolons between its fields, its header on line 2",
)  # fmt: skip
EXPORTS["excel_empty_columns"] = Export(
    as_text(text_of([[*row, "", ""] for row in PLAIN])), OWN, "csv", "columns named column 5"
)
EXPORTS["excel_empty_cells"] = Export(
    as_text(text_of([PLAIN[0], *([*row, ""] for row in PLAIN[1:])])), OWN, "csv",
    "without the empty fields at the ends",
)  # fmt: skip

DUMP = [
    PLAIN[0], ["007", HAT, f"{{{A},{B}}}", "9.90"], ["008", BAG, "", ""], ["", "Cap", C, ""],
]  # fmt: skip
add("postgresql_copy", "csv", DUMP, OWN, {
    "csv": ({"lineterminator": "\n"}, "utf-8", ""),
    "force_quote": ({"lineterminator": "\n", "quoting": csv.QUOTE_ALL}, "utf-8", ""),
    "semicolon": ({"lineterminator": "\n", "delimiter": ";"}, "utf-8", "semicolons between"),
    "latin1": ({"lineterminator": "\n"}, "iso-8859-1", "as cp1252"),
})  # fmt: skip
EXPORTS["postgresql_text"] = Export(
    as_text(
        f"productId\ttitle\timageUrlStr\n007\t{HAT}\t{A};{B}\n008\t{BAG}\t\\N\n\\N\tCap\t{C}\n"
    ),
    OWN, "tsv", "tabs between", {"dialect": ["tab", "backslash"]},
)  # fmt: skip
ESCAPED = HAT.replace('"', '\\"')
OUTFILE = (
    f'"productId","title","imageUrlStr"\n"007","{ESCAPED}","{A};{B}"\n'
    f'"008","{BAG}",""\n"","Cap","{C}"\n'
)
EXPORTS["mysql_outfile"] = Export(as_text(OUTFILE), OWN, "csv", 'written as \\"')
EXPORTS["mysql_outfile_semicolon"] = Export(
    as_text(OUTFILE.replace('","', '";"'), "cp1252"), OWN, "csv", "as cp1252, with semicolons"
)
EXPORTS["mysql_batch"] = Export(
    as_text("".join("\t".join(row) + "\n" for row in PLAIN)), OWN, "tsv", "tabs between"
)
EXPORTS["spark_csv"] = Export(
    as_text(f'productId,title,imageUrlStr\n007,"{ESCAPED}",{A};{B}\n008,{BAG},""\n"",Cap,{C}\n'),
    OWN, "csv", 'written as \\"',
)  # fmt: skip
EXPORTS["snowflake_csv_gz"] = Export(as_text(text_of(PLAIN), pack="gz"), OWN, "csv")
EXPORTS["excel_zip"] = Export(
    as_text(text_of(PLAIN, delimiter=";"), "cp1252", "zip"),
    OWN,
    "csv",
    "as cp1252, with semicolons",
)

OBJECTS = [
    {"productId": "007", "title": HAT, "imageUrlStr": [A, B], "size": {"h": 1}},
    {"productId": "008", "title": BAG, "imageUrlStr": None},
    {"productId": None, "title": "Cap", "imageUrlStr": C},
]
LINES = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in OBJECTS)
for name, (text, pack) in {
    "bigquery_lines": (LINES, ""),
    "bigquery_lines_gz": (LINES, "gz"),
    "spark_lines": (LINES.replace(', "imageUrlStr": null', ""), ""),
    "snowflake_lines_gz": (LINES, "gz"),
    "pandas_lines": ("".join(json.dumps(one) + "\n" for one in OBJECTS), ""),
    "pandas_records": (json.dumps(OBJECTS), ""),
    "pandas_records_indented": (json.dumps(OBJECTS, indent=2, ensure_ascii=False), ""),
}.items():
    EXPORTS[name] = Export(as_text(text, pack=pack), OWN, "jsonl")

ARROW = pa.table({
    "productId": ["007", "008", None], "title": [HAT, BAG, "Cap"],
    "imageUrlStr": pa.array([[A, B], [], [C]], pa.list_(pa.string())),
})  # fmt: skip
NUMBERED = ARROW.set_column(0, "productId", pa.array([7, 8, None], pa.int64()))
BY_NUMBER = [(key.lstrip("0"), *others) for key, *others in OWN]
for compression in ("none", "snappy", "gzip", "zstd"):
    EXPORTS[f"bigquery_parquet_{compression}"] = Export(
        partial(pq.write_table, ARROW, compression=compression), OWN, "parquet"
    )
EXPORTS["snowflake_parquet"] = Export(partial(pq.write_table, NUMBERED), BY_NUMBER, "parquet")
EXPORTS["spark_folder"] = Export(folder_of(ARROW), OWN, "parquet")
FRAME = pd.DataFrame({
    "productId": ["007", "008", ""], "title": [HAT, BAG, "Cap"], "imageUrlStr": [[A, B], [], [C]],
})  # fmt: skip
EXPORTS["pandas_parquet"] = Export(FRAME.set_index("title").to_parquet, OWN, "parquet")
EXPORTS["pandas_csv"] = Export(FRAME.to_csv, OWN, "csv")
EXPORTS["pandas_csv_gz"] = Export(partial(FRAME.to_csv, compression="gzip", sep="|", index=False),
                                  OWN, "csv", "pipes between")  # fmt: skip
EXPORTS["pandas_csv_escaped"] = Export(
    partial(FRAME.to_csv, index=False, doublequote=False, escapechar="\\"), OWN, "csv",
    'written as \\"',
)  # fmt: skip
