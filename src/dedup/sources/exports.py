"""Exports of shops' tools: the columns that tell each of them, and how its table is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dedup.sources import merchant
from dedup.sources.headers import Header


class Columns(NamedTuple):
    r"""Columns of an export that ``source=csv`` reads.

    Attributes:
        id: the product's id.
        urls: pattern of the columns with addresses, such as ``IMAGE\d+``.
        title: the product's title.
        category: the category path, if there is one.
        others: further settings of the source.
    """

    id: str
    urls: str
    title: str
    category: str = ""
    others: Mapping[str, Any] = {}

    def settings(self, header: Header) -> dict[str, Any]:
        """Return the settings of the source for an export with this header."""
        bare = [name.strip() for name in header.names]
        category = {"category_column": self.category} if self.category else {}
        return {
            "id_column": self.id,
            "url_column": [name for name in bare if re.fullmatch(self.urls, name)],
            "title_column": self.title,
            **category,
            **self.others,
        }


class Tool(NamedTuple):
    """Export of a shop's tool, which its header tells.

    Attributes:
        name: the tool.
        part: the source that reads it.
        headers: sets of columns; the header has one of them.
        columns: how ``source=csv`` reads it; ``None`` for the columns that the source has itself.
    """

    name: str
    part: str
    headers: tuple[tuple[str, ...], ...]
    columns: Columns | None = None

    def settings(self, header: Header) -> dict[str, Any]:
        """Return the settings of the source for an export with this header."""
        return self.columns.settings(header) if self.columns else {}

    def why(self, header: Header) -> str:
        """Name the columns that tell the export, and those that are read if the source has not."""
        told = next(names for names in self.headers if all(map(header.places, names)))
        why = f"its header has {' and '.join(map(repr, told))}"
        if not self.columns:
            return why
        found = self.columns.settings(header)
        urls = " and ".join(map(repr, found["url_column"]))
        others = "".join(f", with source.{name}={value}" for name, value in [*found.items()][3:])
        return (
            f"{why}, as an export of {self.name} has (ids in {self.columns.id!r}, titles in "
            f"{self.columns.title!r}, addresses in {urls}{others})"
        )


PLAIN = "csv"
"""Name of the table with the columns of ``source=csv``, which that source reads whatever else fits.
"""
TOOLS: Sequence[Tool] = (
    Tool(PLAIN, "csv", (("productId", "imageUrlStr"),)),
    Tool(
        "Shopify",
        "shopify",
        (
            ("Handle", "Title", "Image Src"),
            ("Handle", "Title", "Variant Image"),
            ("URL handle", "Title", "Product image URL"),
            ("URL handle", "Title", "Variant image URL"),
        ),
    ),
    Tool("WooCommerce", "woocommerce", (("ID", "SKU", "Type", "Parent", "Images"),)),
    Tool("Magento", "magento", (("sku", "base_image", "additional_images"),)),
    Tool(
        "Google Merchant",
        "merchant",
        tuple((*header, header[0].replace("id", "title")) for header in merchant.HEADERS),
    ),
    Tool(
        "BigCommerce",
        "csv",
        tuple(
            ("Item Type", "Product ID", "Product Name", f"Product Image {kind} - 1")
            for kind in ("File", "URL")
        ),
        Columns("Product ID", r"Product Image (File|URL) - \d+", "Product Name", "Category"),
    ),
    Tool(
        "PrestaShop",
        "csv",
        (("Product ID", "Image", "Name", "Reference", "Category"),),
        Columns("Product ID", "Image", "Name", "Category"),
    ),
    Tool(
        "PrestaShop's form of import",
        "csv",
        (("Product ID", "Name *", "Image URLs (x,y,z...)"),),
        Columns("Product ID", r"Image URLs \(x,y,z\.\.\.\)", "Name *"),
    ),
    Tool(
        "Shopware",
        "csv",
        (("id", "product_number", "name", "cover_media_url"),),
        Columns("product_number", "cover_media_url", "name"),
    ),
    Tool(
        "Amazon",
        "csv",
        (("item_sku", "item_name", "main_image_url"),),
        Columns("item_sku", r"main_image_url|other_image_url\d*|swatch_image_url", "item_name"),
    ),
    Tool(
        "eBay",
        "csv",
        (("CustomLabel", "*Title", "PicURL"),),
        Columns("CustomLabel", "PicURL", "*Title"),
    ),
    Tool(
        "eBay's Seller Hub",
        "csv",
        (("Custom label (SKU)", "Title", "Item photo URL"),),
        Columns("Custom label (SKU)", "Item photo URL", "Title"),
    ),
    Tool(
        "Etsy",
        "csv",
        (("TITLE", "DESCRIPTION", "CURRENCY_CODE", "IMAGE1", "SKU"),),
        Columns("SKU", r"IMAGE\d+", "TITLE"),
    ),
    Tool(
        "Squarespace",
        "csv",
        (("Product ID [Non Editable]", "Variant ID [Non Editable]", "Hosted Image URLs"),),
        Columns(
            "Product ID [Non Editable]", "Hosted Image URLs", "Title", "Categories",
            {"continue_rows": True},
        ),
    ),
    Tool(
        "Wix",
        "csv",
        (("handleId", "fieldType", "name", "productImageUrl"),),
        Columns(
            "handleId", "productImageUrl", "name", "collection",
            {"base_url": "https://static.wixstatic.com/media/"},
        ),
    ),
)  # fmt: skip
"""Exports that are known, one a line."""
