"""What is sent back to a server, and what is not, by the rules of RFC 9110."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.download.validators import UNKNOWN, Validators

URL = "https://shop.example/a.jpg?key=secret"
DATE = "Mon, 30 Nov 2026 12:00:00 GMT"
OLD, JUST_NOW = "Mon, 30 Nov 2026 11:58:59 GMT", "Mon, 30 Nov 2026 11:59:30 GMT"

HEADERS = {
    "strong": ({"ETag": '"abc"'}, {"If-None-Match": '"abc"'}),
    "weak": ({"ETag": 'W/"abc"'}, {"If-None-Match": 'W/"abc"'}),
    "empty_tag": ({"ETag": '""'}, {"If-None-Match": '""'}),
    "any_tag": ({"ETag": "*"}, {}),
    "without_quotes": ({"ETag": "abc"}, {}),
    "several": ({"ETag": '"a", "b"'}, {}),
    "quote_inside": ({"ETag": '"a"b"'}, {}),
    "not_ascii": ({"ETag": '"é"'}, {}),
    "too_long": ({"ETag": f'"{"a" * 300}"'}, {}),
    "lower_case_w": ({"ETag": 'w/"abc"'}, {}),
    "date": ({"Last-Modified": OLD, "Date": DATE}, {"If-Modified-Since": OLD}),
    "date_of_now": ({"Last-Modified": JUST_NOW, "Date": DATE}, {}),
    "date_to_come": ({"Last-Modified": "Tue, 01 Dec 2026 12:00:00 GMT", "Date": DATE}, {}),
    "no_date_of_the_answer": ({"Last-Modified": OLD}, {}),
    "no_date": ({"Last-Modified": "yesterday", "Date": DATE}, {}),
    "impossible": ({"Last-Modified": "Mon, 99 Nov 2026 12:00:00 GMT", "Date": DATE}, {}),
    "both": (
        {"ETag": '"abc"', "Last-Modified": OLD, "Date": DATE},
        {"If-None-Match": '"abc"', "If-Modified-Since": OLD},
    ),
    "none": ({}, {}),
}


@pytest.mark.parametrize(("headers", "sent"), HEADERS.values(), ids=HEADERS)
def test_headers_become_conditions(headers: dict[str, str], sent: dict[str, str]) -> None:
    assert Validators.of(headers, URL).conditions(URL) == sent


def test_they_are_for_the_address_that_sent_them() -> None:
    validators = Validators.of({"ETag": '"abc"'}, URL)
    assert validators.conditions(URL)
    assert validators.conditions("https://shop.example/b.jpg") == {}
    assert validators.conditions(f"{URL}2") == {}
    assert UNKNOWN.conditions(URL) == {}
    assert "secret" not in repr(validators)


def test_an_answer_304_may_bring_newer_ones() -> None:
    before = Validators.of({"ETag": '"a"', "Last-Modified": OLD, "Date": DATE}, URL)
    assert before.renewed({"ETag": '"b"'}, URL).conditions(URL) == {
        "If-None-Match": '"b"',
        "If-Modified-Since": OLD,
    }
    assert before.renewed({}, URL) == before


@given(st.text(string.printable, max_size=20))
def test_no_tag_breaks_a_header_or_fits_any_image(text: str) -> None:
    for sent in Validators.of({"ETag": text}, URL).conditions(URL).values():
        inner = sent.removeprefix("W/")
        assert len(inner) >= 2
        assert inner[0] == inner[-1] == '"'
        assert not set(inner[1:-1]) & set('" \t\r\n\x0b\x0c')
