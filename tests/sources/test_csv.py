import csv
import json
import logging
import os
import random
import threading

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dedup.errors import ConfigError, SourceError
from dedup.runtime.tables import read_table, write_table
from dedup.schemas import REQUESTS
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import MAX_FIELD, CsvSource

HEADER = "productId,title,imageUrlStr,categories\n"
GOOD = "P9,Last,http://shop.test/9.jpg,A>B\n"


def read(folder, body, header=HEADER, **settings) -> Catalogue:
    path = folder / "shop.csv"
    data = header + body
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return CsvSource(str(path), **settings).read()


def outcomes(catalogue) -> list[tuple[int, str, str]]:
    """Record, product id and ``status:reason`` of each request."""
    rows = catalogue.requests.itertuples()
    return [(r.record, r.product_id, f"{r.status}:{r.reason}".strip(":")) for r in rows]


def outcome(folder, line, **settings) -> str:
    """What the record ``line`` ended as; the good record after it must come out whole."""
    catalogue = read(folder, line + GOOD, **settings)
    found = outcomes(catalogue)
    assert found[-1] == (1, "P9", "")
    assert catalogue.products.iloc[1].tolist() == GOOD.strip().split(",")
    return found[0][2]


def url_outcome(folder, cell, **settings) -> tuple[str, list[str], str]:
    quoted = '"' + cell.replace('"', '""') + '"'
    row = read(folder, f"P1,t,{quoted},A\n", **settings).requests.iloc[0]
    return row.url, row.alternates, row.reason


def test_a_plain_table(tmp_path):
    catalogue = read(tmp_path, "P1,One,http://shop.test/1.jpg,A\nP2,Two,b.jpg,A\n")
    assert list(catalogue.products) == ["productId", "title", "imageUrlStr", "categories"]
    assert catalogue.products["imageUrlStr"].tolist() == ["http://shop.test/1.jpg", "b.jpg"]
    assert list(catalogue.requests) == REQUESTS.names
    urls = ["http://shop.test/1.jpg", str(tmp_path.resolve() / "b.jpg")]
    assert catalogue.requests["url"].tolist() == urls
    assert (catalogue.id_column, catalogue.title_column) == ("productId", "title")
    relative = CsvSource(os.path.relpath(tmp_path / "shop.csv")).read()
    assert relative.requests["url"].tolist() == urls


def test_both_tables_fit_their_parquet_schemas(tmp_path):
    catalogue = read(tmp_path, "P1,t,a.jpg;b.jpg,A\n,,,\nP2,t,ftp://x/y,A\n")
    write_table(catalogue.requests, REQUESTS, tmp_path / "requests.parquet")
    write_table(catalogue.products, None, tmp_path / "products.parquet")
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "products.parquet"), catalogue.products, check_dtype=False
    )
    stored = pq.read_table(tmp_path / "requests.parquet").to_pandas()
    alternates = [list(urls) for urls in stored["alternates"]]
    assert alternates == [[str(tmp_path.resolve() / "b.jpg")], [], []]


def test_odd_ids_come_back_as_written(tmp_path):
    ids = ["007", "NA", "null", "None", "nan", "1e5", "9007199254740993", "  low  ", "a\u0301", "á"]
    body = "".join(f"{name},t,http://shop.test/1.jpg,A\n" for name in ids)
    catalogue = read(tmp_path, body)
    assert catalogue.products["productId"].tolist() == ids
    assert outcomes(catalogue) == [(n, name, "") for n, name in enumerate(ids)]


def test_random_cells_survive_csv_writer(tmp_path):
    rng = random.Random(20)
    letters = "ab01 ,;\"\n\r\t='\\\u200f\u0915é🧦>#\0"
    rows = [
        ["".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(4)] for _ in range(500)
    ]
    path = tmp_path / "shop.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER.strip().split(","), *rows])
    catalogue = CsvSource(str(path), choice="all").read()
    assert catalogue.products.to_numpy().tolist() == rows
    assert set(catalogue.requests["record"]) == set(range(len(rows)))
    for row in catalogue.requests.itertuples():
        assert row.product_id == rows[row.record][0]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_line_ends_and_byte_order_mark(tmp_path, newline, encoding):
    path = tmp_path / "shop.csv"
    text = HEADER + 'P1,"two\nlines",http://shop.test/1.jpg,A\n' + GOOD
    path.write_bytes(text.replace("\n", newline).encode(encoding))
    catalogue = CsvSource(str(path), encoding=encoding.removesuffix("-sig")).read()
    assert catalogue.products["title"].tolist() == [f"two{newline}lines", "Last"]
    assert outcomes(catalogue) == [(0, "P1", ""), (1, "P9", "")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("P1,Top, blue, cotton,http://shop.test/1.jpg,A\n", "failed:bad_field_count"),
        ("P1,Top\n", "failed:bad_field_count"),
        (",,,\n", "skipped:blank_row"),
        ("\n", "skipped:blank_row"),
        (",t,http://shop.test/1.jpg,A\n", "failed:no_id"),
        ("  ,t,http://shop.test/1.jpg,A\n", "failed:no_id"),
        ("P\0 1,t,http://shop.test/1.jpg,A\n", "failed:bad_id"),
        ("P1,t,,A\n", "failed:no_url"),
        ("P1,t,; ;,A\n", "failed:no_url"),
        ("P1,t,[],A\n", "failed:no_url"),
        (f"P1,{'x' * MAX_FIELD},a.jpg,A\n", ""),
        (f"P1,{'x' * (MAX_FIELD + 1)},a.jpg,A\n", "failed:field_too_long"),
        (f'P1,"{"x" * 200_000}",a.jpg,A\n', "failed:field_too_long"),
        ('P1,"Top" blue,a.jpg,A\n', "failed:bad_quotes"),
        ('P1,17" screen,a.jpg,A\n', ""),
    ],
)
def test_a_bad_record_is_a_row(tmp_path, line, expected):
    assert outcome(tmp_path, line) == expected


def test_a_shifted_record_keeps_its_id_only_when_nothing_stands_before_it(tmp_path):
    catalogue = read(tmp_path, "P1,Top, blue,a.jpg,A\n" + GOOD)
    assert outcomes(catalogue)[0] == (0, "P1", "failed:bad_field_count")
    assert catalogue.products.iloc[0].tolist() == ["P1", "Top", " blue", "a.jpg"]
    catalogue = read(
        tmp_path, "Top, blue,P1,a.jpg\nT,P2,b.jpg\n", header="title,productId,imageUrlStr\n"
    )
    assert outcomes(catalogue) == [(0, "", "failed:bad_field_count"), (1, "P2", "")]


def test_a_broken_quote_loses_no_other_record(tmp_path):
    body = 'P1,"open,a.jpg,A\nP2,Two,b.jpg,A\nP3,Three,c.jpg,A\nP4,"quoted",d.jpg,A\n' + GOOD
    catalogue = read(tmp_path, body)
    assert outcomes(catalogue) == [
        (0, "P1", "failed:bad_quotes"),
        (1, "P2", ""),
        (2, "P3", ""),
        (3, "P4", ""),
        (4, "P9", ""),
    ]
    assert catalogue.products["title"].tolist()[1:] == ["Two", "Three", "quoted", "Last"]


def test_a_quote_that_never_closes_stops_the_run(tmp_path):
    body = 'P1,"two\nlines",a.jpg,A\nP2,"open,b.jpg,A\n' + GOOD * 50
    before = csv.field_size_limit()
    with pytest.raises(SourceError, match=r"shop\.csv: the record that starts on line 4 opens"):
        read(tmp_path, body)
    assert csv.field_size_limit() == before


def test_a_quote_that_swallows_megabytes_stops_the_run(tmp_path):
    line = f"P2,{'x' * 100_000},b.jpg,A\n"
    with pytest.raises(SourceError, match="record on line 2 is longer than"):
        read(tmp_path, 'P1,"open,a.jpg,A\n' + line * 180 + 'P3,"quoted",c.jpg,A\n')


def test_repeated_ids(tmp_path, caplog):
    cells = ["P1,t,a.jpg", "P1,t,a.jpg", "P1,t,b.jpg", "p1,t,a.jpg", "P1,t,", "P2,t,c.jpg;x"]
    with caplog.at_level(logging.WARNING, logger="dedup"):
        catalogue = read(tmp_path, "".join(f"{line},A\n" for line in cells))
    ends = ["", "skipped:duplicate_row", "", "", "skipped:no_url", ""]
    assert [end for *_, end in outcomes(catalogue)] == ends
    assert [record.getMessage()[:13] for record in caplog.records] == ["1 product id "]


def test_repeats_against_a_loop(tmp_path):
    rng = random.Random(3)
    pairs = [(f"P{rng.randint(0, 9)}", f"{rng.randint(0, 4)}.jpg") for _ in range(200)]
    catalogue = read(tmp_path, "".join(f"{name},t,{url},A\n" for name, url in pairs))
    seen: set[tuple[str, str]] = set()
    for pair, reason in zip(pairs, catalogue.requests["reason"], strict=True):
        assert (reason == "duplicate_row") == (pair in seen)
        seen.add(pair)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("first", [("a", ["b", "c"])]),
        ("second", [("b", ["c", "a"])]),
        ("all", [("a", []), ("b", []), ("c", [])]),
    ],
)
@pytest.mark.parametrize("form", ["joined", "json"])
def test_choice(tmp_path, choice, expected, form):
    urls = [f"http://shop.test/{name}" for name in "abc"]
    cell = "; ".join(["", *urls, ""]) if form == "joined" else json.dumps(urls)
    quoted = '"' + cell.replace('"', '""') + '"'
    requests = read(tmp_path, f"P1,t,{quoted},A\n", choice=choice).requests
    found = [(r.url[-1], [url[-1] for url in r.alternates]) for r in requests.itertuples()]
    assert found == expected


@pytest.mark.parametrize("choice", ["first", "second", "all"])
def test_one_address_suits_every_choice(tmp_path, choice):
    found = url_outcome(tmp_path, ";http://shop.test/a", choice=choice)
    assert found == ("http://shop.test/a", [], "")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("file:///etc/passwd", "scheme"),
        ("data:image/png;base64,AAAA", "scheme"),
        (" DATA:image/png;base64," + "A" * 9000, "scheme"),
        ("FTP://shop.test/a.jpg", "scheme"),
        ("//server/share/a.jpg", "scheme"),
        ("http:///a.jpg", "bad_url"),
        ("https:a.jpg", "bad_url"),
        ("http://sh op.test/a", "bad_url"),
        ("http://good\\@127.0.0.1/", "bad_url"),
        ("http://shop\t.test/a", "bad_url"),
        ("http://shop.test/a\r\nHost: b", "bad_url"),
        ("http://[::1/a", "bad_url"),
        ("http://shop.test:99999/a", "bad_url"),
        ("http://shop.test/" + "a" * 8192, "bad_url"),
        ('["a.jpg", 5]', "bad_url"),
        ('["a.jpg"', "bad_url"),
        ('["a", ' + "[" * 100_000, "bad_url"),
        ('["\\ud800.jpg"]', "bad_url"),
        ("../secret.jpg", "outside_folder"),
        ("images/../../secret.jpg", "outside_folder"),
        ("/etc/passwd", "outside_folder"),
        ("..", "outside_folder"),
    ],
)
def test_addresses_that_are_refused(tmp_path, cell, reason):
    catalogue = read(tmp_path, 'P1,t,"' + cell.replace('"', '""') + '",A\n')
    row = catalogue.requests.iloc[0]
    assert (row.status, row.reason, row.alternates) == ("failed", reason, [])
    assert len(row.url) <= 200


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.test",
        "HTTPS://shop.test/a b.jpg?x=1&y=%zz#f",
        "http://шоп.test/ünï.jpg",
        "http://user@shop.test:8080/a\\b",
        "http://[::1]/a",
    ],
)
def test_web_addresses_are_kept_as_given(tmp_path, url):
    assert url_outcome(tmp_path, f"  {url} ") == (url, [], "")


def test_bad_addresses_give_way_to_usable_ones(tmp_path):
    cell = "file:///x;http://shop.test/1; ../x ;http://shop.test/2;http://shop.test/1"
    assert url_outcome(tmp_path, cell) == ("http://shop.test/1", ["http://shop.test/2"], "")
    assert url_outcome(tmp_path, "../x;file:///x") == ("../x", [], "outside_folder")


def test_categories(tmp_path):
    deep = '"Apparels>Women>Western Wear>Shirts, Tops & Tunics>Tops"'
    cells = [deep, "Apparels > Women>Tops & Tunics > Tops>X", "Tops & Tunics", "tops & tunics>tops",
             "Tops & Tunics>Tops2", "Tops & Tunics>A>Tops", ""]  # fmt: skip
    body = "".join(f"P{n},t,{n}.jpg,{cell}\n" for n, cell in enumerate(cells))
    catalogue = read(tmp_path, body + "P7,t,,X\n", categories=["Nothing", "Tops & Tunics>Tops"])
    assert [end for *_, end in outcomes(catalogue)] == ["", "", *["skipped:category"] * 6]
    assert len(catalogue.products) == 8
    assert (read(tmp_path, body, categories=[]).requests["status"] == "").all()
    assert outcome(tmp_path, "P1,t,a.jpg,Z\n", categories="A") == "skipped:category"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([1, 3], ["P1", "P2"]), ((2, None), ["P2", "P3"]), ([0, 99], ["P0", "P1", "P2", "P3"])],
)
def test_rows(tmp_path, rows, expected):
    catalogue = read(tmp_path, "".join(f"P{n},t,{n}.jpg,A\n" for n in range(4)), rows=rows)
    assert catalogue.products["productId"].tolist() == expected
    assert catalogue.products.index.tolist() == list(range(len(expected)))
    assert outcomes(catalogue) == [(n, name, "") for n, name in enumerate(expected)]


def test_more_rows_than_one_chunk(tmp_path):
    lines = [f"P{n},t,{n}.jpg,A\n" if n % 7 else ",,\n" for n in range(12_000)]
    catalogue = read(tmp_path, "".join(lines))
    assert catalogue.requests["record"].tolist() == list(range(12_000))
    assert catalogue.products["productId"].tolist() == [
        f"P{n}" * (n % 7 > 0) for n in range(12_000)
    ]
    assert (catalogue.requests["product_id"] == catalogue.products["productId"]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"choice": "third"}, "first, second, all"),
        ({"rows": [3, 3]}, r"source\.rows="),
        ({"rows": [-1, 3]}, r"source\.rows="),
        ({"rows": [1]}, r"source\.rows="),
        ({"rows": [None, 3]}, r"source\.rows="),
        ({"rows": ["a", 3]}, r"source\.rows="),
        ({"categories": ["A", " > "]}, "blank category"),
        ({"encoding": "utf-9"}, r"source\.encoding="),
        ({"encoding": "rot13"}, r"source\.encoding="),
        ({"images_dir": "no/such/folder"}, r"source\.images_dir="),
    ],
)
def test_settings_that_cannot_work(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, GOOD, **settings)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (b"", {}, r"is empty \(no header\)"),
        (b"\n\n", {}, r"is empty \(no header\)"),
        (HEADER.encode(), {}, "0 products"),
        (HEADER.encode() + b"\n,,,\n", {}, "0 products"),
        ((HEADER + GOOD).encode(), {"rows": [5, 9]}, "0 products"),
        (b"id,imageUrlStr\n1,a\n", {}, r"source\.id_column= to one of its columns, 'id', 'imag"),
        (b"productId,image\n1,a\n", {}, r"'imageUrlStr': set source\.url_column="),
        (b"productId,imageUrlStr\n1,a\n", {"categories": ["A"]}, r"source\.category_column="),
        (b"productId,imageUrlStr,productId\n1,b,c\n", {}, "'productId' more than once"),
        (b"id;image;x\n1;2;3\n", {}, "to one of its columns, 'id', 'image', 'x'"),
        (b"id\timage\tx\n1\t2\t3\n", {}, "to one of its columns, 'id', 'image', 'x'"),
        (b'productId,"a"b,imageUrlStr\n1,2,3\n', {}, "header's quotes"),
        (b"\x1f\x8b\x08\x00", {}, "gzip"),
        (b"PK\x03\x04", {}, "Excel"),
        ((HEADER + GOOD).encode("utf-16"), {"encoding": "utf-8"}, r"source\.encoding=utf-16"),
        ((HEADER + GOOD).encode(), {"encoding": "utf-16"}, "byte 0 is not utf-16"),
        ((HEADER + GOOD).encode() + "ü".encode()[:1], {"encoding": "utf-8"}, "byte 74 is not utf"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, data, settings, message):
    path = tmp_path / "shop.csv"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=message) as caught:
        CsvSource(str(path), **settings).read()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_the_offset_of_a_byte_that_is_no_utf8(tmp_path, bom):
    data = bom + (HEADER + GOOD * 40_000).encode()
    path = tmp_path / "shop.csv"
    path.write_bytes(data + b"P,\xfcber,a.jpg,A\n")
    with pytest.raises(SourceError, match=rf"byte {len(data) + 2} is not utf-8.*source\.encoding="):
        CsvSource(str(path), encoding="utf-8").read()
    assert CsvSource(str(path), rows=[0, 5]).read().products["title"].tolist() == ["Last"] * 5
    if not bom:
        assert "über" in CsvSource(str(path), encoding="latin-1").read().products["title"].values


def test_paths_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in {"none.csv": "No such file", ".": "a folder", "pipe": "a pipe"}.items():
        with pytest.raises(SourceError, match=message):
            CsvSource(str(tmp_path / name)).read()


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text(HEADER + GOOD * 30_000, encoding="utf-8")
    stop = threading.Event()

    def touch() -> None:
        for second in range(10**9):
            os.utime(path, (second, second))
            if stop.wait(0.001):
                return

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        with pytest.raises(SourceError, match="changed while it was read"):
            CsvSource(str(path)).read()
    finally:
        stop.set()
        thread.join()


def test_a_missing_title_column_is_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="dedup"):
        catalogue = read(tmp_path, "1,a.jpg\n", header="productId,imageUrlStr\n")
    assert catalogue.title_column is None
    assert len(caplog.records) == 1
    caplog.clear()
    assert read(tmp_path, GOOD, title_column=None).title_column is None
    assert not caplog.records


LOST = ["4.05012E+12", "4,05012E+12", "1.2E+100", "#N/A", "#REF!", "########"]
KEPT = ["4050123456789", "4E05", "1e5", "1.5", "#12", "#", "A1.5E+12"]


@pytest.mark.parametrize("product_id", LOST)
def test_ids_that_a_spreadsheet_has_lost_are_told(tmp_path, caplog, product_id):
    path = tmp_path / "shop.csv"
    rows = "".join(f'"{product_id}",t,{n}.jpg\n' for n in range(2))
    path.write_text(f"productId,title,imageUrlStr\n{rows}")
    assert CsvSource(str(path)).read().products["productId"].tolist() == [product_id] * 2
    assert f"the id {product_id!r} is as spreadsheets write" in caplog.text


def test_other_ids_are_not_told(tmp_path, caplog):
    path = tmp_path / "shop.csv"
    rows = "".join(f"{product_id},t,{product_id}.jpg\n" for product_id in KEPT)
    path.write_text(f"productId,title,imageUrlStr\n{rows}")
    CsvSource(str(path)).read()
    assert "spreadsheets" not in caplog.text


CODECS = {"cp1251": "Шуба", "mac-roman": "Ä", "cp1250": "ł", "gbk": "货号"}


@pytest.mark.parametrize(("encoding", "written"), CODECS.items())
def test_ids_of_a_guessed_encoding_are_told(tmp_path, caplog, encoding, written):
    path = tmp_path / "shop.csv"
    rows = "".join(f"{written}{n},t,{n}.jpg\n" for n in range(2))
    path.write_bytes(f"productId,title,imageUrlStr\n{rows}".encode(encoding))
    CsvSource(str(path)).read()
    assert "2 ids such as" in caplog.text
    assert "set source.encoding=" in caplog.text
    caplog.clear()
    found = CsvSource(str(path), encoding=encoding).read().products["productId"].tolist()
    assert found == [f"{written}{n}" for n in range(2)]
    assert "encoding" not in caplog.text


def test_another_encoding_than_the_one_that_failed_is_named(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_bytes("productId,title,imageUrlStr\nA1,ソファー,1.jpg\n".encode("cp932"))
    with pytest.raises(SourceError, match=r"is not cp1252 .line 2.: set .*shift_jis") as caught:
        CsvSource(str(path)).read()
    assert "latin-1" not in str(caught.value)


def test_a_row_without_an_address_is_skipped_where_its_product_has_an_image(tmp_path):
    rows = "A,t,,\nA,t,1.jpg,\nA,t,,\nB,t,,\nC,t,ftp://a.test/1,\nC,t,,\n,t,,\n"
    assert outcomes(read(tmp_path, rows)) == [
        (0, "A", "skipped:no_url"), (1, "A", ""), (2, "A", "skipped:no_url"),
        (3, "B", "failed:no_url"), (4, "C", "failed:scheme"), (5, "C", "failed:no_url"),
        (6, "", "failed:no_id"),
    ]  # fmt: skip


def test_a_quote_that_swallows_whole_records_is_told(tmp_path, caplog):
    body = 'P1,"5 pipe,1.jpg,A\nP2,b,2.jpg,A\nP3,c","3.jpg",A\nP4,d,4.jpg,A\n'
    read(tmp_path, body)
    assert "shop.csv: lines 2 to 4 are one record" in caplog.text
    assert "1 record)" in caplog.text
    caplog.clear()
    read(tmp_path, 'P1,"red\nblue",1.jpg,A\nP2,"a, b\n1, 2, 3",2.jpg,A\n' + GOOD)
    assert "one record" not in caplog.text


@pytest.mark.parametrize("sign", "^~:#")
def test_a_header_in_one_name_tells_the_setting(tmp_path, sign):
    header = sign.join(["productId", "title", "imageUrlStr"]) + "\n"
    line = header.replace("productId", "P1").replace("imageUrlStr", "1.jpg")
    with pytest.raises(SourceError, match=r"set source\.dialect= to the sign between them"):
        read(tmp_path, line, header)
    assert outcomes(read(tmp_path, line, header, dialect=sign)) == [(0, "P1", "")]


def test_every_column_that_is_absent_is_named(tmp_path):
    words = r"no column 'a' and no column 'b' and no column 'c': set source\.id_column= and source"
    with pytest.raises(SourceError, match=words):
        read(tmp_path, GOOD, id_column="a", url_column=["b", "c", "title"])
