"""Tell whether the table and the images of an index have changed since it was made."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dedup.download.buckets import is_bucket
from dedup.errors import SourceError
from dedup.foregrounds.masked_store import Framed, ImageReader
from dedup.runtime.invocation import command
from dedup.runtime.nouns import counted
from dedup.search.index import Index
from dedup.sources.requests import CLOSED
from dedup.sources.table_copies import is_there, table_path
from dedup.sources.table_files import file_digest

log = logging.getLogger("dedup")

TABLE = "table"
"""Entry of an index's manifest: ``path`` and ``sha256`` of the table that its images are of."""


def describe_table(source: Any) -> dict[str, Any]:
    """Describe what a source reads now, for an index's manifest; nothing where it cannot tell.

    Raises:
        SourceError: the table cannot be read.
    """
    if not hasattr(source, "digest"):
        return {}
    path = source.path if is_bucket(source.path) else str(Path(source.path).absolute())
    return {TABLE: {"path": path, "sha256": source.digest()}}


def changes_since(index: Index, source: Any, images: ImageReader | None) -> str:
    """Say what has changed since an index was made of a source, as the start of a sentence.

    Args:
        index: the index.
        source: reader of the same catalogue.
        images: the index's store; ``None`` if it is gone.

    Returns:
        "" if nothing has changed, or if the table is gone.

    Raises:
        SourceError: the table cannot be read.
    """
    path = getattr(source, "path", None)
    if not hasattr(source, "digest") or not is_there(str(path)):
        return ""
    known = index.manifest.get(TABLE)
    made = index.manifest.get("source")
    if known is None and isinstance(made, Mapping) and made.get("change") == "update":
        return f"the index has products that {path} no longer has"
    if known is None:
        return f"it is not known whether {path} has changed since the index was made"
    if known["sha256"] != source.digest():
        return f"{path} has changed since the index was made"
    if images is None:
        return ""
    store = images.store if isinstance(images, Framed) else images
    requested = index.images[(index.images["url"] != "") & _was_read(index)]
    n_changed = len(store.unread(requested["url"].drop_duplicates().tolist()))
    if not n_changed:
        return ""
    verb = "is" if n_changed == 1 else "are"
    return f"{counted(n_changed, 'image')} of {path} {verb} to be read again"


def _was_read(index: Index) -> Any:
    """Tell which rows of an index name an image that the store was asked for."""
    reasons = index.images["reason"]
    return (index.images["status"] == "ok") | ~reasons.isin(CLOSED)


def warn_of_changed_table(index: Index, folder: Path, runs: Path) -> None:
    """Warn if the table of an index is another one by now.

    Args:
        index: the index.
        folder: folder that it was read from.
        runs: the operator's folder of runs. The path in an index from elsewhere is not looked at.
    """
    table = index.manifest.get(TABLE)
    is_own = folder.resolve().is_relative_to(runs.resolve())
    if not isinstance(table, Mapping) or not is_own:
        return
    path = table["path"]
    try:
        is_changed = is_there(path) and file_digest(table_path(path)) != table["sha256"]
    except (OSError, SourceError) as error:
        log.warning("cannot tell whether %s has changed since the index was made: %s", path, error)
        return
    if is_changed:
        log.warning(
            "%s has changed since the index was made, and this is about the table as it was: run "
            "%s change=update source.path=%s to read it as it is now",
            path, command("cluster"), path,
        )  # fmt: skip
