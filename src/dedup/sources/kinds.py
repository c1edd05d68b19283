"""Choose the source of a path: by what is in the file, or else by its name."""

from __future__ import annotations

from pathlib import Path

from dedup.errors import SourceError
from dedup.sources.image_formats import IMAGE_SUFFIXES
from dedup.sources.table_copies import table_path
from dedup.sources.table_files import is_json, read_head

PACKED = (".gz", ".zip")
"""Endings of archives with one table."""
JSON = (".jsonl", ".ndjson", ".json")
"""Endings of files of JSON objects."""
PARQUET = (".parquet", ".pq", ".parq")
"""Endings of Parquet files."""
ENDINGS = (".csv", ".tsv", ".txt", ".xml", *JSON, *PARQUET, *PACKED)
"""Endings of tables."""


def kind_of(path: str | Path) -> str:
    """Name the source that reads a path: ``csv``, ``folder``, ``jsonl`` or ``parquet``.

    A file that cannot be read, or is none, has the kind that its name says; its source then says
    what is wrong.

    Raises:
        SourceError: the path is one of object storage, and its table cannot be copied.
    """
    path = table_path(path)
    if path.is_dir():
        return "parquet" if is_parquet_folder(path) else "folder"
    try:
        head = read_head(path)
    except (SourceError, OSError, ValueError):
        head = b""
    if not head.strip():
        return _by_name(path)
    if is_parquet(head):
        return "parquet"
    return "jsonl" if is_json(head) else "csv"


def is_parquet(head: bytes) -> bool:
    """Tell by its first bytes whether a file is a Parquet file."""
    return head.startswith(b"PAR1")


def is_parquet_folder(path: Path) -> bool:
    """Tell whether a folder is a table: Parquet files as Spark writes them, and no image."""
    has_table = False
    for file in path.rglob("*"):
        ending = file.suffix.lower()
        if ending in IMAGE_SUFFIXES:
            return False
        has_table = has_table or ending in PARQUET
    return has_table


def _by_name(path: Path) -> str:
    bare = path.with_suffix("") if path.suffix.lower() in PACKED else path
    ending = bare.suffix.lower()
    return "jsonl" if ending in JSON else "parquet" if ending in PARQUET else "csv"
