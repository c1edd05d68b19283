"""Tables made to take more time or memory than their bytes are worth."""

import contextlib
import time
from pathlib import Path

import pytest

from dedup.errors import SourceError
from dedup.sources.catalogue import Catalogue
from dedup.sources.csv import MAX_COLUMNS, MAX_ID, MAX_MISSING, CsvSource

HEADER = "productId,title,imageUrlStr"


def read(folder: Path, *lines: str) -> Catalogue:
    """A table of these lines, read."""
    path = folder / "shop.csv"
    path.write_text("\n".join(lines) + "\n")
    return CsvSource(str(path)).read()


def wide(columns: int) -> str:
    """A header of so many columns."""
    return ",".join([HEADER, *(f"c{number}" for number in range(columns - 3))])


def test_as_many_columns_as_may_be_are_read(tmp_path: Path) -> None:
    catalogue = read(tmp_path, wide(MAX_COLUMNS), "P1,One,1.jpg" + "," * (MAX_COLUMNS - 3))
    assert catalogue.products.shape == (1, MAX_COLUMNS)


def test_more_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"names 10,001 columns, more than 10,000"):
        read(tmp_path, wide(MAX_COLUMNS + 1), "P1,One,1.jpg")


def test_blank_lines_under_a_wide_header_are_refused(tmp_path: Path) -> None:
    blank = [""] * (MAX_MISSING // MAX_COLUMNS + 1)
    with pytest.raises(SourceError, match="blank lines"):
        read(tmp_path, wide(MAX_COLUMNS), "P1,One,1.jpg", *blank)


def test_blank_lines_under_a_narrow_header_are_rows(tmp_path: Path) -> None:
    requests = read(tmp_path, HEADER, "P1,One,1.jpg", *[""] * 20_000).requests
    assert requests["reason"].value_counts().to_dict() == {"blank_row": 20_000, "": 1}


@pytest.mark.parametrize(
    "text",
    [
        '"' * 300_000, '"\n' * 150_000, "\n" * 300_000, ",\n" * 150_000, "\\" * 300_000,
        "\\\n" * 150_000,
        ("x" * 5000 + "\n") * 60, '"x\n' * 100_000, ("," * 5000 + "\n") * 60, "'\n" * 150_000,
        f'{HEADER}\n' + 'P,"\\"x",a.jpg\n' * 30_000, f'{HEADER}\n' + 'P,"x\n' * 50_000,
        f'{HEADER}\n' + 'P,"\\""x,a.jpg\n' * 30_000, "sep=;\n" + "\\;" * 150_000,
        HEADER.replace(",", "\t") + "\n" + 'P\t"a"b\tc.jpg\n' * 20_000,
        "productId," * 30_000 + HEADER, "," * 200_000, f"{HEADER}," + "a," * 9_990,
    ],
)  # fmt: skip
def test_a_head_that_is_hard_to_understand_takes_no_time(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(text, encoding="utf-8")
    started = time.process_time()
    with contextlib.suppress(SourceError):
        CsvSource(str(path)).check()
    assert time.process_time() - started < 6


def test_an_id_of_thousands_of_characters_is_bad(tmp_path: Path) -> None:
    lines = (f"{'x' * size},One,{size}.jpg" for size in (MAX_ID, MAX_ID + 1))
    requests = read(tmp_path, HEADER, *lines).requests
    assert requests["reason"].tolist() == ["", "bad_id"]
