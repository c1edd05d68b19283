"""Results that are kept: found again, joined, bounded, and never believed where they are wrong."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from dedup.runtime.files import sha256_file
from dedup.runtime.tables import write_table
from dedup.store import derived
from dedup.store.derived import Derivation, DerivedRows, digest_of

SCHEMA = pa.schema([("key", pa.string()), ("score", pa.float64())])
KEYS = [digest_of(number) for number in range(40)]


def kept(folder: Path | None, max_bytes: int = 2**20) -> DerivedRows:
    return DerivedRows(
        folder, SCHEMA, lambda rows: bool(rows["score"].between(0, 1).all()), max_bytes
    )


def keep(folder: Path, numbers: range) -> None:
    """Keep a row for each number, in one block."""
    with kept(folder) as rows:
        rows.add((KEYS[number], number / 100) for number in numbers)


def scores(folder: Path | None) -> dict[str, float]:
    """What is found of all keys."""
    return dict(kept(folder).find(KEYS)["score"])


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "verdicts"
    assert scores(folder) == {}
    keep(folder, range(3))
    keep(folder, range(2, 5))
    assert scores(folder) == {KEYS[number]: number / 100 for number in range(5)}
    assert list(kept(folder).find(KEYS[1:2]).index) == KEYS[1:2]
    assert scores(None) == {}


def test_small_blocks_are_joined_and_old_ones_go(tmp_path: Path) -> None:
    for number in range(derived.MAX_SMALL + 1):
        keep(tmp_path, range(number, number + 1))
    assert len(list(tmp_path.iterdir())) == 1
    assert len(scores(tmp_path)) == derived.MAX_SMALL + 1
    (first,) = tmp_path.iterdir()
    os.utime(first, (1, 1))
    abandoned = tmp_path / ".x.part"
    abandoned.write_bytes(b"")
    os.utime(abandoned, (1, 1))
    with kept(tmp_path, first.stat().st_size) as rows:
        rows.add([(KEYS[-1], 0.5)])
    assert scores(tmp_path) == {KEYS[-1]: 0.5}
    assert not abandoned.exists()


def forged(folder: Path, rows: pd.DataFrame, schema: pa.Schema = SCHEMA) -> None:
    """A block with a digest to go with it."""
    write_table(rows, schema, folder / "new")
    (folder / "new").rename(folder / f"{sha256_file(folder / 'new')}.parquet")


@pytest.mark.parametrize("case", ["damaged", "score", "key", "columns", "no table"])
def test_what_cannot_have_been_computed_is_removed(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = pd.DataFrame({"key": KEYS[:1], "score": [0.5]})
    if case == "damaged":
        forged(tmp_path, rows)
        (file,) = tmp_path.iterdir()
        file.write_bytes(file.read_bytes()[:-1])
    elif case == "score":
        forged(tmp_path, rows.assign(score=7.0))
    elif case == "key":
        forged(tmp_path, rows.assign(key="../x"))
    elif case == "columns":
        forged(tmp_path, rows, pa.schema([SCHEMA.field("score"), SCHEMA.field("key")]))
    else:
        (tmp_path / "new").write_text("nothing")
        (tmp_path / "new").rename(tmp_path / f"{sha256_file(tmp_path / 'new')}.parquet")
    assert scores(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
    assert "computed again" in caplog.text


def test_links_lead_nowhere(tmp_path: Path) -> None:
    keep(tmp_path / "real", range(2))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    keep(tmp_path / "link", range(5))
    assert scores(tmp_path / "link") == {}
    assert len(scores(tmp_path / "real")) == 2


def test_a_folder_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    keep(tmp_path / "file" / "verdicts", range(2))
    assert "the next computes them again" in caplog.text


def test_a_key_tells_functions_settings_and_images_apart() -> None:
    first = Derivation("words", 1, {"opencv": "4.9", "n": 300})
    same = Derivation("words", 1, {"n": 300, "opencv": "4.9"})
    assert same.key("a", "b") == first.key("a", "b")
    others = [
        Derivation("masks", 1, first.settings),
        Derivation("words", 2, first.settings),
        Derivation("words", 1, {**first.settings, "n": 301}),
    ]
    keys = {first.key("a", "b"), first.key("b", "a"), *(one.key("a", "b") for one in others)}
    assert len(keys) == 5


def test_joined_blocks_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dedup.store.derived.MAX_BLOCK", 24_000)
    keys = [f"{number:064x}" for number in range(400)]
    for start in range(0, 400, 20):
        with kept(tmp_path / "verdicts") as rows:
            rows.add((key, 0.5) for key in keys[start : start + 20])
    assert len(kept(tmp_path / "verdicts").find(keys)) == 400
    sizes = [file.stat().st_size for file in (tmp_path / "verdicts").glob("*.parquet")]
    assert len(sizes) < 20
    assert max(sizes) < 24_000
