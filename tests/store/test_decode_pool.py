"""Images that kill, hang or starve the processes that read them, among images that do not."""

import ast
import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dedup.errors import ConfigError, DecodeError, DedupError, FetchError, ImageError
from dedup.schemas import IMAGE_SHAPE
from dedup.store.decode import READERS, decode
from dedup.store.decode_pool import Decoders, Reading, read
from tests.conftest import ROOT, draw, encoded
from tests.support.reads import hostile, tell

IMAGES = [encoded(draw(seed, (60, 80))) for seed in range(6)]
LIMIT = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    """Two children for the whole file, most of whose tests kill one."""
    with Decoders(workers=2, timeout=0.6, memory=2**27, max_bytes=LIMIT, read=hostile) as pool:
        yield pool


def equal(reading: Reading, data: bytes, reader: str = "pillow") -> bool:
    image = decode(data, reader)
    return (
        np.array_equal(reading.image.pixels, image.pixels)
        and reading.image.detail == image.detail
        and reading.sha256_bytes == hashlib.sha256(data).hexdigest()
        and reading.sha256_pixels == hashlib.sha256(image.pixels.tobytes()).hexdigest()
    )


def failure(decoders: Decoders, source: bytes | str) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decoders.submit(source).result(30)
    return caught.value


def test_children_read_as_the_parent_does(decoders: Decoders) -> None:
    futures = [decoders.submit(data) for data in IMAGES * 4]
    assert all(equal(f.result(30), d) for f, d in zip(futures, IMAGES * 4, strict=True))


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_works_in_a_child(reader: str) -> None:
    with Decoders(reader, workers=1) as pool:
        assert equal(pool.submit(IMAGES[0]).result(30), IMAGES[0], reader)


def test_a_reading_says_what_there_is_to_be_seen() -> None:
    flat = read(encoded(draw(0).resize((1, 1)).resize((30, 30)), "PNG"), "pillow", LIMIT)
    seen = read(IMAGES[0], "pillow", LIMIT)
    assert flat.contrast == 0
    assert seen.contrast == pytest.approx(seen.image.pixels.std(axis=(1, 2)).max())
    assert seen.image.pixels.shape == IMAGE_SHAPE


def test_files_are_read_by_the_child(decoders: Decoders, tmp_path: Path) -> None:
    (tmp_path / "good.jpg").write_bytes(IMAGES[0])
    (tmp_path / "large.jpg").write_bytes(bytes(LIMIT + 1))
    (tmp_path / "cut.jpg").write_bytes(IMAGES[0][:500])
    os.mkfifo(tmp_path / "pipe.jpg")
    assert equal(decoders.submit(str(tmp_path / "good.jpg")).result(30), IMAGES[0])
    found = {
        path: failure(decoders, str(tmp_path / path))
        for path in ("missing.jpg", "large.jpg", "pipe.jpg", "cut.jpg", "")
    }
    reasons = ["not_found", "too_large", "not_a_file", "truncated", "not_a_file"]
    assert [error.reason for error in found.values()] == reasons
    assert isinstance(found["missing.jpg"], FetchError)
    assert found["cut.jpg"].sha256_bytes == hashlib.sha256(IMAGES[0][:500]).hexdigest()
    assert found["missing.jpg"].sha256_bytes == ""


def test_bytes_that_are_no_image_cost_no_child(decoders: Decoders) -> None:
    error = failure(decoders, IMAGES[0][:-40])
    assert isinstance(error, DecodeError)
    assert (error.reason, bool(error.detail)) == ("truncated", True)
    assert error.sha256_bytes == hashlib.sha256(IMAGES[0][:-40]).hexdigest()
    assert failure(decoders, b"<html>").reason == "format"


FATES = {
    "abort": ("decoder_crash", "SIGABRT"),
    "segfault": ("decoder_crash", "SIGSEGV"),
    "exit": ("decoder_crash", "exit code 3"),
    "unforeseen": ("decoder_crash", "exit code 1: IndexError: list index out of range"),
    "exhaust": ("decoder_oom", "128 MiB"),
    "killed": ("decoder_oom", "killed"),
    "hang": ("decoder_timeout", "0.6 s"),
    "hang in C": ("decoder_timeout", "0.6 s"),
}


@pytest.mark.parametrize("fate", FATES)
def test_one_bad_image_costs_one_row(fate: str, decoders: Decoders) -> None:
    bad, (reason, detail) = fate.encode() + b":", FATES[fate]
    rows = [*IMAGES[:3], bad, *IMAGES[3:]]
    futures = [decoders.submit(data) for data in rows]
    wait(futures, 30)
    assert [f.exception() is None for f in futures] == [data is not bad for data in rows]
    error = futures[3].exception()
    assert isinstance(error, DecodeError)
    assert error.reason == reason
    assert detail in error.detail
    assert error.sha256_bytes == hashlib.sha256(bad).hexdigest()


def test_the_next_image_does_not_pay_for_a_late_death(decoders: Decoders) -> None:
    for _ in range(2):
        assert equal(decoders.submit(b"late:" + IMAGES[1]).result(30), IMAGES[1])
        rows = [b"slow:" + IMAGES[2]] * 2
        futures = [decoders.submit(data) for data in rows]
        assert all(equal(future.result(30), IMAGES[2]) for future in futures)


def test_a_child_that_was_killed_while_it_waited_is_replaced() -> None:
    with Decoders(workers=1, read=tell) as pool:
        first = explain_shortage(pool)["pid"]
        os.kill(first, signal.SIGTERM)
        assert explain_shortage(pool)["pid"] != first


def test_a_image_that_kills_once_is_read_the_second_time(
    decoders: Decoders, tmp_path: Path
) -> None:
    (tmp_path / "met.jpg").write_bytes(IMAGES[3])
    found = decoders.submit(b"once:" + os.fsencode(tmp_path / "met")).result(30)
    assert equal(found, IMAGES[3])


def explain_shortage(pool: Decoders) -> dict[str, Any]:
    facts: dict[str, Any] = ast.literal_eval(pool.submit(IMAGES[0]).result(30).sha256_bytes)
    return facts


@linux
def test_children_have_no_secrets_no_files_and_no_weight() -> None:
    with (ROOT / "pyproject.toml").open() as file, Decoders(workers=1, read=tell) as pool:
        os.set_inheritable(file.fileno(), True)
        found = explain_shortage(pool)
    assert {"HOME", "USER", "PYTEST_CURRENT_TEST"}.isdisjoint(found["environment"])
    assert found["heavy"] == []
    assert found["core"] == (0, 0)
    assert found["interrupt"]
    assert found["own_session"]
    assert found["open_files"] == 5  # three standard streams, the line, and the listing


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_closing_stops_at_once_and_leaves_nothing() -> None:
    with Decoders(workers=2, read=hostile) as pool:
        pool.submit(IMAGES[0]).result(30)
        futures = [pool.submit(b"hang:") for _ in range(8)]
        time.sleep(0.2)
        children = [child.process.pid for child in pool._children]
        start = time.monotonic()
    assert time.monotonic() - start < 20  # and not the minute that they hang
    assert not any(map(alive, children))  # gone and reaped
    assert all(future.done() for future in futures)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)


def test_children_can_be_started_before_there_is_work() -> None:
    with Decoders(workers=2, read=tell) as pool:
        pool.begin(7)
        deadline = time.monotonic() + 20
        while len(pool._children) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        begun = {child.process.pid for child in pool._children}
        assert explain_shortage(pool)["pid"] in begun
        assert {child.process.pid for child in pool._children} == begun
    assert not any(map(alive, begun))


def test_it_can_be_entered_again() -> None:
    pool = Decoders(workers=1)
    with pytest.raises(RuntimeError, match="before use"):
        pool.submit(b"")
    for _ in range(2):
        with pool:
            assert equal(pool.submit(IMAGES[0]).result(30), IMAGES[0])


def test_an_unknown_reader_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match=r"store\.reader=opencv"), Decoders("opencv"):
        pass


def unreachable(source: bytes | str, reader: str, max_bytes: int) -> Reading:
    raise AssertionError


def test_children_that_do_not_start_stop_the_run() -> None:
    unreachable.__module__ = "no_such_module"
    sys.modules["no_such_module"] = sys.modules[__name__]
    try:
        with (
            Decoders(workers=1, read=unreachable) as pool,
            pytest.raises(DedupError, match=r"did not start.*No module named 'no_such_module'"),
        ):
            pool.submit(IMAGES[0]).result(30)
    finally:
        del sys.modules["no_such_module"]


@linux
def test_children_end_with_a_parent_that_was_killed() -> None:
    program = (
        "import sys, time\n"
        "from dedup.store.decode_pool import Decoders\n"
        "from tests.support.reads import hostile\n"
        "with Decoders(workers=2, timeout=600, read=hostile) as pool:\n"
        "    futures = [pool.submit(b'hang in C:'), pool.submit(b'hang:')]\n"
        "    time.sleep(0.6)\n"
        "    print(*(child.process.pid for child in pool._children), flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=ROOT)
    with parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) == 2
    deadline = time.monotonic() + 60
    while any(map(alive, children)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_errors_survive_the_way_from_a_child() -> None:
    with pytest.raises(DecodeError) as caught:
        read(IMAGES[0][:500], "pillow", LIMIT)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is DecodeError
    assert str(copy) == str(caught.value)
    for name in ("reason", "detail", "sha256_bytes"):
        assert getattr(copy, name) == getattr(caught.value, name) != ""
