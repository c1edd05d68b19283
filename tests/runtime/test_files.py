"""What is written is what is read, at any moment; what is broken is named, and never run."""

import contextlib
import csv
import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dedup.errors import ArtifactError, CorruptError
from dedup.runtime.files import (
    array_header,
    atomically,
    read_array,
    read_json,
    sha256_file,
    unreadable,
    write_array,
    write_json,
    write_text,
)
from dedup.runtime.shortages import is_shortage
from dedup.runtime.tables import read_table, write_csv, write_table
from dedup.schemas import GROUPS, IMAGES, INDEX_IMAGES, PAIRS
from tests.conftest import DAMAGES, ODD_IDS


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.evidence,)


@pytest.mark.parametrize(
    "settings",
    [
        {"compression": "zstd", "dictionary_pagesize_limit": 2**30},
        {"compression": "zstd", "use_dictionary": False},
        {"use_dictionary": False, "column_encoding": {"a": "DELTA_BYTE_ARRAY"}},
    ],
)
def test_a_small_table_does_not_unpack_to_much(tmp_path: Path, settings: dict[str, object]) -> None:
    file = tmp_path / "bomb.parquet"
    pq.write_table(pa.table({"a": ["A" * 2**23] * 12}), file, **settings)
    assert file.stat().st_size < 2**19
    with pytest.raises(CorruptError, match=r"bomb\.parquet .*(would unpack to|is encoded by)"):
        read_table(file)


@pytest.mark.parametrize("text", ["", "a", "A" * 3000])
def test_a_text_that_stands_in_every_row_is_read(tmp_path: Path, text: str) -> None:
    table = pd.DataFrame({"a": [text] * 30_000})
    write_table(table, None, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet")["a"].eq(text).all()


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old")

    def write(part: Path) -> None:
        assert part.parent == path.parent
        part.write_text("ne")
        assert path.read_text() == "old"
        part.write_text("new")

    atomically(path, write)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "report.txt"
    if before is not None:
        path.write_text(before)

    def write(part: Path) -> None:
        part.write_text("half of")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        atomically(path, write)
    assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"

    def write(part: Path) -> None:
        write_text("inner", path)
        part.write_text("outer")

    atomically(path, write)
    assert path.read_text() == "outer"


def test_sha256_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # the first example of FIPS 180-2
    assert sha256_file(tmp_path / "abc") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_odd_ids_survive_every_format(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ODD_IDS, "007": ODD_IDS[::-1], "": ""})
    write_table(table, None, tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), table)
    write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [list(table.columns), *table.to_numpy().tolist()]
    write_json({key: key for key in ODD_IDS}, tmp_path / "t.json")
    assert read_json(tmp_path / "t.json", "", "") == {key: key for key in ODD_IDS}


SCHEMAS = {"images": IMAGES, "index": INDEX_IMAGES, "pairs": PAIRS, "groups": GROUPS}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_table_has_exactly_the_columns_of_its_schema(tmp_path: Path, schema: pa.Schema) -> None:
    cells = {"string": "007", "bool": True}
    types = zip(schema.names, map(str, schema.types), strict=True)
    rows = pd.DataFrame({name: [cells.get(kind, 1)] * 3 for name, kind in types})
    shuffled = rows[schema.names[::-1]].assign(more=1).set_index(np.array([7, 3, 5]))
    write_table(shuffled, schema, tmp_path / "t.parquet")
    assert pq.read_schema(tmp_path / "t.parquet").equals(schema, check_metadata=True)
    assert len(read_table(tmp_path / "t.parquet", schema)) == 3
    with pytest.raises(KeyError, match=schema.names[0]):
        write_table(rows.drop(columns=schema.names[0]), schema, tmp_path / "u.parquet")


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_table(PAIRS.empty_table().to_pandas(), PAIRS, tmp_path / "t.parquet")
    assert list(read_table(tmp_path / "t.parquet", PAIRS).columns) == PAIRS.names


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    table = pd.DataFrame({"product_id": ODD_IDS, "group_id": ODD_IDS[::-1], "kept": True})
    for name in ("a", "b"):
        write_table(table, GROUPS, tmp_path / name)
        table = table.set_index(table.index[::-1])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_table_is_corrupt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_table(pd.DataFrame({"id": ODD_IDS}), None, tmp_path / "t.parquet")
    damage(tmp_path / "t.parquet")
    with pytest.raises(CorruptError, match=r"t\.parquet"):
        read_table(tmp_path / "t.parquet")


SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
import dedup.runtime.files as files
import dedup.runtime.tables as tables
from dedup.runtime.shortages import is_shortage

table, array = map(Path, sys.argv[1:])
tables.read_table(table.with_name("small.parquet"))
used = next(int(s.split()[1]) for s in open("/proc/self/status") if s.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 2**25, resource.RLIM_INFINITY))
for read, path in ((tables.read_table, table), (files.read_array, array)):
    try:
        read(path)
    except (MemoryError, OSError) as error:
        print(is_shortage(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits what a process may take as Linux does")
def test_lack_of_memory_is_no_damage(tmp_path: Path) -> None:
    table, array = tmp_path / "large.parquet", tmp_path / "large.npy"
    write_table(pd.DataFrame({"id": ["x" * 1000] * 400_000}), None, table)
    write_table(pd.DataFrame({"id": ["x"]}), None, tmp_path / "small.parquet")
    array.write_bytes(array_header((10**9,), np.uint8))
    os.truncate(array, array.stat().st_size + 10**9)
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, table, array], capture_output=True, text=True,
        env={**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"},  # as commands that are limited
    )  # fmt: skip
    assert (done.stdout.split(), done.returncode) == (["True", "True"], 0), done.stderr


def test_lack_of_memory_is_told_from_other_errors() -> None:
    for error in (MemoryError(), pa.ArrowMemoryError("malloc"), OSError(errno.ENOMEM, "no memory")):
        assert is_shortage(error)
    for error in (OSError("broken"), pa.ArrowInvalid("broken"), ValueError()):
        assert not is_shortage(error)


def test_a_file_that_must_not_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    refused = unreadable(tmp_path, "ask for it", PermissionError(errno.EACCES, "not allowed"))
    assert type(refused) is ArtifactError
    assert str(refused) == f"{tmp_path} cannot be read (not allowed): ask for it"
    assert type(unreadable(tmp_path, "", OSError(errno.EINVAL, "broken"))) is CorruptError
    for lack in (errno.EIO, errno.ENOMEM):
        assert type(unreadable(tmp_path, "", OSError(lack, "not to be had"))) is OSError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.append_column("b", pa.array(["x"])), "its columns are 'id', 'b'"),
        (lambda table: table.append_column("id", table["id"]), "its columns are 'id', 'id'"),
        (lambda table: pa.table({"id": pa.array([7])}), "'id' holds int64, not string"),
        (lambda table: pa.table({"id": pa.array(["7"], pa.large_string())}), "'id' holds large_st"),
        (lambda table: pa.table({"id": pa.array([None], pa.string())}), "'id' lacks 1 value"),
        (lambda table: table.replace_schema_metadata({"pandas": "{}"}), "its metadata tell"),
    ],
)
def test_a_table_of_another_schema_is_corrupt(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    pq.write_table(change(pa.table({"id": ["7"]})), tmp_path / "t.parquet")
    with pytest.raises(CorruptError, match=rf"t\.parquet is not what was written, .*{said}"):
        read_table(tmp_path / "t.parquet", pa.schema([("id", pa.string())]))


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (0,), (2, 3, 20, 10)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_arrays_come_back_mapped_and_read_only(
    tmp_path: Path, shape: tuple[int, ...], dtype: type
) -> None:
    array: npt.NDArray[Any] = np.random.default_rng(0).integers(100, size=shape).astype(dtype)
    write_array(array, tmp_path / "a.npy")
    found = read_array(tmp_path / "a.npy")
    assert isinstance(found, np.memmap)
    assert found.dtype == dtype
    assert np.array_equal(found, array)
    assert not found.flags.writeable


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_array_is_corrupt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_array(np.arange(1000), tmp_path / "a.npy")
    damage(tmp_path / "a.npy")
    with pytest.raises(CorruptError, match=r"a\.npy"):
        read_array(tmp_path / "a.npy")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_array_headers_are_corrupt(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "a.npy"
    write_array(np.arange(12.0), file)
    data = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    data[rng.integers(0, 60)] = rng.integers(0, 256)
    file.write_bytes(bytes(data) if seed % 8 else b"PK" + bytes(data))
    with contextlib.suppress(CorruptError):  # any other exception fails the test
        assert read_array(file).dtype != object


def test_pickles_are_refused_and_not_run(tmp_path: Path) -> None:
    evidence = tmp_path / "it_ran"
    with pytest.raises(ValueError, match="holds Python objects"):
        write_array(np.array([Trap(evidence)]), tmp_path / "a.npy")
    np.save(tmp_path / "objects.npy", np.array([Trap(evidence)]), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Trap(evidence)))
    for name in ("objects.npy", "pickle.npy"):
        with pytest.raises(CorruptError, match=name):
            read_array(tmp_path / name)
    assert not evidence.exists()
    pickle.loads((tmp_path / "pickle.npy").read_bytes())
    assert evidence.exists(), "the trap does not work"


def test_json_is_indented_and_readable(tmp_path: Path) -> None:
    write_json({"007": ["裤", 1.5, None]}, tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n "007": [\n  "裤",\n  1.5,\n  null\n ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"loss": float("nan")}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1', b"[1]", b"null", b"\xff\xfe", b"{'a': 1}"])
def test_broken_json_is_corrupt(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(CorruptError, match=r"a\.json .*: make it again"):
        read_json(tmp_path / "a.json", "an index", "make it again")


def varint(number: int) -> bytes:
    """A number as Thrift's compact protocol has it."""
    rest, parts = ((number << 1) ^ (number >> 63)) & (2**64 - 1), bytearray()
    while rest > 127:
        parts.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*parts, rest])


@pytest.mark.parametrize("number", [-1, 0, 1, 12_344, 12_346, 10**9])
def test_a_footer_that_says_other_numbers_of_rows_is_refused(tmp_path: Path, number: int) -> None:
    n, table = 12_345, tmp_path / "table.parquet"
    honest = pd.DataFrame({"id": [f"P{row}" for row in range(n)]})
    write_table(honest, None, table)
    data = table.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    parts = data[-8 - size : -8].split(varint(n))
    assert len(parts) > 2  # of the file, of its group, of a column
    for place in range(1, len(parts)):
        pieces = [varint(number if at == place else n) + parts[at] for at in range(1, len(parts))]
        footer = parts[0] + b"".join(pieces)
        table.write_bytes(data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
        with suppress(CorruptError):  # and else it is a number that says nothing of rows
            pd.testing.assert_frame_equal(read_table(table), honest)
