"""Errors of the Python API: shortages included, and in the words of its arguments."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dedup.errors import DedupError
from dedup.runtime.invocation import command
from dedup.runtime.shortages import explain_shortage

SETTINGS: Mapping[str, str] = {
    "block_by": "detection.block_by",
    "catalogue": "source.path",
    "choice": "source.choice",
    "encoder": "checkpoint",
    "folder": "runs",
    "id": "source.id_column",
    "images": "source.url_column",
    "images_dir": "source.images_dir",
    "keep": "grouping.keep",
    "precision": "matcher.precision",
    "remove": "ids",
    "store": "store.path",
    "threshold": "matcher.threshold",
    "title": "source.title_column",
}
"""Setting of the commands that each argument stands for, where its name is another."""

_PHRASES = (
    ("encoder=bundled source.path=products.csv", 'dedup.find_duplicates("products.csv")'),
    (f"make one with {command('cluster')}", "make one with dedup.build_index"),
    ("name an index with index=PATH", "name the folder of an index"),
    ("show it with query=, or", "show it with dedup.query, or"),
    ("read its folder with source=folder source.path=FOLDER", "pass its folder"),
    ("set source.encoding=", "pass the table of pandas.read_csv, with encoding="),
    (
        "set source.dialect=",
        "pass the table of pandas.read_csv, as for source.dialect=",
    ),
    ("change=remove ids=FILE removes products", "remove=[ID] removes products"),
)
"""Remedies on the command line, and those in Python."""
_EXAMPLE = re.compile(r"""such as ([\w.]+)=\S+ or '\1="(.*?)"'(?=\s|$)""")
"""Example of a value that a shell would not take as a text."""
_ARGUMENT = {setting: name for name, setting in SETTINGS.items()} | {"query": "images"}
_NAMED = re.compile(
    rf"(?<![\w./-])(?:({'|'.join(re.escape(s) for s in _ARGUMENT if '.' in s)})(?![\w.])"
    rf"|({'|'.join(s for s in _ARGUMENT if '.' not in s)})(?==))"
)
"""A setting in a message; a name without a dot is a word unless a value follows."""


def in_python(message: str) -> str:
    """Name the arguments of the Python API in a message, in place of the commands' settings."""
    for typed, called in _PHRASES:
        message = message.replace(typed, called)
    message = _EXAMPLE.sub(r'such as \1="\2"', message)
    return _NAMED.sub(lambda found: _ARGUMENT[found[0]], message)


@contextmanager
def as_errors(where: Path | str) -> Iterator[None]:
    """Turn shortages into ``DedupError``, and name the arguments in errors and warnings.

    Args:
        where: name for the message of a shortage whose error names no file.
    """
    log = logging.getLogger("dedup")
    is_outer = _reworded not in log.filters
    log.addFilter(_reworded)
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, DedupError) else explain_shortage(error, where)
        if known is None:
            raise
        known.args = tuple(in_python(part) if isinstance(part, str) else part
                           for part in known.args)  # fmt: skip
        if known is error:
            raise
        raise known from error
    finally:
        if is_outer:
            log.removeFilter(_reworded)


def _reworded(record: logging.LogRecord) -> bool:
    record.msg, record.args = in_python(record.getMessage()), ()
    return True
