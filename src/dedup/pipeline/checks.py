"""Check settings against the columns of a catalogue, before its images are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dedup.detection.grouping import Grouping
from dedup.errors import ConfigError
from dedup.reports.csv import check_reports
from dedup.runtime.nearest import meant


def check_columns(
    source: Any, block_by: str | None, grouping: Grouping, reports: Iterable[object] = ()
) -> None:
    """Check that a catalogue has the columns that settings name, without reading its images.

    Args:
        source: reader of the catalogue; one without a method ``check`` is not checked.
        block_by: ``detection.block_by``.
        grouping: rules for the kept product.
        reports: the reports to write.

    Raises:
        SourceError: the catalogue cannot be read.
        ConfigError: columns are missing; the message has a line for each setting.
    """
    if not hasattr(source, "check"):
        return
    columns = [str(column) for column in source.check()]
    wrong = []
    if block_by is not None and block_by not in columns:
        has = ", ".join(map(repr, columns))[:1000]
        hint = meant(block_by, columns) or "."
        wrong.append(
            f"detection.block_by={block_by}: the table has no such column{hint} It has {has}"
        )
    try:
        grouping.check(columns)
    except ConfigError as error:
        wrong.append(f"grouping.{error}")
    try:
        check_reports(reports, columns)
    except ConfigError as error:
        wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
