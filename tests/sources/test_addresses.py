"""Cells with several addresses, as shops write them, and addresses with signs of their own."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import ConfigError
from dedup.sources import addresses as addresses_module
from dedup.sources.addresses import split_addresses, typed_address
from dedup.sources.csv import CsvSource
from dedup.sources.paths import ImageFolder

A, B, C = (f"https://cdn.example.org/{name}.jpg" for name in "abc")

SEVERAL = {
    "semicolons": (f"{A};{B};{C}", [A, B, C]),
    "semicolons_and_blanks": (f" {A} ; {B};", [A, B]),
    "woocommerce": (f"{A}, {B}, {C}", [A, B, C]),
    "google": (f"{A},{B}", [A, B]),
    "pipes": (f"{A}|{B}|{C}", [A, B, C]),
    "pipes_and_blanks": (f"{A} | {B}", [A, B]),
    "lines": (f"{A}\r\n{B}\n\n{C}\n", [A, B, C]),
    "blanks": (f"{A} {B}  {C}", [A, B, C]),
    "tabs": (f"{A}\t{B}", [A, B]),
    "mixed": (f"{A}, {B};\n{C}", [A, B, C]),
    "signs_at_both_ends": (f",{A},,{B},", [A, B]),
    "without_names": ("http://x.test/1,http://x.test/2", ["http://x.test/1", "http://x.test/2"]),
    "without_names_and_a_last_sign": ("http://x.test/1|http://x.test/2|",
                                      ["http://x.test/1", "http://x.test/2"]),
    "queries": (f"{A}?v=1,{B}?v=2", [f"{A}?v=1", f"{B}?v=2"]),
    "without_schemes": ("//x.test/1.jpg,//x.test/2.jpg", ["//x.test/1.jpg", "//x.test/2.jpg"]),
    "hosts": ("cdn.example.org/1,img.example.org/2", ["cdn.example.org/1", "img.example.org/2"]),
    "magento": ("/w/s/ws01-a.jpg,/w/s/ws01-b.jpg", ["/w/s/ws01-a.jpg", "/w/s/ws01-b.jpg"]),
    "names": ("a1.jpg, a2.PNG", ["a1.jpg", "a2.PNG"]),
    "names_and_pipes": ("a1.jpg|a2.webp", ["a1.jpg", "a2.webp"]),
    "names_and_blanks": ("a1.jpg a2.jpg", ["a1.jpg", "a2.jpg"]),
    "names_with_blanks": ("my hat 1.jpg, my hat 2.jpg", ["my hat 1.jpg", "my hat 2.jpg"]),
    "names_with_queries": ("a.jpg?v=1,b.jpg?v=1", ["a.jpg?v=1", "b.jpg?v=1"]),
    "paths_without_endings": ("images/1;images/2", ["images/1", "images/2"]),
    "a_path_after_an_address": (f"{A}; ../x.jpg", [A, "../x.jpg"]),
    "a_name_and_a_last_comma": ("a.jpg,", ["a.jpg"]),
    "an_object_of_views": (json.dumps({"front": A, "back view": "b.jpg"}), [A, "b.jpg"]),
    "objects_of_views": (f"[{{'1': '{A}'}}, {{'2': '{B}'}}]", [A, B]),
    "escaped": ("http://x.test/i?v=1&amp;id=3;http://x.test/i?v=1&amp;id=4",
                ["http://x.test/i?v=1&id=3", "http://x.test/i?v=1&id=4"]),
}  # fmt: skip
"""Cells with several addresses."""

ONE = {
    "a_semicolon_in_a_query": "http://x.test/image.php?v=1;id=3",
    "several_semicolons": "http://x.test/i.php?a=1;b=2;c=x.jpg",
    "a_session": "https://x.test/i;jsessionid=1A2B/photo.jpg",
    "a_version": "https://x.test/photo.jpg;v=3",
    "cloudinary": "https://res.cloudinary.com/demo/image/upload/w_300,h_400,c_fill/shoe.jpg",
    "cloudinary_overlay": "https://res.cloudinary.com/demo/l_logo.png,w_300/shoe.jpg",
    "cloudinary_on_disk": "image/upload/w_300,h_400/c.jpg",
    "a_pipe": "https://x.test/i?mode=a|b",
    "a_pipe_in_a_path": "https://x.test/a|b.jpg",
    "sizes": "https://i0.wp.com/shop.test/a.jpg?resize=300,300&rect=0,0,10,10",
    "a_text": "https://x.test/label?text=red, blue;green|black",
    "a_list_in_a_query": "https://x.test/combine?files=a.jpg,b.jpg;c.jpg",
    "blanks": "https://x.test/my hat.jpg",
    "blanks_in_a_name": "my hat, blue.jpg",
    "a_copy": "hat.jpg (2).jpg",
    "a_comma_in_a_name": "S,M,L.jpg",
    "a_last_comma": "https://x.test/i?ids=1,2,",
    "a_query_on_a_path": "photo.php?v=1;id=3",
    "brackets": "[1] hat.jpg",
    "a_guid": "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}.jpg",
    "parentheses": "(x).jpg",
    "a_proxy": "https://proxy.test/fetch/w_300,h_40/https://x.test/a.jpg",
    "data": "data:image/png;base64,AAAA,BBBB",
    "port": "127.0.0.1:8765/image.php?v=1;id=3",
    "moved_ampersand": "http://x.test/i?v=1&id=3",
}
"""Addresses that have separating signs of their own."""

LISTS = {
    "json": (json.dumps([A, B]), [A, B]),
    "json_of_objects": (json.dumps([{"id": 1, "src": A}, {"id": 2, "src": B}]), [A, B]),
    "json_of_one_object": (json.dumps({"@type": "ImageObject", "url": A}), [A]),
    "json_of_nested_objects": (json.dumps([{"image": {"url": A}}, {"image": {"url": B}}]), [A, B]),
    "json_below_a_key": (json.dumps({"images": [A, B]}), [A, B]),
    "json_with_a_page": (json.dumps([{"link": "https://x.test/p", "Image_URL": A}]), [A]),
    "json_with_null": (f'["{A}", null, ""]', [A]),
    "json_with_slashes": ('["https:\\/\\/cdn.example.org\\/a.jpg"]', [A]),
    "json_with_signs": ('["a;b.jpg", "c, d.jpg"]', ["a;b.jpg", "c, d.jpg"]),
    "a_json_text": (json.dumps(A), [A]),
    "python": (repr([A, B]), [A, B]),
    "python_tuple": (repr((A,)), [A]),
    "python_quotes": (repr(["it's.jpg", 'a "b".jpg']), ["it's.jpg", 'a "b".jpg']),
    "python_of_objects": (repr([{"url": A, "w": 1.5, "main": True, "alt": None}]), [A]),
    "python_escapes": (r"['\xfc.jpg', '\u0436.jpg', 'a\\b.jpg']", ["ü.jpg", "ж.jpg", "a\\b.jpg"]),
    "python_2": ("[u'a.jpg', u'b.jpg']", ["a.jpg", "b.jpg"]),
    "numpy": (f"['{A}'\n '{B}']", [A, B]),
    "quoted": (f'"{A}", "{B}"', [A, B]),
    "postgresql": (f"{{{A},{B}}}", [A, B]),
    "postgresql_quoted": ('{"a b.jpg",c.jpg}', ["a b.jpg", "c.jpg"]),
    "bare": (f"[{A}, {B}]", [A, B]),
    "escaped": ('["http://x.test/?a=1&amp;b=2"]', ["http://x.test/?a=1&b=2"]),
    "empty": ("[]", []),
    "empty_texts": ('["", " "]', []),
    "no_elements": ("{}", []),
}
"""Written lists."""


@pytest.mark.parametrize("name", SEVERAL)
def test_a_cell_of_several_addresses(name: str) -> None:
    cell, addresses = SEVERAL[name]
    assert split_addresses(cell) == (addresses, "")


@pytest.mark.parametrize("name", ONE)
def test_signs_inside_an_address(name: str) -> None:
    assert split_addresses(f" {ONE[name]} ") == ([ONE[name]], "")


@pytest.mark.parametrize("name", LISTS)
def test_a_written_list(name: str) -> None:
    cell, addresses = LISTS[name]
    assert split_addresses(cell) == (addresses, "" if addresses else "no_url")


@pytest.mark.parametrize(
    "cell",
    [
        '["a.jpg", 5]', '["a.jpg"', "['a.jpg", '[{"width": 5}]', "['a.jpg', 5]",
        '{"a": "b"}', "[" * 50_000 + "'a'", "['a', " + "(" * 50_000, "['a' if 1 else 'b']",
    ],
)  # fmt: skip
def test_a_list_that_is_none(cell: str) -> None:
    assert split_addresses(cell) == ([], "bad_url")


@pytest.mark.parametrize(
    ("cell", "address"),
    [
        ("http://x.test/i?v=1&amp;id=3", "http://x.test/i?v=1&id=3"),
        ("http://x.test/i?v=1&AMP;id=3", "http://x.test/i?v=1&id=3"),
        ("http://x.test/i?v=1&amp;amp;id=3", "http://x.test/i?v=1&id=3"),
        ("http://x.test/i?v=1&#38;id=3", "http://x.test/i?v=1&id=3"),
        ("http://x.test/i?v=1&#x26;id=3", "http://x.test/i?v=1&id=3"),
        ("http://x.test/tops-&amp;-tunics.jpg", "http://x.test/tops-&-tunics.jpg"),
        ("http://x.test/i?v=1&ampere=3", "http://x.test/i?v=1&ampere=3"),
        ("http://x.test/i?v=1%26amp;id=3", "http://x.test/i?v=1%26amp;id=3"),
        ("http://x.test/i?v=1&copy;id=3", "http://x.test/i?v=1&copy;id=3"),
        ("http://x.test/i?v=1&id=3", "http://x.test/i?v=1&id=3"),
    ],
)
def test_an_escaped_ampersand(cell: str, address: str) -> None:
    assert split_addresses(cell) == ([address], "")


addresses = st.builds(
    "https://{}.example.org/{}{}{}".format,
    st.sampled_from(["cdn", "img1", "www"]),
    st.text("abc123,;|_-=", min_size=1, max_size=12).map(lambda t: f"x{t}y"),
    st.sampled_from([".jpg", ".png", "", "/"]),
    st.sampled_from(["", "?v=1", "?v=1;id=3", "?a=1,2", "?m=a|b"]),
)


JOINTS = [";", ",", "|", " ", "\n", ", ", " ; ", "\r\n", " | ", "json", "python"]


@settings(deadline=None)
@given(st.lists(addresses, min_size=1, max_size=5), st.sampled_from(JOINTS))
def test_what_was_joined_comes_back(urls: list[str], sign: str) -> None:
    cell = {"json": json.dumps(urls), "python": repr(urls)}.get(sign, sign.join(urls))
    assert split_addresses(cell) == (urls, "")


PIECES = ["http://x.test/a", "https://x.test/b.jpg", "c.jpg", "d/e", "x.com/f", "//y.test/g",
          "?v=1", "id=3", ";", ";", ",", "|", " ", "/", "..", "é", "&amp;", "#"]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_what_is_split_fast_is_split_alike(cell: str) -> None:
    text = cell.strip()
    if fast := addresses_module._simple(text):
        slow = addresses_module._separated(text)
        assert fast == [part.strip() for part in slow if part.strip()]


@pytest.mark.parametrize(
    "cell",
    [
        "a,b" * 40_000, "a.jpg," * 20_000, "x?" + "a.jpg," * 20_000, " " * 131_000 + "x",
        "x" + " " * 131_000 + "x", "'" * 131_000, "['" + "\\'" * 60_000, ";,|" * 40_000,
        "http://x.test/" + "a,b.jpg;" * 15_000, "a." * 65_000 + "/", "&amp;" * 26_000,
        "(" * 131_000, "{" * 65_000 + "}" * 65_000, "//," * 40_000, "a-" * 60_000 + ".com",
        "[" + "'a'," * 30_000 + "]", "a.jpg " * 20_000,
    ],
)  # fmt: skip
def test_the_longest_cells_take_no_time(cell: str) -> None:
    started = time.process_time()
    parts, _ = split_addresses(cell)
    ImageFolder("/nowhere").split([cell])
    typed_address([cell], "/nowhere/x.jpg")
    assert time.process_time() - started < 3, len(parts)


def place(folder: Path, address: str, base_url: str = "") -> str:
    """Where an address leads, or the reason why it does not."""
    where, reason = ImageFolder(str(folder), base_url).locate(address)
    return reason or where.removeprefix(f"{folder.resolve()}/")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("//cdn.example.org/1.jpg", "https://cdn.example.org/1.jpg"),
        ("//shop.test:8443/1.jpg", "https://shop.test:8443/1.jpg"),
        ("//127.0.0.1:8765/1.jpg", "https://127.0.0.1:8765/1.jpg"),
        ("//server/share/1.jpg", "scheme"),
        ("//good\\.test/1.jpg", "scheme"),
        ("cdn.example.org/1.jpg", "https://cdn.example.org/1.jpg"),
        ("CDN.Example.COM/1.jpg?v=1", "https://CDN.Example.COM/1.jpg?v=1"),
        ("www.shop.co.uk/1", "https://www.shop.co.uk/1"),
        ("127.0.0.1:8765/1.jpg", "https://127.0.0.1:8765/1.jpg"),
        ("localhost:8000/1.jpg", "https://localhost:8000/1.jpg"),
        ("shop.internal:8000/1.jpg", "https://shop.internal:8000/1.jpg"),
        ("xn--bcher-kva.xn--p1ai/1.jpg", "https://xn--bcher-kva.xn--p1ai/1.jpg"),
        ("photos.old/1.jpg", "photos.old/1.jpg"),
        ("images/1.jpg", "images/1.jpg"),
        ("v1.2/1.jpg", "v1.2/1.jpg"),
        ("1.jpg", "1.jpg"),
        ("example.com", "example.com"),
        ("here.com/1.jpg", "here.com/1.jpg"),
        ("here.com/gone.jpg", "here.com/gone.jpg"),
        ("mailto:a@x.com/1.jpg", "scheme"),
        ("../cdn.example.org/1.jpg", "outside_folder"),
    ],
)
def test_an_address_without_a_scheme(tmp_path: Path, address: str, expected: str) -> None:
    (tmp_path / "here.com").mkdir()
    assert place(tmp_path, address) == expected


@pytest.mark.parametrize(
    ("base", "address", "expected"),
    [
        ("https://shop.test/media", "1.jpg", "https://shop.test/media/1.jpg"),
        ("https://shop.test/media/", "a/1.jpg?v=1", "https://shop.test/media/a/1.jpg?v=1"),
        ("https://shop.test/media/?x#y", "1.jpg", "https://shop.test/media/1.jpg"),
        ("https://shop.test", "1.jpg", "https://shop.test/1.jpg"),
        ("https://shop.test/media/", "/m/1.jpg", "https://shop.test/m/1.jpg"),
        ("https://shop.test/media/", "../1.jpg", "https://shop.test/1.jpg"),
        ("https://shop.test/media/", "../../../1.jpg", "https://shop.test/1.jpg"),
        ("http://shop.test/media/", "//cdn.test/1.jpg", "http://cdn.test/1.jpg"),
        ("http://shop.test/media/", "127.0.0.1:8765/1.jpg", "http://127.0.0.1:8765/1.jpg"),
        ("http://shop.test/media/", "https://other.test/1.jpg", "https://other.test/1.jpg"),
        ("https://shop.test/media/", "file:///etc/passwd", "scheme"),
        ("https://shop.test/media/", "a\tb.jpg", "bad_url"),
        ("https://shop.test/media/", "there/1.jpg", "https://shop.test/media/there/1.jpg"),
    ],
)
def test_an_address_below_another(tmp_path: Path, base: str, address: str, expected: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "1.jpg").touch()
    assert place(tmp_path, address, base) == expected


@pytest.mark.parametrize("base", ["shop.test/media", "ftp://shop.test", "https://", "x", "http:/a"])
def test_a_base_that_is_no_address(tmp_path: Path, base: str) -> None:
    with pytest.raises(ConfigError, match=r"source\.base_url="):
        ImageFolder(str(tmp_path), base)


def test_a_file_whose_name_has_signs_is_one_address(tmp_path: Path) -> None:
    names = ["a;b.jpg", "a.jpg, b.jpg", "Tops &amp; Tunics.jpg", "a.jpg b.jpg", "['x'].jpg"]
    for name in names:
        (tmp_path / name).touch()
        assert ImageFolder(str(tmp_path)).split([name]) == ([name], "")
        assert typed_address([name], f"{tmp_path}/{name}") == name
    assert ImageFolder(str(tmp_path)).split(["c;d.jpg"]) == (["c", "d.jpg"], "")


def test_the_part_that_was_typed() -> None:
    assert typed_address(["//x.test/1.jpg;//x.test/2.jpg"], "https://x.test/2.jpg") == (
        "//x.test/2.jpg"
    )
    assert typed_address(["x.com/1.jpg, x.com/2.jpg"], "https://x.com/2.jpg") == "x.com/2.jpg"
    assert typed_address(["1.jpg", "2.jpg,3.jpg"], "/shop/3.jpg") == "3.jpg"
    assert typed_address(["1.jpg", ""], "/shop/1.jpg") == "1.jpg"
    assert typed_address(["a/1.jpg|b/1.jpg"], "/elsewhere/2.jpg") == "/elsewhere/2.jpg"


def read(folder: Path, *rows: str, **settings: object) -> list[tuple[str, str, list[str], str]]:
    """Id, address, alternates and reason of each request of a feed."""
    table = folder / "feed.csv"
    table.write_text("\n".join(["id,title,image_link,additional_image_link", *rows]) + "\n")
    columns = ["image_link", "additional_image_link"]
    chosen = {"id_column": "id", "url_column": columns, **settings}
    requests = CsvSource(str(table), **chosen).read().requests  # type: ignore[arg-type]
    return [(r.product_id, r.url, r.alternates, r.reason) for r in requests.itertuples()]


def test_several_columns_of_addresses(tmp_path: Path) -> None:
    both = f'P1,t,{A},"{B},{C}"'
    assert read(tmp_path, both) == [("P1", A, [B, C], "")]
    assert read(tmp_path, both, choice="second") == [("P1", B, [C, A], "")]
    every = [("P1", url, [], "") for url in (A, B, C)]
    assert read(tmp_path, both, choice="all") == every
    assert read(tmp_path, f"P1,t,,{B}") == [("P1", B, [], "")]
    assert read(tmp_path, f"P1,t,{A},") == [("P1", A, [], "")]
    assert read(tmp_path, f"P1,t,{A},\"['x', 5]\"") == [("P1", A, [], "")]
    assert read(tmp_path, "P1,t,,")[0][3] == "no_url"
    assert read(tmp_path, "P1,t,,\"['x', 5]\"")[0][3] == "bad_url"
    assert read(tmp_path, both, url_column=["image_link"]) == [("P1", A, [], "")]


def test_several_columns_of_which_one_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"no column 'image_2': set source\.url_column="):
        read(tmp_path, f"P1,t,{A},", url_column=["image_link", "image_2"])


def test_relative_addresses_of_a_table_on_the_web(tmp_path: Path) -> None:
    base = "https://shop.test/media/"
    url = f"{base}a.jpg"
    assert read(tmp_path, "P1,t,a.jpg,", base_url=base) == [("P1", url, [], "")]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ('{"url": null}', "no_url"),
        ('[{"src": ""}, {"src": null}]', "no_url"),
        ('{"front": "a.jpg", "note": "red"}', "bad_url"),
        ('{"front": "a.jpg", "width": 3}', "bad_url"),
    ],
)
def test_objects_without_an_address(cell, reason):
    assert split_addresses(cell) == ([], reason)
