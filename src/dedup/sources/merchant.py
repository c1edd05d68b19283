"""Read a Google Merchant feed: RSS 2.0 or Atom with names of Google's, or a table with tabs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dedup.errors import ConfigError, SourceError
from dedup.sources.addresses import split_addresses
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from dedup.sources.feeds import Feed, check_feed, read_feed
from dedup.sources.headers import Header
from dedup.sources.layouts import Layout
from dedup.sources.records import Record
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import AUTO, read_head
from dedup.sources.table_heads import TableHead, is_xml
from dedup.sources.xml_feed import Item

URLS = ("image_link", "additional_image_link")
"""Columns with addresses: of the main image, and of further ones, which a feed may lack."""
HEADERS = (
    ("id", "image_link"),
    ("id", "image link"),
    ("g:id", "g:image_link"),
)
"""Columns of a feed with tabs, in the ways that they are written."""


@dataclass(frozen=True)
class MerchantSource(CsvSource):
    """Source that reads a Google Merchant feed, in XML or with tabs.

    The first bytes tell which. In XML each item is a record, with a column for each element, see
    ``xml_feed.Item``; an element that is repeated becomes a list in JSON. In XML blanks round a
    value are no part of it, and an item that is too long is kept in part, and fails.

    Args:
        url_column: columns with addresses; of the default's, those that the feed has.
        dialect: how a table is written, see ``CsvSource``; XML has none.
        continue_rows: whether a row of a table without an id belongs to the product above it.
    """

    id_column: str = "id"
    url_column: str | Sequence[str] = URLS
    title_column: str | None = "title"
    category_column: str = "product_type"
    continue_rows: bool | str = False

    def read(self) -> Catalogue:
        """Read the feed, see ``CsvSource.read`` for the statuses of its records.

        Raises:
            SourceError: the feed cannot be read, is cut off or not well-formed, has a DTD, holds no
                product, or lacks the columns.
            ConfigError: a setting has a value that cannot work.
        """
        if not self._is_xml():
            return super(MerchantSource, self._of_table()).read()
        self._categories()
        feed = read_feed(table_path(self.path), self.encoding)
        self._check_products(feed.names)
        named = self._named(feed.names)
        header = Header.of(feed.names)
        path = table_path(self.path)
        return named._read(Layout(path, header, named._rows(feed), may_shift=False))

    def check(self) -> list[str]:
        """Check the settings, and that the feed is whole and has the columns.

        Returns:
            All columns of the feed. One in XML is parsed to its end for them, and kept packed for
            ``read``.

        Raises:
            SourceError: the feed cannot be read, or lacks columns; the message names each.
            ConfigError: a setting has a value that cannot work.
        """
        if not self._is_xml():
            return super(MerchantSource, self._of_table()).check()
        self._categories()
        names = check_feed(table_path(self.path), self.encoding)
        self._check_products(names)
        return self._named(names).check_header(names)

    def _is_xml(self) -> bool:
        found = is_xml(read_head(table_path(self.path)))
        if found and self.dialect != AUTO:
            raise ConfigError(
                f"source.dialect={self.dialect} is for tables, and {self.path} is XML: leave it out"
            )
        return found

    def _of_table(self) -> MerchantSource:
        head = TableHead.of(table_path(self.path), self.encoding, self.dialect)
        layout = head.layout_with([self.id_column, *self._url_columns], *HEADERS) or head.layout()
        return self._named(layout.header.names)

    def _check_products(self, names: Sequence[str]) -> None:
        if not names:
            raise SourceError(
                f"{self.path} has 0 products: a feed has each in an <item>, or in Atom in an "
                "<entry>: check source.path="
            )

    def _rows(self, feed: Feed) -> Iterator[Record]:
        """Yield the items as records; one with two ids has none that could be told."""
        urls = {*self._url_columns}
        for item in feed.items():
            ids = [*dict.fromkeys(filter(None, item.values.get(self.id_column, ())))]
            item.values |= {self.id_column: ids} if ids else {}
            problem = "bad_id" if len(ids) > 1 else ""
            problem = "field_too_long" if item.is_too_long else problem
            yield Record(_cells(item, feed.names, urls), problem, item.line)

    def _named(self, names: Sequence[str]) -> MerchantSource:
        """Return the source with the names of this feed's columns."""
        urls = [_find(name, names) for name in self._url_columns]
        present = [name for name in urls if name in names]
        is_default = tuple(self._url_columns) == URLS
        id_column, category = _find(self.id_column, names), _find(self.category_column, names)
        title = None if self.title_column is None else _find(self.title_column, names)
        return replace(
            self,
            id_column=id_column,
            url_column=present if present and is_default else urls,
            title_column=title,
            category_column=category,
        )


def _cells(item: Item, names: Sequence[str], urls: set[str]) -> list[str]:
    """Write an item as a row."""
    cells = [""] * len(names)
    for at, name in enumerate(names):
        values = item.values.get(name)
        if values is None:
            continue
        cells[at] = values[0] if len(values) == 1 else _joined(values, name in urls)
    return cells


def _joined(values: Sequence[str], are_addresses: bool) -> str:
    """Write the values of repeated elements as one cell: a list in JSON, if there are several."""
    several = [value for value in values if value]
    if are_addresses:
        several = [one for value in several for one in split_addresses(value)[0] or [value]]
    if len(several) > 1:
        return json.dumps(several, ensure_ascii=False)
    return several[0] if several else ""


def _find(wanted: str, names: Sequence[str]) -> str:
    """Find a column by its name; or by what Google takes for the same, if one alone is."""
    if wanted in names:
        return wanted
    same = [name for name in names if _bare(name) == _bare(wanted)]
    return same[0] if len(same) == 1 else wanted


def _bare(name: str) -> str:
    """Write a name as Google does: ``g:Image Link`` is ``image_link``."""
    return name.strip().lower().removeprefix("g:").replace(" ", "_")
