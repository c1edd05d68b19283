"""Read the product export of Shopify: the rows of one handle are one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dedup.errors import SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import AUTO
from dedup.sources.table_heads import TableHead

IDS = ("Handle", "URL handle")
"""Columns with the handle: of the export until 2024, and of the present one."""
URLS = ("Image Src", "Product image URL", "Variant Image", "Variant image URL")
"""Columns with addresses of images: a product's before a variant's."""
CATEGORIES = ("Product Category", "Product category")


@dataclass(frozen=True)
class ShopifySource(CsvSource):
    """Source that reads Shopify's export of products, with the header of either generation.

    Each row has one image of its product, and perhaps that of a variant, so all rows of a handle
    are one product. Rows of further variants have no image.

    Args:
        id_column: ``auto`` for ``Handle`` or ``URL handle``.
        url_column: ``auto`` for those of ``URLS`` that the header has.
        category_column: ``auto`` for ``Product Category`` or ``Product category``.
    """

    id_column: str = AUTO
    url_column: str | Sequence[str] = AUTO
    title_column: str | None = "Title"
    category_column: str = AUTO

    def read(self) -> Catalogue:
        """Read the export, see ``CsvSource.read``.

        Raises:
            SourceError: the file cannot be read, holds no product, or lacks the columns.
            ConfigError: a setting has a value that cannot work.
        """
        return super(ShopifySource, self._named()).read()

    def check(self) -> list[str]:
        """Check the settings and the header, see ``CsvSource.check``."""
        return super(ShopifySource, self._named()).check()

    def _named(self) -> ShopifySource:
        """Return the source with the names of this file's columns."""
        if AUTO not in (self.id_column, self.url_column, self.category_column):
            return self
        head = TableHead.of(table_path(self.path), self.encoding, self.dialect)
        alternatives = [[name] for name in (self.id_column, *IDS) if name != AUTO]
        names = (head.layout_with(*alternatives) or head.layout()).header.names
        found = self
        if self.id_column == AUTO:
            found = replace(found, id_column=self._only(IDS, names, "id_column")[0])
        if self.url_column == AUTO:
            present = [name for name in URLS if name in names]
            found = replace(found, url_column=present or self._only(URLS, names, "url_column"))
        if self.category_column == AUTO:
            category = next((name for name in CATEGORIES if name in names), CATEGORIES[-1])
            found = replace(found, category_column=category)
        return found

    def _only(self, known: Sequence[str], names: Sequence[str], setting: str) -> list[str]:
        """Return the one of the known columns that the header has.

        Raises:
            SourceError: it has none, or several.
        """
        present = [name for name in known if name in names]
        if len(present) == 1:
            return present
        shown = ", ".join(map(repr, names))[:1000]
        what = f"has the columns {' and '.join(map(repr, present))}, of which one is needed"
        if not present:
            what = f"has no column {' or '.join(map(repr, known))}"
        raise SourceError(
            f"{self.path} {what}: set source.{setting}= to one of its columns, {shown}"
        )
