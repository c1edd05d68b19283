"""``python -m dedup check`` as a user types it, on a small store."""

import json
import os
import shutil
from pathlib import Path

import pytest

from dedup.runtime.files import locked
from tests.conftest import draw, encoded, python
from tests.store.test_repair import contents, flip, make_store
from tests.support.damaged import flip as flip_bits
from tests.support.damaged import make_world


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two shards, of 12 and 3 images: ``0.jpg`` and so on, beside it."""
    urls = [str(tmp_path / f"{number}.jpg") for number in range(15)]
    for number, url in enumerate(urls):
        Path(url).write_bytes(encoded(draw(number, (60, 80))))
    make_store(tmp_path / "store", urls)
    return tmp_path / "store"


def command(cwd: Path, *overrides: str) -> tuple[int, list[str], str]:
    """The exit code of the command, its lines, and its messages."""
    done = python("-m", "dedup", "verify", *overrides, cwd=cwd, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_it_says_what_is_broken_and_puts_it_right(store: Path, tmp_path: Path) -> None:
    whole, broken = contents(store), str(tmp_path / "13.jpg")
    flip(-70_000)(store / "shard-00001.npy")
    (store / "shard-00000.copy.parquet").unlink()
    code, lines, messages = command(tmp_path, f"store.path={store}")
    assert code == 4
    assert lines == ["missing shard-00000.copy.parquet", f"changed shard-00001.npy: {broken}"]
    assert f"run python -m dedup check repair=true store.path={store}" in messages
    code, lines, messages = command(tmp_path, f"store.path={store}", "repair=true")
    assert (code, lines[-1]) == (0, f"{store} is intact")
    assert "GB/s" in messages
    assert contents(store) == whole
    said = json.loads((tmp_path / "runs/verify/latest/verify.json").read_text())
    assert [one["addresses"] for one in said["damages"]] == [[], [broken]]
    assert (said["left"], said["mended"]["restored"]) == ([], [broken])


def test_it_refuses_no_store_and_one_that_is_written_to(store: Path, tmp_path: Path) -> None:
    with locked(store):
        code, lines, messages = command(tmp_path, f"store.path={store}", "repair=true")
    assert (code, lines) == (5, [])
    assert f"process {os.getpid()} writes into {store} (it holds {store / 'lock'})" in messages
    code, lines, messages = command(tmp_path, "store.path=nowhere")
    assert (code, lines) == (2, [])
    assert not (tmp_path / "nowhere").exists()
    assert "nowhere is not a store" in messages


def test_it_checks_an_index_and_what_a_run_left(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world")
    for asked in (f"index={world / 'index'}", f"run={world / 'run'}"):
        code, lines, _ = command(tmp_path, asked)
        assert (code, lines) == (0, [f"{asked.partition('=')[2]} is intact"])
    code, lines, _ = command(tmp_path, "run=runs/verify/latest")
    assert (code, lines) == (0, ["runs/verify/latest is intact"])
    flip_bits(world / "index" / "vectors.npy", -1, 4)
    code, lines, messages = command(tmp_path, f"index={world / 'index'}")
    assert (code, lines) == (4, ["changed vectors.npy"])
    assert f"1 file of the index {world / 'index'} is not what was written" in messages
    shutil.rmtree(tmp_path / "runs")
    (world / "index" / "products.parquet").unlink()
    code, lines, messages = command(tmp_path, f"index={world / 'index'}")
    assert (code, lines) == (4, ["missing products.parquet", "changed vectors.npy"])
    assert f"2 files of the index {world / 'index'} are not what was written" in messages
    (said,) = (
        json.loads(file.read_text())
        for file in tmp_path.glob("runs/verify/*/verify.json")
        if not (file.parent / "run.json").exists()
    )
    assert [one["file"] for one in said["damages"]] == ["products.parquet", "vectors.npy"]
    assert said["index"] == str(world / "index")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["index=nowhere"], "nowhere is not an index"),
        (["run=nowhere"], "nowhere is not a finished run (no run.json there): name the folder of"),
        (["index=a", "run=b"], "index=, run= and repair=true exclude each other"),
        (["run=b", "repair=true"], "only a store can be repaired"),
    ],
)
def test_it_refuses_what_it_cannot_check(tmp_path: Path, asked: list[str], said: str) -> None:
    code, lines, messages = command(tmp_path, *asked)
    assert (code, lines) == (2, [])
    assert said in messages
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


def test_the_module_has_its_old_name_too() -> None:
    from dedup import check
    from dedup.cli.check import main

    assert check.main is main
