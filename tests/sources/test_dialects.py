"""Tables as Excel, databases and shops' tools write them, each with the rows that it means."""

import csv
import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dedup.errors import ConfigError, SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import CsvSource
from tests.support.effort import examples

HEADER = "productId,title,imageUrlStr"
ROWS = [["P1", "Hat", "a.jpg"], ["P2", "Größe 5", "b.jpg"]]
PLAIN = f"{HEADER}\nP1,Hat,a.jpg\nP2,Größe 5,b.jpg\n"
SEMICOLONS = PLAIN.replace(",", ";")
STRAY_QUOTES = (
    'productId\ttitle\timageUrlStr\n1\t"Slim cut\ta.jpg\n2\tCap\tb.jpg\n3\tTV 42"\tc.jpg\n'
    "4\tx\td.jpg\n"
)
"""Three records or one, by what the quotes are."""
ASCII = PLAIN.replace("Größe 5", "Size 5")


def load(folder: Path, data: str | bytes, **chosen: Any) -> Catalogue:
    """The catalogue of a file with these bytes; text is UTF-8."""
    path = folder / "shop.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return CsvSource(str(path), **chosen).read()


def rows(catalogue: Catalogue) -> list[list[str]]:
    """Id, title and file name of each record, as far as it can be used."""
    names = [catalogue.id_column, catalogue.title_column, catalogue.url_column]
    cells = catalogue.products[names].to_numpy().tolist()  # type: ignore[index]
    reasons = catalogue.requests.drop_duplicates("record")["reason"]
    return [row for row, reason in zip(cells, reasons, strict=True) if not reason]


DIALECTS: dict[str, tuple[str | bytes, list[list[str]], str]] = {
    "plain": (PLAIN, ROWS, ""),
    "semicolons": (SEMICOLONS, ROWS, "semicolon"),
    "tabs": (PLAIN.replace(",", "\t"), ROWS, "tab"),
    "pipes": (PLAIN.replace(",", "|"), ROWS, "pipe"),
    "semicolons_in_quotes": (
        'productId;title;imageUrlStr\r\n"P;1";"Hat; ""blue""";"a.jpg;b.jpg"\r\n',
        [["P;1", 'Hat; "blue"', "a.jpg;b.jpg"]],
        "semicolon",
    ),
    "decimal_commas": (
        "productId;title;price;imageUrlStr\nP1;Hat;1,50;a.jpg\nP2;Cap;2,00;b.jpg\n",
        [["P1", "Hat", "a.jpg"], ["P2", "Cap", "b.jpg"]],
        "semicolon",
    ),
    "commas_in_a_header_of_tabs": (
        "productId\ttitle\tprice, net\timageUrlStr\nP1\tHat, blue\t1\ta.jpg\n",
        [["P1", "Hat, blue", "a.jpg"]],
        "tab",
    ),
    "more_semicolons_than_commas": (
        f"{HEADER}\nP1,Hat;a;b;c;d,a.jpg;b.jpg;c.jpg\n",
        [["P1", "Hat;a;b;c;d", "a.jpg;b.jpg;c.jpg"]],
        "",
    ),
    "sep": (f"sep=,\n{PLAIN}", ROWS, "header:2"),
    "sep_of_semicolons": (f"sep=;\r\n{SEMICOLONS}", ROWS, "[semicolon,header:2]"),
    "sep_in_quotes": (f'"SEP=;"\n{SEMICOLONS}', ROWS, "[semicolon,header:2]"),
    "sep_of_an_odd_sign": (f"sep=^\n{PLAIN.replace(',', '^')}", ROWS, "[^,header:2]"),
    "sep_with_fields": (f"sep=;;;\n{SEMICOLONS}", ROWS, "[semicolon,header:2]"),
    "a_line_above": (f"Export of 2024-05-01\n\n{PLAIN}", ROWS, "header:3"),
    "fields_above": (f"Shop,Acme,,,\nDate,2024-05-01,,,\n{PLAIN}", ROWS, "header:3"),
    "a_quote_above": (f'The "best shop, of all\n{SEMICOLONS}', ROWS, "[semicolon,header:2]"),
    "a_broken_quote_above": (f'"Best" shop\n{PLAIN}', ROWS, "header:2"),
    "blank_lines_above": (f"\n\n{PLAIN}", ROWS, ""),
    "commas_above": (f",,,,\n{PLAIN}", ROWS, "header:2"),
    "blanks": (PLAIN.replace(",", ", "), ROWS, "blanks"),
    "blanks_before_quotes": (
        'productId, title, imageUrlStr\nP1, "Hat, blue", "a.jpg"\n',
        [["P1", "Hat, blue", "a.jpg"]],
        "blanks",
    ),
    "blanks_before_quoted_names": (
        '"productId", "title", "imageUrlStr"\n"P1", "Hat", "a.jpg"\n',
        [["P1", "Hat", "a.jpg"]],
        "blanks",
    ),
    "blanks_round_one_name": (PLAIN.replace("title", " title "), ROWS, ""),
    "a_name_in_blanks": (PLAIN.replace(",imageUrlStr", ",imageUrlStr  "), ROWS, ""),
    "blanks_in_cells_stay": (
        f"{HEADER}\n P1 , Hat ,a.jpg\n", [[" P1 ", " Hat ", "a.jpg"]], "",
    ),
    "commas_at_ends_of_rows": (PLAIN.replace("g\n", "g,\n"), ROWS, ""),
    "three_commas_at_ends_of_rows": (PLAIN.replace("g\n", "g,,,\n"), ROWS, ""),
    "commas_at_all_ends": (PLAIN.replace("\n", ",\n"), ROWS, ""),
    "empty_columns": (PLAIN.replace("\n", ",,\n"), ROWS, ""),
    "commas_at_the_end_of_the_header": (PLAIN.replace("Str\n", "Str,,\n"), ROWS, ""),
    "an_empty_name_first": (
        ",productId,title,imageUrlStr\n0,P1,Hat,a.jpg\n", [["P1", "Hat", "a.jpg"]], "",
    ),
    "two_of_a_name": (
        "productId,title,image,image,imageUrlStr\nP1,Hat,x,y,a.jpg\n",
        [["P1", "Hat", "a.jpg"]],
        "",
    ),
    "two_titles": ("productId,title,imageUrlStr,title\nP1,Hat,a.jpg,x\n",
                   [["P1", "Hat", "a.jpg"]], ""),
    "a_line_break_in_a_name": (
        '"Name\nof it";productId;title;imageUrlStr\nx;P1;Hat;a.jpg\n',
        [["P1", "Hat", "a.jpg"]],
        "semicolon",
    ),
    "backslashes": (
        f'{HEADER}\nP1,"Shirt \\"M\\"",a.jpg\nP2,"a ""b""",b.jpg\n',
        [["P1", 'Shirt "M"', "a.jpg"], ["P2", 'a "b"', "b.jpg"]],
        "backslash",
    ),
    "mysql": (
        '"productId"\t"title"\t"imageUrlStr"\n"P1"\t"a\\\\ \\"b\\"\\\nc"\t"a.jpg"\n'
        '"P2"\t\\N\t"b.jpg"\n',
        [["P1", 'a\\ "b"\nc', "a.jpg"], ["P2", "", "b.jpg"]],
        "[tab,backslash]",
    ),
    "mysql_without_quotes": (
        f"{HEADER}\nP1,Hat\\, blue,a.jpg\nP2,Cap,b.jpg\n",
        [["P1", "Hat, blue", "a.jpg"], ["P2", "Cap", "b.jpg"]],
        "backslash",
    ),
    "php": (
        f'{HEADER}\nP1,"say \\"hi\\" in C:\\temp","a.jpg"\nP2,Cap,"b.jpg"\n',
        [["P1", 'say "hi" in C:\\temp', "a.jpg"], ["P2", "Cap", "b.jpg"]],
        "backslash",
    ),
    "backslashes_that_escape_nothing": (
        f'{HEADER}\nP1,"C:\\",a.jpg\nP\\2,\\n,b.jpg\n',
        [["P1", "C:\\", "a.jpg"], ["P\\2", "\\n", "b.jpg"]],
        "",
    ),
    "quotes_of_a_merchant_feed": (
        'productId\ttitle\timageUrlStr\nP1\t"Best" shirt\ta.jpg\nP2\t17" screen\tb.jpg\n',
        [["P1", '"Best" shirt', "a.jpg"], ["P2", '17" screen', "b.jpg"]],
        "[tab,unquoted]",
    ),
    "single_quotes": (
        "'productId';'title';'imageUrlStr'\n'P1';'Hat; ''blue''';'a.jpg'\n",
        [["P1", "Hat; 'blue'", "a.jpg"]],
        "[semicolon,single]",
    ),
    "old_macintosh": (SEMICOLONS.replace("\n", "\r"), ROWS, "semicolon"),
    "no_line_end": (SEMICOLONS.strip(), ROWS, "semicolon"),
}  # fmt: skip
"""Tables, their rows, and the words that ask for their dialect."""

ENCODINGS: dict[str, tuple[bytes, str]] = {
    "utf_8": (PLAIN.encode(), ""),
    "utf_8_with_a_mark": (PLAIN.encode("utf-8-sig"), ""),
    "utf_16": (PLAIN.encode("utf-16"), "utf-16"),
    "utf_16_of_excel": (b"\xff\xfe" + PLAIN.replace(",", "\t").encode("utf-16-le"), "utf-16"),
    "utf_16_big": (b"\xfe\xff" + PLAIN.encode("utf-16-be"), "utf-16"),
    "utf_16_little_without_a_mark": (PLAIN.encode("utf-16-le"), "utf-16-le"),
    "utf_16_big_without_a_mark": (PLAIN.encode("utf-16-be"), "utf-16-be"),
    "utf_32": (PLAIN.encode("utf-32"), "utf-32"),
    "cp1252": (PLAIN.encode("cp1252"), "cp1252"),
    "cp1252_and_semicolons": (SEMICOLONS.encode("cp1252"), "cp1252"),
    "cp1252_far_below": (
        (ASCII + "P3,Hat,c.jpg\n" * 40_000).encode() + "P4,Größe,d.jpg\n".encode("cp1252"),
        "cp1252",
    ),
    "ascii": (ASCII.encode(), ""),
}
"""Tables, and the encoding that is said."""


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_found_and_said(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, expected, words = DIALECTS[name]
    with caplog.at_level(logging.INFO, logger="dedup"):
        assert rows(load(tmp_path, data)) == expected
    messages = [one.getMessage() for one in caplog.records if "is read" in one.getMessage()]
    assert len(messages) == bool(words or name in SAID)
    if words:
        assert f"source.dialect={words} says so" in messages[0]
        listed = words.strip("[]").split(",")
        assert rows(load(tmp_path, data, dialect=listed)) == expected


SAID = ("commas_at_ends_of_rows", "three_commas_at_ends_of_rows", "empty_columns", "two_of_a_name",
        "two_titles", "commas_at_the_end_of_the_header")  # fmt: skip


@pytest.mark.parametrize("name", ENCODINGS)
def test_an_encoding_is_found_and_said(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, encoding = ENCODINGS[name]
    with caplog.at_level(logging.INFO, logger="dedup"):
        found = rows(load(tmp_path, data))
    assert [row[0] for row in found[:2]] == ["P1", "P2"]
    assert found[1][1] in ("Größe 5", "Size 5")
    assert name != "cp1252_far_below" or found[-1] == ["P4", "Größe", "d.jpg"]
    said = [one.getMessage() for one in caplog.records]
    assert [f"source.encoding={encoding} says so" in text for text in said] == [True] * len(said)
    assert len(said) == bool(encoding)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("productId;imageUrlStr;x\tproductId\timageUrlStr\n" * 2,
            r"line 1 names the columns in two ways.*=semicolon or source.dialect=tab"),
        ((PLAIN + "P3,Gr\xf6\xdfe,c.jpg\n").encode("latin-1") + "P4,ö,d.jpg\n".encode(),
         r"line 5 is UTF-8 and other lines are not"),
        (PLAIN.encode() + b"P3,\xfc,c.jpg\n", r"byte 63 is not utf-8 \(line 4\): set source.enc"),
        (PLAIN.encode("utf-8-sig") + b"P3,\xfc,c.jpg\n", r"byte 66 is not utf-8 \(line 4\)"),
        (PLAIN.encode("cp1252") + b"P3,\x81,c.jpg\n", r"byte \d+ is not cp1252 \(line 4\)"),
        (f'{HEADER}\nP1,"\\"M\\"",a.jpg\n' + "P,t,p.jpg\n" * 30_000
            + "P\\2,b,b.jpg\nP\\\\2,c,c.jpg\n",
         r"line 30004 has two backslashes.* line 30003 has one.*source\.dialect=backslash"),
        ('productId\ttitle\timageUrlStr\nP1\t"Best" x\ta.jpg\n' + "P2\tb\tb.jpg\n" * 30_000
         + '"P3"\tc\tc.jpg\n', r"on line 30003 field 1 stands in quotes.*\[tab,unquoted\]"),
        ('"productId","title","imageUrlStr"\n"A\\\\B","5\\" hat","i0.png"\n',
         r"id on line 2 has a backslash .*=backslash, or source.dialect=doubled if"),
        ('productId\ttitle\timageUrlStr\n"A\\\\B"\t"5\\" hat"\t"i0.png"\n',
         r"=\[tab,backslash\], or source.dialect=\[tab,doubled\] if"),
        (STRAY_QUOTES, r"lines 2 to 4 are one record if .*=\[tab,doubled\] or .*=\[tab,unquoted\]"),
        ("productId\ttitle\timageUrlStr\n" + "P\tt\tp.jpg\n" * 30_000 + STRAY_QUOTES[29:],
         r"lines 30002 to 30004 are one record if "),
        ('"productId","size \\"in\\"","imageUrlStr"\n"P1","5 \\"","a.jpg"\n',
         r"header's quotes are broken: correct its line, or set source.dialect=backslash"),
        (b"productId,imageUrlStr\nP1,\xff\0\0\0", r"is no text"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", r"is an image and no table"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"is an Excel file"),
        (b"PAR1\x15\x04", r"is a Parquet file"),
        (f"sep=;\n{PLAIN}", r"no column 'productId' and no column 'imageUrlStr'"),
        ("Export\nof;a;shop\nid;name;photo\n1;2;3\n", r"columns, 'of', 'a', 'shop'"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_not_read(
    data: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        load(tmp_path, data)
    assert str(tmp_path / "shop.csv") in str(caught.value)


def test_what_contradicts_a_guess_is_read_where_it_is_set(tmp_path: Path) -> None:
    mixed = PLAIN.encode("cp1252") + "P4,ö,d.jpg\n".encode()
    assert rows(load(tmp_path, mixed, encoding="cp1252"))[2] == ["P4", "Ã¶", "d.jpg"]
    slashes = f'{HEADER}\nP1,"\\"M\\"",a.jpg\nP\\2,b,b.jpg\nP\\\\3,c,c.jpg\n'
    ids = [row[0] for row in rows(load(tmp_path, slashes, dialect="backslash"))]
    assert ids == ["P1", "P\\2", "P\\3"]
    quoted = 'productId\ttitle\timageUrlStr\nP1\t"Best" x\ta.jpg\n"P3"\tc\tc.jpg\n'
    ids = [row[0] for row in rows(load(tmp_path, quoted, dialect=["tab", "unquoted"]))]
    assert ids == ["P1", '"P3"']
    assert [row[0] for row in rows(load(tmp_path, quoted))] == ["P3"]  # P1 has bad quotes


@pytest.mark.parametrize(
    ("dialect", "ids"),
    [(["tab", "unquoted"], ["1", "2", "3", "4"]), (["tab", "doubled"], ["1", "4"])],
)
def test_what_quotes_are_is_told(tmp_path: Path, dialect: list[str], ids: list[str]) -> None:
    assert [row[0] for row in rows(load(tmp_path, STRAY_QUOTES, dialect=dialect))] == ids


def test_a_line_break_in_a_quoted_field_of_a_table_with_tabs_is_one(tmp_path: Path) -> None:
    data = 'productId\ttitle\timageUrlStr\n1\t"Slim\ncut"\ta.jpg\n'
    assert rows(load(tmp_path, data)) == [["1", "Slim\ncut", "a.jpg"]]


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_header_may_be_longer_than_what_is_looked_at(tmp_path: Path, sign: str) -> None:
    names = [f"attribute_of_the_product_{number}" for number in range(9_900)]
    header = sign.join(["productId", "title", "imageUrlStr", *names])
    found = load(tmp_path, f"{header}\n{sign.join(['P1', 'Hat', 'a.jpg', *[''] * 9_900])}\n")
    assert rows(found) == [["P1", "Hat", "a.jpg"]]


def test_a_word_sets_one_thing_and_the_others_are_found(tmp_path: Path) -> None:
    assert rows(load(tmp_path, SEMICOLONS, dialect="semicolon")) == ROWS
    assert rows(load(tmp_path, f"x\n{SEMICOLONS}", dialect="header:2")) == ROWS
    assert rows(load(tmp_path, SEMICOLONS, dialect=";")) == ROWS
    with pytest.raises(SourceError, match="no column 'productId'"):
        load(tmp_path, SEMICOLONS, dialect="comma")
    with pytest.raises(SourceError, match="is empty"):
        load(tmp_path, SEMICOLONS, dialect="header:9")


@pytest.mark.parametrize(
    "words",
    ["semicolons", ["tab", "comma"], "header:0", "header:x", "a", "\\", '"', "", ["tab", ""]],
)
def test_words_that_mean_nothing(words: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.dialect="):
        load(tmp_path, PLAIN, dialect=words)


def test_rows_beside_the_guess_are_as_they_were(tmp_path: Path) -> None:
    catalogue = load(tmp_path, f"{ASCII}P3,Hat, blue,c.jpg\nP4,Hat,d.jpg,\nP5,Hat\n")
    assert catalogue.requests["reason"].tolist() == ["", "", *["bad_field_count"] * 3]
    surplus = ASCII.replace("g\n", "g,\n")
    catalogue = load(tmp_path, f"{surplus}P3,Hat,c.jpg,\n")
    assert catalogue.requests["reason"].tolist() == [""] * 3
    head = surplus + "P3,Hat,c.jpg,\n" * 30_000
    catalogue = load(tmp_path, f"{head}P4,Hat, blue,d.jpg\nP5,Hat, blue,e.jpg,\nP6,f,f.jpg\n")
    assert catalogue.requests["reason"].tolist()[-3:] == ["bad_field_count"] * 2 + [""]
    assert list(catalogue.products) == HEADER.split(",")


def test_a_setting_with_a_blank_is_taken_as_it_was(tmp_path: Path) -> None:
    spaced = PLAIN.replace(",", ", ")
    names = {"url_column": " imageUrlStr", "title_column": " title"}
    catalogue = load(tmp_path, spaced, **names)
    assert list(catalogue.products) == ["productId", " title", " imageUrlStr"]
    assert rows(catalogue)[0] == ["P1", " Hat", " a.jpg"]


@pytest.mark.parametrize("first", ["sep=a", 'sep="', "sep=", "sep=\\", "sep= "])
def test_a_first_line_that_names_no_delimiter(first: str, tmp_path: Path) -> None:
    assert rows(load(tmp_path, f"{first}\n{PLAIN}")) == ROWS


def test_columns_without_names_of_their_own_get_them(tmp_path: Path) -> None:
    catalogue = load(tmp_path, f"{HEADER},,x,x,,x\nP1,t,a.jpg,1,2,3,4,5\n")
    assert list(catalogue.products)[3:] == ["column 4", "x", "x_2", "column 7", "x_3"]
    assert catalogue.products.iloc[0].tolist()[3:] == ["1", "2", "3", "4", "5"]
    twice = "id,title,link,link\nP1,t,a.jpg,b.jpg\n"
    chosen = {"id_column": "id", "url_column": "link", "choice": "all"}
    catalogue = load(tmp_path, twice, **chosen)
    assert catalogue.url_column == ["link", "link_2"]
    again = load(tmp_path, twice, **{**chosen, "url_column": catalogue.url_column})
    assert len(again.requests) == len(catalogue.requests) == 2


def test_a_failure_list_is_read_as_its_table_was(tmp_path: Path) -> None:
    catalogue = load(tmp_path, f"x\nproductId;title;image;image;imageUrlStr\n{'P1;t;x;y;a.jpg'}\n")
    again = catalogue.products.to_csv(index=False)
    assert load(tmp_path, again).products.equals(catalogue.products)


cell = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
ids = st.text("abc01-;,|\t\"'\\ é\n", min_size=1, max_size=6).filter(lambda text: text.strip())
names = st.text("abc01-é ", min_size=1, max_size=6).map(lambda text: f"{text.strip() or 'x'}.jpg")
MANY = settings(max_examples=examples(150), deadline=None)
WAYS = st.fixed_dictionaries({
    "delimiter": st.sampled_from(",;\t|"),
    "quoting": st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
})  # fmt: skip
TABLE = st.lists(st.tuples(ids, cell, names), min_size=1, max_size=6)
WORD = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}


def write(table: list[tuple[str, ...]], **way: Any) -> str:
    """A table as Python's csv writes it."""
    csv.writer(file := io.StringIO(newline=""), **way).writerows([HEADER.split(","), *table])
    assume(list(csv.reader(io.StringIO(file.getvalue(), newline=""), strict=True, **way))[1:]
           == [[*row] for row in table])  # fmt: skip
    return file.getvalue()


def read_back(folder: Path, text: str | bytes, **chosen: Any) -> list[tuple[str, ...]]:
    """Id, title and file name of all records that are no repeated rows."""
    catalogue = load(folder, text, **chosen)
    assert set(catalogue.requests["reason"]) <= {"", "duplicate_row"}
    return [tuple(row) for row in catalogue.products.to_numpy().tolist()]


@MANY
@given(TABLE, WAYS, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, table: Any, way: Any, encoding: str
) -> None:
    folder = tmp_path_factory.mktemp("table")
    assert read_back(folder, write(table, **way).encode(encoding)) == table


@MANY
@given(TABLE, WAYS, st.sampled_from(["backslash", "backslash unquoted", "single"]))
def test_what_csv_writes_in_other_quotes_is_read_back_where_it_is_said(
    tmp_path_factory: pytest.TempPathFactory, table: Any, way: Any, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("table")
    if kind == "single":
        way = {**way, "quotechar": "'"}
    else:
        way = {**way, "doublequote": False, "escapechar": "\\"}
        if kind == "backslash unquoted":
            way["quoting"] = csv.QUOTE_NONE
    said = [WORD[way["delimiter"]], kind.split()[0]]
    assert read_back(folder, write(table, **way), dialect=said) == table


@MANY
@given(TABLE, WAYS)
@example([('\n"\n', "", "0.jpg")], {"delimiter": "\t", "quoting": 1, "lineterminator": "\n"})
@example([("0\t\t\n", "", "0.jpg")], {"delimiter": "\t", "quoting": 1, "lineterminator": "\n"})
@example(
    [('\t"\n', "", "0.jpg"), ('"0', "", "0.jpg")],
    {"delimiter": "\t", "quoting": 0, "lineterminator": "\n"},
)
@example([("0\t\t\n", "", "0.jpg")], {"delimiter": "\t", "quoting": 1, "lineterminator": "\n"})
@example(
    [("\\", "", "0.jpg"), ('\t"\n', "", "0.jpg")],
    {"delimiter": "\t", "quoting": 0, "lineterminator": "\n"},
)
def test_backslashes_are_read_back_or_as_before_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, table: Any, way: Any
) -> None:
    folder = tmp_path_factory.mktemp("table")
    text = write(table, **way, doublequote=False, escapechar="\\")
    plain = [WORD[way["delimiter"]], "doubled"]
    try:
        found = load(folder, text).products.to_numpy().tolist()
    except SourceError as error:
        said = [plain[0], "backslash"]
        if "are one record if quotes" in str(error):
            ways = re.findall(r"source\.dialect=\[([^]]+)\]", str(error))
            is_named = said in [way.split(",") for way in ways]
            # Without a backslash in the file the ways are one, and the usual name is said.
            assert is_named or read_back(folder, text, dialect=plain) == table
            assert read_back(folder, text, dialect=said) == table
            return
        if "has a backslash" in str(error):  # an id that is never guessed
            assert any("\\" in row[0] for row in table)
            assert read_back(folder, text, dialect=said) == table
            return
        with pytest.raises(SourceError):
            load(folder, text, dialect=plain)
        return
    if found != [[*row] for row in table]:
        assert found == load(folder, text, dialect=plain).products.to_numpy().tolist()


PADDED = {
    "commas": "productId , title , imageUrlStr\nP1 , a , 1.jpg\nP10 , b , 2.jpg\n",
    "pipes": "| productId | title | imageUrlStr |\n| P1        | a     | 1.jpg       |\n"
    "| P10       | b     | 2.jpg       |\n",
    "semicolons": "productId ; title ; imageUrlStr\nP1  ; a ; 1.jpg\nP10 ; b ; 2.jpg\n",
}


@pytest.mark.parametrize("dialect", ["auto", "blanks"])
@pytest.mark.parametrize("text", PADDED.values(), ids=PADDED)
def test_blanks_that_pad_fields_are_no_part_of_ids(tmp_path, text, dialect):
    path = tmp_path / "shop.csv"
    path.write_text(text)
    products = CsvSource(str(path), dialect=dialect).read().products
    assert products["productId"].tolist() == ["P1", "P10"]
    assert products["title"].tolist() == ["a", "b"]


def test_blanks_at_the_end_of_a_field_stay_where_names_have_none(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text("productId, title, imageUrlStr\nP1 , a , 1.jpg\n")
    assert CsvSource(str(path)).read().products["productId"].tolist() == ["P1 "]
