"""Checkpoint files: whole or not there, and every changed byte is noticed."""

import hashlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dedup.encoders.archive import (
    ChecksumWriter,
    has_checksum,
    link_or_copy,
    remove_partial_files,
    write_with_checksum,
)
from dedup.encoders.checkpoint import describe, load_encoder, read
from dedup.encoders.cnn import Cnn
from dedup.errors import ArtifactError, ConfigError, CorruptError, StalledError
from dedup.training.checkpoints import BEST, LAST, PREVIOUS, Best, CheckpointFiles
from dedup.training.resume import checkpoint_to_resume
from tests.integration.test_crashes import each_crash

ENCODER = Cnn(embedding_dim=4, widths=(2,))


def content(number: int) -> dict[str, Any]:
    """A checkpoint as a run would save it, told from others by its number."""
    weights = {f"encoder.{n}": torch.full_like(v, number) if v.is_floating_point() else v
               for n, v in ENCODER.state_dict().items()}  # fmt: skip
    return {"number": number, "encoder": describe(ENCODER), "state_dict": weights,
            "optimizer_states": [{}]}  # fmt: skip


def save(folder: Path, number: int, previous: bool = True) -> None:
    options = {"previous": PREVIOUS} if previous else None
    CheckpointFiles().save_checkpoint(content(number), folder / LAST, options)


def numbers(folder: Path) -> dict[str, int]:
    """Which checkpoints are there."""
    return {file.name: read(file)["number"] for file in folder.glob("*.ckpt")}


class TestSeal:
    @pytest.mark.parametrize("mapped", [True, False])
    def test_what_is_saved_comes_back(self, tmp_path: Path, mapped: bool) -> None:
        save(tmp_path, 1)
        assert has_checksum(tmp_path / LAST)
        expected = content(1)["state_dict"]
        for found in (
            read(tmp_path / LAST, mapped=mapped)["state_dict"],
            torch.load(tmp_path / LAST, weights_only=True)["state_dict"],
        ):
            assert all(torch.equal(found[name], expected[name]) for name in expected)
        with zipfile.ZipFile(tmp_path / LAST) as archive:
            assert archive.testzip() is None

    @pytest.mark.parametrize("sizes", [[22], [1] * 60, [21, 1, 22, 23], [5, 100, 3], [1000, 0, 30]])
    def test_the_digest_is_that_of_all_bytes_before_it(
        self, tmp_path: Path, sizes: list[int]
    ) -> None:
        data = np.random.default_rng(0).bytes(sum(sizes) - 22) + b"PK\x05\x06" + bytes(18)
        parts = np.split(np.frombuffer(data, np.uint8), np.cumsum(sizes)[:-1])
        write_with_checksum(
            tmp_path / "x", lambda writer: [writer.write(p.tobytes()) for p in parts]
        )
        whole = (tmp_path / "x").read_bytes()
        assert whole.startswith(data[:-2])
        assert whole[-64:] == hashlib.sha256(whole[:-64]).hexdigest().encode()
        assert has_checksum(tmp_path / "x")

    def test_a_plain_archive_has_none(self, tmp_path: Path) -> None:
        torch.save(content(1), tmp_path / BEST)
        assert not has_checksum(tmp_path / BEST)
        assert read(tmp_path)["number"] == 1

    def test_what_is_no_archive_is_not_sealed(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="zip archive"):
            write_with_checksum(
                tmp_path / "x", lambda writer: writer.write(b"no archive at all" * 9)
            )
        assert not list(tmp_path.iterdir())

    def test_an_encoder_comes_from_a_sealed_checkpoint(self, tmp_path: Path) -> None:
        CheckpointFiles().save_checkpoint(content(3), tmp_path / "new" / BEST)
        weights = load_encoder(tmp_path / "new").state_dict()
        assert weights["embedding.bias"].eq(3).all()


def offsets(file: Path, n: int) -> list[int]:
    """Places in every region of a checkpoint: header, weights, paddings, directory, comment."""
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        starts = [info.header_offset for info in archive.infolist()]
        directory = archive.start_dir
    fixed = [0, 3, 30, *starts[1:4], directory, directory + 10, size - 93, size - 92, size - 74,
             size - 73, size - 72, size - 71, size - 65, size - 64, size - 1]  # fmt: skip
    drawn = np.random.default_rng(0).choice(size, n - len(fixed), replace=False)
    return [*fixed, *drawn.tolist()]


def test_wherever_it_is_damaged_the_save_before_it_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        save(tmp_path, number)
    last, previous = tmp_path / LAST, tmp_path / PREVIOUS
    whole = last.read_bytes()
    for place in offsets(last, 50):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for damaged in (bytes(flipped), whole[:place]):
            last.write_bytes(damaged)
            caplog.clear()
            with caplog.at_level(logging.WARNING, "dedup"):
                assert checkpoint_to_resume(str(tmp_path), tmp_path, ENCODER) == previous
            (record,) = caplog.records
            assert str(last) in record.getMessage()
            assert str(previous) in record.getMessage()
            with pytest.raises(CorruptError, match=r"last\.ckpt"):
                CheckpointFiles().load_checkpoint(last)
    last.write_bytes(whole)
    caplog.clear()
    assert checkpoint_to_resume(str(last), tmp_path, ENCODER) == last
    assert not caplog.records


class TestBothDamaged:
    def test_both_are_named(self, tmp_path: Path) -> None:
        for number in (1, 2):
            save(tmp_path, number)
        for name in (LAST, PREVIOUS):
            os.truncate(tmp_path / name, 1000)
        with pytest.raises(CorruptError, match=r"(?s)last\.ckpt.*previous\.ckpt") as caught:
            checkpoint_to_resume(str(tmp_path), tmp_path, ENCODER)
        assert caught.value.exit_code == 4

    def test_one_damaged_and_none_before_it(self, tmp_path: Path) -> None:
        save(tmp_path, 1)
        os.truncate(tmp_path / LAST, 1000)
        with pytest.raises(CorruptError, match=r"last\.ckpt"):
            checkpoint_to_resume(str(tmp_path / LAST), tmp_path, ENCODER)

    def test_only_the_one_before_is_left(self, tmp_path: Path) -> None:
        for number in (1, 2):
            save(tmp_path, number)
        (tmp_path / LAST).unlink()
        found = checkpoint_to_resume(str(tmp_path), tmp_path, ENCODER)
        assert found == tmp_path / PREVIOUS

    @pytest.mark.parametrize("name", ["", LAST, "nowhere", "nowhere/last.ckpt"])
    def test_there_is_none(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ArtifactError, match="no checkpoint at") as caught:
            checkpoint_to_resume(str(tmp_path / name), tmp_path, ENCODER)
        assert caught.value.exit_code == 2


class TestReplacing:
    def test_the_last_two_are_kept(self, tmp_path: Path) -> None:
        for number in (1, 2, 3):
            save(tmp_path, number)
        assert numbers(tmp_path) == {LAST: 3, PREVIOUS: 2}
        save(tmp_path, 4, previous=False)
        assert numbers(tmp_path) == {LAST: 4, PREVIOUS: 2}
        assert sorted(file.name for file in tmp_path.iterdir()) == [LAST, PREVIOUS]

    def test_a_writer_killed_at_any_change_leaves_whole_ones(self, tmp_path: Path) -> None:
        before = tmp_path / "before"
        before.mkdir()
        for number in (1, 2):
            save(before, number)
        seen = []
        for after in each_crash(before, tmp_path / "after", lambda f: save(f, 3), least=3):
            found = numbers(after)
            assert (found[LAST], found[PREVIOUS]) in ((2, 1), (2, 2), (3, 2))
            seen.append(found[LAST])
            assert checkpoint_to_resume(str(after), tmp_path, ENCODER) == after / LAST
            assert sorted(file.name for file in after.iterdir()) == [LAST, PREVIOUS]
        assert seen == sorted(seen)
        assert {2, 3} == set(seen)

    def test_a_name_for_what_has_it_already(self, tmp_path: Path) -> None:
        save(tmp_path, 1)
        link_or_copy(tmp_path / LAST, tmp_path / LAST)
        link_or_copy(tmp_path / LAST, tmp_path / BEST)
        link_or_copy(tmp_path / LAST, tmp_path / BEST)
        assert numbers(tmp_path) == {LAST: 1, BEST: 1}
        assert len(list(tmp_path.iterdir())) == 2

    def test_what_a_living_writer_writes_is_not_swept_up(self, tmp_path: Path) -> None:
        seen = []

        def write(writer: ChecksumWriter) -> None:
            seen.extend(tmp_path.iterdir())
            remove_partial_files(tmp_path, ".ckpt")
            torch.save(content(1), writer)

        write_with_checksum(tmp_path / LAST, write)
        assert len(seen) == 1
        assert numbers(tmp_path) == {LAST: 1}


@contextmanager
def room_for(n_bytes: int) -> Iterator[None]:
    """Let no file grow beyond a size."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class TestFullDisk:
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_the_old_ones_stay(self, tmp_path: Path, share: float) -> None:
        for number in (1, 2):
            save(tmp_path, number)
        size = (tmp_path / LAST).stat().st_size
        with room_for(int(share * size)), pytest.raises(StalledError, match=r"last\.ckpt") as found:
            save(tmp_path, 3)
        assert found.value.exit_code == 6
        assert "Free some space" in str(found.value)
        assert numbers(tmp_path) == {LAST: 2, PREVIOUS: 1}
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StalledError, match=r"file/last\.ckpt"):
            save(tmp_path / "file", 1)


def test_the_best_is_the_least_or_the_most() -> None:
    with pytest.raises(ConfigError, match=r"objective\.mode=least: expected min or max"):
        Best("run", "val/loss", "least")


INTERRUPTED = """
import sys, time
from dedup.runtime.signals import Interrupts
with Interrupts() as interrupts:
    print("here", flush=True)
    while interrupts.received is None:
        time.sleep(0.01)
    print("noted", flush=True)
    time.sleep(float(sys.argv[1]))
print("after", flush=True)
time.sleep(20)
"""


class TestInterrupts:
    @pytest.fixture
    def start(self) -> Iterator[Callable[[float], subprocess.Popen[str]]]:
        started: list[subprocess.Popen[str]] = []

        def start(seconds: float) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", INTERRUPTED, str(seconds)]
            started.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            )
            return started[-1]

        yield start
        for one in started:
            one.kill()
            one.communicate()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_second_ends_at_once(self, start: Any, number: signal.Signals) -> None:
        process = start(20)
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.stdout.readline() == "noted\n"
        process.send_signal(number)  # as some programs do: one wish
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(5) == 128 + number
        assert process.stderr.read() == "\nstopped at once: all files on disk are complete\n"

    def test_afterwards_a_signal_is_what_it_was(self, start: Any) -> None:
        process = start(0)
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "noted\n"
        assert process.stdout.readline() == "after\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM
