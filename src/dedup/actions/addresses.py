"""Addresses of product pages, as a path on the shop's own host."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote, urlsplit

import pandas as pd

from dedup.errors import ConfigError, SourceError
from dedup.runtime.printable import visible

KEPT = "!$&'()*+,-./:;=?@_~%[]"
"""Characters of an address that stay as they are, besides letters and digits; RFC 3986."""

_PLAIN = re.compile(
    r"(?:https?://[a-z0-9.-]+)?(/(?:[A-Za-z0-9._~!$&'()*,;=:@-][A-Za-z0-9/._~!$&'()*,;=:@-]*)?)"
)
"""Most addresses: their path needs no change."""
_LONE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_FIELD = re.compile(r"\{([^{}]*)\}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def page_addresses(
    products: pd.DataFrame, id_column: str, url_column: str | None, url_template: str | None
) -> dict[str, list[str]]:
    """Find the pages of products.

    Args:
        products: rows of the user's table.
        id_column: its column of ids.
        url_column: column of addresses that begin with http(s) or with ``/``.
        url_template: path with columns in braces, such as ``/products/{handle}``.

    Returns:
        By product the paths of its rows, each once; a product without any is left out.

    Raises:
        ConfigError: a column does not exist, or both settings are given.
        SourceError: a cell is no address; the message names the product.
    """
    if url_column is not None and url_template is not None:
        raise ConfigError("plan.url_column and plan.url_template exclude each other: leave one out")
    read = _of_column(products, url_column) if url_column else _of_template(products, url_template)
    pages: dict[str, list[str]] = defaultdict(list)
    for product, cell in zip(products[id_column].to_numpy(object), read, strict=True):
        if not cell:
            continue
        page = as_path(cell)
        if page is None:
            raise SourceError(
                f"the page of {visible(product)} is {visible(cell)[:200]!r}, which begins neither "
                "with http:// or https:// nor with one /: correct plan.url_column or "
                "plan.url_template"
            )
        if page not in pages[product]:
            pages[product].append(page)
    return dict(pages)


def _of_column(products: pd.DataFrame, column: str) -> Iterable[str]:
    _check_column(products, column, "plan.url_column")
    return [cell.strip() for cell in products[column].to_numpy(object)]


def _of_template(products: pd.DataFrame, template: str | None) -> Iterable[str]:
    """Fill a template in; a row with an empty cell in it has no address."""
    if template is None:
        return [""] * len(products)
    names = _FIELD.findall(template)
    if not names:
        raise ConfigError(
            f"plan.url_template={template} names no column in braces, such as /products/{{handle}}"
        )
    for name in names:
        _check_column(products, name, "plan.url_template")
    columns = [[cell.strip() for cell in products[name].to_numpy(object)] for name in names]
    parts = _FIELD.split(template)[::2]
    return [
        "" if "" in cells else parts[0] + "".join(
            _in_path(cell) + after for cell, after in zip(cells, parts[1:], strict=True)
        )
        for cells in zip(*columns, strict=True)
    ]  # fmt: skip


def _check_column(products: pd.DataFrame, name: str, setting: str) -> None:
    if name not in products.columns:
        raise ConfigError(
            f"{setting}: the table has no column {name}, it has "
            f"{', '.join(map(str, products.columns))[:1000]}"
        )


def _in_path(cell: str) -> str:
    """Encode a cell as a part of a path: ``?`` and ``#`` too, and ``/`` and ``%41`` are kept."""
    return quote(_LONE.sub("%25", cell), safe=KEPT.replace("?", ""))


def as_path(address: str) -> str | None:
    """Reduce an address to its path and query, without decoding or encoding ``%`` again.

    Characters that no address has, such as blanks and letters beyond ASCII, are encoded as
    browsers do. The part after ``#`` never reaches a server and is left out.

    Returns:
        The path, with one ``/`` before it; ``None`` where the text is no address of a page.
    """
    if plain := _PLAIN.fullmatch(address):
        return plain[1]
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    is_web = parts.scheme in ("http", "https") and bool(parts.netloc)
    path = parts.path or "/"
    if not (is_web or (not parts.scheme and not parts.netloc)):
        return None
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        return None
    whole = path + (f"?{parts.query}" if parts.query else "")
    return quote(_LONE.sub("%25", whole), safe=KEPT)


def same_page(path: str) -> str:
    """Return what is equal for paths of one page: escapes in one form, no slash at the end."""

    def one_form(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.fullmatch(character) else match[0].upper()

    plain = _ESCAPE.sub(one_form, path) if "%" in path else path
    page, sign, query = plain.partition("?")
    return f"{page.rstrip('/') or '/'}{sign}{query}"


def check_pages(
    pages: Mapping[str, list[str]], target_of: Mapping[str, str], key: Callable[[str], str]
) -> None:
    """Check that no page that is to be redirected is another product's, too.

    Args:
        pages: paths of all products, see ``page_addresses``.
        target_of: by retired product the product that it leads to.
        key: what is equal for paths of one page.

    Raises:
        SourceError: two products share a page, and one of them leads elsewhere.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    for product, paths in pages.items():
        for path in paths:
            owners[key(path)].add(target_of.get(product, product))
    for product in sorted(target_of):
        for path in pages.get(product, ()):
            if len(owners[key(path)]) > 1:
                others = sorted(
                    other for other, paths in pages.items()
                    if other != product and key(path) in map(key, paths)
                )  # fmt: skip
                raise SourceError(
                    f"{visible(path)[:200]} is the page of {visible(product)} and of "
                    f"{visible(', '.join(others))[:200]}, which do not lead to one product: name "
                    "a column with a page for each in plan.url_column, or decide on them"
                )
