"""Choose the source of a catalogue by its first bytes and its header."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from dedup.config.instances import build, default_settings
from dedup.errors import ConfigError, SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.exports import PLAIN, TOOLS, Tool
from dedup.sources.kinds import is_parquet, is_parquet_folder
from dedup.sources.layouts import Layout
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import AUTO, BLANK, is_json, read_head
from dedup.sources.table_heads import TableHead, is_xml

_LOG = logging.getLogger("dedup")


class Kind(NamedTuple):
    """Kind of file that its first bytes tell.

    Attributes:
        part: the source that reads it.
        fits: tells by the first bytes whether a file is of this kind.
        why: what these are, for messages.
    """

    part: str
    fits: Callable[[bytes], bool]
    why: str


class Choice(NamedTuple):
    """Source that was chosen, and why.

    Attributes:
        part: the source.
        why: what tells that it fits, for messages.
        settings: settings of it that the file asks for.
    """

    part: str
    why: str
    settings: Mapping[str, Any] = {}


KINDS = (
    Kind("merchant", is_xml, "it is XML"),
    Kind("parquet", is_parquet, "it is a Parquet file"),
    Kind("jsonl", is_json, "it is JSON"),
)
"""Kinds of files, one a line."""


@dataclass(frozen=True)
class AutoSource:
    """Source that reads what a file or a folder turns out to be.

    Settings are passed to the source that is chosen; those that are left as they are here are that
    source's own.

    Args:
        path: a table, a feed or a folder.
        pattern: pattern of a folder's files, see ``FolderSource``.
        choice: ``auto`` for the default of the source that is chosen; so for the columns.
        image_column: columns of images in Parquet files, see ``ParquetSource``.
        categories: see ``CsvSource``; so for the other arguments.
    """

    path: str
    pattern: str = "**/*"
    categories: Sequence[str] | None = None
    rows: Sequence[int | None] | None = None
    choice: str = AUTO
    id_column: str = AUTO
    url_column: str | Sequence[str] = AUTO
    image_column: str | Sequence[str] | None = AUTO
    title_column: str | None = AUTO
    category_column: str = AUTO
    encoding: str = AUTO
    dialect: str | Sequence[str] = AUTO
    continue_rows: bool | str = AUTO
    images_dir: str | None = None
    base_url: str | None = None

    def read(self) -> Catalogue:
        """Say which source is chosen, and read the catalogue with it.

        Raises:
            SourceError: no source fits, or the one that does cannot read the catalogue.
            ConfigError: a setting cannot work, or the source has none of this name.
        """
        choice = self.choose()
        _LOG.info(
            "source=%s reads %s: %s. Choose otherwise with source=NAME, such as source=csv",
            choice.part, self.path, choice.why,
        )  # fmt: skip
        catalogue: Catalogue = self._built(choice).read()
        return catalogue

    def check(self) -> list[str]:
        """Check the settings and the columns as the source does that is chosen."""
        columns: list[str] = self._built(self.choose()).check()
        return columns

    def digest(self) -> str:
        """Compute the digest of what is read, as the source does that is chosen.

        Raises:
            SourceError: the catalogue cannot be read, or no source fits.
        """
        digest: str = self._built(self.choose()).digest()
        return digest

    def choose(self) -> Choice:
        """Choose a source, without reading more than the start of a file.

        Raises:
            SourceError: the file cannot be read, or no source fits, or several.
        """
        path = table_path(self.path)
        if path.is_dir():
            if is_parquet_folder(path):
                return Choice("parquet", "it is a folder of Parquet files without images")
            return Choice("folder", "it is a folder")
        head = read_head(path)
        if not head.strip(BLANK):
            raise SourceError(f"{path} is empty: check source.path=, or export the table again")
        for kind in KINDS:
            if kind.fits(head):
                return Choice(kind.part, kind.why)
        table = TableHead.of(path, self.encoding, self.dialect)
        fits = [(tool, found) for tool in TOOLS if (found := table.layout_with(*tool.headers))]
        if fits and (len(fits) == 1 or fits[0][0].name == PLAIN):
            return _of_export(*fits[0])
        if fits:
            raise SourceError(
                f"{path} has the columns of several exports: choose one with "
                f"{' or '.join(_way(*fit) for fit in fits)}"
            )
        return self._by_columns(table)

    def _by_columns(self, table: TableHead) -> Choice:
        """Choose a plain table where it has the columns that the user names.

        Raises:
            SourceError: it has not, or the user names none.
        """
        settings = default_settings("source", "csv") | self._given
        urls = settings["url_column"]
        needed = [settings["id_column"], *([urls] if isinstance(urls, str) else urls)]
        is_named = {"id_column", "url_column"} & self._given.keys()
        layout = table.layout_with(needed) if is_named else None
        if layout is None:
            header = table.layout(needed).header
            shown = ", ".join(map(repr, header.names))[:1000] + header.hint
            lacks = f"no columns {' and '.join(map(repr, needed))}"
            raise SourceError(
                f"{self.path} is none of the exports that source=auto knows, and has {lacks}: set "
                "source.id_column= to the column with the product's id, and source.url_column= to "
                f"that with the addresses of images. Its columns are {shown or 'none'}"
            )
        return _of_table("csv", layout.dialect.delimiter, "it has the columns that are set")

    @property
    def _given(self) -> dict[str, Any]:
        """Settings that the user changed."""
        given = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {
            name: value
            for name, (value, usual) in given.items()
            if name != "path" and value != usual
        }

    def _built(self, choice: Choice) -> Any:
        settings = default_settings("source", choice.part)
        given: Mapping[str, Any] = self._given
        if absent := [name for name in given if name not in settings]:
            raise ConfigError(
                f"source=auto chose source={choice.part} for {self.path}, as {choice.why}, and it "
                f"has no {' and no '.join(f'source.{name}' for name in absent)}: leave that "
                "out, or choose another source with source=NAME"
            )
        own = {**choice.settings}
        if self.images_dir:  # paths start there then, and on no host
            own.pop("base_url", None)
        return build({**settings, **own, "path": self.path, **given})


def known_export(path: str | Path) -> str | None:
    """Name the source of a file that is an export of a known tool and no plain table.

    Returns:
        Such as ``shopify``, or ``auto`` where that alone knows the columns; ``None`` for a plain
        table, and for what cannot be read.
    """
    try:
        choice = AutoSource(str(path)).choose()
    except SourceError:  # the source of plain tables says what is wrong
        return None
    if choice.settings:
        return "auto"
    return None if choice.part in ("csv", "tsv", "folder") else choice.part


def is_feed(path: str | Path) -> bool:
    """Tell whether a file is XML, which no plain table is."""
    try:
        return is_xml(read_head(table_path(path)))
    except SourceError:
        return False


def _of_table(part: str, delimiter: str, why: str) -> Choice:
    return Choice("tsv" if part == "csv" and delimiter == "\t" else part, why)


def _of_export(tool: Tool, layout: Layout) -> Choice:
    chosen = _of_table(tool.part, layout.dialect.delimiter, tool.why(layout.header))
    return chosen._replace(settings=tool.settings(layout.header))


def _way(tool: Tool, layout: Layout) -> str:
    """Write the settings by which an export is read where others fit too."""
    found = tool.settings(layout.header)
    return f"source={tool.part}" + (f" source.id_column='{found['id_column']}'" if found else "")
