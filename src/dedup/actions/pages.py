"""Render the pages of this room, which make no request and run no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader

from dedup.reports.html import environment
from dedup.runtime.files import write_text
from dedup.runtime.printable import visible_page


def write_page(template: str, path: Path, **values: Any) -> None:
    """Write a page from a template of this folder, with the styles of the report's page."""
    reports = environment()
    loaders = [FileSystemLoader(Path(__file__).parent), *filter(None, [reports.loader])]
    pages = reports.overlay(loader=ChoiceLoader(loaders))
    pages.filters["words"] = lambda text: str(text).replace("_", " ")
    write_text(
        visible_page(pages.get_template(template).render(styles=["actions.css"], **values)), path
    )
