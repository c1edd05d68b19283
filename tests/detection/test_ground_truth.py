"""The user's own pairs, and measures against them, beside hand-counted ones."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dedup.detection.ground_truth import ENDS, against_truth, group_connected, read_truth
from dedup.detection.results import DetectionResult
from dedup.errors import ConfigError
from dedup.schemas import GROUPS, PAIRS, SHARED


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "truth.csv"
    path.write_text(text, encoding=encoding)
    return path


def rows_of(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(table[ENDS].itertuples(index=False, name=None))


def pairs_of(*pairs: str) -> pd.DataFrame:
    """Pairs such as ``AB``."""
    return pd.DataFrame([tuple(pair) for pair in pairs], columns=ENDS, dtype=str)


def found(pairs: str, groups: str) -> DetectionResult:
    """What was found: pairs such as ``AB CD`` and groups such as ``ABC DE``."""
    table = pairs_of(*pairs.split()).reindex(columns=PAIRS.names)
    rows = [(each, group[0], each == group[0]) for group in groups.split() for each in group]
    grouped = pd.DataFrame(rows, columns=GROUPS.names)
    return DetectionResult(table, grouped, pd.DataFrame(columns=SHARED.names))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_ids_are_read_as_they_stand(tmp_path: Path, encoding: str) -> None:
    text = 'one,other,note\n007,1e5,x\nNA,null,\n"a,b",裤,y\nsame,same,z\n'
    pairs = read_truth(written(tmp_path, text, encoding))
    assert rows_of(pairs) == [("007", "1e5"), ("NA", "null"), ("a,b", "裤")]
    assert list(pairs) == ENDS


@pytest.mark.parametrize("row", ["A,B,", "A,B,x,y"])
def test_more_cells_than_the_header_has_move_no_column(tmp_path: Path, row: str) -> None:
    pairs = read_truth(written(tmp_path, f"one,other\n{row}\n{row.replace('A', 'C')}\n"))
    assert rows_of(pairs) == [("A", "B"), ("C", "B")]


def test_a_header_alone_is_no_pair(tmp_path: Path) -> None:
    pairs = read_truth(written(tmp_path, "one,other\n"))
    assert rows_of(pairs) == []
    assert against_truth(found("AB", "AB"), "ABC", pairs)["n_true"] == 0


@pytest.mark.parametrize(("text", "said"), [("", "cannot be read"), ("id\nA\nB\n", "1 column")])
def test_a_file_without_pairs_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_truth(written(tmp_path, text))


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "truth.parquet"
    binary.write_bytes(bytes(range(256)) * 4)
    for path in (tmp_path / "gone.csv", tmp_path, binary):
        with pytest.raises(ConfigError, match=f"truth={path} cannot be read"):
            read_truth(path)


def test_groups_are_joined_by_any_chain() -> None:
    groups = group_connected(pairs_of("CB", "BA", "XY", "BC"))
    assert dict(zip(groups["product_id"], groups["group_id"], strict=True)) == {
        "A": "A", "B": "A", "C": "A", "X": "X", "Y": "X",
    }  # fmt: skip
    assert group_connected(pairs_of()).empty


def test_pairs_that_follow_count_as_true() -> None:
    measured = against_truth(found("AB AC DE", "ABC DE"), "ABCDEFG", pairs_of("AB", "BC", "FG"))
    # True: AB, AC, BC, FG. Found: two of them, and DE.
    assert (measured["n_true"], measured["n_found"], measured["n_wrong"]) == (4, 3, 1)
    assert measured["precision"] == pytest.approx(2 / 3)
    assert measured["recall"] == pytest.approx(2 / 4)
    assert measured["f1"] == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    # Of an item's group, what belongs: A, B, C all, D and E half, F and G all.
    precision, recall = (3 + 2 * 0.5 + 2) / 7, (3 + 2 + 2 * 0.5) / 7
    assert measured["bcubed_f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_unknown_products_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    truth = pairs_of("AB", "AZ", "ZB", "YZ")
    measured = against_truth(found("AB", "AB"), [*"ABC", ""], truth)
    assert (measured["n_true"], measured["precision"], measured["recall"]) == (1, 1, 1)
    assert "2 ids that the catalogue lacks, such as 'Y', 'Z'" in caplog.text
    caplog.clear()
    against_truth(found("AB", "AB"), "AB", pairs_of("AB"))
    assert not caplog.text
    # A and B are one by way of a stranger alone: nothing says so of the known ones.
    assert against_truth(found("AB", "AB"), "ABC", pairs_of("AZ", "ZB"))["n_true"] == 0


def test_shares_of_nothing_are_none() -> None:
    nothing = against_truth(found("", ""), "AB", pairs_of())
    assert nothing["precision"] is None
    assert nothing["recall"] is None
    assert nothing["n_found"] == nothing["n_true"] == 0
    assert not any(isinstance(value, float) and np.isnan(value) for value in nothing.values())
