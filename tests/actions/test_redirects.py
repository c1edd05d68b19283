"""Each shop's file, read back by a parser written from that format's rules."""

import csv
import io
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from dedup.actions.addresses import as_path, check_pages, page_addresses, same_page
from dedup.actions.redirects import SHOPS, Redirect, write_redirects
from dedup.errors import ConfigError, SourceError

AWKWARD = {  # an address in a table, and its path
    "https://shop.example/products/red-shoe": "/products/red-shoe",
    "HTTP://shop.example:8080/a?b=1&c=2#reviews": "/a?b=1&c=2",
    "https://shop.example": "/",
    "/products/a%20b": "/products/a%20b",
    "/products/a b": "/products/a%20b",
    "/products/caf%C3%A9": "/products/caf%C3%A9",
    "/products/café": "/products/caf%C3%A9",
    "/products/%e2%82%ac-5": "/products/%e2%82%ac-5",
    "/products/100%": "/products/100%25",
    "/products/100%zz": "/products/100%25zz",
    "/products/(new)[2]*^$": "/products/(new)[2]*%5E$",
    '/products/say-"hi"': "/products/say-%22hi%22",
    "/products/a;b,c": "/products/a;b,c",
    "/products/back\\slash": "/products/back%5Cslash",
    "/products/$1{x}|y": "/products/$1%7Bx%7D%7Cy",
    "/products/裤": "/products/%E8%A3%A4",
    "/products/it's": "/products/it's",
    "/products/=1+1": "/products/=1+1",
}
REFUSED = [
    *("javascript:alert(1)", "ftp://shop.example/a", "products/a", "shop.example/a", "//evil/a"),
    *("http:///a", "https://shop.example//evil.example/a", "http://[bad/a"),
]


@pytest.mark.parametrize(("address", "path"), AWKWARD.items())
def test_an_address_becomes_a_path(address: str, path: str) -> None:
    assert as_path(address) == path
    assert as_path(path) == path


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_no_page_of_the_shop(address: str) -> None:
    assert as_path(address) is None
    table = pd.DataFrame({"id": ["A"], "link": [address]})
    with pytest.raises(SourceError, match=r"the page of A is .* correct plan.url_column"):
        page_addresses(table, "id", "link", None)


def read_shopify(text: str) -> list[Redirect]:
    """Shopify: a CSV with two named columns; paths begin with a slash."""
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["Redirect from", "Redirect to"]
    assert all(cell.startswith("/") for row in rows[1:] for cell in row)
    return [Redirect(*row) for row in rows[1:]]


def read_redirection(text: str) -> list[Redirect]:
    """Redirection (models/../file-io/class-csv): the header is skipped by the name of its first
    cell; without a third column, a source with one of ()[]$^* is a regular expression."""
    found = []
    for row in csv.reader(io.StringIO(text)):
        if row[0] == "source" and row[1] == "target":
            continue
        is_regex = row[2] == "1" if len(row) > 2 else re.search(r"[()\[\]$^*]", row[0])
        assert not is_regex
        assert row[3] == "301"
        assert row[0] != row[1]
        found.append(Redirect(row[0], row[1]))
    return found


def read_magento(text: str) -> list[Redirect]:
    """Magento: columns of url_rewrite; paths without a slash before them, a row a store."""
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {(row["redirect_type"], row["store_id"]) for row in rows} == {("301", "1"), ("301", "3")}
    assert not any(row[name].startswith("/") for row in rows for name in ("request_path",
                   "target_path"))  # fmt: skip
    found = [Redirect(f"/{row['request_path']}", f"/{row['target_path']}") for row in rows]
    assert found[::2] == found[1::2]
    return found[::2]


def read_nginx(text: str) -> list[Redirect]:
    """nginx: words in double quotes, where a backslash escapes; lines end in a semicolon. A value
    may hold variables, and a source that begins with ~ is an expression."""
    found = []
    for line in text.splitlines():
        words = re.fullmatch(r'"((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)";', line)
        assert words, line
        source, target = (re.sub(r"\\(.)", r"\1", word) for word in words.groups())
        assert "$" not in target
        assert not source.startswith("~")
        found.append(Redirect(source, target))
    return found


def read_apache(text: str) -> list[Redirect]:
    """Apache: two words with blanks between; # begins a comment."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    assert all(len(words) == 2 for words in lines)
    return [Redirect(*words) for words in lines]


READERS: dict[str, Callable[[str], list[Redirect]]] = {
    "shopify.csv": read_shopify,
    "woocommerce.csv": read_redirection,
    "magento.csv": read_magento,
    "nginx.map": read_nginx,
    "apache.map": read_apache,
}


@pytest.mark.parametrize("name", READERS, ids=str)
def test_a_file_reads_back_as_what_was_written(name: str, tmp_path: Path) -> None:
    paths = list(dict.fromkeys(AWKWARD.values()))
    pairs = [Redirect(path, other) for path, other in pairwise(paths)]
    write_redirects(pairs, pairs, tmp_path, SHOPS, (1, 3))
    read = READERS[name]((tmp_path / name).read_text(encoding="utf-8"))
    expected = pairs
    if name == "nginx.map":
        expected = [each._replace(target=each.target.replace("$", "%24")) for each in pairs]
    assert read == expected
    assert {file.name for file in tmp_path.iterdir()} == {*READERS}


def test_nginx_compares_without_case(tmp_path: Path) -> None:
    pairs = [Redirect("/A", "/c"), Redirect("/a", "/c")]
    write_redirects(pairs, pairs, tmp_path, ["nginx"], (1,))
    assert (tmp_path / "nginx.map").read_text() == '"/A" "/c";\n'
    pairs = [Redirect("/A", "/c"), Redirect("/a", "/d")]
    with pytest.raises(ConfigError, match=r"leave nginx out of plan\.redirects"):
        write_redirects(pairs, pairs, tmp_path, ["nginx"], (1,))


@pytest.mark.parametrize(
    ("template", "cells", "page"),
    [
        ("/products/{handle}", {"handle": "red-shoe"}, "/products/red-shoe"),
        ("/products/{handle}", {"handle": "a b?c#d"}, "/products/a%20b%3Fc%23d"),
        ("/{url_key}.html", {"url_key": "women/tops"}, "/women/tops.html"),
        ("https://s.example/p?id={id}", {}, "/p?id=A"),
        ("/{a}/{b}", {"a": "x", "b": "50%25"}, "/x/50%25"),
        ("/{a}/{b}", {"a": "x", "b": " "}, None),
    ],
)
def test_a_template_is_filled_in(template: str, cells: dict[str, str], page: str | None) -> None:
    table = pd.DataFrame({"id": ["A"], **{name: [cell] for name, cell in cells.items()}})
    expected = {} if page is None else {"A": [page]}
    assert page_addresses(table, "id", None, template) == expected


@pytest.mark.parametrize(
    ("column", "template", "message"),
    [
        ("link", "/{id}", "exclude each other"),
        ("lnk", None, "no column lnk, it has id"),
        (None, "/{handel}", "no column handel"),
        (None, "/p", "names no column in braces"),
    ],
)
def test_settings_of_pages(column: str | None, template: str | None, message: str) -> None:
    table = pd.DataFrame({"id": ["A"], "handle": ["a"]})
    with pytest.raises(ConfigError, match=message):
        page_addresses(table, "id", column, template)


@pytest.mark.parametrize(
    ("one", "other"),
    [("/a%2fb", "/a%2Fb"), ("/%61b", "/ab"), ("/a/", "/a"), ("/a/?b", "/a?b"), ("/", "")],
)
def test_paths_of_one_page(one: str, other: str) -> None:
    assert same_page(one) == same_page(other)


def test_paths_of_several_pages() -> None:
    paths = ["/a", "/A", "/a?b", "/a?b=1", "/a%2Fb", "/a/b", "/a%3Fb"]
    assert len({same_page(path) for path in paths}) == len(paths)


@pytest.mark.parametrize(
    ("pages", "target_of", "is_refused"),
    [
        ({"A": ["/a"], "B": ["/b"], "C": ["/c"]}, {"B": "A"}, False),
        ({"A": ["/a"], "B": ["/a/"]}, {"B": "A"}, False),
        ({"A": ["/a"], "B": ["/b"], "C": ["/b"]}, {"B": "A"}, True),
        ({"A": ["/a"], "B": ["/b"], "C": ["/b"]}, {"B": "A", "C": "A"}, False),
        ({"A": ["/a"], "B": ["/x"], "C": ["/c"], "D": ["/%78"]}, {"B": "A", "D": "C"}, True),
        ({"A": ["/a"], "C": ["/c"], "D": ["/c"]}, {"B": "A"}, False),
    ],
)
def test_pages_that_collide(
    pages: dict[str, list[str]], target_of: dict[str, str], is_refused: bool
) -> None:
    if not is_refused:
        check_pages(pages, target_of, same_page)
        return
    with pytest.raises(SourceError, match=r"is the page of B and of .*do not lead to one product"):
        check_pages(pages, target_of, same_page)
