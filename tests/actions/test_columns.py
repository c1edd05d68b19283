"""Columns of products that are to be merged: GTINs, differences, and what the kept one gains."""

import unicodedata

import pandas as pd
import pytest

from dedup.actions.columns import Cells, compared_columns, read_rules
from dedup.actions.gtin import is_gtin_column, read_gtin
from dedup.errors import ConfigError


@pytest.mark.parametrize(
    ("cell", "gtin"),
    [
        ("4006381333931", "04006381333931"),  # EAN-13, GS1's own example of a pen
        ("0036000291452", "00036000291452"),  # UPC-A with a zero before it
        ("036000291452", "00036000291452"),
        ("96385074", "00000096385074"),  # EAN-8
        ("10614141000415", "10614141000415"),  # GTIN-14
        ("978-0-306-40615-7", "09780306406157"),  # ISBN-13
        ("4006381 333931", "04006381333931"),
        ("4006381333932", ""),  # wrong check digit
        ("400638133393", ""),
        ("00000000", ""),
        ("4.006381333931E+12", ""),
        ("n/a", ""),
        ("", ""),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", ""),
    ],
)
def test_gtins(cell: str, gtin: str) -> None:
    assert read_gtin(cell) == gtin


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("gtin", True), ("GTIN-13", True), ("ean_code", True), ("Variant Barcode", True),
     ("upc", True), ("isbn13", True), ("ocean", False), ("meaning", False), ("brand", False),
     ("barcodes", False)],
)  # fmt: skip
def test_columns_of_gtins(name: str, is_one: bool) -> None:
    assert is_gtin_column(name) == is_one


def table(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"id": list("ABCDEFG"[:n]), **columns})


def cells(products: pd.DataFrame, *rules: str) -> Cells:
    chosen = read_rules(list(rules) or "auto", list(products.columns))
    return Cells(products, "id", chosen, ["image_link"])


DIFFER = [
    ("brand", "Acme", "Acne", "blocks"),
    ("brand", "Acme", " \uff21\uff23\uff2d\uff25 ", ""),
    ("brand", "Acme", "", ""),
    ("brand", "Straße", "STRASSE", ""),
    ("Vendor", "A", "B", "blocks"),
    ("size", "10 cm", "10cm", ""),
    ("size", "XL", "xl", ""),
    ("size", "S", "M", "flags"),
    ("Colour", "red", "blue", "flags"),
    ("price", "10.00", "10.99", ""),
    ("price", "10.00", "11.01", "flags"),
    ("price", "10,00 €", "€ 10.50", ""),
    ("price", "1.299,00 EUR", "1.199,00 EUR", ""),
    ("price", "12.99 EUR", "12.99 USD", "flags"),
    ("price", "0", "5", "flags"),
    ("price", "0", "0.00", ""),
    ("price", "ask", "ASK", ""),
    ("sale_price", "10", "20", "flags"),
    ("gtin", "4006381333931", "036000291452", "blocks"),
    ("gtin", "036000291452", "0036000291452", ""),
    ("gtin", "4006381333931", "n/a", ""),
    ("gtin", "4006381333931", "0", ""),
    ("gtin", "4006381333931", "4006381333932", "blocks"),
    ("gtin", "123", "124", "blocks"),
    ("title", "A shoe", "A hat", ""),
]


@pytest.mark.parametrize(("column", "one", "other", "weight"), DIFFER)
def test_differences(column: str, one: str, other: str, weight: str) -> None:
    found = list(cells(table(**{column: [one, other]})).conflicts(["A", "B"]))
    assert [each.weight for each in found] == ([weight] if weight else [])
    for each in found:
        assert (each.column, each.products) == (column, ("A", "B"))
        assert each.values == (one.strip(), other.strip())


def test_valid_gtins_that_differ_block_whatever_the_rule() -> None:
    own = cells(table(ean=["4006381333931", "036000291452"]), "keep:ean")
    assert [each.weight for each in own.conflicts(["A", "B"])] == ["blocks"]
    own = cells(table(ean=["123", "124"]), "keep:ean")
    assert not list(own.conflicts(["A", "B"]))


def test_a_product_on_several_rows_has_all_their_cells() -> None:
    rows = table(size=["S", "M", "M"]).assign(id=["A", "A", "B"])
    assert not list(cells(rows).conflicts(["A", "B"]))
    rows = table(size=["S", "M", "L"]).assign(id=["A", "A", "B"])
    (found,) = cells(rows).conflicts(["A", "B"])
    assert found.values == ("S | M", "L")


GAINS = [
    ("fill:title", ["", "", "a hat"], "a hat", "C"),
    ("fill:title", ["a shoe", "", "a hat"], None, ""),
    ("fill:title", ["", "", ""], None, ""),
    ("highest:stock", ["3", "12", "7"], "12", "B"),
    ("highest:stock", ["12", "3", "7"], None, ""),
    ("lowest:price", ["5.00 EUR", "4.00 USD", "4.50 EUR"], "4.50 EUR", "C"),
    ("lowest:price", ["", "4.00 EUR", "3.00 EUR"], "3.00 EUR", "C"),
    ("lowest:price", ["on request", "4", "3"], None, ""),
    ("union:tags", ["a, b", "B, c", "d"], "a, b, c, d", "B C"),
    ("union:tags", ["a, b", "b", "A"], None, ""),
    ("union:tags", ["", "b", ""], "b", "B"),
    ("union:tags", ["x|y, z", "w", ""], "x|y, z|w", "B"),
    ("union:image_link", ["h.example/w_3,h_4/1.jpg", "https://h.example/2.jpg", ""],
     "h.example/w_3,h_4/1.jpg, https://h.example/2.jpg", "B"),
    ("keep:title", ["", "x", "y"], None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "column", "new", "source"), GAINS)
def test_what_the_kept_product_gains(
    rule: str, column: list[str], new: str | None, source: str
) -> None:
    name = rule.partition(":")[2]
    found = list(cells(table(**{name: column}), rule).changes("A", ["B", "C"]))
    assert [tuple(each) for each in found] == (
        [] if new is None else [("A", name, column[0], new, source)]
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["equals:brand"], "there is no rule equals:brand, write RULE:COLUMN with one of equal,"),
        (["union"], "there is no rule union"),
        (["union:brnd"], "the table has no column brnd, did you mean brand?"),
    ],
)
def test_rules_that_do_not_exist(rules: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_rules(rules, ["id", "brand"])
    assert message in str(caught.value)


def test_rules_by_the_names_of_columns() -> None:
    names = ["id", "Brand", "Price", "Size", "colour", "GTIN", "title", "Variant Price"]
    usual = {"Brand": "equal", "Price": "flag", "Size": "flag", "colour": "flag", "GTIN": "equal",
             "Variant Price": "flag"}  # fmt: skip
    assert read_rules("auto", names) == usual
    assert read_rules(["fill:title", "keep:Size"], names) == (
        {key: rule for key, rule in usual.items() if key != "Size"} | {"title": "fill"}
    )


def test_names_of_columns_in_other_languages_and_in_one_word() -> None:
    brands = ["Marke", "Hersteller", "marque", "Marca", "merk", "productBrand"]
    flagged = ["Preis", "Prix", "precio", "Prezzo", "sellingPrice", "Größe", "GROESSE", "Taille",
               "Farbe", "Couleur", "kleur", unicodedata.normalize("NFD", " größe ")]  # fmt: skip
    names = ["Artikelnr", *brands, *flagged, "Einkaufspreis netto", "Preisgruppe", "Markenwelt"]
    usual = dict.fromkeys(brands, "equal") | dict.fromkeys(flagged, "flag")
    assert read_rules("auto", names) == usual
    assert compared_columns(usual, [*names, "EAN"]) == {**usual, "EAN": "equal"}
    assert compared_columns({"Preis": "keep"}, ["Artikelnr", "Preis"]) == {}


def test_a_price_in_another_language_is_compared_as_an_amount() -> None:
    rows = table(Preis=["35,92 €", "36,40 €", "81,11 €"])
    own = Cells(rows, "id", read_rules("auto", list(rows.columns)))
    assert list(own.conflicts(["A", "B"])) == []
    assert [each.values for each in own.conflicts(["A", "C"])] == [("35,92 €", "81,11 €")]
