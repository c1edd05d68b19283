"""Write redirects in the formats of shops and servers.

Each function takes paths that have been through ``addresses.as_path``: they begin with one ``/``
and have neither blanks nor control characters nor quotes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dedup.errors import ConfigError
from dedup.runtime.files import write_text
from dedup.runtime.printable import visible
from dedup.runtime.tables import write_rows

MOVED = 301
"""Status of a page that has moved for good."""


class Redirect(NamedTuple):
    """A page that leads to another one.

    Attributes:
        source: path of the retired page.
        target: path of the kept page.
    """

    source: str
    target: str


def write_shopify(redirects: Iterable[Redirect], path: Path) -> None:
    """Write the CSV that Shopify imports; a redirect works once the old page is gone."""
    write_rows(("Redirect from", "Redirect to"), redirects, path)


def write_woocommerce(redirects: Iterable[Redirect], path: Path) -> None:
    """Write the CSV that the plugin Redirection of WordPress imports.

    The third column says that a source is no regular expression. Without it the plugin takes
    sources with one of ``()[]$^*`` for expressions.
    """
    rows = ((source, target, 0, MOVED) for source, target in redirects)
    write_rows(("source", "target", "regex", "code"), rows, path)


def write_magento(
    redirects: Iterable[Redirect], path: Path, store_ids: Sequence[int] = (1,)
) -> None:
    """Write the columns of Magento's table ``url_rewrite``; paths have no ``/`` before them."""
    rows = (
        (source.removeprefix("/"), target.removeprefix("/"), MOVED, store)
        for source, target in redirects
        for store in store_ids
    )
    write_rows(("request_path", "target_path", "redirect_type", "store_id"), rows, path)


def write_nginx(redirects: Iterable[Redirect], path: Path) -> None:
    """Write lines for a ``map $request_uri $target`` of nginx.

    A value may hold variables, so its ``$`` is escaped as in addresses. nginx compares sources
    without case.

    Raises:
        ConfigError: two sources differ in case alone, and lead to two pages.
    """
    lines: dict[str, tuple[str, str]] = {}
    for source, target in redirects:
        known = lines.setdefault(source.lower(), (source, target))
        if known[1] != target:
            raise ConfigError(
                f"nginx takes {visible(known[0])} and {visible(source)} for one page: leave nginx "
                "out of plan.redirects, or correct the addresses"
            )
    texts = [f'"{source}" "{target.replace("$", "%24")}";\n' for source, target in lines.values()]
    write_text("".join(texts), path)


def write_apache(redirects: Iterable[Redirect], path: Path) -> None:
    """Write the text of a ``RewriteMap`` of Apache: a source, a blank and a target on a line."""
    write_text("".join(f"{source} {target}\n" for source, target in redirects), path)


IMPORTED: dict[str, Callable[[Iterable[Redirect], Path], None]] = {
    "shopify": write_shopify,
    "woocommerce": write_woocommerce,
}
"""Writers of files that add to what a shop has, besides Magento's, which takes more."""

WHOLE: dict[str, Callable[[Iterable[Redirect], Path], None]] = {
    "nginx": write_nginx,
    "apache": write_apache,
}
"""Writers of files that replace an earlier one, and so hold all redirects."""

SHOPS = (*IMPORTED, "magento", *WHOLE)
"""Formats of redirects."""


def write_redirects(
    imported: Sequence[Redirect],
    whole: Sequence[Redirect],
    folder: Path,
    shops: Sequence[str],
    store_ids: Sequence[int],
) -> list[Path]:
    """Write a file for each shop or server.

    Args:
        imported: redirects that are new or changed, for shops.
        whole: all redirects, for servers.
        folder: an existing folder.
        shops: some of ``SHOPS``.
        store_ids: Magento's stores; each gets a row.
    """
    made = []
    for name in shops:
        path = folder / f"{name}.{'map' if name in WHOLE else 'csv'}"
        if name == "magento":
            write_magento(imported, path, store_ids)
        elif name in WHOLE:
            WHOLE[name](whole, path)
        else:
            IMPORTED[name](imported, path)
        made.append(path)
    return made
