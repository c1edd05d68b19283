"""Lines of JSON give the catalogue that their texts would give; a broken line costs itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.errors import SourceError
from dedup.sources import json_records
from dedup.sources.catalogue import Catalogue
from dedup.sources.jsonl import N_HEAD, JsonlSource
from dedup.sources.records import MAX_RECORD

WEB = "http://shop.test/"
GOOD = b'{"productId": "P9", "imageUrlStr": "http://shop.test/9.jpg"}'


def read(folder: Path, data: bytes | str, **settings: Any) -> Catalogue:
    path = folder / "shop.jsonl"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return JsonlSource(str(path), **settings).read()


def outcomes(catalogue: Catalogue) -> list[str]:
    return [f"{one.status}:{one.reason}".strip(":") for one in catalogue.requests.itertuples()]


def of_id(written: str) -> str:
    return f'{{"imageUrlStr": "{WEB}1.jpg", "productId": {written}}}'


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("9007199254740993", "9007199254740993"),
        ("12.0", "12.0"),
        ("1e5", "1e5"),
        ("-0", "-0"),
        ("123456789012345678901234567890.10", "123456789012345678901234567890.10"),
        ('"007"', "007"),
        ('"\\u00e9\\ud83e\\udde6"', "é🧦"),
        ("1" * 999, "1" * 999),
    ],
)
def test_ids_stay_as_they_are_written(tmp_path: Path, written: str, text: str) -> None:
    catalogue = read(tmp_path, of_id(written))
    assert catalogue.products["productId"].tolist() == [text]
    assert catalogue.requests["product_id"].tolist() == [text]
    assert outcomes(catalogue) == [""]


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        pytest.param(b'{"productId": "1", "imageUrlStr": ', "failed:bad_json", id="cut"),
        pytest.param(GOOD + b",", "failed:bad_json", id="comma"),
        pytest.param(GOOD + GOOD, "failed:bad_json", id="two"),
        pytest.param(b"null", "failed:bad_json", id="null"),
        pytest.param(b"3", "failed:bad_json", id="number"),
        pytest.param(b'["productId"]', "failed:bad_json", id="list"),
        pytest.param(b"{'productId': 1}", "failed:bad_json", id="single-quotes"),
        pytest.param(b'{"productId": 1, "productId": 2}', "failed:bad_json", id="key-twice"),
        pytest.param(b'{"productId": 1, "x": {"a": 1, "a": 2}}', "failed:bad_json", id="key-in"),
        pytest.param(b'{"productId": Infinity}', "failed:bad_json", id="infinity"),
        pytest.param(b'{"productId": "\\ud800"}', "failed:bad_json", id="half-a-character"),
        pytest.param(b'{"\\udc00": 1, "productId": "1"}', "failed:bad_json", id="half-in-key"),
        pytest.param(b'{"productId": "\xff"}', "failed:bad_json", id="no-utf8"),
        pytest.param(b'{"productId": "\xed\xa0\x80"}', "failed:bad_json", id="utf8-surrogate"),
        pytest.param(b'{"productId": "a\tb"}', "failed:bad_json", id="control"),
        pytest.param(b'{"x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "failed:bad_json", id="deep"),
        pytest.param(b'{"productId": NaN, "imageUrlStr": "a"}', "failed:no_id", id="nan"),
        pytest.param(b'{"productId": null, "imageUrlStr": "a"}', "failed:no_id", id="no-id"),
        pytest.param(b'{"imageUrlStr": "a"}', "failed:no_id", id="no-key"),
        pytest.param(b'{"productId": ["1"], "imageUrlStr": "a"}', "failed:bad_id", id="id-list"),
        pytest.param(b'{"productId": {"a": 1}}', "failed:bad_id", id="id-object"),
        pytest.param(b'{"productId": true, "imageUrlStr": "a"}', "failed:bad_id", id="id-true"),
        pytest.param(b'{"productId": "\\u0000"}', "failed:bad_id", id="nul"),
        pytest.param(b'{"productId": ' + b"1" * 10**6 + b"}", "failed:field_too_long", id="long"),
        pytest.param(b'{"productId": "1"}', "failed:no_url", id="no-address"),
        pytest.param(b'{"productId": "1", "imageUrlStr": []}', "failed:no_url", id="empty-list"),
        pytest.param(b"{}", "skipped:blank_row", id="empty-object"),
        pytest.param(b"", "skipped:blank_row", id="empty-line"),
        pytest.param(b" \t\r", "skipped:blank_row", id="blank-line"),
        pytest.param(b"{" + b" " * MAX_RECORD + b"}", "failed:field_too_long", id="long-line"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_line_costs_itself_alone(tmp_path: Path, line: bytes, outcome: str, first: bool) -> None:
    lines = [line, GOOD] if first else [GOOD, line]
    if first and line.startswith(b"["):
        pytest.skip("a file that begins with [ is an array")
    catalogue = read(tmp_path, b"\n".join(lines) + b"\n")
    found = outcomes(catalogue)
    assert found == ([outcome, ""] if first else ["", outcome])
    good = catalogue.products.iloc[1 if first else 0]
    assert (good["productId"], good["imageUrlStr"]) == ("P9", f"{WEB}9.jpg")
    assert len(catalogue.products) == 2


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a.jpg;b.jpg", ["a.jpg", "b.jpg"]),
        (["a.jpg", "b;c.jpg"], ["a.jpg", "b;c.jpg"]),
        ([{"url": "a.jpg", "width": 3}, {"url": "b.jpg"}], ["a.jpg", "b.jpg"]),
        ({"src": "a.jpg"}, ["a.jpg"]),
        ([None, "a.jpg"], ["a.jpg"]),
    ],
)
def test_addresses_in_any_form(tmp_path: Path, value: object, names: list[str]) -> None:
    line = json.dumps({"productId": 1, "imageUrlStr": value})
    requests = read(tmp_path, line, choice="all").requests
    assert [Path(url).name for url in requests["url"]] == names


def test_nested_values_are_kept_as_they_are_written(tmp_path: Path) -> None:
    odd = '{"productId": 1, "x": {"é": [1.50, 1e3, null, true, "\\""]}, "y": false, "z": 2.0}'
    products = read(tmp_path, odd.replace('"x"', '"imageUrlStr": "a", "x"')).products
    assert products["x"][0] == '{"é": [1.50, 1e3, null, true, "\\""]}'
    assert products[["y", "z"]].iloc[0].tolist() == ["false", "2.0"]


def test_keys_that_come_later_are_columns(tmp_path: Path) -> None:
    lines = [json.dumps({"productId": n, "imageUrlStr": f"{WEB}a.jpg"}) for n in range(5_200)]
    lines[N_HEAD + 1] = json.dumps({"productId": "x", "imageUrlStr": f"{WEB}b.jpg", "late": "1"})
    lines[5_100] = json.dumps({"later": 2, "productId": "y", "imageUrlStr": f"{WEB}b.jpg"})
    catalogue = read(tmp_path, "\n".join(lines))
    assert list(catalogue.products) == ["productId", "imageUrlStr", "late", "later"]
    assert catalogue.products["late"].tolist() == [""] * 1001 + ["1"] + [""] * 4198
    assert catalogue.products["later"].tolist() == [""] * 5100 + ["2"] + [""] * 99
    assert set(outcomes(catalogue)) == {""}


def test_a_key_that_comes_too_late_is_missing(tmp_path: Path) -> None:
    lines = ['{"productId": 1}'] * N_HEAD + [GOOD.decode()]
    with pytest.raises(SourceError, match="no column 'imageUrlStr'"):
        read(tmp_path, "\n".join(lines))
    found = outcomes(read(tmp_path, "\n".join(lines[1:])))
    assert found == ["failed:no_url"] * (N_HEAD - 1) + [""]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("mark", ["", "\ufeff", "\n \n"])
def test_an_array_is_read_as_lines_are(tmp_path: Path, indent: int | None, mark: str) -> None:
    rows = [{"productId": n, "imageUrlStr": [f"{n}.jpg"], "é": '[{]}\\"'} for n in range(300)]
    expected = read(tmp_path, "\n".join(map(json.dumps, rows)))
    found = read(tmp_path, mark + json.dumps(rows, indent=indent, ensure_ascii=False) + "\n")
    assert found.products.equals(expected.products)
    assert found.requests["url"].tolist() == expected.requests["url"].tolist()


def test_an_array_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "_CHUNK", 7)
    rows = [{"productId": "é" * n, "imageUrlStr": "a.jpg"} for n in range(1, 30)]
    text = json.dumps([*rows[:9], 12345, "x", *rows[9:]], indent=1, ensure_ascii=False)
    found = outcomes(read(tmp_path, text))
    assert found == [""] * 9 + ["failed:bad_json"] * 2 + [""] * 20


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" + GOOD, "its array is cut off or broken at element"),
        (b"[" + GOOD + b",", "its array is cut off or broken at element 1"),
        (b"[" + GOOD[:20], "its array is cut off or broken at element 0"),
        (b"[" + GOOD + GOOD + b"]", "its array is cut off or broken at element 1"),
        (b"[" + GOOD + b',{"a" 1}]', "its array is cut off or broken at element 1"),
        (b"[" + GOOD + b"]" + GOOD, "goes on after its array"),
        (b"[" + b"[" * 10**5, "its array is"),
        (b"[]", "is empty"),
        (b"{\n\"productId\": 1\n}", "no column 'imageUrlStr'"),
        (b"hello\n", "no JSON object with a key"),
        (GOOD.decode().encode("utf-16"), "no text in UTF-8"),
        (GOOD.decode().encode("utf-16-le"), "no text in UTF-8"),
        (b"\n\n", "no JSON object"),
        (b'{"products": [{"productId": 1}]}', "is one JSON object.* 'products', and no"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        read(tmp_path, data)
    assert str(tmp_path / "shop.jsonl") in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert outcomes(read(tmp_path, b"\xef\xbb\xbf" + GOOD)) == [""]


def test_too_many_keys_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [json.dumps({"productId": n, "imageUrlStr": "a", f"k{n}": 1}) for n in range(1_500)]
    with pytest.raises(SourceError, match="more than 1,000 keys"):
        read(tmp_path, "\n".join(wide))
    monkeypatch.setattr(json_records, "MAX_ABSENT", 1_000)
    with pytest.raises(SourceError, match="lack 1,000 keys"):
        read(tmp_path, "\n".join(wide[:200]))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
ROWS = st.lists(
    st.tuples(
        st.one_of(TEXT, st.integers()),
        TEXT,
        st.lists(st.text("ab-é.", min_size=1, max_size=6), min_size=1, max_size=3, unique=True),
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("as_array", [False, True], ids=["lines", "array"])
@settings(max_examples=15, deadline=None)
@given(rows=ROWS, is_ascii=st.booleans())
def test_what_json_writes_is_read(
    tmp_path_factory: Any, as_array: bool, rows: list[Any], is_ascii: bool
) -> None:
    objects = [
        {"productId": key, "title": title, "imageUrlStr": [f"{WEB}{name}.jpg" for name in names]}
        for key, title, names in rows
    ]
    if as_array:
        text = json.dumps(objects, ensure_ascii=is_ascii)
    else:
        text = "".join(json.dumps(one, ensure_ascii=is_ascii) + "\n" for one in objects)
    catalogue = read(tmp_path_factory.mktemp("json"), text, choice="all")
    assert catalogue.products["productId"].tolist() == [str(key) for key, _, _ in rows]
    assert catalogue.products["title"].tolist() == [title for _, title, _ in rows]
    for number, one in enumerate(objects):
        of_row = catalogue.requests[catalogue.requests["record"] == number]
        key = str(one["productId"])
        if key.strip() and "\0" not in key:
            assert of_row["url"].tolist() == one["imageUrlStr"]
        else:
            assert of_row["reason"].isin(["no_id", "bad_id"]).all()


def test_objects_over_several_lines_are_read(tmp_path: Path) -> None:
    rows = [{"productId": f"P{n}", "imageUrlStr": [f"{WEB}{n}.jpg"]} for n in range(3)]
    written = "\n".join(json.dumps(row, indent=2) for row in rows)
    for text in (written, f"\n\n{written}\n", written.replace("\n", "\r\n"), f"\ufeff{written}"):
        catalogue = read(tmp_path, text)
        assert catalogue.products["productId"].tolist() == ["P0", "P1", "P2"]
        assert outcomes(catalogue) == ["", "", ""]
    with pytest.raises(SourceError, match=r"objects are cut off or broken at element 2"):
        read(tmp_path, written[:-5])
    with pytest.raises(SourceError, match=r"objects are cut off or broken at element 1"):
        read(tmp_path, written.replace('"P1"', "P1"))


ONE = [
    {"products": [{"productId": "P1", "imageUrlStr": "1.jpg"}]},
    {"productId": {"0": "P1"}, "imageUrlStr": {"0": "1.jpg"}},
    {"productId": ["P1", "P2"], "imageUrlStr": ["1.jpg", "2.jpg"]},
    {"columns": ["productId", "imageUrlStr"], "index": [0], "data": [["P1", "1.jpg"]]},
]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("found", ONE)
def test_one_object_is_no_list_of_products(
    tmp_path: Path, found: dict[str, Any], indent: int | None
) -> None:
    with pytest.raises(SourceError, match=r"is one JSON object, with the keys .*one object on a"):
        read(tmp_path, json.dumps(found, indent=indent))
