"""Repeated rows are those that pandas finds; texts that both tables have lie in memory once."""

import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.schemas import REQUESTS
from dedup.sources.csv import CsvSource
from dedup.sources.repeats import Repeats

ROWS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz"), st.sampled_from(["", "failed"])),
    max_size=12,
)


def noted(rows: list[tuple[str, str, str]], n_first: int) -> tuple[Repeats, pd.DataFrame]:
    """Requests of as many records, which were noted in two parts."""
    repeats = Repeats()
    for part in (rows[:n_first], rows[n_first:]):
        repeats.add(*([row[field] for row in part] for field in range(3)))
    table = [(n, key, url, [], status, status) for n, (key, url, status) in enumerate(rows)]
    kinds = {"product_id": str, "url": str, "status": str, "reason": str}
    return repeats, pd.DataFrame(table, columns=REQUESTS.names).astype(kinds)


@settings(max_examples=50, deadline=None)
@given(rows=ROWS, n_first=st.integers(0, 12))
def test_repeats_are_those_that_pandas_finds(
    rows: list[tuple[str, str, str]], n_first: int
) -> None:
    repeats, requests = noted(rows, n_first)
    is_open = requests["status"] == ""
    expected = is_open & requests[is_open].duplicated(["product_id", "url"]).reindex(
        requests.index, fill_value=False
    )
    found = repeats.skip(requests.copy())
    assert (found["reason"] == "duplicate_row").tolist() == expected.tolist()
    assert found["status"][expected].eq("skipped").all()
    others = ~expected.astype(bool)
    pd.testing.assert_frame_equal(found[others], requests[others])


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        ([("A", "x", ""), ("A", "y", ""), ("B", "x", "")], 1),
        ([("A", "x", ""), ("A", "x", "")], 0),
        ([("A", "x", ""), ("A", "y", "failed")], 0),
        ([("A", "x", ""), ("A", "y", ""), ("B", "x", ""), ("B", "y", "")], 2),
    ],
)
def test_ids_on_several_rows_are_counted(
    rows: list[tuple[str, str, str]], n: int, caplog: pytest.LogCaptureFixture
) -> None:
    repeats, requests = noted(rows, 1)
    with caplog.at_level(logging.WARNING, "dedup"):
        repeats.skip(requests)
    said = f"{n} product id{'s' if n > 1 else ''} on several rows"
    assert (said in caplog.text) if n else not caplog.text


def places(column: pd.Series) -> list[list[int]]:
    """Addresses in memory of what a column is kept in."""
    kept: pa.ChunkedArray = column.array.__arrow_array__()  # type: ignore[attr-defined]
    return [[one.address for one in chunk.buffers() if one] for chunk in kept.chunks if len(chunk)]


def test_ids_and_addresses_lie_in_memory_once(tmp_path: Path) -> None:
    path = tmp_path / "shop.csv"
    rows = [f"P{n},http://a.test/{n}.jpg" for n in range(5_000)]
    path.write_text("\n".join(["productId,imageUrlStr", *rows]))
    found = CsvSource(str(path)).read()
    assert places(found.requests["product_id"]) == places(found.products["productId"])
    assert places(found.requests["url"]) == places(found.products["imageUrlStr"])
