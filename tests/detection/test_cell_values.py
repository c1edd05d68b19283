"""Numbers and truths as tables of many countries have them."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.detection.cell_values import numbers_of, truths_of
from tests.support.effort import examples

NAN = float("nan")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        pytest.param(["1.299,00", "999,00", "12,5"], [1299, 999, 12.5], id="german"),
        pytest.param(["1,299.00", "999.00", "12.5"], [1299, 999, 12.5], id="english"),
        pytest.param(["1 299,00", "999,00"], [1299, 999], id="french"),
        pytest.param(["1\u202f299,00 €", "999,00 €"], [1299, 999], id="french narrow blank"),
        pytest.param(["1'299.00", "999.00"], [1299, 999], id="swiss"),
        pytest.param(["1,00,000", "99,999.50"], [100000, 99999.5], id="indian"),
        pytest.param(["1.299", "999,5"], [1299, 999.5], id="another cell tells"),
        pytest.param(["1.299", "999.5"], [1.299, 999.5], id="another cell tells the other way"),
        pytest.param(["1,299", "999"], [1299, 999], id="nothing tells, comma"),
        pytest.param(["1.299", "999"], [1.299, 999], id="nothing tells, point"),
        pytest.param(["1.299.000", "3,5"], [1299000, 3.5], id="thousands twice"),
        pytest.param(["1.299.000", "3"], [1299000, 3], id="thousands twice and alone"),
        pytest.param(["€5", "$4", "€ 3"], [5, NAN, 3], id="two currencies"),
        pytest.param(["12.99 EUR", "9 EUR", "7"], [12.99, 9, 7], id="google"),
        pytest.param(["EUR 12,99", "9"], [12.99, 9], id="currency before"),
        pytest.param(["249,00 zł", "1 249,00 zł"], [249, 1249], id="polish"),
        pytest.param(["-3,5", "+2,25"], [-3.5, 2.25], id="signs"),
        pytest.param(["1e3", "2,5"], [1000, 2.5], id="exponent"),
        pytest.param(["12 13", "5"], [NAN, 5], id="two numbers"),
        pytest.param(["01.12.2023", "2023.12.31", "2024-01-02"], [NAN] * 3, id="dates"),
        pytest.param(["1.2.3", "10.0.0.1"], [NAN] * 2, id="versions"),
        pytest.param(["ten", "", "-", "€", ",", "5 for 4"], [NAN] * 6, id="no numbers"),
        pytest.param(["12kg", "3"], [NAN, 3], id="a unit of measure"),
        pytest.param(["1,5", "2,5", "1.299.5"], [1.5, 2.5, NAN], id="contradiction"),
    ],
)
def test_numbers(cells: list[str], expected: list[float]) -> None:
    found = numbers_of(pd.Series(cells), "price").to_numpy(float)
    np.testing.assert_array_equal(found, expected)


def test_whole_numbers_are_exact() -> None:
    cells = pd.Series(["9007199254740993", "9007199254740992"])
    assert numbers_of(cells, "x").tolist() == [9007199254740993, 9007199254740992]


def test_a_decimal_comma_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dedup")
    numbers_of(pd.Series(["9", "1.299,00"]), "Preis")
    assert "column Preis have a decimal comma, such as '1.299,00'" in caplog.text


@settings(max_examples=examples(100), deadline=None)
@given(
    values=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8),
    signs=st.sampled_from([",.", ".,", " ,", "'.", "\u00a0,"]),
)
def test_what_is_written_with_two_decimals_is_read(values: list[int], signs: str) -> None:
    texts = [
        f"{value / 100:,.2f}".replace(",", "T").replace(".", signs[1]).replace("T", signs[0])
        for value in values
    ]
    expected = [float(f"{value / 100:.2f}") for value in values]
    assert numbers_of(pd.Series(texts), "x").tolist() == expected


@pytest.mark.parametrize("cell", ["ja", "Ja", "YES", "oui", "sí", "instock", "In Stock", "17", "1"])
def test_yes(cell: str) -> None:
    assert truths_of(pd.Series([cell]), "x").all()


@pytest.mark.parametrize("cell", ["nein", "No", "", "0", "-2", "outofstock", "Out of Stock", "non"])
def test_no(cell: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not truths_of(pd.Series([cell]), "x").any()
    assert not caplog.text


def test_neither_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert truths_of(pd.Series(["ja", "vielleicht", "perhaps"]), "da").tolist() == [
        True,
        False,
        False,
    ]
    assert (
        "2 of 3 cells in the column da say neither yes nor no, such as 'vielleicht'" in caplog.text
    )
